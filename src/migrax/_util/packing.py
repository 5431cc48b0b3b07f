"""Many small arrays as a few vectors."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .tracing import is_concrete

FEW = 32  # fewer small arrays than this are not packed
_SMALL = 64  # numbers in an array that is packed


class Packing(NamedTuple):
    """How arrays are packed.

    - `avals`: shape and dtype of each array.
    - `vectors`: which arrays each packed one holds, in this order; one that nothing needs is in none.
    """

    avals: tuple[jax.ShapeDtypeStruct, ...]
    vectors: tuple[tuple[int, ...], ...]

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """The packed arrays."""
        return [_joined([arrays[i] for i in members]) for members in self.vectors]

    @property
    def is_made(self) -> list[bool]:
        """Which of the packed arrays are made anew at each call."""
        return [len(members) > 1 for members in self.vectors]

    def shapes(self) -> list[jax.ShapeDtypeStruct]:
        """Shape and dtype of each packed array."""
        out = []
        for members in self.vectors:
            avals = [self.avals[i] for i in members]
            whole = jax.ShapeDtypeStruct((sum(a.size for a in avals),), avals[0].dtype)
            out.append(avals[0] if len(avals) == 1 else whole)
        return out


def packing_of(arrays: Sequence[Any], is_used: Callable[[int], bool]) -> Packing:
    """Packs small arrays of one dtype into one vector, if there are many; `is_used(i)`: whether array `i` is needed."""
    avals = tuple(jax.ShapeDtypeStruct(np.shape(a), a.dtype) for a in arrays)
    small: dict[Any, list[int]] = {}
    for i, aval in enumerate(avals):
        if aval.dtype.kind in "biuf" and aval.size <= _SMALL and is_used(i):
            small.setdefault(aval.dtype, []).append(i)
    vectors = [tuple(members) for members in small.values() if len(members) >= FEW]
    together = {i for members in vectors for i in members}
    vectors += [(i,) for i in range(len(avals)) if i not in together and is_used(i)]
    return Packing(avals, tuple(vectors))


def _joined(arrays: list[Any]) -> Any:
    if len(arrays) == 1:
        return arrays[0]
    if is_concrete(*arrays):
        return jnp.asarray(np.concatenate([np.ravel(np.asarray(a)) for a in arrays]))
    return lax.concatenate([lax.reshape(a, (math.prod(np.shape(a)),)) for a in arrays], 0)
