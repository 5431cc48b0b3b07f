"""Conversion of user input to arrays: numbers, lists of them, tables of pandas and polars (neither is a dependency)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._hints.calls import refuse_strangers
from .tracing import is_concrete
from .typing import PyTree


def as_arrays(data: PyTree) -> PyTree:
    """Returns the data with columns and lists of plain numbers as arrays, and a table as a dictionary of its numeric
    columns.

    **Raises:** `TypeError`, naming the place, for a column with missing values, histograms, masked arrays and
    quantities with units.
    """
    with_path, structure = jax.tree_util.tree_flatten_with_path(data, is_leaf=_is_numbers)
    return jax.tree.unflatten(structure, [_array(leaf, jax.tree_util.keystr(path)) for path, leaf in with_path])


def _is_numbers(x: Any) -> bool:
    return type(x) is list and len(x) > 0 and all(type(a) in (int, float) for a in x)


def _array(leaf: Any, place: str) -> Any:
    label = f"data{place}"
    refuse_strangers(leaf, f"{label} holds" if not place else f"{label} is")
    if _is_numbers(leaf):
        return np.asarray(leaf)
    if isinstance(leaf, np.ndarray | np.generic | jax.Array) or not callable(getattr(leaf, "to_numpy", None)):
        return leaf
    if not hasattr(leaf, "columns"):
        return _column(leaf, label)
    arrays_by_name = {name: np.asarray(leaf[name]) for name in leaf.columns}
    columns = {
        name: _column(leaf[name], f"{label}[{name!r}]")
        for name, a in arrays_by_name.items()
        if _is_numeric(leaf[name], a)
    }
    if not columns:
        raise TypeError(f"{label} is a {type(leaf).__name__} without a column of numbers: {list(arrays_by_name)}")
    return columns


def _is_numeric(column: Any, array: np.ndarray) -> bool:
    # a nullable numeric column becomes an array of objects
    return array.dtype.kind in "biuf" or (
        array.dtype.kind == "O" and str(column.dtype)[:3].lower() in ("int", "uin", "flo")
    )


def _column(column: Any, label: str) -> np.ndarray:
    array = np.asarray(column.to_numpy())
    if array.dtype.kind in "biufc":
        return array
    try:
        return array.astype(float)
    except (TypeError, ValueError):
        kind = type(column).__name__
        raise TypeError(
            f"{label} is a {kind} of {column.dtype} that holds something else than numbers, or missing values: drop or "
            "fill these, and give numbers"
        ) from None


def numbers_to_arrays(tree: PyTree, *, integers: bool) -> PyTree:
    """Converts Python floats and NumPy arrays to JAX arrays, so that a new value never retraces a jitted fit.

    Integers are converted if they are data; in a model they are structure (the degree of a polynomial).
    """
    kinds = (float, complex, int) if integers else (float, complex)

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, kinds) and not isinstance(leaf, bool):
            return jnp.asarray(leaf, dtype=jnp.result_type(type(leaf)))
        if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "biufc":
            return jnp.asarray(leaf)
        return leaf

    return jtu.tree_map(convert, tree)


def to_jax(tree: PyTree, like: Sequence[Any] = ()) -> PyTree:
    """The tree with the arrays and numbers of NumPy as arrays of JAX, put on their device in one go.

    **Arguments:**

    - `like`: arrays from which these were computed: a device to which one of them is bound is theirs, too.
    """
    leaves, treedef = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray | np.generic)]
    if not places:
        return tree
    device = next((a.device for a in like if isinstance(a, jax.Array) and is_concrete(a) and a.committed), None)
    # Copies, as JAX may keep the memory that it is given.
    for i, array in zip(places, jax.device_put([np.array(leaves[i]) for i in places], device), strict=True):
        leaves[i] = array
    return jax.tree.unflatten(treedef, leaves)
