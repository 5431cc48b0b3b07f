"""The uniform distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution
from ._interval import clip


class Uniform(AbstractDistribution):
    """A constant density between `low` and `high`."""

    low: Array
    high: Array

    def __init__(self, low: ArrayLike, high: ArrayLike):
        """**Arguments:**

        - `low`, `high`: the range, finite.
        """
        self.low, self.high = cast(Array, low), cast(Array, high)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the range."""
        x = jnp.asarray(x)
        outside = (x < self.low) | (x > self.high)
        inside = -log(self.high - self.low) + jnp.where(jnp.isnan(x), x, 0.0)
        return jnp.where(outside, -jnp.inf, inside)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        a, b = clip(low, high, self.low, self.high)
        empty = b <= a
        part = jnp.where(empty, 1.0, b - a)
        return jnp.where(empty, -jnp.inf, log(part) - log(self.high - self.low))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.low), jnp.shape(self.high))
        u = jax.random.uniform(key, (*shape, *parameters), dtype=jnp.result_type(float, self.low, self.high))
        return self.low + (self.high - self.low) * u
