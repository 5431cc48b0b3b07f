"""The roots of log CLs, observed and expected: Newton's method within a bracket, as one program for all six."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._conditional import conditional_shift
from .._held import refit
from .._jit import jit
from .._minimum import Hold, at_minimum
from .._objective import kinks_of
from .._parameter import resolve
from .._result import FitResult
from .._space import ravel
from .._status import Status
from .._typing import PyTree
from . import formulas
from .asymptotic import Reference
from .limit_status import LimitStatus
from .ratio import Ratio

_MOST = 60  # evaluations of a root
_CLOSE = {8: 1e-7, 4: 1e-4}  # of the distance to the alternative, before the last step; by the bytes of a number
_FAR = {8: 1e40, 4: 1e30}  # errors: beyond it the signal does nothing


class Problem(eqx.Module):
    nll: Any
    found: Ratio  # the conditional fits of the data at 0 (for a tilde statistic) and at the alternative
    data: PyTree
    there: Reference
    index: Int[Array, ""]
    at: Float[Array, "1"]  # the alternative
    alpha: Scalar


class _Point(NamedTuple):
    """A conditional fit: -2 log of the ratio and its slope, where the other parameters are."""

    q: Scalar
    slope: Scalar
    x: Float[Array, " n"]
    good: Bool[Array, ""]


class _Side(NamedTuple):
    """The likelihood of some data along the parameter of interest. `nll` closes over nothing, so that what it holds can
    be kept from derivatives."""

    nll: Any
    fit: FitResult
    data: PyTree
    position: Int[Array, ""]  # of the parameter of interest
    kinks: Float[Array, "m n"] | None  # of the likelihood, which `nll` does not know any more

    def at(self, mu: Scalar, near: Float[Array, " n"], skip: Bool[Array, ""], robust: bool) -> _Point:
        minimum = at_minimum(self.nll, self.fit, self.data)
        if self.kinks is not None:
            minimum = minimum._replace(space=minimum.space.with_kinks(self.kinks))
        row = (jnp.arange(minimum.x.size) == self.position).astype(minimum.x.dtype)
        there = jnp.where(row > 0, mu, near)
        rows = row[None]
        shift = conditional_shift(minimum.covariance, rows, there - near)
        start = minimum.space.clip(jnp.where(row > 0, there, near + shift))
        found = refit(minimum, Hold(rows, there), jnp.where(row > 0, there, start), skip, robust)
        q = 2 * (found.value - minimum.fn(minimum.x, minimum.theta))
        gradient = jax.grad(minimum.fn)(found.x, minimum.theta)
        # lower than the free fit by more than rounding: that was not the minimum
        good = (found.status == int(Status.VALID)) & jnp.isfinite(q) & (q > -1e-3) & minimum.valid
        return _Point(jnp.maximum(q, 0.0), 2 * jnp.sum(row * gradient), found.x, good)


class _Sides(NamedTuple):
    """That of the data and that of the Asimov data, as two lanes of one program, with a leading axis; as two, where
    their data have other shapes."""

    sides: _Side | tuple[_Side, _Side]

    def at(self, mu: Scalar, near: Float[Array, "2 n"], skip: Bool[Array, "2"], robust: bool) -> _Point:
        if isinstance(self.sides, _Side):
            side = self.sides
            one = lambda fit, data, near, skip: side._replace(fit=fit, data=data).at(mu, near, skip, robust)  # noqa: E731
            return eqx.filter_vmap(one)(side.fit, side.data, near, skip)
        each = [side.at(mu, near[k], skip[k], robust) for k, side in enumerate(self.sides)]
        return jax.tree.map(lambda a, b: jnp.stack([a, b]), *each)


def _sides(nll: Any, fits: tuple[FitResult, FitResult], data: tuple[PyTree, PyTree], position: Array) -> _Sides:
    def side(fit: FitResult, data: PyTree) -> _Side:
        converted = eqx.filter_closure_convert(nll, resolve(fit.params), data)
        kinks = kinks_of(nll, fit.params, ravel(fit.params)[1])
        return _Side(converted, fit, data, position, kinks)

    both = _stacked((fits[0], data[0]), (fits[1], data[1]))
    if both is None:
        return _Sides((side(fits[0], data[0]), side(fits[1], data[1])))
    example = jax.tree.map(lambda a: a[0] if eqx.is_array(a) else a, both)
    return _Sides(side(*example)._replace(fit=both[0], data=both[1]))


def _stacked(a: PyTree, b: PyTree) -> PyTree:
    """Two trees as one with a leading axis; `None` where their shapes differ."""
    (a, static), (b, others) = (eqx.partition(tree, eqx.is_array) for tree in (a, b))
    same = jax.tree.structure(a) == jax.tree.structure(b) and eqx.tree_equal(static, others)
    if not same or any(x.shape != y.shape for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)):
        return None
    dtype = lambda x, y: x.dtype if x.dtype == y.dtype else jnp.result_type(float)  # noqa: E731
    return eqx.combine(jax.tree.map(lambda x, y: jnp.stack([z.astype(dtype(x, y)) for z in (x, y)]), a, b), static)


@jit
def find_limits(
    problem: Problem, lanes: Int[Array, " m"], skip: Bool[Array, " m"], tilde: bool, cls: bool, robust: bool
) -> tuple[Float[Array, " m"], Int[Array, " m"]]:
    """Lane 0 is the observed limit, lanes 1 to 5 those expected at -2 to 2 standard deviations."""
    curve = _curve(problem, tilde, cls)
    return jax.vmap(lambda lane, skip: _limit(curve, lane, skip, robust))(lanes, skip)


class _Curve(NamedTuple):
    """log CLs above its level as a function of the parameter of interest."""

    sides: _Sides
    minima: Float[Array, "2 n"]  # the free fits of the data and of the Asimov data
    error: Scalar  # of the parameter; if it has none, its size
    best: Scalar
    below: Scalar  # -2 log of the ratio at 0, where the estimate is negative and counts as 0
    at: Scalar  # the alternative, where nothing is excluded
    upper: Scalar  # bound
    log_alpha: Scalar
    valid: Bool[Array, ""]  # all of the fits that it rests on
    tilde: bool
    cls: bool

    def excess(self, lane: Array, mu: Scalar, q: Scalar, q_a: Scalar) -> Scalar:
        """Falls with mu; 0 at the limit."""
        q = jnp.where(mu < self.best, 0.0, jnp.maximum(q - self.below, 0.0))
        r_a = formulas.root(q_a)
        off = -jnp.asarray(formulas.BANDS, r_a.dtype)[jnp.maximum(lane - 1, 0)]
        far = jnp.where(lane == 0, formulas.distance(q, q_a, self.tilde), off)
        log_sb, log_b = formulas.log_p_one_sided(far, r_a)
        return log_sb - (log_b if self.cls else 0.0) - self.log_alpha

    def look(
        self, lane: Array, mu: Scalar, near: Float[Array, "2 n"], skip: Bool[Array, "2"], robust: bool
    ) -> "_Height":
        """At `mu`, from conditional fits nearby to the data and to the Asimov data, unless they are skipped."""
        point = self.sides.at(mu, near, skip, robust)
        q, slope = (jnp.where(lane == 0, a[0], 0.0) for a in (point.q, point.slope))
        q_a, slope_a = point.q[1], point.slope[1]
        height = self.excess(lane, mu, q, q_a)
        by_q, by_q_a = jax.grad(self.excess, argnums=(2, 3))(lane, mu, q, q_a)
        good = point.good[1] & ((lane > 0) | point.good[0]) & jnp.isfinite(height)
        return _Height(height, by_q * slope + by_q_a * slope_a, formulas.root(q_a), point.x, good)


class _Height(NamedTuple):
    value: Scalar
    slope: Scalar
    r_a: Scalar  # how many standard deviations from the alternative
    x: Float[Array, "2 n"]
    good: Bool[Array, ""]


def _curve(problem: Problem, tilde: bool, cls: bool) -> _Curve:
    found, there = problem.found, problem.there
    fits = (found.free, there.free)
    sides = _sides(problem.nll, fits, (problem.data, there.data), problem.index)
    minima = lax.stop_gradient(jnp.stack([fit.values for fit in fits]))
    best, error = found.free.values[problem.index], lax.stop_gradient(found.free.errors[problem.index])
    error = jnp.where(error > 0, error, jnp.maximum(jnp.abs(lax.stop_gradient(best)), 1.0))
    negative = (best < 0) & tilde
    below = jnp.where(negative, found.rise[0], 0.0)
    valid = (there.status == int(Status.VALID)) & ((found.status[0] == int(Status.VALID)) | ~negative)
    valid &= found.free.valid & there.free.valid
    at, log_alpha = problem.at[0].astype(best.dtype), jnp.log(problem.alpha).astype(best.dtype)
    upper = found.free.upper[problem.index]
    return _Curve(sides, minima, error, best, below, at, upper, log_alpha, valid, tilde, cls)


class _State(NamedTuple):
    low: Scalar  # not excluded here
    high: Scalar  # excluded here; infinite before such a place is known
    trial: Scalar
    x: Float[Array, "2 n"]
    steps: Int[Array, ""]
    failures: Int[Array, ""]
    status: Int[Array, ""]  # -1 while it is not known
    limit: Scalar  # the last step of Newton's method


def _limit(curve: _Curve, lane: Int[Array, ""], skip: Bool[Array, ""], robust: bool) -> tuple[Scalar, Int[Array, ""]]:
    """Newton's method within a bracket."""
    still = jax.tree.map(lambda a: lax.stop_gradient(a) if eqx.is_array(a) else a, curve)
    first = jnp.minimum(jnp.maximum(still.best, still.at) + 2 * still.error, still.upper)
    # the data matter to the observed limit alone
    unseen = jnp.stack([skip | (lane > 0), skip])
    hopeless = skip | ~still.valid | ~jnp.isfinite(first)
    begin = _begin(still, lane, first, hopeless, robust)
    body = lambda s: _step(still, s, still.look(lane, s.trial, s.x, unseen, robust))  # noqa: E731
    end = lax.while_loop(lambda s: s.status < 0, body, begin)
    found = end.status == int(LimitStatus.FOUND)
    where = jnp.where(found, end.limit, still.at)
    # of the data, which were not looked at for the expected limits, there is no point
    near = jnp.where(found & jnp.isfinite(end.x), end.x, still.minima)
    limit = _root(curve, lane, where, near, found)
    return jnp.where(found, limit, jnp.nan), end.status


@eqx.filter_custom_jvp
def _root(curve: _Curve, lane: Array, where: Scalar, near: Float[Array, "2 n"], found: Array) -> Scalar:
    """The limit, which is known, with the derivatives of the root of the excess at it: so only who asks for these
    compiles another fit."""
    del curve, lane, near, found
    return where


@_root.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Scalar, Scalar]:
    """By the implicit function theorem: d(limit) = -d(excess) / (d excess / d limit)."""
    curve, lane, where, near, found = primals
    limit = _root(curve, lane, where, near, found)

    def excess(curve: _Curve) -> tuple[Scalar, Scalar]:
        # nothing is skipped here: what is not computed has no derivative, not even 0
        last = curve.look(lane, limit, near, jnp.zeros(2, bool), False)
        return last.value, last.slope

    (_, slope), (change, _) = eqx.filter_jvp(excess, (curve,), (tangents[0],))
    return limit, jnp.where(found, -change / jnp.where(found, slope, -1.0), 0.0)


def _begin(still: _Curve, lane: Array, first: Scalar, hopeless: Array, robust: bool) -> _State:
    zero, status = jnp.array(0), jnp.where(hopeless, int(LimitStatus.FIT_FAILED), -1)
    if not still.cls:  # the p-value may be too small without a signal already
        h = still.look(lane, still.at, still.minima, jnp.stack([hopeless, hopeless]), robust)
        status = jnp.where((status < 0) & h.good & (h.value <= 0), int(LimitStatus.NONE_ALLOWED), status)
    return _State(still.at, jnp.full_like(first, jnp.inf), first, still.minima, zero, zero, status, first)


def _step(still: _Curve, s: _State, h: _Height) -> _State:
    """What is learnt from a look, and the next trial."""
    allowed = h.value > 0
    low = jnp.where(h.good & allowed, s.trial, s.low)
    high = jnp.where(h.good & ~allowed, s.trial, s.high)
    # Where a signal has levelled off the slope is rounding or 0, and the root far out. In one expression: XLA may
    # compute the slope twice, with two signs, for a question and the division that it guards.
    newton = s.trial - h.value / jnp.fmin(h.slope, -jnp.finfo(h.slope.dtype).tiny)
    # far beyond the limit, the tail falls with the square of the distance; a large excess has its limit far out, too
    back = still.at + (s.trial - still.at) * 3 / jnp.maximum(h.r_a, 1.0)
    newton = jnp.where((h.r_a > 8) & (h.value < -20), back, newton)
    outwards = jnp.clip(newton, low + 0.1 * (low - still.at), still.at + 30 * jnp.maximum(low - still.at, still.error))
    middle = jnp.where(jnp.isfinite(newton) & (newton > low) & (newton < high), newton, 0.5 * (low + high))
    trial = jnp.where(jnp.isfinite(high), middle, jnp.minimum(outwards, still.upper))
    size = s.trial.dtype.itemsize
    close = h.good & (jnp.abs(newton - s.trial) <= _CLOSE[size] * jnp.abs(s.trial - still.at))
    failures = s.failures + ~h.good
    trial = jnp.where(h.good, trial, low + 0.3 * (s.trial - low))
    status = jnp.where(close, int(LimitStatus.FOUND), -1)
    bounded = h.good & allowed & (s.trial >= still.upper)
    status = jnp.where(bounded & ~close, int(LimitStatus.BEYOND_BOUND), status)
    far = h.good & allowed & (s.trial - still.at > _FAR[size] * still.error)
    status = jnp.where(far, int(LimitStatus.NO_EFFECT), status)
    steps = s.steps + 1
    spent = (steps >= _MOST) | (failures > 20)
    nothing = jnp.isinf(high) & (failures == 0)
    why = jnp.where(nothing, int(LimitStatus.NO_EFFECT), int(LimitStatus.FIT_FAILED))
    status = jnp.where((status < 0) & spent, why, status)
    x = jnp.where(h.good, h.x, s.x)
    return _State(low, high, trial, x, steps, failures, status, jnp.where(close, newton, s.limit))
