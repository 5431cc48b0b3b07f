"""How much memory there is, and how many toys go into it."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._util.typing import PyTree

_SHARE = {"cpu": 0.25, "gpu": 0.6}  # of what is free, for the batches under way
_MOST = {"cpu": 2**14, "gpu": 2**20}  # toys of a batch: more of them are no faster
_CACHE = 2**18  # bytes of data of the toys that a core looks at together
_FEWEST_LANES = 16
_MOST_LANES = {"cpu": 2**9, "gpu": 2**17}


def free_bytes(device: Any) -> int:
    """Memory of a device that nobody uses."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    try:
        with open("/proc/meminfo") as lines:
            told = dict(line.split(":") for line in lines)
        return int(told["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 2**31


def budget(device: Any, at_once: int) -> int:
    """Bytes for each of the batches that are under way together."""
    return int(_SHARE[_kind(device)] * free_bytes(device)) // at_once


def size_of(tree: PyTree) -> int:
    """Bytes of the arrays of a tree, or of their shapes."""
    return sum(int(np.prod(np.shape(a))) * _width(a) for a in jax.tree.leaves(tree) if hasattr(a, "dtype"))


def _width(a: Any) -> int:
    return 16 if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a.dtype.itemsize


def lanes_for(device: Any, toy_bytes: int, n_free: int) -> int:
    """How many toys are looked at together: on a CPU as many as its cache holds, on a GPU as many as fill it."""
    kind = _kind(device)
    one = toy_bytes + 8 * (min(3 * n_free**2, 30 * n_free) + 10 * n_free)
    room = _CACHE if kind == "cpu" else free_bytes(device) // 16
    return max(_FEWEST_LANES, min(_MOST_LANES[kind], power_of_two_below(room // one)))


def batch_for(device: Any, one_bytes: int, n: int, at_once: int, lanes: int) -> int:
    """How many toys make a batch: a power of two, so that studies of about the same size share a compiled program."""
    share = -(-n // (2 * at_once)) if n > 2048 else n  # something to do for all who are at it
    most = min(_MOST[_kind(device)], power_of_two_below(budget(device, at_once) // (2 * one_bytes)))
    return max(lanes, min(most, power_of_two_above(share)))


def power_of_two_below(n: int) -> int:
    return 1 << (max(int(n), 1).bit_length() - 1)


def power_of_two_above(n: int) -> int:
    return 1 << (max(int(n), 1) - 1).bit_length()


def _kind(device: Any) -> str:
    return "cpu" if device.platform == "cpu" else "gpu"
