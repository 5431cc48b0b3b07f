"""Derivatives of functions that JAX differentiates in one mode only, or only once.

A fit takes the gradient by reverse mode and the Hessian by forward mode over it. Some functions have no forward mode
(a `jax.custom_vjp`), some no reverse mode (`lax.while_loop`), and some have a gradient that cannot be differentiated
again (a callback to Python, a checkpointed loop, which is diffrax's default). `differentiable` gives each of them a JVP
rule made of the mode that works, so that all that follows sees an ordinary function. Where no mode gives second
derivatives, they are differences of exact gradients.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Scalar

from .._parameters.space import Space
from .._solvers.flat import value_grad_hessian
from .._util.typing import PyTree
from .differences import gradient_differences
from .equations import all_equations, warn_of_loops

# Primitives whose derivatives may lack a mode. Others have both.
_SUSPECTS = ("custom_vjp", "callback", "while", "ffi_call")


def differentiable(
    fn: Callable, x: Float[Array, " n"], theta: PyTree, space: Space | None = None, orders: int = 2
) -> Callable:
    """`fn(x, theta)` with first and second derivatives (`orders=1`: first) in whatever mode they are asked for.

    **Arguments:**

    - `space`: with the bounds that differences stay within; `None` for none.

    **Raises:** `TypeError` for a function that has no gradient in either mode.
    """
    jaxpr, _, _ = eqx.filter_make_jaxpr(fn)(x, theta)
    equations = list(all_equations(jaxpr.jaxpr))
    warn_of_loops(equations)
    if not any(word in name for name in {e.primitive.name for e in equations} for word in _SUSPECTS):
        return fn
    infinite = jnp.full_like(x, jnp.inf)
    bounds = (-infinite, infinite) if space is None else _constant((space.lower, space.upper))
    ways = [fn, _InOneMode(fn, "reverse"), _InOneMode(fn, "forward")]
    if orders == 2:
        ways += [ByDifferences(fn, "reverse", bounds), ByDifferences(fn, "forward", bounds)]
    errors = []
    for way in ways:
        try:
            eqx.filter_eval_shape(_all_derivatives, way, x, theta, orders)
        except Exception as error:  # JAX has many, one for each kind of what cannot be differentiated
            errors.append(error)
        else:
            return way
    errors[0].add_note(
        "migrax: this function has a gradient neither by reverse nor by forward mode. If it calls something outside of "
        "JAX that knows its own gradient, write mx.External(value_and_gradient)"
    )
    raise errors[0]


def _all_derivatives(fn: Callable, x: Array, theta: PyTree, orders: int) -> PyTree:
    if orders == 2:
        return value_grad_hessian(lambda v: (fn(v, theta), None), x, "bwd")
    out, linear = jax.linearize(lambda v: fn(v, theta), x)
    pulled = jax.linear_transpose(linear, x)(jax.tree.map(jnp.ones_like, out))
    return pulled, jax.vmap(linear)(jnp.eye(x.size, dtype=x.dtype))


class _InOneMode(eqx.Module):
    """A function of arrays, all derivatives of which are taken in one mode."""

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
    moving, still = _split((fn, inputs), (t_fn, t_inputs))
    # in one mode again, so that it can be differentiated once more
    out, jacobian = _in_one_mode(_WithJacobian(mode), mode, (moving, still))
    flat, unravel = ravel_pytree(out)
    parts = jax.tree.map(lambda j, t: jnp.reshape(j, (flat.size, -1)) @ jnp.ravel(t), jacobian, (t_fn, t_inputs))
    return out, unravel(functools.reduce(jnp.add, jax.tree.leaves(parts)).astype(flat.dtype))


class _WithJacobian(eqx.Module):
    """The value of a function with its Jacobian, an array `(size of the value, *shape)` for each array that moves."""

    mode: str = eqx.field(static=True)

    def __call__(self, moving: PyTree, still: PyTree) -> tuple[PyTree, PyTree]:
        def fn(moving: PyTree) -> PyTree:
            fn, inputs = eqx.combine(moving, still)
            return fn(*inputs)

        return by_forward(fn, moving) if self.mode == "forward" else by_reverse(fn, moving)


def jacobian(fn: Callable[[Array], Array], x: Float[Array, " n"]) -> Array:
    """Of a function of one vector, by forward mode where it has one, shape `(*shape of the value, n)`."""
    try:
        return jax.jacfwd(fn)(x)
    except (TypeError, ValueError, NotImplementedError) as error:
        try:
            return jax.jacrev(fn)(x)
        except (TypeError, ValueError, NotImplementedError):
            raise error from None


def hessian(fn: Callable[[Array], Scalar], x: Float[Array, " n"]) -> Float[Array, "n n"]:
    """Of a function of one vector, in whatever way it can be had."""
    both = differentiable(lambda x, _: fn(x), x, None)
    return value_grad_hessian(lambda x: (both(x, None), None), x, "bwd")[2]


def by_reverse(fn: Callable, moving: PyTree) -> tuple[PyTree, PyTree]:
    """Value and Jacobian of a function of arrays by reverse mode."""
    out, pull = jax.vjp(fn, moving)
    flat, unravel = ravel_pytree(out)
    if flat.size == 1:
        return out, jax.tree.map(lambda g: g[None], *pull(unravel(jnp.ones_like(flat))))
    (jacobian,) = jax.vmap(lambda row: pull(unravel(row)))(jnp.eye(flat.size, dtype=flat.dtype))
    return out, jacobian


def by_forward(fn: Callable, moving: PyTree) -> tuple[PyTree, PyTree]:
    """Value and Jacobian of a function of arrays by forward mode."""
    point, unravel = ravel_pytree(moving)

    def push(direction: Array) -> tuple[PyTree, PyTree]:
        return jax.jvp(fn, (moving,), (unravel(direction),))

    out, columns = jax.vmap(push, out_axes=(None, -1))(jnp.eye(point.size, dtype=point.dtype))
    rows = jnp.concatenate([jnp.reshape(c, (-1, point.size)) for c in jax.tree.leaves(columns)])
    return out, jax.vmap(unravel)(rows)


class ByDifferences(eqx.Module):
    """A scalar function of `(x, theta)` whose first derivatives are exact and whose second are differences of these.

    It has no third derivatives: they are NaN.
    """

    fn: Callable
    mode: str = eqx.field(static=True)
    bounds: tuple[Float[Array, " n"], Float[Array, " n"]]

    def __call__(self, x: Float[Array, " n"], theta: PyTree) -> Scalar:
        return _once(self.fn, self.mode, self.bounds, (x, theta))


def accuracy_of(fn: Callable, x: Float[Array, " n"], theta: PyTree, root: Float[Array, "n n"] | None) -> Scalar | None:
    """An estimate of the relative error of standard errors, from two orders of differences; `None` where the second
    derivatives of `fn` are exact.

    **Arguments:**

    - `root`: R with R Rᵀ the covariance; `None` for NaN.
    """
    if not isinstance(fn, ByDifferences):
        return None
    if root is None:
        return jnp.full((), jnp.nan, x.dtype)
    tree = _constant((fn.fn, (x, theta)))
    place = _place_of_x(tree)
    which = tuple(i == place for i in range(len(jax.tree.leaves(tree))))
    _, off = _second(fn.mode, which, fn.bounds, tree)
    (rows,) = jax.tree.leaves(off)
    root = jax.lax.stop_gradient(root)
    return 0.5 * jnp.max(jnp.abs(root.T @ (0.5 * (rows + rows.T)) @ root))


@eqx.filter_custom_jvp
def _once(fn: Callable, mode: str, bounds: tuple[Array, Array], inputs: tuple[Any, Any]) -> Scalar:
    return fn(*inputs)


@_once.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Scalar, Scalar]:
    fn, mode, bounds, inputs = primals
    t_fn, _, _, t_inputs = tangents
    which = _perturbed((t_fn, t_inputs), (fn, inputs))
    value, gradient = _gradient(mode, which, bounds, (fn, inputs))
    return value, _dot(gradient, (t_fn, t_inputs)).astype(value.dtype)


@eqx.filter_custom_jvp
def _gradient(mode: str, which: tuple[bool, ...], bounds: tuple[Array, Array], tree: PyTree) -> tuple[Scalar, PyTree]:
    """The value, and the gradient with respect to those arrays of `tree = (fn, (x, theta))` that are chosen."""
    moving, still = eqx.partition(tree, jax.tree.unflatten(jax.tree.structure(tree), which))

    def fn(moving: PyTree) -> Scalar:
        fn, inputs = eqx.combine(moving, still)
        return fn(*inputs)

    value, jacobian = (by_forward if mode == "forward" else by_reverse)(fn, moving)
    return value, jax.tree.map(lambda j: j[0], jacobian)


@_gradient.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    mode, which, bounds, tree = primals
    *_, t_tree = tangents
    also = _perturbed(t_tree, tree)
    leaves, structure = jax.tree.flatten(tree)
    x = _place_of_x(tree)
    if any(a and b for i, (a, b) in enumerate(zip(which, also, strict=True)) if i != x):
        raise TypeError(
            "the second derivatives of this likelihood are differences of gradients along its parameters: it has none "
            "with respect to data or constants twice"
        )
    every = tuple(a or b or i == x for i, (a, b) in enumerate(zip(which, also, strict=True)))
    value, gradient = _gradient(mode, every, bounds, tree)
    second, _ = _second(mode, every, bounds, tree)  # of each array, one row for each number of x
    rows, slopes, t = (structure.flatten_up_to(each) for each in (second, gradient, t_tree))
    t_value = functools.reduce(jnp.add, [jnp.sum(slopes[i] * t[i]) for i, on in enumerate(also) if on])
    out, t_out = [], []
    for i, on in enumerate(which):
        if not on:
            out.append(None)
            t_out.append(None)
            continue
        out.append(slopes[i])
        if i == x:
            parts = [rows[k].reshape(leaves[x].size, -1) @ jnp.ravel(t[k]) for k, b in enumerate(also) if b]
            t_out.append(functools.reduce(jnp.add, parts).astype(slopes[i].dtype))
        elif also[x]:
            t_out.append(jnp.tensordot(t[x], rows[i], 1).astype(slopes[i].dtype))
        else:
            t_out.append(jnp.zeros_like(slopes[i]))
    pack = lambda many: jax.tree.unflatten(structure, many)  # noqa: E731
    return (value, pack(out)), (t_value.astype(value.dtype), pack(t_out))


@eqx.filter_custom_jvp
def _second(mode: str, which: tuple[bool, ...], bounds: tuple[Array, Array], tree: PyTree) -> tuple[PyTree, PyTree]:
    """Differences of the gradient along each number of x, and how far those of a lower order are off."""
    leaves, structure = jax.tree.flatten(tree)
    x = _place_of_x(tree)

    def gradient(v: Array) -> tuple[PyTree, Array]:
        moved = jax.tree.unflatten(structure, [v if i == x else leaf for i, leaf in enumerate(leaves)])
        _, found = _gradient(mode, which, bounds, moved)
        return found, structure.flatten_up_to(found)[x]

    return gradient_differences(gradient, leaves[x], *bounds)


@_second.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    out = _second(*primals)
    return out, jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), out)


def _constant(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: jax.lax.stop_gradient(a) if eqx.is_array(a) else a, tree)


def _place_of_x(tree: PyTree) -> int:
    """Of x among the leaves of `(fn, (x, theta))`."""
    return len(jax.tree.leaves(tree[0]))


def _perturbed(tangents: PyTree, tree: PyTree) -> tuple[bool, ...]:
    """Of each leaf of the tree, whether it has a tangent."""
    return tuple(t is not None for t in jax.tree.structure(tree).flatten_up_to(tangents))


def _split(tree: PyTree, tangents: PyTree) -> tuple[PyTree, PyTree]:
    """What moves, and what does not."""
    return eqx.partition(tree, jax.tree.unflatten(jax.tree.structure(tree), _perturbed(tangents, tree)))


def _dot(a: PyTree, b: PyTree) -> Scalar:
    return functools.reduce(jnp.add, jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)))
