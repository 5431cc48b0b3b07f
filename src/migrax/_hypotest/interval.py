"""`interval`: central confidence intervals, and those of Feldman and Cousins, of one parameter."""

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
from .._parameters.select import Where
from .._profile.crossing import Side
from .._profile.fitted import Fitted
from .._profile.levels import probability
from .._profile.minos import minos
from .._toys.source import Toys
from .._util.frames import lane_frame
from .._util.result import AbstractTabled, names_of, refuse_traced
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .asymptotic import Asymptotic
from .cells import number, reason, scales_line, with_its_error, words
from .ensemble import Ensemble, Shown
from .hypotest import check_kinds
from .lanes import counted, limit_words, rows_of, table_of
from .limit_status import LimitStatus
from .noisy_root import Heights, Root, find_roots
from .statistics import Q0, AbstractStatistic, QMu, TMu, poi_positions
from .test import free_fit
from .toy_limit import check_toys, heights, one_error
from .toys import drawn_at, p_value, statistic_of, unweighted
from .weights import Scales, scales_of, warn_if_off

if TYPE_CHECKING:
    from pandas import DataFrame

Kind = Literal["central", "feldman-cousins"]


class Interval(AbstractTabled):
    """A confidence interval of one parameter.

    **Attributes:**

    - `lower`, `upper`: its ends, in the parameter's units.
    - `lower_status`, `upper_status`: an `mx.LimitStatus` for each: `FOUND`, or `AT_BOUND` for an interval that reaches
        to the parameter's bound, which then is the end; all others are NaN.
    - `lower_error`, `upper_error`: by toys, the standard errors of the ends that the number of toys leaves; else
        `None`.
    - `best`: the fitted parameter.
    - `scales`: of weighted events, the factors of the likelihood by part (see `mx.effective`); else `None`.
    - `free`: the free fit.
    - `cl`, `kind`, `name`: what was asked for.
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
        """Whether both ends are there."""
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
        """The intervals as a `pandas.DataFrame`, one row each: `best`, `lower`, `upper`, by toys with their errors, the
        names of both statuses (of `mx.LimitStatus`), `valid`.

        **Raises:** `ImportError` without pandas; `TypeError` inside of `jax.jit`.
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


def _one(found: Interval) -> Table:
    rows = []
    for name, value, status, error in (
        ("Lower end", found.lower, found.lower_status, found.lower_error),
        ("Upper end", found.upper, found.upper_status, found.upper_error),
    ):
        end = LimitStatus(int(status))
        told = with_its_error(value, error)
        rows.append([name, told if end == LimitStatus.FOUND else f"{told} ({words(end)})"])
    kind = {"central": "Central", "feldman-cousins": "Feldman-Cousins"}[found.kind]
    best = number(found.best if bool(found.free.valid) else np.nan)
    title = f"{kind} interval of {found.name} at {100 * found.cl:.4g} %: fitted {best}"
    return Table("\n".join([title, *reason(found.free), *scales_line(found.scales)]), ["", "Value"], rows)


def _many(found: Interval) -> Table:
    best = np.where(found.free.valid, found.best, np.nan)
    rows = rows_of(found.lower, (best, None), (found.lower, found.lower_error), (found.upper, found.upper_error))
    each = np.stack([np.ravel(found.lower_status), np.ravel(found.upper_status)], axis=1)
    title = f"Intervals of {found.name} at {100 * found.cl:.4g} %: {counted(found.lower, 'interval')}"
    return table_of(title, ["Fitted", "Lower end", "Upper end"], rows, [limit_words(row) for row in each])


def interval(
    likelihood: Callable[[Any, Any], ArrayLike],
    params: PyTree | FitResult,
    data: PyTree,
    poi: Where,
    *,
    cl: float = 0.6827,
    kind: Kind = "central",
    calculator: Asymptotic | Toys | None = None,
    solver: optx.AbstractMinimiser[Any, Any, Any] | None = None,
    covariance: Covariance | ArrayLike | None = None,
) -> Interval:
    """A confidence interval of one parameter, the others fitted at each value.

    ```python
    mx.interval(likelihood, params, data, "mu", cl=0.9, kind="feldman-cousins", calculator=mx.Toys(1000, key))
    ```

    - `"central"`: each end is where the data are (1 - `cl`) / 2 improbable on its side. With `mx.Asymptotic()` that is
        where the likelihood has risen by the quantile of chi2, as `mx.minos` finds it; with toys, p-values of the
        one-sided likelihood ratios.
    - `"feldman-cousins"`: all values whose likelihood ratio to the best one within the parameter's bounds is not among
        the 1 - `cl` most extreme ones of toys (G. J. Feldman and R. D. Cousins, Phys. Rev. D 57 (1998) 3873), with the
        other parameters where the data put them at each value (M. A. Acero et al., arXiv:2207.14353). It becomes
        one-sided by itself, and is never empty. By toys only.

    **Arguments:**

    - `likelihood`, `params`, `data`, `poi`: as for `mx.hypotest`, with one parameter of interest.
    - `cl`: the confidence level: a probability or, from 1 on, a number of standard deviations.
    - `calculator`: `mx.Asymptotic()`, the default, or `mx.Toys(n, key)`: `n` toys are drawn and fitted at each of some
        ten values. By toys not for the inside of `jax.jit` and `jax.vmap`, and without a derivative.
    - `solver`, `covariance`: of the free fit to the data, as for `mx.fit`.

    **Returns:** an `Interval`.

    **Raises:** as `mx.hypotest`; `ValueError` for a `cl` out of range, another `kind`, several
    parameters, too few toys, or Feldman and Cousins without toys.
    """
    calculator = Asymptotic() if calculator is None else calculator
    check_kinds(TMu(), calculator)
    cl = probability(cl)
    if kind not in ("central", "feldman-cousins"):
        raise ValueError(f"kind must be 'central' or 'feldman-cousins', got {kind!r}")
    if isinstance(calculator, Toys):
        check_toys((likelihood, params, data), calculator, _share(cl, kind), "interval")
    free, factors = free_fit(likelihood, params, data, "interval", solver, covariance)
    index = poi_positions(free.result, poi, "interval")
    if len(index) != 1:
        raise ValueError(f"interval is of one parameter, got {[free.result.names[i] for i in index]}")
    if isinstance(calculator, Toys):
        return _by_toys(free, index, cl, kind, calculator)
    if kind != "central":
        raise ValueError("intervals of Feldman and Cousins are by toys: calculator=mx.Toys(1000, jax.random.key(0))")
    warn_if_off(free, index, factors, "interval")
    return _by_minos(free, index[0], cl, scales_of(factors))


def _by_minos(fitted: Fitted, i: int, cl: float, scales: Scales) -> Interval:
    free = fitted.result
    best, name = free.values[i], free.names[i]
    if is_concrete(free.valid) and not bool(free.valid):
        failed = jnp.asarray(int(LimitStatus.FIT_FAILED))
        nothing = jnp.full_like(best, jnp.nan)
        return Interval(nothing, nothing, failed, failed, best, free, None, None, cl, "central", name, scales)
    sides = minos(*fitted, name, cl=cl)
    ends = []
    for off, status, bound in (
        (sides.lower[0], sides.lower_status[0], free.lower[i]),
        (sides.upper[0], sides.upper_status[0], free.upper[i]),
    ):
        found, at_bound = status == int(Side.FOUND), status == int(Side.AT_LIMIT)
        end = jnp.where(found, best + off, jnp.where(at_bound, bound, jnp.nan))
        told = jnp.where(at_bound, int(LimitStatus.AT_BOUND), int(LimitStatus.FIT_FAILED))
        ends.append((end, jnp.where(found, int(LimitStatus.FOUND), told)))
    (lower, lower_status), (upper, upper_status) = ends
    return Interval(lower, upper, lower_status, upper_status, best, free, None, None, cl, "central", name, scales)


def _share(cl: float, kind: str) -> float:
    """The p-value at the ends."""
    return 1 - cl if kind == "feldman-cousins" else 0.5 * (1 - cl)


def _by_toys(fitted: Fitted, index: tuple[int, ...], cl: float, kind: str, calculator: Toys) -> Interval:
    free, i = fitted.result, index[0]
    best, name = free.values[i], free.names[i]
    if not bool(free.valid):
        roots = [Root(np.nan, np.nan, LimitStatus.FIT_FAILED)] * 2
    else:
        share = _share(cl, kind)
        error = one_error(fitted, i)
        # an estimate on the other side of the value tested is no evidence against it
        one_sided: dict[int, AbstractStatistic] = {-1: Q0(), 1: QMu()}
        statistics = {sign: TMu() if kind == "feldman-cousins" else one_sided[sign] for sign in (-1, 1)}
        sides = [_Side(fitted, index, sign, statistics[sign], share, calculator) for sign in (-1, 1)]
        with Shown(calculator.progress) as shown:
            roots = [side.end(error, shown) for side in sides]
    if any(root.status == LimitStatus.NONE_ALLOWED for root in roots):  # nothing is left between the ends
        roots = [Root(np.nan, np.nan, LimitStatus.NONE_ALLOWED)] * 2
    ends = [
        _placed(root, sign, best, bound)
        for root, sign, bound in zip(roots, (-1, 1), (free.lower[i], free.upper[i]), strict=True)
    ]
    (lower, lower_status), (upper, upper_status) = ends
    lower_error, upper_error = (jnp.asarray(root.error) for root in roots)
    return Interval(lower, upper, lower_status, upper_status, best, free, lower_error, upper_error, cl, kind, name)


class _Side(NamedTuple):
    """What is looked for on one side of the best fit: where the p-value, which is 1 there, has fallen to `share`."""

    fitted: Fitted
    poi: tuple[int, ...]
    sign: int
    statistic: AbstractStatistic
    share: float
    calculator: Toys

    def end(self, error: float, shown: Shown) -> Root:
        """`error`: the parameter's, for the first guesses."""
        best, bound = self._best, self._bound
        if bound == best:
            return Root(np.nan, np.nan, LimitStatus.BEYOND_BOUND)
        z = float(-np.log(self.share)) ** 0.5 + 0.5  # a little more than the standard deviations of a normal estimate
        first = [0.7 * z * error, z * error]
        return find_roots(lambda d: self.look(d, shown), first, abs(bound - best), -float(np.log(self.share)), 1)[0]

    def look(self, distance: float, shown: Shown) -> Heights:
        best, bound = self._best, self._bound
        value = bound if distance >= abs(bound - best) else best + self.sign * distance
        values = jnp.asarray([value], self.fitted.result.values.dtype)
        q = self.statistic.at(self.fitted, self.poi, values)
        if not bool(q.valid):
            return Heights(np.full(1, np.nan), np.full(1, np.nan))
        (toys,) = drawn_at(self.calculator, (q.conditional,))
        ensemble = Ensemble(self.fitted.nll, q.conditional, self.fitted.data, toys, self.poi, shown)
        drawn = unweighted(*statistic_of(self.statistic, ensemble, values))
        p, e = p_value(drawn, q.value)
        return heights(p[None], e[None], drawn, float(np.log(self.share)))

    @property
    def _best(self) -> float:
        return float(self.fitted.result.values[self.poi[0]])

    @property
    def _bound(self) -> float:
        return float((self.fitted.result.upper if self.sign > 0 else self.fitted.result.lower)[self.poi[0]])


def _placed(root: Root, sign: int, best: Array, bound: Array) -> tuple[Array, Array]:
    """The end of the interval: a curve that has not fallen at the bound ends there."""
    status = LimitStatus.AT_BOUND if root.status == LimitStatus.BEYOND_BOUND else root.status
    value = bound if status == LimitStatus.AT_BOUND else best + sign * root.distance
    return value, jnp.asarray(int(status))
