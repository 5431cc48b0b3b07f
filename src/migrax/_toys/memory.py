"""The free memory of a device, and the number of toys that fit into it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._util.memory import free_host_bytes
from .._util.typing import PyTree

_SHARE = {"cpu": 0.25, "gpu": 0.6}  # fraction of the free memory that the running batches may use
_MAX_BATCH = {"cpu": 2**14, "gpu": 2**20}  # toys per batch; larger batches are no faster
_CACHE = 2**18  # bytes of data of the toys that a core fits together
_FEWEST_LANES = 16
_MOST_LANES = {"cpu": 2**9, "gpu": 2**17}


def free_bytes(device: Any) -> int:
    """Returns the free memory of a device in bytes."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    return free_host_bytes()


def budget(device: Any, at_once: int) -> int:
    """Returns the bytes available to each of the `at_once` batches that run together."""
    return int(_SHARE[_kind(device)] * free_bytes(device)) // at_once


def size_of(tree: PyTree) -> int:
    """Returns the bytes of the arrays of a tree, or of the arrays that shapes stand for."""
    return sum(int(np.prod(np.shape(a))) * _width(a) for a in jax.tree.leaves(tree) if hasattr(a, "dtype"))


def _width(a: Any) -> int:
    return 16 if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a.dtype.itemsize


def lanes_for(device: Any, toy_bytes: int, n_free: int) -> int:
    """Returns the number of toys fitted together: on a CPU as many as its cache holds, on a GPU as many as fill it."""
    kind = _kind(device)
    bytes_per_lane = toy_bytes + 8 * (min(3 * n_free**2, 30 * n_free) + 10 * n_free)
    available = _CACHE if kind == "cpu" else free_bytes(device) // 16
    return max(_FEWEST_LANES, min(_MOST_LANES[kind], power_of_two_below(available // bytes_per_lane)))


def batch_for(device: Any, one_bytes: int, n: int, at_once: int, lanes: int) -> int:
    """Returns the toys per batch: a power of two, so that studies of about the same size share a compiled program."""
    share = -(-n // (2 * at_once)) if n > 2048 else n  # gives every worker something to do
    largest = min(_MAX_BATCH[_kind(device)], power_of_two_below(budget(device, at_once) // (2 * one_bytes)))
    return max(lanes, min(largest, power_of_two_above(share)))


def power_of_two_below(n: int) -> int:
    return 1 << (max(int(n), 1).bit_length() - 1)


def power_of_two_above(n: int) -> int:
    return 1 << (max(int(n), 1) - 1).bit_length()


def _kind(device: Any) -> str:
    return "cpu" if device.platform == "cpu" else "gpu"
