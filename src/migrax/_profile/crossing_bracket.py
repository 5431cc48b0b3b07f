"""Crossings by bracketing, with a conditional fit at each point, for those that `crossing_newton.py` does not find.

Slow but robust. As a function of rho, the distance from the minimum in standard deviations of a parabola,
r = sqrt(2 (F - Fmin)) is a straight line for a quadratic likelihood and nearly one for most others, so the secant
through the ends of the bracket converges fast. The Illinois rule prevents stagnation (M. Dowell and P. Jarratt, BIT 11
(1971) 168).
"""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, Scalar

from .._fit.status import Status
from .._host import flow, xp
from .minimum import Hold, Minimum
from .refit import refit

_MAX_POINTS = 60
_GROWTH = 1.6
_TOLERANCE = 1e-10  # relative, of r


class Line(NamedTuple):
    """A line from `base` along `direction` to `end`, to which the parameters of `rows` are held."""

    rows: Float[Array, "k n"]
    base: Float[Array, " n"]
    direction: Float[Array, " n"]  # zero for the parameters that are not held
    end: Scalar  # the distance to a bound, or one period; infinite if there is none
    first: Scalar  # the first trial distance
    longest: Scalar  # the longest step, so that a periodic likelihood cannot rise and fall again within one


class Bracketed(NamedTuple):
    x: Float[Array, " n"]
    found: Bool[Array, ""]
    at_limit: Bool[Array, ""]  # the NLL does not rise far enough before the end of the line
    new_minimum: Bool[Array, ""]
    num_gradients: Int[Array, ""]


class _BracketState(NamedTuple):
    low: Scalar  # below the crossing, and r - z there
    r_low: Scalar
    high: Scalar  # above it; infinite if none is known
    r_high: Scalar
    trial: Scalar
    x: Float[Array, " n"]  # of the last conditional fit that succeeded
    side: Int[Array, ""]  # the end that moved last: 1 high, -1 low
    points: Int[Array, ""]
    num_gradients: Int[Array, ""]
    done: Bool[Array, ""]
    found: Bool[Array, ""]
    at_limit: Bool[Array, ""]
    new_minimum: Bool[Array, ""]


def bracket(minimum: Minimum, line: Line, z: Scalar, skip: Bool[Array, ""]) -> Bracketed:
    """The first crossing along the line at `z` standard deviations; nothing is done if `skip`."""
    x = line.base
    origin = minimum.fn(minimum.x, minimum.theta)

    def body(s: _BracketState) -> _BracketState:
        hold = Hold(line.rows, x + s.trial * line.direction)
        conditional = refit(minimum, hold, xp.where(hold.which, hold.at, s.x), s.done, True)
        rise = conditional.value - origin
        is_valid = (conditional.status == int(Status.VALID)) & xp.isfinite(rise)
        new_minimum = is_valid & (rise < -minimum.lower)
        r = xp.sqrt(2 * xp.maximum(rise, 0.0)) - z
        at_end = s.trial >= line.end
        above = ~is_valid | (r > 0)  # a failed fit counts as above: the crossing is sought before it
        found = is_valid & (xp.abs(r) <= xp.maximum(_TOLERANCE * z, 4 * minimum.noise / z))
        at_limit = is_valid & ~above & ~found & at_end
        low, r_low = xp.where(above, s.low, s.trial), xp.where(above, s.r_low, r)
        high, r_high = xp.where(above, s.trial, s.high), xp.where(above, xp.where(is_valid, r, xp.inf), s.r_high)
        side = xp.where(above, 1, -1)
        # Illinois rule: halve the value at an end that is kept twice in a row.
        r_low = xp.where(above & (s.side == 1), 0.5 * r_low, r_low)
        r_high = xp.where(~above & (s.side == -1), 0.5 * r_high, r_high)
        is_narrow = xp.isfinite(high) & (high - low <= 4 * xp.finfo(x.dtype).eps * high)
        points = s.points + 1
        return _BracketState(
            low=low,
            r_low=r_low,
            high=high,
            r_high=r_high,
            trial=xp.minimum(xp.minimum(_next_trial(low, r_low, high, r_high), low + line.longest), line.end),
            x=xp.where(is_valid, conditional.x, s.x),
            side=side,
            points=points,
            num_gradients=s.num_gradients + conditional.num_gradients,
            done=found | at_limit | new_minimum | is_narrow | (points >= _MAX_POINTS),
            found=found,
            at_limit=at_limit,
            new_minimum=new_minimum,
        )

    zero, false = xp.zeros((), x.dtype), xp.array(False)
    start = _BracketState(
        zero, -z, zero + xp.inf, zero + xp.inf, xp.minimum(xp.minimum(line.first, line.longest), line.end), x,
        xp.array(0), xp.array(0), xp.array(0),
        skip, false, false, false,
    )  # fmt: skip
    end = flow.while_loop(lambda s: ~s.done, body, start)
    return Bracketed(end.x, end.found, end.at_limit, end.new_minimum, end.num_gradients)


def _next_trial(low: Scalar, r_low: Scalar, high: Scalar, r_high: Scalar) -> Scalar:
    is_bracketed = xp.isfinite(high)
    has_both_values = is_bracketed & xp.isfinite(r_high)
    width = xp.where(is_bracketed, high - low, 0.0)
    fraction = xp.where(has_both_values, -r_low / xp.where(has_both_values, r_high - r_low, 1.0), 0.5)
    return xp.where(is_bracketed, low + width * xp.clip(fraction, 1e-3, 1 - 1e-3), _GROWTH * low)
