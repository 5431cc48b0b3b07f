"""Checks of whether a density integrates to 1, over the range that the user gives, or where the events are."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._host.evaluated import evaluated
from .._util.logs import log, log1p
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .._util.unavailable import Unavailable
from ..distributions import _foreign
from ..distributions._panels import Axis, integral_with_error
from ..distributions._quadrature import log_sum
from .event_range import EventRange, pieces_of
from .occupied import Occupied, occupied, outside, unusual

Distribution = Callable[[Any], Any] | None

_MAX_EVENTS = 1000  # whose quantiles are the boundaries of the panels
_PANELS, _NODES, _PIECES = {1: 32, 2: 8}, {1: 12, 2: 8}, {1: 17, 2: 5}
_CELLS = 4  # along each of two observables, to compare the integral with the events
_MAX_EXCESS = 1e-3  # of the integral above 1, relative
_MIN_OWN_INTEGRAL = 0.8  # of a function that is the density, over the range of the events
_MAX_DEFICIT = 0.01  # of the integral below 1, relative, unless it is less significant than
_MIN_SIGNIFICANCE = 25.0  # minus the log of the probability that all events are inside by chance


class Density(NamedTuple):
    """The density to be checked: its log for each event, its distribution, and the expected integral."""

    log: Callable[[Any, Array], Array]
    distribution: Distribution
    total: Callable[[Any], Array] | None  # `None`: 1
    range: EventRange | None


def complaints_of(density: Density, params: PyTree, data: Any, what: str) -> list[str]:
    """Warnings for the user: of weights with a negative sum, of a distribution that is unsure of its own normalisation
    (`mx.distributions.Normalized`), of events outside the given range, and of an integral over this range that is not
    `total(params)` (1 if `None`).

    Without a given range, only the events indicate one. Over the interval from the smallest to the largest event,
    without gaps in which many events are expected and none is observed, an integral above the total is wrong for any
    range. An integral so far below it that the events could hardly all be inside is questioned.

    Nothing is reported for more than two observables, for traced values, or if the integral is not precise (steps, a
    peak that contains no event).
    """
    if not is_concrete(*jax.tree.leaves((params, data, density.range))):
        return []
    events = occupied(data, what)
    dim, messages = events.some.shape[1], []
    if events.total < 0:
        messages.append(f"the weights of the events add up to {events.total:.6g}: there is no minimum to speak of")
    if density.distribution is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            density.distribution(params)  # which checks itself, as the parameters are concrete here
        messages += [f"{warning.message} (at the fitted parameters)" for warning in caught]
    if events.rows and density.range is not None:
        pieces = pieces_of(density.range, dim)
        if n := outside(data, what, pieces):
            messages.append(f"{n} of {events.rows} events are outside of the range {_formatted(pieces)}")
    if events.rows < 2 or dim > 2 or not np.all(np.isfinite(events.low) & np.isfinite(events.high)):
        return messages
    if density.range is None:
        return [*messages, *_over_events(density, params, events)]
    return [*messages, *_over_range(density, params, events, pieces_of(density.range, dim))]


class _IntegralCheck(NamedTuple):
    """The integral over some pieces, its relative error, and its expected value."""

    integral: float
    error: float
    expected: float

    @property
    def deficit(self) -> float:
        return 1 - self.integral / self.expected

    @property
    def is_usable(self) -> bool:
        """Whether the two can be compared; if not, the fit itself reports what is not finite."""
        return bool(np.isfinite(self.expected) and self.expected > 0 and not np.isnan(self.integral))


def _over_range(density: Density, params: PyTree, events: Occupied, pieces: list[np.ndarray]) -> list[str]:
    """Compare the integral over the given range with its expected value."""
    if not all(np.all(np.isfinite(ranges)) for ranges in pieces) and not _has_integral(density, params, events):
        return _over_events(density, params, events)  # panels need finite boundaries
    check = _measure(density, params, events, pieces)
    if not check.is_usable:
        return []
    tolerance = 10 * check.error
    if -_MAX_EXCESS - tolerance <= check.deficit <= _MAX_DEFICIT + tolerance:
        return []
    target = _target(density, check)
    comparison = f"more than {target}" if check.deficit < 0 else f"not {target}"
    return [
        f"the density is not normalised: its integral over the range {_formatted(pieces)} is {check.integral:.6g} at "
        f"the fitted parameters, {comparison}. {_hint(density, params, events, pieces, check)}Values and errors of the "
        "fit are wrong. mx.distributions.Truncated cuts a density to ranges; mx.distributions.Normalized integrates "
        "your own"
    ]


def _over_events(density: Density, params: PyTree, events: Occupied) -> list[str]:
    """Compare the integral over the range of the events with its expected value."""
    full_range = [np.array([[low, high]]) for low, high in zip(events.low, events.high, strict=True)]
    if np.any(events.low >= events.high):
        return []
    check = _measure(density, params, events, full_range)
    if not check.is_usable:
        return []
    pieces, n_in_gaps = _without_gaps(density, params, events, full_range, max(check.integral, check.expected))
    if n_in_gaps:
        check = _measure(density, params, events, pieces)
    tolerance = 10 * check.error
    if check.deficit < -(_MAX_EXCESS + tolerance):
        is_certain = not events.too_many and (len(full_range) == 1 or _exceeds_in_most_cells(density, params, events))
        return [_too_large(density, params, events, pieces, check)] if is_certain else []
    is_significant = check.deficit * events.number > _MIN_SIGNIFICANCE
    if check.deficit > _MAX_DEFICIT + tolerance and is_significant and events.positive:
        return [_too_small(density, check, pieces, n_in_gaps)]
    return []


def _too_large(
    density: Density, params: PyTree, events: Occupied, pieces: list[np.ndarray], check: _IntegralCheck
) -> str:
    return (
        f"the density is not normalised: its integral over {_formatted(pieces)}, where all events are, is "
        f"{check.integral:.6g} at the fitted parameters, more than {_target(density, check)}. "
        f"{_hint(density, params, events, pieces, check)}Values and errors of the fit are wrong. The distributions of "
        "mx.distributions are normalised; mx.distributions.Normalized integrates your own density"
    )


def _too_small(density: Density, check: _IntegralCheck, pieces: list[np.ndarray], n_in_gaps: float) -> str:
    target = _target(density, check)
    empty = f" (between these {n_in_gaps:.4g} events are expected and none is there)" if n_in_gaps else ""
    these = "these ranges" if n_in_gaps else "this range"
    argument = "range=[(low, high), ...]" if n_in_gaps else "range=(low, high)"
    return (
        f"is the density normalised? its integral over {_formatted(pieces)}, where all events are{empty}, is "
        f"{check.integral:.6g} at the fitted parameters, not {target}. If events are accepted in {these} only, it must "
        f"be {target} there, or values and errors of the fit are wrong: see mx.distributions.Truncated and Normalized. "
        f"If they are accepted elsewhere, too, say where: {argument}. If not, this density does not describe the events"
    )


def _target(density: Density, check: _IntegralCheck) -> str:
    return "1" if density.total is None else f"the total of {check.expected:.6g}"


def _hint(density: Density, params: PyTree, events: Occupied, pieces: list[np.ndarray], check: _IntegralCheck) -> str:
    if check.deficit > 0 or density.total is not None or density.distribution is not None:
        return ""
    inner, padded = _panels(events, pieces)
    own_integral = float(_own_integral(density.log, params, inner, padded, events.flat))
    return "Is this the density? Its logarithm is to be returned. " if own_integral > _MIN_OWN_INTEGRAL else ""


def _formatted(pieces: list[np.ndarray]) -> str:
    return " x ".join(
        (" and " if len(ranges) == 2 else ", ").join(f"[{low:.6g}, {high:.6g}]" for low, high in ranges)
        if len(pieces) == 1 or len(ranges) == 1
        else "(" + ", ".join(f"[{low:.6g}, {high:.6g}]" for low, high in ranges) + ")"
        for ranges in pieces
    )


def _without_gaps(
    density: Density, params: PyTree, events: Occupied, full_range: list[np.ndarray], integral: float
) -> tuple[list[np.ndarray], float]:
    """Remove gaps in which the expected number of events is too large for none to be observed by chance. Returns the
    remaining pieces, and the number of events expected in the gaps."""
    pieces, n_in_gaps = [], 0.0
    for i, gaps in enumerate(events.gaps):
        ends = [full_range[i][0, 0]]
        for gap in gaps:
            check = _measure(density, params, events, [*full_range[:i], gap[None], *full_range[i + 1 :]])
            expected = events.number * check.integral / integral
            if expected > unusual(events.number):
                n_in_gaps += expected
                ends += [gap[0], gap[1]]
        pieces.append(np.reshape([*ends, full_range[i][0, 1]], (-1, 2)))
    return pieces, n_in_gaps


def _exceeds_in_most_cells(density: Density, params: PyTree, events: Occupied) -> bool:
    """Whether more events are expected than observed in most of the cells of a plane. Events may be accepted in any
    part of it, so that the integral over their bounding box proves nothing."""
    edges = [np.quantile(column, np.linspace(0, 1, _CELLS + 1)) for column in events.some.T]
    counts, *_ = np.histogramdd(events.some, edges)
    ratios = []
    for cell in np.ndindex(_CELLS, _CELLS):
        n = counts[cell] * events.number / events.some.shape[0]
        box = [np.array([[e[k], e[k + 1]]]) for e, k in zip(edges, cell, strict=True)]
        if n > 0 and all(side[0, 0] < side[0, 1] for side in box):
            check = _measure(density, params, events, box)
            ratios.append(events.number * check.integral / check.expected / n)
    return bool(np.quantile(ratios, 0.25) > 1) if ratios else False


def _measure(density: Density, params: PyTree, events: Occupied, pieces: list[np.ndarray]) -> _IntegralCheck:
    inner, padded = _panels(events, pieces)
    log_integral, error, expected = (np.asarray(a) for a in _integral(density, params, inner, padded, events.flat))
    return _IntegralCheck(float(np.exp(log_integral)) * float(expected), float(error), float(expected))


def _panels(events: Occupied, pieces: list[np.ndarray]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Quantiles of the events, which are boundaries of the panels, and the pieces padded with empty ones to a number
    that is the same in most cases."""
    chosen = np.sort(events.some[:: -(-events.some.shape[0] // _MAX_EVENTS)], axis=0)
    dim, dtype = chosen.shape[1], events.some.dtype
    indices = np.linspace(0, chosen.shape[0] - 1, _PANELS[dim] + 1).astype(int)
    inner = tuple(jnp.asarray(chosen[indices, i], dtype) for i in range(dim))
    padded = []
    for ends in pieces:
        n_missing = max(_PIECES[dim] - len(ends), 0)
        padded.append(jnp.asarray(np.concatenate([ends, np.full((n_missing, 2), ends[-1, 1])]), dtype))
    return inner, tuple(padded)


def _has_integral(density: Density, params: PyTree, events: Occupied) -> bool:
    of_params = density.distribution
    if of_params is None or not events.flat:
        return False
    # traced, as each operation on numbers would be a program of its own
    return jax.eval_shape(lambda: _log_probabilities(of_params(params), jnp.zeros(1), jnp.ones(1))) is not None


@evaluated
def _integral(
    density: Density, params: PyTree, inner: tuple[Array, ...], pieces: tuple[Array, ...], flat: bool
) -> tuple[Array, Array, Array]:
    """The log of the integral over its expected value, its relative error, and the expected value."""
    dtype = pieces[0].dtype
    expected = jnp.asarray(1.0 if density.total is None else density.total(params), dtype)
    if density.distribution is not None and flat:
        ends = pieces[0]
        log_probabilities = _log_probabilities(density.distribution(params), ends[:, 0], ends[:, 1])
        if log_probabilities is not None:
            return (
                log_sum(jnp.where(ends[:, 1] > ends[:, 0], log_probabilities, -jnp.inf)),
                jnp.zeros((), dtype),
                expected,
            )
    log_integral, error = _by_panels(lambda x: density.log(params, x), inner, pieces, flat)
    return log_integral - log(expected), error, expected


@evaluated
def _own_integral(
    function: Callable, params: PyTree, inner: tuple[Array, ...], pieces: tuple[Array, ...], flat: bool
) -> Array:
    """The integral of the function that should be a log density; 0 if it is more than a density's can be."""
    log_integral, _ = _by_panels(lambda x: log(jnp.maximum(function(params, x), 0.0)), inner, pieces, flat)
    return jnp.where(log_integral < log1p(_MAX_EXCESS), jnp.exp(log_integral), 0.0)


def _log_probabilities(d: Any, low: Array, high: Array) -> Array | None:
    """The logs of the probabilities of intervals; `None` unless the distribution and its components provide them."""
    try:
        return _foreign.log_integral(d, low, high, "the distribution")
    except Unavailable:
        return None


def _by_panels(
    log_density: Callable[[Array], Array], inner: tuple[Array, ...], pieces: tuple[Array, ...], flat: bool
) -> tuple[Array, Array]:
    """The log of the integral over the pieces and its error, by panels that end where the pieces do."""
    axes = [
        Axis(ends[0, 0], ends[-1, 1], jnp.concatenate([jnp.ravel(ends), quantiles]), 1)
        for quantiles, ends in zip(inner, pieces, strict=True)
    ]

    def truncated(point: Array) -> Array:
        value = log_density(point[None] if flat or point.ndim else point[None, None])[0]
        for i, ends in enumerate(pieces):
            x = point[i] if point.ndim else point
            value = jnp.where(jnp.any((x >= ends[:, 0]) & (x <= ends[:, 1])), value, -jnp.inf)
        return value

    return integral_with_error(truncated, axes, _NODES[len(axes)])
