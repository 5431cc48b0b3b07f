"""The roots of log CLs, observed and expected: as crossings or, where these fail, by Newton's method within a bracket,
in one program for all six."""

import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._fit.traced import as_numpy
from .._host import flow, xp
from .._host.trips import TooLong
from .._host.xp import on_host
from .._util.arrays import to_jax
from .._util.jit import jit
from .._util.tracing import is_concrete
from .limit_crossing import Crossed, cross
from .limit_curve import Curve, Height, curve_of
from .limit_sides import LimitProblem, Sides, sides_on_host
from .limit_status import LimitStatus

_MAX_EVALUATIONS = 60  # evaluations per root
# Tolerance before the last step, relative to the distance to the alternative, by the bytes of a number.
_MU_TOLERANCE = {8: 1e-7, 4: 1e-4}
_NO_EFFECT_DISTANCE = {8: 1e40, 4: 1e30}  # distance in errors from which on the signal has no effect


def find_limits(problem: LimitProblem, tilde: bool, cls: bool) -> tuple[Float[Array, "6"], Int[Array, "6"]]:
    """Returns the observed limit, those expected at -2 to 2 standard deviations, and an `mx.LimitStatus` for each."""
    if (found := _on_host(problem, tilde, cls)) is not None:
        return found
    crossed = crossings(problem, tilde, cls)
    if not (is_concrete(crossed.status) and np.all(np.asarray(crossed.status) >= 0)):
        crossed = roots(problem, crossed, tilde, cls)
    return limits_at(problem, crossed, tilde, cls), crossed.status


def _on_host(problem: LimitProblem, tilde: bool, cls: bool) -> tuple[Float[Array, "6"], Int[Array, "6"]] | None:
    """As `find_limits`, by NumPy; `None` where it has to be a program."""
    kind = ("limit", tilde, cls)
    sides = sides_on_host(problem, kind)
    if sides is None:
        return None
    start_time = time.perf_counter()
    try:
        with on_host():
            curve = curve_of(as_numpy(problem), tilde, cls, Sides(sides.at()))
            crossed = _crossings(curve)
            if not np.all(crossed.status >= 0):
                crossed = _roots(curve, crossed)
            limits = np.where(crossed.status == int(LimitStatus.FOUND), crossed.mu, np.nan)
    except TooLong:
        sides.repeats.set_ready(kind)
        return None
    sides.repeats.add(
        kind, time.perf_counter() - start_time, lambda: limits_at(problem, crossings(problem, tilde, cls), tilde, cls)
    )
    return to_jax((limits, crossed.status), jax.tree.leaves(problem))


@jit
def crossings(problem: LimitProblem, tilde: bool, cls: bool) -> Crossed:
    """Returns the six limits as crossings, with one gradient per step; the status is -1 for those not found."""
    return _crossings(_without_derivatives(curve_of(problem, tilde, cls)))


def _crossings(curve: Curve) -> Crossed:
    crossed = jax.tree.map(lambda a, b: xp.concatenate([a[None], b]), *cross(curve))
    return crossed._replace(status=xp.where(curve.valid, crossed.status, int(LimitStatus.FIT_FAILED)))


@jit
def roots(problem: LimitProblem, crossed: Crossed, tilde: bool, cls: bool) -> Crossed:
    """Returns the six limits, with those that crossings have not found by Newton's method."""
    return _roots(_without_derivatives(curve_of(problem, tilde, cls)), crossed)


def _roots(curve: Curve, crossed: Crossed) -> Crossed:
    is_found = crossed.status >= 0
    # one after another, because nested loops compile faster if they are not vmapped
    by_newton = flow.one_by_one(lambda lane, skip: _newton(curve, lane, skip), xp.arange(6), is_found)
    return jax.tree.map(lambda a, b: xp.where(is_found.reshape(-1, *[1] * (a.ndim - 1)), a, b), crossed, by_newton)


@jit
def limits_at(problem: LimitProblem, crossed: Crossed, tilde: bool, cls: bool) -> Float[Array, "6"]:
    """Returns the limits with their derivatives; NaN where there is none."""
    curve = curve_of(problem, tilde, cls)
    mu, x, status = jax.tree.map(flow.stop_gradient, crossed)
    found = status == int(LimitStatus.FOUND)
    limit_of_lane = lambda lane, mu, x, found: _limit_at(curve, lane, mu, x, found)  # noqa: E731
    return flow.vmap(limit_of_lane)(xp.arange(6), mu, x, found)


def _without_derivatives(curve: Curve) -> Curve:
    return jax.tree.map(lambda a: flow.stop_gradient(a) if eqx.is_array(a) else a, curve)


def _limit_at(curve: Curve, lane: Array, limit: Scalar, x: Float[Array, "2 n"], found: Bool[Array, ""]) -> Scalar:
    """Returns a known limit with its derivatives; NaN if it was not found."""
    limit = xp.where(found, limit, flow.stop_gradient(curve.alternative))
    # expected limits have no fit to the data, which they do not need
    near = xp.where(found & xp.isfinite(x), x, curve.minima)
    return xp.where(found, _root(curve, lane, limit, near, found), xp.nan)


class _RootState(NamedTuple):
    low: Scalar  # not excluded
    high: Scalar  # excluded; infinite while no such value is known
    trial: Scalar
    x: Float[Array, "2 n"]
    steps: Int[Array, ""]
    failures: Int[Array, ""]
    status: Int[Array, ""]  # -1 while the search is running
    limit: Scalar  # after the last Newton step


def _newton(curve: Curve, lane: Int[Array, ""], skip: Bool[Array, ""]) -> Crossed:
    """Searches for a limit by Newton's method within a bracket."""
    first_trial = xp.minimum(xp.maximum(curve.best, curve.alternative) + 2 * curve.error, curve.upper)
    # only the observed limit needs the fit to the data
    skipped = xp.stack([skip | (lane > 0), skip])
    hopeless = skip | ~curve.valid | ~xp.isfinite(first_trial)
    start = _begin(curve, lane, first_trial, hopeless)
    body = lambda s: _step(curve, s, curve.look(lane, s.trial, s.x, skipped, True))  # noqa: E731
    end = flow.while_loop(lambda s: s.status < 0, body, start)
    return Crossed(end.limit, end.x, end.status)


@eqx.filter_custom_jvp
def _root(curve: Curve, lane: Array, limit: Scalar, near: Float[Array, "2 n"], found: Array) -> Scalar:
    """Returns the known limit, with the derivatives of the root of the excess: only differentiating it compiles another
    fit."""
    del curve, lane, near, found
    return limit


@_root.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Scalar, Scalar]:
    """By the implicit function theorem: d(limit) = -d(excess) / (d excess / d limit)."""
    curve, lane, known_limit, near, found = primals
    limit = _root(curve, lane, known_limit, near, found)

    def excess(curve: Curve) -> tuple[Scalar, Scalar]:
        # no fit is skipped here, because a skipped one has no derivative, not even 0
        last = curve.look(lane, limit, near, xp.zeros(2, bool), False)
        return last.value, last.slope

    (_, slope), (change, _) = eqx.filter_jvp(excess, (curve,), (tangents[0],))
    return limit, xp.where(found, -change / xp.where(found, slope, -1.0), 0.0)


def _begin(curve: Curve, lane: Array, first_trial: Scalar, hopeless: Array) -> _RootState:
    zero, status = xp.array(0), xp.where(hopeless, int(LimitStatus.FIT_FAILED), -1)
    if not curve.cls:  # the p-value may be too small even without a signal
        height = curve.look(lane, curve.alternative, curve.minima, xp.stack([hopeless, hopeless]), True)
        status = xp.where((status < 0) & height.good & (height.value <= 0), int(LimitStatus.NONE_ALLOWED), status)
    return _RootState(
        curve.alternative,
        xp.full_like(first_trial, xp.inf),
        first_trial,
        curve.minima,
        zero,
        zero,
        status,
        first_trial,
    )


def _step(curve: Curve, s: _RootState, h: Height) -> _RootState:
    """Updates the bracket by the curve at the trial point, and sets the next trial."""
    is_allowed = h.value > 0
    low = xp.where(h.good & is_allowed, s.trial, s.low)
    high = xp.where(h.good & ~is_allowed, s.trial, s.high)
    # Where a signal has levelled off the slope is rounding or 0, and the root is far out. One expression guards the
    # division, because XLA may compute the slope twice, with different signs in the condition and in the division.
    newton = s.trial - h.value / xp.fmin(h.slope, -xp.finfo(h.slope.dtype).tiny)
    # far beyond the limit the log of the tail falls with the square of the distance; a limit far out is left to Newton
    pulled_back = curve.alternative + (s.trial - curve.alternative) * 3 / xp.maximum(h.r_a, 1.0)
    newton = xp.where((h.r_a > 8) & (h.value < -20), pulled_back, newton)
    outwards = xp.clip(
        newton,
        low + 0.1 * (low - curve.alternative),
        curve.alternative + 30 * xp.maximum(low - curve.alternative, curve.error),
    )
    middle = xp.where(xp.isfinite(newton) & (newton > low) & (newton < high), newton, 0.5 * (low + high))
    trial = xp.where(xp.isfinite(high), middle, xp.minimum(outwards, curve.upper))
    size = s.trial.dtype.itemsize
    is_close = h.good & (xp.abs(newton - s.trial) <= _MU_TOLERANCE[size] * xp.abs(s.trial - curve.alternative))
    failures = s.failures + ~h.good
    trial = xp.where(h.good, trial, low + 0.3 * (s.trial - low))
    status = xp.where(is_close, int(LimitStatus.FOUND), -1)
    beyond_bound = h.good & is_allowed & (s.trial >= curve.upper)
    status = xp.where(beyond_bound & ~is_close, int(LimitStatus.BEYOND_BOUND), status)
    no_effect = h.good & is_allowed & (s.trial - curve.alternative > _NO_EFFECT_DISTANCE[size] * curve.error)
    status = xp.where(no_effect, int(LimitStatus.NO_EFFECT), status)
    steps = s.steps + 1
    is_exhausted = (steps >= _MAX_EVALUATIONS) | (failures > 20)
    never_excluded = xp.isinf(high) & (failures == 0)
    failure = xp.where(never_excluded, int(LimitStatus.NO_EFFECT), int(LimitStatus.FIT_FAILED))
    status = xp.where((status < 0) & is_exhausted, failure, status)
    x = xp.where(h.good, h.x, s.x)
    return _RootState(low, high, trial, x, steps, failures, status, xp.where(is_close, newton, s.limit))
