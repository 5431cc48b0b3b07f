"""All parameters of a model as one vector, in the order in which JAX sorts a dictionary."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._likelihoods.counts import floats


class Layout(NamedTuple):
    """Sorted names and shapes. The vector of a fit has the same order, so that XLA moves nothing."""

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    def shape(self, name: str) -> tuple[int, ...]:
        return dict(self.entries)[name]

    def positions(self, names: list[str] | tuple[str, ...]) -> Int[np.ndarray, " n"]:
        """The positions of the numbers of these parameters, one after the other."""
        starts = np.cumsum([0, *(math.prod(shape) for _, shape in self.entries)])
        ranges = {name: np.arange(a, b) for (name, _), a, b in zip(self.entries, starts, starts[1:], strict=False)}
        return np.concatenate([np.zeros(0, int), *(ranges[name] for name in names)])

    def vector(self, tree: Any) -> Float[Array, " n"]:
        """**Raises:** `ValueError` for a dictionary that lacks a parameter, or has it in another shape."""
        for name, shape in self.entries:
            if name not in tree:
                raise ValueError(f"the parameters have no {name!r}")
            if jnp.shape(tree[name]) != shape:
                raise ValueError(f"{name!r} has shape {jnp.shape(tree[name])}, this model needs {shape}")
        return jnp.concatenate([jnp.ravel(floats(tree[name])) for name, _ in self.entries])
