"""The solve inside a fit: a minimiser for the way, exact Hessians for the start, the end and the verdict.

The loop looks at the exact expansion of the objective at a point. Near a minimum it takes a Newton step (within the
bounds) and looks again, until the point is as good as the arithmetic allows; elsewhere it runs the minimiser from
there. The compiled program so holds one copy of the value and gradient (in the minimiser) and one of the Hessian
(here), whatever the minimiser.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._derivatives.expansion import Expansion
from .._derivatives.kinks import Around, mean_gradient, nearest
from .._parameters.space import Space
from .._solvers.metric import Metric
from .convergence import EDM_GOAL, Verdict, look_at, on_average, unseen
from .minimiser import Counts, Problem, Run, no_counts, run
from .status import Status

_MAX_FAILURES = 8  # runs of the minimiser that ended where no minimum is
_MAX_BARREN = 3  # of them in a row that brought nothing
_MAX_POLISHES = 10  # Newton steps, over all
_BOTTOMLESS = 1e15  # no likelihood is as large
_STABLE = 0.05  # relative change of the Hessian over the last Newton step that a regular minimum may have


class _Carry(NamedTuple):
    x: Float[Array, " n"]
    at: Expansion  # at the last point looked at
    verdict: Verdict
    done: Bool[Array, ""]
    shrunk: Bool[Array, ""]  # the objective is not finite on a bound: the bounds were moved inside by a hair
    polishing: Bool[Array, ""]  # the last move was a Newton step
    snapped: Bool[Array, ""]  # the last move was the last bit of the way to a kink
    stable: Bool[Array, ""]  # the Hessian kept its value over it
    gain: Scalar  # by how much the objective fell to the last point looked at
    barren: Int[Array, ""]  # how many runs of the minimiser in a row brought nothing
    first_pass: Bool[Array, ""]
    rescue: Bool[Array, ""]  # the minimiser got stuck: try the other way next time
    failures: Int[Array, ""]
    polishes: Int[Array, ""]
    counts: Counts


class Outcome(NamedTuple):
    """How a solve ended: the expansion is of the objective in units of 2 UP, at the last point looked at."""

    at: Expansion
    metric: Metric
    active: Bool[Array, " n"]
    positive_definite: Bool[Array, ""]
    edm: Scalar
    status: Int[Array, ""]
    weakest: Float[Array, " n"]
    counts: Counts
    kinks: Around | None = None  # at the point; `held` are the parameters that stay on a kink


def solve(inputs: tuple[Any, ...]) -> tuple[Float[Array, " n"], Outcome]:
    """The primal function of the implicit adjoint: the minimum, and how it was reached."""
    problem, while_loop = inputs
    x, space = problem.x, problem.space
    goal = jnp.asarray(EDM_GOAL, x.dtype)
    start_ok = jnp.all(jnp.isfinite(x)) & jnp.all((x >= space.lower) & (x <= space.upper))
    start_ok &= jnp.all(space.lower < space.upper)
    x = space.wrap(x)
    blank = Expansion(jnp.zeros((), x.dtype), jnp.zeros_like(x), jnp.eye(x.size, dtype=x.dtype))
    no, zero = jnp.array(False), jnp.array(0)
    carry = _Carry(
        x=jnp.where(start_ok, x, jnp.nan),
        at=blank,
        verdict=unseen(x, None if space.kinks is None else Around.unseen(x)),
        done=~start_ok,
        shrunk=no,
        polishing=no,
        snapped=no,
        stable=no,
        gain=jnp.zeros((), x.dtype),
        barren=zero,
        first_pass=jnp.array(True),
        rescue=no,
        failures=zero,
        polishes=zero,
        counts=no_counts(),
    )
    limit = problem.max_steps // problem.burst + 2 * _MAX_FAILURES + _MAX_POLISHES + 2
    limit = limit if space.kinks is None else 2 * limit
    carry = while_loop(lambda c: ~c.done, lambda c: _body(problem, goal, c), carry, max_steps=limit)
    return _finish(carry, goal, start_ok, problem)


def _body(problem: Problem, goal: Scalar, c: _Carry) -> _Carry:
    inside = problem.space.external(problem.space.internal(problem.x))  # of a start on a bound: a little off it
    space = problem.space
    room = space.shrink(inside)
    problem = problem._replace(space=room.where(c.shrunk, problem.space))
    at, verdict, seen = _look(problem, goal, c)
    gain = jnp.where(c.first_pass, 0.0, c.at.value - at.value)
    ran = ~c.polishing & ~c.first_pass & ~c.snapped
    barren = jnp.where(ran, jnp.where(gain > 1e-6 * goal, 0, c.barren + 1), c.barren)
    near = seen & verdict.positive_definite & (verdict.edm <= goal)
    stable = near & c.polishing & _same_hessian(c.verdict, at, verdict)
    stuck = c.polishing & (verdict.edm > 0.25 * c.verdict.edm)  # rounding noise: no better can be had
    finished = stable & ((verdict.edm <= _tiny(problem.x.dtype)) | stuck)
    # A Newton step that met another Hessian was too bold, unless the minimum is singular: go there with the minimiser.
    too_bold = near & c.polishing & ~stable & ~_elsewhere(c.verdict, verdict)
    polish = near & ~too_bold
    given_up = (
        (c.failures >= _MAX_FAILURES) | (barren >= _MAX_BARREN) | (c.polishes >= _MAX_POLISHES) | _at_limit(c, problem)
    )
    hopeless = seen & ~(jnp.isfinite(at.value) & jnp.all(jnp.isfinite(at.gradient)))
    # n log(mu) at mu = 0 has no derivative although 0 log(mu) is as smooth as can be beside it; and no density has a
    # width of 0, though that be the start
    shrink = hopeless & ~c.shrunk & problem.space.touches(c.x)
    hopeless &= ~shrink
    done = finished | hopeless | (given_up & (~polish | (c.polishes >= _MAX_POLISHES)))
    snapped, snap = _to_kinks(problem.space, goal, c.x, at, verdict)
    snap &= ran & ~polish & ~done & ~shrink
    start = ~polish & ~done & ~shrink & ~snap
    # The minimiser is asked for more each time it was content where no minimum is.
    inner_goal = jnp.where(too_bold, 1e-6 * verdict.edm, 0.1 * goal * 1e-3 ** c.failures.astype(goal.dtype))

    def stay() -> Run:
        no = jnp.array(False)
        x = jnp.where(polish, verdict.newton, c.x)
        x = jnp.where(snap, snapped, x)
        x = jnp.where(shrink, jnp.where(c.first_pass, inside, room.clip(x)), x)
        return Run(x, no_counts(), no, no)

    held = None if verdict.kinks is None else verdict.kinks.held
    moved = lax.cond(
        start, lambda: run(problem, c.x, at, verdict.metric, c.first_pass, c.rescue, inner_goal, held), stay
    )
    counts = {key: c.counts[key] + moved.counts[key] for key in c.counts}
    counts["num_hessians"] = counts["num_hessians"] + seen.astype(counts["num_hessians"].dtype)
    return _Carry(
        x=space.wrap(moved.x),
        at=at,
        verdict=verdict,
        done=done,
        shrunk=c.shrunk | shrink,
        polishing=polish,
        snapped=snap,
        stable=stable,
        gain=gain,
        barren=barren,
        first_pass=jnp.array(False),
        rescue=jnp.where(start, moved.stuck, c.rescue),
        failures=c.failures + (start & ~moved.unfinished).astype(c.failures.dtype),
        polishes=c.polishes + polish.astype(c.polishes.dtype),
        counts=counts,
    )


def _at_limit(c: _Carry, problem: Problem) -> Bool[Array, ""]:
    return c.counts["num_steps"] >= problem.max_steps


def _look(problem: Problem, goal: Scalar, c: _Carry) -> tuple[Expansion, Verdict, Bool[Array, ""]]:
    """The expansion at the point and the verdict; left out on the first pass if a covariance is at hand."""

    def look() -> tuple[Expansion, Verdict]:
        return look_at(problem.fn, c.x, problem.theta, problem.space, goal)

    if problem.covariance is None or problem.space.kinks is not None:
        return *look(), jnp.array(True)
    return *lax.cond(c.first_pass, lambda: (c.at, c.verdict), look), ~c.first_pass


def _to_kinks(
    space: Space, goal: Scalar, x: Float[Array, " n"], at: Expansion, verdict: Verdict
) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
    """The point with the parameters on their kinks that a minimiser left next to them, and whether there are any."""
    if verdict.kinks is None or space.kinks is None:
        return x, jnp.array(False)
    kink = nearest(x, space.kinks)
    distance = jnp.abs(x - kink)
    near = verdict.active & (distance > 0) & (distance * jnp.abs(at.gradient) <= goal)
    return jnp.where(near, kink, x), jnp.any(near)


def _elsewhere(before: Verdict, now: Verdict) -> Bool[Array, ""]:
    """Whether the last step came to a kink, left one, or crossed to another region: another Hessian is no surprise."""
    if before.kinks is None or now.kinks is None:
        return jnp.array(False)
    same = (before.kinks.lower == now.kinks.lower) & (before.kinks.upper == now.kinks.upper)
    return ~jnp.all(same & (before.kinks.reach == now.kinks.reach) & (before.kinks.held == now.kinks.held))


def _tiny(dtype: Any) -> float:
    """An EDM that is nothing: the point is within 1e-6 of an error (or what the precision allows) of the minimum."""
    return max(5e-13, 100 * float(jnp.finfo(dtype).eps) ** 2)


def _same_hessian(before: Verdict, at: Expansion, now: Verdict) -> Bool[Array, ""]:
    """Whether the Hessian kept its value over a Newton step of less than 0.02 errors.

    At a regular minimum it does. Where the Hessian is singular at the minimum itself (x^4, x^10) every Newton step
    changes it by the same large factor, however near the point is: this is how such a minimum is told.
    """
    free = ~now.active
    diagonal = jnp.diag(before.metric.scale**2)
    hessian = jnp.where(free[:, None] & free[None, :], at.hessian, diagonal)
    root = before.metric.root()
    change = root.T @ hessian @ root - jnp.eye(free.size, dtype=root.dtype)
    return jnp.all(now.active == before.active) & (jnp.max(jnp.abs(change)) < _STABLE)


def _finish(c: _Carry, goal: Scalar, start_ok: Bool[Array, ""], problem: Problem) -> tuple[Float[Array, " n"], Outcome]:
    verdict, at, space = c.verdict, c.at, problem.space
    # A bound that was moved inside by a hair: what lies between the two must be nothing, as the EDM beside it.
    hair = jnp.minimum(c.x - space.lower, space.upper - c.x)
    if verdict.kinks is not None:
        hair = jnp.where(verdict.kinks.held, 0.0, hair)
    left = jnp.sum(jnp.where(verdict.active, jnp.abs(at.gradient) * hair, 0.0))
    near = verdict.positive_definite & (verdict.edm <= goal) & (left <= goal)
    at_start = (c.counts["num_steps"] == 0) & (c.polishes == 0)
    # A minimiser that was content twice and found nothing more is not short of steps.
    at_limit = _at_limit(c, problem) & ((c.gain > goal) | (c.failures < 2))
    metric = verdict.metric
    lowest = metric.eigenvalues[0]
    flat = verdict.finite & ~verdict.positive_definite & (lowest >= -metric.floor)
    # the slope along the weakest direction, in scaled units
    along = metric.vectors[:, 0] @ (at.gradient / metric.scale)
    sloped = jnp.abs(along) > jnp.sqrt(2 * goal)
    falls = flat & sloped & (c.gain > 1)  # else it is a kink
    falls |= (at.value < -_BOTTOMLESS) & ~near
    status = jnp.array(int(Status.NOT_CONVERGED))
    for condition, value in (
        (~verdict.positive_definite & verdict.finite, Status.NOT_POSITIVE_DEFINITE),
        (flat & sloped, Status.NOT_CONVERGED),
        ((flat & ~sloped) | (near & ~c.stable), Status.FLAT_DIRECTION),
        (at_limit, Status.MAX_STEPS),
        (falls, Status.FALLS_WITHOUT_LIMIT),
        (~verdict.finite, Status.NOT_FINITE),
        (~verdict.finite & at_start, Status.NOT_FINITE_AT_START),
        (near & c.stable & ~at_limit, Status.VALID),
        (~start_ok, Status.OUTSIDE_BOUNDS),
    ):
        status = jnp.where(condition, int(value), status)
    weakest = jnp.where(status == int(Status.VALID), 0.0, metric.vectors[:, 0])
    # Away from a minimum the model's bounds say nothing about the parameters.
    active = verdict.active & near
    at, metric, active = on_average(at, verdict, active)
    usable = verdict.positive_definite & start_ok & (near | ~jnp.any(verdict.active))
    at = jax.tree.map(lambda a: jnp.where(start_ok, a, jnp.nan), at)
    outcome = Outcome(at, metric, active, usable, verdict.edm, status, weakest, c.counts, verdict.kinks)
    x = jnp.where(status == int(Status.NOT_FINITE_AT_START), problem.x, c.x)  # and not moved off a bound
    return x, jax.tree.map(lax.stop_gradient, outcome)


def stationarity(x: Float[Array, " n"], outcome: Outcome, inputs: tuple[Any, ...]) -> Float[Array, " n"]:
    """What is zero at the solution: the gradient of free parameters, the distance to its bound of an active one.

    Where there is no minimum to differentiate, the parameters do not move.
    """
    problem: Problem = inputs[0]
    space = problem.space
    kinks = outcome.kinks
    if kinks is None:
        gradient = jax.grad(problem.fn)(x, problem.theta)
    else:
        gradient = mean_gradient(problem.fn, x, problem.theta, kinks.reach)
    size = jnp.abs(jnp.diagonal(outcome.at.hessian))
    scale = lax.stop_gradient(jnp.where(jnp.isfinite(size) & (size > 0), jnp.sqrt(size), 1.0))
    at = lax.stop_gradient(x)
    bound = space.nearer_bound(at)
    active = outcome.active
    distance = x - jnp.where(active, bound, 0.0)
    residual = jnp.where(active, distance * scale, gradient / scale)
    if kinks is not None:
        residual = jnp.where(kinks.held, (x - at) * scale, residual)
    return jnp.where(outcome.positive_definite, residual, x * scale)
