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
    """One parameter of a fit: what `result["mu"]` is.

    **Attributes**, each of the parameter's shape (many fits: their axes come first), in the user's units:

    - `value`, `error`: the fitted value and its standard error: 0 for a parameter that is fixed or lies on its bound,
        NaN where there is no valid covariance.
    - `lower`, `upper`: the bounds, infinite where there is none.
    - `at_limit`: whether it is at a bound or nearer to it than half its error.

    A single number outside of `jax.jit` is one of NumPy (`np.float64` is a Python `float`, which `json` takes).
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
    """A single number as one of NumPy, which in float64 is a Python float, too, so that `json` takes it."""
    if not is_concrete(x) or x.ndim != 0:
        return x
    return np.asarray(x)[()]


def _bound_like(bound: Array | None, sign: int, value: Array, batch: int) -> Array:
    """A bound in the shape of the value, of which the first `batch` axes are those of a batch of fits."""
    if bound is None:
        return jnp.full_like(value, sign * jnp.inf)
    aligned = (*bound.shape[:batch], *(1,) * (value.ndim - bound.ndim), *bound.shape[batch:])
    return jnp.broadcast_to(bound.reshape(aligned), value.shape)


def element(every: Sequence[Array], index: Any) -> Estimate:
    """Value, error, bounds and `at_limit` of a fit's parameters, shapes `(..., n)`, at the entries `index`."""
    return Estimate(*(number(x[..., index]) for x in every))


def partly_fixed(params: PyTree, slot: Slot, name: str, errors: Array, at_limit: Array) -> Estimate:
    """The parameter at `slot` of a fitted tree, which is fixed or some of whose entries are; or one entry of it.

    **Arguments:**

    - `name`: that of the parameter or of one of its entries.
    - `errors`, `at_limit`: of its free entries, shape `(..., n_free)`.
    """
    leaf = flatten(params)[0][slot.leaf]
    flat = (*leaf.value.shape[: leaf.value.ndim - len(slot.shape)], slot.size)  # a batch has axes before
    low, high = (
        _bound_like(b, s, leaf.value, len(flat) - 1).reshape(flat)
        for s, b in zip((-1, 1), bounds_of(leaf), strict=True)
    )
    value, free = leaf.value.reshape(flat), np.flatnonzero(slot.free)
    error = jnp.zeros_like(value).at[..., free].set(errors)
    at_limit = jnp.zeros(flat, bool).at[..., free].set(at_limit)
    every = (value, error, low, high, at_limit)
    if name != slot.name:
        return element(every, slot.element_names().index(name))
    return Estimate(*(number(x.reshape(leaf.value.shape)) for x in every))
