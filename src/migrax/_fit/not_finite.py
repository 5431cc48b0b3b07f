"""Finds the entry of the data for which a likelihood is not finite, and why, for the message of a failed fit."""

import dataclasses
import itertools
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int

from .._derivatives.nan_origin import describe
from .._host import flow, xp
from .._host.evaluated import evaluated
from .._likelihoods.fault import Fault
from .._util.explicit_sharding import without_explicit_types
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .result import FitResult, Note
from .status import Status

_SMALL = 1000  # numbers
NOT_FINITE = (int(Status.NOT_FINITE), int(Status.NOT_FINITE_AT_START))


def find_not_finite(data: PyTree, status: Array) -> tuple[Int[Array, "2"], tuple[tuple[str, tuple[int, ...]], ...]]:
    """The first entry of the data that is itself not finite (-1: none), if a fit ended with NaN or infinity: its index,
    counted over all arrays of the data, with its `Fault`; and the names and shapes of these arrays."""
    arrays = _arrays(data)
    none, paths = nothing_found(data)
    inexact = [eqx.is_inexact_array(a) for _, a in arrays]
    if not any(inexact):
        return none, paths

    def find() -> Array:
        entry, start = none[0], 0
        for a in _join_small([a for _, a in arrays]):
            if jnp.issubdtype(a.dtype, jnp.inexact):
                bad = xp.ravel(~xp.isfinite(flow.stop_gradient(a)))
                entry_here = start + xp.argmax(bad).astype(none.dtype)
                entry = xp.where((entry < 0) & xp.any(bad), entry_here, entry)
            start += a.size
        return xp.stack([entry, xp.where(entry < 0, int(Fault.NONE), int(Fault.NOT_FINITE))])

    failed = (status == NOT_FINITE[0]) | (status == NOT_FINITE[1])
    return flow.cond(failed, find, lambda: none), paths


def _join_small(arrays: list[Array]) -> list[Array]:
    """The arrays with consecutive small ones concatenated, so that hundreds of global observables are not compiled one
    by one."""
    joined: list[Array] = []
    for dtype, run in itertools.groupby(arrays, lambda a: a.dtype if a.size <= _SMALL else None):
        small_arrays = list(run)
        joined += small_arrays if dtype is None else [xp.concatenate([xp.ravel(a) for a in small_arrays])]
    return joined


def nothing_found(data: PyTree) -> tuple[Int[Array, "2"], tuple[tuple[str, tuple[int, ...]], ...]]:
    """The answer of `find_not_finite` for data that need no check."""
    return xp.array([-1, int(Fault.NONE)]), tuple((path, a.shape) for path, a in _arrays(data))


def explain(nll: Any, result: FitResult, data: PyTree) -> FitResult:
    """The result of a fit that was not finite, with the entry of the data that the likelihood reports as the cause, and
    the operation of the model that is not finite.

    A likelihood reports it by `faults(params, data)`: an array of `Fault` numbers for each array of the data.
    """
    if not is_concrete(result.status, result.bad_data) or np.ndim(result.status) != 0:
        return result
    if int(result.status) not in NOT_FINITE or int(result.bad_data[0]) >= 0:
        return result
    if is_concrete(*(leaf for leaf in jtu.tree_leaves((nll, result.params, data)) if eqx.is_array(leaf))):
        result = dataclasses.replace(result, blame=Note(_describe(nll, result, data)))
    if nll.faults is None:
        return result
    fault_arrays = jtu.tree_leaves(without_explicit_types(_faults, nll, result.params, data))
    codes = np.concatenate([np.zeros(0), *(np.ravel(code) for code in fault_arrays)])
    if not np.any(codes):
        return result
    first = int(np.argmax(codes != 0))
    return eqx.tree_at(lambda r: r.bad_data, result, jnp.array([first, int(codes[first])], result.bad_data.dtype))


@evaluated
def _faults(nll: Any, params: PyTree, data: PyTree) -> PyTree:
    return nll.faults(params, data)


def _describe(nll: Any, result: FitResult, data: PyTree) -> str:
    try:
        return describe(nll, result.params, data)
    except Exception:  # this is optional, and not every likelihood can be evaluated step by step
        return ""


def _arrays(data: PyTree) -> list[tuple[str, Array]]:
    with_path, _ = jtu.tree_flatten_with_path(data)
    return [(jtu.keystr(path), a) for path, a in with_path if eqx.is_array(a) and a.size > 0]
