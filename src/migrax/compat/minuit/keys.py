"""Which numbers are meant by a name, a position, a slice, a list of these, or a function that picks nodes."""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..._parameters.names import constants, flatten, unknown_name
from ..._parameters.select import pick
from ..._util.typing import PyTree


def named(name: str, names: Sequence[str], tree: PyTree = None) -> int | list[int]:
    """The position of a name; of a vector parameter, or of all below a node of the tree, a list.

    **Raises:** `ValueError` for an unknown name, with the near ones.
    """
    if name in names:
        return names.index(name)
    found = [i for i, n in enumerate(names) if n.startswith((f"{name}[", f"{name}."))]
    if not found:
        raise ValueError(unknown_name(name, names, constants(tree)))
    return found


def positions(key: Any, names: Sequence[str], tree: PyTree) -> int | list[int]:
    """One position for what is one number, a list for all else.

    **Arguments:**

    - `key`: a name, a position (negative ones count from the end), `...`, a slice of positions or names, a mask of
        booleans, a sequence of all these, or a function that picks nodes of `tree`.
    - `names`: of all numbers of `tree`, in their order.

    **Raises:** `ValueError` for an unknown name, `IndexError` for a position that is not there or a mask of another
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
    """As `positions`, for one number. **Raises:** also `ValueError` for several."""
    found = positions(key, names, tree)
    if isinstance(found, int):
        return found
    if len(found) != 1:
        raise ValueError(f"{what} takes one parameter, {key!r} are {', '.join(names[i] for i in found) or 'none'}")
    return found[0]


def _end(end: Any, names: Sequence[str], tree: PyTree) -> Any:
    if not isinstance(end, str):
        return end
    found = named(end, names, tree)
    return found if isinstance(found, int) else found[0]


def _of_many(keys: list[Any], names: Sequence[str], tree: PyTree) -> list[int]:
    if keys and all(isinstance(k, bool | np.bool_) for k in keys):
        if len(keys) != len(names):
            raise IndexError(f"a mask needs {len(names)} booleans, one for each parameter, got {len(keys)}")
        return [i for i, chosen in enumerate(keys) if chosen]
    found = [positions(k, names, tree) for k in keys]
    return [i for one in found for i in ([one] if isinstance(one, int) else one)]


def _of_nodes(key: Callable[[Any], Any], tree: PyTree) -> int | list[int]:
    starts, position = {}, 0
    for slot in flatten(tree)[1]:
        starts[slot.name] = position
        position += slot.size
    found = [starts[slot.name] + int(i) for slot, mask in pick(tree, key) for i in np.flatnonzero(mask)]
    return found[0] if len(found) == 1 else found
