"""Resolving a tree of parameters: each `Parameter` is replaced by its array, as a likelihood is called with it."""

from typing import Any

import jax.tree_util as jtu
from jaxtyping import Array

from .._util.typing import PyTree
from .parameter import is_parameter


def value_of(leaf: Any) -> Array:
    return leaf.value if is_parameter(leaf) else leaf


def resolve(params: PyTree) -> PyTree:
    """The tree `params` with each `Parameter` replaced by its array, as a likelihood is called with it.

    **Raises:** `TypeError` for the result of a fit in place of its `params`.
    """
    if is_result(params):
        raise TypeError("this takes a tree of parameters, got a result: give it result.params")
    return jtu.tree_map(value_of, params, is_leaf=is_parameter)


def is_result(params: Any) -> bool:
    """Whether `params` is the result of a fit, not a tree of parameters. Checked by the name of its class, as this
    package cannot import that one."""
    return type(params).__name__ in ("FitResult", "Estimate")
