"""Where the likelihood has risen by a given amount along a way, all nuisance parameters minimised: one root, and one
gradient a step.

MINUIT finds a crossing by a chain of fits. It is also the point of the surface F = Fmin + z^2/2 that lies farthest
along a direction e, and so one root of F - Fmin - z^2/2 together with the derivatives by the nuisance parameters
(D. J. Venzon and S. H. Moolgavkar, Appl. Statist. 37 (1988) 87). With a model of the curvature, V for the inverse
Hessian, the step is

    d = -V g + t V e,    t^2 = 2 (Fmin + z^2/2 - F + g'V g / 2) / e'V e.

V starts as the covariance at the minimum and is kept up to date by the BFGS formula, so each step costs one gradient.
There is no guarantee far from a quadratic: what is not found here is looked for by bracketing (`crossing_bracket.py`).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._parameters.space import Space
from .._solvers.flat import value_and_grad
from .._solvers.metric import bfgs
from .conditional_covariance import conditional, off_symmetry
from .minimum import Minimum

_MAX_STEPS = 60
_MAX_REFUSED = 10
_CUT = 0.3  # of a step that was too long
_TOLERANCE = 1e-10  # of the rise, before a last step that is not evaluated


class Way(NamedTuple):
    """Which way to go, and from where."""

    start: Float[Array, " n"]
    origin: Scalar | None  # the objective at the minimum; `None` if that is the start
    e: Float[Array, " n"]  # what grows
    covariance: Float[Array, "n n"]  # of the parameters that may move: zero rows for the others
    moves: Bool[Array, " n"]
    direct: Bool[Array, " n"]  # those that move in external coordinates, bounds or not


class Crossing(NamedTuple):
    """The point of a crossing (the best there is, if it was not found) and how it was come by."""

    x: Float[Array, " n"]
    found: Bool[Array, ""]
    new_minimum: Bool[Array, ""]
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
    first: Bool[Array, ""]
    refused: Int[Array, ""]
    steps: Int[Array, ""]
    done: Bool[Array, ""]
    found: Bool[Array, ""]


def crossing(minimum: Minimum, way: Way, z: Scalar, skip: Bool[Array, ""]) -> Crossing:
    """The crossing along `way` at `z` standard deviations above the minimum; nothing is done if `skip`."""
    # Parameters that do not move, and those that are measured along, need no transform of their bounds.
    space = minimum.space.without(way.direct | ~way.moves)
    q = space.internal(way.start)
    slopes = space.slopes(q)[0] if space.has_bounds else jnp.ones_like(q)
    usable = jnp.isfinite(way.covariance)
    v = jnp.where(usable, way.covariance, 0.0) / (slopes[:, None] * slopes[None, :])

    aside = jnp.where(way.moves, off_symmetry(conditional(v, way.e[None])), 0.0)

    def flat(q: Array) -> tuple[Scalar, None]:
        return minimum.fn(space.external(q), minimum.theta) - minimum.value, None

    def body(s: _State) -> _State:
        f, g, _ = value_and_grad(flat, s.trial, "bwd")
        return _advance(minimum, way, q, aside, 0.5 * z**2, s, f, g)

    hopeless = ~(way.e @ v @ way.e > 0) | ~jnp.all(usable)
    end = lax.while_loop(lambda s: ~s.done, body, _start(q, v, skip | hopeless))
    new_minimum = end.least < -minimum.lower
    # the last step is not evaluated: it is below 1e-10 of the rise, and the error behind it smaller
    last = jnp.where(end.found & ~new_minimum, end.trial, jnp.where(new_minimum, end.lowest, end.q))
    return Crossing(space.external(last), end.found & ~new_minimum, new_minimum, end.push, end.steps)


def _start(q: Float[Array, " n"], v: Float[Array, "n n"], done: Bool[Array, ""]) -> _State:
    zero, none, count, no = jnp.zeros((), q.dtype), jnp.zeros_like(q), jnp.array(0), jnp.array(False)
    return _State(
        trial=q, q=q, f=zero, g=none, push=none, v=v, merit=zero + jnp.inf, least=zero, lowest=q, origin=zero,
        first=~no, refused=count, steps=count, done=done, found=no,
    )  # fmt: skip


def _advance(
    minimum: Minimum,
    way: Way,
    origin_q: Float[Array, " n"],
    aside: Float[Array, " n"],
    target: Scalar,
    s: _State,
    f: Scalar,
    g: Float[Array, " n"],
) -> _State:
    """The state after the value and the gradient of `s.trial` are known: it is taken or refused, the next is set."""
    e = way.e
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g))
    push = jnp.where(finite, g, 0.0)
    g = jnp.where(way.moves, push, 0.0)
    origin = jnp.where(s.first, f, s.origin) if way.origin is None else way.origin - minimum.value
    rise = f - origin
    v = jnp.where(s.first | ~finite, s.v, bfgs(s.v, s.trial - s.q, g - s.g))
    vg, ve = v @ g, v @ e
    across = jnp.maximum(g @ vg - (e @ vg) ** 2 / (e @ ve), 0.0)
    off = jnp.abs(rise - target)
    tolerance = jnp.maximum(_TOLERANCE * target, 2 * minimum.noise)
    # far below the tolerance it is rounding, of a step of a few digits, and must not stop the last ones
    uneven = jnp.maximum(across - 0.01 * tolerance, 0.0)
    merit = jnp.where(finite, (off / target) ** 2 + uneven / target, jnp.inf)
    good = s.first | (finite & ((merit < s.merit) | (s.steps == 1)))
    found = good & ~s.first & (off <= tolerance) & (0.5 * across <= tolerance)
    found &= e @ g > 0
    if way.origin is None:  # not on the other side of the minimum
        found &= e @ (s.trial - origin_q) > 0

    q_new, g_new = jnp.where(good, s.trial, s.q), jnp.where(good, g, s.g)
    rise_new = jnp.where(good, rise, s.f)
    step = _step(v, e, g_new, rise_new, target)
    step = step + jnp.where(s.first, aside, 0.0)
    inside = _inside(minimum.space, way, q_new, step)
    refused = jnp.where(good, 0, s.refused + 1)
    lower = finite & (rise < s.least) & ~s.first
    return _State(
        trial=jnp.where(good, q_new + inside * step, s.q + _CUT * (s.trial - s.q)),
        q=q_new,
        f=rise_new,
        g=g_new,
        push=jnp.where(good, push, s.push),
        v=v,
        merit=jnp.where(good, jnp.where(s.first, jnp.inf, merit), s.merit),
        least=jnp.where(lower, rise, s.least),
        lowest=jnp.where(lower, s.trial, s.lowest),
        origin=origin,
        first=jnp.array(False),
        refused=refused,
        steps=s.steps + 1,
        done=found | (refused > _MAX_REFUSED) | (s.steps >= _MAX_STEPS) | (s.first & ~finite),
        found=found,
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
