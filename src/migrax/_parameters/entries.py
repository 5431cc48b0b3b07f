"""The parameters of a tree entry by entry: what a table or a file of numbers tells of them."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._util.typing import PyTree
from .names import Slot, flatten
from .parameter import bounds_of
from .resolve import value_of


def slots_of(params: PyTree, lanes: int) -> list[Slot]:
    """The slots of a tree whose arrays begin with so many axes of lanes: those of one lane."""
    first = jax.tree.map(lambda x: x[(0,) * lanes] if eqx.is_array(x) else x, params) if lanes else params
    return flatten(first)[1]


def values_by_name(params: PyTree, lanes: int) -> dict[str, np.ndarray]:
    """All parameters, free and fixed, one entry a number: arrays of the shape of the lanes."""
    return {name: value for name, _, value, _, _ in entries(params, lanes)}


def entries(params: PyTree, lanes: int) -> Iterator[tuple[str, bool, np.ndarray, np.ndarray, np.ndarray]]:
    """Name, whether it is free, value and both bounds, which are infinite where there is none, of each entry of each
    parameter. `lanes`: with how many axes of lanes the arrays of the tree begin."""
    leaves = flatten(params)[0]
    for slot in slots_of(params, lanes):
        leaf = leaves[slot.leaf]
        value = np.asarray(value_of(leaf))
        shape = (*value.shape[:lanes], slot.size)
        arrays = [value.reshape(shape)]
        arrays += [
            _like(b, s * np.inf, value, lanes).reshape(shape) for s, b in zip((-1, 1), bounds_of(leaf), strict=True)
        ]
        for i, (name, free) in enumerate(zip(slot.element_names(), slot.free, strict=True)):
            found, low, high = (a[..., i] for a in arrays)
            yield name, bool(free), found, low, high


def _like(bound: Any, none: float, value: np.ndarray, lanes: int) -> np.ndarray:
    """A bound in the shape of the value; the axes of lanes come first in both."""
    if bound is None:
        return np.full_like(value, none)
    array = np.asarray(bound)
    aligned = (*array.shape[:lanes], *(1,) * (value.ndim - array.ndim), *array.shape[lanes:])
    return np.broadcast_to(array.reshape(aligned), value.shape)
