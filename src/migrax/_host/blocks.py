"""Many lanes, each with its own matrices: all at once, or in blocks that fit into memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._util.typing import PyTree
from . import flow
from .xp import is_on_host

_BYTES = {"cpu": 2**28, "gpu": 2**32, "tpu": 2**32}  # of the matrices of one block
_FEW = 2  # up to this many lanes run one after another, because unbatched loops compile in half the time
_COPIES = 12  # matrices held by a search or a fit
_VECTORS = 200  # held by a search without matrices


def in_blocks(one: Callable[..., Any], lanes: tuple[PyTree, ...], n: int, *, with_matrices: bool = True) -> Any:
    """Returns `jax.vmap(one)(*lanes)` for lanes that hold matrices of `n` times `n` numbers, or none of that size. The
    blocks run one after another in one program, even under the user's own transforms; on the host, so do the lanes."""
    arrays = jax.tree.leaves(lanes)
    count = arrays[0].shape[0]
    if is_on_host():
        return flow.vmap(one)(*lanes)
    numbers = _COPIES * n**2 if with_matrices else min(_COPIES * n**2, _VECTORS * n)
    max_lanes = max(1, _BYTES.get(jax.default_backend(), 2**32) // (numbers * jnp.result_type(float).itemsize))
    if count <= _FEW:
        return jax.lax.map(lambda lane: one(*lane), lanes)
    if count <= max_lanes:
        return jax.vmap(one)(*lanes)
    n_blocks = -(-count // max_lanes)
    size = -(-count // n_blocks)
    # the last block is padded with the first lanes
    indices = jnp.arange(n_blocks * size) % count
    blocked = jax.tree.map(lambda a: a[indices].reshape(n_blocks, size, *a.shape[1:]), lanes)
    results = jax.lax.map(lambda block: jax.vmap(one)(*block), blocked)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:count], results)
