"""Many lanes, each with matrices of its own: all at once, or in blocks that fit into the memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .typing import PyTree

_BYTES = {"cpu": 2**28, "gpu": 2**32, "tpu": 2**32}  # of the matrices of a block
_FEW = 2  # lanes that go one after the other: loops without lanes are traced and compiled in half the time
_COPIES = 12  # matrices that a search or a fit holds


def in_blocks(one: Callable[..., Any], lanes: tuple[PyTree, ...], n: int) -> Any:
    """`jax.vmap(one)(*lanes)` for lanes that hold matrices of `n` times `n` numbers. The blocks run one after the
    other, in one program, also under the user's own transforms."""
    arrays = jax.tree.leaves(lanes)
    count = arrays[0].shape[0]
    most = max(1, _BYTES.get(jax.default_backend(), 2**32) // (_COPIES * n**2 * jnp.result_type(float).itemsize))
    if count <= _FEW:
        return jax.lax.map(lambda lane: one(*lane), lanes)
    if count <= most:
        return jax.vmap(one)(*lanes)
    blocks = -(-count // most)
    size = -(-count // blocks)
    # the last block is filled up with the first lanes again
    order = jnp.arange(blocks * size) % count
    blocked = jax.tree.map(lambda a: a[order].reshape(blocks, size, *a.shape[1:]), lanes)
    done = jax.lax.map(lambda block: jax.vmap(one)(*block), blocked)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:count], done)
