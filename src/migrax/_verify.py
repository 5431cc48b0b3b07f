"""Is this point a minimum? The answer behind `valid`, from an exact expansion to second order in external coordinates.

The test is on the quadratic model within the bounds: its minimum is found by the primal-dual active set method
(M. Hintermüller, K. Ito and K. Kunisch, SIAM J. Optim. 13 (2003) 865), which tells which bounds are active with
gradients of the right sign (KKT), how far below the point the minimum lies (the EDM), and where (a Newton step).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Scalar

from ._derivatives import Expansion
from ._solvers.metric import Metric, decompose
from ._space import Space


class Verdict(NamedTuple):
    """What the quadratic model within the bounds says about a point. Everything is per fit."""

    newton: Float[Array, " n"]  # the minimum of the model, within the bounds
    active: Bool[Array, " n"]  # the parameters that it has at a bound
    edm: Scalar  # how far below the point it lies, in units of the objective; NaN if it has no minimum
    positive_definite: Bool[Array, ""]  # over the parameters that are not at a bound
    finite: Bool[Array, ""]
    metric: Metric  # of the free subspace


def inspect(at: Expansion, x: Float[Array, " n"], space: Space, goal: Scalar) -> Verdict:
    """Looks at the expansion `at` of the objective at `x`."""
    finite = jnp.isfinite(at.value) & jnp.all(jnp.isfinite(at.gradient)) & jnp.all(jnp.isfinite(at.hessian))
    finite &= jnp.all(jnp.isfinite(x))
    gradient = jnp.where(finite, at.gradient, 0.0)
    hessian = jnp.where(finite, at.hessian, jnp.eye(x.size, dtype=x.dtype))
    if space.has_bounds:
        active, target = _active_set(gradient, hessian, x, space, goal)
    else:
        active, target = jnp.zeros(x.shape, bool), x
    metric = _free_metric(gradient, hessian, active)
    step = _model_step(metric, gradient, hessian, active, target - x)
    edm = -(gradient @ step + 0.5 * step @ hessian @ step)
    newton = jnp.where(active, target, x + step)
    if space.has_bounds:
        newton = jnp.clip(newton, space.lower, space.upper)
    positive_definite = metric.positive_definite & finite
    edm = jnp.where(positive_definite, jnp.maximum(edm, 0.0), jnp.nan)
    return Verdict(newton, active, edm, positive_definite, finite, metric)


def _free_metric(gradient: Array, hessian: Array, active: Array) -> Metric:
    free = ~active
    size = jnp.abs(jnp.diagonal(hessian))
    diagonal = jnp.diag(jnp.where(size > 0, size, 1.0))
    return decompose(jnp.where(free[:, None] & free[None, :], hessian, jnp.where(active[:, None], diagonal, 0)), gradient)


def _model_step(metric: Metric, gradient: Array, hessian: Array, active: Array, to_bound: Array) -> Array:
    """The step to the minimum of the model when the active parameters go to their bounds."""
    fixed = jnp.where(active, to_bound, 0.0)
    rest = jnp.where(active, 0.0, gradient + hessian @ fixed)
    root = metric.root()
    return jnp.where(active, fixed, -root @ (root.T @ rest))


def _active_set(
    gradient: Array, hessian: Array, x: Array, space: Space, goal: Scalar
) -> tuple[Bool[Array, " n"], Float[Array, " n"]]:
    """Which parameters the model's minimum has at a bound, and there which bound."""
    # The first guess: going to the bound gains less than the goal, and the curvature does not stop it before.
    diagonal = jnp.diagonal(hessian)

    def guess(distance: Array, push: Array) -> Array:
        return (push >= 0) & (push * distance <= goal) & (diagonal * distance <= push)

    at_lower = guess(x - space.lower, gradient) & jnp.isfinite(space.lower)
    at_upper = guess(space.upper - x, -gradient) & jnp.isfinite(space.upper) & ~at_lower

    def body(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        at_lower, at_upper, _, count = carry
        active = at_lower | at_upper
        target = jnp.where(at_lower, space.lower, jnp.where(at_upper, space.upper, x))
        step = _model_step(_free_metric(gradient, hessian, active), gradient, hessian, active, target - x)
        slope = gradient + hessian @ step
        new_lower = jnp.where(at_lower, slope >= 0, x + step < space.lower)
        new_upper = jnp.where(at_upper, slope <= 0, x + step > space.upper)
        changed = jnp.any(new_lower != at_lower) | jnp.any(new_upper != at_upper)
        return new_lower, new_upper, changed, count + 1

    carry = (at_lower, at_upper, jnp.array(True), jnp.array(0))
    at_lower, at_upper, _, _ = lax.while_loop(lambda c: c[2] & (c[3] < 10), body, carry)
    target = jnp.where(at_lower, space.lower, jnp.where(at_upper, space.upper, x))
    return at_lower | at_upper, target
