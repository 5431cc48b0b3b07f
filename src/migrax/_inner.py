"""Running a minimiser inside a fit: in which coordinates, from where, for how long."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from ._derivatives import Expansion
from ._solvers import LevenbergMarquardt, Migrad, Simplex
from ._solvers.metric import decompose
from ._space import Space

Counts = dict[str, Int[Array, ""]]


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
        """Steps after which the minimiser gets a fresh exact Hessian, which costs about n gradients itself."""
        return min(self.max_steps, 50 + 10 * self.x.size)

    @property
    def has_rescue(self) -> bool:
        """MIGRAD falls back on SIMPLEX where gradients lead nowhere, as in MINUIT. Other solvers are on their own."""
        return isinstance(self.solver, Migrad)


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
    first_pass: Bool[Array, ""],
    rescue: Bool[Array, ""],
    goal: Scalar,
) -> Run:
    """Runs the fit's minimiser from `x`, or the rescue.

    **Arguments:**

    - `at`: the expansion at `x`; ignored on the first pass of a fit that was given a covariance.
    - `goal`: the EDM to reach.
    """
    if not problem.has_rescue:
        return _run_main(problem, x, at, first_pass, goal)
    # lax.cond would do both under vmap, so the other is told to be idle
    return lax.cond(
        rescue, lambda: _run_rescue(problem, x, rescue), lambda: _run_main(problem, x, at, first_pass, goal, rescue)
    )


def _run_main(
    problem: Problem,
    x: Float[Array, " n"],
    at: Expansion,
    first_pass: Bool[Array, ""],
    goal: Scalar,
    idle: Bool[Array, ""] | bool = False,
) -> Run:
    """In whitened internal coordinates, q = q0 + root u: the start's Hessian is one and the bounds are gone, so that
    any minimiser starts well scaled."""
    space, fn = problem.space, problem.fn
    q = space.internal(x)
    if isinstance(problem.solver, LevenbergMarquardt):  # it has a scaling of its own, that remembers
        origin, root, start = jnp.zeros_like(q), jnp.eye(q.size, dtype=q.dtype), q
    else:
        root, start = _whiten(problem, q, at, first_pass)
        origin = q
    offset = lax.stop_gradient(jnp.where(jnp.isfinite(at.value), at.value, 0.0))

    def to_external(u: Array) -> Array:
        return space.external(origin + root @ u)

    options = {
        "metric": jnp.eye(q.size, dtype=q.dtype),
        "noise": 8 * jnp.finfo(q.dtype).eps * jnp.abs(offset),
        "goal": goal,
        "step": 1.0,
        "idle": idle,
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
    return _report(sol, to_external(sol.value), x)


def _run_rescue(problem: Problem, x: Float[Array, " n"], rescue: Bool[Array, ""]) -> Run:
    """SIMPLEX in plain internal coordinates: where the gradient is nonsense the metric made from it is, too."""
    space, fn = problem.space, problem.fn
    sol = optx.minimise(
        lambda q, t: fn(space.external(q), t),
        Simplex(tol=100.0),
        space.internal(x),
        problem.theta,
        {"idle": ~rescue},
        max_steps=100 * (x.size + 1),
        adjoint=problem.adjoint,
        throw=False,
    )
    return _report(sol, space.external(sol.value), x)._replace(unfinished=jnp.array(False), stuck=jnp.array(False))


def _report(sol: optx.Solution, moved: Float[Array, " n"], x: Float[Array, " n"]) -> Run:
    steps = jnp.asarray(sol.stats["num_steps"])
    counts = {
        "num_steps": steps,
        "num_values": jnp.asarray(sol.stats.get("num_values", 0)),
        "num_gradients": jnp.asarray(sol.stats.get("num_gradients", steps)),
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
    problem: Problem, q: Float[Array, " n"], at: Expansion, first_pass: Bool[Array, ""]
) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
    """A root of the metric in internal coordinates, and where to start: at the point, or off a saddle."""
    first, second = problem.space.slopes(q)
    gradient = first * at.gradient
    hessian = first[:, None] * at.hessian * first[None, :] + jnp.diag(second * at.gradient)
    metric = decompose(hessian, gradient)
    root = metric.root()
    # In whitened coordinates the gradient is in errors. Where it is small and the curvature negative, go that way.
    downhill = root.T @ gradient
    saddle = metric.finite & (metric.eigenvalues[0] < -metric.floor) & (jnp.sum(downhill**2) < 0.01)
    start = jnp.zeros_like(q).at[0].set(jnp.where(saddle, jnp.where(downhill[0] > 0, -0.3, 0.3), 0.0))
    if problem.covariance is None:
        return root, start
    given = _root_of_covariance(problem.covariance, first)
    return jnp.where(first_pass, given, root), jnp.where(first_pass, 0.0, start)


def _root_of_covariance(covariance: Float[Array, "n n"], slope: Float[Array, " n"]) -> Float[Array, "n n"]:
    """A root of an external covariance in internal coordinates; a parameter without a variance gets one unit."""
    variance = jnp.diagonal(covariance)
    known = jnp.isfinite(variance) & (variance > 0) & (jnp.abs(slope) > 1e-6)
    size = jnp.sqrt(jnp.where(known, variance, 1.0))
    pair = known[:, None] & known[None, :] & jnp.isfinite(covariance)
    correlation = jnp.where(pair, covariance / (size[:, None] * size[None, :]), jnp.eye(slope.size, dtype=slope.dtype))
    values, vectors = jnp.linalg.eigh(correlation)
    positive = jnp.sqrt(jnp.maximum(values, 1e-6))
    return (size / jnp.where(known, jnp.abs(slope), 1.0))[:, None] * vectors * positive[None, :]
