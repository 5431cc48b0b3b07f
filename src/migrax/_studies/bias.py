"""Bias: the mean of many fits minus the true value."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .._display.rounding import with_error
from .._display.table import Table
from .._util.typing import PyTree
from .fits import Fits, fits_of, moments, told
from .table import AbstractStudy


class Bias(AbstractStudy):
    """The bias and the spread of the fitted values over many toys.

    **Attributes**, for `k` parameters, of shape `(k,)` and in the parameters' units; `*_error` are standard errors due
    to the finite number of toys:

    - `names`: the parameters.
    - `truth`: the true values.
    - `bias`, `bias_error`: the mean of the fitted values minus the true value.
    - `relative`, `relative_error`: the bias in units of the spread.
    - `spread`, `spread_error`: the standard deviation of the fitted values.
    - `claimed`, `claimed_error`: the mean of the errors of the fits, without errors of 0 (parameters on a bound).
    - `count`: the number of toys that are used.
    - `total`, `num_failed`: the number of toys, and of those that are left out because their fit is not valid.
    """

    truth: Float[np.ndarray, " k"]
    bias: Float[np.ndarray, " k"]
    bias_error: Float[np.ndarray, " k"]
    relative: Float[np.ndarray, " k"]
    relative_error: Float[np.ndarray, " k"]
    spread: Float[np.ndarray, " k"]
    spread_error: Float[np.ndarray, " k"]
    claimed: Float[np.ndarray, " k"]
    claimed_error: Float[np.ndarray, " k"]
    count: Int[np.ndarray, " k"]
    total: int = eqx.field(static=True)
    num_failed: int = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    statuses: tuple[tuple[str, int], ...] = eqx.field(static=True)

    def __repr__(self) -> str:  # that of the table, which a dataclass would replace
        return AbstractStudy.__repr__(self)

    def _table(self) -> Table:
        shown = (("bias", "bias_error"), ("relative", "relative_error"), ("spread", "spread_error"))
        pairs = [(getattr(self, a), getattr(self, b)) for a, b in (*shown, ("claimed", "claimed_error"))]
        rows = [
            [name, f"{self.truth[i]:.6g}", *(with_error(float(a[i]), float(b[i])) for a, b in pairs)]
            for i, name in enumerate(self.names)
        ]
        head = ["Name", "Truth", "Bias", "in spreads", "Spread", "Claimed error"]
        return Table(f"Bias: {told(self.total, self.statuses)}", head, rows)


def bias(nll: Any, params: PyTree, toys: PyTree = None, *, truth: PyTree = None, **options: Any) -> Bias:
    """Returns the bias of the fitted values over many toys (their mean minus the true value), and compares their spread
    with the errors of the fits.

    ```python
    mx.bias(nll, result.params, mx.Toys(10_000, jax.random.key(0)))
    mx.bias(fits, result.params)  # of existing fits
    ```

    **Arguments:**

    - `nll`, `params`, `toys`: as for `mx.fit_toys`; or only two arguments, its result or an `mx.ToyStore`, and the tree
        of true parameters.
    - `truth`: a tree with the true values, if they differ from those at which the toys are drawn.
    - `options`: those of `mx.fit_toys`.

    **Returns:** a `Bias`.

    **Raises:** as `mx.fit_toys` does; `TypeError`, `ValueError` if the first argument is a result that is not one of
    many toys, or if a true value is missing.
    """
    return _bias(fits_of("bias", nll, params, toys, truth, options))


def _bias(fits: Fits) -> Bias:
    is_valid = fits.valid[:, None]
    n, mean, spread, spread_error = moments(np.where(is_valid, fits.values - fits.truth, np.nan))
    has_error = is_valid & np.isfinite(fits.errors) & (fits.errors > 0)
    n_errors, claimed, error_spread, _ = moments(np.where(has_error, fits.errors, np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        error, claimed_error = spread / np.sqrt(n), error_spread / np.sqrt(n_errors)
        relative, relative_error = mean / spread, 1 / np.sqrt(n)
    figures = (fits.truth, mean, error, relative, relative_error, spread, spread_error, claimed, claimed_error, n)
    return Bias(*figures, fits.total, int(np.sum(~fits.valid)), fits.names, fits.statuses)
