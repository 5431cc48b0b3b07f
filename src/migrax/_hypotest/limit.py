"""`upper_limit`: the value of a parameter above which CLs is too small, of the data and expected."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree, Scalar

from .._conditional import conditional_shift
from .._fit import fit
from .._held import refit
from .._jit import jit
from .._minimum import Hold, Minimum, at_minimum, positions
from .._objective import prepare
from .._parameter import Where, is_concrete
from .._result import FitResult
from .._stages import by_stages
from .._status import Status
from .._toy_source import Toys
from . import formulas
from .asymptotic import Asymptotic, Reference, alternative_of, reference
from .hypotest import check_kinds
from .limit_status import LimitStatus
from .ratio import ratio
from .statistics import AbstractStatistic, QMu, QTilde
from .toy_limit import toy_limits

_MOST = 60  # evaluations of a root
_CLOSE = 1e-7  # of the distance to the alternative, before the last step of Newton's method
_FAR = 1e40  # times the first guess: beyond it the signal does nothing


class UpperLimit(eqx.Module):
    """Upper limits on a parameter.

    **Attributes:**

    - `observed`: of the data.
    - `expected`: shape `(5,)`, where the data are those of the alternative, or -2, -1, 1, 2 standard deviations off.
    - `status`, `expected_status`: an `mx.LimitStatus` for each; unless it is `FOUND` the limit is NaN.
    - `valid`: whether all six are found.
    - `cl`: the confidence level.
    - `best`: the fitted parameter.
    - `free`: the free fit of the data.
    - `error`, `expected_error`: by toys, the standard errors of the limits that the number of toys leaves; else `None`.
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
    error: Float[Array, ""] | None = None
    expected_error: Float[Array, "5"] | None = None

    @property
    def valid(self) -> Bool[Array, ""]:
        return (self.status == int(LimitStatus.FOUND)) & jnp.all(
            self.expected_status == int(LimitStatus.FOUND), axis=-1
        )

    def __repr__(self) -> str:
        if not is_concrete(self.observed) or np.ndim(self.observed) != 0:
            return f"UpperLimit({self.name}, shape={jnp.shape(self.observed)})"
        from . import display

        return display.limit_text(self)


def upper_limit(
    nll: Callable[[Any, Any], ArrayLike],
    params: PyTree,
    data: PyTree,
    poi: Where,
    *,
    cl: float = 0.95,
    cls: bool = True,
    statistic: AbstractStatistic | None = None,
    calculator: Asymptotic | Toys | None = None,
) -> UpperLimit:
    """The upper limit on a parameter, observed and expected: where CLs (or, with `cls=False`, the p-value) is 1 - `cl`.

    ```python
    mx.upper_limit(nll, params, data, "mu").observed
    ```

    A root is found for each of the six, all at once, to rounding; no grid and no range is needed. Works under `jax.jit`
    and `jax.vmap`, and is differentiable with respect to data and templates: d(limit) = -d(CLs) / (dCLs/dmu).

    **Arguments:**

    - `nll`, `params`, `data`, `poi`: as for `mx.hypotest`, with one parameter of interest. It cannot be larger than its
        upper bound.
    - `cl`: the confidence level.
    - `cls`: `False` for the limit of the p-value alone (CLs+b), which excludes signals that the data cannot see.
    - `statistic`: `mx.QTilde()`, the default, or `mx.QMu()`.
    - `calculator`: `mx.Asymptotic()`, the default, or `mx.Toys(n, key)`: `n` toys are drawn and fitted at each of some
        ten values. Not for the inside of `jax.jit` and `jax.vmap`, and without a derivative.

    **Returns:** an `UpperLimit`; a limit that is not found is NaN, with a status that says why.

    **Raises:** as `mx.hypotest`; `ValueError` for a `cl` that is not between 0 and 1, `TypeError` for another
    statistic.
    """
    statistic = QTilde() if statistic is None else statistic
    calculator = Asymptotic() if calculator is None else calculator
    check_kinds(statistic, calculator)
    if not isinstance(statistic, QTilde | QMu):
        raise TypeError(f"an upper limit needs mx.QTilde() or mx.QMu(), got {type(statistic).__name__}")
    if isinstance(cl, bool) or not isinstance(cl, int | float) or not 0 < cl < 1:
        raise ValueError(f"cl must be a number between 0 and 1, got {cl!r}")
    free = fit(nll, params, data)
    index = positions(free, poi, "upper_limit")
    if len(index) != 1:
        raise ValueError(f"upper_limit is of one parameter, got {[free.names[i] for i in index]}")
    _, data = prepare(params, data)
    at = alternative_of(calculator, statistic, free, index)
    found = ratio(nll, free, data, index, at[None])
    free = found.free
    if isinstance(calculator, Toys):
        limits = toy_limits(nll, found, data, index, float(at[0]), cl, cls, statistic, calculator)
        return _result(free, index[0], cl, cls, *limits)
    there = reference(nll, found, data)
    problem = _Problem(nll, free, data, there, jnp.asarray(index[0]), at[0], jnp.asarray(1 - cl))
    limits, status = by_stages(
        lambda lanes, skip, robust: _limits(problem, lanes, skip, statistic.tilde, cls, robust),
        jnp.arange(6),
        lambda found: found[1] == int(LimitStatus.FIT_FAILED),
        problem,
    )
    return _result(free, index[0], cl, cls, limits, status, None)


def _result(
    free: FitResult, i: int, cl: float, cls: bool, limits: Array, status: Array, errors: Array | None
) -> UpperLimit:
    name = free.names[i]
    of_data, expected = (None, None) if errors is None else (errors[0], errors[1:])
    # by position, as "cls" is the name of something else to a class that is called
    return UpperLimit(
        limits[0],
        limits[1:],
        status[0],
        status[1:],
        free.values[i],
        free,
        float(cl),
        bool(cls),
        name,
        of_data,
        expected,
    )


class _Problem(eqx.Module):
    nll: Any
    free: FitResult
    data: PyTree
    there: Reference
    index: Int[Array, ""]
    at: Scalar  # the alternative
    alpha: Scalar


class _Point(NamedTuple):
    """A conditional fit: -2 log of the ratio and its slope, where the other parameters are."""

    q: Scalar
    slope: Scalar
    x: Float[Array, " n"]
    good: Bool[Array, ""]


class _Side(NamedTuple):
    """The likelihood of some data along the parameter of interest."""

    minimum: Minimum
    row: Float[Array, " n"]

    def at(self, mu: Scalar, near: Float[Array, " n"], skip: Bool[Array, ""], robust: bool) -> _Point:
        minimum, row = self
        there = jnp.where(row > 0, mu, near)
        rows = row[None]
        shift = conditional_shift(minimum.covariance, rows, there - near)
        start = minimum.space.clip(jnp.where(row > 0, there, near + shift))
        found = refit(minimum, Hold(rows, there), jnp.where(row > 0, there, start), skip, robust)
        q = 2 * (found.value - minimum.fn(minimum.x, minimum.theta))
        gradient = jax.grad(minimum.fn)(lax.stop_gradient(found.x), lax.stop_gradient(minimum.theta))
        # lower than the free fit by more than rounding: that was not the minimum
        good = (found.status == int(Status.VALID)) & jnp.isfinite(q) & (q > -1e-3) & minimum.valid
        return _Point(jnp.maximum(q, 0.0), 2 * jnp.sum(row * gradient), found.x, good)


@jit
def _limits(
    problem: _Problem, lanes: Int[Array, " m"], skip: Bool[Array, " m"], tilde: bool, cls: bool, robust: bool
) -> tuple[Float[Array, " m"], Int[Array, " m"]]:
    """Lane 0 is the observed limit, lanes 1 to 5 those expected at -2 to 2 standard deviations."""
    curve = _curve(problem, tilde, cls, robust)
    return jax.vmap(lambda lane, skip: _limit(curve, lane, skip))(lanes, skip)


class _Curve(NamedTuple):
    """log CLs above its level as a function of the parameter of interest."""

    data: _Side
    asimov: _Side
    best: Scalar
    below: Scalar  # -2 log of the ratio at 0, where the estimate is negative and counts as 0
    at: Scalar  # the alternative, where nothing is excluded
    upper: Scalar  # bound
    log_alpha: Scalar
    valid: Bool[Array, ""]  # all of the fits that it rests on
    tilde: bool
    cls: bool
    robust: bool

    def excess(self, lane: Array, mu: Scalar, q: Scalar, q_a: Scalar) -> Scalar:
        """Falls with mu; 0 at the limit."""
        q = jnp.where(mu < self.best, 0.0, jnp.maximum(q - self.below, 0.0))
        r_a = formulas.root(q_a)
        off = -jnp.asarray(formulas.BANDS, r_a.dtype)[jnp.maximum(lane - 1, 0)]
        far = jnp.where(lane == 0, formulas.distance(q, q_a, self.tilde), off)
        log_sb, log_b = formulas.log_p_one_sided(far, r_a)
        return log_sb - (log_b if self.cls else 0.0) - self.log_alpha

    def look(self, lane: Array, mu: Scalar, x: Array, x_a: Array, skip: tuple[Array, Array]) -> "_Height":
        """At `mu`, from conditional fits nearby to the data and to the Asimov data, unless they are skipped."""
        theirs = self.asimov.at(mu, x_a, skip[1], self.robust)
        mine = self.data.at(mu, x, skip[0], self.robust)
        q, slope = (jnp.where(lane == 0, a, 0.0) for a in (mine.q, mine.slope))
        height = self.excess(lane, mu, q, theirs.q)
        by_q, by_q_a = jax.grad(self.excess, argnums=(2, 3))(lane, mu, q, theirs.q)
        good = theirs.good & ((lane > 0) | mine.good) & jnp.isfinite(height)
        fall = lax.stop_gradient(by_q * slope + by_q_a * theirs.slope)
        return _Height(height, fall, formulas.root(theirs.q), mine.x, theirs.x, good)


class _Height(NamedTuple):
    value: Scalar
    slope: Scalar
    r_a: Scalar  # how many standard deviations from the alternative
    x: Float[Array, " n"]
    x_a: Float[Array, " n"]
    good: Bool[Array, ""]


def _curve(problem: _Problem, tilde: bool, cls: bool, robust: bool) -> _Curve:
    minimum = at_minimum(problem.nll, problem.free, problem.data)
    row = (jnp.arange(minimum.x.size) == problem.index).astype(minimum.x.dtype)
    data = _Side(minimum, row)
    asimov = _Side(at_minimum(problem.nll, problem.there.free, problem.there.data), row)
    best = problem.free.values[problem.index]
    negative = (best < 0) & tilde
    # where it is not wanted it is at the minimum, with nothing to do: what is skipped has no derivative, not even 0
    zero = data.at(jnp.where(negative, 0.0, lax.stop_gradient(best)), minimum.x, jnp.array(False), robust)
    below = jnp.where(negative, zero.q, 0.0)
    at, log_alpha = problem.at.astype(best.dtype), jnp.log(problem.alpha).astype(best.dtype)
    valid = (problem.there.status == int(Status.VALID)) & (zero.good | ~negative)
    upper = problem.free.upper[problem.index]
    return _Curve(data, asimov, best, below, at, upper, log_alpha, valid, tilde, cls, robust)


class _State(NamedTuple):
    low: Scalar  # not excluded here
    high: Scalar  # excluded here; infinite before such a place is known
    trial: Scalar
    x: Float[Array, " n"]
    x_a: Float[Array, " n"]
    steps: Int[Array, ""]
    failures: Int[Array, ""]
    status: Int[Array, ""]  # -1 while it is not known


def _limit(curve: _Curve, lane: Int[Array, ""], skip: Bool[Array, ""]) -> tuple[Scalar, Int[Array, ""]]:
    """Newton's method within a bracket; then one step more, through which derivatives go."""
    still = jax.tree.map(lambda a: lax.stop_gradient(a) if eqx.is_array(a) else a, curve)
    data, asimov = still.data.minimum, still.asimov.minimum
    error = jnp.sum(curve.data.row * data.errors)
    error = lax.stop_gradient(jnp.where(error > 0, error, jnp.maximum(jnp.abs(still.best), 1.0)))
    first = jnp.minimum(jnp.maximum(still.best, still.at) + 2 * error, still.upper)

    def body(s: _State) -> _State:
        h = still.look(lane, s.trial, s.x, s.x_a, (skip | (lane > 0), skip))
        allowed = h.value > 0
        low = jnp.where(h.good & allowed, s.trial, s.low)
        high = jnp.where(h.good & ~allowed, s.trial, s.high)
        newton = s.trial - h.value / jnp.where(h.slope < 0, h.slope, -1e-30)
        # far out, the tail falls with the square of the distance
        newton = jnp.where(h.r_a > 8, still.at + (s.trial - still.at) * 3 / jnp.maximum(h.r_a, 1.0), newton)
        outwards = jnp.clip(newton, low + 0.1 * (low - still.at), still.at + 30 * jnp.maximum(low - still.at, error))
        middle = jnp.where(jnp.isfinite(newton) & (newton > low) & (newton < high), newton, 0.5 * (low + high))
        trial = jnp.where(jnp.isfinite(high), middle, jnp.minimum(outwards, still.upper))
        close = h.good & (jnp.abs(newton - s.trial) <= _CLOSE * jnp.abs(s.trial - still.at))
        failures = s.failures + ~h.good
        trial = jnp.where(h.good, trial, low + 0.3 * (s.trial - low))
        status = jnp.where(close, int(LimitStatus.FOUND), -1)
        bounded = h.good & allowed & (s.trial >= still.upper)
        status = jnp.where(bounded & ~close, int(LimitStatus.BEYOND_BOUND), status)
        status = jnp.where(h.good & allowed & (s.trial - still.at > _FAR * error), int(LimitStatus.NO_EFFECT), status)
        steps = s.steps + 1
        spent = (steps >= _MOST) | (failures > 20)
        nothing = jnp.isinf(high) & (failures == 0)
        why = jnp.where(nothing, int(LimitStatus.NO_EFFECT), int(LimitStatus.FIT_FAILED))
        status = jnp.where((status < 0) & spent, why, status)
        x, x_a = jnp.where(h.good, h.x, s.x), jnp.where(h.good, h.x_a, s.x_a)
        return _State(low, high, jnp.where(close, s.trial, trial), x, x_a, steps, failures, status)

    hopeless = skip | ~data.valid | ~asimov.valid | ~jnp.isfinite(first) | ~curve.valid
    zero = jnp.array(0)
    begin = _State(
        still.at,
        jnp.full_like(first, jnp.inf),
        first,
        data.x,
        asimov.x,
        zero,
        zero,
        jnp.where(hopeless, int(LimitStatus.FIT_FAILED), -1),
    )
    if not curve.cls:  # the p-value may be too small without a signal already
        h = still.look(lane, still.at, data.x, asimov.x, (skip | hopeless, skip | hopeless))
        none = (begin.status < 0) & h.good & (h.value <= 0)
        begin = begin._replace(status=jnp.where(none, int(LimitStatus.NONE_ALLOWED), begin.status))
    end = lax.while_loop(lambda s: s.status < 0, body, begin)
    found = end.status == int(LimitStatus.FOUND)
    # nothing is skipped here: what is not computed has no derivative, not even 0
    where, near, near_a = (
        jnp.where(found, a, b) for a, b in ((end.trial, still.at), (end.x, data.x), (end.x_a, asimov.x))
    )
    last = curve.look(lane, where, near, near_a, (jnp.array(False), jnp.array(False)))
    slope = jnp.where(found, last.slope, -1.0)
    limit = end.trial - jnp.where(found, last.value, 0.0) / slope
    return jnp.where(found, limit, jnp.nan), end.status
