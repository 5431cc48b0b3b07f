"""A density interpolated between given values."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._base import AbstractDistribution
from ._piecewise import check_contents, choose, floats, growing, log_or_nothing, lookup, overlaps, piece_of


class Interpolated(AbstractDistribution):
    """The density that is interpolated linearly between values at knots, and 0 beyond the outer knots.

    Its integral is exact (trapezoids). Values may be parameters; a negative one makes everything that depends on it
    NaN.
    """

    knots: Array
    values: Array

    def __init__(self, knots: ArrayLike, values: ArrayLike):
        """**Arguments:**

        - `knots`: shape `(n,)`, increasing and finite, in the units of `x`.
        - `values`: the density at the knots up to a common factor, shape `(n,)`, or `(..., n)` for several densities
            at once. A value of 0 is allowed (the tip of a triangle).

        **Raises:** `ValueError` for knots that do not increase, shapes that do not match, or values that are known (not
        traced) and negative, not finite or all 0.
        """
        self.knots, self.values = growing(knots, "knots"), floats(values)
        if self.values.ndim == 0 or self.values.shape[-1] != self.knots.size:
            raise ValueError(f"there are {self.knots.size} knots, but values have shape {self.values.shape}")
        check_contents(self.values, "values")

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the knots."""
        x = jnp.asarray(x)
        index, inside = piece_of(x, self.knots)
        left, right = self.knots[index], self.knots[index + 1]
        t = (jnp.where(inside, x, left) - left) / (right - left)
        density = (1 - t) * lookup(self.values, index) + t * lookup(self.values, index + 1)
        out = jnp.where(inside, log_or_nothing(density) - self._log_area(), -jnp.inf)
        return jnp.where(jnp.isnan(x), jnp.nan, out)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        low, high = jnp.broadcast_arrays(jnp.asarray(low), jnp.asarray(high))
        begin, end = overlaps(low, high, self.knots)
        middle = (0.5 * (begin + end) - self.knots[:-1]) / jnp.diff(self.knots)
        mean = (1 - middle) * self.values[..., :-1] + middle * self.values[..., 1:]
        mass = log_or_nothing(jnp.sum((end - begin) * mean, axis=-1))
        return jnp.where(jnp.isneginf(mass), -jnp.inf, mass - self._log_area())

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the values."""
        index_key, position_key = jax.random.split(key)
        index, _ = choose(index_key, self._areas(), shape)
        u = jax.random.uniform(position_key, index.shape, dtype=self.knots.dtype)
        # the root of a quadratic equation, in the form that is stable for any slope
        a, b = lookup(self.values, index), lookup(self.values, index + 1)
        t = u * (a + b) / (a + jnp.sqrt(a**2 * (1 - u) + b**2 * u))
        left = self.knots[index]
        return left + t * (self.knots[index + 1] - left)

    def _areas(self) -> Array:
        return 0.5 * (self.values[..., :-1] + self.values[..., 1:]) * jnp.diff(self.knots)

    def _log_area(self) -> Array:
        return log_or_nothing(jnp.sum(self._areas(), axis=-1))
