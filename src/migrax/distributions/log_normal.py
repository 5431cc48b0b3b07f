"""The log-normal distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log, log1p
from ._base import AbstractDistribution
from ._normal_interval import log_standard_interval
from .normal import Normal


class LogNormal(AbstractDistribution):
    """The distribution of a positive `x` whose log is normal (Johnson, Kotz and Balakrishnan, Continuous Univariate
    Distributions 1, equation 14.2)."""

    mu: Array
    sigma: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike):
        """**Arguments:**

        - `mu`: the mean of log(x), the log of the median of `x`.
        - `sigma`: the standard deviation of log(x), positive.
        """
        self.mu, self.sigma = cast(Array, mu), cast(Array, sigma)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf for x <= 0."""
        x = jnp.asarray(x)
        outside = x <= 0
        log_x = log(jnp.where(outside, 1.0, x))
        return jnp.where(outside, -jnp.inf, Normal(self.mu, self.sigma).log_prob(log_x) - log_x)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        low, high = jnp.asarray(low), jnp.asarray(high)
        near = (low > 0) & (high > low) & (high < 2 * low)
        first, last = jnp.where(near, low, 1.0), jnp.where(near, high, 2.0)
        width = log1p((last - first) / first) / self.sigma  # the difference of two logs would lose digits
        a, b = self._standard(low), self._standard(high)
        return log_standard_interval(a, b, jnp.where(near, width, b - a))

    def _standard(self, x: Array) -> Array:
        """log(x) in standard deviations from its mean."""
        inside = (x > 0) & jnp.isfinite(x)
        z = (log(jnp.where(inside, x, 1.0)) - self.mu) / self.sigma
        return jnp.where(inside, z, jnp.where(x <= 0, -jnp.inf, x))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.mu), jnp.shape(self.sigma))
        dtype = jnp.result_type(float, self.mu, self.sigma)
        return jnp.exp(self.mu + self.sigma * jax.random.normal(key, (*shape, *parameters), dtype))
