"""The parameters of a tree as slots, and their names, which are their paths in the tree."""

import difflib
from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._util.typing import PyTree
from .parameter import Parameter, is_parameter


class Slot(NamedTuple):
    """The place of one parameter in the tree of a fit. It is static: it holds names and shapes, no values."""

    name: str
    shape: tuple[int, ...]
    fixed: bool | tuple[bool, ...]  # as in `Parameter`
    leaf: int  # index in the flattened tree

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))

    @property
    def free(self) -> np.ndarray:
        """Which entries, in row-major order, are free."""
        return ~np.broadcast_to(np.asarray(self.fixed), (self.size,))

    @property
    def partly(self) -> bool:
        """Whether some entries are fixed and some free."""
        return isinstance(self.fixed, tuple)

    def free_names(self) -> list[str]:
        return [name for name, free in zip(self.element_names(), self.free, strict=True) if free]

    def element_names(self) -> list[str]:
        if self.shape == ():
            return [self.name]
        return [f"{self.name}[{','.join(map(str, index))}]" for index in np.ndindex(*self.shape)]


def path_name(path: tuple[Any, ...]) -> str:
    name = ""
    for key in path:
        if isinstance(key, jtu.GetAttrKey):
            name += f".{key.name}"
        elif isinstance(key, jtu.SequenceKey):
            name += f"[{key.idx}]"
        elif isinstance(key, jtu.DictKey | jtu.FlattenedIndexKey):
            name += f".{key.key}" if isinstance(key.key, str) else f"[{key.key}]"
        else:
            name += f".{key}"
    name = name.removeprefix(".")
    # The entries of a bare array or of a list have no name of their own.
    return f"x{name}" if name == "" or name.startswith("[") else name


def flatten(params: PyTree) -> tuple[list[Any], list[Slot], Any]:
    """The leaves of a tree (a `Parameter` counts as one), the slots of its parameters, and its structure.

    **Raises:** `ValueError` if one `Parameter` object occurs at two paths, or two parameters have the same name.
    """
    with_path, treedef = jtu.tree_flatten_with_path(params, is_leaf=is_parameter)
    leaves = [leaf for _, leaf in with_path]
    marked = any(is_parameter(leaf) for leaf in leaves)
    slots: list[Slot] = []
    seen: dict[int, str] = {}
    for i, (path, leaf) in enumerate(with_path):
        if is_parameter(leaf):
            name = path_name(path)
            if id(leaf) in seen:
                raise ValueError(
                    f"the same Parameter object stands at {seen[id(leaf)]!r} and {name!r}: a pytree would copy "
                    "it into two. Keep it at one path and use it from there, or make two Parameters"
                )
            seen[id(leaf)] = name
            slots.append(Slot(name, jnp.shape(leaf.value), leaf.fixed, i))
        elif not marked and floats(leaf):
            slots.append(Slot(path_name(path), jnp.shape(leaf), False, i))
        elif not marked and isinstance(leaf, int | np.integer) and not isinstance(leaf, bool) and len(leaves) > 1:
            raise TypeError(
                f"{path_name(path)!r} is the integer {leaf}: integers do not float. Write {float(leaf)}; or, for a "
                "constant, mark those that float with mx.Parameter"
            )
    names = [slot.name for slot in slots]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two parameters have the name {name!r}; give their dictionary keys different names")
    return leaves, slots, treedef


def floats(leaf: Any) -> bool:
    if isinstance(leaf, float | complex):
        return True
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def names(params: PyTree) -> tuple[str, ...]:
    """The names of the free parameters of the tree `params`, one for each number, in the order of a fit's `values`."""
    return free_names(flatten(params)[1])


def free_names(slots: Sequence[Slot]) -> tuple[str, ...]:
    return tuple(name for slot in slots for name in slot.free_names())


def mark(params: PyTree) -> PyTree:
    """The tree with an explicit `Parameter` for everything that floats."""
    leaves, slots, treedef = flatten(params)
    for slot in slots:
        if not is_parameter(leaves[slot.leaf]):
            leaves[slot.leaf] = Parameter(leaves[slot.leaf])
    return jtu.tree_unflatten(treedef, leaves)


def constants(params: PyTree) -> dict[str, Any]:
    """The numbers and arrays of a tree that do not float because they are no `Parameter`, by name."""
    with_path, _ = jtu.tree_flatten_with_path(params, is_leaf=is_parameter)
    marked = any(is_parameter(leaf) for _, leaf in with_path)
    unmarked = ((path, leaf) for path, leaf in with_path if not is_parameter(leaf))
    return {path_name(path): leaf for path, leaf in unmarked if marked and eqx.is_array_like(leaf)}


def unknown_name(name: str, known: Sequence[str], constants: Container[str] = ()) -> str:
    if name in constants:
        return f"{name!r} is a constant: beside an mx.Parameter only mx.Parameters float, and it is none"
    similar = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    similar += [n for n in known if n.lower() == name.lower() and n not in similar]
    distinct = list(dict.fromkeys(known))
    hint = f"did you mean {' or '.join(repr(n) for n in dict.fromkeys(similar))}? " if similar else ""
    shown = ", ".join(repr(n) for n in distinct[:20]) + (", ..." if len(distinct) > 20 else "")
    return f"there is no parameter {name!r}; {hint}the parameters are: {shown}"
