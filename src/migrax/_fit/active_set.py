"""The minimum of a quadratic model within bounds, by the primal-dual active set method (M. Hintermüller, K. Ito and
K. Kunisch, SIAM J. Optim. 13 (2003) 865): which bounds are active, with gradients of the right sign (KKT)."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Scalar

from .._parameters.space import Space
from .._solvers.metric import Metric, decompose

# A slope that changes the objective by less than this over a parameter's range is none.
_NO_PUSH = 1e-9


class ModelMinimum(NamedTuple):
    """The minimum of the quadratic model with some parameters at their bounds."""

    metric: Metric
    active: Bool[Array, " n"]
    step: Float[Array, " n"]


def free_metric(gradient: Array, hessian: Array, active: Array) -> Metric:
    """The Hessian of the parameters that are not at a bound, decomposed; the others stand beside it."""
    free = ~active
    size = jnp.abs(jnp.diagonal(hessian))
    block = jnp.where(free[:, None] & free[None, :], hessian, jnp.diag(jnp.where(size > 0, size, 1.0)))
    return decompose(jnp.where(jnp.eye(free.size, dtype=bool) | (free[:, None] & free[None, :]), block, 0.0), gradient)


def minimum_with_active(gradient: Array, hessian: Array, active: Array, to_bound: Array) -> ModelMinimum:
    """Moves the active parameters to their bounds and minimises over the others."""
    metric = free_metric(gradient, hessian, active)
    fixed = jnp.where(active, to_bound, 0.0)
    rest = jnp.where(active, 0.0, gradient + hessian @ fixed)
    root = metric.root()
    return ModelMinimum(metric, active, jnp.where(active, fixed, -root @ (root.T @ rest)))


def minimum_within_bounds(
    gradient: Array, hessian: Array, x: Array, space: Space, goal: Scalar, held: Array | None
) -> ModelMinimum:
    """Finds which parameters the model's minimum has at a bound."""
    diagonal = jnp.diagonal(hessian)
    room = jnp.stack([x - space.lower, space.upper - x])
    push = jnp.stack([gradient, -gradient])
    # A bound holds a parameter only if something pushes it there: a flat one lies at no bound.
    span = space.upper - space.lower
    weak = _NO_PUSH / jnp.where(jnp.isfinite(span), span, 1 + jnp.abs(x))
    # The first guess: going to the bound gains less than the goal, and the curvature does not stop it before.
    guess = (push > weak[None]) & (push * room <= goal) & (diagonal[None] * room < push) & jnp.isfinite(room)
    guess = guess.at[1].set(guess[1] & ~guess[0])
    still = jnp.zeros(x.shape, bool) if held is None else held
    guess &= ~still[None]
    sign = jnp.array([[-1.0], [1.0]], x.dtype)

    def body(carry: tuple[Array, Array, ModelMinimum, Array]) -> tuple[Array, Array, ModelMinimum, Array]:
        _, sides, _, count = carry
        to_bound = jnp.sum(jnp.where(sides, sign * room, 0.0), axis=0)
        model = minimum_with_active(gradient, hessian, jnp.any(sides, axis=0) | still, to_bound)
        slope = gradient + hessian @ model.step
        stays = -sign * slope[None] > weak[None]
        # further than where the bound's push would be too weak: else it would be held and let go for ever
        variance = jnp.sum(model.metric.root() ** 2, axis=1)
        hair = jnp.minimum(2 * weak * variance, 1e-3 * jnp.sqrt(variance))
        leaves = (sign * model.step[None] > room + hair[None]) & model.metric.positive_definite
        return sides, jnp.where(sides, stays, leaves) & ~still[None], model, count + 1

    unset = ModelMinimum(Metric.unit(x), jnp.zeros(x.shape, bool), jnp.zeros_like(x))
    carry = (~guess, guess, unset, jnp.array(0))
    return lax.while_loop(lambda c: jnp.any(c[0] != c[1]) & (c[3] < 10), body, carry)[2]
