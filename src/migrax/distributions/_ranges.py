"""Ranges of one observable with gaps between them: pairs of ends, and bins that need not be adjacent."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from .._util.tracing import is_concrete, is_concrete_tree

Pairs = tuple[tuple[Any, Any], ...]


def pairs_of(ranges: Any, what: str) -> Pairs | None:
    """The ranges `(low, high)` of a list of pairs or an array of shape `(ranges, 2)`; `None` for anything else.

    **Raises:** `ValueError` for two numbers in a list, entries that are not pairs, and ranges that are known (not
    traced) and empty, overlapping or not in order.
    """
    if isinstance(ranges, list | tuple):
        pairs = _of_list(ranges, what)
    elif np.ndim(ranges) == 2 and np.shape(ranges)[1] == 2:
        pairs = tuple((row[0], row[1]) for row in ranges)
    else:
        return None
    if not pairs:
        raise ValueError(f"{what} takes at least one range (low, high), got none")
    ends = [end for pair in pairs for end in pair]
    if is_concrete(*ends):
        _check_order([np.asarray(end) for end in ends], what)
    return pairs


def _of_list(ranges: Sequence[Any], what: str) -> Pairs:
    if len(ranges) == 2 and all(not isinstance(end, list | tuple) and np.ndim(end) == 0 for end in ranges):
        low, high = ranges
        raise ValueError(f"{what} takes a list of ranges, [({low}, {high})], or two numbers, got {ranges!r}")
    for i, pair in enumerate(ranges):
        if not (isinstance(pair, list | tuple) or np.ndim(pair) == 1) or len(pair) != 2:
            raise ValueError(f"{what} takes ranges (low, high), but range {i} is {pair!r}")
    return tuple((pair[0], pair[1]) for pair in ranges)


def _check_order(ends: list[np.ndarray], what: str) -> None:
    for i in range(0, len(ends), 2):
        low, high = ends[i], ends[i + 1]
        if np.any(low >= high) or np.any(np.isnan(low) | np.isnan(high)):
            raise ValueError(f"{what}: the range ({low}, {high}) is empty; it takes (low, high) with low below high")
        if i and np.any(low < ends[i - 1]):
            order = "overlap" if np.all(high > ends[i - 2]) else "are not in order"
            before = f"({ends[i - 2]}, {ends[i - 1]})"
            raise ValueError(f"{what}: the ranges {before} and ({low}, {high}) {order}; they must be increasing")


def outside_of(x: Array, ranges: Pairs) -> Bool[Array, "..."]:
    """Whether each `x` is in none of the ranges, which include their ends. A NaN is not outside."""
    outside = (x < ranges[0][0]) | (x > ranges[-1][1])
    for (_, start), (stop, _) in itertools.pairwise(ranges):
        outside = outside | ((x > start) & (x < stop))
    return outside


def bin_ends(edges: ArrayLike) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """The lower and the upper ends of bins, given by `n + 1` edges, or by rows `(low, high)`, shape `(n, 2)`, with
    possible gaps between them. Of NumPy if they are known (not traced): what is made of them alone is no part of a
    program then.

    **Raises:** `ValueError` for other shapes, and if the bins are known (not traced) and do not increase.
    """
    known = is_concrete_tree(edges)
    array: Any = np.asarray(edges) if known else jnp.asarray(edges)
    array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype))
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(jnp.result_type(float))
    if array.ndim == 2 and array.shape[1] == 2 and array.shape[0] > 0:
        low, high = array[:, 0], array[:, 1]
    elif array.ndim == 1 and array.size >= 2:
        low, high = array[:-1], array[1:]
    else:
        raise ValueError(
            f"the edges of bins must have shape (n + 1,), or (n, 2) for bins with gaps between them, got {array.shape}"
        )
    if known:
        if not np.all(in_order := high > low):
            i = int(np.argmin(in_order))
            raise ValueError(f"the edges of bins must be increasing: bin {i} goes from {low[i]} to {high[i]}")
        if not np.all(in_order := low[1:] >= high[:-1]):
            i = int(np.argmin(in_order))
            raise ValueError(
                f"bins must be increasing and not overlap: bin {i} ends at {high[i]}, bin {i + 1} begins at "
                f"{low[i + 1]}"
            )
    return low, high


def known_bins(
    edges: ArrayLike, low: ArrayLike = -np.inf, high: ArrayLike = np.inf
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The edges of adjacent bins, their middles and their widths, if they are known (not traced), finite and in a known
    range: what is made of them alone is computed once, and not in each evaluation. Else `None`."""
    if not is_concrete(edges, low, high) or np.ndim(edges) != 1 or np.ndim(low) or np.ndim(high):
        return None
    points = np.asarray(edges)
    if not np.issubdtype(points.dtype, np.floating):
        points = points.astype(float)
    if not (np.all(np.isfinite(points)) and points[0] >= np.asarray(low) and points[-1] <= np.asarray(high)):
        return None
    exact = points.astype(float)
    middle, width = 0.5 * (exact[1:] + exact[:-1]), np.diff(exact)
    return points, middle.astype(points.dtype), width.astype(points.dtype)


def known_finite(*ends: ArrayLike) -> bool:
    """Whether all ends of intervals are known (not traced) and finite."""
    return is_concrete(*ends) and all(np.all(np.isfinite(np.asarray(end))) for end in ends)
