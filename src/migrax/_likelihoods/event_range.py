"""The range in which events are accepted, as given to an unbinned likelihood."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._hints.calls import given
from .._util.tracing import is_concrete
from ..distributions._ranges import pairs_of

EventRange = tuple[Float[Array, "ranges 2"], ...]


def as_range(range: Any) -> EventRange | None:
    """The ranges of each observable: `(low, high)`, a list of these, or for several observables a tuple or list with
    one such list each.

    **Raises:** `TypeError` or `ValueError` for anything else, and for ranges that are empty, overlap or are unsorted.
    """
    if range is None:
        return None
    if not isinstance(range, list | tuple) and np.ndim(range) not in (1, 2):
        raise TypeError(f"range takes (low, high), or a list of these, got {given(range)}")
    entries = list(range)
    if not entries:
        raise ValueError("range takes (low, high), or a list of these, got none")
    depths = {_depth(entry) for entry in entries}
    if depths == {0} and len(entries) == 2:
        entries = [[tuple(entries)]]
    elif depths == {1}:
        entries = [entries]
    elif depths != {2}:
        raise ValueError(
            f"range takes (low, high), a list of these, or a list of these for each observable, got {range!r}"
        )
    return tuple(_range_array(entry, len(entries) == 1) for entry in entries)


def _range_array(ranges: Any, is_only: bool) -> Float[Array, "ranges 2"]:
    try:
        pairs = pairs_of(ranges, "range")
    except ValueError as error:
        hint = "; for two observables it is ([(low, high)], [(low, high)])" if is_only and len(ranges) == 2 else ""
        raise ValueError(f"{error}{hint}") from None
    assert pairs is not None
    return jnp.stack([jnp.stack([jnp.asarray(end, float) for end in pair]) for pair in pairs])


def _depth(entry: Any) -> int:
    if isinstance(entry, list | tuple):
        return 1 + max((_depth(item) for item in entry), default=0)
    return jnp.ndim(entry)


def check_observables(ranges: EventRange | None, data: Any) -> None:
    """**Raises:** `ValueError` unless there are ranges for each observable of the events in memory."""
    x = data.x if hasattr(data, "x") else data
    if ranges is not None and isinstance(x, jax.Array | np.ndarray):
        pieces_of(ranges, int(np.prod(x.shape[1:])))


def pieces_of(ranges: EventRange, dim: int) -> list[Any]:
    """The ranges of each observable, shape (k, 2).

    **Raises:** `ValueError` unless there are ranges for each of the `dim` observables."""
    if len(ranges) != dim:
        raise ValueError(f"range is that of {len(ranges)} observables, the events have {dim}")
    return [np.asarray(ends) if is_concrete(ends) else ends for ends in ranges]
