"""Sparse effects: which parameter moves which bins, and by how much, where each touches few of them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .._util.tracing import is_concrete


class SparseEffects(eqx.Module):
    """A sparse linear map from parameters to bins, for models with thousands of parameters that each touch few bins.

    ```python
    effects = mx.SparseEffects.from_dense(table)  # (n, *shape), mostly zeros


    def expected(params):
        return nominal * jnp.exp(effects(params["theta"]))  # log-normal effects of all parameters
    ```

    `effects(theta)` is `jnp.tensordot(theta, table, 1)`, but stores and multiplies only what is not zero: a product
    with each and a sum over segments, which JAX differentiates in both modes, maps and compiles.

    **Arguments:**

    - `parameters`: which parameter, whole numbers of shape `(m,)`, from 0 to `size` - 1.
    - `bins`: which bin, a number of the bins in row-major order or, for `shape` of several axes, a tuple of indices as
        of `np.nonzero`, each of shape `(m,)`.
    - `values`: the effect of the parameter on the bin, shape `(m,)`, in the user's units. Those of one parameter on one
        bin are added.
    - `size`: the number of parameters.
    - `shape`: the shape of the bins, as `(3000,)` or `(samples, bins)`.

    **Raises:** `ValueError` for arrays of different lengths, indices out of range or values that are not finite.
    """

    values: Float[Array, " m"]
    parameters: Int[Array, " m"]
    bins: Int[Array, " m"]
    size: int = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, parameters: ArrayLike, bins: Any, values: ArrayLike, *, size: int, shape: int | tuple[int, ...]):
        self.size, self.shape = int(size), tuple(int(k) for k in np.atleast_1d(shape))
        if self.size < 1 or not self.shape or min(self.shape) < 1:
            raise ValueError(f"SparseEffects(size=, shape=) must be positive, got {size}, {shape}")
        if not is_concrete(parameters, *(bins if isinstance(bins, tuple) else (bins,))):
            raise TypeError("SparseEffects: which parameter moves which bin must be known, not traced; values may be")
        which = _whole(parameters, "parameters", self.size)
        if isinstance(bins, tuple):
            if len(bins) != len(self.shape):
                raise ValueError(f"SparseEffects: bins has {len(bins)} axes, those of shape={self.shape} are meant")
            bins = np.ravel_multi_index(
                [_whole(axis, "bins", length) for axis, length in zip(bins, self.shape, strict=True)], self.shape
            )
        where = _whole(bins, "bins", int(np.prod(self.shape)))
        values = values if isinstance(values, jax.Array) else jnp.asarray(np.asarray(values, float))
        if not which.shape == where.shape == values.shape or which.ndim != 1:
            raise ValueError(
                "SparseEffects: parameters, bins and values must have one shape (m,), got "
                f"{which.shape}, {where.shape}, {values.shape}"
            )
        if is_concrete(values) and not np.all(np.isfinite(values)):
            first = int(np.flatnonzero(~np.isfinite(np.asarray(values)))[0])
            raise ValueError(
                f"SparseEffects: the effect of parameter {which[first]} on bin {where[first]} is no number"
            )
        order = np.argsort(where, kind="stable")  # sums over sorted segments take less time
        self.parameters, self.bins = jnp.asarray(which[order]), jnp.asarray(where[order])
        self.values = values[order]

    @classmethod
    def from_dense(cls, table: ArrayLike) -> "SparseEffects":
        """The effects of a table of shape `(n, *shape)`, with the bins behind the axis of the parameters; zeros are
        left out.

        **Raises:** `ValueError` for a table with less than two axes, or with numbers that are not finite.
        """
        array = np.asarray(table)
        if array.ndim < 2:
            raise ValueError(f"SparseEffects.from_dense takes a table (parameters, *bins), got the shape {array.shape}")
        which, *bins = np.nonzero(array)
        return cls(which, tuple(bins), array[(which, *bins)], size=array.shape[0], shape=array.shape[1:])

    def __call__(self, theta: Float[Array, " n"]) -> Float[Array, "*shape"]:
        """The sum of the effects on each bin, of the `shape`, for parameters of shape `(size,)`."""
        theta = jnp.asarray(theta)
        theta = theta if jnp.issubdtype(theta.dtype, jnp.floating) else theta.astype(self.values.dtype)
        if theta.shape != (self.size,):
            raise ValueError(f"SparseEffects of {self.size} parameters got an array of shape {theta.shape}")
        products = self.values.astype(theta.dtype) * theta[self.parameters]
        count = int(np.prod(self.shape))
        return jax.ops.segment_sum(products, self.bins, count, indices_are_sorted=True).reshape(self.shape)


def _whole(numbers: ArrayLike, what: str, length: int) -> np.ndarray:
    array = np.asarray(numbers)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"SparseEffects: {what} must be whole numbers, got {array.dtype}")
    if array.size and not (array.min() >= 0 and array.max() < length):
        raise ValueError(f"SparseEffects: {what} must be from 0 to {length - 1}, got {array.min()} to {array.max()}")
    return array.astype(np.int32)
