"""`interval`: central and Feldman-Cousins confidence intervals of one parameter."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._display.table import Table
from .._fit.covariance import Covariance
from .._fit.result import FitResult
from .._host.hosted import hosted
from .._parameters.select import Where
from .._profile.crossing import Side
from .._profile.fitted import Fitted
from .._profile.levels import probability
from .._profile.minos import minos
from .._toys.source import Toys
from .._util.arrays import to_jax
from .._util.frames import lane_frame
from .._util.result import AbstractTabled, names_of, refuse_traced
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .asymptotic import Asymptotic
from .cells import number, reason, scales_line, with_its_error, words
from .ensemble import Shown
from .hypotest import check_kinds
from .lanes import counted, limit_words, rows_of, table_of
from .limit_status import LimitStatus
from .noisy_root import Heights, Root, find_roots, roots_between
from .statistics import Q0, AbstractStatistic, QMu, TMu, poi_positions
from .stored import Hypotheses
from .test import free_fit
from .toy_limit import check_toys, check_values, heights, one_error
from .toys import drawn_at, p_value, unweighted
from .weights import Scales, scales_of, warn_if_off

if TYPE_CHECKING:
    from pandas import DataFrame

Kind = Literal["central", "feldman-cousins"]


class Interval(AbstractTabled):
    """A confidence interval of one parameter.

    **Attributes:**

    - `lower`, `upper`: its ends, in the parameter's units.
    - `lower_status`, `upper_status`: an `mx.LimitStatus` number for each end: `FOUND`, or `AT_BOUND` if the interval
        extends to a bound of the parameter, which is then the end. With any other status the end is NaN.
    - `valid`: whether both ends have one of these two statuses.
    - `lower_error`, `upper_error`: with toys, the standard errors of the ends due to the finite number of toys; else
        `None`.
    - `best`: the fitted parameter, in its units.
    - `scales`: for weighted events, the scale factors of the parts of the likelihood (see `mx.effective`); else `None`.
    - `free`: the free fit.
    - `cl`, `kind`, `name`: the confidence level, the kind of interval, and the parameter.
    """

    lower: Float[Array, ""]
    upper: Float[Array, ""]
    lower_status: Int[Array, ""]
    upper_status: Int[Array, ""]
    best: Float[Array, ""]
    free: FitResult
    lower_error: Float[Array, ""] | None
    upper_error: Float[Array, ""] | None
    cl: float = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    name: str = eqx.field(static=True)
    scales: Scales = None

    @property
    def valid(self) -> Bool[Array, ""]:
        """Whether both ends are found or at a bound."""
        return jnp.isfinite(self.lower) & jnp.isfinite(self.upper)

    def __repr__(self) -> str:
        if not is_concrete(self.lower) or np.size(self.lower) == 0:
            return f"Interval({self.name}, shape={jnp.shape(self.lower)})"
        return self._table().text()

    def _repr_html_(self) -> str:
        if not is_concrete(self.lower) or np.size(self.lower) == 0:
            return f"<pre>{self!r}</pre>"
        return self._table().html()

    def _table(self) -> Table:
        return _one(self) if np.ndim(self.lower) == 0 else _many(self)

    def to_pandas(self) -> "DataFrame":
        """The intervals as a `pandas.DataFrame`, one row each: `best`, `lower`, `upper`, with toys their errors, the
        names of both statuses (of `mx.LimitStatus`), `valid`.

        **Raises:** `ImportError` without pandas; `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_pandas")
        columns = {"best": self.best, "lower": self.lower, "upper": self.upper}
        if self.lower_error is not None:
            columns |= {"lower_error": self.lower_error, "upper_error": self.upper_error}
        return lane_frame({**columns, **self._words()}, np.shape(self.lower))

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), **self._words()}

    def _words(self) -> dict[str, Any]:
        lower, upper = (names_of(LimitStatus, status) for status in (self.lower_status, self.upper_status))
        return {"lower_status": lower, "upper_status": upper, "valid": self.valid}


def _one(result: Interval) -> Table:
    rows = []
    for name, value, status, error in (
        ("Lower end", result.lower, result.lower_status, result.lower_error),
        ("Upper end", result.upper, result.upper_status, result.upper_error),
    ):
        status_kind = LimitStatus(int(status))
        text = with_its_error(value, error)
        rows.append([name, text if status_kind == LimitStatus.FOUND else f"{text} ({words(status_kind)})"])
    kind = {"central": "Central", "feldman-cousins": "Feldman-Cousins"}[result.kind]
    best = number(result.best if bool(result.free.valid) else np.nan)
    title = f"{kind} interval of {result.name} at {100 * result.cl:.4g} %: fitted {best}"
    return Table("\n".join([title, *reason(result.free), *scales_line(result.scales)]), ["", "Value"], rows)


def _many(results: Interval) -> Table:
    best = np.where(results.free.valid, results.best, np.nan)
    rows = rows_of(
        results.lower,
        (best, None),
        (results.lower, results.lower_error),
        (results.upper, results.upper_error),
    )
    statuses = np.stack([np.ravel(results.lower_status), np.ravel(results.upper_status)], axis=1)
    title = f"Intervals of {results.name} at {100 * results.cl:.4g} %: {counted(results.lower, 'interval')}"
    return table_of(title, ["Fitted", "Lower end", "Upper end"], rows, [limit_words(row) for row in statuses])


def interval(
    likelihood: Callable[[Any, Any], ArrayLike],
    params: PyTree | FitResult,
    data: PyTree,
    poi: Where,
    *,
    cl: float = 0.6827,
    kind: Kind = "central",
    calculator: Asymptotic | Toys | None = None,
    values: ArrayLike | None = None,
    solver: optx.AbstractMinimiser[Any, Any, Any] | None = None,
    covariance: Covariance | ArrayLike | None = None,
) -> Interval:
    """Returns a confidence interval of one parameter, with all other parameters fitted at each of its values.

    ```python
    mx.interval(likelihood, params, data, "mu", cl=0.9, kind="feldman-cousins", calculator=mx.Toys(1000, key))
    ```

    There are two kinds:

    - `"central"`: the p-value at each end is (1 - `cl`) / 2. With `mx.Asymptotic()` the ends are the crossings at which
        the profile of the NLL has risen by UP times the quantile of chi2, as in `mx.minos`; with toys, the p-values are
        those of the one-sided likelihood ratios.
    - `"feldman-cousins"`: a value belongs to the interval unless its likelihood ratio to the best fit within the
        parameter's bounds is among the fraction 1 - `cl` of the most extreme ones in toys (G. J. Feldman and R. D.
        Cousins, Phys. Rev. D 57 (1998) 3873). The toys are drawn with the other parameters from the conditional fit at
        this value (M. A. Acero et al., arXiv:2207.14353). The interval becomes one-sided where necessary, and is never
        empty. With toys only.

    **Arguments:**

    - `likelihood`, `params`, `data`, `poi`: as for `mx.hypotest`, with one parameter of interest.
    - `cl`: the confidence level: a probability below 1, or a number of standard deviations from 1 on. The default is
        one standard deviation.
    - `kind`: `"central"`, the default, or `"feldman-cousins"`.
    - `calculator`: `mx.Asymptotic()`, the default, or `mx.Toys(n, key)`: `n` toys are drawn and fitted at each of about
        ten values of the parameter. With toys it is not available inside `jax.jit` and `jax.vmap`, and has no
        derivative.
    - `values`: with toys, the values of the parameter at which they are made, on both sides of the fitted one, as for
        `mx.upper_limit`; with the bound among them where the interval may end there.
    - `solver`, `covariance`: for the free fit to the data, as for `mx.fit`.

    **Returns:** an `Interval`; an end that is not found is NaN, with a status that says why.

    **Raises:** as `mx.hypotest`; `ValueError` for a `cl` out of range, an unknown `kind`, several parameters, too few
    toys, or Feldman-Cousins intervals without toys.
    """
    calculator = Asymptotic() if calculator is None else calculator
    check_kinds(TMu(), calculator)
    cl = probability(cl)
    if kind not in ("central", "feldman-cousins"):
        raise ValueError(f"kind must be 'central' or 'feldman-cousins', got {kind!r}")
    check_values(values, calculator, "interval", -np.inf, np.inf)
    if isinstance(calculator, Toys):
        check_toys((likelihood, params, data), calculator, _end_p_value(cl, kind), "interval")
    free, factors = free_fit(likelihood, params, data, "interval", solver, covariance)
    index = poi_positions(free.result, poi, "interval")
    if len(index) != 1:
        raise ValueError(f"interval is of one parameter, got {[free.result.names[i] for i in index]}")
    if isinstance(calculator, Toys):
        bounds = (float(free.result.lower[index]), float(free.result.upper[index]))
        return _by_toys(free, index, cl, kind, calculator, check_values(values, calculator, "interval", *bounds))
    if kind != "central":
        raise ValueError("kind='feldman-cousins' needs toys: calculator=mx.Toys(1000, jax.random.key(0))")
    warn_if_off(free, index, factors, "interval")
    return _by_minos(free, index[0], cl, scales_of(factors))


def _by_minos(fitted: Fitted, i: int, cl: float, scales: Scales) -> Interval:
    free = fitted.result
    best, name = _entry(free.values, i), free.names[i]
    if is_concrete(free.valid) and not bool(free.valid):
        failed = jnp.asarray(int(LimitStatus.FIT_FAILED))
        nan = jnp.full_like(best, jnp.nan)
        return Interval(nan, nan, failed, failed, best, free, None, None, cl, "central", name, scales)
    sides = minos(*fitted, name, cl=cl)
    lower, lower_status = _end_by_minos(free.values, i, sides.lower, sides.lower_status, free.lower)
    upper, upper_status = _end_by_minos(free.values, i, sides.upper, sides.upper_status, free.upper)
    return Interval(lower, upper, lower_status, upper_status, best, free, None, None, cl, "central", name, scales)


@hosted
def _entry(values: Array, i: int) -> Array:
    return values[i]


@hosted
def _end_by_minos(values: Array, i: int, errors: Array, sides: Array, bounds: Array) -> tuple[Array, Array]:
    """An end of the interval of parameter `i`, and its `LimitStatus`."""
    best, error, side, bound = values[i], errors[0], sides[0], bounds[i]
    is_found, at_bound = side == int(Side.FOUND), side == int(Side.AT_LIMIT)
    end = jnp.where(is_found, best + error, jnp.where(at_bound, bound, jnp.nan))
    failure = jnp.where(at_bound, int(LimitStatus.AT_BOUND), int(LimitStatus.FIT_FAILED))
    return end, jnp.where(is_found, int(LimitStatus.FOUND), failure)


def _end_p_value(cl: float, kind: str) -> float:
    """Returns the p-value at the ends of the interval."""
    return 1 - cl if kind == "feldman-cousins" else 0.5 * (1 - cl)


def _by_toys(
    fitted: Fitted,
    index: tuple[int, ...],
    cl: float,
    kind: str,
    calculator: Toys,
    given: Float[np.ndarray, " m"] | None,
) -> Interval:
    free, i = fitted.result, index[0]
    best, name = free.values[i], free.names[i]
    if not bool(free.valid):
        roots = [Root(np.nan, np.nan, LimitStatus.FIT_FAILED)] * 2
    else:
        p_end = _end_p_value(cl, kind)
        error = one_error(fitted, i)
        # an estimate on the other side of the tested value is no evidence against it
        one_sided: dict[int, AbstractStatistic] = {-1: Q0(), 1: QMu()}
        statistics = {sign: TMu() if kind == "feldman-cousins" else one_sided[sign] for sign in (-1, 1)}
        searches = [_IntervalEnd(fitted, index, sign, statistics[sign], p_end, calculator) for sign in (-1, 1)]
        with Shown(calculator.progress) as progress:
            hypotheses = Hypotheses(fitted.nll, fitted.data, index, progress, free.errors)
            roots = [search.end(error, hypotheses, given) for search in searches]
    if any(root.status == LimitStatus.NONE_ALLOWED for root in roots):  # the interval is empty
        roots = [Root(np.nan, np.nan, LimitStatus.NONE_ALLOWED)] * 2
    ends = [
        _end_and_status(root, sign, best, bound)
        for root, sign, bound in zip(roots, (-1, 1), (free.lower[i], free.upper[i]), strict=True)
    ]
    (lower, lower_status), (upper, upper_status) = ends
    lower_error, upper_error = (jnp.asarray(root.error) for root in roots)
    return Interval(lower, upper, lower_status, upper_status, best, free, lower_error, upper_error, cl, kind, name)


class _IntervalEnd(NamedTuple):
    """One end of the interval: the crossing where the p-value, which is 1 at the best fit, has fallen to `p_end`."""

    fitted: Fitted
    poi: tuple[int, ...]
    sign: int
    statistic: AbstractStatistic
    p_end: float
    calculator: Toys

    def end(self, error: float, hypotheses: Hypotheses, given: Float[np.ndarray, " m"] | None) -> Root:
        """Searches for the crossing. `error`: that of the parameter, for the first guesses. `given`: the values at
        which toys are made, if there is no search."""
        best, bound = self._best, self._bound
        if bound == best:
            return Root(np.nan, np.nan, LimitStatus.BEYOND_BOUND)
        if given is not None:
            distances = {self.sign * (float(v) - best): float(v) for v in given}
            seen = {d: self.evaluate(v, hypotheses) for d, v in distances.items() if d > 0}
            return roots_between(seen, abs(bound - best), 1)[0]
        z = float(-np.log(self.p_end)) ** 0.5 + 0.5  # slightly above the quantile of a normal estimate
        first_distances = [0.7 * z * error, z * error]
        return find_roots(
            lambda d: self.evaluate(self._value(d), hypotheses),
            first_distances,
            abs(bound - best),
            -float(np.log(self.p_end)),
            1,
        )[0]

    def _value(self, distance: float) -> float:
        best, bound = self._best, self._bound
        return bound if distance >= abs(bound - best) else best + self.sign * distance

    def evaluate(self, value: float, hypotheses: Hypotheses) -> Heights:
        values = jnp.asarray([value], self.fitted.result.values.dtype)
        q = self.statistic.at(self.fitted, self.poi, values)
        if not bool(q.valid):
            return Heights(np.full(1, np.nan), np.full(1, np.nan))
        (toys,) = drawn_at(self.calculator, (hypotheses.settled(self.calculator, q.conditional),))
        toy_statistics = unweighted(*to_jax(hypotheses.ensemble(toys).statistic(self.statistic, values)))
        p, p_error = p_value(toy_statistics, q.value)
        return heights(p[None], p_error[None], toy_statistics, float(np.log(self.p_end)))

    @property
    def _best(self) -> float:
        return float(self.fitted.result.values[self.poi[0]])

    @property
    def _bound(self) -> float:
        return float((self.fitted.result.upper if self.sign > 0 else self.fitted.result.lower)[self.poi[0]])


def _end_and_status(root: Root, sign: int, best: Array, bound: Array) -> tuple[Array, Array]:
    """Returns the end of the interval and its status; the bound, if the p-value has not fallen enough there."""
    status = LimitStatus.AT_BOUND if root.status == LimitStatus.BEYOND_BOUND else root.status
    value = bound if status == LimitStatus.AT_BOUND else best + sign * root.distance
    return value, jnp.asarray(int(status))
