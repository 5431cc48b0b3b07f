"""Limits as crossings: one root of the excess and of the derivatives by the nuisance parameters, for the data and the
Asimov data together, with one gradient of each per step.

Each side keeps an approximate inverse Hessian V, updated by the BFGS formula as in `crossing_newton.py`. Along the
parameter of interest, with unit vector e, this model predicts that the conditional minimum moves by t = V e / e'V e,
how far away it is, and that -2 log of the ratio is a parabola. The limit of these parabolas is scalar arithmetic, and
both sides step there together. An expected limit needs the Asimov data alone: it is where they are a known number of
standard deviations from the alternative.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._host import flow, xp
from .._host.hosted import hosted
from .._parameters.space import Space
from .._profile.conditional_covariance import conditional, off_symmetry
from .._profile.minimum import Minimum
from .._solvers.flat import value_and_grad
from .._solvers.metric import bfgs
from . import formulas
from .limit_curve import Curve, Level, excess
from .limit_sides import LimitSide, Sides
from .limit_status import LimitStatus

_MAX_STEPS = 60
_MAX_REJECTED = 10
_CUT = 0.3  # factor by which a step that was too long is cut
_MAX_FIRST = 20.0  # limit on the first guess, in errors of the parabola beyond the fit
_MAX_STEP = 4.0  # limit on a step, in units of the distance to the alternative
_LOWER = 1e-3  # a value lower than the free fit by more, in units of UP = 1/2, shows that this is not the minimum
# Tolerances before the last step, which is not evaluated, by the bytes of a number: on the limit, relative to the
# distance to the alternative, on the height above the conditional minimum (in units of UP = 1/2), and on the excess.
_MU_TOLERANCE = {8: 1e-9, 4: 1e-4}
_ACROSS_TOLERANCE = {8: 1e-12, 4: 1e-5}
_EXCESS_TOLERANCE = 1e-3
_MAX_EVALUATIONS = 60  # of the parabolas


class Crossed(NamedTuple):
    """A limit, not yet differentiable."""

    mu: Scalar
    x: Float[Array, "2 n"]  # conditional fits at the limit; NaN for the data where they are not needed
    status: Int[Array, ""]  # an `mx.LimitStatus`, or -1 if it was not found


class _SideFrame(NamedTuple):
    """The start of one side, in coordinates in which only the bounds of nuisance parameters are transformed."""

    q: Float[Array, " n"]
    v: Float[Array, "n n"]
    aside: Float[Array, " n"]  # a tiny step off an axis of symmetry
    e: Float[Array, " n"]  # unit vector of the parameter of interest
    is_moving: Bool[Array, " n"]  # false for nuisance parameters at a bound
    noise: Scalar
    usable: Bool[Array, ""]


class _SideParabola(NamedTuple):
    """The parabola of a side along the parameter of interest, from the conditional minimum at `centre`."""

    centre: Scalar
    value: Scalar
    slope: Scalar
    curvature: Scalar
    shift: Float[Array, " n"]  # the step to that minimum
    tangent: Float[Array, " n"]  # derivative of that minimum by the parameter
    across: Scalar  # height of the point above that minimum


class _LimitCrossingState(NamedTuple):
    trial: Float[Array, "k n"]  # the point of each side that is evaluated next
    trial_mu: Float[Array, " k"]  # the parameter of interest of `trial`
    q: Float[Array, "k n"]  # the best point of each side
    mu: Float[Array, " k"]  # the parameter of interest of `q`
    g: Float[Array, "k n"]  # gradient at `q`; zero for parameters that do not move
    full_g: Float[Array, "k n"]  # the full gradient at `q`
    v: Float[Array, "k n n"]
    merit: Scalar
    first: Bool[Array, ""]  # whether each side is still at its own minimum
    n_rejected: Int[Array, ""]
    n_steps: Int[Array, ""]
    status: Int[Array, ""]
    done: Bool[Array, ""]


class _Observed(NamedTuple):
    """The observed limit."""

    curve: Curve

    def excess(self, mu: Scalar, f: Float[Array, "2"]) -> Scalar:
        q = 2 * xp.maximum(f, 0.0)
        return self.curve.excess(xp.array(0), mu, q[0], q[1])[0]

    def limit(self, model: _SideParabola, longest: Scalar) -> Scalar:
        """Returns the limit of the parabolas, not beyond `longest`, by Newton's method within a bracket."""

        line = (model.centre, model.value, model.slope, model.curvature)

        def height(mu: Scalar) -> tuple[Scalar, Scalar]:
            return _height(mu, line, self.curve.level)

        def body(state: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
            low, high, mu, _, n_evaluations = state
            value, slope = height(mu)
            low, high = xp.where(value > 0, mu, low), xp.where(value > 0, high, mu)
            newton = mu - value / xp.fmin(slope, -xp.finfo(slope.dtype).tiny)
            return (
                low,
                high,
                xp.where((newton > low) & (newton < high), newton, 0.5 * (low + high)),
                mu,
                n_evaluations + 1,
            )

        def is_unfinished(state: tuple[Scalar, ...]) -> Bool[Array, ""]:
            _, _, mu, previous, n_evaluations = state
            tolerance = 4 * xp.finfo(mu.dtype).eps * xp.abs(mu - self.curve.alternative)
            return (n_evaluations < _MAX_EVALUATIONS) & ~(xp.abs(mu - previous) <= tolerance)

        return flow.while_loop(
            is_unfinished, body, (self.curve.alternative, longest, longest, longest + xp.inf, xp.array(0))
        )[2]


@hosted
def _height(mu: Scalar, parabolas: tuple[Array, ...], level: Level) -> tuple[Scalar, Scalar]:
    """The excess for parabolas along the parameter of interest, and its derivative."""
    centre, value, slope, curvature = parabolas

    def height(mu: Scalar) -> Scalar:
        step = mu - centre
        q = 2 * jnp.maximum(value + (slope + 0.5 * curvature * step) * step, 0.0)
        return excess(jnp.array(0), mu, q[0], q[1], level)

    return jax.value_and_grad(height)(mu)


class _Expected(NamedTuple):
    """An expected limit: the Asimov data are `r` standard deviations from the alternative there."""

    curve: Curve
    r: Scalar

    def excess(self, mu: Scalar, f: Float[Array, "1"]) -> Scalar:
        del mu
        return self.r - formulas.root(2 * xp.maximum(f[0], 0.0))

    def limit(self, model: _SideParabola, longest: Scalar) -> Scalar:
        """Returns the limit of the parabola: its farther root."""
        centre, value, slope, curvature, *_ = (a[0] for a in model)
        square = slope**2 + 2 * curvature * (0.5 * self.r**2 - value)
        step = (xp.sqrt(xp.maximum(square, 0.0)) - slope) / curvature
        return xp.clip(centre + step, self.curve.alternative, longest)


def cross(curve: Curve) -> tuple[Crossed, Crossed]:
    """Returns the observed limit and, with a leading axis, the five expected ones. Not differentiable."""
    frame = curve.sides.each(_frame)
    observed = _cross(_Observed(curve), curve.sides, frame)
    asimov, asimov_frame = curve.sides.asimov, jax.tree.map(lambda a: a[1:], frame)
    expected = flow.vmap(lambda r: _cross(_Expected(curve, r), asimov, asimov_frame))(curve.distances)
    status = xp.where(curve.distances <= 0, int(LimitStatus.NONE_ALLOWED), expected.status)
    not_fitted = xp.full_like(expected.x, xp.nan)
    return observed, Crossed(expected.mu, xp.concatenate([not_fitted, expected.x], axis=1), status)


def _cross(target: _Observed | _Expected, sides: Sides, frame: _SideFrame) -> Crossed:
    def body(s: _LimitCrossingState) -> _LimitCrossingState:
        f, push = sides.each(_evaluate, s.trial)
        return _advance(target, frame, s, f, push)

    dtype = frame.q.dtype
    mu, zeros = xp.sum(xp.where(frame.e > 0, frame.q, 0.0), axis=1), xp.zeros_like(frame.q)
    start = _LimitCrossingState(
        frame.q, mu, frame.q, mu, zeros, zeros, frame.v, xp.array(xp.inf, dtype), xp.array(True),
        xp.array(0), xp.array(0), xp.array(-1), ~(xp.all(frame.usable) & target.curve.valid),
    )  # fmt: skip
    end = flow.while_loop(lambda s: ~s.done, body, start)
    x, is_valid = sides.each(_end, end.trial, end.full_g)
    return Crossed(end.trial_mu[0], x, xp.where(xp.all(is_valid), end.status, -1))


def _coordinates(minimum: Minimum, poi: Bool[Array, " n"]) -> tuple[Space, Bool[Array, " n"]]:
    is_moving = poi | ~minimum.active
    return minimum.space.without(poi | ~is_moving), is_moving


def _frame(side: LimitSide) -> _SideFrame:
    minimum, poi = side.minimum, side.poi
    space, is_moving = _coordinates(minimum, poi)
    e = poi.astype(minimum.x.dtype)
    # A parameter at its bound has no covariance; that of the others and its row of the Hessian give what it would be.
    others = conditional(minimum.covariance, e[None])
    row = minimum.curvature_along(e)
    tangent = xp.where(poi, 1.0, -(others @ row))
    curvature = row @ tangent
    v = others + xp.outer(tangent, tangent) / xp.where(curvature > 0, curvature, 1.0)
    q = space.internal(minimum.x)
    slopes = space.slopes(q)[0] if space.has_bounds else xp.ones_like(q)
    v = v / (slopes[:, None] * slopes[None, :])
    usable = (curvature > 0) & xp.all(xp.isfinite(v)) & xp.all(xp.isfinite(q))
    across = conditional(v, e[None])
    aside = xp.where(is_moving, off_symmetry(xp.diagonal(across), lambda g: across @ g), 0.0)
    return _SideFrame(q, v, aside, e, is_moving, minimum.noise, usable)


def _evaluate(side: LimitSide, trial: Float[Array, " n"]) -> tuple[Scalar, Float[Array, " n"]]:
    """Returns the value above the minimum and the gradient."""
    minimum = side.minimum
    space, _ = _coordinates(minimum, side.poi)
    f, g, _ = value_and_grad(minimum.above(space), trial, "bwd")
    return f, g


def _end(
    side: LimitSide, q: Float[Array, " n"], full_g: Float[Array, " n"]
) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
    """Returns the point in external coordinates and whether it is valid: parameters at their bounds must stay there."""
    minimum, poi = side.minimum, side.poi
    space, _ = _coordinates(minimum, poi)
    x = minimum.space.clip(space.external(q))
    sign = xp.where(minimum.space.lower_is_nearer(minimum.x), xp.ones_like(x), -1.0)
    stay_on_bounds = xp.all(~minimum.active | poi | (full_g * sign >= 0))
    return x, stay_on_bounds & minimum.near(x, poi)


def _model(
    e: Float[Array, " n"], mu: Scalar, f: Scalar, g: Float[Array, " n"], v: Float[Array, "n n"]
) -> _SideParabola:
    ve, vg = v @ e, v @ g
    variance = e @ ve
    tangent = ve / variance
    shift = tangent * (e @ vg) - vg
    across = xp.maximum(-0.5 * (g @ shift), 0.0)
    return _SideParabola(mu, f - across, g @ tangent, 1 / variance, shift, tangent, across)


def _advance(
    target: _Observed | _Expected,
    frame: _SideFrame,
    s: _LimitCrossingState,
    f: Float[Array, " k"],
    full_g: Float[Array, "k n"],
) -> _LimitCrossingState:
    """Accepts or rejects `s.trial`, given its values and gradients, and sets the next trial."""
    curve, size = target.curve, f.dtype.itemsize
    is_finite = xp.all(xp.isfinite(f)) & xp.all(xp.isfinite(full_g))
    full_g = xp.where(is_finite, full_g, 0.0)
    g = xp.where(frame.is_moving, full_g, 0.0)
    v = xp.where(s.first | ~is_finite, s.v, flow.vmap(bfgs)(s.v, s.trial - s.q, g - s.g))
    parabola = flow.vmap(_model)(frame.e, s.trial_mu, xp.where(is_finite, f, 0.0), g, v)
    height = target.excess(s.trial_mu[0], parabola.value)
    merit = xp.where(is_finite, height**2 + xp.sum(parabola.across), xp.inf)
    accepted = s.first | (is_finite & ((merit < s.merit) | (s.n_steps == 1)))

    farthest = xp.max(s.trial_mu) + _MAX_FIRST * xp.max(1 / xp.sqrt(parabola.curvature))
    farthest = xp.where(s.first, farthest, curve.alternative + _MAX_STEP * (s.trial_mu[0] - curve.alternative))
    mu = target.limit(parabola, xp.minimum(farthest, curve.upper))
    step = parabola.shift + parabola.tangent * (mu - s.trial_mu)[:, None] + xp.where(s.first, frame.aside, 0.0)
    trial = xp.where(frame.e > 0, mu, s.trial + step)  # the parameter of interest is exactly equal on both sides
    on_curve = xp.all(parabola.across <= xp.maximum(_ACROSS_TOLERANCE[size], 2 * frame.noise)) & xp.all(f > -_LOWER)
    on_curve = on_curve & (accepted & ~s.first)
    beyond_bound = on_curve & (s.trial_mu[0] >= curve.upper) & (height > 0)
    is_found = on_curve & ~beyond_bound & (xp.abs(height) <= _EXCESS_TOLERANCE)
    distance = xp.abs(s.trial_mu[0] - curve.alternative)
    is_found = is_found & (xp.abs(mu - s.trial_mu[0]) <= _MU_TOLERANCE[size] * distance)
    n_rejected = xp.where(accepted, 0, s.n_rejected + 1)
    hopeless = (n_rejected > _MAX_REJECTED) | (s.n_steps >= _MAX_STEPS) | (s.first & ~is_finite) | ~xp.isfinite(mu)
    status = xp.where(beyond_bound, int(LimitStatus.BEYOND_BOUND), xp.where(is_found, int(LimitStatus.FOUND), -1))
    return _LimitCrossingState(
        trial=xp.where(accepted, trial, s.q + _CUT * (s.trial - s.q)),
        trial_mu=xp.where(accepted, mu, s.mu + _CUT * (s.trial_mu - s.mu)),
        q=xp.where(accepted, s.trial, s.q),
        mu=xp.where(accepted, s.trial_mu, s.mu),
        g=xp.where(accepted, g, s.g),
        full_g=xp.where(accepted, full_g, s.full_g),
        v=v,
        merit=xp.where(accepted, xp.where(s.first, xp.inf, merit), s.merit),
        first=xp.array(False),
        n_rejected=n_rejected,
        n_steps=s.n_steps + 1,
        status=status,
        done=is_found | beyond_bound | hopeless,
    )
