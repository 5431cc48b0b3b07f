"""Which entry of the data a likelihood is not finite for, and why: for the message of a fit that failed by it."""

import dataclasses
import itertools
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import lax
from jaxtyping import Array, Int

from .._derivatives.nan_origin import describe
from .._likelihoods.fault import Fault
from .._util.explicit_sharding import without_explicit_types
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .result import FitResult, Note
from .status import Status

_SMALL = 1000  # numbers
NOT_FINITE = (int(Status.NOT_FINITE), int(Status.NOT_FINITE_AT_START))


def find_not_finite(data: PyTree, status: Array) -> tuple[Int[Array, "2"], tuple[tuple[str, tuple[int, ...]], ...]]:
    """Where a fit met NaN or infinity: the first entry of the data that is not finite itself (-1: none), counted over
    all arrays of the data, with its `Fault`; and the names and shapes of these arrays."""
    arrays = _arrays(data)
    none, paths = nothing_found(data)
    inexact = [eqx.is_inexact_array(a) for _, a in arrays]
    if not any(inexact):
        return none, paths

    def find() -> Array:
        found, start = none[0], 0
        for a in _runs([a for _, a in arrays]):
            if eqx.is_inexact_array(a):
                bad = jnp.ravel(~jnp.isfinite(lax.stop_gradient(a)))
                here = start + jnp.argmax(bad).astype(none.dtype)
                found = jnp.where((found < 0) & jnp.any(bad), here, found)
            start += a.size
        return jnp.stack([found, jnp.where(found < 0, int(Fault.NONE), int(Fault.NOT_FINITE))])

    failed = (status == NOT_FINITE[0]) | (status == NOT_FINITE[1])
    return lax.cond(failed, find, lambda: none), paths


def _runs(arrays: list[Array]) -> list[Array]:
    """The same numbers in the same order, small arrays that follow each other as one: of hundreds of global observables
    each would be compiled by itself."""
    joined: list[Array] = []
    for dtype, run in itertools.groupby(arrays, lambda a: a.dtype if a.size <= _SMALL else None):
        each = list(run)
        joined += each if dtype is None else [jnp.concatenate([jnp.ravel(a) for a in each])]
    return joined


def nothing_found(data: PyTree) -> tuple[Int[Array, "2"], tuple[tuple[str, tuple[int, ...]], ...]]:
    """What `find_not_finite` says of data that nobody need look at."""
    return jnp.array([-1, int(Fault.NONE)]), tuple((path, a.shape) for path, a in _arrays(data))


def explain(nll: Any, result: FitResult, data: PyTree) -> FitResult:
    """The result of a fit that was not finite, with the entry of the data that the likelihood itself blames, and the
    operation of the model that is not finite.

    A likelihood says so by `faults(params, data)`: an array of `Fault` numbers for each array of the data.
    """
    if not is_concrete(result.status, result.bad_data) or np.ndim(result.status) != 0:
        return result
    if int(result.status) not in NOT_FINITE or int(result.bad_data[0]) >= 0:
        return result
    if is_concrete(*(leaf for leaf in jtu.tree_leaves((nll, result.params, data)) if eqx.is_array(leaf))):
        result = dataclasses.replace(result, blame=Note(_described(nll, result, data)))
    if nll.faults is None:
        return result
    found = jtu.tree_leaves(without_explicit_types(nll.faults, result.params, data))
    codes = np.concatenate([np.zeros(0), *(np.ravel(code) for code in found)])
    if not np.any(codes):
        return result
    first = int(np.argmax(codes != 0))
    return eqx.tree_at(lambda r: r.bad_data, result, jnp.array([first, int(codes[first])], result.bad_data.dtype))


def _described(nll: Any, result: FitResult, data: PyTree) -> str:
    try:
        return describe(nll, result.params, data)
    except Exception:  # it is only a help: a likelihood may not be one that can be evaluated step by step
        return ""


def _arrays(data: PyTree) -> list[tuple[str, Array]]:
    with_path, _ = jtu.tree_flatten_with_path(data)
    return [(jtu.keystr(path), a) for path, a in with_path if eqx.is_array(a) and a.size > 0]
