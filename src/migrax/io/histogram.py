"""Histograms of hist, boost_histogram, uproot and any other package with UHI's plottable protocol."""

import warnings
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._likelihoods import Counts


class Histogram(NamedTuple):
    """Contents and edges, for likelihoods and distributions."""

    counts: Array | Counts  # an array of counts, or `mx.Counts` of weighted events
    edges: Any  # an array; for several axes a tuple of them


def from_histogram(histogram: Any) -> Histogram:
    """Returns the contents and the edges of a histogram, without underflow and overflow.

    ```python
    h = hist.Hist.new.Reg(50, 0, 10).Weight().fill(x, weight=w)
    counts, edges = mx.io.from_histogram(h)
    mx.fit(mx.PoissonNLL(log_expected=lambda p: peak(p).log_bin_integrals(edges)), params, counts)
    ```

    **Arguments:**

    - `histogram`: a `hist.Hist`, a `boost_histogram.Histogram`, an `uproot` histogram, any object of UHI's plottable
        protocol (https://uhi.readthedocs.io/en/latest/plotting.html); or what `numpy.histogram` and
        `numpy.histogram2d` return.

    **Returns:** a pair `(counts, edges)`. If the histogram keeps sums of squared weights that differ from its
    contents, `counts` is `mx.Counts(value, variance)`, else an array, of the shape of the bins. `edges` has shape
    `(n + 1,)` for `n` bins; for several axes it is a tuple of such arrays. The edges of a discrete axis are half-way
    between its integers, or 0, 1, ... for names.

    **Raises:** `TypeError` for any other object, or a profile (its contents are means, not counts); `ValueError` for a
    bin without width.

    **Warns** if the histogram has weights, but no sums of their squares.
    """
    if isinstance(histogram, tuple):
        return _of_numpy(histogram)
    if not (hasattr(histogram, "values") and hasattr(histogram, "axes") and callable(histogram.values)):
        raise TypeError(f"this is no histogram of the plottable protocol: {type(histogram).__name__}")
    kind = str(getattr(histogram, "kind", "COUNT")).rsplit(".", 1)[-1]
    if kind != "COUNT":
        raise TypeError(f"the contents of this histogram are of the kind {kind}, and no counts (a profile?)")
    values, variances = histogram.values(), histogram.variances()
    return _checked(values, variances, [_edges(axis) for axis in histogram.axes])


def _of_numpy(histogram: tuple[Any, ...]) -> Histogram:
    if len(histogram) < 2 or not all(isinstance(a, np.ndarray) for a in histogram):
        raise TypeError("a tuple must be one of arrays, (contents, edges), as numpy.histogram returns it")
    return _checked(histogram[0], None, list(histogram[1:]))


def _checked(values: Any, variances: Any, edges: list[Any]) -> Histogram:
    values = np.asarray(values, dtype=float)
    shape = tuple(len(e) - 1 for e in edges)
    if values.shape != shape:
        raise ValueError(f"the histogram has contents of shape {values.shape}, and edges for {shape}")
    for k, e in enumerate(edges):
        if not np.all(np.diff(e) > 0):
            raise ValueError(f"bin {int(np.argmin(np.diff(e) > 0))} of axis {k} has no width")
    arrays = tuple(np.asarray(e, dtype=float) for e in edges)
    axes = arrays[0] if len(arrays) == 1 else arrays
    if variances is None:
        if np.any(values != np.round(values)):
            warnings.warn(
                "the histogram has weights but keeps no sums of their squares: its contents are taken for plain "
                "counts, and errors will be wrong. Fill one with storage Weight()",
                stacklevel=3,
            )
        return Histogram(jnp.asarray(values), axes)
    variances = np.asarray(variances, dtype=float)
    if np.array_equal(variances, values):
        return Histogram(jnp.asarray(values), axes)
    return Histogram(Counts(values, variances), axes)


def _edges(axis: Any) -> np.ndarray:
    """The edges from what all axes of the protocol have: a length and entries, pairs or, if discrete, single values."""
    entries = [axis[i] for i in range(len(axis))]
    if entries and isinstance(entries[0], tuple):
        return np.array([entries[0][0], *(high for _, high in entries)], dtype=float)
    if all(isinstance(entry, int | np.integer) for entry in entries):
        return np.array([*entries, entries[-1] + 1], dtype=float) - 0.5
    return np.arange(len(entries) + 1, dtype=float)
