"""A fit called directly: the algorithm in NumPy, so that the first answer comes at once (see `_host/xp.py`)."""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import optimistix as optx
from jaxtyping import Array, Scalar

from .._host import xp
from .._host.control_flow import TooLong
from .._host.flow import bounded_while_loop
from .._host.hosted import is_for_host
from .._host.xp import on_host
from .._likelihoods.base import AbstractLikelihood
from .._solvers import LevenbergMarquardt, Migrad, Newton, Simplex
from .._util.arrays import to_jax
from .._util.typing import PyTree
from .evaluated import Objective, Residuals, as_numpy, inputs_of, traced
from .loop import solve
from .minimiser import Problem
from .objective import start_and_space
from .result import FitResult
from .result_of import result_of

_FLOATS = ("float32", "float64")


def fit_on_host(
    nll: AbstractLikelihood,
    params: PyTree,
    data: PyTree,
    solver: Any,
    up: Scalar,
    hesse: bool,
    covariance: Array | None,
    max_steps: int | None,
    adjoint: optx.AbstractAdjoint,
    kinks: Array | None = None,
    *,
    program: Callable[..., FitResult],
) -> FitResult | None:
    """The result of the `program` of these inputs, or `None` where it has to be that program: for what is traced,
    spread over devices or on an accelerator, calls back, or has no exact second derivatives; and after many calls."""
    inputs = (nll, params, data, solver, up, covariance, kinks)
    if not (_is_ours(solver) and isinstance(adjoint, optx.ImplicitAdjoint) and is_for_host(inputs)):
        return None
    with_residuals = isinstance(solver, optx.AbstractLeastSquaresSolver)
    jaxprs = traced(nll, params, data, up, with_residuals)
    kind = _kind(solver, hesse, covariance is None, max_steps, kinks is None)
    if jaxprs.repeats.is_ready(kind):
        return None
    start_time = time.perf_counter()
    functions = jaxprs.at(inputs_of(nll, params, data, up)) if jaxprs.is_usable else None
    if functions is None:
        return None
    try:
        result = _solved(nll, params, data, solver, up, hesse, covariance, max_steps, adjoint, kinks, functions)
    except TooLong:
        jaxprs.give_up()
        return None
    result = to_jax(result, jax.tree.leaves(inputs))
    call = (nll, params, data, solver, up, hesse, covariance, max_steps, adjoint, kinks)
    jaxprs.repeats.add(kind, time.perf_counter() - start_time, lambda: program(*call))
    return result


def _solved(
    nll: AbstractLikelihood,
    params: PyTree,
    data: PyTree,
    solver: Any,
    up: Scalar,
    hesse: bool,
    covariance: Array | None,
    max_steps: int | None,
    adjoint: optx.AbstractAdjoint,
    kinks: Array | None,
    functions: tuple[Objective, Residuals | None],
) -> FitResult:
    fn, residuals = functions
    with on_host():
        x, space = start_and_space(nll, as_numpy(params))
        if kinks is not None:
            space = space.with_kinks(xp.asarray(kinks))
        if covariance is not None:
            covariance = xp.asarray(covariance, x.dtype)
        limit = 200 + 100 * x.size + 5 * x.size**2 if max_steps is None else max_steps
        problem = Problem(fn, residuals, None, x, space, covariance, as_numpy(solver), adjoint, limit)
        x, outcome = solve((problem, bounded_while_loop))
        theta = inputs_of(nll, params, data, xp.asarray(up, x.dtype))
        return result_of(fn, theta, space, x, outcome, hesse, nll, type(solver).__name__)


def _kind(solver: Any, *options: Any) -> Any:
    """What distinguishes the programs of one likelihood."""
    leaves, treedef = jax.tree.flatten(solver)
    return treedef, *(None if eqx.is_array(leaf) else leaf for leaf in leaves), *options


def _is_ours(solver: Any) -> bool:
    return type(solver) in (Migrad, LevenbergMarquardt, Newton, Simplex) and not getattr(solver, "verbose", False)
