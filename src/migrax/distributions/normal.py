"""The normal distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution, check_edges
from ._normal_interval import log_standard_bins, log_standard_interval
from ._ranges import known_bins


class Normal(AbstractDistribution):
    """The normal distribution with mean `mu` and standard deviation `sigma` (arrays of any shape that broadcast)."""

    mu: Array
    sigma: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike):
        """**Arguments:**

        - `mu`: the mean.
        - `sigma`: the standard deviation, positive (not checked: it may be an intermediate value of a fit).
        """
        # Python numbers are kept, so that they adopt the precision of what they are combined with.
        self.mu, self.sigma = cast(Array, mu), cast(Array, sigma)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`."""
        z = (jnp.asarray(x) - self.mu) / self.sigma
        return -0.5 * z**2 - log(self.sigma) - _LOG_SQRT_2PI

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`. Its log and gradient are finite even 200 sigma from the
        mean."""
        return log_standard_interval(self._standard(low), self._standard(high), self._width(low, high))

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`."""
        low, high = check_edges(edges, self)
        bins = None if jnp.ndim(self.mu) or jnp.ndim(self.sigma) else known_bins(edges)
        if bins is None:
            return self.log_integral(low, high)
        points, middle, width = map(jnp.asarray, bins)
        inverse = 1 / self.sigma
        return log_standard_bins((points - self.mu) * inverse, (middle - self.mu) * inverse, width * inverse)

    def _width(self, low: ArrayLike, high: ArrayLike) -> Array:
        """In standard deviations; 0 where it is infinite."""
        width = jnp.asarray(high) - jnp.asarray(low)
        return jnp.where(jnp.isfinite(width), width, 0.0) / self.sigma

    def _standard(self, x: ArrayLike) -> Array:
        """x in standard deviations from the mean. Infinity, whose derivatives would be NaN, is returned unchanged."""
        x = jnp.asarray(x)
        finite = jnp.isfinite(x)
        return jnp.where(finite, (jnp.where(finite, x, 0.0) - self.mu) / self.sigma, x)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of `mu` and `sigma`."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.mu), jnp.shape(self.sigma))
        return self.mu + self.sigma * jax.random.normal(key, (*shape, *parameters))


_LOG_SQRT_2PI = 0.9189385332046727
