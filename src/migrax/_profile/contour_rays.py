"""Contours by rays: crossings along rays from a point within the contour, spread evenly along an ellipse.

The ellipse passes through the four points with the largest and smallest value of either parameter, as the contour of a
quadratic likelihood does. In units of the half widths it is (cos phi, cos(phi - delta)), where cos delta is the
correlation; its extreme points are at phi = 0, delta, pi, pi + delta.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._fit.result import FitResult
from .._host import flow
from .._host.hosted import hosted
from .crossing import Found, Side
from .crossing_lines import Lanes, look
from .fitted import Fitted
from .minimum import at_minimum
from .on_host import direct

_TABLE = 2000  # points in the table of the arc length
_SAME = 1e-3  # relative difference of two distances that count as equal
_GAP = 5.0  # times the mean distance of neighbours: a larger gap is a part of the contour that no ray meets
_MAX_CORRELATION = 0.9999  # of the ellipse


class Extremes(NamedTuple):
    """The points with the largest a, the largest b, the smallest a and the smallest b, for each of `c` levels."""

    x: Float[Array, "c 4 n"]
    status: Int[Array, "c 4"]
    rise: Float[Array, " c"]

    def at(self, i: int) -> "Extremes":
        """The extremes of level `i`."""
        return Extremes(self.x[i], self.status[i], self.rise[i])


class Fan(NamedTuple):
    """The rays of one contour: from `base`, a point of all parameters, along `directions` of the two."""

    base: Float[Array, " n"]
    directions: Float[Array, "m 2"]
    places: Int[Array, "4"]  # the indices of the rays towards the extremes


def rays(fitted: Fitted, index: tuple[int, ...], extremes: Extremes, size: int) -> tuple[Found, Bool[Array, " c"]]:
    """The crossings along the rays of all levels, shape `(c, size)`, and whether they show the whole contour, so that
    each ray meets it once. Rays that would begin outside the contour are not followed."""
    at = np.array(index)
    fans = _fans(_with_guesses(fitted.result, extremes, at), at, size)
    inside = _base_is_inside(fitted, fans.base, extremes.rise)
    crossings = look(fitted, index, _lanes(fans, inside, extremes.rise, size))
    return _with_extremes(crossings, fans, extremes, inside, at)


@hosted
def _lanes(fans: Fan, inside: Bool[Array, " c"], rise: Float[Array, " c"], size: int) -> Lanes:
    """The rays of all levels, `size` of each; NaN for those that would begin outside."""
    directions = jnp.where(inside[:, None, None], fans.directions, jnp.nan)
    c, n = fans.base.shape
    base = jnp.broadcast_to(fans.base[:, None], (c, size, n)).reshape(-1, n)
    return Lanes(base, directions.reshape(-1, 2), jnp.repeat(rise, size))


@hosted
def _with_guesses(result: FitResult, extremes: Extremes, index: Int[np.ndarray, "2"]) -> Extremes:
    """The extremes, with those of the covariance ellipse in place of extremes that were not found, so that the rays can
    be defined."""
    assert result.covariance is not None
    v, sigma = result.covariance.matrix[index], result.errors[index]
    unit_shifts = v / jnp.where(sigma > 0, sigma, jnp.nan)[:, None]
    guess = result.values + jnp.sqrt(extremes.rise)[:, None, None] * jnp.concatenate([unit_shifts, -unit_shifts])
    failed = extremes.status > int(Side.AT_LIMIT)
    x = jnp.where(failed[..., None], jnp.clip(guess, result.lower, result.upper), extremes.x)
    return extremes._replace(x=x, status=jnp.where(failed, int(Side.FOUND), extremes.status))


@direct
def _base_is_inside(fitted: Fitted, base: Float[Array, "c n"], rise: Float[Array, " c"]) -> Bool[Array, " c"]:
    """Whether the rays begin within the contour, where the likelihood has risen by less than `rise`."""
    minimum = at_minimum(fitted)
    value = flow.each(lambda x: minimum.fn(x, minimum.theta), base) - minimum.fn(minimum.x, minimum.theta)
    return 2 * value < rise


@hosted
def _fans(extremes: Extremes, index: Int[np.ndarray, "2"], size: int) -> Fan:
    return jax.vmap(lambda x, status: _fan(x, status, index, size))(extremes.x, extremes.status)


def _fan(x: Float[Array, "4 n"], status: Int[Array, "4"], index: Int[np.ndarray, "2"], size: int) -> Fan:
    corners = x[:, index]
    right, top, left, bottom = corners
    centre = 0.5 * jnp.stack([right[0] + left[0], top[1] + bottom[1]])
    half_widths = 0.5 * jnp.stack([right[0] - left[0], top[1] - bottom[1]])
    u = (corners - centre) / half_widths
    correlation = jnp.clip(0.25 * (u[0, 1] + u[1, 0] - u[2, 1] - u[3, 0]), -_MAX_CORRELATION, _MAX_CORRELATION)
    delta = jnp.arccos(correlation)
    phi, fraction, previous, places = _ray_angles(delta, size)
    ellipse = lambda phi: jnp.stack([jnp.cos(phi), jnp.cos(phi - delta)], axis=-1)  # noqa: E731
    offsets = u - ellipse(jnp.stack([0.0 * delta, delta, 0.0 * delta + jnp.pi, jnp.pi + delta]))
    # the ellipse is deformed so that it passes through the four extremes
    deformed = (
        ellipse(phi) + (1 - fraction)[:, None] * offsets[previous] + fraction[:, None] * offsets[(previous + 1) % 4]
    )
    base = jnp.mean(x, axis=0)
    all_known = jnp.all(status <= int(Side.AT_LIMIT))
    directions = (deformed * half_widths + centre) - base[index]
    return Fan(base, jnp.where(all_known, directions, jnp.nan), places)


def _ray_angles(delta: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """Angles on the ellipse, including those of the extremes and evenly spaced in arc length between them; for each,
    the extreme before it and the fraction of the way to the next one; and the indices of the extremes."""
    t = jnp.linspace(0.0, 1.0, _TABLE)
    phi = 2 * jnp.pi * t.astype(delta.dtype)
    speed = jnp.sqrt(jnp.sin(phi) ** 2 + jnp.sin(phi - delta) ** 2)
    length = jnp.concatenate([jnp.zeros(1, delta.dtype), jnp.cumsum(0.5 * (speed[1:] + speed[:-1]))])
    length = length / length[-1]
    arc = jnp.interp(delta, phi, length)  # from the right to the top, as a fraction of the ellipse
    half_size = size // 2
    first = jnp.clip(jnp.round(size * arc), 1, half_size - 1)
    second = half_size + jnp.clip(jnp.round(size * arc), 1, size - half_size - 1)
    zero = 0.0 * delta
    places = jnp.stack([zero, first, zero + half_size, second])
    ends = jnp.concatenate([places, jnp.full(1, size, delta.dtype)])
    k = jnp.arange(size)
    previous = jnp.searchsorted(ends, k.astype(delta.dtype), side="right") - 1
    fraction = (k - ends[previous]) / (ends[previous + 1] - ends[previous])
    at = jnp.stack([zero, arc, zero + 0.5, 0.5 + arc, zero + 1.0])
    along = at[previous] + fraction * (at[previous + 1] - at[previous])
    return jnp.interp(along, length, phi), fraction, previous, places.astype(int)


@hosted
def _with_extremes(
    flat_crossings: Found, fans: Fan, extremes: Extremes, inside: Bool[Array, " c"], index: Int[np.ndarray, "2"]
) -> tuple[Found, Bool[Array, " c"]]:
    """The crossings, of each level in a row, with the extremes inserted, and whether they are the whole contour: each
    ray towards an extreme meets the contour first there, and no gap is too wide."""

    def one(crossings: Found, fan: Fan, extremes: Extremes, inside: Array) -> tuple[Found, Array]:
        places = fan.places
        corners = extremes.x[:, index]
        half_widths = 0.5 * (jnp.nanmax(corners, axis=0) - jnp.nanmin(corners, axis=0))
        expected = _norm(fan.directions[places] / half_widths)
        reached = _norm((crossings.x[places][:, index] - fan.base[index]) / half_widths)
        # At an extreme point the contour is flat: along it the point is known to the root of the precision.
        same = max(_SAME, 30 * float(jnp.finfo(expected.dtype).eps) ** 0.5)
        is_known = extremes.status <= int(Side.AT_LIMIT)
        is_met_first = ~is_known | (
            (crossings.status[places] <= int(Side.AT_LIMIT)) & (jnp.abs(reached - expected) <= same * expected)
        )
        # Where an extreme is not known, it is not known either whether the ray towards it ends at one.
        x = crossings.x.at[places].set(extremes.x)
        status = crossings.status.at[places].set(jnp.where(is_known, extremes.status, int(Side.FAILED)))
        is_valid = status <= int(Side.AT_LIMIT)
        pair = is_valid & jnp.roll(is_valid, -1)
        gaps = jnp.where(pair, _norm((jnp.roll(x, -1, axis=0) - x)[:, index] / half_widths), 0.0)
        gapless = jnp.max(gaps) * jnp.sum(pair) <= _GAP * jnp.sum(gaps)
        # A contour cannot be walked along without all its extremes: then each ray keeps its own status.
        return crossings._replace(x=x, status=status), ~jnp.all(is_known) | (inside & jnp.all(is_met_first) & gapless)

    c = inside.shape[0]
    crossings = jax.tree.map(lambda a: a.reshape(c, -1, *a.shape[1:]), flat_crossings)
    return jax.vmap(one)(crossings, fans, extremes, inside)


def _norm(v: Float[Array, "m 2"]) -> Float[Array, " m"]:
    return jnp.sqrt(jnp.sum(v**2, axis=-1))
