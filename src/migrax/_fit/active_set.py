"""The minimum of a quadratic model within bounds, by the primal-dual active set method (M. Hintermüller, K. Ito and
K. Kunisch, SIAM J. Optim. 13 (2003) 865), which gives the active bounds, with gradients of the right sign (KKT)."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Scalar

from .._host import flow, xp
from .._parameters.space import Space
from .._solvers.metric import Metric, decompose

# A slope that changes the objective by less than this over a parameter's range counts as zero.
_NEGLIGIBLE_CHANGE = 1e-9


class ModelMinimum(NamedTuple):
    """The minimum of the quadratic model, with the `active` parameters at their bounds."""

    metric: Metric  # of the free parameters
    active: Bool[Array, " n"]
    step: Float[Array, " n"]


def free_metric(gradient: Array, hessian: Array, active: Array) -> Metric:
    """The decomposed Hessian of the free parameters, in which active ones are uncorrelated directions."""
    free = ~active
    size = xp.abs(xp.diagonal(hessian))
    block = xp.where(free[:, None] & free[None, :], hessian, xp.diag(xp.where(size > 0, size, 1.0)))
    return decompose(xp.where(xp.eye(free.size, dtype=bool) | (free[:, None] & free[None, :]), block, 0.0), gradient)


def minimum_with_active(gradient: Array, hessian: Array, active: Array, to_bound: Array) -> ModelMinimum:
    """The minimum over the free parameters with the active ones moved to their bounds."""
    metric = free_metric(gradient, hessian, active)
    step_to_bounds = xp.where(active, to_bound, 0.0)
    free_gradient = xp.where(active, 0.0, gradient + hessian @ step_to_bounds)
    root = metric.root()
    return ModelMinimum(metric, active, xp.where(active, step_to_bounds, -root @ (root.T @ free_gradient)))


def pushed_against(gradient: Array, curvature: Array, x: Array, space: Space, goal: Scalar) -> Bool[Array, " n"]:
    """Which parameters the slope holds at a bound: moving there gains less than the goal, and the curvature, that of
    each alone, does not stop it before."""
    if not space.has_bounds:
        return xp.zeros(x.shape, bool)
    room, push = xp.stack([x - space.lower, space.upper - x]), xp.stack([gradient, -gradient])
    held = (push > _weak_slope(x, space)[None]) & (push * room <= goal) & (curvature[None] * room < push)
    return xp.any(held & xp.isfinite(room), axis=0)


def _weak_slope(x: Array, space: Space) -> Array:
    span = space.upper - space.lower
    return _NEGLIGIBLE_CHANGE / xp.where(xp.isfinite(span), span, 1 + xp.abs(x))


def minimum_within_bounds(
    gradient: Array, hessian: Array, x: Array, space: Space, goal: Scalar, held: Array | None
) -> ModelMinimum:
    """The minimum of the model within the bounds; the parameters of `held` do not move."""
    diagonal = xp.diagonal(hessian)
    room = xp.stack([x - space.lower, space.upper - x])
    push = xp.stack([gradient, -gradient])
    # A bound is active only if the slope pushes the parameter against it: without a slope none is.
    weak = _weak_slope(x, space)
    # The initial guess: moving to the bound gains less than the goal, and the curvature does not stop it before.
    guess = (push > weak[None]) & (push * room <= goal) & (diagonal[None] * room < push) & xp.isfinite(room)
    guess = xp.set_at(guess, 1, guess[1] & ~guess[0])
    is_held = xp.zeros(x.shape, bool) if held is None else held
    guess = guess & (~is_held[None])
    sign = xp.array([[-1.0], [1.0]], x.dtype)

    def body(carry: tuple[Array, Array, ModelMinimum, Array]) -> tuple[Array, Array, ModelMinimum, Array]:
        _, sides, _, count = carry
        to_bound = xp.sum(xp.where(sides, sign * room, 0.0), axis=0)
        model = minimum_with_active(gradient, hessian, xp.any(sides, axis=0) | is_held, to_bound)
        slope = gradient + hessian @ model.step
        stays = -sign * slope[None] > weak[None]
        # Activate a bound only if the step exceeds it by more than a negligible slope would give: otherwise the bound
        # could alternate between active and inactive for ever.
        variance = xp.sum(model.metric.root() ** 2, axis=1)
        tolerance = xp.minimum(2 * weak * variance, 1e-3 * xp.sqrt(variance))
        leaves = (sign * model.step[None] > room + tolerance[None]) & model.metric.positive_definite
        return sides, xp.where(sides, stays, leaves) & ~is_held[None], model, count + 1

    blank = ModelMinimum(Metric.unit(x), xp.zeros(x.shape, bool), xp.zeros_like(x))
    carry = (~guess, guess, blank, xp.array(0))
    return flow.while_loop(lambda c: xp.any(c[0] != c[1]) & (c[3] < 10), body, carry)[2]
