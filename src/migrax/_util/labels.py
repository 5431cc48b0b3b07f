"""Names that no program depends on: likelihoods that differ in these alone share what is compiled."""

import functools
from typing import Any

import jax

from .typing import PyTree


def unlabelled(tree: PyTree) -> PyTree:
    """The tree, with what in it has a method `unlabelled` as this returns it: the same without names for readers, such
    as those of samples of a histogram, which are static and would make another program of each signal. What stands
    inside a class of the user's stays as it is: its code may look a name up."""
    leaves, structure = jax.tree.flatten(tree)
    bare = _bare(structure)
    return tree if bare is None else jax.tree.unflatten(bare, leaves)


@functools.lru_cache(maxsize=1024)
def _bare(structure: Any) -> Any:
    """Its structure, or `None` if it has no such names."""
    tree = jax.tree.unflatten(structure, range(structure.num_leaves))
    if not any(map(_has_labels, jax.tree.leaves(tree, is_leaf=_is_end))):
        return None
    new = jax.tree.map(lambda x: x.unlabelled() if _has_labels(x) else x, tree, is_leaf=_is_end)
    return jax.tree.structure(new)


def _is_end(x: Any) -> bool:
    home = type(x).__module__.partition(".")[0]
    return _has_labels(x) or home not in ("builtins", __name__.partition(".")[0])


def _has_labels(x: Any) -> bool:
    return hasattr(type(x), "unlabelled")
