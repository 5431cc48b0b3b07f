"""Fixing and releasing parameters between fits. Both return a new tree and leave the given one unchanged."""

from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike

from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .names import Slot, flatten, mark
from .parameter import Parameter, bounds_of, is_parameter
from .resolve import is_result
from .select import Where, pick


def fix(params: PyTree, where: Where, value: ArrayLike | None = None) -> PyTree:
    """The tree `params` with the parameters in `where` fixed, at `value` if one is given.

    ```python
    conditional = mx.fit(nll, mx.fix(result.params, "mu", 0.0), data)
    ```

    **Arguments:**

    - `params`: a tree of parameters, such as `result.params`. It is not changed.
    - `where`: a name (of a vector, or of one entry: `"gamma[3]"`), a function that picks nodes, or a sequence of these.
    - `value`: the values to fix them at, broadcastable to their shapes; default: their present ones.

    **Returns:** the tree, with an `mx.Parameter` for everything that floats.

    **Raises:** `ValueError` for unknown names, or a `value` whose shape does not fit or that is outside the bounds;
    `TypeError` for a `FitResult` in place of its `params`.
    """
    return _set_fixed(params, where, True, value)


def release(params: PyTree, where: Where) -> PyTree:
    """The tree `params` with the fixed parameters in `where` free again, at their present values.

    **Arguments:** `params`, `where`: as for `mx.fix`.

    **Raises:** `ValueError` for unknown names; `TypeError` for a `FitResult` in place of its `params`.
    """
    return _set_fixed(params, where, False, None)


def _set_fixed(params: PyTree, where: Where, fixed: bool, value: ArrayLike | None) -> PyTree:
    if is_result(params):
        raise TypeError("a result is not a tree of parameters: give result.params")
    params = mark(params)
    leaves, _, treedef = flatten(params)
    for slot, picked in pick(params, where):
        leaves[slot.leaf] = _with_entries(leaves[slot.leaf], slot, picked, fixed, value)
    return jtu.tree_unflatten(treedef, leaves)


def _with_entries(parameter: Any, slot: Slot, picked: np.ndarray, fixed: bool, value: ArrayLike | None) -> Parameter:
    """The parameter at `slot` with the entries of `picked` fixed or free, at `value` if one is given."""
    assert is_parameter(parameter)
    flags = np.where(picked, fixed, ~slot.free).reshape(slot.shape)
    if value is None:
        return Parameter(parameter.value, parameter.lower, parameter.upper, flags, parameter.period)
    new = jnp.asarray(value, parameter.value.dtype)
    if np.all(picked):
        try:
            new = jnp.broadcast_to(new, slot.shape)
        except ValueError:
            raise ValueError(
                f"{slot.name!r} has shape {slot.shape}; a value of shape {new.shape} does not fit"
            ) from None
    elif new.size not in (1, int(np.sum(picked))):
        raise ValueError(f"{int(np.sum(picked))} entries of {slot.name!r} are picked; {new.size} values do not fit")
    else:
        new = jnp.ravel(parameter.value).at[np.flatnonzero(picked)].set(jnp.ravel(new)).reshape(slot.shape)
    low, high = bounds_of(parameter)
    if is_concrete(new, low, high):
        outside = (low is not None and np.any(new < low)) or (high is not None and np.any(new > high))
        if outside:
            raise ValueError(f"{slot.name!r} cannot be fixed at {value}: its bounds are {low} and {high}")
    return Parameter(new, parameter.lower, parameter.upper, flags, parameter.period)
