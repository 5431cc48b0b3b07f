"""Does a density integrate to 1? Looked at where the events are, which is all that is known of its range."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._disk import OnDisk
from .._jit import jit
from .._parameter import is_concrete
from .._typing import PyTree
from ..distributions import _foreign
from ..distributions._panels import Axis, integral_with_error
from .events import Events, as_chunk, filled

Density = Callable[[Any, Array], Array]
Distribution = Callable[[Any], Any] | None
Total = Callable[[Any], Array] | None

_LOOKED_AT = 1000  # events, between whose quantiles the panels lie
_PANELS, _NODES = {1: 32, 2: 8}, {1: 12, 2: 8}
_TOO_LARGE = 1e-3  # of the integral: above 1 by more
_MOST = 0.8  # of a density's integral is where the events are
_TOO_SMALL = 0.01  # below 1 by more, and
_UNLIKELY = 25.0  # minus the log of the probability that all events are inside by chance


def complaints_of(
    log_density: Density, distribution: Distribution, total: Total, params: PyTree, data: Any, what: str
) -> list[str]:
    """Sentences for the user: of weights that add up to less than 0, of a distribution that is not sure of its own
    normalisation (`mx.distributions.Normalized`), and if the integral of exp(log_density) over the range of the events
    is more than `total(params)` (1 if `None`), or if so much of it is missing that the events could not all be in it.

    Nothing is said of more than two observables, where something is traced, or where the integral is not precise
    (steps, a peak that none of the events is in). Of data on disk the first chunk is looked at.
    """
    if not is_concrete(*jax.tree.leaves((params, data))):
        return []
    if isinstance(data, OnDisk):
        rows, counted = data.chunk(jnp.array(0))  # filled up to the size of the others
        events = as_chunk(rows, what)
        events = filled(Events(events.x, events.weight, counted))
    else:
        events = as_chunk(data, what)
    found = []
    if events.weight is not None and not isinstance(data, OnDisk) and float(events.total) < 0:
        found.append(f"the weights of the events add up to {float(events.total):.6g}: there is no minimum to speak of")
    if distribution is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            distribution(params)  # which looks at itself, as the parameters are numbers here
        found += [f"{warning.message} (at the fitted parameters)" for warning in caught]
    sentence = _not_normalised(log_density, distribution, total, params, events)
    return found if sentence is None else [*found, sentence]


def _not_normalised(
    log_density: Density, distribution: Distribution, total: Total, params: PyTree, events: Events
) -> str | None:
    dim = int(np.prod(events.x.shape[1:], dtype=int))
    if dim > 2 or events.size < 2:
        return None
    looked = _integral(log_density, distribution, total, params, events)
    integral, error, expected, low, high, n, positive = (np.asarray(a) for a in looked)
    if not (np.isfinite(expected) and expected > 0) or np.isnan(integral) or np.any(low >= high):
        return None  # the fit says that something is not finite
    missing = 1 - integral / expected
    precise = 10 * error
    too_large = missing < -(_TOO_LARGE + precise)
    too_small = missing > _TOO_SMALL + precise and missing * n > _UNLIKELY and bool(positive)
    if not (too_large or too_small):
        return None
    wanted = "1" if total is None else f"the total of {expected:.6g}"
    where = " x ".join(f"[{a:.6g}, {b:.6g}]" for a, b in zip(np.atleast_1d(low), np.atleast_1d(high), strict=True))
    found = f"its integral over {where}, where all events are, is {integral:.6g} at the fitted parameters"
    if too_large:
        itself = total is None and distribution is None and float(_own_integral(log_density, params, events)) > _MOST
        hint = "Is this the density? Its logarithm is to be returned. " if itself else ""
        return (
            f"the density is not normalised: {found}, more than {wanted}. {hint}Values and errors of the fit are "
            "wrong. The distributions of mx.distributions are normalised; mx.distributions.Normalized integrates your "
            "own density"
        )
    return (
        f"is the density normalised? {found}, not {wanted}. If events are accepted in this range only, it must be "
        f"{wanted} there, or values and errors of the fit are wrong: see mx.distributions.Truncated and Normalized. "
        "If not, this density does not describe the events"
    )


@jit
def _integral(
    log_density: Density, distribution: Distribution, total: Total, params: PyTree, events: Events
) -> tuple[Array, ...]:
    """The integral, its relative error, what it should be, the range, how many events are in it, and whether none has a
    negative weight."""
    x = events.x if events.x.ndim == 2 else events.x[:, None]
    low, high = jnp.min(x, axis=0), jnp.max(x, axis=0)
    expected = jnp.asarray(1.0 if total is None else total(params), x.dtype)
    known = None if distribution is None or events.x.ndim == 2 else _known(distribution(params), low[0], high[0])
    if known is None:
        log_integral, error = _by_panels(lambda point: log_density(params, point), events.x, low, high)
    else:
        log_integral, error = known + jnp.log(expected), jnp.zeros((), x.dtype)
    n = jnp.asarray(x.shape[0]) if events.mask is None else jnp.sum(events.mask)
    positive = jnp.array(True) if events.weight is None else jnp.all(events.weight >= 0)
    return jnp.exp(log_integral), error, expected, jnp.squeeze(low), jnp.squeeze(high), n, positive


@jit
def _own_integral(log_density: Density, params: PyTree, events: Events) -> Array:
    """The integral of what should be the log of the density, 0 where it is more than a density's can be."""
    x = events.x if events.x.ndim == 2 else events.x[:, None]
    low, high = jnp.min(x, axis=0), jnp.max(x, axis=0)
    log, _ = _by_panels(lambda p: jnp.log(jnp.maximum(log_density(params, p), 0.0)), events.x, low, high)
    return jnp.where(log < jnp.log1p(_TOO_LARGE), jnp.exp(log), 0.0)


def _known(d: Any, low: Array, high: Array) -> Array | None:
    """The log of the probability between two points, where the distribution and all that it is made of know it."""
    try:
        return _foreign.log_integral(d, low, high, "the distribution")
    except TypeError:
        return None


def _by_panels(density: Callable[[Array], Array], x: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The log of the integral and its error, by panels between quantiles of the events."""
    columns = x if x.ndim == 2 else x[:, None]
    some = jnp.sort(columns[:: -(-x.shape[0] // _LOOKED_AT)], axis=0)
    dim = columns.shape[1]
    between = jnp.linspace(0, some.shape[0] - 1, _PANELS[dim] + 1)[1:-1].astype(int)
    axes = [Axis(low[i], high[i], tuple(some[between, i]), 1) for i in range(dim)]
    one_column = x.ndim == 2 and dim == 1
    return integral_with_error(lambda p: density(p[None, None] if one_column else p[None])[0], axes, _NODES[dim])
