"""Runs many lanes by a quick method, then those that failed by a robust one."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from .._host.hosted import hosted
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .fitted import Fitted

T = TypeVar("T")


def retry(
    run: Callable[[Fitted, PyTree, Bool[Array, " lanes"], bool], T],
    fitted: Fitted,
    lanes: PyTree,
    failed: Callable[[T], Bool[np.ndarray, " lanes"]],
) -> T:
    """Runs all lanes by the quick method, and those that failed again by the robust one, which is therefore compiled
    only if it is needed. Inside the user's own `jit`, `vmap` or `grad`, where failures are not known, the program
    contains both.

    **Arguments:**

    - `run`: `run(fitted, lanes, skip, robust)`, jitted; does nothing in the lanes of `skip`.
    - `lanes`: a pytree of arrays with one leading axis.
    - `failed`: returns which lanes of a return value failed; in NumPy, so that nothing is compiled for it.
    """
    count = jax.tree.leaves(lanes)[0].shape[0]
    arrays = [leaf for leaf in jax.tree.leaves((lanes, fitted)) if eqx.is_array(leaf)]
    if not is_concrete(jnp.asarray(0.0), *arrays):
        return run(fitted, lanes, jnp.zeros(count, bool), True)
    results = run(fitted, lanes, jnp.asarray(np.zeros(count, bool)), False)
    if not is_concrete(*jax.tree.leaves(results)):  # the likelihood closes over a tracer
        return run(fitted, lanes, jnp.zeros(count, bool), True)
    failed_lanes = np.flatnonzero(failed(results))
    if failed_lanes.size == 0:
        return results
    # Pad to the next power of two, so that few sizes are ever compiled.
    padded = np.resize(failed_lanes, 2 ** int(np.ceil(np.log2(failed_lanes.size))))
    skip = jnp.asarray(np.arange(padded.size) >= failed_lanes.size)
    return _replaced(results, run(fitted, _picked(lanes, padded), skip, True), failed_lanes)


@hosted
def _picked(lanes: PyTree, index: Int[np.ndarray, " m"]) -> PyTree:
    return jax.tree.map(lambda a: a[index], lanes)


@hosted
def _replaced(results: T, retried: T, index: Int[np.ndarray, " m"]) -> T:
    """The results, with those at `index` replaced by the first that were retried."""
    return jax.tree.map(lambda old, new: old.at[index].set(new[: index.shape[0]]), results, retried)
