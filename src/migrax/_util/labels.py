"""Names that no program depends on: likelihoods that differ only in these share compiled programs."""

import functools
from typing import Any

import jax

from .typing import PyTree


def unlabelled(tree: PyTree) -> PyTree:
    """Returns the tree with each object that has a method `unlabelled` replaced by its result: the object without
    descriptive names, such as those of samples of a histogram, which are static and would force a new program for each
    signal. The contents of user classes are kept, because their code may look up a name."""
    leaves, structure = jax.tree.flatten(tree)
    bare_structure = _bare(structure)
    return tree if bare_structure is None else jax.tree.unflatten(bare_structure, leaves)


@functools.lru_cache(maxsize=1024)
def _bare(structure: Any) -> Any:
    """Returns the structure without such names, or `None` if it has none."""
    tree = jax.tree.unflatten(structure, range(structure.num_leaves))
    if not any(map(_has_labels, jax.tree.leaves(tree, is_leaf=_is_end))):
        return None
    bare_tree = jax.tree.map(lambda x: x.unlabelled() if _has_labels(x) else x, tree, is_leaf=_is_end)
    return jax.tree.structure(bare_tree)


def _is_end(x: Any) -> bool:
    package = type(x).__module__.partition(".")[0]
    return _has_labels(x) or package not in ("builtins", __name__.partition(".")[0])


def _has_labels(x: Any) -> bool:
    return hasattr(type(x), "unlabelled")
