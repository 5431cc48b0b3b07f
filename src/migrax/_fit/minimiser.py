"""Running a minimiser inside a fit: in which coordinates, from where, for how long."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._derivatives.expansion import Expansion
from .._parameters.space import Space
from .._solvers import LevenbergMarquardt, Migrad
from .._solvers.metric import Metric, decompose
from .._util.typing import PyTree

Counts = dict[str, Int[Array, ""]]

# A first step may promise to be so many errors long. Where the curvature vanishes by chance it would be any length.
_FARTHEST = 1e3


class Problem(NamedTuple):
    """What a solve is given. The objective is the NLL over 2 UP: its inverse Hessian is the covariance."""

    fn: Callable[[Float[Array, " n"], PyTree], Scalar]
    residuals: Callable[[Float[Array, " n"], PyTree], PyTree] | None
    theta: PyTree
    x: Float[Array, " n"]
    space: Space
    covariance: Float[Array, "n n"] | None
    solver: Any
    adjoint: optx.AbstractAdjoint
    max_steps: int

    @property
    def burst(self) -> int:
        """Steps after which our own quasi-Newton solvers get a fresh exact Hessian, which costs about n gradients.
        Other solvers are left alone."""
        if isinstance(self.solver, Migrad | LevenbergMarquardt):
            return min(self.max_steps, 50 + 10 * self.x.size)
        return self.max_steps


class Run(NamedTuple):
    """How one run of a minimiser ended."""

    x: Float[Array, " n"]
    counts: Counts
    unfinished: Bool[Array, ""]  # it was stopped for its number of steps
    stuck: Bool[Array, ""]  # it found no way down although it is not at a minimum


def no_counts() -> Counts:
    zero = jnp.array(0)
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
    """Runs the fit's minimiser from `x` in whitened internal coordinates, q = q0 + root u: the start's Hessian is one
    and the bounds are gone, so that any minimiser starts well scaled.

    **Arguments:**

    - `at`, `metric`: the expansion at `x` and its Hessian's decomposition; ignored on the first pass of a fit that
        was given a covariance.
    - `rescue`: the last run got stuck: start in plain coordinates.
    - `goal`: the EDM to reach.
    - `held`: the parameters that stay where they are.
    """
    space, fn = problem.space, problem.fn
    q = space.internal(x)
    unit = jnp.eye(q.size, dtype=q.dtype)
    if isinstance(problem.solver, LevenbergMarquardt):  # it has a scaling of its own, that remembers
        origin, root, start = jnp.zeros_like(q), unit, q
    else:
        origin = q
        root, start = _whiten(problem, q, at, metric, first_pass)
        root, unit = _or_plain(rescue, root, unit, q, space.slopes(q)[0] * at.gradient)
    if held is not None:
        root = jnp.where(held[:, None], 0.0, root)
    offset = lax.stop_gradient(jnp.where(jnp.isfinite(at.value), at.value, 0.0))

    def to_external(u: Array) -> Array:
        return space.external(origin + root @ u)

    options = {
        "metric": unit,
        "noise": 8 * jnp.finfo(q.dtype).eps * jnp.abs(offset),
        "goal": goal,
        "step": 1.0,
    }
    kwargs: dict[str, Any] = dict(max_steps=problem.burst, adjoint=problem.adjoint, throw=False)
    if isinstance(problem.solver, optx.AbstractLeastSquaresSolver):
        residuals = problem.residuals
        assert residuals is not None
        sol = optx.least_squares(
            lambda u, t: residuals(to_external(u), t), problem.solver, start, problem.theta, {"goal": goal}, **kwargs
        )
    else:
        sol = optx.minimise(
            lambda u, t: fn(to_external(u), t) - offset, problem.solver, start, problem.theta, options, **kwargs
        )
    return _report(sol, problem.solver, to_external(sol.value), x)


def _or_plain(rescue: Bool[Array, ""], root: Array, unit: Array, q: Array, gradient: Array) -> tuple[Array, Array]:
    """Where asked: coordinates in tenths of the values in place of the metric's, and a first step of length one.

    A gradient that is nonsense in places (a likelihood with steps or spikes from rounding) makes a metric that is
    nonsense, with steps too small to move anything.
    """
    size = jnp.where(q != 0, 0.1 * jnp.abs(q), 0.1)
    length = jnp.sqrt(jnp.sum((size * gradient) ** 2))
    scale = 1 / jnp.where(jnp.isfinite(length) & (length > 0), length, 1.0)
    return jnp.where(rescue, jnp.diag(size), root), jnp.where(rescue, scale * unit, unit)


def _report(sol: optx.Solution, solver: Any, moved: Float[Array, " n"], x: Float[Array, " n"]) -> Run:
    steps = jnp.asarray(sol.stats["num_steps"])
    values, gradients = (steps, 0) if isinstance(solver, optx.NelderMead) else (0, steps)
    counts = {
        "num_steps": steps,
        "num_values": jnp.asarray(sol.stats.get("num_values", values)),
        "num_gradients": jnp.asarray(sol.stats.get("num_gradients", gradients)),
        "num_hessians": jnp.asarray(sol.stats.get("num_hessians", 0)),
    }
    zero = no_counts()
    return Run(
        x=jnp.where(jnp.all(jnp.isfinite(moved)), moved, x),
        counts={key: value.astype(zero[key].dtype) for key, value in counts.items()},
        unfinished=sol.result == optx.RESULTS.nonlinear_max_steps_reached,
        stuck=(sol.result != optx.RESULTS.successful) & (sol.result != optx.RESULTS.nonlinear_max_steps_reached),
    )


def _whiten(
    problem: Problem, q: Float[Array, " n"], at: Expansion, metric: Metric, first_pass: Bool[Array, ""]
) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
    """A root of the metric in internal coordinates, and where to start: at the point, or off a saddle."""
    first, second = problem.space.slopes(q)
    gradient = first * at.gradient
    if problem.space.has_bounds:
        hessian = first[:, None] * at.hessian * first[None, :] + jnp.diag(second * at.gradient)
        metric = decompose(hessian, gradient)
    root = metric.root()
    far = jnp.abs(root.T @ gradient)
    root = root * jnp.where(far > _FARTHEST, _FARTHEST / jnp.where(far > 0, far, 1.0), 1.0)[None, :]
    if problem.space.has_bounds:
        root = _within_reach(root, metric, first, at)
    # In whitened coordinates the gradient is in errors. Where it is small and the curvature negative, go that way.
    downhill = root.T @ gradient
    saddle = metric.finite & (metric.eigenvalues[0] < -metric.floor) & (jnp.sum(downhill**2) < 0.01)
    start = jnp.zeros_like(q).at[0].set(jnp.where(saddle, jnp.where(downhill[0] > 0, -0.3, 0.3), 0.0))
    if problem.covariance is None:
        return root, start
    given = root_of_covariance(problem.covariance, first)
    return jnp.where(first_pass, given, root), jnp.where(first_pass, 0.0, start)


def _within_reach(root: Float[Array, "n n"], metric: Metric, first: Float[Array, " n"], at: Expansion) -> Array:
    """A root whose rows are no longer than the user's units allow, if the curvature is not that of a minimum.

    A parameter of which the likelihood knows nothing because another one is on its bound (the phase of a modulation
    whose amplitude is 0) has no curvature of its own there, and what mixes the two is as small as the other's slope
    dx/dq: one unit of the internal coordinates would be thousands of periods. In external coordinates the mixed
    derivative tells after which way the bound lets go.
    """
    size = jnp.sqrt(jnp.abs(jnp.diagonal(at.hessian)))
    known = size > 0
    of_others = jnp.where(known, 1 / jnp.where(known, size, 1.0), 0.0)
    steepness = jnp.max(jnp.abs(at.hessian) * of_others[None, :], axis=1)
    held = 1 + jnp.max(jnp.abs(at.gradient) * of_others)
    reach = 3 * held / jnp.where(steepness > 0, steepness, 1.0)
    length = jnp.abs(first) * jnp.sqrt(jnp.sum(root**2, axis=1))
    bad = ~metric.positive_definite & metric.finite & (steepness > 0) & (length > reach)
    return root * jnp.where(bad, reach / jnp.where(length > 0, length, 1.0), 1.0)[:, None]


def root_of_covariance(covariance: Float[Array, "n n"], slope: Float[Array, " n"]) -> Float[Array, "n n"]:
    """A root of an external covariance in internal coordinates; a parameter without a variance gets one unit."""
    variance = jnp.diagonal(covariance)
    known = jnp.isfinite(variance) & (variance > 0) & (jnp.abs(slope) > 1e-6)
    size = jnp.sqrt(jnp.where(known, variance, 1.0))
    pair = known[:, None] & known[None, :] & jnp.isfinite(covariance)
    correlation = jnp.where(pair, covariance / (size[:, None] * size[None, :]), jnp.eye(slope.size, dtype=slope.dtype))
    values, vectors = jnp.linalg.eigh(correlation)
    positive = jnp.sqrt(jnp.maximum(values, 1e-6))
    return (size / jnp.where(known, jnp.abs(slope), 1.0))[:, None] * vectors * positive[None, :]
