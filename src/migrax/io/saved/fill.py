"""A tree of the user's, filled with the numbers of a file."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu

from ..._parameters.names import flatten, path_name
from ..._parameters.static import only_arrays
from ..._util.arrays import numbers_to_arrays
from .classes import TREES


class Filling:
    """A tree that takes the place of one that was saved."""

    def __init__(self, params: Any) -> None:
        """**Raises:** `TypeError` for a result in place of a tree."""
        if type(params) in TREES:
            raise TypeError("params is a tree of parameters, got a result: pass result.params")
        flatten(params)  # sees one Parameter at two paths, which any map over the tree would copy
        with_path, self._structure = jtu.tree_flatten_with_path(only_arrays(numbers_to_arrays(params, integers=False)))
        self._shapes = {path_name(path): jnp.shape(leaf) for path, leaf in with_path}

    def filled(self, leaves: Mapping[str, Any]) -> Any:
        """The tree, with arrays for its only leaves.

        **Raises:** `ValueError` unless the names and the shapes are the same. Those of the file may begin with the axes
        of many fits.
        """
        if set(leaves) != set(self._shapes):
            raise ValueError(f"params is another tree than the one that was saved: it {self._difference(leaves)}")
        extra = {len(leaves[name].shape) - len(shape) for name, shape in self._shapes.items()}
        for name, shape in self._shapes.items():
            saved = leaves[name].shape
            if len(extra) > 1 or min(extra) < 0 or saved[min(extra) :] != shape:
                raise ValueError(f"params has numbers of shape {shape} at {name!r}, the file has {saved}")
        return jtu.tree_unflatten(self._structure, [leaves[name] for name in self._shapes])

    def _difference(self, leaves: Mapping[str, Any]) -> str:
        lacks = ", ".join(repr(name) for name in leaves if name not in self._shapes)
        more = ", ".join(repr(name) for name in self._shapes if name not in leaves)
        parts = [f"lacks {lacks}" if lacks else "", f"has {more}, which the file has not" if more else ""]
        return " and ".join(part for part in parts if part)
