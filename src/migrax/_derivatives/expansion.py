"""Value, gradient and exact Hessian of an objective, and derivatives for outputs of a loop that has none."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Float, Scalar

from .._host import xp
from .._host.xp import is_on_host
from .._solvers.flat import Differentiated, value_grad_hessian
from .._util.typing import PyTree

Objective = Callable[[Float[Array, " n"], PyTree], Scalar] | Differentiated


class Expansion(NamedTuple):
    """The Taylor expansion of a function at a point, to second order."""

    value: Scalar
    gradient: Float[Array, " n"]
    hessian: Float[Array, "n n"]


def expand(fn: Objective, x: Float[Array, " n"], theta: PyTree) -> Expansion:
    """The expansion of `fn(x, theta)` in `x`, with exact derivatives, from one copy of `fn`."""
    if isinstance(fn, Differentiated):
        return Expansion(*fn.expansion(x))
    value, gradient, hessian, _ = value_grad_hessian(lambda v: (fn(v, theta), None), x, "bwd")
    return Expansion(value, gradient, hessian)


def attach(known: Expansion, fn: Objective, x: Float[Array, " n"], theta: PyTree) -> Expansion:
    """`known`, with the derivatives of `expand(fn, x, theta)` with respect to `x`, `theta` and what `fn` closes over.

    For an expansion that was computed inside a loop that cannot be differentiated. It costs nothing unless a derivative
    is taken."""
    return known if is_on_host() else _attach(known, fn, x, theta)


@eqx.filter_custom_jvp
def _attach(known: Expansion, fn: Objective, x: Float[Array, " n"], theta: PyTree) -> Expansion:
    del fn, x, theta
    return known


@_attach.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Expansion, Expansion]:
    known, fn, x, theta = primals
    _, t_fn, t_x, t_theta = tangents
    _, out = eqx.filter_jvp(expand, (fn, x, theta), (t_fn, t_x, t_theta))
    # `attach` again, so that the result can be differentiated once more
    return attach(known, fn, x, theta), jax.tree.map(
        lambda t, k: xp.zeros_like(k) if t is None else t, out, known, is_leaf=lambda t: t is None
    )


def inverse(known: Float[Array, "n n"], hessian: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """`known`, the inverse of the symmetric matrix `hessian`, with the derivative dC = -C dH C. Where rows of `known`
    are zero (parameters at a bound), it is the inverse over the other parameters."""
    return known if is_on_host() else _inverse(known, hessian)


@eqx.filter_custom_jvp
def _inverse(known: Float[Array, "n n"], hessian: Float[Array, "n n"]) -> Float[Array, "n n"]:
    del hessian
    return known


@_inverse.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    known, hessian = primals
    _, t_hessian = tangents
    out = inverse(known, hessian)
    return out, xp.zeros_like(out) if t_hessian is None else -out @ t_hessian @ out
