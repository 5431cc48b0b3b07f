"""What tells one likelihood from another in a store: its program as XLA sees it, and all of its arrays."""

from typing import Any

import equinox as eqx
import jax

from .._util.typing import PyTree


def program_of(nll: Any, point: PyTree, data: PyTree) -> str:
    """Returns the program of the value of a likelihood. `data`: arrays, or their shapes."""
    (arrays, static), (inputs, constant) = (eqx.partition(tree, _is_array_or_shape) for tree in (nll, (point, data)))

    def value(arrays: PyTree, inputs: PyTree) -> Any:
        return eqx.combine(arrays, static)(*eqx.combine(inputs, constant))

    lowered: Any = jax.jit(value).lower(arrays, inputs)
    return lowered.as_text()


def _is_array_or_shape(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)
