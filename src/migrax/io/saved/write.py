"""From a result to what a file holds: arrays, and a tree of plain JSON that says where they belong.

A node of the tree is a number, a word, `null`, a list, or an object whose entry `"is"` tells what it stands for.
"""

import dataclasses
import enum
import math
from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ..._fit.result import Note
from ..._parameters.names import path_name
from ..._parameters.static import only_arrays, with_all_leaves
from .classes import TREES, is_named_tuple, is_record, name_of


class Writer:
    """Collects the arrays of a result while it makes the tree."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []  # so that no other array gets the number of one that is gone
        self._in_tree = False

    def result(self, result: Any) -> dict[str, Any]:
        """The node of a result.

        **Raises:** `TypeError` for what cannot be written, unless it stands in a tree of the user's.
        """
        trees = TREES.get(type(result), {})
        fields = {}
        for name, value in _fields(result).items():
            fields[trees.get(name, name)] = self._tree(value) if name in trees else self._node(value)
        return {"is": "object", "class": name_of(type(result)), "fields": fields}

    def _tree(self, params: Any) -> dict[str, Any]:
        """A tree of the user's: as it is, and the list of its numbers, with which another tree can be filled."""
        with_path, _ = jtu.tree_flatten_with_path(only_arrays(params))
        leaves = [[path_name(path), self._array(leaf)] for path, leaf in with_path]
        self._in_tree = True
        tree = self._node(with_all_leaves(params))
        self._in_tree = False
        return {"is": "params", "tree": tree, "leaves": leaves}

    def _node(self, x: Any) -> Any:
        kind = type(x)
        if x is None or kind in (bool, int, str):
            return x
        if kind is float:
            return x if math.isfinite(x) else {"is": "float", "of": str(x)}
        if kind is complex:
            return {"is": "complex", "of": [self._node(x.real), self._node(x.imag)]}
        if kind is list:
            return [self._node(entry) for entry in x]
        if kind is tuple:
            return {"is": "tuple", "of": [self._node(entry) for entry in x]}
        if kind in (dict, OrderedDict):
            pairs = [[self._node(key), self._node(value)] for key, value in x.items()]
            return {"is": "dict" if kind is dict else "ordered dict", "of": pairs}
        if kind in (np.ndarray, np.memmap) or isinstance(x, jax.Array | np.generic):
            return self._array(x)
        return self._named(x)

    def _named(self, x: Any) -> dict[str, Any]:
        """What is made by a class, and classes and functions themselves."""
        kind, maker = type(x), name_of(type(x))
        if kind in TREES:
            return self.result(x)
        if kind is Note:
            return {"is": "object", "class": maker, "fields": {"text": x.text}}
        if maker is not None and is_record(kind):
            return {"is": "object", "class": maker, "fields": {k: self._node(v) for k, v in _fields(x).items()}}
        if maker is not None and is_named_tuple(kind):
            return {"is": "named tuple", "class": maker, "of": [self._node(entry) for entry in x]}
        if maker is not None and isinstance(x, enum.Enum) and x.name in kind.__members__:
            return {"is": "member", "class": maker, "of": x.name}
        own = name_of(x) if callable(x) else None
        return self._lost(_told(x)) if own is None else {"is": "name", "of": own}

    def _array(self, x: Any) -> dict[str, Any]:
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return {"is": "key", "of": str(jax.random.key_impl(x)), "data": self._array(jax.random.key_data(x))}
        array = np.asarray(x)
        plain = array.dtype.kind in "biufcUSMm"
        if not plain and not _is_extension(array.dtype):
            return self._lost(f"an array of {array.dtype}")
        if id(x) not in self._names:
            self._names[id(x)] = name = f"a{len(self._names)}"
            self._kept.append(x)
            self.arrays[name] = array if plain else array.view(f"u{array.dtype.itemsize}")
        home = "jax" if isinstance(x, jax.Array) else "numpy" if isinstance(x, np.ndarray) else "number"
        dtype = array.dtype.str if plain else array.dtype.name
        return {"is": "array", "of": self._names[id(x)], "in": home, "dtype": dtype, "shape": list(array.shape)}

    def _lost(self, told: str) -> dict[str, Any]:
        """In a tree of the user's it is enough to tell: another one can be given when it is read."""
        if not self._in_tree:
            raise TypeError(f"a file has no place for {told}")
        return {"is": "lost", "of": told}


def _fields(x: Any) -> dict[str, Any]:
    """What is stored in a module or a dataclass."""
    found = {}
    for field in dataclasses.fields(x):
        try:
            found[field.name] = object.__getattribute__(x, field.name)
        except AttributeError:  # it was never set
            continue
    return found


def _is_extension(dtype: np.dtype) -> bool:
    """Numbers that NumPy's files do not know, such as bfloat16."""
    return dtype.kind == "V" and bool(jnp.issubdtype(dtype, jnp.number))


def _told(x: Any) -> str:
    name = getattr(x, "__qualname__", None)
    if isinstance(x, type):
        return f"the class {name} of {x.__module__}"
    if name is not None and callable(x):
        return f"the function {name} of {getattr(x, '__module__', None)}"
    return f"an object of the class {type(x).__qualname__} of {type(x).__module__}"
