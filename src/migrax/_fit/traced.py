"""A likelihood with its derivatives, traced once for all direct calls with inputs of these shapes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Scalar

from .._derivatives.one_mode import ByDifferences, differentiable, is_twice_differentiable
from .._host.xp import in_program, on_host
from .._likelihoods.base import AbstractLikelihood, Function
from .._parameters.space import Space, resolve_at
from .._solvers.flat import value_grad_hessian
from .._util.jit import kept
from .._util.pieces import packed, packing_for
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .evaluated import Traced
from .objective import Theta, start_and_space, varying_part


def inputs_of(nll: AbstractLikelihood, params: PyTree, data: PyTree, up: Scalar) -> PyTree:
    """All inputs of the objective but the free parameters."""
    return Theta(eqx.filter(nll, eqx.is_array), params, data, up)


def as_numpy(tree: PyTree) -> PyTree:
    """The tree with its arrays as those of NumPy."""
    return jax.tree.map(lambda a: np.asarray(a) if eqx.is_array(a) else a, tree)


@kept
def traced(nll: AbstractLikelihood, params: PyTree, data: PyTree, up: Scalar, with_residuals: bool) -> Traced:
    """The likelihood with its derivatives, traced once.

    **Raises:** as `objective`.
    """
    with on_host():
        x, space = start_and_space(nll, as_numpy(params))
    with in_program():
        theta = inputs_of(nll, params, data, up)
        dynamic, static = eqx.partition(theta, eqx.is_array)
        leaves, treedef = jax.tree.flatten(dynamic)

        def whole(leaves: tuple[Any, ...]) -> Theta:
            theta = eqx.combine(jax.tree.unflatten(treedef, leaves), static)
            return theta._replace(up=theta.up.astype(x.dtype))

        value = jax.make_jaxpr(_value_of(nll, space.names, whole))(x, *leaves)
        nothing = Traced()
        if not is_concrete(*value.consts) or value.effects:
            return nothing
        jaxprs = [value, jax.make_jaxpr(_about_data(nll, whole))(x, *leaves)]
        if with_residuals:
            jaxprs.append(jax.make_jaxpr(_residuals_of(nll, whole))(x, *leaves))
        if (packing := packing_for(jaxprs, leaves)) is not None:
            jaxprs, leaves = [packed(jaxpr, packing) for jaxpr in jaxprs], packing(leaves)
        evaluate, about_data = map(jaxpr_as_fun, jaxprs[:2])
        fn = differentiable(lambda x, leaves: evaluate(x, *leaves)[0], x, leaves, space)
        if isinstance(fn, ByDifferences):
            return nothing

        def expansion(x: Array, *leaves: Array) -> list[Array]:
            out = list(value_grad_hessian(lambda v: (fn(v, leaves), None), x, "bwd")[:3])
            return out + about_data(x, *leaves)

        closed = jax.make_jaxpr(expansion)(x, *leaves)
        jacobian = _jacobian(jaxprs[2], x, leaves, space) if with_residuals else None
        gradient = lambda x, leaves: jax.grad(fn)(x, leaves)  # noqa: E731
    return Traced(closed, gradient, jacobian, nll.constant is not None, is_twice_differentiable(fn), packing)


_Whole = Callable[[tuple[Any, ...]], Theta]


def _value_of(nll: AbstractLikelihood, names: tuple[str, ...], whole: _Whole) -> Callable[..., Scalar]:
    function = varying_part(nll, names)

    def value(x: Float[Array, " n"], *leaves: Array) -> Scalar:
        return function(x, whole(leaves))

    if isinstance(nll, Function):
        value.__dict__["__wrapped__"] = nll.function  # JAX names it in errors
    return value


def _about_data(nll: Any, whole: _Whole) -> Callable[..., list[Array]]:
    """What depends on the data alone: the constant, if there is one, and the number of data."""
    static = eqx.filter(nll, eqx.is_array, inverse=True)

    def about_data(x: Float[Array, " n"], *leaves: Array) -> list[Array]:
        theta = whole(leaves)
        likelihood: Any = eqx.combine(theta.nll, static)
        out = [] if nll.constant is None else [jax.numpy.asarray(likelihood.constant(theta.data), x.dtype)]
        return out if nll.ndata is None else [*out, jax.numpy.asarray(likelihood.ndata(theta.data))]

    return about_data


def _residuals_of(nll: Any, whole: _Whole) -> Callable[..., Array]:
    static = eqx.filter(nll, eqx.is_array, inverse=True)

    def residuals(x: Float[Array, " n"], *leaves: Array) -> Array:
        theta = whole(leaves)
        likelihood: Any = eqx.combine(theta.nll, static)
        r = likelihood.residuals(resolve_at(theta.params, x), theta.data) / jax.numpy.sqrt(2 * theta.up)
        return ravel_pytree(r)[0].astype(x.dtype)

    return residuals


def _jacobian(residuals: Any, x: Float[Array, " n"], leaves: list[Any], space: Space) -> Any:
    """The jaxpr of residuals and their Jacobian."""
    evaluate = jaxpr_as_fun(residuals)
    fn = differentiable(lambda x, leaves: evaluate(x, *leaves)[0], x, leaves, space, orders=1)

    def jacobian(x: Array, *leaves: Array) -> tuple[Array, Array]:
        values, linear = jax.linearize(lambda x: fn(x, leaves), x)
        return values, jax.vmap(linear, out_axes=1)(jax.numpy.eye(x.size, dtype=x.dtype))

    return jax.make_jaxpr(jacobian)(x, *leaves)
