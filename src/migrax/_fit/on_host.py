"""A fit called directly: the algorithm in NumPy, so that the first answer comes at once (see `_host/xp.py`)."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import optimistix as optx
from jaxtyping import Array, Scalar

from .._host import xp
from .._host.flow import bounded_while_loop
from .._host.hosted import is_for_host
from .._host.trips import OutOfTrips, TooLong
from .._host.xp import on_host
from .._likelihoods.base import AbstractLikelihood
from .._solvers import LevenbergMarquardt, Migrad, Newton, NewtonCG, Simplex
from .._util.arrays import to_jax
from .._util.typing import PyTree
from .evaluated import Objective, Residuals
from .loop import solve
from .minimiser import Problem, step_limit
from .objective import start_and_space
from .result import FitResult
from .result_of import result_of
from .traced import as_numpy, inputs_of, traced

_GRADIENTS = 40  # of a fit of many parameters


class FitInputs(NamedTuple):
    """The inputs of a fit's program, in its order."""

    nll: AbstractLikelihood
    params: PyTree
    data: PyTree
    solver: Any
    up: Scalar
    hesse: bool
    covariance: Array | None
    max_steps: int | None
    adjoint: optx.AbstractAdjoint
    kinks: Array | None = None
    errors_of: tuple[int, ...] | None = None


def fit_on_host(inputs: FitInputs, program: Callable[..., Any], times: int = 1, what: Any = "fit") -> FitResult | None:
    """The result of `program(*inputs)`, or `None` where it has to be that program: for what is traced, spread over
    devices or on an accelerator, calls back, or has no exact second derivatives; and after many calls.

    - `times`: how many such fits, to different data, are to come; `what`: what they are for, as `program` may do more
        than one of them, with more shapes.
    """
    nll, params, data, solver, up = inputs[:5]
    arrays = (nll, params, data, solver, up, inputs.covariance, inputs.kinks)
    if not (_is_ours(solver) and isinstance(inputs.adjoint, optx.ImplicitAdjoint) and is_for_host(arrays)):
        return None
    jaxprs = traced(nll, params, data, up, isinstance(solver, optx.AbstractLeastSquaresSolver))
    kind = (
        what,
        _kind(
            solver, inputs.hesse, inputs.covariance is None, inputs.max_steps, inputs.kinks is None, inputs.errors_of
        ),
    )
    if jaxprs.repeats.is_ready(kind):
        return None
    start_time = time.perf_counter()
    functions = jaxprs.at(inputs_of(nll, params, data, up), times * _GRADIENTS) if jaxprs.is_usable else None
    if functions is None:
        return None
    try:
        result = _solved(inputs, *functions)
    except OutOfTrips:
        jaxprs.repeats.set_ready(kind)
        return None
    except TooLong:
        jaxprs.give_up()
        return None
    result = to_jax(result, jax.tree.leaves(arrays))
    if not functions[0].is_long:
        jaxprs.repeats.add(kind, time.perf_counter() - start_time, lambda: program(*inputs))
    return result


def _solved(inputs: FitInputs, fn: Objective, residuals: Residuals | None) -> FitResult:
    nll, params, data, solver, up = inputs[:5]
    with on_host():
        x, space = start_and_space(nll, as_numpy(params))
        if inputs.kinks is not None:
            space = space.with_kinks(xp.asarray(inputs.kinks))
        covariance = None if inputs.covariance is None else xp.asarray(inputs.covariance, x.dtype)
        limit = step_limit(x.size) if inputs.max_steps is None else inputs.max_steps
        problem = Problem(
            fn, residuals, None, x, space, covariance, as_numpy(solver), inputs.adjoint, limit, inputs.errors_of
        )
        x, outcome = solve((problem, bounded_while_loop))
        theta = inputs_of(nll, params, data, xp.asarray(up, x.dtype))
        return result_of(
            fn, theta, space, x, outcome, inputs.hesse, nll, type(solver).__name__, errors_of=inputs.errors_of
        )


def _kind(solver: Any, *options: Any) -> Any:
    """What distinguishes the programs of one likelihood."""
    leaves, treedef = jax.tree.flatten(solver)
    return treedef, *(None if eqx.is_array(leaf) else leaf for leaf in leaves), *options


def _is_ours(solver: Any) -> bool:
    return type(solver) in (Migrad, LevenbergMarquardt, Newton, NewtonCG, Simplex) and not getattr(
        solver, "verbose", False
    )
