"""Many fits of one likelihood at once, all lanes in step: few evaluations, no intermediate Hessian and none of the
safeguards of the full fit. Reports which fits reached a trusted minimum; the others are left to `mx.fit`.

Each lane runs MINUIT's variable-metric method (with the BFGS update, `lockstep_hessian.py`) from the start, in
coordinates in which the expected covariance is the identity, so that a toy drawn at the start needs three or four
gradients. Every step evaluates one value and gradient in each lane; a step without progress is shortened. A lane whose
toy is done takes the next toy of the batch, so that no lane idles. At the end one exact Hessian per toy gives the last
Newton step, the errors and the verdict (`lockstep_finish.py`).

The result for a toy depends only on its own data.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._fit.minimiser import root_of_covariance
from .._fit.objective import objective
from .._fit.result import FitResult
from .._likelihoods.base import AbstractLikelihood
from .._util.jit import jit_long
from .._util.packing import pack
from .._util.typing import PyTree
from .lockstep_finish import FinishedToy, LockstepSetting, SearchEnd, with_hessian, without_hessian
from .lockstep_hessian import Matrix, Pairs, identity, max_pairs

_MAX_EVALUATIONS = 64  # evaluations per toy, after which it is left to the full fit, or as many as steps can be stored
# EDM (in units in which one error is 1/2) at which a lane stops; one more step is taken without an evaluation. The
# first goal holds if an exact Hessian follows, the second if none does.
_GOAL, _LAST_GOAL = 1e-6, 2e-11
_SHORTENING = 0.25  # factor by which a step without progress is shortened
# A value that is equal within this rounding counts as progress if g'Vg falls by this factor.
_ROUNDING, _GRADIENT_DECREASE = 1e-6, 0.8
# Curvature along a step over the expected one; outside of this range the EDM is not trusted.
_LIKELY_CURVATURE = (1e-2, 1e2)


class Lane(NamedTuple):
    """The state of one fit, in whitened coordinates."""

    u: Float[Array, " n"]
    value: Scalar
    gradient: Float[Array, " n"]
    inverse: Matrix | Pairs  # approximate inverse Hessian
    step: Float[Array, " n"]  # minus the inverse Hessian times the gradient
    fraction: Scalar  # fraction of the step that is tried next
    edm: Scalar
    met_likely: Bool[Array, ""]  # a curvature near the expected one was met
    met_unlikely: Bool[Array, ""]  # a curvature far from the expected one was met
    failed_at_start: Bool[Array, ""]  # not finite at the start
    evaluations: Array


@jit_long
def fit_lanes(
    nll: AbstractLikelihood,
    params: PyTree,
    toys: PyTree,
    starts: Float[Array, "toys n"] | None,
    wanted: Bool[Array, " toys"],
    covariance: Float[Array, "n n"],
    up: Scalar,
    hesse: bool,
    lanes: int,
) -> tuple[FitResult, Bool[Array, " toys"]]:
    """Fits each of the toys (the leading axis) from `params`, with an estimate of the covariance.

    `starts`: the start of each toy in external coordinates; default `params`. `wanted`: marks the toys to fit, which
    come first; the results of the others are zero. `lanes`: the number of toys fitted together; it divides the number
    of toys.

    **Returns:** the results, and which of them to trust. The others keep the status with which the search ended.
    """
    setting = _setting(nll, params, jax.tree.map(lambda a: a[0], toys), covariance, up)
    toys = jax.vmap(pack)(toys)
    goal = jnp.asarray(_GOAL if hesse else _LAST_GOAL, setting.x.dtype)
    goal = jnp.maximum(goal, jnp.finfo(goal.dtype).eps)  # the gradients of float32 are no better
    n = wanted.shape[0]
    count = jnp.sum(wanted)
    whitened_starts = None if starts is None else jax.vmap(setting.whitened)(starts.astype(setting.x.dtype))
    ends = _search(setting, toys, whitened_starts, count, n, lanes, goal, hesse)

    def finish(ends: SearchEnd, toy: PyTree) -> tuple[FitResult, Bool[Array, ""]]:
        theta = setting.theta._replace(data=toy)
        finished: FinishedToy = (with_hessian if hesse else without_hessian)(setting, theta, ends, goal)
        return finished.report(setting, theta, nll, ends, hesse), finished.good

    return in_parts(jax.vmap(finish), (ends, toys), count, n, lanes)


def _setting(nll: AbstractLikelihood, params: PyTree, toy: PyTree, covariance: Array, up: Scalar) -> LockstepSetting:
    fn, theta, x, space = objective(nll, params, toy, up)
    variance = jnp.diagonal(covariance.astype(x.dtype))
    is_known = jnp.isfinite(variance) & (variance > 0)
    errors = jnp.sqrt(jnp.where(is_known, variance, 1.0))
    # One error is the unit of a one-sided transform, and the point at which the covariance is turned into the metric
    # lies at least one error inside, so that curvatures are about one for a toy that starts on a bound, too.
    space = space.with_unit(jnp.where(is_known, errors, space.unit))
    slope = space.slopes(space.internal(space.inside(x, errors)))[0]
    return LockstepSetting(
        fn, theta, x, space, space.internal(x), root_of_covariance(covariance.astype(x.dtype), slope), slope
    )


def _search(
    setting: LockstepSetting,
    toys: PyTree,
    starts: Float[Array, "toys n"] | None,
    n_wanted: Scalar,
    n_toys: int,
    n_lanes: int,
    goal: Scalar,
    hesse: bool,
) -> SearchEnd:
    """Runs the lanes over the queue of toys; each lane takes the next toy as soon as its last one is done."""
    blank = _blank(setting.x)
    empty = SearchEnd(blank.u, blank.value, blank.edm, blank.failed_at_start, blank.evaluations)
    ends = jax.tree.map(lambda a: jnp.zeros((n_toys, *a.shape), a.dtype), empty)

    def fresh(places: Int[Array, " lanes"]) -> Lane:
        start = jax.tree.map(lambda a: jnp.broadcast_to(a, (n_lanes, *a.shape)), blank)
        return start if starts is None else start._replace(u=starts[jnp.minimum(places, n_toys - 1)])

    def body(carry: tuple[Lane, Array, Array, SearchEnd]) -> tuple[Lane, Array, Array, SearchEnd]:
        lanes_now, places, next_toy, ends = carry
        lane_toys = jax.tree.map(lambda a: a[jnp.minimum(places, n_toys - 1)], toys)
        lanes_now = jax.vmap(lambda lane, toy: _advance(setting, toy, lane))(lanes_now, lane_toys)
        converged = (lanes_now.edm < goal) & (hesse | lanes_now.met_likely) & ~lanes_now.met_unlikely
        most = max(_MAX_EVALUATIONS, max_pairs(setting.x.size))
        exhausted = (lanes_now.evaluations >= most) | jax.vmap(lambda lane: lane.inverse.full)(lanes_now)
        ended = converged | lanes_now.failed_at_start | lanes_now.met_unlikely | exhausted
        now_ends = SearchEnd(
            lanes_now.u + lanes_now.step, lanes_now.value, lanes_now.edm, converged, lanes_now.evaluations
        )
        targets = jnp.where(ended, places, n_toys)  # n is out of range and is dropped
        ends = jax.tree.map(lambda a, new: a.at[targets].set(new, mode="drop"), ends, now_ends)
        successors = next_toy + jnp.cumsum(ended) - 1
        places = jnp.where(ended, jnp.where(successors < n_wanted, successors, n_toys), places)
        lanes_now = jax.tree.map(lambda a, new: jnp.where(_broadcast(ended, a), new, a), lanes_now, fresh(places))
        return lanes_now, places, next_toy + jnp.sum(ended), ends

    places = jnp.arange(n_lanes)
    places = jnp.where(places < n_wanted, places, n_toys)
    carry = (fresh(places), places, jnp.asarray(n_lanes, places.dtype), ends)
    return lax.while_loop(lambda carry: jnp.any(carry[1] < n_toys), body, carry)[3]


def _blank(x: Float[Array, " n"]) -> Lane:
    zero, one, no = jnp.zeros_like(x), jnp.ones((), x.dtype), jnp.array(False)
    return Lane(zero, jnp.inf * one, zero, identity(x), zero, one, jnp.inf * one, no, no, no, jnp.array(0))


def _advance(setting: LockstepSetting, toy: PyTree, lane: Lane) -> Lane:
    """Evaluates the start or the point a fraction of a step away, and accepts it or shortens the step."""
    theta = setting.theta._replace(data=toy)
    s = lane.fraction * lane.step
    u = lane.u + s
    value, gradient = jax.value_and_grad(lambda u: setting.fn(setting.external(u), theta))(u)
    at_start = lane.evaluations == 0
    is_finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    gradient = jnp.where(is_finite, gradient, 0.0)
    # the only product with the matrix; the others follow from it and from known ones
    product = lane.inverse.product(gradient)
    gvg_before, gvg_now = -jnp.dot(lane.gradient, lane.step), jnp.dot(gradient, product)
    is_lower = value <= lane.value - 1e-4 * lane.fraction * gvg_before
    rounding = jnp.maximum(_ROUNDING, 100 * jnp.finfo(value.dtype).eps * jnp.abs(value))
    is_level = (value <= lane.value + rounding) & (gvg_now < _GRADIENT_DECREASE * gvg_before)
    accepted = is_finite & (at_start | is_lower | is_level)
    y, vy = gradient - lane.gradient, product + lane.step
    sy, yvy = jnp.dot(s, y), jnp.dot(y, vy)
    is_curved = accepted & ~at_start & (sy > 1e-8 * jnp.abs(yvy)) & (yvy > 0)
    inverse_sy = jnp.where(is_curved, 1 / jnp.where(is_curved, sy, 1.0), 0.0)
    ss_weight = inverse_sy * (1 + yvy * inverse_sy)  # zero for no update
    sg = jnp.dot(s, gradient)
    step = -(product - inverse_sy * (jnp.dot(vy, gradient) * s + sg * vy) + ss_weight * sg * s)
    ratio = sy / jnp.where(gvg_before > 0, lane.fraction**2 * gvg_before, 1.0)
    is_likely = is_curved & (ratio > _LIKELY_CURVATURE[0]) & (ratio < _LIKELY_CURVATURE[1])
    rejected = lane._replace(fraction=_SHORTENING * lane.fraction)
    moved = lane._replace(
        u=u,
        value=value,
        gradient=gradient,
        step=step,
        fraction=jnp.ones_like(lane.fraction),
        edm=-0.5 * jnp.dot(gradient, step),
        met_likely=lane.met_likely | is_likely,
        met_unlikely=lane.met_unlikely | (is_curved & ~is_likely),
    )
    new = jax.tree.map(
        lambda a, b: jnp.where(accepted, a, b), moved._replace(inverse=None), rejected._replace(inverse=None)
    )
    failed_at_start = lane.failed_at_start | (at_start & ~accepted)
    inverse = lane.inverse.updated(s, vy, inverse_sy, ss_weight)
    return new._replace(inverse=inverse, failed_at_start=failed_at_start, evaluations=lane.evaluations + 1)


def _broadcast(which: Bool[Array, " lanes"], a: Array) -> Bool[Array, "..."]:
    return which.reshape(which.shape + (1,) * (a.ndim - 1))


def in_parts(fn: Callable[..., Any], args: PyTree, count: Scalar, n: int, size: int) -> Any:
    """Applies `fn` to all rows, `size` at a time so that they stay in the cache. Rows beyond `count` are zero."""
    rows = lambda i: jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, i * size, size), args)  # noqa: E731
    results = jax.eval_shape(lambda: fn(*rows(0)))
    results = jax.tree.map(lambda a: jnp.zeros((n, *a.shape[1:]), a.dtype), results)

    def body(i: Array, results: Any) -> Any:
        insert = lambda a, new: lax.dynamic_update_slice_in_dim(a, new, i * size, 0)  # noqa: E731
        return jax.tree.map(insert, results, fn(*rows(i)))

    return lax.fori_loop(0, (count + size - 1) // size, body, results)
