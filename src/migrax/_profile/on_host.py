"""Calls that start from a fit, on the host: the same functions in NumPy, lane by lane (see `_host/xp.py`)."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .._fit.evaluated import Objective, as_numpy, inputs_of, traced
from .._fit.objective import check_up
from .._fit.on_host import is_for_host
from .._fit.result import FitResult
from .._host.xp import on_host
from .._likelihoods.base import AbstractLikelihood
from .._util.arrays import to_jax
from .._util.jit import jit
from .._util.typing import PyTree

_GRADIENTS = 8  # of one lane: a crossing or a conditional fit


class OnHost(NamedTuple):
    """A `Fitted` in NumPy, with its objective."""

    nll: AbstractLikelihood
    result: FitResult
    data: PyTree
    objective: Objective


def direct(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn(fitted, *lanes)`, a function of a `Fitted` and arrays, on the host where it can be, else as a program."""
    program = jit(fn)

    @functools.wraps(fn)
    def call(fitted: Any, *args: Any) -> Any:
        if not is_for_host((fitted, args)):
            return program(fitted, *args)
        nll, result, data = fitted
        jaxprs = traced(nll, result.params, data, check_up(result.up), False)
        static = tuple(None if eqx.is_array(leaf) else leaf for leaf in jax.tree.leaves(args))
        kind = (fn.__qualname__, *static, tuple(np.shape(leaf) for leaf in jax.tree.leaves(args)))
        if not jaxprs.is_usable or jaxprs.repeats.is_ready(kind):
            return program(fitted, *args)
        start_time = time.perf_counter()
        count = max((np.shape(leaf)[0] for leaf in jax.tree.leaves(args) if np.ndim(leaf)), default=1)
        functions = jaxprs.at(inputs_of(nll, result.params, data, result.up), count * _GRADIENTS)
        if functions is None:
            return program(fitted, *args)
        with on_host():
            out = fn(OnHost(nll, as_numpy(result), data, functions[0]), *as_numpy(args))
        out = to_jax(out, jax.tree.leaves((fitted, args)))
        jaxprs.repeats.add(kind, time.perf_counter() - start_time, lambda: program(fitted, *args))
        return out

    return call
