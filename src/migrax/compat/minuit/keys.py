"""The numbers selected by a name, a position, a slice, a list of these, or a function that picks nodes."""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..._parameters.names import constants, flatten, unknown_name
from ..._parameters.select import pick
from ..._util.typing import PyTree


def named(name: str, names: Sequence[str], tree: PyTree = None) -> int | list[int]:
    """The position of a name; a list for a vector parameter, or for all numbers below a node of the tree.

    **Raises:** `ValueError` for an unknown name, with similar ones.
    """
    if name in names:
        return names.index(name)
    matches = [i for i, n in enumerate(names) if n.startswith((f"{name}[", f"{name}."))]
    if not matches:
        raise ValueError(unknown_name(name, names, constants(tree)))
    return matches


def positions(key: Any, names: Sequence[str], tree: PyTree) -> int | list[int]:
    """One position for a key of a single number, a list for any other.

    **Arguments:**

    - `key`: a name, a position (negative ones count from the end), `...`, a slice of positions or names, a mask of
        booleans, a sequence of all these, or a function that picks nodes of `tree`.
    - `names`: those of all numbers of `tree`, in their order.

    **Raises:** `ValueError` for an unknown name, `IndexError` for a position that does not exist or a mask of another
    length, `TypeError` for anything else.
    """
    n = len(names)
    if isinstance(key, str):
        return named(key, names, tree)
    if callable(key):
        return _of_nodes(key, tree)
    if key is ...:
        return list(range(n))
    if isinstance(key, slice):
        start, stop = (_end(end, names, tree) for end in (key.start, key.stop))
        return list(range(n))[slice(start, stop, key.step)]
    if isinstance(key, Iterable):
        return _of_many(list(key), names, tree)
    try:
        index = operator.index(key)
    except TypeError:
        raise TypeError(f"a parameter is known by its name or its position, got {key!r}") from None
    if not -n <= index < n:
        raise IndexError(f"there are {n} parameters, got the position {index}")
    return index % n


def one(key: Any, names: Sequence[str], tree: PyTree, what: str) -> int:
    """As `positions`, for exactly one number. **Raises:** also `ValueError` for several."""
    found_positions = positions(key, names, tree)
    if isinstance(found_positions, int):
        return found_positions
    if len(found_positions) != 1:
        raise ValueError(
            f"{what} takes one parameter, {key!r} are {', '.join(names[i] for i in found_positions) or 'none'}"
        )
    return found_positions[0]


def _end(end: Any, names: Sequence[str], tree: PyTree) -> Any:
    if not isinstance(end, str):
        return end
    position = named(end, names, tree)
    return position if isinstance(position, int) else position[0]


def _of_many(keys: list[Any], names: Sequence[str], tree: PyTree) -> list[int]:
    if keys and all(isinstance(k, bool | np.bool_) for k in keys):
        if len(keys) != len(names):
            raise IndexError(f"a mask needs {len(names)} booleans, one for each parameter, got {len(keys)}")
        return [i for i, chosen in enumerate(keys) if chosen]
    groups = [positions(k, names, tree) for k in keys]
    return [i for group in groups for i in ([group] if isinstance(group, int) else group)]


def _of_nodes(key: Callable[[Any], Any], tree: PyTree) -> int | list[int]:
    starts, position = {}, 0
    for slot in flatten(tree)[1]:
        starts[slot.name] = position
        position += slot.size
    selected = [starts[slot.name] + int(i) for slot, mask in pick(tree, key) for i in np.flatnonzero(mask)]
    return selected[0] if len(selected) == 1 else selected
