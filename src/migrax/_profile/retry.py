"""Many lanes at once, quickly; then those that failed, surely."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

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
    """Runs all lanes by the quick way, and those that failed once more by the sure way, which so is compiled only if it
    is needed. Inside the user's own `jit`, `vmap` or `grad`, where this cannot be seen, both are in the program.

    **Arguments:**

    - `run`: `run(fitted, lanes, skip, robust)`, jitted; does nothing in the lanes of `skip`.
    - `lanes`: a pytree of arrays with one leading axis.
    - `failed`: which lanes of a return value did; by NumPy, as nothing needs to be compiled for it.
    """
    count = jax.tree.leaves(lanes)[0].shape[0]
    arrays = [leaf for leaf in jax.tree.leaves((lanes, fitted)) if eqx.is_array(leaf)]
    if not is_concrete(jnp.asarray(0.0), *arrays):
        return run(fitted, lanes, jnp.zeros(count, bool), True)
    found = run(fitted, lanes, jnp.asarray(np.zeros(count, bool)), False)
    if not is_concrete(*jax.tree.leaves(found)):  # the likelihood closes over a tracer
        return run(fitted, lanes, jnp.zeros(count, bool), True)
    missing = np.flatnonzero(failed(found))
    if missing.size == 0:
        return found
    # as many lanes as the next power of two, so that few sizes are ever compiled
    chosen = np.resize(missing, 2 ** int(np.ceil(np.log2(missing.size))))
    again = run(fitted, jax.tree.map(lambda a: a[chosen], lanes), jnp.arange(chosen.size) >= missing.size, True)
    return jax.tree.map(lambda old, new: old.at[missing].set(new[: missing.size]), found, again)
