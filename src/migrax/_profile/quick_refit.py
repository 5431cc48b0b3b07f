"""Conditional fits that start near the minimum of a fit: quasi-Newton steps with one gradient each, and no Hessian.

The covariance at the minimum, conditional on the held parameters, is the inverse Hessian of a quadratic likelihood, for
which one step is enough. It is updated by the BFGS formula. Fits that do not converge are left to the loop of a fit.

A predicted start may lie where the likelihood is not finite (on the tangent far from the minimum, an expected count may
be negative). It is then moved halfway back towards the nuisance parameters of the minimum, by the same evaluations.
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
_MAX_HALVINGS = 6  # of the distance to a start that is not finite; then the nuisance parameters of the minimum are used
_CUT = 0.3  # the factor by which a rejected step is shortened
_DECREASE = 1e-4  # sufficient decrease (Armijo)
_TOLERANCE = 1e-11  # of the EDM, in units of UP = 1/2, before a last step that is not evaluated


class Descent(NamedTuple):
    x: Float[Array, " n"]
    start: Float[Array, " n"]  # the first trial point at which the likelihood is finite
    converged: Bool[Array, ""]
    num_gradients: Int[Array, ""]


class _DescentState(NamedTuple):
    trial: Float[Array, " n"]  # the point evaluated next
    q: Float[Array, " n"]
    f: Scalar
    g: Float[Array, " n"]
    push: Float[Array, " n"]  # the gradient, including parameters that do not move
    v: Float[Array, "n n"]
    begin: Float[Array, " n"]  # the first finite point
    first: Bool[Array, ""]  # no finite point has been found yet
    halvings: Int[Array, ""]
    refused: Int[Array, ""]
    steps: Int[Array, ""]
    done: Bool[Array, ""]
    converged: Bool[Array, ""]


def descend(minimum: Minimum, hold: Hold, start: Float[Array, " n"], skip: Bool[Array, ""]) -> Descent:
    """The conditional minimum with the parameters of `hold` held, from `start` or, if the likelihood is not finite
    there, from between it and the minimum of the fit. Returns at once if `skip`."""
    which = hold.which
    moves = ~which & ~minimum.active
    space = minimum.space.without(~moves)
    nearest = jnp.where(which, hold.at, minimum.x)
    x = jnp.where(moves & jnp.isfinite(start), start, nearest)
    q, fallback = space.internal(x), space.internal(nearest)
    slopes = space.slopes(space.internal(jnp.where(moves, minimum.x, x)))[0]
    v = conditional(minimum.covariance, hold.rows) / (slopes[:, None] * slopes[None, :])
    v = jnp.where(moves[:, None] & moves[None, :] & jnp.isfinite(v), v, 0.0)
    aside = off_symmetry(v)
    q, fallback = q + aside, fallback + aside
    noise = minimum.noise

    def flat(q: Array) -> tuple[Scalar, None]:
        return minimum.fn(space.external(q), minimum.theta) - minimum.value, None

    def body(s: _DescentState) -> _DescentState:
        f, g, _ = value_and_grad(flat, s.trial, "bwd")
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g))
        push = jnp.where(finite, g, 0.0)
        g = jnp.where(moves, push, 0.0)
        first = s.first
        unstarted = first & ~finite
        halved = jnp.where(s.halvings < _MAX_HALVINGS, fallback + 0.5 * (s.trial - fallback), fallback)
        v = jnp.where(first | ~finite, s.v, bfgs(s.v, s.trial - s.q, g - s.g))
        slope = s.g @ (s.trial - s.q)
        decreases = f <= s.f + _DECREASE * slope
        # Within the rounding noise of the values the slopes decide.
        is_flat = (f <= s.f + 2 * noise) & (jnp.abs(g @ (s.trial - s.q)) <= 0.9 * jnp.abs(slope))
        accepted = finite & (first | decreases | is_flat)
        q, f = jnp.where(accepted, s.trial, s.q), jnp.where(accepted, f, s.f)
        g, push = jnp.where(accepted, g, s.g), jnp.where(accepted, push, s.push)
        step = -v @ g
        converged = accepted & (-0.5 * (g @ step) <= jnp.maximum(_TOLERANCE, noise))
        refused = jnp.where(accepted | unstarted, 0, s.refused + 1)
        steps = s.steps + 1
        return _DescentState(
            trial=jnp.where(unstarted, halved, q + jnp.where(accepted, step, _CUT * (s.trial - s.q))),
            q=q,
            f=f,
            g=g,
            push=push,
            v=v,
            begin=jnp.where(first & finite, s.trial, s.begin),
            first=unstarted,
            halvings=s.halvings + unstarted,
            refused=refused,
            steps=steps,
            done=converged
            | (refused > _MAX_REFUSED)
            | (steps >= _MAX_STEPS)
            | (unstarted & jnp.all(s.trial == fallback)),
            converged=converged,
        )

    zero, zeros, false, count = jnp.zeros((), x.dtype), jnp.zeros_like(q), jnp.array(False), jnp.array(0)
    cannot_start = ~minimum.valid | ~jnp.all(jnp.isfinite(q) & jnp.isfinite(fallback))
    initial = _DescentState(q, q, zero, zeros, zeros, v, q, ~false, count, count, count, skip | cannot_start, false)
    end = lax.while_loop(lambda s: ~s.done, body, initial)
    # The last step is not evaluated.
    x = space.external(jnp.where(end.converged, end.trial, end.q))
    sign = jnp.where(minimum.space.lower_is_nearer(minimum.x), 1.0, -1.0)
    stay_at_bounds = jnp.all(~minimum.active | which | (end.push * sign >= 0))  # the slopes keep them at their bounds
    return Descent(x, space.external(end.begin), end.converged & stay_at_bounds, end.steps)
