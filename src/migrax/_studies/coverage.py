"""Coverage: how often the intervals that fits claim hold the true value."""

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
    """Of one kind of intervals, shape `(k,)` each.

    - `fraction`: of the toys whose interval holds the true value; `low`, `high`: Wilson's interval for it, one standard
        deviation wide on either side.
    - `above`, `below`: the fractions of the toys whose interval lies above, below the true value.
    - `count`: how many toys these are.
    """

    fraction: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    above: Float[np.ndarray, " k"]
    below: Float[np.ndarray, " k"]
    count: Int[np.ndarray, " k"]


class CoverageStudy(AbstractStudy):
    """How often the intervals of each parameter hold the true value.

    **Attributes:**

    - `names`: the `k` parameters.
    - `hesse`: the `Coverage` of value ± error, and `minos` that of MINOS intervals or `None`.
    - `cl`: the confidence level of the intervals.
    - `total`, `failed`: how many toys there were, and how many are left out because their fit is not valid. Where a
        MINOS side was not found, that interval is left out, too: see `minos.count`.
    """

    hesse: Coverage
    minos: Coverage | None
    cl: float = eqx.field(static=True)
    total: int = eqx.field(static=True)
    failed: int = eqx.field(static=True)
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
    """Coverage of the fits' intervals of one standard deviation (68.27 %): value ± error and, with `minos=True`, those
    of MINOS. A toy whose parameter is on a bound has no Hesse error there: its interval is the bound alone, which holds
    the truth only if that is on the bound too. MINOS intervals are what to look at near bounds.

    ```python
    mx.coverage_study(nll, result.params, mx.Toys(10_000, jax.random.key(0)), minos=True)
    mx.coverage_study(fits, result.params)  # of fits that there are already
    ```

    **Arguments:**

    - `nll`, `params`, `toys`: as for `mx.fit_toys`; or its result and the true parameters.
    - `truth`: a tree with the true values, if they are not where the toys are drawn.
    - `options`: those of `mx.fit_toys`, such as `minos="mu"`.

    **Returns:** a `CoverageStudy`.

    **Raises:** as `mx.fit_toys` does; `TypeError`, `ValueError` for fits that are not those of many toys, or where the
    truth of a parameter is not known.
    """
    return _coverage(fits_of("coverage_study", nll, params, toys, truth, options))


def _coverage(fits: Fits) -> CoverageStudy:
    hesse = _of(fits, fits.values - fits.errors, fits.values + fits.errors)
    minos = None
    if fits.lower is not None and fits.upper is not None:
        minos = _of(fits, fits.values + fits.lower, fits.values + fits.upper)
    return CoverageStudy(hesse, minos, _ONE_SIGMA, fits.total, int(np.sum(~fits.valid)), fits.names, fits.statuses)


def _of(fits: Fits, low: np.ndarray, high: np.ndarray) -> Coverage:
    good = fits.valid[:, None] & np.isfinite(low) & np.isfinite(high)
    n = np.sum(good, axis=0)
    # rounding must not say that the truth lies outside of an interval that ends on it, at a bound
    slack = 1e-9 * np.abs(high - low)
    above = np.sum(good & (low - slack > fits.truth), axis=0)
    below = np.sum(good & (high + slack < fits.truth), axis=0)
    inside = n - above - below
    with np.errstate(divide="ignore", invalid="ignore"):
        return Coverage(inside / n, *wilson(inside, n), above / n, below / n, n)
