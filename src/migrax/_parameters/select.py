"""Selecting parameters by name, or by a function that picks nodes."""

from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from .._hints.calls import given
from .._util.typing import PyTree
from .names import Slot, constants, flatten, floats, path_name, unknown_name

Where: TypeAlias = str | Callable[[Any], Any] | Sequence["str | Callable[[Any], Any]"]


def select(params: PyTree, where: Where) -> tuple[int, ...]:
    """Positions (in the order of `names(params)`) of the free parameters that `where` picks.

    **Arguments:**

    - `where`: a name (`"mu"`, `"gamma[3]"`; the name of a vector parameter picks all its entries), a function that
        picks nodes (`lambda p: p.signal.mu`, as in `equinox.tree_at`), or a sequence of these. If some entries of a
        vector are fixed, the free ones are picked.

    **Raises:** `ValueError` for an unknown name (the message lists the nearest ones), a fixed parameter, or a function
    that picks no parameter.
    """
    if isinstance(where, Sequence) and not isinstance(where, str):
        return tuple(position for item in where for position in select(params, item))
    _, slots, _ = flatten(params)
    positions: dict[str, np.ndarray] = {}
    start = 0
    for slot in slots:
        indices = np.full(slot.size, -1)
        indices[slot.free] = np.arange(start, start + np.sum(slot.free))
        positions[slot.name] = indices.reshape(slot.shape)
        start += int(np.sum(slot.free))
    picked = _select_entries(params, where, positions)
    picked = [x[x >= 0] if np.any(x >= 0) else x for x in picked]  # the free entries of a vector
    result = tuple(int(i) for x in picked for i in np.ravel(x))
    if -1 in result:
        fixed = ", ".join(repr(slot.name) for slot in slots if slot.fixed)
        raise ValueError(f"{where!r} picks a fixed parameter (fixed are: {fixed}); a fit has no error or value for it")
    return result


def pick(params: PyTree, where: Where) -> list[tuple[Slot, np.ndarray]]:
    """The parameters, free or fixed, that `where` picks, each with a mask of its entries in row-major order.

    **Raises:** `ValueError` for an unknown name.
    """
    if isinstance(where, Sequence) and not isinstance(where, str):
        return [pair for item in where for pair in pick(params, item)]
    _, slots, _ = flatten(params)
    indices = _entry_indices(slots)
    picked = np.concatenate([np.ravel(x) for x in _select_entries(params, where, indices)])
    masks = ((slot, np.isin(indices[slot.name].ravel(), picked)) for slot in slots)
    return [(slot, mask) for slot, mask in masks if np.any(mask)]


def _entry_indices(slots: Sequence[Slot]) -> dict[str, np.ndarray]:
    """The indices of each parameter's entries, by name; the entries of all parameters are numbered consecutively."""
    starts = np.cumsum([0, *(slot.size for slot in slots)])
    return {
        slot.name: np.arange(start, start + slot.size).reshape(slot.shape)
        for slot, start in zip(slots, starts, strict=False)
    }


class Picked(NamedTuple):
    """Selected values of a resolved tree."""

    values: Array  # one vector
    shaped: Array  # the same in the shape of the node, if there is only one, else the vector
    names: list[str]  # one for each number


def pick_values(tree: PyTree, where: Where) -> Picked:
    """The arrays of a resolved tree that `where` picks, with names and functions as in `select`.

    **Raises:** `ValueError` for an unknown name (the message lists the nearest ones), or a function that picks nothing.
    """
    with_path, treedef = jtu.tree_flatten_with_path(tree)
    leaves = [leaf for _, leaf in with_path]
    slots = [Slot(path_name(path), jnp.shape(x), False, i) for i, (path, x) in enumerate(with_path) if floats(x)]
    indices, starts = _entry_indices(slots), np.cumsum([0, *(slot.size for slot in slots)])
    marks: list[Any] = [None] * len(leaves)
    for slot in slots:
        marks[slot.leaf] = indices[slot.name]
    index: list[np.ndarray] = []
    for item in where if isinstance(where, Sequence) and not isinstance(where, str) else (where,):
        if isinstance(item, str):
            index += _by_name(item, slots, indices, ())
        else:
            index += [np.asarray(x) for x in jtu.tree_leaves(item(jtu.tree_unflatten(treedef, marks)))]
    if not index:
        raise ValueError("the function given to select parameters picked none; pick nodes that hold a Parameter")
    flat = np.concatenate([np.ravel(x) for x in index])
    names = [name for slot in slots for name in slot.element_names()]
    if np.unique(flat).size < flat.size:
        duplicate = next(names[i] for k, i in enumerate(flat) if i in flat[:k])
        raise ValueError(f"the parameter {duplicate!r} is picked twice")
    # Concatenate only the leaves that are picked from: a model may have hundreds of others, and of constraints.
    used = [i for i, slot in enumerate(slots) if np.any((flat >= starts[i]) & (flat < starts[i] + slot.size))]
    values = jnp.concatenate([jnp.ravel(jnp.asarray(leaves[slots[i].leaf])) for i in used])
    position = {number: k for k, number in enumerate(n for i in used for n in range(starts[i], starts[i + 1]))}
    order = np.array([position[i] for i in flat])
    values = values if np.array_equal(order, np.arange(values.size)) else values[order]
    return Picked(values, values.reshape(index[0].shape) if len(index) == 1 else values, [names[i] for i in flat])


def _select_entries(
    params: PyTree, where: "str | Callable[[Any], Any]", numbers: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """The entries of `numbers`, a dictionary by parameter name, for the parameters that `where` picks."""
    if not (isinstance(where, str) or callable(where)):
        got = repr(where)
        if eqx.is_array(where) and where.dtype.kind in "biuf":  # not of names
            got = f"{given(where)}: do data stand here? They come before, as in mx.profile(nll, result, data, 'mu')"
        raise TypeError(f"a parameter is picked by its name, or by a function that picks nodes; got {got}")
    leaves, slots, treedef = flatten(params)
    if isinstance(where, str):
        return _by_name(where, slots, numbers, constants(params))
    marks: list[Any] = [None] * len(leaves)
    for slot in slots:
        marks[slot.leaf] = numbers[slot.name]
    picked = [np.ravel(x) for x in jtu.tree_leaves(where(jtu.tree_unflatten(treedef, marks)))]
    if not picked:
        raise ValueError("the function given to select parameters picked none; pick nodes that hold a Parameter")
    return picked


def _by_name(
    where: str, slots: Sequence[Slot], positions: dict[str, np.ndarray], constants: Container[str]
) -> list[np.ndarray]:
    if where in positions:
        return [positions[where]]
    for slot in slots:
        elements = slot.element_names()
        if where in elements:
            return [np.ravel(positions[slot.name])[elements.index(where)]]
    prefix = [positions[slot.name] for slot in slots if slot.name.startswith((f"{where}.", f"{where}["))]
    if prefix:
        return prefix
    raise ValueError(unknown_name(where, [n for slot in slots for n in (slot.name, *slot.element_names())], constants))
