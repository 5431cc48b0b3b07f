"""The content of a picture of a fit: the data with their errors, and the model."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..._likelihoods import BinnedNLL, LeastSquares, PoissonNLL, TemplateNLL
from ..._likelihoods.counts import as_counts
from ..._util.typing import PyTree

_POINTS = 200  # of a curve


class Picture(NamedTuple):
    """Points with errors, and a curve through `at` or, if there are `edges`, steps."""

    x: np.ndarray
    y: np.ndarray
    error: np.ndarray
    x_error: np.ndarray | None
    at: np.ndarray
    model: np.ndarray
    edges: np.ndarray | None
    label: str


def picture_of(nll: Any, params: PyTree, data: Any) -> Picture:
    """The picture of a fit.

    **Arguments:**

    - `params`: resolved.

    **Raises:** `AttributeError` for likelihoods other than a curve through points or a histogram with one axis.
    """
    if isinstance(nll, LeastSquares) and data.x.ndim == 1:
        x, y, error = (np.asarray(a) for a in (data.x, data.y, data.yerr))
        used = np.ones(x.shape, bool) if data.mask is None else np.asarray(data.mask)
        at = np.linspace(x.min(), x.max(), _POINTS)
        model = np.asarray(jnp.broadcast_to(nll.model(params, jnp.asarray(at)), at.shape))
        x_error = None if data.xerr is None else np.asarray(data.xerr)[used]
        return Picture(x[used], y[used], error[used], x_error, at, model, None, "x")
    if isinstance(nll, PoissonNLL | BinnedNLL | TemplateNLL):
        counts = as_counts(data, type(nll).__name__)
        if len(counts.shape) == 1:
            y = np.asarray(counts.value)
            variance = y if counts.variance is None else np.asarray(counts.variance)
            edges = np.arange(y.size + 1) - 0.5
            model = np.asarray(nll.prediction(params, data))
            bins = np.arange(y.size)
            return Picture(bins, y, np.sqrt(np.maximum(variance, 0.0)), None, bins, model, edges, "bin")
    raise AttributeError(
        f"visualize is for mx.LeastSquares with one coordinate and for histograms with one axis, not for "
        f"{type(nll).__name__}: draw it from m.params_tree and m.data"
    )
