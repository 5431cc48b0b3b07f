"""One run of a minimiser inside a fit: its coordinates, its start and its number of steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._derivatives.expansion import Expansion
from .._host import flow, xp
from .._host.plain import plain
from .._host.xp import is_on_host
from .._parameters.space import Space
from .._solvers import LevenbergMarquardt, Migrad, NewtonCG
from .._solvers.base import SUCCEEDED, UNFINISHED
from .._solvers.flat import Differentiated, WithJacobian
from .._solvers.metric import Metric, decompose
from .._util.typing import PyTree
from .coordinates import Affine, Internal, InternalResiduals

Counts = dict[str, Int[Array, ""]]

# The longest first step, in errors. Where the curvature vanishes by chance, a Newton step may be of any length.
_LONGEST = 1e3


def step_limit(n: int) -> int:
    """MINUIT's default limit on the steps for `n` parameters."""
    return 200 + 100 * n + 5 * n**2


def _products(n: int) -> int:
    """After how many products of the Hessian with vectors `NewtonCG` is restarted with a new Hessian, which costs about
    as much: far from the start its coordinates are no longer those in which the Hessian is the identity."""
    return 20 + n // 16


class Problem(NamedTuple):
    """The inputs of a solve. The objective is the NLL over 2 UP, so that its inverse Hessian is the covariance."""

    fn: Callable[[Float[Array, " n"], PyTree], Scalar] | Differentiated
    residuals: Callable[[Float[Array, " n"], PyTree], PyTree] | WithJacobian | None
    theta: PyTree
    x: Float[Array, " n"]
    space: Space
    covariance: Float[Array, "n n"] | None
    solver: Any
    adjoint: optx.AbstractAdjoint
    max_steps: int
    errors_of: tuple[int, ...] | None = None  # the parameters whose errors are wanted; `None` for all

    @property
    def burst(self) -> int:
        """The number of steps after which migrax's own quasi-Newton solvers are restarted with an exact Hessian, which
        costs about n gradients. Other solvers are not restarted."""
        if isinstance(self.solver, Migrad | LevenbergMarquardt):
            return min(self.max_steps, 50 + 10 * self.x.size)
        return self.max_steps


class Run(NamedTuple):
    """The outcome of one run of a minimiser."""

    x: Float[Array, " n"]
    counts: Counts
    unfinished: Bool[Array, ""]  # it reached its limit of steps
    stuck: Bool[Array, ""]  # it failed to decrease the objective although it is not at a minimum


def no_counts() -> Counts:
    zero = xp.array(0)
    return {"num_steps": zero, "num_values": zero, "num_gradients": zero, "num_hessians": zero}


def run(
    problem: Problem,
    x: Float[Array, " n"],
    at: Expansion,
    metric: Metric,
    first_pass: Bool[Array, ""],
    rescue: Bool[Array, ""],
    goal: Scalar,
    held: Bool[Array, " n"] | None = None,
) -> Run:
    """Runs the fit's minimiser from `x` in whitened internal coordinates, q = q0 + root u, which have no bounds and in
    which the Hessian at the start is the identity, so that any minimiser starts well scaled.

    **Arguments:**

    - `at`, `metric`: the expansion at `x` and the decomposition of its Hessian; ignored on the first pass of a fit that
        was given a covariance.
    - `rescue`: whether the last run got stuck; this one then starts in plain coordinates.
    - `goal`: the EDM to reach.
    - `held`: the parameters that do not move.
    """
    space, fn = problem.space, problem.fn
    q = space.internal(x)
    without_matrix = isinstance(problem.solver, NewtonCG)
    unit = xp.ones_like(q) if without_matrix else xp.eye(q.size, dtype=q.dtype)
    if isinstance(problem.solver, LevenbergMarquardt):  # it scales itself, by the largest norms so far
        origin, root, start = xp.zeros_like(q), unit, q
    else:
        origin = q
        root, start = _whiten(problem, q, at, metric, first_pass)
        root, unit = _or_plain_coordinates(rescue, root, unit, q, space.slopes(q)[0] * at.gradient)
    if held is not None:
        root = xp.where(held[:, None], 0.0, root)
    offset = flow.stop_gradient(xp.where(xp.isfinite(at.value), at.value, 0.0))

    def to_external(u: Array) -> Array:
        return space.external(origin + root @ u)

    options = {
        "metric": unit,
        "noise": 8 * xp.finfo(q.dtype).eps * xp.abs(offset),
        "goal": goal,
        "step": 1.0,
    }
    if without_matrix:
        options["products"] = float(_products(q.size))
    kwargs: dict[str, Any] = dict(max_steps=problem.burst, adjoint=problem.adjoint, throw=False)
    if is_on_host():
        found, counts, terminated, ending = _run_on_host(problem, offset, origin, root, start, options)
        moved = to_external(found)
        return Run(
            x=xp.where(xp.all(xp.isfinite(moved)), moved, x),
            counts=counts,
            unfinished=~terminated | (ending == UNFINISHED),
            stuck=terminated & (ending != SUCCEEDED) & (ending != UNFINISHED),
        )
    if isinstance(problem.solver, optx.AbstractLeastSquaresSolver):
        residuals = problem.residuals
        assert callable(residuals)
        sol = optx.least_squares(
            lambda u, t: residuals(to_external(u), t), problem.solver, start, problem.theta, {"goal": goal}, **kwargs
        )
    else:
        sol = optx.minimise(
            lambda u, t: fn(to_external(u), t) - offset, problem.solver, start, problem.theta, options, **kwargs
        )
    return _run_of(sol, problem.solver, to_external(sol.value), x)


def _run_on_host(
    problem: Problem, offset: Any, origin: Any, root: Any, start: Any, options: dict[str, Any]
) -> tuple[Any, Counts, Any, Any]:
    """The loop of Optimistix's `minimise` and `least_squares`: the point, the counts, whether the solver terminated,
    and how."""
    solver = plain(problem.solver)
    fn: Any
    if problem.residuals is not None:
        assert isinstance(problem.residuals, WithJacobian)
        fn = InternalResiduals(problem.residuals, problem.space, origin, root)
        options = {"goal": options["goal"]}
    else:
        assert isinstance(problem.fn, Differentiated)
        fn = Affine(Internal(problem.fn, problem.space, offset), origin, root)
    state = plain(solver.init(fn, start, None, options, None, None, frozenset()))

    def body(carry: tuple[Any, Any, int]) -> tuple[Any, Any, int]:
        y, state, steps = carry
        return *solver.step(fn, y, None, options, state, frozenset())[:2], steps + 1

    _, state, steps = flow.bounded_while_loop(
        lambda carry: not carry[1].terminate, body, (start, state, 0), max_steps=problem.burst
    )
    stats = {"num_steps": steps, **solver.stats(state)}
    counts: Any = {key: np.asarray(stats[key])[()] for key in no_counts()}
    return state.x, counts, state.terminate, state.ending


def _or_plain_coordinates(
    rescue: Bool[Array, ""], root: Array, unit: Array, q: Array, gradient: Array
) -> tuple[Array, Array]:
    """Root and unit metric; if `rescue`, those of coordinates in tenths of the values and a first step of length one.

    Where rounding makes a likelihood rough (steps or spikes), its derivatives give a useless metric, with steps too
    small to move the parameters.
    """
    size = xp.where(q != 0, 0.1 * xp.abs(q), 0.1)
    length = xp.sqrt(xp.sum((size * gradient) ** 2))
    scale = 1 / xp.where(xp.isfinite(length) & (length > 0), length, 1.0)
    return xp.where(rescue, xp.diag(size), root), xp.where(rescue, scale * unit, unit)


def _run_of(sol: optx.Solution, solver: Any, moved: Float[Array, " n"], x: Float[Array, " n"]) -> Run:
    steps = xp.asarray(sol.stats["num_steps"])
    values, gradients = (steps, 0) if isinstance(solver, optx.NelderMead) else (0, steps)
    counts = {
        "num_steps": steps,
        "num_values": xp.asarray(sol.stats.get("num_values", values)),
        "num_gradients": xp.asarray(sol.stats.get("num_gradients", gradients)),
        "num_hessians": xp.asarray(sol.stats.get("num_hessians", 0)),
    }
    zero = no_counts()
    return Run(
        x=xp.where(xp.all(xp.isfinite(moved)), moved, x),
        counts={key: value.astype(zero[key].dtype) for key, value in counts.items()},
        unfinished=sol.result == optx.RESULTS.nonlinear_max_steps_reached,
        stuck=(sol.result != optx.RESULTS.successful) & (sol.result != optx.RESULTS.nonlinear_max_steps_reached),
    )


def _whiten(
    problem: Problem, q: Float[Array, " n"], at: Expansion, metric: Metric, first_pass: Bool[Array, ""]
) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
    """A root of the metric in internal coordinates, and the start: at the point, or off a saddle."""
    slope, curvature = problem.space.slopes(q)
    gradient = slope * at.gradient
    if problem.space.has_bounds:
        hessian = slope[:, None] * at.hessian * slope[None, :] + xp.diag(curvature * at.gradient)
        metric = decompose(hessian, gradient)
    root = metric.shifted().root() if isinstance(problem.solver, NewtonCG) else metric.root()
    lengths = xp.abs(root.T @ gradient)
    root = root * xp.where(lengths > _LONGEST, _LONGEST / xp.where(lengths > 0, lengths, 1.0), 1.0)[None, :]
    if problem.space.has_bounds:
        root = _limit_root(root, metric, slope, at)
    # The whitened gradient is in errors. Where it is small and a curvature negative, start off the saddle.
    whitened_gradient = root.T @ gradient
    saddle = metric.finite & (metric.eigenvalues[0] < -metric.floor) & (xp.sum(whitened_gradient**2) < 0.01)
    start = xp.set_at(xp.zeros_like(q), 0, xp.where(saddle, xp.where(whitened_gradient[0] > 0, -0.3, 0.3), 0.0))
    if problem.covariance is None:
        return root, start
    root_at_start = root_of_covariance(problem.covariance, slope)
    return xp.where(first_pass, root_at_start, root), xp.where(first_pass, 0.0, start)


def _limit_root(root: Float[Array, "n n"], metric: Metric, slope: Float[Array, " n"], at: Expansion) -> Array:
    """The root with its rows limited in external coordinates, where the curvature is not that of a minimum.

    A parameter on which the likelihood does not depend while another is on its bound (the phase of a modulation whose
    amplitude is 0) has no curvature there, and the mixed derivative of the two is as small as the slope dx/dq of the
    other: one unit of the internal coordinates would be thousands of periods. In external coordinates the mixed
    derivative gives the distance after which the bound becomes inactive.
    """
    size = xp.sqrt(xp.abs(xp.diagonal(at.hessian)))
    has_curvature = size > 0
    inverse_sizes = xp.where(has_curvature, 1 / xp.where(has_curvature, size, 1.0), 0.0)
    steepness = xp.max(xp.abs(at.hessian) * inverse_sizes[None, :], axis=1)
    gradient_size = 1 + xp.max(xp.abs(at.gradient) * inverse_sizes)
    reach = 3 * gradient_size / xp.where(steepness > 0, steepness, 1.0)
    length = xp.abs(slope) * xp.sqrt(xp.sum(root**2, axis=1))
    is_too_long = ~metric.positive_definite & metric.finite & (steepness > 0) & (length > reach)
    return root * xp.where(is_too_long, reach / xp.where(length > 0, length, 1.0), 1.0)[:, None]


def root_of_covariance(covariance: Float[Array, "n n"], slope: Float[Array, " n"]) -> Float[Array, "n n"]:
    """A root of an external covariance in internal coordinates, with one unit for a parameter without a variance."""
    variance = xp.diagonal(covariance)
    known = xp.isfinite(variance) & (variance > 0) & (xp.abs(slope) > 1e-6)
    size = xp.sqrt(xp.where(known, variance, 1.0))
    pair = known[:, None] & known[None, :] & xp.isfinite(covariance)
    correlation = xp.where(pair, covariance / (size[:, None] * size[None, :]), xp.eye(slope.size, dtype=slope.dtype))
    values, vectors = xp.eigh(correlation)
    positive = xp.sqrt(xp.maximum(values, 1e-6))
    return (size / xp.where(known, xp.abs(slope), 1.0))[:, None] * vectors * positive[None, :]
