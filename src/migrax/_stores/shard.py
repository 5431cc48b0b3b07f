"""Parts of a study of toys, for jobs on machines that share nothing: each fits a range of its batches."""

from typing import Any

import numpy as np

STORE_BATCH = 4096  # toys per stored batch, for each device


def check_shard(shard: Any) -> tuple[int, int] | None:
    """The number of a shard and that of all shards. **Raises:** `ValueError` unless it is `(i, n)` with 0 <= i < n."""
    if shard is None:
        return None
    if not isinstance(shard, tuple | list) or len(shard) != 2 or not all(map(_is_whole, shard)):
        raise ValueError(f"shard is (i, n), two whole numbers: the i-th of n parts; got {shard!r}")
    i, n = (int(number) for number in shard)
    if not 0 <= i < n:
        raise ValueError(f"shard is (i, n) with i from 0 to n - 1, got ({i}, {n})")
    return i, n


def batches_of(shard: tuple[int, int] | None, n_batches: int, size: int) -> range:
    """The batches of a shard, or all. **Raises:** `ValueError` for more shards than batches."""
    if shard is None:
        return range(n_batches)
    i, n = shard
    if n > n_batches:
        raise ValueError(
            f"{n} shards of a study of {n_batches} batches of {size} toys: take at most {n_batches} shards, or a "
            "smaller batch_size"
        )
    return range(n_batches * i // n, n_batches * (i + 1) // n)


def check_batch_size(batch_size: Any) -> int | None:
    """**Raises:** `ValueError` unless it is a whole number of at least 1, or `None`."""
    is_number = isinstance(batch_size, int | float | np.integer) and not isinstance(batch_size, bool)
    if batch_size is not None and not (is_number and batch_size >= 1 and float(batch_size).is_integer()):
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
    return None if batch_size is None else int(batch_size)


def _is_whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)
