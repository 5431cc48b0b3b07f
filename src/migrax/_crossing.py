"""Where the likelihood has risen by a given amount along a way, all nuisance parameters minimised: one root, and one
gradient a step.

MINUIT finds a crossing by a chain of fits. It is also the point of the surface F = Fmin + z^2/2 that lies farthest
along a direction e, and so one root of F - Fmin - z^2/2 together with the derivatives by the nuisance parameters
(D. J. Venzon and S. H. Moolgavkar, Appl. Statist. 37 (1988) 87). With a model of the curvature, V for the inverse
Hessian, the step is

    d = -V g + t V e,    t^2 = 2 (Fmin + z^2/2 - F + g'V g / 2) / e'V e.

V starts as the covariance at the minimum and is kept up to date by the BFGS formula, so each step costs one gradient.
There is no guarantee far from a quadratic: what is not found here is looked for by bracketing (`_bracket.py`).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from ._minimum import Minimum
from ._solvers.flat import value_and_grad
from ._solvers.metric import bfgs
from ._space import Space

_MAX_STEPS = 60
_MAX_REFUSED = 10
_CUT = 0.3  # of a step that was too long
_TOLERANCE = 1e-10  # of the rise, before a last step that is not evaluated
_LOWER = 1e-4  # in units of UP = 1/2: a value lower than the minimum by more is another minimum


class Way(NamedTuple):
    """Which way to go from the minimum."""

    e: Float[Array, " n"]  # what grows
    covariance: Float[Array, "n n"]  # of the parameters that may move: zero rows for the others
    moves: Bool[Array, " n"]
    direct: Bool[Array, " n"]  # those that move in external coordinates, bounds or not


class Crossing(NamedTuple):
    """The point of a crossing (the best there is, if it was not found) and how it was come by."""

    x: Float[Array, " n"]
    found: Bool[Array, ""]
    new_minimum: Bool[Array, ""]
    slope: Scalar  # of F along e at the minimum
    gradient: Float[Array, " n"]  # there, of the parameters that do not move in external coordinates
    num_gradients: Int[Array, ""]


class _State(NamedTuple):
    trial: Float[Array, " n"]  # evaluated next
    q: Float[Array, " n"]
    f: Scalar  # above the minimum
    g: Float[Array, " n"]
    push: Float[Array, " n"]  # the gradient of those that do not move, too
    v: Float[Array, "n n"]
    merit: Scalar
    least: Scalar  # the least value seen, and where
    lowest: Float[Array, " n"]
    origin: Scalar  # value at the minimum
    slope: Scalar
    first: Bool[Array, ""]
    refused: Int[Array, ""]
    steps: Int[Array, ""]
    done: Bool[Array, ""]
    found: Bool[Array, ""]


def crossing(minimum: Minimum, way: Way, z: Scalar, skip: Bool[Array, ""]) -> Crossing:
    """The crossing along `way` at `z` standard deviations; nothing is done if `skip`."""
    fn, theta, x = minimum.fn, minimum.theta, minimum.x
    # Parameters that do not move, and those that are measured along, need no transform of their bounds.
    free = minimum.space.has_bounds
    space = minimum.space.without(way.direct | ~way.moves)
    q = space.internal(x)
    slopes = space.slopes(q)[0] if free else jnp.ones_like(q)
    target = 0.5 * z**2
    noise = minimum.noise
    e = way.e

    def flat(q: Array) -> tuple[Scalar, None]:
        return fn(space.external(q), theta) - minimum.value, None

    def body(s: _State) -> _State:
        f, g, _ = value_and_grad(flat, s.trial, "bwd")
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g))
        push = jnp.where(finite, g, 0.0)
        g = jnp.where(way.moves, push, 0.0)
        origin = jnp.where(s.first, f, s.origin)
        rise = f - origin
        v = jnp.where(s.first | ~finite, s.v, bfgs(s.v, s.trial - s.q, g - s.g))
        vg, ve = v @ g, v @ e
        eve, gvg = e @ ve, g @ vg
        across = jnp.maximum(gvg - (e @ vg) ** 2 / eve, 0.0)
        off = jnp.abs(rise - target)
        merit = jnp.where(finite, (off / target) ** 2 + across / target, jnp.inf)
        good = s.first | (finite & ((merit < s.merit) | (s.steps == 1)))
        tolerance = jnp.maximum(_TOLERANCE * target, 2 * noise)
        found = good & ~s.first & (off <= tolerance) & (0.5 * across <= tolerance)
        found &= (e @ (s.trial - q) > 0) & (e @ g > 0)

        q_new, g_new = jnp.where(good, s.trial, s.q), jnp.where(good, g, s.g)
        rise_new = jnp.where(good, rise, s.f)
        step = _step(v, e, g_new, rise_new, target)
        cut = _CUT * (s.trial - s.q)
        inside = _inside(minimum.space, way, q_new, step)
        trial = jnp.where(good, q_new + inside * step, s.q + cut)
        refused = jnp.where(good, 0, s.refused + 1)
        lower = finite & (rise < s.least)
        return _State(
            trial=trial,
            q=q_new,
            f=rise_new,
            g=g_new,
            push=jnp.where(good, push, s.push),
            v=v,
            merit=jnp.where(good, jnp.where(s.first, jnp.inf, merit), s.merit),
            least=jnp.where(lower & ~s.first, rise, s.least),
            lowest=jnp.where(lower & ~s.first, s.trial, s.lowest),
            origin=origin,
            slope=jnp.where(s.first, e @ g, s.slope),
            first=jnp.array(False),
            refused=refused,
            steps=s.steps + 1,
            done=found | (refused > _MAX_REFUSED) | (s.steps >= _MAX_STEPS) | (s.first & ~finite),
            found=found,
        )

    zero = jnp.zeros((), x.dtype)
    usable = jnp.isfinite(way.covariance)
    v = jnp.where(usable, way.covariance, 0.0) / (slopes[:, None] * slopes[None, :])
    no = jnp.array(False)
    none = jnp.zeros_like(q)
    start = _State(
        trial=q,
        q=q,
        f=zero,
        g=none,
        push=none,
        v=v,
        merit=zero + jnp.inf,
        least=zero,
        lowest=q,
        origin=zero,
        slope=zero,
        first=jnp.array(True),
        refused=jnp.array(0),
        steps=jnp.array(0),
        done=skip | ~(e @ v @ e > 0) | ~jnp.all(usable),
        found=no,
    )
    end = lax.while_loop(lambda s: ~s.done, body, start)
    new_minimum = end.least < -jnp.maximum(_LOWER, 10 * noise)
    # the last step is not evaluated: it is below 1e-10 of the rise, and the error behind it smaller
    last = jnp.where(end.found & ~new_minimum, end.trial, jnp.where(new_minimum, end.lowest, end.q))
    return Crossing(
        x=space.external(last),
        found=end.found & ~new_minimum,
        new_minimum=new_minimum,
        slope=end.slope,
        gradient=end.push,
        num_gradients=end.steps,
    )


def _step(v: Array, e: Array, g: Array, f: Scalar, target: Scalar) -> Array:
    """From the quadratic model at a point to the far end of its surface, but no more than two such lengths away."""
    vg, ve = v @ g, v @ e
    square = 2 * (target - f + 0.5 * (g @ vg)) / (e @ ve)
    along = jnp.sqrt(jnp.where(square > 0, square, 0.0))
    step = along * ve - vg
    length = jnp.sqrt(jnp.maximum(g @ vg - 2 * along * (g @ ve) + along**2 * (e @ ve), 0.0))
    longest = 2 * jnp.sqrt(2 * target)
    return step * jnp.minimum(1.0, longest / jnp.where(length > 0, length, 1.0))


def _inside(space: Space, way: Way, q: Array, step: Array) -> Scalar:
    """The part of a step that keeps the parameters which move in external coordinates within their bounds."""
    if not space.has_bounds:
        return jnp.ones((), q.dtype)
    room = jnp.where(step > 0, space.upper - q, q - space.lower)
    moving = way.moves & way.direct & (step != 0) & jnp.isfinite(room)
    part = jnp.where(moving, 0.9 * room / jnp.where(moving, jnp.abs(step), 1.0), 1.0)
    return jnp.clip(jnp.min(part), 0.0, 1.0)
