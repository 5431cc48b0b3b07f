"""Tests for values that are known while a program is traced."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer


def is_concrete(*arrays: Any) -> bool:
    """Returns whether the values are known now, that is, are not tracers of jit, vmap or grad."""
    return not any(isinstance(x, Tracer) for x in arrays)


def is_tracing() -> bool:
    """Whether a program is being traced now: a constant is a tracer then."""
    return not is_concrete(jnp.asarray(0.0))


def is_concrete_tree(tree: Any) -> bool:
    """Returns whether all leaves of a tree are concrete."""
    return is_concrete(*jax.tree.leaves(tree))
