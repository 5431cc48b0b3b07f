"""Tests for values that are known while a program is traced."""

from typing import Any

import jax
from jax.core import Tracer


def is_concrete(*arrays: Any) -> bool:
    """Returns whether the values are known now, that is, are not tracers of jit, vmap or grad."""
    return not any(isinstance(x, Tracer) for x in arrays)


def is_concrete_tree(tree: Any) -> bool:
    """Returns whether all leaves of a tree are concrete."""
    return is_concrete(*jax.tree.leaves(tree))
