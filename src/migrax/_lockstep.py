"""Many fits of one likelihood at once, all lanes in step: few evaluations, no Hessian on the way, nothing of the full
fit's caution. It says which lanes came to a minimum that they can vouch for; the others are for `mx.fit`.

Each lane runs MIGRAD from one start, in coordinates in which the expected covariance is one, so that a toy of the
generating point needs three or four gradients. Lanes that need more are moved together and go on as a smaller batch:
the rest does not wait for them. At the end one exact Hessian a lane gives the last Newton step, the errors, and the
verdict. What a lane does depends on nothing but its own data: its numbers are the same, to the last bit, whatever the
other lanes hold.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Bool, Float, PyTree, Scalar

from ._derivatives import Expansion, expand
from ._fit import result_of
from ._inner import Problem, no_counts, root_of_covariance
from ._jit import jit
from ._objective import Theta, objective
from ._result import FitResult
from ._solve import Outcome
from ._solvers import Migrad
from ._solvers.metric import Metric
from ._space import Space
from ._status import Status

# Evaluations of all lanes together, of those that are left, and the part of a batch that goes on as one.
_FIRST, _REST, _PART = 6, 60, 8
# EDM (in units in which an error is 1/2) where MIGRAD ends: with an exact Newton step to come, and without.
_GOAL, _LAST_GOAL = 1e-8, 2e-13
_ACCEPTED = 10.0  # times the goal: the exact EDM at that point
_FAMILIAR = 1e4  # ratio of the exact curvature to the expected one: beyond it is no toy of this model


class Lane(NamedTuple):
    """One fit on its way: the point and the inverse Hessian in whitened coordinates."""

    u: Float[Array, " n"]
    metric: Float[Array, "n n"]
    edm: Scalar
    done: Bool[Array, ""]  # MIGRAD is content
    lost: Bool[Array, ""]  # not finite where it began
    evaluations: Array


class _Setting(NamedTuple):
    """What all lanes share."""

    fn: Callable[[Float[Array, " n"], Theta], Scalar]
    theta: Theta  # with the data of one lane, whose place the others' take
    x: Float[Array, " n"]
    space: Space
    origin: Float[Array, " n"]
    root: Float[Array, "n n"]

    def external(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.space.external(self.origin + self.root @ u)

    def with_data(self, data: PyTree) -> Theta:
        return self.theta._replace(data=data)


@jit
def fit_lanes(
    nll: Callable, params: PyTree, toys: PyTree, covariance: Float[Array, "n n"], up: Scalar, hesse: bool
) -> tuple[FitResult, Bool[Array, " lanes"]]:
    """Fits each of the toys (the leading axis) from `params`, with an estimate of the covariance.

    **Returns:** the results, and which of them to trust. The others have the status that the search ended with.
    """
    setting = _setting(nll, params, jax.tree.map(lambda a: a[0], toys), covariance, up)
    goal = jnp.asarray(_GOAL if hesse else _LAST_GOAL, setting.x.dtype)
    goal = jnp.maximum(goal, 100 * jnp.finfo(goal.dtype).eps ** 2)
    blank = _blank(setting.x)
    n = jax.tree.leaves(toys)[0].shape[0]
    start = jax.tree.map(lambda a: jnp.broadcast_to(a, (n, *a.shape)), blank)
    lanes = jax.vmap(lambda lane, toy: _descend(setting, toy, lane, goal, _FIRST))(start, toys)
    lanes = _go_on(setting, toys, lanes, goal)

    def end(lane: Lane, toy: PyTree) -> tuple[FitResult, Bool[Array, ""]]:
        theta = setting.with_data(toy)
        how = _with_hessian(setting, theta, lane, goal) if hesse else _without_hessian(setting, theta, lane)
        return _report(setting, nll, theta, lane, how, hesse), how.good

    return jax.vmap(end)(lanes, toys)


def _setting(nll: Callable, params: PyTree, toy: PyTree, covariance: Array, up: Scalar) -> _Setting:
    fn, theta, x, space = objective(nll, params, toy, up)
    q = space.internal(x)
    root = root_of_covariance(covariance.astype(x.dtype), space.slopes(q)[0])
    return _Setting(fn, theta, x, space, q, root)


def _blank(x: Array) -> Lane:
    no = jnp.array(False)
    return Lane(jnp.zeros_like(x), jnp.eye(x.size, dtype=x.dtype), jnp.asarray(jnp.inf, x.dtype), no, no, jnp.array(0))


def _descend(setting: _Setting, toy: PyTree, lane: Lane, goal: Scalar, steps: int) -> Lane:
    """MIGRAD from where the lane is."""
    sol = optx.minimise(
        lambda u, theta: setting.fn(setting.external(u), theta),
        Migrad(),
        lane.u,
        setting.with_data(toy),
        {"metric": lane.metric, "goal": goal},
        max_steps=steps,
        throw=False,
    )
    return Lane(
        u=sol.value,
        metric=sol.stats["metric"],
        edm=sol.stats["edm"],
        done=sol.result == optx.RESULTS.successful,
        lost=sol.result == optx.RESULTS.nonfinite,
        evaluations=lane.evaluations + sol.stats["num_gradients"],
    )


def _go_on(setting: _Setting, toys: PyTree, lanes: Lane, goal: Scalar) -> Lane:
    """The lanes that are not done yet, a part of the batch at a time."""
    n = lanes.done.shape[0]
    part = min(n, max(n // _PART, 16))
    left = ~(lanes.done | lanes.lost)
    order = jnp.argsort(~left)  # those left first, in their order
    total = jnp.sum(left)

    def body(carry: tuple[Array, Lane]) -> tuple[Array, Lane]:
        first, lanes = carry
        places = first + jnp.arange(part)
        here = jnp.where(places < total, order[jnp.minimum(places, n - 1)], n)  # n: beyond the end
        pick = lambda a: a[jnp.minimum(here, n - 1)]  # noqa: E731
        moved = jax.vmap(lambda lane, toy: _descend(setting, toy, lane, goal, _REST))(
            jax.tree.map(pick, lanes), jax.tree.map(pick, toys)
        )
        return first + part, jax.tree.map(lambda a, new: a.at[here].set(new, mode="drop"), lanes, moved)

    return lax.while_loop(lambda carry: carry[0] < total, body, (jnp.array(0), lanes))[1]


class _End(NamedTuple):
    """How a lane ended."""

    x: Float[Array, " n"]
    at: Expansion
    active: Bool[Array, " n"]
    edm: Scalar
    covariance: Float[Array, "n n"]
    good: Bool[Array, ""]


def _with_hessian(setting: _Setting, theta: Theta, lane: Lane, goal: Scalar) -> _End:
    """A Newton step within the bounds by the exact Hessian, and whether this is the minimum."""
    x = setting.external(lane.u)
    at = expand(setting.fn, x, theta)
    newton = _newton(at, x, setting.space)
    # the exact curvature in units of the expected one
    slope = setting.space.slopes(setting.origin)[0]
    whitened = (setting.root.T * slope) @ at.hessian @ (slope[:, None] * setting.root)
    familiar = (jnp.trace(whitened) < _FAMILIAR * x.size) | setting.space.has_bounds
    good = lane.done & newton.good & (newton.edm <= _ACCEPTED * goal) & familiar
    return _End(x + newton.step, at, newton.active, newton.edm, newton.inverse, good)


def _without_hessian(setting: _Setting, theta: Theta, lane: Lane) -> _End:
    """As MIGRAD left it; its metric tells only which parameters are nearer to a bound than half an error."""
    x = setting.external(lane.u)
    slope = setting.space.slopes(setting.space.internal(x))[0]
    root = slope[:, None] * setting.root
    at = Expansion(setting.fn(x, theta), jnp.zeros_like(x), jnp.zeros_like(setting.root))
    covariance = root @ lane.metric @ root.T
    return _End(x, at, jnp.zeros(x.shape, bool), lane.edm, covariance, lane.done & jnp.isfinite(at.value))


class _Newton(NamedTuple):
    step: Float[Array, " n"]
    active: Bool[Array, " n"]
    edm: Scalar
    inverse: Float[Array, "n n"]  # of the Hessian; zero for parameters at a bound
    good: Bool[Array, ""]


def _newton(at: Expansion, x: Float[Array, " n"], space: Space) -> _Newton:
    """The Newton step, with the parameters that are pushed against a bound nearby on this bound; NaN nowhere.

    It is not `good` where the Hessian is not positive definite, the step leads outside of the bounds, or pulls a
    parameter off a bound: then the full fit's active set method must look.
    """
    finite = jnp.isfinite(at.value) & jnp.all(jnp.isfinite(at.gradient)) & jnp.all(jnp.isfinite(at.hessian))
    gradient = jnp.where(finite, at.gradient, 0.0)
    hessian = jnp.where(finite, at.hessian, jnp.eye(x.size, dtype=x.dtype))
    if not space.has_bounds:
        inverse, positive = _inverse(hessian)
        step, active = -inverse @ gradient, jnp.zeros(x.shape, bool)
        return _Newton(step, active, jnp.maximum(-0.5 * (gradient @ step), 0.0), inverse, positive & finite)
    room = jnp.stack([x - space.lower, space.upper - x])
    push = jnp.stack([gradient, -gradient])
    at_bound = (push > 0) & jnp.isfinite(room) & (jnp.diagonal(hessian)[None] * room < push)
    active, sign = jnp.any(at_bound, axis=0), jnp.array([[-1.0], [1.0]], x.dtype)
    to_bound = jnp.sum(jnp.where(at_bound, sign * room, 0.0), axis=0)
    held = active[:, None] | active[None, :]
    inverse, positive = _inverse(jnp.where(held, jnp.eye(x.size, dtype=x.dtype), hessian))
    inverse = jnp.where(held, 0.0, inverse)
    step = jnp.where(active, to_bound, -inverse @ (gradient + hessian @ to_bound))
    slope = gradient + hessian @ step
    stays = jnp.all(jnp.where(at_bound, -sign * slope[None] > 0, True))
    inside = jnp.all(active | ((x + step >= space.lower) & (x + step <= space.upper)))
    edm = -(gradient @ step + 0.5 * step @ hessian @ step)
    # on the bound itself, not beside it by rounding
    step = jnp.where(at_bound[0], space.lower - x, jnp.where(at_bound[1], space.upper - x, step))
    return _Newton(step, active, jnp.maximum(edm, 0.0), inverse, positive & finite & stays & inside)


def _inverse(hessian: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """By Cholesky's decomposition of the matrix scaled to a unit diagonal; and whether that is positive definite beyond
    rounding, else the inverse is some other."""
    diagonal = jnp.diagonal(hessian)
    scale = 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0))
    factor = jnp.linalg.cholesky(scale[:, None] * hessian * scale[None, :])
    pivots, unit = jnp.diagonal(factor), jnp.eye(scale.size, dtype=factor.dtype)
    good = jnp.all(diagonal > 0) & jnp.all(pivots**2 > 64 * pivots.size * jnp.finfo(pivots.dtype).eps)
    return scale[:, None] * cho_solve((jnp.where(good, factor, unit), True), unit) * scale[None, :], good


def _report(setting: _Setting, nll: Any, theta: Theta, lane: Lane, end: _End, hesse: bool) -> FitResult:
    counts = no_counts()
    kind = counts["num_steps"].dtype
    evaluations = lane.evaluations.astype(kind)
    counts |= {"num_steps": evaluations, "num_gradients": evaluations, "num_hessians": jnp.asarray(int(hesse), kind)}
    status = jnp.where(end.good, int(Status.VALID), int(Status.NOT_CONVERGED))
    unit = Metric.unit(end.x)
    outcome = Outcome(end.at, unit, end.active, end.good, end.edm, status, jnp.zeros_like(end.x), counts)
    fields = (setting.fn, None, theta, setting.x, setting.space, None, Migrad(), optx.ImplicitAdjoint(), _FIRST)
    x, outcome = lax.stop_gradient(end.x), jax.tree.map(lax.stop_gradient, outcome)
    return result_of(Problem(*fields), x, outcome, hesse, nll, end.covariance)
