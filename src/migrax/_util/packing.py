"""Many small arrays as a few vectors: a program takes, differentiates and carries each array on its own."""

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from .tracing import is_concrete
from .typing import PyTree

FEW = 32  # fewer small arrays than this are not packed
_SMALL = 64  # numbers in an array that is packed


class _Array:
    """Stands for an array among static leaves."""


_ARRAY = _Array()


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

    def undone(self, vectors: Sequence[Any]) -> list[Any]:
        """The arrays of packed ones."""
        arrays: list[Any] = [None] * len(self.avals)
        for members, vector in zip(self.vectors, vectors, strict=True):
            pieces = [vector] if len(members) == 1 else lax.split(vector, [self.avals[i].size for i in members])
            for i, piece in zip(members, pieces, strict=True):
                arrays[i] = piece if piece.shape == self.avals[i].shape else lax.reshape(piece, self.avals[i].shape)
        return arrays


class Packed(eqx.Module):
    """A tree of many small arrays, packed."""

    vectors: list[Array]
    packing: Packing = eqx.field(static=True)
    treedef: Any = eqx.field(static=True)
    rest: tuple[Any, ...] = eqx.field(static=True)  # the leaves that are no arrays

    def tree(self) -> PyTree:
        """The tree itself."""
        arrays = iter(self.packing.undone(self.vectors))
        leaves = [next(arrays) if leaf is _ARRAY else leaf for leaf in self.rest]
        return jax.tree.unflatten(self.treedef, leaves)


def pack(tree: PyTree) -> PyTree:
    """The tree as a `Packed`, if it has many small arrays."""
    leaves, treedef = jax.tree.flatten(tree)
    arrays = [leaf for leaf in leaves if eqx.is_array(leaf)]
    if len(arrays) < 2 * FEW:
        return tree
    packing = packing_of(arrays, range(len(arrays)))
    rest = tuple(_ARRAY if eqx.is_array(leaf) else leaf for leaf in leaves)
    return Packed(packing(arrays), packing, treedef, rest)


def unpack(tree: PyTree) -> PyTree:
    """The tree that was given to `pack`."""
    return tree.tree() if isinstance(tree, Packed) else tree


def packing_of(arrays: Sequence[Any], used: Collection[int]) -> Packing:
    """Packs small arrays of one dtype into one vector, if there are many; `used`: which arrays are needed."""
    avals = tuple(jax.ShapeDtypeStruct(np.shape(a), a.dtype) for a in arrays)
    small: dict[Any, list[int]] = {}
    for i, aval in enumerate(avals):
        if _is_number(aval.dtype) and aval.size <= _SMALL and i in used:
            small.setdefault(aval.dtype, []).append(i)
    vectors = [tuple(members) for members in small.values() if len(members) >= FEW]
    together = {i for members in vectors for i in members}
    vectors += [(i,) for i in range(len(avals)) if i not in together and i in used]
    return Packing(avals, tuple(vectors))


def _is_number(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "biuf"  # keys of random numbers have dtypes of their own


def _joined(arrays: list[Any]) -> Any:
    if len(arrays) == 1:
        return arrays[0]
    if is_concrete(*arrays):
        return jnp.asarray(np.concatenate([np.ravel(np.asarray(a)) for a in arrays]))
    return lax.concatenate([lax.reshape(a, (math.prod(np.shape(a)),)) for a in arrays], 0)
