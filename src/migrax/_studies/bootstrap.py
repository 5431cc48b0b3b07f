"""The bootstrap: the spread of fits to samples that resemble the measured data."""

from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._display.rounding import with_error
from .._display.table import Table
from .._fit.result import FitResult
from .._fit.status import status_counts
from .._parameters.space import ravel
from .._toys.fit_toys import reduce_toys
from .._toys.source import Resampled, Toys
from .._util.typing import PyTree
from .fits import moments, told
from .resample import resample
from .table import AbstractStudy


class Bootstrap(AbstractStudy):
    """The spread of the fits to many bootstrap samples.

    **Attributes**, for `k` parameters and `n` samples, in the parameters' units:

    - `names`: the parameters.
    - `values`: shape `(n, k)`, the fitted values; NaN where the fit failed.
    - `estimate`: shape `(k,)`, the values of the fit to the data themselves.
    - `error`, `error_error`: shape `(k,)`, the standard deviation of `values`, and its standard error.
    - `bias`, `bias_error`: shape `(k,)`, the mean of `values` minus `estimate`, and its standard error.
    - `covariance`: shape `(k, k)`, the covariance matrix of `values`.
    - `total`, `num_failed`: the number of samples, and of those that are left out because their fit is not valid.
    - `kind`: `"parametric"` or `"poisson"`.
    """

    values: Float[np.ndarray, "n k"]
    estimate: Float[np.ndarray, " k"]
    error: Float[np.ndarray, " k"]
    error_error: Float[np.ndarray, " k"]
    bias: Float[np.ndarray, " k"]
    bias_error: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    total: int = eqx.field(static=True)
    num_failed: int = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    statuses: tuple[tuple[str, int], ...] = eqx.field(static=True)

    def interval(self, cl: float = 0.6827) -> Float[np.ndarray, "2 k"]:
        """The central percentile intervals with the probability `cl` (B. Efron and R. Tibshirani, An Introduction to
        the Bootstrap (1993), 13.3).

        **Returns:** shape `(2, k)`: the lower and the upper ends.

        **Raises:** `ValueError` unless 0 < `cl` < 1.
        """
        if not 0 < cl < 1:
            raise ValueError(f"cl must be a probability between 0 and 1, got {cl!r}")
        good = self.values[np.all(np.isfinite(self.values), axis=1)]
        if good.shape[0] == 0:
            return np.full((2, len(self.names)), np.nan)
        return np.quantile(good, [0.5 - 0.5 * cl, 0.5 + 0.5 * cl], axis=0)

    def __repr__(self) -> str:  # that of the table, which a dataclass would replace
        return AbstractStudy.__repr__(self)

    def _table(self) -> Table:
        low, high = self.interval()
        rows = [
            [
                name,
                f"{self.estimate[i]:.6g}",
                with_error(float(self.error[i]), float(self.error_error[i])),
                with_error(float(self.bias[i]), float(self.bias_error[i])),
                f"{low[i]:.5g}",
                f"{high[i]:.5g}",
            ]
            for i, name in enumerate(self.names)
        ]
        title = f"Bootstrap ({self.kind}): {told(self.total, self.statuses).replace('toys', 'samples')}"
        return Table(title, ["Name", "Estimate", "Error", "Bias", "15.87 %", "84.13 %"], rows)


def bootstrap(
    nll: Any,
    result: FitResult,
    data: PyTree,
    n: int,
    key: Array,
    *,
    kind: Literal["parametric", "poisson"] = "parametric",
    **options: Any,
) -> Bootstrap:
    """Returns the errors of parameters from fits to many bootstrap samples, which are random variations of the data.

    ```python
    mx.bootstrap(nll, result, data, 2000, jax.random.key(0), kind="poisson")
    ```

    **Arguments:**

    - `nll`, `data`: as they were given to `mx.fit`.
    - `result`: the result of `mx.fit`.
    - `n`: the number of samples.
    - `key`: a key of `jax.random`.
    - `kind`: `"parametric"` draws toys from the fitted model. `"poisson"` resamples the data without using the model:
        each event is counted k times, where k is a Poisson number with mean 1. To this end events and points (with
        independent errors) get weights, bins get Poisson counts, and the global observables of constraints are drawn
        around the measured ones.
    - `options`: those of `mx.fit_toys`, except `hesse` and `minos`.

    **Returns:** a `Bootstrap`.

    **Raises:** `TypeError` for data that cannot be resampled, an unknown option, or if `result` is not the result of
    one fit; `ValueError` for an unknown kind or a result that is not valid.
    """
    if not isinstance(result, FitResult) or np.ndim(result.nll) != 0:
        raise TypeError("bootstrap takes the result of one fit, as in mx.bootstrap(nll, result, data, 1000, key)")
    if not bool(result.valid):
        raise ValueError(f"bootstrap needs a valid fit, and this one is not: {result.message}")
    for name in ("reduce", "hesse", "minos"):
        if name in options:
            raise TypeError(f"bootstrap has no option {name!r}: it looks at the values of the fits alone")
    toys: Any = Toys(n, key)
    if kind == "poisson":
        toys = Resampled(toys, resample)
    elif kind != "parametric":
        raise ValueError(f"kind must be 'parametric' or 'poisson', got {kind!r}")
    options = {"up": result.up, "covariance": result.covariance, **options}
    kept_arrays = lambda r: tuple(np.asarray(a) for a in (r.values, r.valid, r.status))  # noqa: E731
    parts = reduce_toys(kept_arrays, nll, result.params, toys, data=data, hesse=False, **options)
    values, valid, status = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    space = ravel(result.params)[1]
    if space.has_period:
        values = np.asarray(result.values + space.nearest(jnp.asarray(values) - result.values))
    return _bootstrap(result, np.where(valid[:, None], values, np.nan), valid, status, kind)


def _bootstrap(
    result: FitResult, values: Float[np.ndarray, "n k"], valid: Bool[np.ndarray, " n"], status: np.ndarray, kind: str
) -> Bootstrap:
    estimate = np.asarray(result.values)
    count, mean, spread, spread_error = moments(values)
    valid_values = values[valid]
    k = estimate.size
    covariance = np.cov(valid_values, rowvar=False).reshape(k, k) if len(valid_values) > 1 else np.full((k, k), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        figures = (values, estimate, spread, spread_error, mean - estimate, spread / np.sqrt(count), covariance)
    statuses = tuple(status_counts(status[~valid]))
    return Bootstrap(*figures, valid.size, int(np.sum(~valid)), result.names, kind, statuses)
