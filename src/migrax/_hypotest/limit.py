"""`upper_limit`: the value of a parameter above which CLs is too small, observed and expected."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, Float, Int
from scipy.special import log_ndtr, ndtri_exp

from .._display.table import Table
from .._fit.covariance import Covariance
from .._fit.result import FitResult
from .._host.hosted import hosted
from .._parameters.select import Where
from .._profile.levels import probability
from .._toys.source import Toys
from .._util.frames import data_frame
from .._util.result import AbstractTabled, names_of, refuse_traced
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from . import formulas
from .asymptotic import Asymptotic, reference
from .cells import band, beyond_bound, reason, scales_line, with_its_error, words
from .formulas import BANDS
from .hypotest import check_kinds
from .lanes import EXPECTED, OBSERVED_AND_EXPECTED, counted, limit_words, rows_of, table_of, with_expected
from .limit_root import find_limits
from .limit_sides import LimitProblem
from .limit_status import LimitStatus
from .ratio import ratio
from .statistics import AbstractStatistic, QMu, QTilde, poi_positions
from .test import Test, free_fit
from .toy_limit import check_toys, check_values, toy_limits
from .toys import as_calculator
from .weights import Scales, scales_of, warn_if_off

if TYPE_CHECKING:
    from pandas import DataFrame


class UpperLimit(AbstractTabled):
    """Upper limits on a parameter.

    **Attributes**; limits are in the units of the parameter:

    - `observed`: the limit of the data.
    - `expected`: shape `(5,)`, the limits for data at -2, -1, 0, 1, 2 standard deviations from the median of the
        alternative, in ascending order.
    - `status`, `expected_status`: an `mx.LimitStatus` number for each limit, of shapes `()` and `(5,)`; unless it is
        `FOUND`, the limit is NaN.
    - `valid`: whether all six limits are found.
    - `name`: the parameter. `cl`: the confidence level. `cls`: whether these are limits of CLs.
    - `best`: the fitted parameter.
    - `free`: the free fit of the data. `asimov`: that of the Asimov data; `None` with toys.
    - `observed_error`, `expected_error`: with toys, the standard errors due to the finite number of toys; else `None`.
    - `scales`: for weighted events, the scale factors of the parts of the likelihood (see `mx.effective`); else `None`.
    """

    observed: Float[Array, ""]
    expected: Float[Array, "5"]
    status: Int[Array, ""]
    expected_status: Int[Array, "5"]
    best: Float[Array, ""]
    free: FitResult
    cl: float = eqx.field(static=True)
    cls: bool = eqx.field(static=True)
    name: str = eqx.field(static=True)
    observed_error: Float[Array, ""] | None = None
    expected_error: Float[Array, "5"] | None = None
    asimov: FitResult | None = None
    scales: Scales = None

    @property
    def valid(self) -> Bool[Array, ""]:
        return (self.status == int(LimitStatus.FOUND)) & jnp.all(
            self.expected_status == int(LimitStatus.FOUND), axis=-1
        )

    @property
    def error(self) -> Float[Array, ""] | None:
        """An older name of `observed_error`."""
        return self.observed_error

    def __repr__(self) -> str:
        if not is_concrete(self.observed) or np.size(self.observed) == 0:
            return f"UpperLimit({self.name}, shape={jnp.shape(self.observed)})"
        return self._table().text()

    def _repr_html_(self) -> str:
        if not is_concrete(self.observed) or np.size(self.observed) == 0:
            return f"<pre>{self!r}</pre>"
        return self._table().html()

    def _table(self) -> Table:
        return _one(self) if np.ndim(self.observed) == 0 else _many(self)

    def to_pandas(self) -> "DataFrame":
        """The limits as a `pandas.DataFrame`: one row with the observed and five rows with the expected limits. Its
        columns are `limit`, with toys `limit_error`, and the name of the `status` (of `mx.LimitStatus`). For many
        results, the first level of the index, `lane`, is their number: `frame["limit"].unstack()` has one row for each.

        **Raises:** `ImportError` without pandas; `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_pandas")
        columns = {"limit": with_expected(self.observed, self.expected)}
        if self.observed_error is not None:
            columns["limit_error"] = with_expected(self.observed_error, self.expected_error)
        columns["status"] = names_of(LimitStatus, with_expected(self.status, self.expected_status))
        return data_frame(columns, OBSERVED_AND_EXPECTED, "data", np.shape(self.observed))

    def _content(self) -> dict[str, Any]:
        told, expected = (names_of(LimitStatus, status) for status in (self.status, self.expected_status))
        return {**super()._content(), "status": told, "expected_status": expected, "valid": self.valid}


def _one(limit: UpperLimit) -> Table:
    def cell(value: Any, status: Any, error: Any) -> str:
        limit_status = LimitStatus(int(status))
        return with_its_error(value, error) if limit_status == LimitStatus.FOUND else f"— ({words(limit_status)})"

    rows = [["Observed", cell(limit.observed, limit.status, limit.observed_error)]]
    errors = [None] * 5 if limit.expected_error is None else np.asarray(limit.expected_error)
    bands = zip(BANDS, np.asarray(limit.expected), np.asarray(limit.expected_status), errors, strict=True)
    rows += [[band(n), cell(x, s, e)] for n, x, s, e in bands]
    title = f"Upper limit on {limit.name} at {100 * limit.cl:.4g} % ({'CLs' if limit.cls else 'CLs+b'})"
    lines = [title, *reason(limit.free)]
    if len(lines) == 1 and limit.asimov is not None:
        lines += reason(limit.asimov, "The fit of the Asimov data")
    failed = np.append(np.asarray(limit.expected_status), np.asarray(limit.status)) == int(LimitStatus.FIT_FAILED)
    if len(lines) == 1 and np.any(failed):
        lines.append(
            f"A fit with {limit.name} fixed is not valid, to the data or to the Asimov data. Where there is no signal, "
            "parameters of its shape have no effect: fix them (mx.fix), or add a constraint. mx.hypotest has the status"
        )
    return Table("\n".join([*lines, *scales_line(limit.scales), *_beyond(limit)]), ["", "Limit"], rows)


def _many(limits: UpperLimit) -> Table:
    rows = rows_of(limits.observed, (limits.observed, limits.observed_error), (limits.expected, limits.expected_error))
    size = len(rows)
    all_statuses = np.concatenate(
        [np.reshape(limits.status, (size, 1)), np.reshape(limits.expected_status, (size, 5))], axis=1
    )
    criterion = "CLs" if limits.cls else "CLs+b"
    title = (
        f"Upper limits on {limits.name} at {100 * limits.cl:.4g} % ({criterion}): {counted(limits.observed, 'limit')}"
    )
    return table_of(title, ["Observed", *EXPECTED], rows, [limit_words(row) for row in all_statuses], _beyond(limits))


def _beyond(limit: UpperLimit) -> list[str]:
    return beyond_bound(limit.name, limit.free, [limit.status, *np.moveaxis(np.asarray(limit.expected_status), -1, 0)])


def upper_limit(
    likelihood: Callable[[Any, Any], ArrayLike],
    params: PyTree | FitResult,
    data: PyTree,
    poi: Where,
    *,
    cl: float = 0.95,
    cls: bool = True,
    statistic: AbstractStatistic | None = None,
    calculator: Asymptotic | Toys | None = None,
    values: ArrayLike | None = None,
    solver: optx.AbstractMinimiser[Any, Any, Any] | None = None,
    covariance: Covariance | ArrayLike | None = None,
) -> UpperLimit:
    """Returns the observed and expected upper limits on a parameter, the values at which CLs is 1 - `cl`.

    ```python
    mx.upper_limit(likelihood, params, data, "mu").observed
    ```

    All six limits are roots, which are found together, with the accuracy of rounding and without a grid or a range.
    Works under `jax.jit` and `jax.vmap`, and is differentiable with respect to data and templates:
    d(limit) = -d(CLs) / (dCLs/dmu).

    **Arguments:**

    - `likelihood`, `params`, `data`, `poi`: as for `mx.hypotest`, with one parameter of interest. The limit cannot
        exceed its upper bound.
    - `cl`: the confidence level: a probability below 1, or a number of standard deviations from 1 on (2 is 0.9545).
    - `cls`: `False` for limits at which the p-value (CLs+b) is 1 - `cl` instead of CLs. These can exclude signals to
        which the experiment is not sensitive.
    - `statistic`: `mx.QTilde()`, the default, or `mx.QMu()`.
    - `calculator`: `mx.Asymptotic()`, the default, or `mx.Toys(n, key)`: `n` toys are drawn and fitted at each of about
        ten values of the parameter. With toys it is not available inside `jax.jit` and `jax.vmap`, and has no
        derivative.
    - `values`: with toys, the values of the parameter at which they are made, in place of a search: a limit is found
        between two of them, as if the log of its p-value were a straight line. The jobs of a shard need them.
    - `solver`, `covariance`: for the free fit to the data, as for `mx.fit`.

    **Returns:** an `UpperLimit`; a limit that is not found is NaN, with a status that says why.

    **Raises:** as `mx.hypotest`; `ValueError` for a `cl` out of range, or too few toys for it; `TypeError` for any
    other statistic.
    """
    statistic = QTilde() if statistic is None else statistic
    calculator = Asymptotic() if calculator is None else calculator
    check_kinds(statistic, calculator)
    if not isinstance(statistic, QTilde | QMu):
        raise TypeError(f"an upper limit needs mx.QTilde() or mx.QMu(), got {type(statistic).__name__}")
    cl = probability(cl)
    check_values(values, calculator, "upper_limit", -np.inf, np.inf)
    if isinstance(calculator, Toys):
        check_toys((likelihood, params, data), calculator, 1 - cl, "upper_limit")
    free, factors = free_fit(likelihood, params, data, "upper_limit", solver, covariance)
    index = poi_positions(free.result, poi, "upper_limit")
    if len(index) != 1:
        raise ValueError(f"upper_limit is of one parameter, got {[free.result.names[i] for i in index]}")
    alternative = as_calculator(calculator).alternative_of(statistic, free.result, index)
    conditional = ratio(free, index, statistic.others(alternative))
    free = free._replace(result=conditional.free)
    warn_if_off(free, index, factors, "upper_limit")
    if isinstance(calculator, Toys):
        given = check_values(values, calculator, "upper_limit", float(alternative[0]), float(free.result.upper[index]))
        test = Test(statistic, free, index, alternative, alternative)
        limits = toy_limits(test, conditional, cl, cls, calculator, given)
        return _result(free.result, index[0], cl, cls, *limits)
    asimov_reference = reference(free, conditional)
    problem = LimitProblem(
        free.nll, conditional, free.data, asimov_reference, index[0], alternative, 1 - cl, distances(cl, cls)
    )
    limits, status = find_limits(problem, statistic.tilde, cls)
    return _result(free.result, index[0], cl, cls, limits, status, None, asimov_reference.free, scales_of(factors))


def distances(cl: float, cls: bool) -> Float[Array, "5"]:
    """Returns the distances of the expected limits from the alternative in standard deviations of the estimate, for
    data that are `formulas.BANDS` off: CCGV eqs. 88, 89, solved for them. A distance that is not positive means that no
    value is allowed."""
    band = np.asarray(formulas.BANDS, float)
    return jnp.asarray(band - ndtri_exp(np.log(1 - cl) + (log_ndtr(band) if cls else 0.0)))


def _result(
    free: FitResult,
    i: int,
    cl: float,
    cls: bool,
    limits: Array,
    status: Array,
    errors: Array | None,
    asimov: FitResult | None = None,
    scales: Scales = None,
) -> UpperLimit:
    splits = _observed_and_expected(free.values, jnp.asarray(i), limits, status, errors)
    (observed, expected), (observed_status, expected_status), (error, expected_error), best = splits
    # by position, because a metaclass calls its own argument "cls"
    static = (float(cl), bool(cls), free.names[i])
    return UpperLimit(
        observed, expected, observed_status, expected_status, best, free, *static, error, expected_error, asimov, scales
    )


@hosted
def _observed_and_expected(values: Array, i: Array, *arrays: Array | None) -> tuple[Any, ...]:
    """Splits the arrays of all limits at once, where each would be a small program."""
    return (*[(None, None) if a is None else (a[0], a[1:]) for a in arrays], values[i])
