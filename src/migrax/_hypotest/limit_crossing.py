"""The limits as crossings: one root of the excess and of the derivatives by the nuisance parameters, of the data and of
the Asimov data together, with one gradient of each a step.

Of each side a model of the curvature is kept, V for the inverse Hessian, by the BFGS formula as in
`crossing_newton.py`. Along the parameter of interest, with e its unit vector, it says that the conditional minimum
moves by t = V e / e'V e, how far it is away, and that -2 log of the ratio is a parabola. The limit of these parabolas
is scalar arithmetic, and both sides go there at once. An expected limit needs the Asimov data alone: it is where they
are a known number of standard deviations from the alternative.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._parameters.space import Space
from .._profile.conditional_covariance import conditional, off_symmetry
from .._profile.minimum import Minimum
from .._solvers.flat import value_and_grad
from .._solvers.metric import bfgs
from . import formulas
from .limit_curve import Curve
from .limit_sides import Side, Sides
from .limit_status import LimitStatus

_MAX_STEPS = 60
_MAX_REFUSED = 10
_CUT = 0.3  # of a step that was too long
_FIRST = 20.0  # errors of the parabola: how far beyond the fit the limit may be guessed
_LONGEST = 4.0  # times the distance to the alternative: how far a step may go
_LOWER = 1e-3  # than the free fit, in units of UP = 1/2: that was not the minimum
_CLOSE = {8: 1e-9, 4: 1e-4}  # of the distance to the alternative, before a last step that is not evaluated
_ACROSS = {8: 1e-12, 4: 1e-5}  # units of UP = 1/2 above the conditional minimum, before that step
_HEIGHT = 1e-3  # of the excess, likewise
_MAX_EVALUATIONS = 60  # of the parabolas


class Crossed(NamedTuple):
    """A limit, not yet differentiable."""

    mu: Scalar
    x: Float[Array, "2 n"]  # the conditional fits there; NaN for the data where they do not matter
    status: Int[Array, ""]  # an `mx.LimitStatus`, or -1: not found


class _Frame(NamedTuple):
    """One side: where it begins, in coordinates in which only nuisance parameters have their bounds transformed."""

    q: Float[Array, " n"]
    v: Float[Array, "n n"]
    aside: Float[Array, " n"]  # a tiny step off an axis of symmetry
    e: Float[Array, " n"]  # the parameter of interest
    moves: Bool[Array, " n"]
    noise: Scalar
    usable: Bool[Array, ""]


class _Model(NamedTuple):
    """A side along the parameter of interest, from the conditional minimum at `centre`: a parabola."""

    centre: Scalar
    value: Scalar
    slope: Scalar
    curvature: Scalar
    shift: Float[Array, " n"]  # the way to that minimum
    tangent: Float[Array, " n"]  # how it moves with the parameter
    across: Scalar  # how much higher the point is


class _State(NamedTuple):
    trial: Float[Array, "k n"]  # evaluated next
    there: Float[Array, " k"]  # the parameter of interest of `trial`
    q: Float[Array, "k n"]  # the best point of each side
    at: Float[Array, " k"]  # the parameter of interest of `q`
    g: Float[Array, "k n"]
    push: Float[Array, "k n"]  # the gradient of those that do not move, too
    v: Float[Array, "k n n"]
    merit: Scalar
    first: Bool[Array, ""]  # each side at its own minimum
    refused: Int[Array, ""]
    steps: Int[Array, ""]
    status: Int[Array, ""]
    done: Bool[Array, ""]


class _Observed(NamedTuple):
    """The limit of the data."""

    curve: Curve

    def excess(self, mu: Scalar, f: Float[Array, "2"]) -> Scalar:
        q = 2 * jnp.maximum(f, 0.0)
        return self.curve.excess(jnp.array(0), mu, q[0], q[1])

    def limit(self, model: _Model, longest: Scalar) -> Scalar:
        """Of the parabolas, not beyond `longest`: by Newton's method within a bracket."""

        def height(mu: Scalar) -> Scalar:
            step = mu - model.centre
            return self.excess(mu, model.value + (model.slope + 0.5 * model.curvature * step) * step)

        def body(s: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
            low, high, mu, _, count = s
            value, slope = jax.value_and_grad(height)(mu)
            low, high = jnp.where(value > 0, mu, low), jnp.where(value > 0, high, mu)
            newton = mu - value / jnp.fmin(slope, -jnp.finfo(slope.dtype).tiny)
            return low, high, jnp.where((newton > low) & (newton < high), newton, 0.5 * (low + high)), mu, count + 1

        def going(s: tuple[Scalar, ...]) -> Bool[Array, ""]:
            _, _, mu, last, count = s
            close = 4 * jnp.finfo(mu.dtype).eps * jnp.abs(mu - self.curve.at)
            return (count < _MAX_EVALUATIONS) & ~(jnp.abs(mu - last) <= close)

        return lax.while_loop(going, body, (self.curve.at, longest, longest, longest + jnp.inf, jnp.array(0)))[2]


class _Expected(NamedTuple):
    """The limit where the Asimov data are `r` standard deviations from the alternative."""

    curve: Curve
    r: Scalar

    def excess(self, mu: Scalar, f: Float[Array, "1"]) -> Scalar:
        del mu
        return self.r - formulas.root(2 * jnp.maximum(f[0], 0.0))

    def limit(self, model: _Model, longest: Scalar) -> Scalar:
        """Of the parabola: the farther root."""
        centre, value, slope, curvature, *_ = (a[0] for a in model)
        square = slope**2 + 2 * curvature * (0.5 * self.r**2 - value)
        step = (jnp.sqrt(jnp.maximum(square, 0.0)) - slope) / curvature
        return jnp.clip(centre + step, self.curve.at, longest)


def cross(curve: Curve) -> tuple[Crossed, Crossed]:
    """The observed limit, and with a leading axis the five that are expected. Not differentiable."""
    frame = curve.sides.each(_frame)
    observed = _cross(_Observed(curve), curve.sides, frame)
    asimov, its_frame = curve.sides.asimov, jax.tree.map(lambda a: a[1:], frame)
    expected = jax.vmap(lambda r: _cross(_Expected(curve, r), asimov, its_frame))(curve.distances)
    status = jnp.where(curve.distances <= 0, int(LimitStatus.NONE_ALLOWED), expected.status)
    unseen = jnp.full_like(expected.x, jnp.nan)
    return observed, Crossed(expected.mu, jnp.concatenate([unseen, expected.x], axis=1), status)


def _cross(aim: _Observed | _Expected, sides: Sides, frame: _Frame) -> Crossed:
    def body(s: _State) -> _State:
        f, push = sides.each(_look, s.trial)
        return _advance(aim, frame, s, f, push)

    dtype = frame.q.dtype
    at, none = jnp.sum(jnp.where(frame.e > 0, frame.q, 0.0), axis=1), jnp.zeros_like(frame.q)
    start = _State(
        frame.q, at, frame.q, at, none, none, frame.v, jnp.array(jnp.inf, dtype), jnp.array(True),
        jnp.array(0), jnp.array(0), jnp.array(-1), ~(jnp.all(frame.usable) & aim.curve.valid),
    )  # fmt: skip
    end = lax.while_loop(lambda s: ~s.done, body, start)
    x, stays = sides.each(_end, end.trial, end.push)
    return Crossed(end.there[0], x, jnp.where(jnp.all(stays), end.status, -1))


def _coordinates(minimum: Minimum, poi: Bool[Array, " n"]) -> tuple[Space, Bool[Array, " n"]]:
    moves = poi | ~minimum.active
    return minimum.space.without(poi | ~moves), moves


def _frame(side: Side) -> _Frame:
    minimum, poi = side.minimum, side.poi
    space, moves = _coordinates(minimum, poi)
    e = poi.astype(minimum.x.dtype)
    # At a bound the parameter has no covariance: that of the others and its row of the Hessian say what it would be.
    others = conditional(minimum.covariance, e[None])
    _, row = jax.jvp(jax.grad(lambda x: minimum.fn(x, minimum.theta)), (minimum.x,), (e,))
    tangent = jnp.where(poi, 1.0, -(others @ row))
    curvature = row @ tangent
    v = others + jnp.outer(tangent, tangent) / jnp.where(curvature > 0, curvature, 1.0)
    q = space.internal(minimum.x)
    slopes = space.slopes(q)[0] if space.has_bounds else jnp.ones_like(q)
    v = v / (slopes[:, None] * slopes[None, :])
    usable = (curvature > 0) & jnp.all(jnp.isfinite(v)) & jnp.all(jnp.isfinite(q))
    aside = jnp.where(moves, off_symmetry(conditional(v, e[None])), 0.0)
    return _Frame(q, v, aside, e, moves, minimum.noise, usable)


def _look(side: Side, trial: Float[Array, " n"]) -> tuple[Scalar, Float[Array, " n"]]:
    """The value above the minimum, and the gradient."""
    minimum = side.minimum
    space, _ = _coordinates(minimum, side.poi)
    flat = lambda q: (minimum.fn(space.external(q), minimum.theta) - minimum.value, None)  # noqa: E731
    f, g, _ = value_and_grad(flat, trial, "bwd")
    return f, g


def _end(side: Side, q: Float[Array, " n"], push: Float[Array, " n"]) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
    """The point in the user's units, and whether it is one: parameters at their bounds are to stay there."""
    minimum, poi = side.minimum, side.poi
    space, _ = _coordinates(minimum, poi)
    x = minimum.space.clip(space.external(q))
    sign = jnp.where(minimum.space.lower_is_nearer(minimum.x), 1.0, -1.0)
    stays = jnp.all(~minimum.active | poi | (push * sign >= 0))
    return x, stays & minimum.near(x, poi)


def _model(e: Float[Array, " n"], at: Scalar, f: Scalar, g: Float[Array, " n"], v: Float[Array, "n n"]) -> _Model:
    ve, vg = v @ e, v @ g
    variance = e @ ve
    tangent = ve / variance
    shift = tangent * (e @ vg) - vg
    across = jnp.maximum(-0.5 * (g @ shift), 0.0)
    return _Model(at, f - across, g @ tangent, 1 / variance, shift, tangent, across)


def _advance(
    aim: _Observed | _Expected, frame: _Frame, s: _State, f: Float[Array, " k"], push: Float[Array, "k n"]
) -> _State:
    """The state after the values and the gradients of `s.trial` are known: it is taken or refused, the next is set."""
    curve, size = aim.curve, f.dtype.itemsize
    finite = jnp.all(jnp.isfinite(f)) & jnp.all(jnp.isfinite(push))
    push = jnp.where(finite, push, 0.0)
    g = jnp.where(frame.moves, push, 0.0)
    v = jnp.where(s.first | ~finite, s.v, jax.vmap(bfgs)(s.v, s.trial - s.q, g - s.g))
    here = jax.vmap(_model)(frame.e, s.there, jnp.where(finite, f, 0.0), g, v)
    height = aim.excess(s.there[0], here.value)
    merit = jnp.where(finite, height**2 + jnp.sum(here.across), jnp.inf)
    good = s.first | (finite & ((merit < s.merit) | (s.steps == 1)))

    far = jnp.max(s.there) + _FIRST * jnp.max(1 / jnp.sqrt(here.curvature))
    far = jnp.where(s.first, far, curve.at + _LONGEST * (s.there[0] - curve.at))
    mu = aim.limit(here, jnp.minimum(far, curve.upper))
    step = here.shift + here.tangent * (mu - s.there)[:, None] + jnp.where(s.first, frame.aside, 0.0)
    trial = jnp.where(frame.e > 0, mu, s.trial + step)  # exactly the same on both sides
    still = jnp.all(here.across <= jnp.maximum(_ACROSS[size], 2 * frame.noise)) & jnp.all(f > -_LOWER)
    still &= good & ~s.first
    bounded = still & (s.there[0] >= curve.upper) & (height > 0)
    found = still & ~bounded & (jnp.abs(height) <= _HEIGHT)
    found &= jnp.abs(mu - s.there[0]) <= _CLOSE[size] * jnp.abs(s.there[0] - curve.at)
    refused = jnp.where(good, 0, s.refused + 1)
    hopeless = (refused > _MAX_REFUSED) | (s.steps >= _MAX_STEPS) | (s.first & ~finite) | ~jnp.isfinite(mu)
    status = jnp.where(bounded, int(LimitStatus.BEYOND_BOUND), jnp.where(found, int(LimitStatus.FOUND), -1))
    return _State(
        trial=jnp.where(good, trial, s.q + _CUT * (s.trial - s.q)),
        there=jnp.where(good, mu, s.at + _CUT * (s.there - s.at)),
        q=jnp.where(good, s.trial, s.q),
        at=jnp.where(good, s.there, s.at),
        g=jnp.where(good, g, s.g),
        push=jnp.where(good, push, s.push),
        v=v,
        merit=jnp.where(good, jnp.where(s.first, jnp.inf, merit), s.merit),
        first=jnp.array(False),
        refused=refused,
        steps=s.steps + 1,
        status=status,
        done=found | bounded | hopeless,
    )
