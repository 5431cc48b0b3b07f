"""The objective of a direct call, evaluated by NumPy, or by programs of its own where that takes NumPy too long."""

import threading
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Scalar

from .._derivatives.one_mode import ByDifferences, differentiable
from .._host.plan import Plan
from .._host.xp import in_program
from .._likelihoods.base import AbstractLikelihood
from .._parameters.space import resolve_at
from .._solvers.flat import Differentiated, WithJacobian, value_grad_hessian
from .._util.jit import jit_quick, kept
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .objective import Theta, start_and_space, varying_part

# A fit evaluates an expansion a few times and the gradient some tens of times. NumPy does it if that takes less than a
# program takes to compile.
_EXPANSIONS, _GRADIENTS, _LONGEST = 3, 40, 0.5
# Arrays up to this size are compared number by number, to see whether they are those of the last call.
_SMALL = 1000

_NUMBERS = 2  # value and gradient; the Hessian and what depends on the data alone come after them


class Objective(Differentiated):
    """The objective at certain data, and what depends on the data alone: `constant`, which it leaves out, and the
    number of data, `ndata`; `None` where the likelihood has none."""

    constant: Any
    ndata: Any

    def __init__(self, gradient: Callable[[Any], Any], expansion: Callable[[Any], Any], has_constant: bool):
        self._gradient, self._expansion, self._has_constant = gradient, expansion, has_constant
        self.constant = self.ndata = None

    def value_and_gradient(self, x: Any) -> tuple[Any, Any]:
        value, gradient = self._gradient(x)
        return np.asarray(value)[()], np.asarray(gradient)

    def expansion(self, x: Any) -> tuple[Any, Any, Any]:
        value, gradient, hessian, *rest = (np.asarray(out) for out in self._expansion(x))
        if rest and self._has_constant:
            self.constant = rest.pop(0)[()]
        if rest:
            self.ndata = rest[0][()]
        return value[()], gradient, hessian


class Residuals(WithJacobian):
    """The residuals at certain data."""

    def __init__(self, run: Callable[[Any], Any]):
        self._run = run

    def values_and_jacobian(self, x: Any) -> tuple[Any, Any]:
        values, jacobian = self._run(x)
        return np.asarray(values), np.asarray(jacobian)


class Traced:
    """The jaxprs of a likelihood, with derivatives, for inputs of certain shapes."""

    def __init__(self, objective: Any, residuals: Any, has_constant: bool):
        self._closed, self._residuals, self._has_constant = objective, residuals, has_constant
        self._lock = threading.Lock()
        self._last: tuple[Any, ...] | None = None
        self._programs: Any = None

    @property
    def is_usable(self) -> bool:
        return self._closed is not None

    def at(self, inputs: PyTree) -> tuple[Objective, Residuals | None] | None:
        """Returns the functions at the values of the inputs; `None` where they have to be part of a program."""
        leaves = _arrays(inputs)
        with self._lock:
            last = self._last
        if last is not None and all(map(_is_same, last[0], leaves)):
            return last[1]
        functions = self._functions(leaves)
        with self._lock:
            self._last = (leaves, functions)
        return functions

    def _functions(self, leaves: list[Any]) -> tuple[Objective, Residuals | None] | None:
        known = {i + 1: np.asarray(leaf) for i, leaf in enumerate(leaves)}
        plans = [Plan(closed, known) for closed in (self._closed, self._residuals) if closed is not None]
        if any(plan.has_effects or plan.unknown for plan in plans):
            return None
        gradient = plans[0].only(range(_NUMBERS))
        cost = _EXPANSIONS * plans[0].cost + _GRADIENTS * (gradient if len(plans) == 1 else plans[1]).cost
        if cost < _LONGEST:
            runs = [gradient, *plans]
        else:
            if self._programs is None:
                self._programs = _programs(self._closed, self._residuals)
            runs = [lambda x, run=run: run(x, *leaves) for run in self._programs]
        return Objective(runs[0], runs[1], self._has_constant), Residuals(runs[2]) if len(runs) > 2 else None


def _programs(closed: Any, residuals: Any) -> list[Callable[..., Any]]:
    """The gradient, the expansion and the residuals as programs."""
    expansion = jaxpr_as_fun(closed)
    fns: list[Any] = [lambda *inputs: expansion(*inputs)[:_NUMBERS], expansion]
    if residuals is not None:
        fns.append(jaxpr_as_fun(residuals))
    return [jit_quick(fn) for fn in fns]


def _is_same(a: Any, b: Any) -> bool:
    return a is b or (a.size <= _SMALL and np.array_equal(np.asarray(a), np.asarray(b)))


def inputs_of(nll: AbstractLikelihood, params: PyTree, data: PyTree, up: Scalar) -> PyTree:
    """All inputs of the objective but the free parameters."""
    return Theta(eqx.filter(nll, eqx.is_array), params, data, up)


def _arrays(inputs: PyTree) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(inputs) if eqx.is_array(leaf)]


@kept
def traced(nll: AbstractLikelihood, params: PyTree, data: PyTree, up: Scalar, with_residuals: bool) -> Traced:
    """The likelihood with its derivatives, traced once.

    **Raises:** as `objective`.
    """
    with in_program():
        x, space = start_and_space(nll, params)
        theta = inputs_of(nll, params, data, up.astype(x.dtype))
        dynamic, static = eqx.partition(theta, eqx.is_array)
        leaves, treedef = jax.tree.flatten(dynamic)
        function = varying_part(nll, space.names)

        def whole(leaves: tuple[Any, ...] | list[Any]) -> Theta:
            return eqx.combine(jax.tree.unflatten(treedef, leaves), static)

        plain = jax.make_jaxpr(lambda x, *leaves: function(x, whole(leaves)))(x, *leaves)
        nothing = Traced(None, None, False)
        if not is_concrete(*plain.consts) or plain.effects:
            return nothing
        evaluate = jaxpr_as_fun(plain)
        fn = differentiable(lambda x, leaves: evaluate(x, *leaves)[0], x, leaves, space)
        if isinstance(fn, ByDifferences):
            return nothing
        has_constant = nll.constant is not None

        def expansion(x: Array, *leaves: Array) -> list[Array]:
            out = list(value_grad_hessian(lambda v: (fn(v, leaves), None), x, "bwd")[:3])
            theta = whole(leaves)
            likelihood: Any = eqx.combine(theta.nll, eqx.filter(nll, eqx.is_array, inverse=True))
            if has_constant:
                out.append(jax.numpy.asarray(likelihood.constant(theta.data), x.dtype))
            if nll.ndata is not None:
                out.append(jax.numpy.asarray(likelihood.ndata(theta.data)))
            return out

        closed = jax.make_jaxpr(expansion)(x, *leaves)
        jacobian = jax.make_jaxpr(_jacobian_fn(nll, whole))(x, *leaves) if with_residuals else None
    return Traced(closed, jacobian, has_constant)


def _jacobian_fn(nll: Any, whole: Callable[[Any], Theta]) -> Callable[..., tuple[Array, Array]]:
    static = eqx.filter(nll, eqx.is_array, inverse=True)

    def jacobian(x: Float[Array, " n"], *leaves: Array) -> tuple[Array, Array]:
        theta = whole(leaves)

        def residuals(x: Array) -> Array:
            likelihood: Any = eqx.combine(theta.nll, static)
            r = likelihood.residuals(resolve_at(theta.params, x), theta.data) / jax.numpy.sqrt(2 * theta.up)
            return ravel_pytree(r)[0].astype(x.dtype)

        values, linear = jax.linearize(residuals, x)
        return values, jax.vmap(linear, out_axes=1)(jax.numpy.eye(x.size, dtype=x.dtype))

    return jacobian
