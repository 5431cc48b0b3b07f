"""`hypotest`: the test of one value of a parameter, with its p-values and CLs."""

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
from .._profile.fitted import Fitted
from .._toys.source import Toys
from .._util.frames import data_frame
from .._util.result import AbstractTabled, names_of, refuse_traced
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .asymptotic import Asymptotic
from .cells import band, number, reason, scales_line, status_words, toys_line, with_its_error
from .formulas import BANDS
from .lanes import EXPECTED, OBSERVED_AND_EXPECTED, counted, rows_of, statuses, table_of, with_expected
from .statistics import AbstractStatistic, QTilde, StatisticValue, poi_positions
from .test import Errors, PValues, Test, free_fit
from .toys import ToyTest, as_calculator
from .weights import Scales, scales_of, warn_if_off

if TYPE_CHECKING:
    from pandas import DataFrame


class HypoTest(AbstractTabled):
    """The test of one value of a parameter (or one value each of `k` parameters).

    **Attributes**, numbers of shape `()` unless stated otherwise:

    - `statistic`: the test statistic of the data.
    - `p_sb`: the p-value of the tested hypothesis. `p_b`: the probability under the alternative hypothesis (for limits:
        without a signal) of a statistic at least as large. `cls`: the ratio `p_sb / p_b`; NaN for a test of discovery.
    - `expected_cls`, `expected_p_sb`: shape `(5,)`, for data at -2, -1, 0, 1, 2 standard deviations from the median of
        the alternative, in ascending order of the p-value. NaN for two-sided statistics.
    - `best`: shape `(k,)`, the fitted parameter of interest, in its units.
    - `status`: an `mx.Status` number; unless it is `VALID`, all numbers are NaN. `valid`: whether it is `VALID`.
    - `fits`: the `StatisticValue` of the data, with the fits.
    - `name`: the parameter. `value`, `alternative`: shape `(k,)`, its tested value and that of the other hypothesis.
    - `p_sb_error`, `p_b_error`, `cls_error`, `expected_p_sb_error`, `expected_cls_error`: with toys, the standard
        errors due to the finite number of toys; else `None`.
    - `scales`: for weighted events, the scale factors of the parts of the likelihood (see `mx.effective`); else `None`.
    - `toys`: with toys, their statistics, weights and statuses (`toys.tested`, `toys.alternative`); else `None`.
    """

    statistic: Float[Array, ""]
    p_sb: Float[Array, ""]
    p_b: Float[Array, ""]
    cls: Float[Array, ""]
    expected_p_sb: Float[Array, "5"]
    expected_cls: Float[Array, "5"]
    best: Float[Array, " k"]
    status: Int[Array, ""]
    fits: StatisticValue
    name: str = eqx.field(static=True)
    value: Float[Array, " k"]
    alternative: Float[Array, " k"]
    p_sb_error: Float[Array, ""] | None = None
    p_b_error: Float[Array, ""] | None = None
    cls_error: Float[Array, ""] | None = None
    expected_p_sb_error: Float[Array, "5"] | None = None
    expected_cls_error: Float[Array, "5"] | None = None
    toys: ToyTest | None = None
    scales: Scales = None

    @property
    def valid(self) -> Bool[Array, ""]:
        return self.status == int(Status.VALID)

    @property
    def errors(self) -> Errors | None:
        """The older name of the errors: `errors.cls` is `cls_error`, for example; `None` without toys."""
        if self.cls_error is None:
            return None
        return Errors(*(getattr(self, f"{name}_error") for name in Errors._fields))

    def __repr__(self) -> str:
        if not is_concrete(self.p_sb) or np.size(self.p_sb) == 0:
            return f"HypoTest({self.name}, shape={jnp.shape(self.p_sb)})"
        return self._table().text()

    def _repr_html_(self) -> str:
        if not is_concrete(self.p_sb) or np.size(self.p_sb) == 0:
            return f"<pre>{self!r}</pre>"
        return self._table().html()

    def _table(self) -> Table:
        return _one(self) if np.ndim(self.p_sb) == 0 else _many(self)

    def to_pandas(self) -> "DataFrame":
        """The p-values as a `pandas.DataFrame`: one row with the observed and five rows with the expected ones. Its
        columns are `p_sb`, `p_b` (observed only), `cls`, with toys `p_sb_error`, `p_b_error` and `cls_error`, and the
        name of the `status`. For many tests, the first level of the index, `lane`, is the number of the test.

        **Raises:** `ImportError` without pandas; `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_pandas")
        columns = {
            "p_sb": with_expected(self.p_sb, self.expected_p_sb),
            "p_b": with_expected(self.p_b, np.nan),
            "cls": with_expected(self.cls, self.expected_cls),
        }
        if self.cls_error is not None:
            columns["p_sb_error"] = with_expected(self.p_sb_error, self.expected_p_sb_error)
            columns["p_b_error"] = with_expected(self.p_b_error, np.nan)
            columns["cls_error"] = with_expected(self.cls_error, self.expected_cls_error)
        columns["status"] = names_of(Status, self.status)[..., None]
        return data_frame(columns, OBSERVED_AND_EXPECTED, "data", np.shape(self.p_sb))

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), "status": names_of(Status, self.status), "valid": self.valid}


def _one(test: HypoTest) -> Table:
    """Returns the table of one test: the p-values and their expected band."""
    value = ", ".join(f"{v:.6g}" for v in np.asarray(test.value).tolist())
    kind = "p-value" if np.isnan(test.cls) and bool(test.valid) else "CLs"
    (observed, error), (expected, expected_error) = _shown(test, kind == "p-value")
    rows = [["Observed", with_its_error(observed, error)]]
    if not np.all(np.isnan(expected)):
        errors = [None] * 5 if expected_error is None else np.asarray(expected_error)
        bands = zip(BANDS, np.asarray(expected), errors, strict=True)
        rows += [[band(n), with_its_error(x, e)] for n, x, e in bands]
    p_sb, p_b = with_its_error(test.p_sb, test.p_sb_error), with_its_error(test.p_b, test.p_b_error)
    alternative = ", ".join(f"{v:.6g}" for v in np.asarray(test.alternative).tolist())
    title = f"{test.name} = {value} against {alternative}: {status_words(test.status)}p(s+b) = {p_sb}, p(b) = {p_b}"
    lines = [title, *reason(test.fits.free), *toys_line(test.toys), *scales_line(test.scales)]
    if kind == "CLs" and float(test.statistic) == 0 and test.best[0] > test.value[0]:
        lines.append(f"The fitted {test.name}, {number(test.best[0])}, is above {value}, so nothing speaks against it")
    return Table("\n".join(lines), ["", kind], rows)


def _many(tests: HypoTest) -> Table:
    """Returns a table with a row for each test: its value, CLs (or the p-value, if there is no CLs) and the band."""
    no_cls = bool(np.all(np.isnan(np.asarray(tests.cls)[np.asarray(tests.valid)])))
    n_values = np.shape(tests.value)[-1]
    head = ["Value"] if n_values == 1 else [f"Value {i}" for i in range(n_values)]
    rows = rows_of(tests.p_sb, (tests.value, None), *_shown(tests, no_cls))
    head += ["p-value" if no_cls else "CLs", *EXPECTED]
    return table_of(f"{tests.name}: {counted(tests.p_sb, 'test')}", head, rows, statuses(tests.status))


def _shown(test: HypoTest, no_cls: bool) -> tuple[tuple[Array, Array | None], tuple[Array, Array | None]]:
    """Returns CLs, or the p-value if there is no CLs, observed and expected, each with its error."""
    if no_cls:
        return (test.p_sb, test.p_sb_error), (test.expected_p_sb, test.expected_p_sb_error)
    return (test.cls, test.cls_error), (test.expected_cls, test.expected_cls_error)


def hypotest(
    likelihood: Callable[[Any, Any], ArrayLike],
    params: PyTree | FitResult,
    data: PyTree,
    poi: Where,
    value: ArrayLike,
    *,
    statistic: AbstractStatistic | None = None,
    calculator: Asymptotic | Toys | None = None,
    solver: optx.AbstractMinimiser[Any, Any, Any] | None = None,
    covariance: Covariance | ArrayLike | None = None,
) -> HypoTest:
    """Tests a value of a parameter: p-values, CLs (A. L. Read, J. Phys. G 28 (2002) 2693) and their expected bands.

    ```python
    mx.hypotest(likelihood, params, data, "mu", 1.0).cls
    mx.hypotest(likelihood, params, data, "mu", 1.0, calculator=mx.Toys(10_000, jax.random.key(0))).cls_error
    ```

    Works under `jax.jit` and `jax.vmap` (over values, data, templates), and is differentiable with respect to all of
    these. With toys it also works under `jax.jit` and `jax.vmap`, but is faster outside, and has no derivative.

    **Arguments:**

    - `likelihood`, `data`: as for `mx.fit`. The likelihood must provide Asimov data or, with toys, be one that toys can
        be drawn from.
    - `params`: the start of the free fit, as for `mx.fit`, or the `mx.FitResult` of these data, which replaces the free
        fit.
    - `poi`: the parameter of interest, by name or as for `mx.fix`; several for `mx.TMu()`.
    - `value`: the tested value, one number for each parameter of interest, in its units.
    - `statistic`: the test statistic; default `mx.QTilde()`.
    - `calculator`: how p-values are computed: `mx.Asymptotic()`, the default, or `mx.Toys(n, key)`.
    - `solver`, `covariance`: for the free fit to the data, as for `mx.fit`.

    **Returns:** a `HypoTest`; all numbers are NaN, with a status that says why, unless all fits are valid.

    **Raises:** `ValueError` for a parameter that is unknown or fixed, a value outside its bounds, or, with `mx.Q0()`, a
    value equal to that of the alternative; `TypeError` for a likelihood without Asimov data (with toys: one that cannot
    be drawn from), and for a derivative with toys.
    """
    statistic = QTilde() if statistic is None else statistic
    calculator = Asymptotic() if calculator is None else calculator
    check_kinds(statistic, calculator)
    free, factors = free_fit(likelihood, params, data, "hypotest", solver, covariance)
    index = poi_positions(free.result, poi, "hypotest")
    q, p = tested(statistic, free, index, value, calculator, "hypotest")
    warn_if_off(free._replace(result=q.free), index, factors, "hypotest")
    return _result(statistic, q, p, ", ".join(free.result.names[i] for i in index), scales_of(factors))


def tested(
    statistic: AbstractStatistic,
    free: Fitted,
    index: tuple[int, ...],
    value: ArrayLike,
    calculator: Asymptotic | Toys,
    what: str,
) -> tuple[StatisticValue, PValues]:
    """Returns the statistic of the data and its p-values, by the given calculator."""
    method = as_calculator(calculator)
    values = statistic.checked(free.result, index, value, what)
    alternative = method.alternative_of(statistic, free.result, index)
    if (
        statistic.discovery
        and is_concrete(values, alternative)
        and np.array_equal(np.asarray(values), np.asarray(alternative))
    ):
        raise ValueError(
            f"{what} tests {float(values[0]):g} against itself: a discovery tests the value without a signal, 0; that "
            "with a signal is the alternative, mx.Asymptotic(alternative=1.0)"
        )
    return method.p_values(Test(statistic, free, index, values, alternative))


def check_kinds(statistic: Any, calculator: Any) -> None:
    """**Raises:** `TypeError` unless both are instances of migrax's statistics and calculators."""
    for what, thing, kind, examples in (
        ("statistic", statistic, AbstractStatistic, "mx.QTilde() or mx.Q0()"),
        ("calculator", calculator, Asymptotic | Toys, "mx.Asymptotic() or mx.Toys(1000, key)"),
    ):
        if isinstance(thing, type):
            given = "n, jax.random.key(0)" if thing is Toys else ""
            raise TypeError(f"{what} must be an instance: write mx.{thing.__name__}({given})")
        if not isinstance(thing, kind):
            raise TypeError(f"{what} must be one of migrax's, such as {examples}; got {thing!r}")
    if isinstance(calculator, Toys) and calculator.params is not None:
        raise ValueError("tests draw their toys at the conditional fit to the data: mx.Toys(n, key) without params")


@hosted
def _result(statistic: AbstractStatistic, q: StatisticValue, p: PValues, name: str, scales: Scales) -> HypoTest:
    is_valid = p.status == int(Status.VALID)
    if_valid = lambda x: jnp.where(is_valid, x, jnp.nan)  # noqa: E731
    from_log = lambda log_p: if_valid(jnp.exp(log_p))  # noqa: E731
    nan_or_zero = jnp.nan if statistic.discovery else 0.0
    errors: dict[str, Array] = {}
    if p.errors is not None:
        known = p.errors._replace(cls=p.errors.cls + nan_or_zero, expected_cls=p.errors.expected_cls + nan_or_zero)
        errors = {f"{name}_error": if_valid(error) for name, error in known._asdict().items()}
    # by position, because a metaclass calls its own argument "cls"
    return HypoTest(
        if_valid(q.value),
        from_log(p.log_sb),
        from_log(p.log_b),
        from_log(_log_cls(p.log_sb, p.log_b) + nan_or_zero),
        expected_p_sb=from_log(p.expected_log_sb),
        expected_cls=from_log(_log_cls(p.expected_log_sb, p.expected_log_b) + nan_or_zero),
        best=q.best,
        status=p.status,
        fits=q,
        name=name,
        value=q.tested,
        alternative=p.alternative,
        **errors,
        toys=p.toys,
        scales=scales,
    )


def _log_cls(log_sb: Array, log_b: Array) -> Array:
    """Returns log CLs; NaN where no toy of the alternative is beyond the data."""
    return jnp.where(log_b > -jnp.inf, log_sb - log_b, jnp.nan)
