"""Crossings by bracketing, with the nuisance parameters refitted at each point: where `crossing_newton.py` finds none.

Slow and sure. In rho, the way gone from the minimum in standard deviations of a parabola, r = sqrt(2 (F - Fmin)) is a
straight line for a quadratic, and near one for most likelihoods, so the secant through the bracket's ends converges
fast; it is kept from stagnating by the Illinois rule (M. Dowell and P. Jarratt, BIT 11 (1971) 168).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._fit.status import Status
from .minimum import Hold, Minimum
from .refit import refit

_MAX_POINTS = 60
_GROWTH = 1.6
_TOLERANCE = 1e-10  # relative, of r


class Line(NamedTuple):
    """From `base` along `direction`, held in the parameters of `rows`, to `end` at most."""

    rows: Float[Array, "k n"]
    base: Float[Array, " n"]
    direction: Float[Array, " n"]  # zero for the parameters that are not held
    end: Scalar  # at a bound, or after one period; infinite if there is none
    first: Scalar  # how far to go first
    longest: Scalar  # how far to go at a time, lest a periodic likelihood has risen and fallen again between


class Bracketed(NamedTuple):
    x: Float[Array, " n"]
    found: Bool[Array, ""]
    at_limit: Bool[Array, ""]  # not risen as far at the end of the line
    new_minimum: Bool[Array, ""]
    num_gradients: Int[Array, ""]


class _State(NamedTuple):
    low: Scalar  # below the crossing, and r - z there
    r_low: Scalar
    high: Scalar  # above it; infinite if none is known
    r_high: Scalar
    trial: Scalar
    x: Float[Array, " n"]  # the last refit that succeeded
    side: Int[Array, ""]  # which end moved last
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

    def body(s: _State) -> _State:
        hold = Hold(line.rows, x + s.trial * line.direction)
        fitted = refit(minimum, hold, jnp.where(hold.which, hold.at, s.x), s.done, True)
        rise = fitted.value - origin
        ok = (fitted.status == int(Status.VALID)) & jnp.isfinite(rise)
        new_minimum = ok & (rise < -minimum.lower)
        r = jnp.sqrt(2 * jnp.maximum(rise, 0.0)) - z
        at_end = s.trial >= line.end
        above = ~ok | (r > 0)  # a point where the fit fails is beyond: the crossing is looked for before it
        found = ok & (jnp.abs(r) <= jnp.maximum(_TOLERANCE * z, 4 * minimum.noise / z))
        at_limit = ok & ~above & ~found & at_end
        low, r_low = jnp.where(above, s.low, s.trial), jnp.where(above, s.r_low, r)
        high, r_high = jnp.where(above, s.trial, s.high), jnp.where(above, jnp.where(ok, r, jnp.inf), s.r_high)
        side = jnp.where(above, 1, -1)
        # Illinois: an end that stays twice counts half
        r_low = jnp.where(above & (s.side == 1), 0.5 * r_low, r_low)
        r_high = jnp.where(~above & (s.side == -1), 0.5 * r_high, r_high)
        narrow = jnp.isfinite(high) & (high - low <= 4 * jnp.finfo(x.dtype).eps * high)
        points = s.points + 1
        return _State(
            low=low,
            r_low=r_low,
            high=high,
            r_high=r_high,
            trial=jnp.minimum(jnp.minimum(_next(low, r_low, high, r_high), low + line.longest), line.end),
            x=jnp.where(ok, fitted.x, s.x),
            side=side,
            points=points,
            num_gradients=s.num_gradients + fitted.num_gradients,
            done=found | at_limit | new_minimum | narrow | (points >= _MAX_POINTS),
            found=found,
            at_limit=at_limit,
            new_minimum=new_minimum,
        )

    zero, no = jnp.zeros((), x.dtype), jnp.array(False)
    start = _State(
        zero, -z, zero + jnp.inf, zero + jnp.inf, jnp.minimum(jnp.minimum(line.first, line.longest), line.end), x,
        jnp.array(0), jnp.array(0), jnp.array(0),
        skip, no, no, no,
    )  # fmt: skip
    end = lax.while_loop(lambda s: ~s.done, body, start)
    return Bracketed(end.x, end.found, end.at_limit, end.new_minimum, end.num_gradients)


def _next(low: Scalar, r_low: Scalar, high: Scalar, r_high: Scalar) -> Scalar:
    bracketed = jnp.isfinite(high)
    known = bracketed & jnp.isfinite(r_high)
    width = jnp.where(bracketed, high - low, 0.0)
    part = jnp.where(known, -r_low / jnp.where(known, r_high - r_low, 1.0), 0.5)
    return jnp.where(bracketed, low + width * jnp.clip(part, 1e-3, 1 - 1e-3), _GROWTH * low)
