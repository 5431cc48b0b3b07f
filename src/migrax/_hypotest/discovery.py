"""`discovery`: the test of the hypothesis that there is no signal."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._display.table import Table
from .._fit.covariance import Covariance
from .._fit.result import FitResult
from .._fit.status import Status
from .._host.hosted import hosted
from .._parameters.select import Where
from .._toys.source import Toys
from .._util.frames import data_frame
from .._util.result import AbstractTabled, names_of, refuse_traced
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from . import formulas
from .asymptotic import Asymptotic
from .cells import number, reason, scales_line, status_words, toys_line, with_its_error
from .hypotest import check_kinds, tested
from .lanes import OBSERVED_AND_EXPECTED, counted, rows_of, statuses, table_of, with_expected
from .statistics import Q0, StatisticValue, poi_positions
from .test import PValues, free_fit
from .toys import ToyTest
from .weights import Scales, scales_of, warn_if_off

if TYPE_CHECKING:
    from pandas import DataFrame


class Discovery(AbstractTabled):
    """The test of the hypothesis that there is no signal.

    **Attributes:**

    - `p_value`, `significance`: the observed ones; the significance is the number of standard deviations of a one-sided
        normal tail with this p-value.
    - `expected_significance`: the median if there is a signal. `expected_p_value`: shape `(5,)`, the p-value for data
        at 2, 1, 0, -1, -2 standard deviations from this median, in ascending order.
    - `statistic`: q_0 of the data.
    - `best`: the fitted signal, in the units of the parameter.
    - `status`: an `mx.Status` number; unless it is `VALID`, all numbers are NaN. `valid`: whether it is `VALID`.
    - `fits`: the `StatisticValue` of the data, with the fits.
    - `alternative`: the value of the parameter for the expected signal. `name`: the parameter.
    - `p_value_error`, `expected_p_value_error`, `significance_error`, `toys`: with toys, the standard errors due to
        their finite number, and the toys as in `HypoTest`; else `None`. If no toy has a statistic as large as the data,
        the p-value is 0 within its error, and the significance is NaN.
    - `scales`: for weighted events, the scale factors of the parts of the likelihood (see `mx.effective`); else `None`.
    """

    p_value: Float[Array, ""]
    significance: Float[Array, ""]
    expected_p_value: Float[Array, "5"]
    expected_significance: Float[Array, ""]
    statistic: Float[Array, ""]
    best: Float[Array, ""]
    status: Int[Array, ""]
    fits: StatisticValue
    alternative: Float[Array, ""]
    name: str = eqx.field(static=True)
    p_value_error: Float[Array, ""] | None = None
    expected_p_value_error: Float[Array, "5"] | None = None
    significance_error: Float[Array, ""] | None = None
    toys: ToyTest | None = None
    scales: Scales = None

    @property
    def valid(self) -> Bool[Array, ""]:
        return self.status == int(Status.VALID)

    def __repr__(self) -> str:
        if not is_concrete(self.p_value) or np.size(self.p_value) == 0:
            return f"Discovery({self.name}, shape={jnp.shape(self.p_value)})"
        return self._table().text()

    def _repr_html_(self) -> str:
        if not is_concrete(self.p_value) or np.size(self.p_value) == 0:
            return f"<pre>{self!r}</pre>"
        return self._table().html()

    def _table(self) -> Table:
        return _one(self) if np.ndim(self.p_value) == 0 else _many(self)

    def to_pandas(self) -> "DataFrame":
        """`p_value` and `significance` as a `pandas.DataFrame`: one row with the observed and five with the expected
        ones (for the significance only the median), with their errors if there are toys, and the name of the `status`.
        For many tests, the first level of the index, `lane`, is the number of the test.

        **Raises:** `ImportError` without pandas; `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_pandas")
        median = np.where([n == 0 for n in formulas.BANDS], np.asarray(self.expected_significance)[..., None], np.nan)
        columns = {
            "p_value": with_expected(self.p_value, self.expected_p_value),
            "significance": with_expected(self.significance, median),
        }
        if self.p_value_error is not None:
            columns["p_value_error"] = with_expected(self.p_value_error, self.expected_p_value_error)
            columns["significance_error"] = with_expected(self.significance_error, np.nan)
        columns["status"] = names_of(Status, self.status)[..., None]
        return data_frame(columns, OBSERVED_AND_EXPECTED, "data", np.shape(self.p_value))

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), "status": names_of(Status, self.status), "valid": self.valid}


def _one(test: Discovery) -> Table:
    significance = with_its_error(test.significance, test.significance_error)
    rows = [["Significance", significance, number(test.expected_significance)]]
    p_value = with_its_error(test.p_value, test.p_value_error)
    expected_error = None if test.expected_p_value_error is None else test.expected_p_value_error[2]
    rows += [["p-value", p_value, with_its_error(np.asarray(test.expected_p_value)[2], expected_error)]]
    best = number(test.best if bool(test.fits.free.valid) else np.nan)
    title = f"{test.name} = {float(test.fits.tested[0]):.6g}: {status_words(test.status)}fitted {best}"
    lines = [title, *reason(test.fits.free), *toys_line(test.toys), *scales_line(test.scales)]
    if test.toys is not None and float(test.p_value) == 0:
        lines.append("No toy is as extreme as the data: take more, or mx.Toys(n, key, importance=True)")
    head = ["", "Observed", f"Expected ({test.name} = {float(test.alternative):.6g})"]
    return Table("\n".join(lines), head, rows)


def _many(tests: Discovery) -> Table:
    best = np.where(tests.fits.free.valid, tests.best, np.nan)
    rows = rows_of(
        tests.p_value,
        (best, None),
        (tests.p_value, tests.p_value_error),
        (tests.significance, tests.significance_error),
        (tests.expected_significance, None),
    )
    head = ["Fitted", "p-value", "Significance", "Expected"]
    title = f"Discovery of {tests.name}: {counted(tests.p_value, 'test')}"
    return table_of(title, head, rows, statuses(tests.status))


def discovery(
    likelihood: Callable[[Any, Any], ArrayLike],
    params: PyTree | FitResult,
    data: PyTree,
    poi: Where,
    value: ArrayLike = 0.0,
    *,
    calculator: Asymptotic | Toys | None = None,
    solver: optx.AbstractMinimiser[Any, Any, Any] | None = None,
    covariance: Covariance | ArrayLike | None = None,
) -> Discovery:
    """Tests the hypothesis of no signal: the p-value and significance of the data, and those expected of a signal.

    (G. Cowan, K. Cranmer, E. Gross and O. Vitells, Eur. Phys. J. C 71 (2011) 1554, eqs. 52, 53 and 79.) Works under
    `jax.jit` and `jax.vmap`, and is differentiable.

    **Arguments:**

    - `likelihood`, `params`, `data`, `poi`: as for `mx.hypotest`.
    - `value`: the value of the parameter without a signal.
    - `calculator`: default `mx.Asymptotic()`, with an expected signal of strength 1; `mx.Asymptotic(alternative=2.0)`
        sets another one. With toys, `mx.Toys(n, key, importance=True)` reaches five standard deviations with a few
        thousand toys.
    - `solver`, `covariance`: for the free fit to the data, as for `mx.fit`.

    **Returns:** a `Discovery`; all numbers are NaN, with a status that says why, unless all fits are valid.

    **Raises:** as `mx.hypotest`.
    """
    calculator = Asymptotic() if calculator is None else calculator
    statistic = Q0()
    check_kinds(statistic, calculator)
    free, factors = free_fit(likelihood, params, data, "discovery", solver, covariance)
    index = poi_positions(free.result, poi, "discovery")
    q, p = tested(statistic, free, index, value, calculator, "discovery")
    warn_if_off(free._replace(result=q.free), index, factors, "discovery")
    return _result(q, p, free.result.names[index[0]], scales_of(factors))


@hosted
def _result(q: StatisticValue, p: PValues, name: str, scales: Scales) -> Discovery:
    is_valid = p.status == int(Status.VALID)
    if_valid = lambda x: jnp.where(is_valid, x, jnp.nan)  # noqa: E731
    z_error = None if p.errors is None else formulas.significance_error(p.significance, p.errors.p_sb)
    return Discovery(
        p_value=if_valid(jnp.exp(p.log_sb)),
        significance=if_valid(p.significance),
        expected_p_value=if_valid(jnp.exp(p.expected_log_sb)),
        expected_significance=if_valid(p.expected_significance),
        statistic=if_valid(q.value),
        best=q.best[0],
        status=p.status,
        fits=q,
        alternative=p.alternative[0],
        name=name,
        p_value_error=None if p.errors is None else if_valid(p.errors.p_sb),
        expected_p_value_error=None if p.errors is None else if_valid(p.errors.expected_p_sb),
        significance_error=None if z_error is None else if_valid(z_error),
        toys=p.toys,
        scales=scales,
    )
