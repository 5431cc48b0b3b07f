"""Functions shared by densities made of pieces between fixed points."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .._util.logs import log
from .._util.tracing import is_concrete


def floats(a: ArrayLike) -> Array:
    """An array of floating-point numbers."""
    a = jnp.asarray(a)
    return a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(jnp.result_type(float))


def growing(points: ArrayLike, what: str) -> Float[Array, " m"]:
    """**Raises:** `ValueError` unless the points are a vector of at least two finite, increasing numbers."""
    array = floats(points)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"{what} must have one axis of at least two, got shape {array.shape}")
    if is_concrete(array):
        values = np.asarray(array)
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{what} must be finite, got {values[int(np.argmin(np.isfinite(values)))]}")
        if not np.all(np.diff(values) > 0):
            i = int(np.argmin(np.diff(values) > 0))
            raise ValueError(f"{what} must be increasing: {values[i]} is followed by {values[i + 1]}")
    return array


def check_contents(contents: Array, what: str) -> None:
    """**Raises:** `ValueError` if contents are known (not traced) and negative, not finite or all 0."""
    if not is_concrete(contents):
        return
    values = np.asarray(contents)
    is_valid = np.isfinite(values) & (values >= 0)
    if not np.all(is_valid):
        index = np.unravel_index(int(np.argmin(is_valid)), values.shape)
        raise ValueError(f"{what}[{', '.join(map(str, index))}] is {values[index]}: a density cannot be made of it")
    if not np.all(np.any(values > 0, axis=-1)):
        raise ValueError(f"all {what} are 0")


def log_or_nothing(a: Any) -> Array:
    """The log; -inf at 0, with derivatives 0, and NaN below."""
    positive = a > 0
    return jnp.where(positive, log(jnp.where(positive, a, 1.0)), jnp.where(a == 0, -jnp.inf, jnp.nan))


def lookup(table: Float[Array, "*lanes n"], index: Int[Array, "..."]) -> Float[Array, "..."]:
    """The entries `index` of a table, whose leading axes broadcast with the index."""
    if table.ndim == 1:
        return table[index]
    shape = jnp.broadcast_shapes(table.shape[:-1], index.shape)
    table = jnp.broadcast_to(table, (*shape, table.shape[-1]))
    return jnp.take_along_axis(table, jnp.broadcast_to(index, shape)[..., None], axis=-1)[..., 0]


def piece_of(x: Array, edges: Float[Array, " m"]) -> tuple[Int[Array, "..."], Array]:
    """The piece between `edges` that contains each `x`, 0 if none does, and whether one does. A piece includes its
    lower end; the last one both."""
    inside = (x >= edges[0]) & (x <= edges[-1])
    index = jnp.clip(jnp.searchsorted(edges, x, side="right") - 1, 0, edges.size - 2)
    return jnp.where(inside, index, 0), inside


def overlaps(low: Array, high: Array, edges: Float[Array, " m"]) -> tuple[Array, Array]:
    """The start and the end of the part of each piece between `low` and `high`, of shape (..., pieces); they are equal
    if there is none."""
    a = jnp.clip(low[..., None], edges[:-1], edges[1:])
    return a, jnp.clip(high[..., None], a, edges[1:])


def choose(key: Array, weights: Float[Array, "*lanes n"], shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Draw pieces in proportion to their weights, of shape (*shape, *lanes). Returns them and their weights. A piece of
    weight 0 is never drawn."""
    sums = jnp.cumsum(weights, axis=-1)
    lanes = weights.shape[:-1]
    u = jax.random.uniform(key, (*shape, *lanes), dtype=weights.dtype) * sums[..., -1]
    if not lanes:
        index = jnp.searchsorted(sums, u, side="right")
    else:
        flat = u.reshape(-1, sums[..., 0].size)
        find = jax.vmap(lambda s, u: jnp.searchsorted(s, u, side="right"), in_axes=(0, 1), out_axes=1)
        index = find(sums.reshape(-1, sums.shape[-1]), flat).reshape(u.shape)
    index = jnp.clip(index, 0, weights.shape[-1] - 1)
    return index, lookup(weights, index)
