"""Crossings along many lines in the plane of two parameters, with the likelihood minimised over all others."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._host import flow, xp
from .._host.blocks import in_blocks
from .crossing import Aim, Found, Side, search
from .fitted import Fitted
from .minimum import Minimum, at_minimum
from .on_host import direct
from .retry import retry


class Lanes(NamedTuple):
    """Many searches: their starting points, directions and rises."""

    base: Float[Array, "m n"]
    direction: Float[Array, "m 2"]
    rise: Float[Array, " m"]


def look(fitted: Fitted, index: tuple[int, ...], lanes: Lanes, robust: bool = True) -> Found:
    """The crossings along many lines in the plane of two parameters. The initial guess is one `direction` away. If
    `robust`, those that the quick method does not find are searched by the robust one."""
    if not robust:
        return _search_lines(fitted, jnp.array(index), lanes, jnp.zeros(len(lanes.rise), bool), False)
    return retry(
        lambda fitted, lanes, skip, robust: _search_lines(fitted, jnp.array(index), lanes, skip, robust),
        fitted,
        lanes,
        lambda quick: (np.asarray(quick.status) == int(Side.FAILED)) & _are_finite(lanes.direction),
    )


def _are_finite(direction: Float[Array, "m 2"]) -> Bool[np.ndarray, " m"]:
    return np.all(np.isfinite(np.asarray(direction)), axis=1)


@direct
def _search_lines(
    fitted: Fitted,
    index: Int[Array, "2"],
    lanes: Lanes,
    skip: Bool[Array, " m"],
    robust: bool,
) -> Found:
    minimum = at_minimum(fitted)
    dtype = minimum.x.dtype
    rows = (xp.arange(minimum.x.size) == index[:, None]).astype(dtype)
    minimum = _with_both_variances(minimum, rows, lanes)

    def one(lane: Lanes, skip: Array) -> Found:
        direction = lane.direction.astype(dtype) @ rows
        is_usable = xp.all(xp.isfinite(lane.base)) & xp.all(xp.isfinite(direction)) & xp.any(direction != 0)
        base, direction = xp.where(is_usable, lane.base, minimum.x), xp.where(is_usable, direction, rows[0])
        aim = Aim(rows, base.astype(dtype), direction, xp.ones((), dtype), lane.rise.astype(dtype))
        return search(minimum, aim, skip | ~is_usable, robust)

    return in_blocks(one, (lanes, skip), minimum.x.size, with_matrices=robust)


def _with_both_variances(minimum: Minimum, rows: Array, lanes: Lanes) -> Minimum:
    """The minimum with a variance for both parameters: one at a bound has none, and gets that of its contour."""
    sizes = flow.stop_gradient(xp.nanmax(xp.abs(lanes.direction) / xp.sqrt(lanes.rise)[:, None], axis=0)) @ rows
    sizes = sizes.astype(minimum.covariance.dtype)
    has_no_variance = (xp.diagonal(minimum.covariance) == 0) & (sizes > 0)
    return minimum._replace(covariance=minimum.covariance + xp.diag(xp.where(has_no_variance, sizes**2, 0.0)))
