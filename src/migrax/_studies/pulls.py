"""Pulls: deviations of fits from the true value, in units of the fitted errors."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .._display.rounding import with_error
from .._display.table import Table
from .._util.typing import PyTree
from .fits import Fits, fits_of, moments, told
from .table import AbstractStudy


class PullStudy(AbstractStudy):
    """Mean and width of the pulls of each parameter.

    **Attributes**, for `k` parameters and `n` toys; pulls have no unit:

    - `names`: the parameters.
    - `pulls`: shape `(n, k)`; NaN for toys whose fit failed, and for parameters without an error (on a bound).
    - `mean`, `mean_error`, `width`, `width_error`: shape `(k,)`, the mean and the standard deviation of the pulls, and
        their standard errors. The mean is 0 and the width 1 if the estimate is unbiased and its errors are right.
    - `count`: shape `(k,)`, the number of pulls that are used.
    - `total`, `num_failed`: the number of toys, and of those that are left out because their fit is not valid.
    - `kind`: the errors that are used, `"hesse"` or `"minos"`. (Parameters without MINOS errors have Hesse errors.)
    """

    pulls: Float[np.ndarray, "n k"]
    mean: Float[np.ndarray, " k"]
    mean_error: Float[np.ndarray, " k"]
    width: Float[np.ndarray, " k"]
    width_error: Float[np.ndarray, " k"]
    count: Int[np.ndarray, " k"]
    total: int = eqx.field(static=True)
    num_failed: int = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    statuses: tuple[tuple[str, int], ...] = eqx.field(static=True)

    def __repr__(self) -> str:  # that of the table, which a dataclass would replace
        return AbstractStudy.__repr__(self)

    def _table(self) -> Table:
        rows = [
            [name, with_error(*mean), with_error(*width), str(count)]
            for name, mean, width, count in zip(
                self.names,
                zip(self.mean.tolist(), self.mean_error.tolist(), strict=True),
                zip(self.width.tolist(), self.width_error.tolist(), strict=True),
                self.count.tolist(),
                strict=True,
            )
        ]
        title = f"Pulls ({'MINOS' if self.kind == 'minos' else 'Hesse'} errors): {told(self.total, self.statuses)}"
        return Table(title, ["Name", "Mean", "Width", "Toys"], rows)


def pull_study(nll: Any, params: PyTree, toys: PyTree = None, *, truth: PyTree = None, **options: Any) -> PullStudy:
    """Returns the pulls of many toys, (value - true value) / error, with the MINOS error on the side of the true value
    if there is one (L. Demortier and L. Lyons, CDF note 5776 (2002)).

    ```python
    mx.pull_study(nll, result.params, mx.Toys(10_000, jax.random.key(0)), covariance=result.covariance)
    mx.pull_study(fits, result.params)  # of existing fits
    ```

    **Arguments:**

    - `nll`, `params`, `toys`: as for `mx.fit_toys`; or only two arguments, its result or an `mx.ToyStore`, and the tree
        of true parameters.
    - `truth`: a tree with the true values, if they differ from those at which the toys are drawn.
    - `options`: those of `mx.fit_toys`, such as `minos=True`.

    **Returns:** a `PullStudy`.

    **Raises:** as `mx.fit_toys` does; `TypeError`, `ValueError` if the first argument is a result that is not one of
    many toys, or if a true value is missing.
    """
    return _pulls(fits_of("pull_study", nll, params, toys, truth, options))


def _pulls(fits: Fits) -> PullStudy:
    deviation, kind = fits.values - fits.truth, "hesse"
    error = fits.errors
    if fits.lower is not None and fits.upper is not None:
        has_minos = np.any(np.isfinite(fits.lower) | np.isfinite(fits.upper), axis=0)
        error, kind = np.where(has_minos, np.where(deviation > 0, -fits.lower, fits.upper), error), "minos"
    is_usable = fits.valid[:, None] & np.isfinite(error) & (error > 0)
    pulls = np.where(is_usable, deviation / np.where(is_usable, error, 1.0), np.nan)
    count, mean, width, width_error = moments(pulls)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_error = width / np.sqrt(count)
    n_failed = int(np.sum(~fits.valid))
    return PullStudy(
        pulls, mean, mean_error, width, width_error, count, fits.total, n_failed, fits.names, kind, fits.statuses
    )
