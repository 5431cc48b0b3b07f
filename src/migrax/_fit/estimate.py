"""`Estimate`: one parameter of a fit."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._parameters.names import Slot, flatten
from .._parameters.parameter import bounds_of
from .._util.result import AbstractResult
from .._util.tracing import is_concrete, is_concrete_tree
from .._util.typing import PyTree


class Estimate(AbstractResult):
    """One parameter of a fit, as `result["mu"]` returns it.

    **Attributes**, each of the parameter's shape (after the axes of a batch of fits), in the user's units:

    - `value`, `error`: the fitted value and its standard error. The error is 0 for a parameter that is fixed or lies on
        its bound, and NaN if there is no valid covariance.
    - `lower`, `upper`: the bounds, infinite where there is none.
    - `at_limit`: whether the value is at a bound, or closer to it than half its error.

    Outside `jax.jit` a single number is a NumPy scalar (`np.float64` is a Python `float`, which `json` accepts).
    """

    value: Array
    error: Array
    lower: Array
    upper: Array
    at_limit: Array

    def __repr__(self) -> str:
        if not is_concrete_tree(self):
            return f"Estimate(traced, shape={jnp.shape(self.value)})"
        fields = {name: np.asarray(getattr(self, name)) for name in ("value", "error", "lower", "upper", "at_limit")}
        return f"Estimate({', '.join(f'{name}={array.tolist()}' for name, array in fields.items())})"


def number(x: Any) -> Any:
    """A concrete number as a NumPy scalar, which in float64 is also a Python float, so that `json` accepts it."""
    if not is_concrete(x) or x.ndim != 0:
        return x
    return np.asarray(x)[()]


def _bound_like(bound: Array | None, sign: int, value: Array, batch: int) -> Array:
    """A bound in the shape of `value`, whose first `batch` axes are those of a batch of fits."""
    if bound is None:
        return jnp.full_like(value, sign * jnp.inf)
    aligned = (*bound.shape[:batch], *(1,) * (value.ndim - bound.ndim), *bound.shape[batch:])
    return jnp.broadcast_to(bound.reshape(aligned), value.shape)


def element(arrays: Sequence[Array], index: Any) -> Estimate:
    """The `Estimate` at the entries `index` of value, error, bounds and `at_limit`, each of shape `(..., n)`."""
    return Estimate(*(number(x[..., index]) for x in arrays))


def partly_fixed(params: PyTree, slot: Slot, name: str, errors: Array, at_limit: Array) -> Estimate:
    """The `Estimate` of the parameter at `slot` of a fitted tree, or of one entry, where some or all entries are fixed.

    **Arguments:**

    - `name`: the name of the parameter or of one of its entries.
    - `errors`, `at_limit`: those of its free entries, shape `(..., n_free)`.
    """
    leaf = flatten(params)[0][slot.leaf]
    flat_shape = (*leaf.value.shape[: leaf.value.ndim - len(slot.shape)], slot.size)  # after the axes of a batch
    low, high = (
        _bound_like(b, s, leaf.value, len(flat_shape) - 1).reshape(flat_shape)
        for s, b in zip((-1, 1), bounds_of(leaf), strict=True)
    )
    value, free = leaf.value.reshape(flat_shape), np.flatnonzero(slot.free)
    error = jnp.zeros_like(value).at[..., free].set(errors)
    at_limit = jnp.zeros(flat_shape, bool).at[..., free].set(at_limit)
    arrays = (value, error, low, high, at_limit)
    if name != slot.name:
        return element(arrays, slot.element_names().index(name))
    return Estimate(*(number(x.reshape(leaf.value.shape)) for x in arrays))
