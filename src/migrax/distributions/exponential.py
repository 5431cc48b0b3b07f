"""The exponential distribution, on any range."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log, log1p
from ._base import AbstractDistribution, check_edges
from ._mean_exp import log_mean_exp
from ._ranges import known_bins


class Exponential(AbstractDistribution):
    """The density proportional to exp(-rate x) between `low` and `high`.

    On a finite range `rate` may be negative or 0 as well: RooFit's exp(c x) is `Exponential(-c, low, high)`.
    """

    rate: Array
    low: Array
    high: Array

    def __init__(self, rate: ArrayLike, low: ArrayLike = 0.0, high: ArrayLike = np.inf):
        """**Arguments:**

        - `rate`: the inverse of the decay length, in the inverse units of `x`; positive if the range is infinite.
        - `low`, `high`: the range.
        """
        self.rate, self.low, self.high = cast(Array, rate), cast(Array, low), cast(Array, high)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the range."""
        x = jnp.asarray(x)
        outside = (x < self.low) | (x > self.high)
        steps = jnp.where(outside, 0.0, x - self.low)
        return jnp.where(outside, -jnp.inf, -self.rate * steps - self._log_mass(self.low, self.high))

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        a, b = jnp.maximum(low, self.low), jnp.minimum(high, self.high)
        empty = b <= a
        a, b = jnp.where(empty, self.low, a), jnp.where(empty, self.high, b)
        return jnp.where(empty, -jnp.inf, self._log_mass(a, b) - self._log_mass(self.low, self.high))

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`."""
        low, high = check_edges(edges, self)
        bins = known_bins(edges, self.low, self.high)
        if bins is None or jnp.ndim(self.rate):
            return self.log_integral(low, high)
        points, _, width = bins
        # of bins that are as wide as each other but for the rounding of their edges, one stands for all
        rounding = 4 * np.finfo(points.dtype).eps * np.max(np.abs(points))
        each = np.mean(width, dtype=points.dtype) if np.ptp(width) <= rounding else width
        shape = log_mean_exp(jnp.asarray(self.rate * each)) - self._log_mass(self.low, self.high)
        return shape + (np.log(width) - self.rate * (points[:-1] - np.asarray(self.low, points.dtype)))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(*(jnp.shape(p) for p in (self.rate, self.low, self.high)))
        u = jax.random.uniform(key, (*shape, *parameters), dtype=jnp.result_type(float, self.rate, self.low, self.high))
        # inversion of the cdf; uniform where the range is much shorter than the decay length
        finite = jnp.isfinite(self.high)
        width = jnp.where(finite, self.high, self.low + 1.0) - self.low
        depth = jnp.where(finite, self.rate * width, 1.0)
        steep = jnp.abs(depth) > 1e-6
        depth = jnp.where(steep, depth, 1.0)
        steps = jnp.where(finite, jnp.where(steep, -log1p(u * jnp.expm1(-depth)) / depth, u) * width, 0.0)
        return self.low + jnp.where(finite, steps, -log1p(-u) / self.rate)

    def _log_mass(self, a: ArrayLike, b: ArrayLike) -> Array:
        """log of the integral of exp(-rate (x - low)) from a to b > a, where b may be infinite."""
        finite = jnp.isfinite(b)
        width = jnp.where(finite, b, a + 1.0) - a
        by_width = log(width) + log_mean_exp(jnp.where(finite, self.rate, 1.0) * width)
        rate = jnp.where(finite, 1.0, self.rate)
        return -self.rate * (a - self.low) + jnp.where(finite, by_width, -log(rate))
