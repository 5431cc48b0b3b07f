"""The tree as a likelihood sees it."""

from typing import Any

import jax.tree_util as jtu
from jaxtyping import Array

from .._util.typing import PyTree
from .parameter import is_parameter


def value_of(leaf: Any) -> Array:
    return leaf.value if is_parameter(leaf) else leaf


def resolve(params: PyTree) -> PyTree:
    """The tree `params` as a likelihood sees it: each `Parameter` replaced by its array.

    **Raises:** `TypeError` for the result of a fit in place of its `params`.
    """
    refuse_result(params)
    return jtu.tree_map(value_of, params, is_leaf=is_parameter)


def refuse_result(params: Any) -> None:
    """**Raises:** `TypeError` for the result of a fit in place of a tree of parameters."""
    if type(params).__name__ in ("FitResult", "Estimate"):  # by name, as their module stands above this one
        raise TypeError("this takes a tree of parameters, not a result: give result.params")
