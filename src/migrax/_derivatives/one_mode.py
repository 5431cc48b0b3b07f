"""Derivatives of functions that JAX differentiates in one mode only, or only once.

A fit takes the gradient by reverse mode and the Hessian by forward mode over it. Some functions have no forward mode
(a `jax.custom_vjp`), some no reverse mode (`lax.while_loop`), and some have a gradient that cannot be differentiated
again (a callback to Python, a checkpointed loop, which is diffrax's default). `differentiable` gives each of them a JVP
rule based on the mode that works, so that the rest of the library can treat it as any other function. Where neither
mode gives second derivatives, these are differences of exact gradients.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Scalar

from .._parameters.space import Space
from .._solvers.flat import value_grad_hessian
from .._util.jaxprs import all_equations
from .._util.typing import PyTree
from .differences import gradient_differences
from .equations import warn_of_loops

# Beginnings of words in the names of primitives that may lack a mode of differentiation, or second derivatives (by the
# shape of an incomplete gamma function, by those of an incomplete beta function). All others have both.
_SUSPECTS = re.compile(r"custom_vjp|callback|while|ffi_call|\bigamma|incomplete_beta|random_gamma_grad")


def differentiable(
    fn: Callable, x: Float[Array, " n"], theta: PyTree, space: Space | None = None, orders: int = 2
) -> Callable:
    """`fn(x, theta)` with first and second derivatives (`orders=1`: first only) in either mode.

    **Arguments:**

    - `space`: its bounds are those that differences stay within; `None` for no bounds.

    **Raises:** `TypeError` for a function that has no gradient in either mode.
    """
    jaxpr, _, _ = eqx.filter_make_jaxpr(fn)(x, theta)
    equations = list(all_equations(jaxpr.jaxpr))
    warn_of_loops(jaxpr.jaxpr)
    if not any(_SUSPECTS.search(name) for name in {e.primitive.name for e in equations}):
        return fn
    infinite = jnp.full_like(x, jnp.inf)
    bounds = (-infinite, infinite) if space is None else _stop_gradients((space.lower, space.upper))
    candidates = [fn, _InOneMode(fn, "reverse"), _InOneMode(fn, "forward")]
    if orders == 2:
        candidates += [ByDifferences(fn, "reverse", bounds), ByDifferences(fn, "forward", bounds)]
    errors = []
    for candidate in candidates:
        try:
            eqx.filter_eval_shape(_all_derivatives, candidate, x, theta, orders)
        except Exception as error:  # JAX raises many types, by what cannot be differentiated
            errors.append(error)
        else:
            return candidate
    errors[0].add_note(
        "migrax: this function has a gradient neither by reverse nor by forward mode. If it calls something outside of "
        "JAX that knows its own gradient, write mx.External(value_and_gradient)"
    )
    raise errors[0]


def _all_derivatives(fn: Callable, x: Array, theta: PyTree, orders: int) -> PyTree:
    if orders == 2:
        return value_grad_hessian(lambda v: (fn(v, theta), None), x, "bwd")
    value, linear = jax.linearize(lambda v: fn(v, theta), x)
    gradient = jax.linear_transpose(linear, x)(jax.tree.map(jnp.ones_like, value))
    return gradient, jax.vmap(linear)(jnp.eye(x.size, dtype=x.dtype))


def is_twice_differentiable(fn: Callable) -> bool:
    """Whether what `differentiable` returned has products of its Hessian with vectors, each for about two gradients."""
    return not isinstance(fn, _InOneMode | ByDifferences)


class _InOneMode(eqx.Module):
    """A function of arrays with all derivatives taken in one mode."""

    fn: Callable
    mode: str = eqx.field(static=True)

    def __call__(self, *inputs: Any) -> PyTree:
        return _in_one_mode(self.fn, self.mode, inputs)


@eqx.filter_custom_jvp
def _in_one_mode(fn: Callable, mode: str, inputs: tuple[Any, ...]) -> PyTree:
    return fn(*inputs)


@_in_one_mode.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[PyTree, PyTree]:
    fn, mode, inputs = primals
    t_fn, _, t_inputs = tangents
    perturbed, constant = _split_by_tangent((fn, inputs), (t_fn, t_inputs))
    # In one mode again, so that the result can be differentiated once more.
    out, jacobian = _in_one_mode(_WithJacobian(mode), mode, (perturbed, constant))
    flat, unravel = ravel_pytree(out)
    parts = jax.tree.map(lambda j, t: jnp.reshape(j, (flat.size, -1)) @ jnp.ravel(t), jacobian, (t_fn, t_inputs))
    return out, unravel(functools.reduce(jnp.add, jax.tree.leaves(parts)).astype(flat.dtype))


class _WithJacobian(eqx.Module):
    """The value of a function and its Jacobian, an array `(size of the value, *shape)` for each perturbed array."""

    mode: str = eqx.field(static=True)

    def __call__(self, perturbed: PyTree, constant: PyTree) -> tuple[PyTree, PyTree]:
        def fn(perturbed: PyTree) -> PyTree:
            fn, inputs = eqx.combine(perturbed, constant)
            return fn(*inputs)

        return by_forward(fn, perturbed) if self.mode == "forward" else by_reverse(fn, perturbed)


def jacobian(fn: Callable[[Array], Array], x: Float[Array, " n"]) -> Array:
    """The Jacobian of a function of one vector, by forward mode where it has one, shape `(*shape of the value, n)`."""
    try:
        return jax.jacfwd(fn)(x)
    except (TypeError, ValueError, NotImplementedError) as error:
        try:
            return jax.jacrev(fn)(x)
        except (TypeError, ValueError, NotImplementedError):
            raise error from None


def hessian(fn: Callable[[Array], Scalar], x: Float[Array, " n"]) -> Float[Array, "n n"]:
    """The Hessian of a function of one vector, in either mode or by differences of gradients."""
    with_derivatives = differentiable(lambda x, _: fn(x), x, None)
    return value_grad_hessian(lambda x: (with_derivatives(x, None), None), x, "bwd")[2]


def by_reverse(fn: Callable, perturbed: PyTree) -> tuple[PyTree, PyTree]:
    """Value and Jacobian of a function of arrays by reverse mode."""
    out, pull = jax.vjp(fn, perturbed)
    flat, unravel = ravel_pytree(out)
    if flat.size == 1:
        return out, jax.tree.map(lambda g: g[None], *pull(unravel(jnp.ones_like(flat))))
    (jacobian,) = jax.vmap(lambda row: pull(unravel(row)))(jnp.eye(flat.size, dtype=flat.dtype))
    return out, jacobian


def by_forward(fn: Callable, perturbed: PyTree) -> tuple[PyTree, PyTree]:
    """Value and Jacobian of a function of arrays by forward mode."""
    point, unravel = ravel_pytree(perturbed)

    def push(direction: Array) -> tuple[PyTree, PyTree]:
        return jax.jvp(fn, (perturbed,), (unravel(direction),))

    out, columns = jax.vmap(push, out_axes=(None, -1))(jnp.eye(point.size, dtype=point.dtype))
    rows = jnp.concatenate([jnp.reshape(c, (-1, point.size)) for c in jax.tree.leaves(columns)])
    return out, jax.vmap(unravel)(rows)


class ByDifferences(eqx.Module):
    """A scalar function of `(x, theta)` with exact first derivatives and differences of these as second derivatives.

    Its third derivatives are NaN.
    """

    fn: Callable
    mode: str = eqx.field(static=True)
    bounds: tuple[Float[Array, " n"], Float[Array, " n"]]

    def __call__(self, x: Float[Array, " n"], theta: PyTree) -> Scalar:
        return _first_order(self.fn, self.mode, self.bounds, (x, theta))


def accuracy_of(fn: Callable, x: Float[Array, " n"], theta: PyTree, root: Float[Array, "n n"] | None) -> Scalar | None:
    """An estimate of the relative error of standard errors, from two orders of differences; `None` if the second
    derivatives of `fn` are exact.

    **Arguments:**

    - `root`: R with R Rᵀ the covariance; if `None`, the estimate is NaN.
    """
    if not isinstance(fn, ByDifferences):
        return None
    if root is None:
        return jnp.full((), jnp.nan, x.dtype)
    tree = _stop_gradients((fn.fn, (x, theta)))
    position = _position_of_x(tree)
    which = tuple(i == position for i in range(len(jax.tree.leaves(tree))))
    _, deviations = _second(fn.mode, which, fn.bounds, tree)
    (rows,) = jax.tree.leaves(deviations)
    root = jax.lax.stop_gradient(root)
    return 0.5 * jnp.max(jnp.abs(root.T @ (0.5 * (rows + rows.T)) @ root))


@eqx.filter_custom_jvp
def _first_order(fn: Callable, mode: str, bounds: tuple[Array, Array], inputs: tuple[Any, Any]) -> Scalar:
    return fn(*inputs)


@_first_order.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Scalar, Scalar]:
    fn, mode, bounds, inputs = primals
    t_fn, _, _, t_inputs = tangents
    which = _perturbed((t_fn, t_inputs), (fn, inputs))
    value, gradient = _gradient(mode, which, bounds, (fn, inputs))
    return value, _dot(gradient, (t_fn, t_inputs)).astype(value.dtype)


@eqx.filter_custom_jvp
def _gradient(mode: str, which: tuple[bool, ...], bounds: tuple[Array, Array], tree: PyTree) -> tuple[Scalar, PyTree]:
    """The value and the gradient with respect to the arrays of `tree = (fn, (x, theta))` that are marked in `which`."""
    perturbed, constant = eqx.partition(tree, jax.tree.unflatten(jax.tree.structure(tree), which))

    def fn(perturbed: PyTree) -> Scalar:
        fn, inputs = eqx.combine(perturbed, constant)
        return fn(*inputs)

    value, jacobian = (by_forward if mode == "forward" else by_reverse)(fn, perturbed)
    return value, jax.tree.map(lambda j: j[0], jacobian)


@_gradient.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    mode, which, bounds, tree = primals
    *_, t_tree = tangents
    has_tangent = _perturbed(t_tree, tree)
    leaves, structure = jax.tree.flatten(tree)
    x = _position_of_x(tree)
    if any(a and b for i, (a, b) in enumerate(zip(which, has_tangent, strict=True)) if i != x):
        raise TypeError(
            "the second derivatives of this likelihood are differences of gradients along its parameters: it has none "
            "with respect to data or constants twice"
        )
    needed = tuple(a or b or i == x for i, (a, b) in enumerate(zip(which, has_tangent, strict=True)))
    value, gradient = _gradient(mode, needed, bounds, tree)
    second, _ = _second(mode, needed, bounds, tree)  # for each array, one row per number of x
    rows, slopes, t = (structure.flatten_up_to(each) for each in (second, gradient, t_tree))
    t_value = functools.reduce(jnp.add, [jnp.sum(slopes[i] * t[i]) for i, on in enumerate(has_tangent) if on])
    out, t_out = [], []
    for i, on in enumerate(which):
        if not on:
            out.append(None)
            t_out.append(None)
            continue
        out.append(slopes[i])
        if i == x:
            parts = [rows[k].reshape(leaves[x].size, -1) @ jnp.ravel(t[k]) for k, b in enumerate(has_tangent) if b]
            t_out.append(functools.reduce(jnp.add, parts).astype(slopes[i].dtype))
        elif has_tangent[x]:
            t_out.append(jnp.tensordot(t[x], rows[i], 1).astype(slopes[i].dtype))
        else:
            t_out.append(jnp.zeros_like(slopes[i]))
    pack = lambda many: jax.tree.unflatten(structure, many)  # noqa: E731
    return (value, pack(out)), (t_value.astype(value.dtype), pack(t_out))


@eqx.filter_custom_jvp
def _second(mode: str, which: tuple[bool, ...], bounds: tuple[Array, Array], tree: PyTree) -> tuple[PyTree, PyTree]:
    """Differences of the gradient along each number of x, and the deviation of those of lower order from them."""
    leaves, structure = jax.tree.flatten(tree)
    x = _position_of_x(tree)

    def gradient(v: Array) -> tuple[PyTree, Array]:
        shifted_tree = jax.tree.unflatten(structure, [v if i == x else leaf for i, leaf in enumerate(leaves)])
        _, gradients = _gradient(mode, which, bounds, shifted_tree)
        return gradients, structure.flatten_up_to(gradients)[x]

    return gradient_differences(gradient, leaves[x], *bounds)


@_second.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    out = _second(*primals)
    return out, jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), out)


def _stop_gradients(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: jax.lax.stop_gradient(a) if eqx.is_array(a) else a, tree)


def _position_of_x(tree: PyTree) -> int:
    """The position of x among the leaves of `(fn, (x, theta))`."""
    return len(jax.tree.leaves(tree[0]))


def _perturbed(tangents: PyTree, tree: PyTree) -> tuple[bool, ...]:
    """Whether each leaf of the tree has a tangent."""
    return tuple(t is not None for t in jax.tree.structure(tree).flatten_up_to(tangents))


def _split_by_tangent(tree: PyTree, tangents: PyTree) -> tuple[PyTree, PyTree]:
    """The tree split into leaves with and without a tangent."""
    return eqx.partition(tree, jax.tree.unflatten(jax.tree.structure(tree), _perturbed(tangents, tree)))


def _dot(a: PyTree, b: PyTree) -> Scalar:
    return functools.reduce(jnp.add, jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)))
