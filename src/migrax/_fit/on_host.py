"""A fit called directly: the algorithm in NumPy, so that the first answer comes at once (see `_host/xp.py`)."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
import optimistix as optx
from jaxtyping import Array, Scalar

from .._host.flow import bounded_while_loop
from .._host.hosted import is_local
from .._host.xp import on_host
from .._likelihoods.base import AbstractLikelihood
from .._solvers import LevenbergMarquardt, Migrad, Newton, Simplex
from .._util.arrays import to_jax
from .._util.tracing import is_tracing
from .._util.typing import PyTree
from .evaluated import inputs_of, traced
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
) -> FitResult | None:
    """The result of the program `_fit` of these inputs, or `None` where it has to be a program: for what is traced,
    spread over devices or on an accelerator, calls back, or has no exact second derivatives."""
    inputs = (nll, params, data, solver, up, covariance, kinks)
    if not _is_for_host(inputs, solver, adjoint):
        return None
    with_residuals = isinstance(solver, optx.AbstractLeastSquaresSolver)
    jaxprs = traced(nll, params, data, up, with_residuals)
    functions = jaxprs.at(inputs_of(nll, params, data, up)) if jaxprs.is_usable else None
    if functions is None:
        return None
    fn, residuals = functions
    as_numpy = lambda tree: jax.tree.map(lambda a: np.asarray(a) if eqx.is_array(a) else a, tree)  # noqa: E731
    with on_host():
        x, space = start_and_space(nll, as_numpy(params))
        if kinks is not None:
            space = space.with_kinks(np.asarray(kinks))
        if covariance is not None:
            covariance = np.asarray(covariance, x.dtype)
        limit = 200 + 100 * x.size + 5 * x.size**2 if max_steps is None else max_steps
        problem = Problem(fn, residuals, None, x, space, covariance, as_numpy(solver), adjoint, limit)
        x, outcome = solve((problem, bounded_while_loop))
        theta = inputs_of(nll, params, data, np.asarray(up, x.dtype)[()])
        result = result_of(fn, theta, space, x, outcome, hesse, nll, type(solver).__name__)
    return to_jax(result, jax.tree.leaves(inputs))


def _is_for_host(inputs: PyTree, solver: Any, adjoint: optx.AbstractAdjoint) -> bool:
    arrays = [leaf for leaf in jax.tree.leaves(inputs) if eqx.is_array(leaf)]
    config: Any = jax.config
    return (
        type(solver) in (Migrad, LevenbergMarquardt, Newton, Simplex)
        and not getattr(solver, "verbose", False)
        and isinstance(adjoint, optx.ImplicitAdjoint)
        and all(map(is_local, arrays))
        and jax.default_backend() == "cpu"
        and not is_tracing()
        and not (config.jax_debug_nans or config.jax_debug_infs or config.jax_disable_jit)
    )
