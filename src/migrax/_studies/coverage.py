"""Coverage: the fraction of intervals that contain the true value."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .._display.rounding import with_error
from .._display.table import Table
from .._util.result import AbstractResult
from .._util.typing import PyTree
from .fits import Fits, fits_of, told, wilson
from .table import AbstractStudy

_ONE_SIGMA = math.erf(math.sqrt(0.5))


class Coverage(AbstractResult):
    """The coverage of one kind of intervals.

    **Attributes**, each of shape `(k,)`:

    - `fraction`: the fraction of toys whose interval contains the true value. `low`, `high`: Wilson's interval for this
        fraction, one standard deviation to each side.
    - `above`, `below`: the fractions of toys whose interval lies above or below the true value.
    - `count`: the number of toys that are used.
    """

    fraction: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    above: Float[np.ndarray, " k"]
    below: Float[np.ndarray, " k"]
    count: Int[np.ndarray, " k"]


class CoverageStudy(AbstractStudy):
    """How often the intervals of each parameter contain the true value.

    **Attributes:**

    - `names`: the `k` parameters.
    - `hesse`: the `Coverage` of value ± error, with arrays `fraction`, `low`, `high`, `above`, `below` and `count` of
        shape `(k,)`. `minos`: that of MINOS intervals, or `None`.
    - `cl`: the confidence level of the intervals.
    - `total`, `num_failed`: the number of toys, and of those that are left out because their fit is not valid. A MINOS
        interval of which one side was not found is left out as well: see `minos.count`.
    """

    hesse: Coverage
    minos: Coverage | None
    cl: float = eqx.field(static=True)
    total: int = eqx.field(static=True)
    num_failed: int = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    statuses: tuple[tuple[str, int], ...] = eqx.field(static=True)

    def __repr__(self) -> str:  # that of the table, which a dataclass would replace
        return AbstractStudy.__repr__(self)

    def _table(self) -> Table:
        percent: Callable[[float], str] = lambda x: "—" if np.isnan(x) else f"{100 * x:.2f} %"  # noqa: E731
        kinds = [("Hesse", self.hesse), *([] if self.minos is None else [("MINOS", self.minos)])]
        rows = [
            [
                name,
                label,
                with_error(100 * float(c.fraction[i]), 50 * float(c.high[i] - c.low[i])) + " %",
                percent(float(c.below[i])),
                percent(float(c.above[i])),
                str(int(c.count[i])),
            ]
            for i, name in enumerate(self.names)
            for label, c in kinds
            if label == "Hesse" or c.count[i] > 0 or self.hesse.count[i] == 0  # MINOS was not asked for
        ]
        title = f"Coverage of {100 * self.cl:.4g} % intervals: {told(self.total, self.statuses)}"
        return Table(title, ["Name", "Errors", "Coverage", "Below", "Above", "Toys"], rows)

    def _parts(self) -> dict[str, Any]:
        minos = {} if self.minos is None else {"minos_": self.minos}
        return {"hesse_": self.hesse, **minos}


def coverage_study(
    nll: Any, params: PyTree, toys: PyTree = None, *, truth: PyTree = None, **options: Any
) -> CoverageStudy:
    """Returns the coverage of intervals of one standard deviation (68.27 %), as the fraction of toys whose interval
    contains the true value.

    The intervals are value ± error and, with `minos=True`, those of MINOS. A parameter on a bound has a Hesse error of
    0: its interval is the bound alone, which contains the true value only if that lies on the bound, too. Near bounds
    use MINOS intervals.

    ```python
    mx.coverage_study(nll, result.params, mx.Toys(10_000, jax.random.key(0)), minos=True)
    mx.coverage_study(fits, result.params)  # of existing fits
    ```

    **Arguments:**

    - `nll`, `params`, `toys`: as for `mx.fit_toys`; or only two arguments, its result or an `mx.ToyStore`, and the tree
        of true parameters.
    - `truth`: a tree with the true values, if they differ from those at which the toys are drawn.
    - `options`: those of `mx.fit_toys`, such as `minos="mu"`.

    **Returns:** a `CoverageStudy`.

    **Raises:** as `mx.fit_toys` does; `TypeError`, `ValueError` if the first argument is a result that is not one of
    many toys, or if a true value is missing.
    """
    return _coverage(fits_of("coverage_study", nll, params, toys, truth, options))


def _coverage(fits: Fits) -> CoverageStudy:
    hesse = _coverage_of(fits, fits.values - fits.errors, fits.values + fits.errors)
    minos = None
    if fits.lower is not None and fits.upper is not None:
        minos = _coverage_of(fits, fits.values + fits.lower, fits.values + fits.upper)
    return CoverageStudy(hesse, minos, _ONE_SIGMA, fits.total, int(np.sum(~fits.valid)), fits.names, fits.statuses)


def _coverage_of(fits: Fits, low: np.ndarray, high: np.ndarray) -> Coverage:
    is_known = fits.valid[:, None] & np.isfinite(low) & np.isfinite(high)
    n_known = np.sum(is_known, axis=0)
    # keeps rounding from excluding a true value on which an interval ends, at a bound
    tolerance = 1e-9 * np.abs(high - low)
    n_above = np.sum(is_known & (low - tolerance > fits.truth), axis=0)
    n_below = np.sum(is_known & (high + tolerance < fits.truth), axis=0)
    n_inside = n_known - n_above - n_below
    with np.errstate(divide="ignore", invalid="ignore"):
        return Coverage(n_inside / n_known, *wilson(n_inside, n_known), n_above / n_known, n_below / n_known, n_known)
