"""Kinks: places of a parameter where the slope of the objective jumps, as at the nominal value of a nuisance parameter
whose template moves by straight lines (HistFactory's interpolation codes 0 and 1).

Between its kinks the objective is smooth, so each region is a problem with bounds at the kinks around it. On a kink
both sides are looked at. A parameter stays there if the slopes of the two sides bracket zero, which is what a minimum
on a kink is (R. T. Rockafellar, Convex Analysis (1970), theorem 27.4); else it leaves on the side that falls.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Scalar

from .._util.typing import PyTree
from .expansion import Expansion, expand

# A part of an error that is nothing: it changes the objective by 1e-16.
_HAIR = 1e-8

Objective = Callable[[Float[Array, " n"], PyTree], Scalar]


class Around(NamedTuple):
    """What is known of the objective around a point that may lie on kinks."""

    lower: Float[Array, " n"]  # the smooth region: bounds and the kinks around the point
    upper: Float[Array, " n"]
    held: Bool[Array, " n"]  # on a kink where the slopes of the two sides bracket zero
    jump: Float[Array, " n"]  # of the slope at the kinks of `held`
    reach: Float[Array, " n"]  # how far beside the point its sides were looked at

    @classmethod
    def unseen(cls, x: Float[Array, " n"]) -> "Around":
        none = jnp.zeros_like(x)
        return cls(x, x, jnp.zeros(x.shape, bool), none, none)


def nearest(x: Float[Array, " n"], kinks: Float[Array, "m n"]) -> Float[Array, " n"]:
    """The nearest kink of each parameter; NaN where there is none."""
    distance = jnp.where(jnp.isnan(kinks), jnp.inf, jnp.abs(x - kinks))
    return jnp.take_along_axis(kinks, jnp.argmin(distance, axis=0)[None], axis=0)[0]


def side(at: Float[Array, " n"]) -> Float[Array, " n"]:
    """How far beside a known kink either side is looked at: next to nothing, so that the other numbers stay."""
    info = jnp.finfo(at.dtype)
    return jnp.maximum(jnp.sqrt(info.tiny) * 1e-5, 4 * info.eps * jnp.abs(at))


def on_kinks(x: Float[Array, " n"], kinks: Float[Array, "m n"]) -> Float[Array, " n"]:
    """How far beside `x` to look at the sides of the parameters that are on their kinks; 0 for the others.

    No two as far: on a diagonal, other kinks through the same point (of `abs(a - b)`) would not be seen."""
    at = nearest(x, kinks)
    uneven = 2.5 + jnp.cos(2.399963229728653 * jnp.arange(1, x.size + 1, dtype=x.dtype))
    return jnp.where(jnp.abs(x - at) <= side(at), uneven * side(at), 0.0)


def snapped(x: Float[Array, " n"], kinks: Float[Array, "m n"], errors: Float[Array, " n"]) -> Float[Array, " n"]:
    """On the kink itself, not beside it by rounding: else a minimum on kinks where only the second derivative jumps is
    sought on one side and the other for ever."""
    eps, at = jnp.finfo(x.dtype).eps, nearest(x, kinks)
    hair = 8 * eps * (jnp.abs(x) + jnp.abs(at)) + jnp.maximum(_HAIR, 8 * eps) * errors
    return jnp.where(jnp.abs(x - at) <= hair, at, x)


def both_sides(
    fn: Objective, x: Float[Array, " n"], theta: PyTree, reach: Float[Array, " n"]
) -> tuple[Expansion, Expansion]:
    """The expansions beside `x` above and below, of one copy of `fn`, and at `x` alone where nothing is on a kink."""
    points = jnp.stack([x + reach, x - reach])
    n, dtype = x.size, x.dtype
    blank = Expansion(jnp.zeros(2, dtype), jnp.zeros((2, n), dtype), jnp.zeros((2, n, n), dtype))

    def body(i: Array, found: Expansion) -> Expansion:
        new = expand(fn, points[i], theta)
        return jax.tree.map(lambda a, b: a.at[i].set(b), found, new)

    two = jnp.any(reach > 0)
    found = lax.fori_loop(0, jnp.where(two, 2, 1), body, blank)
    above = jax.tree.map(lambda a: a[0], found)
    return above, jax.tree.map(lambda a: jnp.where(two, a[1], a[0]), found)


def around(
    above: Expansion,
    below: Expansion,
    x: Float[Array, " n"],
    kinks: Float[Array, "m n"],
    reach: Float[Array, " n"],
    lower: Float[Array, " n"],
    upper: Float[Array, " n"],
) -> tuple[Expansion, Around]:
    """What a Newton step within the smooth region may rest on; which parameters stay on their kinks, and on which side
    the others leave."""
    on = reach > 0
    mean = jax.tree.map(lambda a, b: 0.5 * (a + b), above, below)
    size = jnp.diagonal(mean.hessian)
    unit = jnp.where(on, jnp.sqrt(jnp.where(size > 0, size, 1.0)), 1.0)
    up, down = above.gradient / unit, below.gradient / unit
    # a slope of nothing on either side is a smooth place, but for its curvature
    tolerance = _level(x)
    level = on & (jnp.abs(up) <= tolerance) & (jnp.abs(down) <= tolerance)
    held = on & ~level & (down <= tolerance) & (up >= -tolerance)
    rises = on & ~level & ~held & (up < 0) & (-up >= down)
    falls = on & ~level & ~held & ~rises
    gradient = jnp.where(rises, above.gradient, jnp.where(falls, below.gradient, mean.gradient))
    at = nearest(x, kinks)
    low = jnp.max(jnp.where(kinks < x - reach, kinks, -jnp.inf), axis=0)
    high = jnp.min(jnp.where(kinks > x + reach, kinks, jnp.inf), axis=0)
    low = jnp.maximum(lower, jnp.where(rises, at, low))
    high = jnp.minimum(upper, jnp.where(falls, at, high))
    jump = jnp.where(held, jnp.maximum(above.gradient - below.gradient, 0.0), 0.0)
    # where only the curvature jumps, one side that falls makes it no minimum, whatever the mean
    each = jnp.stack([jnp.diagonal(above.hessian), jnp.diagonal(below.hessian)])
    least = jnp.min(each, axis=0)
    one_falls = level & (least < -_level(x) * jnp.max(each, axis=0))
    hessian = mean.hessian + jnp.diag(jnp.where(one_falls, least - size, 0.0))
    return Expansion(mean.value, gradient, hessian), Around(low, high, held, jump, reach)


def is_step(above: Expansion, below: Expansion, reach: Float[Array, " n"]) -> Bool[Array, ""]:
    """Whether the value itself is another on the two sides, by more than slopes and rounding tell: that is no kink."""
    eps = jnp.finfo(above.value.dtype).eps
    slopes = jnp.sum(jnp.maximum(jnp.abs(above.gradient), jnp.abs(below.gradient)) * reach)
    size = jnp.maximum(jnp.abs(above.value), jnp.abs(below.value))
    apart = jnp.abs(above.value - below.value)
    return jnp.any(reach > 0) & (apart > 1e4 * eps * (1 + size) + 4 * slopes)


def _level(x: Array) -> Array:
    """A slope over one error that is none."""
    return jnp.maximum(1e-6, 1e3 * jnp.finfo(x.dtype).eps)


def with_jumps(
    at: Expansion, jump: Float[Array, " n"], held: Bool[Array, " n"], active: Bool[Array, " n"]
) -> Expansion:
    """The expansion with the second difference over plus and minus one error, in place of the second derivative, for
    the parameters that stay on a kink.

    Along such a parameter, with all that is smooth minimised, the objective rises by |t| J/2 + S t²/2 on the mean of
    the two sides, with J the jump of the slope and S the curvature. It reaches 1/2 at t = 1/u with u² = S + J u: so u²
    is the curvature that gives the error.
    """
    h = at.hessian
    free = ~held & ~active
    both = free[:, None] & free[None, :]
    size = jnp.abs(jnp.diagonal(h))
    unit = jnp.sqrt(jnp.where(size > 0, size, 1.0))
    block = jnp.where(both, h, jnp.diag(unit**2)) / (unit[:, None] * unit[None, :])
    across = jnp.where(free[:, None] & held[None, :], h, 0.0)
    inner = jnp.sum(across * (jnp.linalg.solve(block, across / unit[:, None]) / unit[:, None]), axis=0)
    curvature = jnp.diagonal(h) - inner
    square = jnp.maximum(0.25 * jump**2 + curvature, 0.0)
    root = jnp.where(held & (square > 0), jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    more = jnp.where(held, jump * (0.5 * jump + root), 0.0)
    return at._replace(hessian=h + jnp.diag(more))


def expand_sides(
    fn: Objective,
    x: Float[Array, " n"],
    theta: PyTree,
    reach: Float[Array, " n"],
    held: Bool[Array, " n"],
    active: Bool[Array, " n"],
) -> Expansion:
    """The mean of the expansions of the two sides of all kinks that `x` lies on, with second differences for `held`.

    Unlike `both_sides` it can be differentiated."""
    found = jax.vmap(lambda s: expand(fn, x + s * reach, theta))(jnp.array([1.0, -1.0], x.dtype))
    mean = jax.tree.map(lambda a: 0.5 * (a[0] + a[1]), found)
    jump = jnp.where(held, jnp.maximum(found.gradient[0] - found.gradient[1], 0.0), 0.0)
    return with_jumps(mean, jump, held, active)


def mean_gradient(fn: Objective, x: Float[Array, " n"], theta: PyTree, reach: Float[Array, " n"]) -> Float[Array, " n"]:
    """The mean of the gradients of the two sides."""
    sides = jax.vmap(lambda s: jax.grad(fn)(x + s * reach, theta))(jnp.array([1.0, -1.0], x.dtype))
    return 0.5 * (sides[0] + sides[1])


def expand_on_average(
    fn: Objective, x: Float[Array, " n"], theta: PyTree, kinks: Float[Array, "m n"] | None
) -> Expansion:
    """`expand` or, on kinks, the mean of their two sides with second differences where the slopes bracket zero."""
    if kinks is None:
        return expand(fn, x, theta)
    reach, none = lax.stop_gradient(on_kinks(x, kinks)), jnp.zeros(x.shape, bool)
    found = jax.vmap(lambda s: expand(fn, x + s * reach, theta))(jnp.array([1.0, -1.0], x.dtype))
    above, below = (jax.tree.map(lambda a, i=i: a[i], found) for i in range(2))
    at, where = around(above, below, x, kinks, reach, jnp.full_like(x, -jnp.inf), jnp.full_like(x, jnp.inf))
    return with_jumps(at, where.jump, where.held, none)


def comes_to(kinks: Float[Array, "m n"] | None, a: Float[Array, " n"], b: Float[Array, " n"]) -> Bool[Array, ""]:
    """Whether a step from `a` to `b` comes to a kink, or crosses one."""
    return jnp.array(False) if kinks is None else jnp.any((a - kinks) * (b - kinks) <= 0)


def gradient_at(
    fn: Objective,
    x: Float[Array, " n"],
    theta: PyTree,
    kinks: Float[Array, "m n"] | None,
    sizes: Float[Array, " n"],
    held: Bool[Array, " n"],
) -> tuple[Float[Array, " n"], Bool[Array, " n"]]:
    """The gradient at a minimum over the parameters that are not `held`, the mean of its two sides on kinks; and which
    parameters stay on theirs. (`sizes`: errors.)"""
    if kinks is None:
        return jax.grad(fn)(x, theta), jnp.zeros(x.shape, bool)
    here = lax.stop_gradient(x)
    at = nearest(here, kinks)
    near = ~held & (jnp.abs(here - at) <= 1e-8 * sizes)
    reach = jnp.where(near, 2 * jnp.abs(here - at) + side(at), 0.0)
    above, below = jax.vmap(lambda s: jax.grad(fn)(x + s * reach, theta))(jnp.array([1.0, -1.0], x.dtype))
    steep = jnp.maximum(jnp.abs(above), jnp.abs(below)) * sizes > _level(x)
    return 0.5 * (above + below), near & lax.stop_gradient(steep)


@eqx.filter_custom_jvp
def attach_sides(
    known: Expansion, fn: Objective, x: Array, theta: PyTree, reach: Array, held: Array, active: Array
) -> Expansion:
    """As `attach`, for a point on kinks."""
    del fn, x, theta, reach, held, active
    return known


@attach_sides.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Expansion, Expansion]:
    known, fn, x, theta, *where = primals
    _, t_fn, t_x, t_theta, *_ = tangents
    _, out = eqx.filter_jvp(
        lambda fn, x, theta: expand_sides(fn, x, theta, *where), (fn, x, theta), (t_fn, t_x, t_theta)
    )
    return attach_sides(known, fn, x, theta, *where), jax.tree.map(
        lambda t, k: jnp.zeros_like(k) if t is None else t, out, known, is_leaf=lambda t: t is None
    )
