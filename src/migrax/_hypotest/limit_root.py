"""The roots of log CLs, observed and expected: as crossings and, where these are not found, by Newton's method within
a bracket, as one program for all six."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._util.jit import jit
from .._util.tracing import is_concrete
from .limit_crossing import Crossed, cross
from .limit_curve import Curve, Height, curve_of
from .limit_sides import LimitProblem
from .limit_status import LimitStatus

_MOST = 60  # evaluations of a root
_CLOSE = {8: 1e-7, 4: 1e-4}  # of the distance to the alternative, before the last step; by the bytes of a number
_FAR = {8: 1e40, 4: 1e30}  # errors: beyond it the signal does nothing


def find_limits(problem: LimitProblem, tilde: bool, cls: bool) -> tuple[Float[Array, "6"], Int[Array, "6"]]:
    """The observed limit and those expected at -2 to 2 standard deviations, and an `mx.LimitStatus` for each."""
    crossed = crossings(problem, tilde, cls)
    if not (is_concrete(crossed.status) and np.all(np.asarray(crossed.status) >= 0)):
        crossed = roots(problem, crossed, tilde, cls)
    return limits_at(problem, crossed, tilde, cls), crossed.status


@jit
def crossings(problem: LimitProblem, tilde: bool, cls: bool) -> Crossed:
    """The limits that are found with one gradient a step, with a leading axis of six; a status of -1 for the others."""
    still = _still(curve_of(problem, tilde, cls))
    found = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), *cross(still))
    return found._replace(status=jnp.where(still.valid, found.status, int(LimitStatus.FIT_FAILED)))


@jit
def roots(problem: LimitProblem, crossed: Crossed, tilde: bool, cls: bool) -> Crossed:
    """The same, with those that are missing found by Newton's method."""
    still = _still(curve_of(problem, tilde, cls))
    known = crossed.status >= 0
    # one after the other: loops within loops are small and quickly compiled where they are no lanes
    found = lax.map(lambda each: _newton(still, *each), (jnp.arange(6), known))
    return jax.tree.map(lambda a, b: jnp.where(known.reshape(-1, *[1] * (a.ndim - 1)), a, b), crossed, found)


@jit
def limits_at(problem: LimitProblem, crossed: Crossed, tilde: bool, cls: bool) -> Float[Array, "6"]:
    """The limits with their derivatives; NaN where there is none."""
    curve = curve_of(problem, tilde, cls)
    mu, x, status = jax.tree.map(lax.stop_gradient, crossed)
    found = status == int(LimitStatus.FOUND)
    one = lambda lane, mu, x, found: _limit_at(curve, lane, mu, x, found)  # noqa: E731
    return jax.vmap(one)(jnp.arange(6), mu, x, found)


def _still(curve: Curve) -> Curve:
    return jax.tree.map(lambda a: lax.stop_gradient(a) if eqx.is_array(a) else a, curve)


def _limit_at(curve: Curve, lane: Array, where: Scalar, x: Float[Array, "2 n"], found: Bool[Array, ""]) -> Scalar:
    """A limit that is known, with its derivatives; NaN if it is not found."""
    where = jnp.where(found, where, lax.stop_gradient(curve.at))
    # of the data, which were not looked at for the expected limits, there is no point
    near = jnp.where(found & jnp.isfinite(x), x, curve.minima)
    return jnp.where(found, _root(curve, lane, where, near, found), jnp.nan)


class _State(NamedTuple):
    low: Scalar  # not excluded here
    high: Scalar  # excluded here; infinite before such a place is known
    trial: Scalar
    x: Float[Array, "2 n"]
    steps: Int[Array, ""]
    failures: Int[Array, ""]
    status: Int[Array, ""]  # -1 while it is not known
    limit: Scalar  # the last step of Newton's method


def _newton(still: Curve, lane: Int[Array, ""], skip: Bool[Array, ""]) -> Crossed:
    """Newton's method within a bracket."""
    first = jnp.minimum(jnp.maximum(still.best, still.at) + 2 * still.error, still.upper)
    # the data matter to the observed limit alone
    unseen = jnp.stack([skip | (lane > 0), skip])
    hopeless = skip | ~still.valid | ~jnp.isfinite(first)
    begin = _begin(still, lane, first, hopeless)
    body = lambda s: _step(still, s, still.look(lane, s.trial, s.x, unseen, True))  # noqa: E731
    end = lax.while_loop(lambda s: s.status < 0, body, begin)
    return Crossed(end.limit, end.x, end.status)


@eqx.filter_custom_jvp
def _root(curve: Curve, lane: Array, where: Scalar, near: Float[Array, "2 n"], found: Array) -> Scalar:
    """The limit, which is known, with the derivatives of the root of the excess at it: so only who asks for these
    compiles another fit."""
    del curve, lane, near, found
    return where


@_root.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Scalar, Scalar]:
    """By the implicit function theorem: d(limit) = -d(excess) / (d excess / d limit)."""
    curve, lane, where, near, found = primals
    limit = _root(curve, lane, where, near, found)

    def excess(curve: Curve) -> tuple[Scalar, Scalar]:
        # nothing is skipped here: what is not computed has no derivative, not even 0
        last = curve.look(lane, limit, near, jnp.zeros(2, bool), False)
        return last.value, last.slope

    (_, slope), (change, _) = eqx.filter_jvp(excess, (curve,), (tangents[0],))
    return limit, jnp.where(found, -change / jnp.where(found, slope, -1.0), 0.0)


def _begin(still: Curve, lane: Array, first: Scalar, hopeless: Array) -> _State:
    zero, status = jnp.array(0), jnp.where(hopeless, int(LimitStatus.FIT_FAILED), -1)
    if not still.cls:  # the p-value may be too small without a signal already
        h = still.look(lane, still.at, still.minima, jnp.stack([hopeless, hopeless]), True)
        status = jnp.where((status < 0) & h.good & (h.value <= 0), int(LimitStatus.NONE_ALLOWED), status)
    return _State(still.at, jnp.full_like(first, jnp.inf), first, still.minima, zero, zero, status, first)


def _step(still: Curve, s: _State, h: Height) -> _State:
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
