"""What can be looked at while a program is traced."""

from typing import Any

import jax
from jax.core import Tracer


def is_concrete(*arrays: Any) -> bool:
    """Whether the values can be looked at now (they are not tracers of jit, vmap or grad)."""
    return not any(isinstance(x, Tracer) for x in arrays)


def is_concrete_tree(tree: Any) -> bool:
    """The same of all leaves of a tree."""
    return is_concrete(*jax.tree.leaves(tree))
