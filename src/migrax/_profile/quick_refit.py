"""Minimising over the nuisance parameters from near the minimum of a fit: one gradient a step, no Hessian.

The covariance at the minimum, conditional on what is held, is the inverse Hessian of a quadratic likelihood, for which
one step is enough. It is kept up to date by the BFGS formula. What does not converge so is left to the loop of a fit.

A start that is predicted may lie where the likelihood is not finite (the tangent far from the minimum makes an expected
count negative): it is halved back towards the nuisance parameters of the minimum, by the same evaluations.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._solvers.flat import value_and_grad
from .._solvers.metric import bfgs
from .conditional_covariance import conditional, off_symmetry
from .minimum import Hold, Minimum

_MAX_STEPS = 40
_MAX_REFUSED = 8
_MAX_HALVINGS = 6  # of the way to a start that is not finite; then its beginning is tried
_CUT = 0.3  # of a step that was too long
_DECREASE = 1e-4  # sufficient (Armijo)
_TOLERANCE = 1e-11  # of the EDM, in units of UP = 1/2, before a last step that is not evaluated


class Descent(NamedTuple):
    x: Float[Array, " n"]
    start: Float[Array, " n"]  # where it began: the first point of all tried at which the likelihood is finite
    found: Bool[Array, ""]
    num_gradients: Int[Array, ""]


class _State(NamedTuple):
    trial: Float[Array, " n"]  # evaluated next
    q: Float[Array, " n"]
    f: Scalar
    g: Float[Array, " n"]
    push: Float[Array, " n"]  # the gradient of those that do not move, too
    v: Float[Array, "n n"]
    begin: Float[Array, " n"]  # the first finite point
    first: Bool[Array, ""]  # none has been met
    halvings: Int[Array, ""]
    refused: Int[Array, ""]
    steps: Int[Array, ""]
    done: Bool[Array, ""]
    found: Bool[Array, ""]


def descend(minimum: Minimum, hold: Hold, start: Float[Array, " n"], skip: Bool[Array, ""]) -> Descent:
    """The minimum over all parameters but those of `hold`, from `start` or, if the likelihood is not finite there, from
    between it and the minimum of the fit; nothing is done if `skip`."""
    which = hold.which
    moves = ~which & ~minimum.active
    space = minimum.space.without(~moves)
    nearest = jnp.where(which, hold.at, minimum.x)
    x = jnp.where(moves & jnp.isfinite(start), start, nearest)
    q, back = space.internal(x), space.internal(nearest)
    slopes = space.slopes(space.internal(jnp.where(moves, minimum.x, x)))[0]
    v = conditional(minimum.covariance, hold.rows) / (slopes[:, None] * slopes[None, :])
    v = jnp.where(moves[:, None] & moves[None, :] & jnp.isfinite(v), v, 0.0)
    aside = off_symmetry(v)
    q, back = q + aside, back + aside
    noise = minimum.noise

    def flat(q: Array) -> tuple[Scalar, None]:
        return minimum.fn(space.external(q), minimum.theta) - minimum.value, None

    def body(s: _State) -> _State:
        f, g, _ = value_and_grad(flat, s.trial, "bwd")
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g))
        push = jnp.where(finite, g, 0.0)
        g = jnp.where(moves, push, 0.0)
        first = s.first
        nowhere = first & ~finite
        halved = jnp.where(s.halvings < _MAX_HALVINGS, back + 0.5 * (s.trial - back), back)
        v = jnp.where(first | ~finite, s.v, bfgs(s.v, s.trial - s.q, g - s.g))
        slope = s.g @ (s.trial - s.q)
        lower = f <= s.f + _DECREASE * slope
        # in the noise of the values the slopes decide
        level = (f <= s.f + 2 * noise) & (jnp.abs(g @ (s.trial - s.q)) <= 0.9 * jnp.abs(slope))
        good = finite & (first | lower | level)
        q, f = jnp.where(good, s.trial, s.q), jnp.where(good, f, s.f)
        g, push = jnp.where(good, g, s.g), jnp.where(good, push, s.push)
        step = -v @ g
        found = good & (-0.5 * (g @ step) <= jnp.maximum(_TOLERANCE, noise))
        refused = jnp.where(good | nowhere, 0, s.refused + 1)
        steps = s.steps + 1
        return _State(
            trial=jnp.where(nowhere, halved, q + jnp.where(good, step, _CUT * (s.trial - s.q))),
            q=q,
            f=f,
            g=g,
            push=push,
            v=v,
            begin=jnp.where(first & finite, s.trial, s.begin),
            first=nowhere,
            halvings=s.halvings + nowhere,
            refused=refused,
            steps=steps,
            done=found | (refused > _MAX_REFUSED) | (steps >= _MAX_STEPS) | (nowhere & jnp.all(s.trial == back)),
            found=found,
        )

    zero, none, no, count = jnp.zeros((), x.dtype), jnp.zeros_like(q), jnp.array(False), jnp.array(0)
    hopeless = ~minimum.valid | ~jnp.all(jnp.isfinite(q) & jnp.isfinite(back))
    begin = _State(q, q, zero, none, none, v, q, ~no, count, count, count, skip | hopeless, no)
    end = lax.while_loop(lambda s: ~s.done, body, begin)
    # the last step is not evaluated
    x = space.external(jnp.where(end.found, end.trial, end.q))
    sign = jnp.where(minimum.space.lower_is_nearer(minimum.x), 1.0, -1.0)
    pushed = jnp.all(~minimum.active | which | (end.push * sign >= 0))  # they want to stay at their bounds
    return Descent(x, space.external(end.begin), end.found & pushed, end.steps)
