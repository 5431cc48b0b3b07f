"""Many fits of one likelihood at once, all lanes in step: few evaluations, no Hessian on the way, nothing of the full
fit's caution. It says which fits came to a minimum that they can vouch for; the others are for `mx.fit`.

A lane walks by MINUIT's variable-metric method (with BFGS's update, `lockstep_hessian.py`) from the start, in
coordinates in which the expected covariance is one, so that a toy of the generating point needs three or four
gradients. Each step of all lanes is one value and gradient each; a step that does not help is shortened. A lane whose
toy is done takes the next one of the batch, so that none waits for another. At the end one exact Hessian a toy gives
the last Newton step, the errors, and the verdict (`lockstep_finish.py`).

What happens to a toy depends on nothing but its own data.
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
from .._util.jit import jit
from .._util.typing import PyTree
from .lockstep_finish import End, Found, Setting, with_hessian, without_hessian
from .lockstep_hessian import Matrix, Pairs, identity

_MOST = 64  # evaluations of one toy: beyond them it is for the full fit
# EDM (in units in which an error is 1/2) where a lane ends; one more step is taken, without looking. With an exact
# Hessian to come, and without.
_GOAL, _LAST_GOAL = 1e-6, 2e-11
_SHORTER = 0.25  # what is left of a step that did not help
_LEVEL, _LESS = 1e-6, 0.8  # a value that is the same within rounding is progress with so much less of a gradient
_LIKELY = (1e-2, 1e2)  # ratio of the curvature met along a step to the expected one: else the EDM is not to be trusted


class Lane(NamedTuple):
    """One fit on its way, in whitened coordinates."""

    u: Float[Array, " n"]
    value: Scalar
    gradient: Float[Array, " n"]
    inverse: Matrix | Pairs  # of the Hessian, as far as it is known
    step: Float[Array, " n"]  # minus the inverse times the gradient
    part: Scalar  # of the step that is tried next
    edm: Scalar
    familiar: Bool[Array, ""]  # has met a curvature near the expected one
    strange: Bool[Array, ""]  # has met another
    lost: Bool[Array, ""]  # not finite where it began
    evaluations: Array


@jit
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

    `starts`: external, else all from `params`. `wanted`: those of the toys to look at, the first ones; what is returned
    for others is nothing. `lanes`: toys that are looked at together, of which the number of toys is a multiple.

    **Returns:** the results, and which of them to trust. The others have the status that the search ended with.
    """
    setting = _setting(nll, params, jax.tree.map(lambda a: a[0], toys), covariance, up)
    goal = jnp.asarray(_GOAL if hesse else _LAST_GOAL, setting.x.dtype)
    goal = jnp.maximum(goal, jnp.finfo(goal.dtype).eps)  # of float32: its gradients are no better
    n = wanted.shape[0]
    count = jnp.sum(wanted)
    begin = None if starts is None else jax.vmap(setting.whitened)(starts.astype(setting.x.dtype))
    found = _search(setting, toys, begin, count, n, lanes, goal, hesse)

    def end(found: Found, toy: PyTree) -> tuple[FitResult, Bool[Array, ""]]:
        theta = setting.theta._replace(data=toy)
        how: End = (with_hessian if hesse else without_hessian)(setting, theta, found, goal)
        return how.report(setting, theta, nll, found, hesse), how.good

    return in_parts(jax.vmap(end), (found, toys), count, n, lanes)


def _setting(nll: AbstractLikelihood, params: PyTree, toy: PyTree, covariance: Array, up: Scalar) -> Setting:
    fn, theta, x, space = objective(nll, params, toy, up)
    variance = jnp.diagonal(covariance.astype(x.dtype))
    known = jnp.isfinite(variance) & (variance > 0)
    errors = jnp.sqrt(jnp.where(known, variance, 1.0))
    # One error is the unit of a one-sided transform, and where the metric is made from the covariance is at least one
    # error inside: so it is about one for a toy that starts on a bound, too.
    space = space.with_unit(jnp.where(known, errors, space.unit))
    slope = space.slopes(space.internal(space.inside(x, errors)))[0]
    return Setting(fn, theta, x, space, space.internal(x), root_of_covariance(covariance.astype(x.dtype), slope), slope)


def _search(
    setting: Setting,
    toys: PyTree,
    begin: Float[Array, "toys n"] | None,
    count: Scalar,
    n: int,
    lanes: int,
    goal: Scalar,
    hesse: bool,
) -> Found:
    """The lanes take one toy after the other, each as soon as it is done with the last."""
    blank = _blank(setting.x)
    one = Found(blank.u, blank.value, blank.edm, blank.lost, blank.evaluations)
    found = jax.tree.map(lambda a: jnp.zeros((n, *a.shape), a.dtype), one)

    def fresh(places: Int[Array, " lanes"]) -> Lane:
        start = jax.tree.map(lambda a: jnp.broadcast_to(a, (lanes, *a.shape)), blank)
        return start if begin is None else start._replace(u=begin[jnp.minimum(places, n - 1)])

    def body(carry: tuple[Lane, Array, Array, Found]) -> tuple[Lane, Array, Array, Found]:
        now, places, following, found = carry
        here = jax.tree.map(lambda a: a[jnp.minimum(places, n - 1)], toys)
        now = jax.vmap(lambda lane, toy: _advance(setting, toy, lane))(now, here)
        done = (now.edm < goal) & (hesse | now.familiar) & ~now.strange
        spent = (now.evaluations >= _MOST) | jax.vmap(lambda lane: lane.inverse.full)(now)
        ended = done | now.lost | now.strange | spent
        told = Found(now.u + now.step, now.value, now.edm, done, now.evaluations)
        at = jnp.where(ended, places, n)  # n: beyond the end, nowhere
        found = jax.tree.map(lambda a, new: a.at[at].set(new, mode="drop"), found, told)
        after = following + jnp.cumsum(ended) - 1
        places = jnp.where(ended, jnp.where(after < count, after, n), places)
        now = jax.tree.map(lambda a, new: jnp.where(_along(ended, a), new, a), now, fresh(places))
        return now, places, following + jnp.sum(ended), found

    places = jnp.arange(lanes)
    places = jnp.where(places < count, places, n)
    carry = (fresh(places), places, jnp.asarray(lanes, places.dtype), found)
    return lax.while_loop(lambda carry: jnp.any(carry[1] < n), body, carry)[3]


def _blank(x: Float[Array, " n"]) -> Lane:
    zero, one, no = jnp.zeros_like(x), jnp.ones((), x.dtype), jnp.array(False)
    return Lane(zero, jnp.inf * one, zero, identity(x), zero, one, jnp.inf * one, no, no, no, jnp.array(0))


def _advance(setting: Setting, toy: PyTree, lane: Lane) -> Lane:
    """One evaluation: at the start, or a part of a step away from the last point."""
    theta = setting.theta._replace(data=toy)
    s = lane.part * lane.step
    u = lane.u + s
    value, gradient = jax.value_and_grad(lambda u: setting.fn(setting.external(u), theta))(u)
    first = lane.evaluations == 0
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    gradient = jnp.where(finite, gradient, 0.0)
    # all products with the matrix are this one and what is known already
    product = lane.inverse.product(gradient)
    before, now = -jnp.dot(lane.gradient, lane.step), jnp.dot(gradient, product)
    lower = value <= lane.value - 1e-4 * lane.part * before
    rounding = jnp.maximum(_LEVEL, 100 * jnp.finfo(value.dtype).eps * jnp.abs(value))
    level = (value <= lane.value + rounding) & (now < _LESS * before)
    accepted = finite & (first | lower | level)
    y, vy = gradient - lane.gradient, product + lane.step
    delta, yvy = jnp.dot(s, y), jnp.dot(y, vy)
    curved = accepted & ~first & (delta > 1e-8 * jnp.abs(yvy)) & (yvy > 0)
    over = jnp.where(curved, 1 / jnp.where(curved, delta, 1.0), 0.0)
    more = over * (1 + yvy * over)  # zero where there is nothing to learn
    along = jnp.dot(s, gradient)
    step = -(product - over * (jnp.dot(vy, gradient) * s + along * vy) + more * along * s)
    ratio = delta / jnp.where(before > 0, lane.part**2 * before, 1.0)
    likely = curved & (ratio > _LIKELY[0]) & (ratio < _LIKELY[1])
    stay = lane._replace(part=_SHORTER * lane.part)
    go = lane._replace(
        u=u,
        value=value,
        gradient=gradient,
        step=step,
        part=jnp.ones_like(lane.part),
        edm=-0.5 * jnp.dot(gradient, step),
        familiar=lane.familiar | likely,
        strange=lane.strange | (curved & ~likely),
    )
    new = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), go._replace(inverse=None), stay._replace(inverse=None))
    lost = lane.lost | (first & ~accepted)
    inverse = lane.inverse.updated(s, vy, over, more)
    return new._replace(inverse=inverse, lost=lost, evaluations=lane.evaluations + 1)


def _along(which: Bool[Array, " lanes"], a: Array) -> Bool[Array, "..."]:
    return which.reshape(which.shape + (1,) * (a.ndim - 1))


def in_parts(fn: Callable[..., Any], args: PyTree, count: Scalar, n: int, size: int) -> Any:
    """`fn` of all rows, `size` of them at a time: their numbers stay in the cache. Rows beyond `count` are zero."""
    some = lambda i: jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, i * size, size), args)  # noqa: E731
    out = jax.eval_shape(lambda: fn(*some(0)))
    out = jax.tree.map(lambda a: jnp.zeros((n, *a.shape[1:]), a.dtype), out)

    def body(i: Array, out: Any) -> Any:
        put = lambda a, new: lax.dynamic_update_slice_in_dim(a, new, i * size, 0)  # noqa: E731
        return jax.tree.map(put, out, fn(*some(i)))

    return lax.fori_loop(0, (count + size - 1) // size, body, out)
