"""The loop of a fit: runs of a minimiser, with exact Hessians for the start, the end and the verdict.

Each iteration expands the objective exactly at a point. Near a minimum it takes a Newton step (within the bounds),
until the point is as good as the arithmetic allows; elsewhere it runs the minimiser from there. The compiled program
thus contains one copy of the value and gradient (in the minimiser) and one of the Hessian (here), for any minimiser.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._derivatives.expansion import Expansion
from .._derivatives.kinks import Around, mean_gradient, nearest
from .._host import flow, xp
from .._host.xp import is_on_host
from .._parameters.space import Space
from .._solvers import NewtonCG
from .._solvers.flat import MANY
from .._solvers.lanczos import spectrum
from .._solvers.metric import Metric
from .along import CHANGE, Look, look_again, look_along
from .convergence import EDM_GOAL, Verdict, look_at, on_average, unseen
from .minimiser import Counts, Problem, Run, no_counts, run
from .status import Status

_MAX_FAILURES = 8  # runs of the minimiser that did not end at a minimum
_MAX_BARREN = 3  # consecutive runs without progress
_MAX_POLISHES = 10  # Newton steps in all
_BOTTOMLESS = 1e15  # an objective below minus this has no minimum
_CLOSER = 1e-6  # the EDM at which the last Hessian is taken, of the goal, where the gradient confirms it
_STABLE = 0.05  # the largest relative change of the Hessian over the last Newton step to a regular minimum


class _Carry(NamedTuple):
    x: Float[Array, " n"]
    at: Expansion  # at the last point expanded
    verdict: Verdict
    done: Bool[Array, ""]
    shrunk: Bool[Array, ""]  # the objective is not finite on a bound: the bounds were moved slightly inside
    polishing: Bool[Array, ""]  # the last move was a Newton step
    snapped: Bool[Array, ""]  # the last move was onto a kink close by
    stable: Bool[Array, ""]  # the Hessian did not change over the last Newton step
    gain: Scalar  # the decrease of the objective up to the last point expanded
    barren: Int[Array, ""]  # the number of consecutive runs of the minimiser without progress
    first_pass: Bool[Array, ""]
    rescue: Bool[Array, ""]  # the minimiser got stuck: use plain coordinates in the next run
    converged: Bool[Array, ""]  # the minimiser ended where it finds a minimum
    looked: Float[Array, " n"]  # the last point expanded
    failures: Int[Array, ""]
    polishes: Int[Array, ""]
    counts: Counts


class Outcome(NamedTuple):
    """The outcome of a solve. The expansion is that of the objective in units of 2 UP, at the last point expanded."""

    at: Expansion
    metric: Metric
    active: Bool[Array, " n"]
    positive_definite: Bool[Array, ""]
    edm: Scalar
    status: Int[Array, ""]
    weakest: Float[Array, " n"]
    counts: Counts
    kinks: Around | None = None  # around the point; `held` are the parameters that stay on a kink


def solve(inputs: tuple[Any, ...]) -> tuple[Float[Array, " n"], Outcome]:
    """The primal function of the implicit adjoint: the minimum, and the outcome of the search."""
    problem, while_loop = inputs
    x, space = problem.x, problem.space
    goal = xp.asarray(EDM_GOAL, x.dtype)
    start_ok = xp.all(xp.isfinite(x)) & xp.all((x >= space.lower) & (x <= space.upper))
    start_ok = start_ok & (xp.all(space.lower < space.upper))
    x = space.wrap(x)
    blank = Expansion(xp.zeros((), x.dtype), xp.zeros_like(x), xp.eye(x.size, dtype=x.dtype))
    false, zero = xp.array(False), xp.array(0)
    carry = _Carry(
        x=xp.where(start_ok, x, xp.nan),
        at=blank,
        verdict=unseen(x, None if space.kinks is None else Around.unseen(x)),
        done=~start_ok,
        shrunk=false,
        polishing=false,
        snapped=false,
        stable=false,
        gain=xp.zeros((), x.dtype),
        barren=zero,
        first_pass=xp.array(True),
        rescue=false,
        converged=false,
        looked=x,
        failures=zero,
        polishes=zero,
        counts=no_counts(),
    )
    limit = problem.max_steps // problem.burst + 2 * _MAX_FAILURES + _MAX_POLISHES + 2
    limit = limit if space.kinks is None else 2 * limit
    carry = while_loop(lambda c: ~c.done, lambda c: _body(problem, goal, c), carry, max_steps=limit)
    return _finish(carry, goal, start_ok, problem)


def _body(problem: Problem, goal: Scalar, c: _Carry) -> _Carry:
    inside = problem.space.external(problem.space.internal(problem.x))  # slightly inside, for a start on a bound
    space = problem.space
    shrunk_space = space.shrink(inside)
    problem = problem._replace(space=shrunk_space.where(c.shrunk, problem.space))
    at, verdict, is_new, is_confirmation = _expand_at(problem, goal, c)
    gain = xp.where(c.first_pass, 0.0, c.at.value - at.value)
    minimiser_ran = ~c.polishing & ~c.first_pass & ~c.snapped
    barren = xp.where(minimiser_ran, xp.where(gain > 1e-6 * goal, 0, c.barren + 1), c.barren)
    near = is_new & verdict.positive_definite & (verdict.edm <= goal)
    is_settled = near & c.polishing

    same = lambda: is_confirmation | _same_hessian(c.verdict, at, verdict)  # noqa: E731
    stable = flow.cond(is_settled, same, lambda: xp.array(False))
    stuck = c.polishing & (verdict.edm > 0.25 * c.verdict.edm)  # rounding noise prevents further improvement
    finished = stable & ((verdict.edm <= _negligible_edm(problem.x.dtype)) | stuck)
    # A Newton step to a point with another Hessian was too long, unless the minimum is singular: run the minimiser.
    too_bold = near & c.polishing & ~stable & ~_region_changed(c.verdict, verdict)
    polish = near & ~too_bold
    given_up = (
        (c.failures >= _MAX_FAILURES)
        | (barren >= _MAX_BARREN)
        | (c.polishes >= _MAX_POLISHES)
        | _out_of_steps(c, problem)
    )
    is_not_finite = is_new & ~(xp.isfinite(at.value) & xp.all(xp.isfinite(at.gradient)))
    # n log(mu) has no derivative at mu = 0, although for n = 0 it is smooth beside it; and no density has a width of 0,
    # even if that is the start.
    shrink = is_not_finite & ~c.shrunk & problem.space.touches(c.x)
    is_not_finite = is_not_finite & (~shrink)
    done = finished | is_not_finite | (given_up & (~polish | (c.polishes >= _MAX_POLISHES)))
    snapped, to_kink = _moved_to_kinks(problem.space, goal, c.x, at, verdict)
    to_kink = to_kink & (minimiser_ran & ~polish & ~done & ~shrink)
    run_minimiser = ~polish & ~done & ~shrink & ~to_kink
    # The goal is tightened each time the minimiser converged where there is no minimum.
    closer = _CLOSER if confirms_by_gradient(problem) and c.x.dtype == xp.float64 else 0.1
    inner_goal = xp.where(too_bold, 1e-6 * verdict.edm, closer * goal * 1e-3 ** c.failures.astype(goal.dtype))

    def stay() -> Run:
        false = xp.array(False)
        x = xp.where(polish, verdict.newton, c.x)
        x = xp.where(to_kink, snapped, x)
        x = xp.where(shrink, xp.where(c.first_pass, inside, shrunk_space.clip(x)), x)
        return Run(x, no_counts(), false, false)

    held = None if verdict.kinks is None else verdict.kinks.held
    move = flow.cond(
        run_minimiser, lambda: run(problem, c.x, at, verdict.metric, c.first_pass, c.rescue, inner_goal, held), stay
    )
    counts = {key: c.counts[key] + move.counts[key] for key in c.counts}
    for key, happened in (("num_hessians", is_new & ~is_confirmation), ("num_gradients", is_confirmation)):
        counts[key] = counts[key] + happened.astype(counts[key].dtype)
    return _Carry(
        x=space.wrap(move.x),
        at=at,
        verdict=verdict,
        done=done,
        shrunk=c.shrunk | shrink,
        polishing=polish,
        snapped=to_kink,
        stable=stable,
        gain=gain,
        barren=barren,
        first_pass=xp.array(False),
        rescue=xp.where(run_minimiser, move.stuck, c.rescue),
        converged=run_minimiser & ~move.stuck & ~move.unfinished,
        looked=c.x,
        failures=c.failures + (run_minimiser & ~move.unfinished).astype(c.failures.dtype),
        polishes=c.polishes + polish.astype(c.polishes.dtype),
        counts=counts,
    )


def _out_of_steps(c: _Carry, problem: Problem) -> Bool[Array, ""]:
    return c.counts["num_steps"] >= problem.max_steps


def _expand_at(
    problem: Problem, goal: Scalar, c: _Carry
) -> tuple[Expansion, Verdict, Bool[Array, ""], Bool[Array, ""]]:
    """The expansion at the point, its verdict, whether they are new, and whether they are without a new Hessian: none
    are computed on the first pass of a fit that was given a covariance."""

    def look() -> tuple[Expansion, Verdict]:
        return look_at(problem.fn, c.x, problem.theta, problem.space, goal)

    without = xp.array(False)
    look_or_confirm = look
    if confirms_by_gradient(problem):
        seen, without = _confirmation(problem, goal, c)
        look_or_confirm = lambda: flow.cond(without, lambda: (seen.at, seen.verdict), look)  # noqa: E731
    if problem.covariance is None or problem.space.kinks is not None:
        return *look_or_confirm(), xp.array(True), without
    return *flow.cond(c.first_pass, lambda: (c.at, c.verdict), look_or_confirm), ~c.first_pass, without


def _confirmation(problem: Problem, goal: Scalar, c: _Carry) -> tuple[Look, Bool[Array, ""]]:
    """What products of the Hessian show of the point, and whether that is enough: behind a Newton step, that the
    Hessian has not changed; and, with the errors of some parameters alone, where a run has ended."""
    fn, theta, space = problem.fn, problem.theta, problem.space
    nothing = Look(c.at, c.verdict, xp.full((), xp.inf, c.x.dtype))
    known = c.verdict.positive_definite  # the earlier Hessian is one of a minimum, too
    if problem.errors_of is None:
        asked = known & c.polishing & (c.verdict.edm <= _near_enough(c.x.dtype))
        seen = flow.cond(asked, lambda: look_again(fn, c.x, theta, space, c.at, c.verdict), lambda: nothing)
        return seen, asked & (seen.change <= _unchanged(c.x.dtype))
    asked = known & (c.polishing | c.converged)
    seen = flow.cond(
        asked, lambda: look_along(fn, c.x, theta, space, goal, c.at, c.verdict, c.looked, c.polishing), lambda: nothing
    )
    # Where a run has ended, the change is that of a long way; behind a Newton step there is none at a regular minimum.
    return seen, asked & ((seen.change <= _STABLE) | (c.converged & (c.failures <= 1)))


def _near_enough(dtype: Any) -> float:
    """The EDM at which the Hessian is likely to be that of the minimum, within `_unchanged`."""
    return 1e-9 if dtype == xp.float64 else EDM_GOAL


def _unchanged(dtype: Any) -> float:
    """The relative change of a Hessian that is left out of the errors."""
    return 2e-5 if dtype == xp.float64 else 2e-3


def confirms_by_gradient(problem: Problem) -> bool:
    """Whether the last Newton step is confirmed by the gradient behind it alone, without another Hessian: for many
    parameters, where a Hessian costs as much as all else. The Hessian before it is then taken nearer to the minimum."""
    return isinstance(problem.solver, NewtonCG) and problem.space.kinks is None


def _moved_to_kinks(
    space: Space, goal: Scalar, x: Float[Array, " n"], at: Expansion, verdict: Verdict
) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
    """The point with parameters that the minimiser left next to a kink moved onto it, and whether there are any."""
    if verdict.kinks is None or space.kinks is None:
        return x, xp.array(False)
    kink = nearest(x, space.kinks)
    distance = xp.abs(x - kink)
    near = verdict.active & (distance > 0) & (distance * xp.abs(at.gradient) <= goal)
    return xp.where(near, kink, x), xp.any(near)


def _region_changed(before: Verdict, now: Verdict) -> Bool[Array, ""]:
    """Whether the last step reached or left a kink, or entered another region, where a new Hessian is expected."""
    if before.kinks is None or now.kinks is None:
        return xp.array(False)
    same = (before.kinks.lower == now.kinks.lower) & (before.kinks.upper == now.kinks.upper)
    return ~xp.all(same & (before.kinks.reach == now.kinks.reach) & (before.kinks.held == now.kinks.held))


def _negligible_edm(dtype: Any) -> float:
    """The EDM of a point within 1e-6 of an error (or what the precision allows) of the minimum."""
    return max(5e-13, 100 * float(xp.finfo(dtype).eps) ** 2)


def _same_hessian(before: Verdict, at: Expansion, now: Verdict) -> Bool[Array, ""]:
    """Whether the Hessian is unchanged after a Newton step of less than 0.02 errors.

    At a regular minimum it is. Where the Hessian is singular at the minimum itself (x^4, x^10), every Newton step
    changes it by the same large factor, however near the point is; this identifies such a minimum.
    """
    free = ~now.active
    diagonal = xp.diag(before.metric.scale**2)
    hessian = xp.where(free[:, None] & free[None, :], at.hessian, diagonal)
    root = before.metric.root()
    same_bounds = xp.all(now.active == before.active)
    if is_on_host() and free.size >= MANY:  # a few products in place of those of matrices
        norm = spectrum(lambda v: root.T @ (hessian @ (root @ v)) - v, at.gradient, CHANGE).norm
        return same_bounds & (norm < _STABLE)
    change = root.T @ hessian @ root - xp.eye(free.size, dtype=root.dtype)
    return same_bounds & (xp.max(xp.abs(change)) < _STABLE)


def _weakest(c: _Carry, at: Expansion, metric: Metric, near: Bool[Array, ""]) -> Float[Array, " n"]:
    """The direction that is to blame for a fit that is not valid, in scaled units."""
    if metric.eigenvalues.size < MANY or not is_on_host():
        return metric.vectors[:, 0]
    # Of a metric by Cholesky the columns are no eigenvectors. Where the Hessian changes over a short Newton step, the
    # step is along what changes.
    step = (c.verdict.newton - c.x) * metric.scale
    if near and np.any(step != 0):
        return step / np.sqrt(step @ step)
    scale = metric.scale
    return xp.eigh(at.hessian / scale[:, None] / scale[None, :])[1][:, 0] if c.verdict.finite else metric.vectors[:, 0]


def _finish(c: _Carry, goal: Scalar, start_ok: Bool[Array, ""], problem: Problem) -> tuple[Float[Array, " n"], Outcome]:
    verdict, at, space = c.verdict, c.at, problem.space
    # Where a bound was moved slightly inside, the gain between the two must be negligible, as the EDM must be.
    gap = xp.minimum(c.x - space.lower, space.upper - c.x)
    if verdict.kinks is not None:
        gap = xp.where(verdict.kinks.held, 0.0, gap)
    gain_in_gap = xp.sum(xp.where(verdict.active, xp.abs(at.gradient) * gap, 0.0))
    near = verdict.positive_definite & (verdict.edm <= goal) & (gain_in_gap <= goal)
    at_start = (c.counts["num_steps"] == 0) & (c.polishes == 0)
    # A minimiser that converged twice without further gain does not lack steps.
    out_of_steps = _out_of_steps(c, problem) & ((c.gain > goal) | (c.failures < 2))
    metric = verdict.metric
    lowest = metric.eigenvalues[0]
    flat = verdict.finite & ~verdict.positive_definite & (lowest >= -metric.floor)
    # The slope along the weakest direction, in scaled units.
    along = metric.vectors[:, 0] @ (at.gradient / metric.scale)
    sloped = xp.abs(along) > xp.sqrt(2 * goal)
    falls = flat & sloped & (c.gain > 1)  # otherwise it is a kink
    falls = falls | ((at.value < -_BOTTOMLESS) & ~near)
    status = xp.array(int(Status.NOT_CONVERGED))
    for condition, value in (
        (~verdict.positive_definite & verdict.finite, Status.NOT_POSITIVE_DEFINITE),
        (flat & sloped, Status.NOT_CONVERGED),
        ((flat & ~sloped) | (near & ~c.stable), Status.FLAT_DIRECTION),
        (out_of_steps, Status.MAX_STEPS),
        (falls, Status.FALLS_WITHOUT_LIMIT),
        (~verdict.finite, Status.NOT_FINITE),
        (~verdict.finite & at_start, Status.NOT_FINITE_AT_START),
        (near & c.stable & ~out_of_steps, Status.VALID),
        (~start_ok, Status.OUTSIDE_BOUNDS),
    ):
        status = xp.where(condition, int(value), status)
    is_valid = status == int(Status.VALID)
    if is_on_host() and is_valid:
        weakest = xp.zeros_like(c.x)
    else:
        weakest = xp.where(is_valid, 0.0, _weakest(c, at, metric, near))
    # Away from a minimum the active set of the model does not apply to the point.
    active = verdict.active & near
    at, metric, active = on_average(at, verdict, active)
    usable = verdict.positive_definite & start_ok & (near | ~xp.any(verdict.active))
    at = jax.tree.map(lambda a: xp.where(start_ok, a, xp.nan), at)
    outcome = Outcome(at, metric, active, usable, verdict.edm, status, weakest, c.counts, verdict.kinks)
    x = xp.where(status == int(Status.NOT_FINITE_AT_START), problem.x, c.x)  # as given, not moved off a bound
    return x, jax.tree.map(flow.stop_gradient, outcome)


def stationarity(x: Float[Array, " n"], outcome: Outcome, inputs: tuple[Any, ...]) -> Float[Array, " n"]:
    """The residual that is zero at the solution: the gradient of a free parameter, the distance of an active one to its
    bound.

    Where there is no minimum to differentiate, the derivative of the parameters is zero.
    """
    problem: Problem = inputs[0]
    space = problem.space
    kinks = outcome.kinks
    if kinks is None:
        gradient = jax.grad(problem.fn)(x, problem.theta)
    else:
        gradient = mean_gradient(problem.fn, x, problem.theta, kinks.reach)
    size = xp.abs(xp.diagonal(outcome.at.hessian))
    scale = flow.stop_gradient(xp.where(xp.isfinite(size) & (size > 0), xp.sqrt(size), 1.0))
    at = flow.stop_gradient(x)
    bound = space.nearer_bound(at)
    active = outcome.active
    distance = x - xp.where(active, bound, 0.0)
    residual = xp.where(active, distance * scale, gradient / scale)
    if kinks is not None:
        residual = xp.where(kinks.held, (x - at) * scale, residual)
    return xp.where(outcome.positive_definite, residual, x * scale)
