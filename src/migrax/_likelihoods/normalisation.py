"""Does a user's density integrate to 1? Looked at where the events are, which is all that is known of its range."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._jit import jit
from .._parameter import is_concrete
from ..distributions._panels import Axis, integral_with_error
from .events import Events

_LOOKED_AT = 1000  # events, between whose quantiles the panels lie
_PANELS, _NODES = {1: 32, 2: 8}, {1: 12, 2: 8}
_TOO_LARGE = 1e-3  # of the integral: above 1 by more
_TOO_SMALL = 0.01  # below 1 by more, and
_UNLIKELY = 25.0  # minus the log of the probability that all events are inside by chance


def not_normalised(
    log_density: Callable[[Any, Array], Array],
    total: Callable[[Any], Array] | None,
    params: PyTree,
    events: Events,
) -> str | None:
    """A sentence for the user if the integral of exp(log_density) over the range of the events is more than
    `total(params)` (1 if `None`), or if so much of it is missing that the events could not all be in this range.

    Nothing is said of events of more than two observables, where something is traced, or where the integral is not
    precise (steps, a peak that none of the events is in).
    """
    dim = int(np.prod(events.x.shape[1:], dtype=int))
    if dim > 2 or events.size < 2 or not is_concrete(*jax.tree.leaves((params, events))):
        return None
    found = _integral(log_density, total, params, events)
    integral, error, expected, low, high, n = (np.asarray(a) for a in found)
    if not (np.isfinite(expected) and expected > 0) or np.isnan(integral) or np.any(low >= high):
        return None  # the fit says that something is not finite
    missing = 1 - integral / expected
    precise = 10 * error
    too_large = missing < -(_TOO_LARGE + precise)
    too_small = missing > _TOO_SMALL + precise and missing * n > _UNLIKELY and events.weight is None
    if not (too_large or too_small):
        return None
    what = "log_prob" if total is None else "log_density"
    wanted = "1" if total is None else f"total(params) = {expected:.6g}"
    where = " x ".join(f"[{a:.6g}, {b:.6g}]" for a, b in zip(np.atleast_1d(low), np.atleast_1d(high), strict=True))
    found = (
        f"the integral of exp({what}) over {where}, where all events are, is {integral:.6g} at the fitted parameters"
    )
    if too_large:
        return (
            f"the density is not normalised: {found}, more than {wanted}. Values and errors of the fit are wrong. The "
            "distributions of mx.distributions are normalised; mx.distributions.Normalized integrates your own density"
        )
    return (
        f"is the density normalised? {found}, not {wanted}. If events are accepted in this range only, it must be "
        f"{wanted} there, or values and errors of the fit are wrong: see mx.distributions.Truncated and Normalized. "
        "If not, this density does not describe the events"
    )


@jit
def _integral(
    log_density: Callable[[Any, Array], Array],
    total: Callable[[Any], Array] | None,
    params: PyTree,
    events: Events,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The integral, its relative error, what it should be, the range, and how many events are in it."""
    x = events.x if events.x.ndim == 2 else events.x[:, None]
    low, high = jnp.min(x, axis=0), jnp.max(x, axis=0)
    some = jnp.sort(x[:: -(-x.shape[0] // _LOOKED_AT)], axis=0)
    dim = x.shape[1]
    between = jnp.linspace(0, some.shape[0] - 1, _PANELS[dim] + 1)[1:-1].astype(int)
    axes = [Axis(low[i], high[i], tuple(some[between, i]), 1) for i in range(dim)]
    flat = events.x.ndim == 1

    def density(point: Array) -> Array:
        return log_density(params, point[None] if flat or dim > 1 else point[None, None])[0]

    log_integral, error = integral_with_error(density, axes, _NODES[dim])
    expected = jnp.asarray(1.0 if total is None else total(params), log_integral.dtype)
    n = jnp.asarray(x.shape[0]) if events.mask is None else jnp.sum(events.mask)
    return jnp.exp(log_integral), error, expected, jnp.squeeze(low), jnp.squeeze(high), n
