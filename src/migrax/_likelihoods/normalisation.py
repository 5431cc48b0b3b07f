"""Does a density integrate to 1? Over the range that the user says, or where the events are."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._util.jit import jit
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from ..distributions import _foreign
from ..distributions._panels import Axis, integral_with_error
from ..distributions._quadrature import log_sum
from .event_range import EventRange, pieces_of
from .occupied import Occupied, occupied, outside, unusual

Distribution = Callable[[Any], Any] | None

_LOOKED_AT = 1000  # events, between whose quantiles the panels lie
_PANELS, _NODES, _PIECES = {1: 32, 2: 8}, {1: 12, 2: 8}, {1: 17, 2: 5}
_CELLS = 4  # along each of two observables, in which the integral is compared with the events
_TOO_LARGE = 1e-3  # of the integral: above 1 by more
_MOST = 0.8  # of a density's integral is where the events are
_TOO_SMALL = 0.01  # below 1 by more, and
_UNLIKELY = 25.0  # minus the log of the probability that all events are inside by chance


class Density(NamedTuple):
    """What is looked at: the log of the density of each event, what it is made of, and what it integrates to."""

    log: Callable[[Any, Array], Array]
    distribution: Distribution
    total: Callable[[Any], Array] | None  # `None`: 1
    range: EventRange | None


def complaints_of(density: Density, params: PyTree, data: Any, what: str) -> list[str]:
    """Sentences for the user: of weights that add up to less than 0, of a distribution that is not sure of its own
    normalisation (`mx.distributions.Normalized`), of events outside the range that the user says, and of an integral
    over this range that is not `total(params)` (1 if `None`).

    Where no range is said, only the events tell of it. From the least to the largest of them, without the gaps where
    many are expected and none is, an integral of more than the total is wrong whatever the range. One of so much less
    that the events could not all be there is asked about.

    Nothing is said of more than two observables, where something is traced, or where the integral is not precise
    (steps, a peak that none of the events is in).
    """
    if not is_concrete(*jax.tree.leaves((params, data, density.range))):
        return []
    events = occupied(data, what)
    dim, found = events.some.shape[1], []
    if events.total < 0:
        found.append(f"the weights of the events add up to {events.total:.6g}: there is no minimum to speak of")
    if density.distribution is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            density.distribution(params)  # which looks at itself, as the parameters are numbers here
        found += [f"{warning.message} (at the fitted parameters)" for warning in caught]
    if events.rows and density.range is not None:
        pieces = pieces_of(density.range, dim)
        if n := outside(data, what, pieces):
            found.append(f"{n} of {events.rows} events are outside of the range {_words(pieces)}")
    if events.rows < 2 or dim > 2 or not np.all(np.isfinite(events.low) & np.isfinite(events.high)):
        return found
    if density.range is None:
        return [*found, *_over_events(density, params, events)]
    return [*found, *_over_range(density, params, events, pieces_of(density.range, dim))]


class _Measured(NamedTuple):
    """The integral over some pieces, its relative error, and what it should be."""

    integral: float
    error: float
    expected: float

    @property
    def missing(self) -> float:
        return 1 - self.integral / self.expected

    @property
    def sensible(self) -> bool:
        """Otherwise the fit says that something is not finite."""
        return bool(np.isfinite(self.expected) and self.expected > 0 and not np.isnan(self.integral))


def _over_range(density: Density, params: PyTree, events: Occupied, pieces: list[np.ndarray]) -> list[str]:
    """What is wrong for sure, as the range is known."""
    if not _has_integral(density, params, events) and not all(np.all(np.isfinite(some)) for some in pieces):
        return _over_events(density, params, events)  # the panels do not reach to infinity
    looked = _measure(density, params, events, pieces)
    if not looked.sensible:
        return []
    precise = 10 * looked.error
    if -_TOO_LARGE - precise <= looked.missing <= _TOO_SMALL + precise:
        return []
    wanted = _wanted(density, looked)
    more = f"more than {wanted}" if looked.missing < 0 else f"not {wanted}"
    return [
        f"the density is not normalised: its integral over the range {_words(pieces)} is {looked.integral:.6g} at the "
        f"fitted parameters, {more}. {_hint(density, params, events, pieces, looked)}Values and errors of the fit are "
        "wrong. mx.distributions.Truncated cuts a density to ranges; mx.distributions.Normalized integrates your own"
    ]


def _over_events(density: Density, params: PyTree, events: Occupied) -> list[str]:
    """What the events alone tell."""
    whole = [np.array([[low, high]]) for low, high in zip(events.low, events.high, strict=True)]
    if np.any(events.low >= events.high):
        return []
    looked = _measure(density, params, events, whole)
    if not looked.sensible:
        return []
    pieces, inside = _without_gaps(density, params, events, whole, max(looked.integral, looked.expected))
    if inside:
        looked = _measure(density, params, events, pieces)
    precise = 10 * looked.error
    if looked.missing < -(_TOO_LARGE + precise):
        sure = not events.too_many and (len(whole) == 1 or _everywhere(density, params, events))
        return [_too_large(density, params, events, pieces, looked)] if sure else []
    unlikely = looked.missing * events.number > _UNLIKELY
    if looked.missing > _TOO_SMALL + precise and unlikely and events.positive:
        return [_too_small(density, looked, pieces, inside)]
    return []


def _too_large(density: Density, params: PyTree, events: Occupied, pieces: list[np.ndarray], looked: _Measured) -> str:
    return (
        f"the density is not normalised: its integral over {_words(pieces)}, where all events are, is "
        f"{looked.integral:.6g} at the fitted parameters, more than {_wanted(density, looked)}. "
        f"{_hint(density, params, events, pieces, looked)}Values and errors of the fit are wrong. The distributions of "
        "mx.distributions are normalised; mx.distributions.Normalized integrates your own density"
    )


def _too_small(density: Density, looked: _Measured, pieces: list[np.ndarray], inside: float) -> str:
    wanted = _wanted(density, looked)
    empty = f" (between these {inside:.4g} events are expected and none is there)" if inside else ""
    only = "these ranges" if inside else "this range"
    say = "range=[(low, high), ...]" if inside else "range=(low, high)"
    return (
        f"is the density normalised? its integral over {_words(pieces)}, where all events are{empty}, is "
        f"{looked.integral:.6g} at the fitted parameters, not {wanted}. If events are accepted in {only} only, it must "
        f"be {wanted} there, or values and errors of the fit are wrong: see mx.distributions.Truncated and Normalized. "
        f"If they are accepted elsewhere, too, say where: {say}. If not, this density does not describe the events"
    )


def _wanted(density: Density, looked: _Measured) -> str:
    return "1" if density.total is None else f"the total of {looked.expected:.6g}"


def _hint(density: Density, params: PyTree, events: Occupied, pieces: list[np.ndarray], looked: _Measured) -> str:
    if looked.missing > 0 or density.total is not None or density.distribution is not None:
        return ""
    inner, padded = _panels(events, pieces)
    own = float(_own_integral(density.log, params, inner, padded, events.flat))
    return "Is this the density? Its logarithm is to be returned. " if own > _MOST else ""


def _words(pieces: list[np.ndarray]) -> str:
    return " x ".join(
        (" and " if len(some) == 2 else ", ").join(f"[{low:.6g}, {high:.6g}]" for low, high in some)
        if len(pieces) == 1 or len(some) == 1
        else "(" + ", ".join(f"[{low:.6g}, {high:.6g}]" for low, high in some) + ")"
        for some in pieces
    )


def _without_gaps(
    density: Density, params: PyTree, events: Occupied, whole: list[np.ndarray], integral: float
) -> tuple[list[np.ndarray], float]:
    """The pieces that are left without the gaps where so many events are expected that chance does not explain that
    none is there, and how many that are."""
    pieces, inside = [], 0.0
    for i, gaps in enumerate(events.gaps):
        ends = [whole[i][0, 0]]
        for gap in gaps:
            looked = _measure(density, params, events, [*whole[:i], gap[None], *whole[i + 1 :]])
            expected = events.number * looked.integral / integral
            if expected > unusual(events.number):
                inside += expected
                ends += [gap[0], gap[1]]
        pieces.append(np.reshape([*ends, whole[i][0, 1]], (-1, 2)))
    return pieces, inside


def _everywhere(density: Density, params: PyTree, events: Occupied) -> bool:
    """Whether more events than there are expected in most of the cells of a plane. Events may be accepted in any part
    of it, where the integral over a box around them says nothing."""
    edges = [np.quantile(column, np.linspace(0, 1, _CELLS + 1)) for column in events.some.T]
    counts, *_ = np.histogramdd(events.some, edges)
    ratios = []
    for cell in np.ndindex(_CELLS, _CELLS):
        n = counts[cell] * events.number / events.some.shape[0]
        box = [np.array([[e[k], e[k + 1]]]) for e, k in zip(edges, cell, strict=True)]
        if n > 0 and all(side[0, 0] < side[0, 1] for side in box):
            looked = _measure(density, params, events, box)
            ratios.append(events.number * looked.integral / looked.expected / n)
    return bool(np.quantile(ratios, 0.25) > 1) if ratios else False


def _measure(density: Density, params: PyTree, events: Occupied, pieces: list[np.ndarray]) -> _Measured:
    inner, padded = _panels(events, pieces)
    log_integral, error, expected = (np.asarray(a) for a in _integral(density, params, inner, padded, events.flat))
    return _Measured(float(np.exp(log_integral)) * float(expected), float(error), float(expected))


def _panels(events: Occupied, pieces: list[np.ndarray]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Quantiles of the events, between which the panels lie, and the pieces filled up with empty ones to a number that
    is the same for most of what is looked at."""
    some = np.sort(events.some[:: -(-events.some.shape[0] // _LOOKED_AT)], axis=0)
    dim, dtype = some.shape[1], events.some.dtype
    between = np.linspace(0, some.shape[0] - 1, _PANELS[dim] + 1).astype(int)
    inner = tuple(jnp.asarray(some[between, i], dtype) for i in range(dim))
    padded = []
    for ends in pieces:
        missing = max(_PIECES[dim] - len(ends), 0)
        padded.append(jnp.asarray(np.concatenate([ends, np.full((missing, 2), ends[-1, 1])]), dtype))
    return inner, tuple(padded)


def _has_integral(density: Density, params: PyTree, events: Occupied) -> bool:
    if density.distribution is None or not events.flat:
        return False
    return _known(density.distribution(params), jnp.zeros(1), jnp.ones(1)) is not None


@jit
def _integral(
    density: Density, params: PyTree, inner: tuple[Array, ...], pieces: tuple[Array, ...], flat: bool
) -> tuple[Array, Array, Array]:
    """The log of the integral over what it should be, its relative error, and what it should be."""
    dtype = pieces[0].dtype
    expected = jnp.asarray(1.0 if density.total is None else density.total(params), dtype)
    if density.distribution is not None and flat:
        ends = pieces[0]
        known = _known(density.distribution(params), ends[:, 0], ends[:, 1])
        if known is not None:
            return log_sum(jnp.where(ends[:, 1] > ends[:, 0], known, -jnp.inf)), jnp.zeros((), dtype), expected
    log_integral, error = _by_panels(lambda x: density.log(params, x), inner, pieces, flat)
    return log_integral - jnp.log(expected), error, expected


@jit
def _own_integral(
    log: Callable, params: PyTree, inner: tuple[Array, ...], pieces: tuple[Array, ...], flat: bool
) -> Array:
    """The integral of what should be the log of the density, 0 where it is more than a density's can be."""
    logged, _ = _by_panels(lambda x: jnp.log(jnp.maximum(log(params, x), 0.0)), inner, pieces, flat)
    return jnp.where(logged < jnp.log1p(_TOO_LARGE), jnp.exp(logged), 0.0)


def _known(d: Any, low: Array, high: Array) -> Array | None:
    """The logs of the probabilities of intervals, where the distribution and all that it is made of know them."""
    try:
        return _foreign.log_integral(d, low, high, "the distribution")
    except TypeError:
        return None


def _by_panels(
    log_density: Callable[[Array], Array], inner: tuple[Array, ...], pieces: tuple[Array, ...], flat: bool
) -> tuple[Array, Array]:
    """The log of the integral over the pieces and its error, by panels that end where these do."""
    axes = [
        Axis(ends[0, 0], ends[-1, 1], jnp.concatenate([jnp.ravel(ends), some]), 1)
        for some, ends in zip(inner, pieces, strict=True)
    ]

    def cut(point: Array) -> Array:
        value = log_density(point[None] if flat or point.ndim else point[None, None])[0]
        for i, ends in enumerate(pieces):
            x = point[i] if point.ndim else point
            value = jnp.where(jnp.any((x >= ends[:, 0]) & (x <= ends[:, 1])), value, -jnp.inf)
        return value

    return integral_with_error(cut, axes, _NODES[len(axes)])
