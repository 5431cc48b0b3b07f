"""From what a file holds back to a result. Nothing that a file names is imported or called."""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._fit.result import FitResult, Note
from ..._parameters.names import names
from ..._parameters.static import only_arrays, with_all_leaves
from .classes import OLDER_FIELDS, TREES, is_enum, is_named_tuple, is_record, named
from .fill import Filling

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_OTHER_TREE = "give mx.load(path, params=tree), with a tree of the same structure"


class Reader:
    """Makes what the nodes of a file's tree stand for.

    **Arguments:**

    - `arrays`: those of the file, by name.
    - `filling`: what is filled with the numbers of the user's trees; `None` for these trees as they were saved.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], filling: Filling | None) -> None:
        self._arrays, self._filling = arrays, filling
        self.trees: int = 0  # how many were read

    def node(self, node: Any, place: str) -> Any:
        """**Raises:** `ValueError` with the place of what is not right; others for a tree that is damaged."""
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if isinstance(node, list):
            return self._all(node, place)
        match node["is"]:
            case "array":
                return self._array(node, place)
            case "tuple":
                return tuple(self._all(node["of"], place))
            case "dict":
                return dict(self._pairs(node["of"], place))
            case "ordered dict":
                return OrderedDict(self._pairs(node["of"], place))
            case "float":
                return _FLOATS[node["of"]]
            case "complex":
                return complex(*self._all(node["of"], place))
            case "key":
                return jax.random.wrap_key_data(self._array(node["data"], place), impl=node["of"])
            case "lost":
                raise ValueError(f"{place} was {node['of']}, which a file cannot hold: {_OTHER_TREE}")
            case "name":
                return self._class(node["of"], place)
            case _:
                return self._made(node, place)

    def _made(self, node: Any, place: str) -> Any:
        """What is made by a class."""
        kind = self._class(node["class"], place)
        match node["is"]:
            case "object" if kind is Note:
                return Note(str(node["fields"]["text"]))
            case "object" if is_record(kind):
                return self._object(kind, node["fields"], place)
            case "named tuple" if is_named_tuple(kind) and len(node["of"]) == len(kind._fields):
                return tuple.__new__(kind, self._all(node["of"], place))
            case "member" if is_enum(kind) and node["of"] in kind.__members__:
                return kind.__members__[node["of"]]
            case other:
                raise ValueError(f"{place} is no {other} of {kind.__name__}, as that class is now")

    def _all(self, nodes: list[Any], place: str) -> list[Any]:
        return [self.node(entry, f"{place}[{i}]") for i, entry in enumerate(nodes)]

    def _pairs(self, pairs: list[Any], place: str) -> list[tuple[Any, Any]]:
        keys = [self.node(key, place) for key, _ in pairs]
        return [(key, self.node(value, f"{place}[{key!r}]")) for key, (_, value) in zip(keys, pairs, strict=True)]

    def _class(self, reference: Any, place: str) -> Any:
        try:
            return named(reference)
        except LookupError as error:
            raise ValueError(
                f"{place} needs what is not there: {error.args[0]}. Import it first, or {_OTHER_TREE}"
            ) from None

    def _array(self, node: Any, place: str) -> Any:
        if node["of"] not in self._arrays:
            raise ValueError(f"the array {node['of']!r}, which is {place}, is missing")
        array, told = self._arrays[node["of"]], node["dtype"]
        if told[0] not in "<>|=":  # a type that NumPy's files do not know: kept as bits
            array = array.view(jnp.dtype(told))
        if list(array.shape) != node["shape"] or (told[0] in "<>|=" and array.dtype.str != told):
            raise ValueError(
                f"the array {node['of']!r}, which is {place}, has the shape {list(array.shape)} and the type "
                f"{array.dtype.str}, where {node['shape']} and {told} should be"
            )
        if node["in"] != "jax":
            return array[()] if node["in"] == "number" else array
        found = jnp.asarray(array)
        if found.dtype != array.dtype:
            raise ValueError(
                f"{place} has the type {array.dtype}, of which JAX makes {found.dtype} here. Switch float64 on at the "
                'top of the program: jax.config.update("jax_enable_x64", True)'
            )
        return found

    def _object(self, kind: Any, saved: Any, place: str) -> Any:
        """An instance without a call of its class, whose `__init__` may want other things than its fields."""
        trees = {file: field for field, file in TREES.get(kind, {}).items()}
        known = {field.name: field for field in dataclasses.fields(kind)}
        found = {}
        for name, node in _with_names_of_now(kind, saved).items():
            field = trees.get(name, name)
            if field not in known:
                raise ValueError(f"{place} has {name!r}, which the class {kind.__name__} has not")
            is_tree = name in trees
            found[field] = self._tree(node, name, kind is FitResult) if is_tree else self.node(node, f"{place}.{name}")
        for name, field in known.items():
            if name not in found and field.default is not dataclasses.MISSING:
                found[name] = field.default
        lacking = [name for name in known if name not in found]
        if lacking:
            raise ValueError(f"{place} lacks {lacking[0]!r}, which the class {kind.__name__} has")
        made = object.__new__(kind)
        for name in known:
            object.__setattr__(made, name, found[name])
        if kind is FitResult and self._filling is not None:
            _check_names(made)
        return made

    def _tree(self, node: Any, place: str, bare: bool) -> Any:
        """A tree of the user's. `bare`: with arrays for its only leaves."""
        self.trees += 1
        if self._filling is None:
            tree = self.node(node["tree"], place)
            return only_arrays(tree) if bare else tree
        tree = self._filling.filled({name: self._array(leaf, f"{place}: {name}") for name, leaf in node["leaves"]})
        return tree if bare else with_all_leaves(tree)


def _with_names_of_now(kind: Any, saved: Any) -> dict[str, Any]:
    """The fields of an object in a file, of which an older version may have written some by other names."""
    older: dict[str, Any] = OLDER_FIELDS.get(kind, {})
    now: dict[str, Any] = {}
    for name, node in saved.items():
        new = older.get(name, name)
        if isinstance(new, tuple):
            now |= zip(new, [None] * len(new) if node is None else node["of"], strict=True)
        else:
            now[new] = node
    return now


def _check_names(result: FitResult) -> None:
    lanes = jnp.ndim(result.nll)
    one = jax.tree.map(lambda x: x[(0,) * lanes], result) if lanes else result
    found = names(one.params)
    if found != result.names:
        raise ValueError(
            f"params has the free parameters {', '.join(found)}; those of the file are {', '.join(result.names)}"
        )
