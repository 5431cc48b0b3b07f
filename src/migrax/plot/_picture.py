"""The content of a picture of a fit: the data with their errors, and the model with its parts."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._hints.calls import given
from .._likelihoods import ExtendedUnbinnedNLL, LeastSquares, TemplateNLL, UnbinnedNLL
from .._likelihoods.base import AbstractJoint, as_likelihood
from .._likelihoods.counts import Counts, as_counts, count_pulls
from .._likelihoods.events import as_events
from .._parameters.names import unknown_name
from .._parameters.resolve import resolve
from .._util.typing import PyTree
from ..distributions import _foreign
from ..distributions._ranges import bin_ends
from ..io.histfactory.likelihood import HistFactory

_BINS = 50  # at most, by default
_CURVE = 400  # points of a curve
_MAX_SAMPLES = 9  # in a legend; of more, the smallest are drawn as one


class Picture(NamedTuple):
    """Points with errors; a curve through `at`, or steps over `edges`, which may be the sum of `samples`.

    Masked entries are NaN.
    """

    x: np.ndarray
    y: np.ndarray
    error: np.ndarray
    x_error: np.ndarray | None
    pulls: np.ndarray
    at: np.ndarray
    model: np.ndarray
    edges: np.ndarray | None
    samples: dict[str, np.ndarray]  # largest first
    coloured: tuple[str, ...]  # the names that share the colours: those of all channels, if they are few
    xlabel: str
    ylabel: str


def picture_of(nll: Any, params: PyTree, data: Any, edges: Any, part: Any) -> Picture:
    """The picture of a fit. **Raises:** `TypeError` for a likelihood that cannot be drawn, `ValueError` for an unknown
    or missing part, and edges that do not fit."""
    params = resolve(params)
    kind, nll = type(nll).__name__, as_likelihood(nll)
    if isinstance(nll, AbstractJoint):
        names = [name for name, _, _ in nll.items(data)]
        name = _chosen(part, names, "part")
        return picture_of(nll.parts[name], params, data[name], edges, None)
    if isinstance(nll, HistFactory):
        name = _chosen(part, list(nll.channels), "channel")
        channels = jax.tree.map(np.asarray, nll.expected(params))
        mu = np.sum(list(channels[name].values()), axis=0)
        pulls = np.asarray(nll.pulls(params, data)["main"][name])
        samples, coloured = _ranked(channels, name)
        return _of_counts(Counts(data["main"][name]), mu, pulls, samples, edges, coloured)
    if part is not None:
        raise ValueError(f"{type(nll).__name__} has no parts, got part={part!r}")
    if isinstance(nll, LeastSquares):
        return _of_points(nll, params, data, edges)
    if isinstance(nll, UnbinnedNLL | ExtendedUnbinnedNLL):
        return _of_events(nll, params, data, edges)
    if nll.prediction is None or nll.pulls is None or nll.is_constraint:
        raise TypeError(
            f"data_and_model draws counts (such as mx.PoissonNLL), mx.LeastSquares, unbinned events, and the parts of "
            f"a Joint, not {kind}"
        )
    counts = as_counts(data, type(nll).__name__)
    samples, coloured = _ranked({"": _templates(nll, params)}, "") if isinstance(nll, TemplateNLL) else ({}, ())
    mu, pulls = np.asarray(nll.prediction(params, data)), np.asarray(nll.pulls(params, data))
    mask = nll.mask
    if mask is not None:
        value = jnp.where(jnp.asarray(mask), counts.value, jnp.nan)
        counts = Counts(value, counts.variance)
    return _of_counts(counts, mu, pulls, samples, edges, coloured)


def _chosen(part: Any, names: list[Any], what: str) -> Any:
    listed = ", ".join(map(repr, names))
    if part is None and len(names) == 1:
        return names[0]
    if part is None:
        raise ValueError(f"one {what} is drawn at a time: part= one of {listed}")
    if part not in names:
        raise ValueError(unknown_name(part, tuple(map(str, names))) if isinstance(part, str) else f"part= is {listed}")
    return part


def _templates(nll: TemplateNLL, params: PyTree) -> dict[str, np.ndarray]:
    yields = nll.yields_of(params)
    contents = {}
    for name, component in nll.components.items():
        if isinstance(component, Counts):
            contents[name] = np.asarray(yields[name] * component.value / jnp.sum(component.value))
        else:
            contents[name] = np.asarray(component(params))
    shape = np.broadcast_shapes(*(values.shape for values in contents.values()))
    return {name: np.broadcast_to(values, shape) for name, values in contents.items()}


def _ranked(
    channels: Mapping[str, Mapping[str, np.ndarray]], name: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The samples of a channel, and the names that share the colours. A few samples are ordered and coloured by their
    sizes in all channels together, so that they look the same in each; many by their sizes in this channel."""
    sizes: dict[str, float] = {}
    for samples in channels.values():
        for sample, values in samples.items():
            sizes[sample] = sizes.get(sample, 0.0) + float(np.sum(values))
    channel = channels[name]
    if len(sizes) <= _MAX_SAMPLES:
        order = sorted(sizes, key=lambda sample: -sizes[sample])
        return {sample: channel[sample] for sample in order if sample in channel}, tuple(order)
    order = sorted(channel, key=lambda sample: -float(np.sum(channel[sample])))
    large, small = order[: _MAX_SAMPLES - 1], order[_MAX_SAMPLES - 1 :]
    if len(small) <= 1:
        return {sample: channel[sample] for sample in order}, tuple(order)
    merged = f"{len(small)} others"
    shown = {sample: channel[sample] for sample in large} | {
        merged: np.sum([channel[sample] for sample in small], axis=0)
    }
    return shown, tuple(shown)


def _of_counts(
    counts: Counts,
    mu: np.ndarray,
    pulls: np.ndarray,
    samples: dict[str, np.ndarray],
    edges: Any,
    coloured: tuple[str, ...] = (),
) -> Picture:
    n = np.asarray(counts.value, dtype=float)
    if n.ndim != 1:
        raise ValueError(f"data_and_model draws histograms with one axis, got counts of shape {n.shape}")
    is_numbered = edges is None
    bins, shown = _without_gaps(np.arange(n.size + 1) - 0.5 if is_numbered else edges, n.size)
    variance = n if counts.variance is None else np.asarray(counts.variance, dtype=float)
    error = np.sqrt(np.maximum(variance, 0.0))
    n, error, pulls, mu = (_with_gaps(a, shown) for a in (n, error, pulls, mu))
    samples = {name: _with_gaps(values, shown) for name, values in samples.items()}
    x = 0.5 * (bins[1:] + bins[:-1])
    return Picture(
        x, n, error, None, pulls, x, mu, bins, samples, coloured, "Bin" if is_numbered else "", "Events / bin"
    )


def _without_gaps(edges: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The edges of adjacent bins, with the gaps between the given ones as bins, and which of them are given."""
    edges = np.asarray(edges, dtype=float)
    rows = edges.ndim == 2 and edges.shape == (n, 2)
    low, high = (edges[:, 0], edges[:, 1]) if rows else (edges[:-1], edges[1:])
    if not rows and edges.shape != (n + 1,):
        raise ValueError(
            f"edges must be {n + 1} increasing numbers for {n} bins, or have shape ({n}, 2), got shape {edges.shape}"
        )
    if not np.all(low < high) or not np.all(high[:-1] <= low[1:]):
        raise ValueError("edges must increase, and bins not overlap")
    bins, shown = [low[:1]], []
    for i in range(n):
        if i and low[i] > high[i - 1]:
            bins.append(low[i : i + 1])
            shown.append(False)
        bins.append(high[i : i + 1])
        shown.append(True)
    return np.concatenate(bins), np.array(shown)


def _with_gaps(values: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The values of bins, with NaN, which is not drawn, in the gaps."""
    out = np.full(shown.size, np.nan)
    out[shown] = np.broadcast_to(values, (int(np.sum(shown)),))
    return out


def _of_points(nll: LeastSquares, params: PyTree, data: Any, edges: Any) -> Picture:
    if edges is not None:
        raise ValueError("points have no edges")
    if data.x.ndim != 1:
        raise ValueError(f"data_and_model draws points along one coordinate, got x of shape {data.x.shape}")
    used = np.ones(data.x.shape, bool) if data.mask is None else np.asarray(data.mask)
    x, y, error = (np.where(used, np.asarray(a, dtype=float), np.nan) for a in (data.x, data.y, data.yerr))
    if not data.known:
        error = np.full_like(error, np.nan)
    low, high = np.nanmin(x), np.nanmax(x)
    x_error = None if data.xerr is None else np.asarray(data.xerr)
    margin = 0.03 * (high - low) + (0.0 if x_error is None else np.max(x_error[used], initial=0.0))
    at = np.linspace(low - margin, high + margin, _CURVE)
    model = np.asarray(jnp.broadcast_to(nll.model(params, jnp.asarray(at)), at.shape))
    pulls = np.asarray(nll.pulls(params, data))
    return Picture(x, y, error, x_error, pulls, at, model, None, {}, (), "x", "y")


def _of_events(nll: UnbinnedNLL | ExtendedUnbinnedNLL, params: PyTree, data: Any, edges: Any) -> Picture:
    """A histogram, and the density integrated over its bins."""
    events = as_events(data, type(nll).__name__)
    x = np.asarray(events.x, dtype=float)
    if x.ndim == 2 and x.shape[1] == 1:
        x = x[:, 0]
    if x.ndim != 1:
        raise ValueError(f"data_and_model draws events of one observable, got {given(data)}")
    used = np.ones(x.size, bool) if events.mask is None else np.asarray(events.mask)
    weight = np.ones(x.size) if events.weight is None else np.asarray(events.weight, dtype=float)
    x, weight = x[used], weight[used]
    if edges is None:
        edges = int(np.clip(np.sqrt(x.size), 10, _BINS))
    if x.size == 0 and np.ndim(edges) == 0:
        if nll.range is None:
            raise ValueError("there are no events, which would tell the range of the picture: say edges=")
        edges = np.linspace(float(nll.range[0][0, 0]), float(nll.range[0][-1, 1]), int(edges) + 1)
    given_edges = edges if np.ndim(edges) == 2 else np.histogram_bin_edges(x, edges)
    low, high = (np.asarray(side, float) for side in bin_ends(given_edges))
    bins, shown_bins = _without_gaps(given_edges, low.size)
    value, variance = (np.histogram(x, bins, weights=w)[0][shown_bins] for w in (weight, weight**2))
    nodes, shares = np.polynomial.legendre.leggauss(8)
    width, middle = high - low, 0.5 * (high + low)
    at = middle[:, None] + 0.5 * width[:, None] * nodes
    total = 1.0 if isinstance(nll, ExtendedUnbinnedNLL) else float(np.sum(weight))

    def density(points: np.ndarray) -> np.ndarray:
        rows = jnp.asarray(points.ravel()).reshape(-1, *events.x.shape[1:])
        log_density = nll.log_density_of if isinstance(nll, ExtendedUnbinnedNLL) else nll.log_prob_of
        return total * np.exp(np.asarray(log_density(params, rows), dtype=float)).reshape(points.shape)

    mu = _known_shares(nll, params, low, high)
    if mu is None:
        mu = 0.5 * width * np.sum(density(at) * shares, axis=1)
    else:
        mu = mu * (total if isinstance(nll, UnbinnedNLL) else float(nll.total_of(params)))
    counts = Counts(value, None if events.weight is None else variance)
    pulls = np.asarray(count_pulls(jnp.asarray(mu), counts, None))
    shown = _of_counts(counts, mu, pulls, {}, given_edges)
    if not np.all(shown_bins) or not np.allclose(width, width[0]):
        return shown
    fine = np.linspace(bins[0], bins[-1], _CURVE)
    return shown._replace(at=fine, model=width[0] * density(fine), edges=None, xlabel="x")


def _known_shares(
    nll: UnbinnedNLL | ExtendedUnbinnedNLL, params: PyTree, low: np.ndarray, high: np.ndarray
) -> np.ndarray | None:
    """The probabilities of bins, if the distribution provides them: it may end inside one."""
    if nll.distribution is None:
        return None
    try:
        logs = _foreign.log_integral(nll.distribution(params), jnp.asarray(low), jnp.asarray(high), "the distribution")
    except TypeError:
        return None
    return np.exp(np.asarray(logs, dtype=float)) if jnp.shape(logs) == low.shape else None


def check_data(likelihood: Any, data: Any) -> None:
    """**Raises:** `TypeError` for data of HistFactory that are not a dictionary with "main"."""
    if isinstance(likelihood, HistFactory) and not (isinstance(data, Mapping) and "main" in data):
        raise TypeError(f'the data of {type(likelihood).__name__} are {{"main": ..., "aux": ...}}, got {given(data)}')
