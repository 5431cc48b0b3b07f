"""Kinks: values of a parameter at which the slope of the objective jumps, such as the nominal value of a nuisance
parameter with piecewise linear interpolation of its template (HistFactory's interpolation codes 0 and 1).

Between kinks the objective is smooth, so each region is a problem with bounds at the kinks around it. On a kink the
objective is expanded on both sides. The point is a minimum along the parameter if the slopes of the two sides bracket
zero (R. T. Rockafellar, Convex Analysis (1970), theorem 27.4): the parameter is then held on the kink. Otherwise it
leaves the kink towards the side that falls.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float

from .._host import flow, xp
from .._host.xp import is_on_host
from .._util.typing import PyTree
from .expansion import Expansion, Objective, expand

# A distance, in errors, that is negligible: it changes the objective by 1e-16.
_NEGLIGIBLE = 1e-8


class Around(NamedTuple):
    """The kinks around a point, and the parameters that lie on one."""

    lower: Float[Array, " n"]  # the smooth region, between bounds and the kinks around the point
    upper: Float[Array, " n"]
    held: Bool[Array, " n"]  # on a kink where the slopes of the two sides bracket zero
    jump: Float[Array, " n"]  # of the slope at the kinks of `held`
    reach: Float[Array, " n"]  # the distance from the point at which its two sides were expanded

    @classmethod
    def unseen(cls, x: Float[Array, " n"]) -> "Around":
        none = xp.zeros_like(x)
        return cls(x, x, xp.zeros(x.shape, bool), none, none)


def nearest(x: Float[Array, " n"], kinks: Float[Array, "m n"]) -> Float[Array, " n"]:
    """The nearest kink of each parameter; NaN where it has none."""
    distance = xp.where(xp.isnan(kinks), xp.inf, xp.abs(x - kinks))
    return xp.take_along_axis(kinks, xp.argmin(distance, axis=0)[None], axis=0)[0]


def side(at: Float[Array, " n"]) -> Float[Array, " n"]:
    """The distance from a kink at which its two sides are evaluated, so small that nothing else changes."""
    info = xp.finfo(at.dtype)
    return xp.maximum(xp.sqrt(info.tiny) * 1e-5, 4 * info.eps * xp.abs(at))


def on_kinks(x: Float[Array, " n"], kinks: Float[Array, "m n"]) -> Float[Array, " n"]:
    """The distance from `x` at which to expand the two sides of the parameters that lie on a kink; 0 for the others.

    The distances differ, so that kinks through the same point on a diagonal (of `abs(a - b)`) are not missed."""
    at = nearest(x, kinks)
    uneven = 2.5 + xp.cos(2.399963229728653 * xp.arange(1, x.size + 1, dtype=x.dtype))
    return xp.where(xp.abs(x - at) <= side(at), uneven * side(at), 0.0)


def snapped(x: Float[Array, " n"], kinks: Float[Array, "m n"], errors: Float[Array, " n"]) -> Float[Array, " n"]:
    """`x` with the parameters that are beside a kink only by rounding moved onto it.

    Otherwise the search for a minimum on a kink at which only the second derivative jumps could alternate between its
    sides for ever."""
    eps, at = xp.finfo(x.dtype).eps, nearest(x, kinks)
    tolerance = 8 * eps * (xp.abs(x) + xp.abs(at)) + xp.maximum(_NEGLIGIBLE, 8 * eps) * errors
    return xp.where(xp.abs(x - at) <= tolerance, at, x)


def both_sides(
    fn: Objective, x: Float[Array, " n"], theta: PyTree, reach: Float[Array, " n"]
) -> tuple[Expansion, Expansion]:
    """The expansions above and below `x`, from one copy of `fn`; one at `x` itself if no parameter is on a kink."""
    points = xp.stack([x + reach, x - reach])
    n, dtype = x.size, x.dtype
    blank = Expansion(xp.zeros(2, dtype), xp.zeros((2, n), dtype), xp.zeros((2, n, n), dtype))

    def body(i: Array, expansions: Expansion) -> Expansion:
        new = expand(fn, points[i], theta)
        return jax.tree.map(lambda a, b: xp.set_at(a, i, b), expansions, new)

    on_kink = xp.any(reach > 0)
    expansions = flow.fori_loop(0, xp.where(on_kink, 2, 1), body, blank)
    above = jax.tree.map(lambda a: a[0], expansions)
    return above, jax.tree.map(lambda a: xp.where(on_kink, a[1], a[0]), expansions)


def around(
    above: Expansion,
    below: Expansion,
    x: Float[Array, " n"],
    kinks: Float[Array, "m n"],
    reach: Float[Array, " n"],
    lower: Float[Array, " n"],
    upper: Float[Array, " n"],
) -> tuple[Expansion, Around]:
    """The expansion for a Newton step within the smooth region, and this region: which parameters are held on their
    kinks, and on which side the others leave."""
    on_kink = reach > 0
    mean = jax.tree.map(lambda a, b: 0.5 * (a + b), above, below)
    curvature = xp.diagonal(mean.hessian)
    unit = xp.where(on_kink, xp.sqrt(xp.where(curvature > 0, curvature, 1.0)), 1.0)
    slope_above, slope_below = above.gradient / unit, below.gradient / unit
    # Where the slope vanishes on both sides, only the curvature may jump.
    tolerance = _slope_tolerance(x)
    is_flat = on_kink & (xp.abs(slope_above) <= tolerance) & (xp.abs(slope_below) <= tolerance)
    held = on_kink & ~is_flat & (slope_below <= tolerance) & (slope_above >= -tolerance)
    moves_up = on_kink & ~is_flat & ~held & (slope_above < 0) & (-slope_above >= slope_below)
    moves_down = on_kink & ~is_flat & ~held & ~moves_up
    gradient = xp.where(moves_up, above.gradient, xp.where(moves_down, below.gradient, mean.gradient))
    at = nearest(x, kinks)
    low = xp.max(xp.where(kinks < x - reach, kinks, -xp.inf), axis=0)
    high = xp.min(xp.where(kinks > x + reach, kinks, xp.inf), axis=0)
    low = xp.maximum(lower, xp.where(moves_up, at, low))
    high = xp.minimum(upper, xp.where(moves_down, at, high))
    jump = xp.where(held, xp.maximum(above.gradient - below.gradient, 0.0), 0.0)
    # Where only the curvature jumps, the point is no minimum if one side falls, whatever the mean.
    curvatures = xp.stack([xp.diagonal(above.hessian), xp.diagonal(below.hessian)])
    lowest = xp.min(curvatures, axis=0)
    falls_on_one_side = is_flat & (lowest < -_slope_tolerance(x) * xp.max(curvatures, axis=0))
    hessian = mean.hessian + xp.diag(xp.where(falls_on_one_side, lowest - curvature, 0.0))
    return Expansion(mean.value, gradient, hessian), Around(low, high, held, jump, reach)


def is_step(above: Expansion, below: Expansion, reach: Float[Array, " n"]) -> Bool[Array, ""]:
    """Whether the values of the two sides differ by more than slopes and rounding explain: a step, not a kink."""
    eps = xp.finfo(above.value.dtype).eps
    slopes = xp.sum(xp.maximum(xp.abs(above.gradient), xp.abs(below.gradient)) * reach)
    size = xp.maximum(xp.abs(above.value), xp.abs(below.value))
    difference = xp.abs(above.value - below.value)
    return xp.any(reach > 0) & (difference > 1e4 * eps * (1 + size) + 4 * slopes)


def _slope_tolerance(x: Array) -> Array:
    """The slope, per error, that counts as zero."""
    return xp.maximum(1e-6, 1e3 * xp.finfo(x.dtype).eps)


def with_jumps(
    at: Expansion, jump: Float[Array, " n"], held: Bool[Array, " n"], active: Bool[Array, " n"]
) -> Expansion:
    """The expansion with the second difference over plus and minus one error in place of the second derivative, for the
    parameters that are held on a kink.

    Along such a parameter, minimised over all smooth ones, the objective rises on the mean of the two sides by
    |t| J/2 + S t²/2, with J the jump of the slope and S the curvature. It reaches 1/2 at t = 1/u with u² = S + J u, so
    u² is the curvature that gives the error.
    """
    h = at.hessian
    free = ~held & ~active
    both = free[:, None] & free[None, :]
    diagonal = xp.abs(xp.diagonal(h))
    unit = xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0))
    block = xp.where(both, h, xp.diag(unit**2)) / (unit[:, None] * unit[None, :])
    coupling = xp.where(free[:, None] & held[None, :], h, 0.0)
    profiled = xp.sum(coupling * (xp.solve(block, coupling / unit[:, None]) / unit[:, None]), axis=0)
    curvature = xp.diagonal(h) - profiled
    radicand = xp.maximum(0.25 * jump**2 + curvature, 0.0)
    root = xp.where(held & (radicand > 0), xp.sqrt(xp.where(radicand > 0, radicand, 1.0)), 0.0)
    addition = xp.where(held, jump * (0.5 * jump + root), 0.0)
    return at._replace(hessian=h + xp.diag(addition))


def expand_sides(
    fn: Objective,
    x: Float[Array, " n"],
    theta: PyTree,
    reach: Float[Array, " n"],
    held: Bool[Array, " n"],
    active: Bool[Array, " n"],
) -> Expansion:
    """The mean of the expansions of both sides of all kinks that `x` lies on, with second differences for `held`.

    Unlike `both_sides`, it can be differentiated."""
    sides = jax.vmap(lambda s: expand(fn, x + s * reach, theta))(xp.array([1.0, -1.0], x.dtype))
    mean = jax.tree.map(lambda a: 0.5 * (a[0] + a[1]), sides)
    jump = xp.where(held, xp.maximum(sides.gradient[0] - sides.gradient[1], 0.0), 0.0)
    return with_jumps(mean, jump, held, active)


def mean_gradient(fn: Objective, x: Float[Array, " n"], theta: PyTree, reach: Float[Array, " n"]) -> Float[Array, " n"]:
    """The mean of the gradients of the two sides."""
    sides = jax.vmap(lambda s: jax.grad(fn)(x + s * reach, theta))(xp.array([1.0, -1.0], x.dtype))
    return 0.5 * (sides[0] + sides[1])


def expand_on_average(
    fn: Objective, x: Float[Array, " n"], theta: PyTree, kinks: Float[Array, "m n"] | None
) -> Expansion:
    """`expand` or, on kinks, the mean of the two sides, with second differences where the slopes bracket zero."""
    if kinks is None:
        return expand(fn, x, theta)
    reach, none_active = flow.stop_gradient(on_kinks(x, kinks)), xp.zeros(x.shape, bool)
    sides = flow.vmap(lambda s: expand(fn, x + s * reach, theta))(xp.array([1.0, -1.0], x.dtype))
    above, below = (jax.tree.map(lambda a, i=i: a[i], sides) for i in range(2))
    at, kinks_around = around(above, below, x, kinks, reach, xp.full_like(x, -xp.inf), xp.full_like(x, xp.inf))
    return with_jumps(at, kinks_around.jump, kinks_around.held, none_active)


def comes_to(kinks: Float[Array, "m n"] | None, a: Float[Array, " n"], b: Float[Array, " n"]) -> Bool[Array, ""]:
    """Whether a step from `a` to `b` reaches or crosses a kink."""
    return xp.array(False) if kinks is None else xp.any((a - kinks) * (b - kinks) <= 0)


def gradient_at(
    fn: Objective,
    x: Float[Array, " n"],
    theta: PyTree,
    kinks: Float[Array, "m n"] | None,
    sizes: Float[Array, " n"],
    held: Bool[Array, " n"],
) -> tuple[Float[Array, " n"], Bool[Array, " n"]]:
    """The gradient at a minimum over the parameters that are not `held`, on kinks the mean of the two sides, and which
    of these parameters stay on a kink. `sizes` are their errors."""
    if kinks is None:
        return jax.grad(fn)(x, theta), xp.zeros(x.shape, bool)
    point = flow.stop_gradient(x)
    at = nearest(point, kinks)
    on_kink = ~held & (xp.abs(point - at) <= 1e-8 * sizes)
    reach = xp.where(on_kink, 2 * xp.abs(point - at) + side(at), 0.0)
    above, below = jax.vmap(lambda s: jax.grad(fn)(x + s * reach, theta))(xp.array([1.0, -1.0], x.dtype))
    is_steep = xp.maximum(xp.abs(above), xp.abs(below)) * sizes > _slope_tolerance(x)
    return 0.5 * (above + below), on_kink & flow.stop_gradient(is_steep)


def attach_sides(
    known: Expansion, fn: Objective, x: Array, theta: PyTree, reach: Array, held: Array, active: Array
) -> Expansion:
    """As `attach`, for the expansion at a point on kinks."""
    return known if is_on_host() else _attach_sides(known, fn, x, theta, reach, held, active)


@eqx.filter_custom_jvp
def _attach_sides(
    known: Expansion, fn: Objective, x: Array, theta: PyTree, reach: Array, held: Array, active: Array
) -> Expansion:
    del fn, x, theta, reach, held, active
    return known


@_attach_sides.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Expansion, Expansion]:
    known, fn, x, theta, *where = primals
    _, t_fn, t_x, t_theta, *_ = tangents
    _, out = eqx.filter_jvp(
        lambda fn, x, theta: expand_sides(fn, x, theta, *where), (fn, x, theta), (t_fn, t_x, t_theta)
    )
    return attach_sides(known, fn, x, theta, *where), jax.tree.map(
        lambda t, k: xp.zeros_like(k) if t is None else t, out, known, is_leaf=lambda t: t is None
    )
