"""The rays of a contour: from a point within it, spread evenly along an ellipse.

The ellipse touches the four points with the greatest and the least value of either parameter, as that of a quadratic
likelihood does. In units of the half widths it is (cos phi, cos(phi - delta)), where cos delta is the correlation; it
passes its extreme points at phi = 0, delta, pi, pi + delta.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._fit.result import FitResult
from .._util.jit import jit
from .crossing import Found, Side
from .crossing_lines import Lanes, look
from .fitted import Fitted
from .minimum import at_minimum

_TABLE = 2000  # points of the arc length
_SAME = 1e-3  # relative, of two distances
_GAP = 5.0  # times the mean distance of neighbours: a part of the contour that no ray meets
_ROUND = 0.9999  # the largest correlation whose ellipse can be walked


class Extremes(NamedTuple):
    """For each of `c` levels the points of the greatest a and b and the least a and b."""

    x: Float[Array, "c 4 n"]
    status: Int[Array, "c 4"]
    rise: Float[Array, " c"]

    def at(self, i: int) -> "Extremes":
        """One level."""
        return Extremes(self.x[i], self.status[i], self.rise[i])


class Fan(NamedTuple):
    """The rays of one contour: from `base`, a full point, along `directions` of the two parameters."""

    base: Float[Array, " n"]
    directions: Float[Array, "m 2"]
    places: Int[Array, "4"]  # which of them meet the extremes


def rays(fitted: Fitted, index: tuple[int, ...], extremes: Extremes, size: int) -> tuple[Found, Bool[Array, " c"]]:
    """The crossings of the rays of all levels, shape `(c, size)`, and whether these are the whole contour: it is met
    once by each ray. Rays that would begin outside are not followed."""
    fans = _fans(_guessed(fitted.result, extremes, jnp.array(index)), jnp.array(index), size)
    inside = _inside(fitted, fans.base, extremes.rise)
    fans = fans._replace(directions=jnp.where(inside[:, None, None], fans.directions, jnp.nan))
    c, n = extremes.x.shape[0], extremes.x.shape[-1]
    base = jnp.broadcast_to(fans.base[:, None], (c, size, n)).reshape(-1, n)
    lanes = Lanes(base, fans.directions.reshape(-1, 2), jnp.repeat(extremes.rise, size))
    flat = look(fitted, index, lanes)
    found = jax.tree.map(lambda a: a.reshape(c, size, *a.shape[1:]), flat)
    return _joined(found, fans, extremes, inside, jnp.array(index))


@jit
def _guessed(result: FitResult, extremes: Extremes, index: Int[Array, "2"]) -> Extremes:
    """With the extremes of the covariance's ellipse in the places of those that were not found, so that the rays are
    sent all the same."""
    assert result.covariance is not None
    v, sigma = result.covariance.matrix[index], result.errors[index]
    way = v / jnp.where(sigma > 0, sigma, jnp.nan)[:, None]
    guess = result.values + jnp.sqrt(extremes.rise)[:, None, None] * jnp.concatenate([way, -way])
    failed = extremes.status > int(Side.AT_LIMIT)
    x = jnp.where(failed[..., None], jnp.clip(guess, result.lower, result.upper), extremes.x)
    return extremes._replace(x=x, status=jnp.where(failed, int(Side.FOUND), extremes.status))


@jit
def _inside(fitted: Fitted, base: Float[Array, "c n"], rise: Float[Array, " c"]) -> Bool[Array, " c"]:
    """Whether the likelihood has risen less at the points where the rays begin."""
    minimum = at_minimum(fitted)
    value = jax.lax.map(lambda x: minimum.fn(x, minimum.theta), base) - minimum.fn(minimum.x, minimum.theta)
    return 2 * value < rise


@jit
def _fans(extremes: Extremes, index: Int[Array, "2"], size: int) -> Fan:
    return jax.vmap(lambda x, status: _fan(x, status, index, size))(extremes.x, extremes.status)


def _fan(x: Float[Array, "4 n"], status: Int[Array, "4"], index: Int[Array, "2"], size: int) -> Fan:
    corners = x[:, index]
    right, top, left, bottom = corners
    middle = 0.5 * jnp.stack([right[0] + left[0], top[1] + bottom[1]])
    half = 0.5 * jnp.stack([right[0] - left[0], top[1] - bottom[1]])
    u = (corners - middle) / half
    correlation = jnp.clip(0.25 * (u[0, 1] + u[1, 0] - u[2, 1] - u[3, 0]), -_ROUND, _ROUND)
    delta = jnp.arccos(correlation)
    phi, part, before, places = _spread(delta, size)
    ellipse = lambda phi: jnp.stack([jnp.cos(phi), jnp.cos(phi - delta)], axis=-1)  # noqa: E731
    off = u - ellipse(jnp.stack([0.0 * delta, delta, 0.0 * delta + jnp.pi, jnp.pi + delta]))
    # the ellipse, bent so that it passes the four extremes
    bent = ellipse(phi) + (1 - part)[:, None] * off[before] + part[:, None] * off[(before + 1) % 4]
    base = jnp.mean(x, axis=0)
    good = jnp.all(status <= int(Side.AT_LIMIT))
    directions = (bent * half + middle) - base[index]
    return Fan(base, jnp.where(good, directions, jnp.nan), places)


def _spread(delta: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """Angles on the ellipse, even in its arc length between the extremes, which are among them; for each the extreme
    before it, and which part of the way to the next it lies on; and the places of the extremes."""
    t = jnp.linspace(0.0, 1.0, _TABLE)
    phi = 2 * jnp.pi * t.astype(delta.dtype)
    speed = jnp.sqrt(jnp.sin(phi) ** 2 + jnp.sin(phi - delta) ** 2)
    length = jnp.concatenate([jnp.zeros(1, delta.dtype), jnp.cumsum(0.5 * (speed[1:] + speed[:-1]))])
    length = length / length[-1]
    arc = jnp.interp(delta, phi, length)  # from the right to the top; half the ellipse has two such arcs
    half = size // 2
    first = jnp.clip(jnp.round(size * arc), 1, half - 1)
    second = half + jnp.clip(jnp.round(size * arc), 1, size - half - 1)
    zero = 0.0 * delta
    places = jnp.stack([zero, first, zero + half, second])
    ends = jnp.concatenate([places, jnp.full(1, size, delta.dtype)])
    k = jnp.arange(size)
    before = jnp.searchsorted(ends, k.astype(delta.dtype), side="right") - 1
    part = (k - ends[before]) / (ends[before + 1] - ends[before])
    at = jnp.stack([zero, arc, zero + 0.5, 0.5 + arc, zero + 1.0])
    along = at[before] + part * (at[before + 1] - at[before])
    return jnp.interp(along, length, phi), part, before, places.astype(int)


@jit
def _joined(
    found: Found, fans: Fan, extremes: Extremes, inside: Bool[Array, " c"], index: Int[Array, "2"]
) -> tuple[Found, Bool[Array, " c"]]:
    """The crossings with the extremes put in, and whether the rays towards those met them first."""

    def one(found: Found, fan: Fan, extremes: Extremes, inside: Array) -> tuple[Found, Array]:
        at = fan.places
        corners = extremes.x[:, index]
        half = 0.5 * (jnp.nanmax(corners, axis=0) - jnp.nanmin(corners, axis=0))
        aimed = _norm(fan.directions[at] / half)
        reached = _norm((found.x[at][:, index] - fan.base[index]) / half)
        # an extreme point is flat: along the contour it is known to the root of the precision
        same = max(_SAME, 30 * float(jnp.finfo(aimed.dtype).eps) ** 0.5)
        known = extremes.status <= int(Side.AT_LIMIT)
        met = ~known | ((found.status[at] <= int(Side.AT_LIMIT)) & (jnp.abs(reached - aimed) <= same * aimed))
        # where an extreme is not known, neither is whether the ray that was sent to it ends at one
        x = found.x.at[at].set(extremes.x)
        status = found.status.at[at].set(jnp.where(known, extremes.status, int(Side.FAILED)))
        good = status <= int(Side.AT_LIMIT)
        pair = good & jnp.roll(good, -1)
        gaps = jnp.where(pair, _norm((jnp.roll(x, -1, axis=0) - x)[:, index] / half), 0.0)
        whole = jnp.max(gaps) * jnp.sum(pair) <= _GAP * jnp.sum(gaps)
        # without all of the extremes it cannot be walked along: each ray says what it found
        return found._replace(x=x, status=status), ~jnp.all(known) | (inside & jnp.all(met) & whole)

    return jax.vmap(one)(found, fans, extremes, inside)


def _norm(v: Float[Array, "m 2"]) -> Float[Array, " m"]:
    return jnp.sqrt(jnp.sum(v**2, axis=-1))
