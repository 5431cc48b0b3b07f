"""Crossings of the profile likelihood with a given rise, as one root, with one gradient a step.

MINUIT finds a crossing by a sequence of conditional fits. It is also the point of the surface F = Fmin + z^2/2 that
lies farthest along a direction e, and thus a root of F - Fmin - z^2/2 and of the derivatives with respect to the
nuisance parameters (D. J. Venzon and S. H. Moolgavkar, Appl. Statist. 37 (1988) 87). With a model V of the inverse
Hessian, the step is

    d = -V g + t V e,    t^2 = 2 (Fmin + z^2/2 - F + g'V g / 2) / e'V e.

V starts as the covariance at the minimum and is updated by the BFGS formula, so each step costs one gradient. There is
no guarantee of convergence far from a quadratic likelihood: `crossing_bracket.py` finds the remaining crossings.
"""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, Scalar

from .._host import flow, xp
from .._parameters.space import Space
from .._solvers.flat import value_and_grad
from .inverse_hessian import MANY, Shared, Start, Updates, aside, at_the_minimum
from .minimum import Minimum

_MAX_STEPS, _MAX_STEPS_OF_MANY = 60, 160
_MAX_REFUSED = 10
_FEW_REFUSED = 3  # enough where the best point is as good as rounding allows
_CUT = 0.3  # of a step that was too long
_TOLERANCE = 1e-10  # of the rise, before a last step that is not evaluated
_ROUNDING = 1e-7  # of the rise, where no step helps any more: the values are known no better


class Way(NamedTuple):
    """The start and the direction of a search."""

    start: Float[Array, " n"]
    origin: Scalar | None  # the objective at the minimum; `None` if that is the start
    e: Float[Array, " n"]  # the linear function e'x that grows along the search
    rows: Float[Array, "k n"]  # `rows @ x` stays as it is
    moves: Bool[Array, " n"]
    direct: Bool[Array, " n"]  # the parameters that move in external coordinates even if they have bounds


class Crossing(NamedTuple):
    """The point of a crossing, or the best point known if it was not found, and the outcome of the search."""

    x: Float[Array, " n"]
    found: Bool[Array, ""]
    new_minimum: Bool[Array, ""]
    gradient: Float[Array, " n"]  # at the point; that of parameters that do not move is in external coordinates
    num_gradients: Int[Array, ""]


class _NewtonState(NamedTuple):
    trial: Float[Array, " n"]  # the point evaluated next
    q: Float[Array, " n"]
    f: Scalar  # above the minimum
    g: Float[Array, " n"]
    push: Float[Array, " n"]  # the gradient, including parameters that do not move
    inverse: Updates
    merit: Scalar
    least: Scalar  # the smallest value found, and its point
    lowest: Float[Array, " n"]
    origin: Scalar  # value at the minimum
    first: Bool[Array, ""]
    refused: Int[Array, ""]
    steps: Int[Array, ""]
    done: Bool[Array, ""]
    found: Bool[Array, ""]


def crossing(minimum: Minimum, way: Way, z: Scalar, skip: Bool[Array, ""]) -> Crossing:
    """The crossing along `way` at `z` standard deviations above the minimum. Returns at once if `skip`."""
    # Parameters that do not move and those along which the line runs need no transform of their bounds.
    space = minimum.space.without(way.direct | ~way.moves)
    q = space.internal(way.start)
    slopes = space.slopes(q)[0] if space.has_bounds else xp.ones_like(q)
    begin = at_the_minimum(minimum.covariance, way.rows, slopes)
    off_axis = xp.where(way.moves, aside(begin, way.e), 0.0)
    flat = minimum.above(space)

    def body(s: _NewtonState) -> _NewtonState:
        f, g, _ = value_and_grad(flat, s.trial, "bwd")
        return _advance(minimum, way, begin, q, off_axis, 0.5 * z**2, s, f, g)

    cannot_start = ~(way.e @ begin.product(way.e) > 0) | ~xp.all(xp.isfinite(minimum.covariance))
    end = flow.while_loop(lambda s: ~s.done, body, _initial_state(q, begin.updates(), skip | cannot_start))
    new_minimum = end.least < -minimum.lower
    # The last step is not evaluated: it changes the rise by less than 1e-10 of it, and its own error is smaller.
    point = xp.where(end.found & ~new_minimum, end.trial, xp.where(new_minimum, end.lowest, end.q))
    return Crossing(space.external(point), end.found & ~new_minimum, new_minimum, end.push, end.steps)


def _initial_state(q: Float[Array, " n"], inverse: Updates, done: Bool[Array, ""]) -> _NewtonState:
    zero, zeros, count, false = xp.zeros((), q.dtype), xp.zeros_like(q), xp.array(0), xp.array(False)
    return _NewtonState(
        trial=q, q=q, f=zero, g=zeros, push=zeros, inverse=inverse, merit=zero + xp.inf, least=zero, lowest=q,
        origin=zero, first=~false, refused=count, steps=count, done=done, found=false,
    )  # fmt: skip


def _advance(
    minimum: Minimum,
    way: Way,
    begin: Start,
    origin_q: Float[Array, " n"],
    off_axis: Float[Array, " n"],
    target: Scalar,
    s: _NewtonState,
    f: Scalar,
    g: Float[Array, " n"],
) -> _NewtonState:
    """The state after evaluating value and gradient at `s.trial`: accepts or rejects it and sets the next trial."""
    e = way.e
    finite = xp.isfinite(f) & xp.all(xp.isfinite(g))
    push = xp.where(finite, g, 0.0)
    g = xp.where(way.moves, push, 0.0)
    origin = xp.where(s.first, f, s.origin) if way.origin is None else way.origin - minimum.value
    rise = f - origin
    inverse = s.inverse.updated(begin, s.trial - s.q, g - s.g, s.first | ~finite)
    vg, ve = inverse.product(begin, g), inverse.product(begin, e)
    across = xp.maximum(g @ vg - (e @ vg) ** 2 / (e @ ve), 0.0)
    deviation = xp.abs(rise - target)
    tolerance = xp.maximum(_TOLERANCE * target, 2 * minimum.noise)
    # Far below the tolerance `across` is rounding noise, which must not reject the last steps.
    excess = xp.maximum(across - 0.01 * tolerance, 0.0)
    merit = xp.where(finite, (deviation / target) ** 2 + excess / target, xp.inf)
    vg_before = inverse.product(begin, s.g)
    merit_before, is_near = s.merit, xp.array(False)
    if isinstance(begin, Shared):
        # Of many parameters, the merit of the best point by what is known now: that by an older inverse Hessian, which
        # has not met some directions, may be too small to be reached.
        off = xp.abs(s.f - target) / target
        across_before = xp.maximum(s.g @ vg_before - (e @ vg_before) ** 2 / (e @ ve), 0.0)
        merit_before = xp.maximum(merit_before, off**2 + xp.maximum(across_before - 0.01 * tolerance, 0.0) / target)
        is_near = (off <= _ROUNDING) & (0.5 * across_before <= _ROUNDING * target) & (e @ s.g > 0)
        if way.origin is None:
            is_near = is_near & (e @ (s.q - origin_q) > 0)
    accepted = s.first | (finite & ((merit < merit_before) | (s.steps == 1)))
    found = accepted & ~s.first & (deviation <= tolerance) & (0.5 * across <= tolerance)
    found = found & (e @ g > 0)
    if way.origin is None:  # it must not be on the other side of the minimum
        found = found & (e @ (s.trial - origin_q) > 0)

    q_new, g_new = xp.where(accepted, s.trial, s.q), xp.where(accepted, g, s.g)
    rise_new = xp.where(accepted, rise, s.f)
    refused = xp.where(accepted, 0, s.refused + 1)
    stuck = (refused > _MAX_REFUSED) | ((refused >= _FEW_REFUSED) & is_near)
    found = found | (stuck & is_near)
    step = _step(xp.where(accepted, vg, vg_before), ve, e, g_new, rise_new, target)
    step = step + xp.where(s.first, off_axis, 0.0)
    fraction = _fraction_inside(minimum.space, way, q_new, step)
    is_lowest = finite & (rise < s.least) & ~s.first
    return _NewtonState(
        trial=xp.where(accepted, q_new + fraction * step, s.q + xp.where(stuck, 0.0, _CUT * (s.trial - s.q))),
        q=q_new,
        f=rise_new,
        g=g_new,
        push=xp.where(accepted, push, s.push),
        inverse=inverse,
        merit=xp.where(accepted, xp.where(s.first, xp.inf, merit), s.merit),
        least=xp.where(is_lowest, rise, s.least),
        lowest=xp.where(is_lowest, s.trial, s.lowest),
        origin=origin,
        first=xp.array(False),
        refused=refused,
        steps=s.steps + 1,
        done=found | stuck | (s.steps >= (_MAX_STEPS if g.size < MANY else _MAX_STEPS_OF_MANY)) | (s.first & ~finite),
        found=found,
    )


def _step(vg: Array, ve: Array, e: Array, g: Array, f: Scalar, target: Scalar) -> Array:
    """The step to the farthest point of the surface in the quadratic model, limited to twice the target distance."""
    radicand = 2 * (target - f + 0.5 * (g @ vg)) / (e @ ve)
    along = xp.sqrt(xp.where(radicand > 0, radicand, 0.0))
    step = along * ve - vg
    length = xp.sqrt(xp.maximum(g @ vg - 2 * along * (g @ ve) + along**2 * (e @ ve), 0.0))
    longest = 2 * xp.sqrt(2 * target)
    return step * xp.minimum(1.0, longest / xp.where(length > 0, length, 1.0))


def _fraction_inside(space: Space, way: Way, q: Array, step: Array) -> Scalar:
    """The fraction of a step that keeps the parameters that move in external coordinates within their bounds."""
    if not space.has_bounds:
        return xp.ones((), q.dtype)
    room = xp.where(step > 0, space.upper - q, q - space.lower)
    is_bounded = way.moves & way.direct & (step != 0) & xp.isfinite(room)
    fraction = xp.where(is_bounded, 0.9 * room / xp.where(is_bounded, xp.abs(step), 1.0), 1.0)
    return xp.clip(xp.min(fraction), 0.0, 1.0)
