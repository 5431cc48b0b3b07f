"""Makes leaves that are not arrays, such as functions and strings, static parts of the tree, so that a result can be
returned from `jax.jit` and `jax.vmap` whatever the model contains."""

from typing import Any

import equinox as eqx
import jax.tree_util as jtu

from .._util.typing import PyTree


class _Static(eqx.Module):
    value: Any = eqx.field(static=True)


def only_arrays(params: PyTree) -> PyTree:
    """The tree with only arrays as leaves: all other leaves become static."""
    return jtu.tree_map(lambda leaf: leaf if eqx.is_array(leaf) else _Static(leaf), params)


def with_all_leaves(params: PyTree) -> PyTree:
    """The inverse of `only_arrays`: the tree that was given to it."""
    is_static = lambda leaf: isinstance(leaf, _Static)  # noqa: E731
    return jtu.tree_map(lambda leaf: leaf.value if is_static(leaf) else leaf, params, is_leaf=is_static)
