"""Crossings along many lines in the plane of two parameters, all others minimised."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._util.blocks import in_blocks
from .._util.jit import jit
from .crossing import Aim, Found, Side, search
from .fitted import Fitted
from .minimum import Minimum, at_minimum
from .retry import retry


class Lanes(NamedTuple):
    """Many searches: from where, which way, and to which rise."""

    base: Float[Array, "m n"]
    direction: Float[Array, "m 2"]
    rise: Float[Array, " m"]


def look(fitted: Fitted, index: tuple[int, ...], lanes: Lanes, robust: bool = True) -> Found:
    """The crossings along many lines in the plane of two parameters; the first guess is one `direction` away. Those
    that are not found the quick way are looked for surely, if `robust`."""
    if not robust:
        return _look(fitted, jnp.array(index), lanes, jnp.zeros(len(lanes.rise), bool), False)
    return retry(
        lambda fitted, lanes, skip, robust: _look(fitted, jnp.array(index), lanes, skip, robust),
        fitted,
        lanes,
        lambda found: (np.asarray(found.status) == int(Side.FAILED)) & np.all(np.isfinite(lanes.direction), axis=1),
    )


@jit
def _look(
    fitted: Fitted,
    index: Int[Array, "2"],
    lanes: Lanes,
    skip: Bool[Array, " m"],
    robust: bool,
) -> Found:
    minimum = at_minimum(fitted)
    dtype = minimum.x.dtype
    rows = (jnp.arange(minimum.x.size) == index[:, None]).astype(dtype)
    minimum = _both_move(minimum, rows, lanes)

    def one(lane: Lanes, skip: Array) -> Found:
        direction = lane.direction.astype(dtype) @ rows
        usable = jnp.all(jnp.isfinite(lane.base)) & jnp.all(jnp.isfinite(direction)) & jnp.any(direction != 0)
        base, direction = jnp.where(usable, lane.base, minimum.x), jnp.where(usable, direction, rows[0])
        aim = Aim(rows, base.astype(dtype), direction, jnp.ones((), dtype), lane.rise.astype(dtype))
        return search(minimum, aim, skip | ~usable, robust)

    return in_blocks(one, (lanes, skip), minimum.x.size)


def _both_move(minimum: Minimum, rows: Array, lanes: Lanes) -> Minimum:
    """One of the two that is at a bound at the minimum has no variance there: that of its contour is taken."""
    size = jax.lax.stop_gradient(jnp.nanmax(jnp.abs(lanes.direction) / jnp.sqrt(lanes.rise)[:, None], axis=0)) @ rows
    size = size.astype(minimum.covariance.dtype)
    none = (jnp.diagonal(minimum.covariance) == 0) & (size > 0)
    return minimum._replace(covariance=minimum.covariance + jnp.diag(jnp.where(none, size**2, 0.0)))
