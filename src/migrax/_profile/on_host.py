"""Calls that start from a fit, on the host: the same functions in NumPy, lane by lane (see `_host/xp.py`)."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .._fit.evaluated import Objective
from .._fit.objective import check_up
from .._fit.result import FitResult
from .._fit.traced import as_numpy, inputs_of, traced
from .._host.hosted import is_for_host
from .._host.trips import TooLong
from .._host.xp import on_host
from .._likelihoods.base import AbstractLikelihood
from .._util.arrays import to_jax
from .._util.background import Repeats
from .._util.jit import jit
from .._util.typing import PyTree

_GRADIENTS = 8  # of one lane: a crossing or a conditional fit


class OnHost(NamedTuple):
    """A `Fitted` in NumPy, with its objective."""

    nll: AbstractLikelihood
    result: FitResult
    data: PyTree
    objective: Objective


def evaluated(nll: Any, result: FitResult, data: PyTree, gradients: int, kind: Any) -> tuple[OnHost, Repeats] | None:
    """A fit with its objective for about so many gradients, and the count of calls of this `kind`; `None` where the
    call has to be a program."""
    jaxprs = traced(nll, result.params, data, check_up(result.up), False)
    if not jaxprs.is_usable or jaxprs.repeats.is_ready(kind):
        return None
    functions = jaxprs.at(inputs_of(nll, result.params, data, result.up), gradients)
    return None if functions is None else (OnHost(nll, as_numpy(result), data, functions[0]), jaxprs.repeats)


def direct(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn(fitted, *lanes)`, a function of a `Fitted` and arrays, on the host where it can be, else as a program."""
    program = jit(fn)

    @functools.wraps(fn)
    def call(fitted: Any, *args: Any) -> Any:
        if not is_for_host((fitted, args)):
            return program(fitted, *args)
        leaves = jax.tree.leaves(args)
        kind = (fn.__qualname__, *((np.shape(leaf), None if eqx.is_array(leaf) else leaf) for leaf in leaves))
        count = max((np.shape(leaf)[0] for leaf in leaves if np.ndim(leaf)), default=1)
        start_time = time.perf_counter()
        nll, result, data = fitted
        found = evaluated(nll, result, data, count * _GRADIENTS, kind)
        if found is None:
            return program(fitted, *args)
        try:
            with on_host():
                out = fn(found[0], *as_numpy(args))
        except TooLong:
            found[1].set_ready(kind)
            return program(fitted, *args)
        out = to_jax(out, jax.tree.leaves((fitted, args)))
        if not found[0].objective.is_long:
            found[1].add(kind, time.perf_counter() - start_time, lambda: program(fitted, *args))
        return out

    return call
