"""The Moyal distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution
from ._functions import largest_exponent
from ._normal_interval import log_upper_tail
from ._tails import log_complement, log_from_tails

_LOG_SQRT_2PI = 0.9189385332046727
_LOG_SQRT_2_OVER_PI = -0.22579135264472744
_LOG_2 = 0.6931471805599453
_TERMS = 14


class Moyal(AbstractDistribution):
    """The density exp(-(z + exp(-z)) / 2) / (sqrt(2 pi) sigma), z = (x - mu) / sigma, an approximation of Landau's for
    the energy loss of a charged particle (J. E. Moyal, Phil. Mag. 46 (1955) 263, equation 3.5).

    Where the density is so small that the exponential in its log overflows (below e^-1e138; in float32 below e^-1e17)
    it is taken as 0.
    """

    mu: Array
    sigma: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike):
        """**Arguments:**

        - `mu`: the most probable value.
        - `sigma`: the scale, in the units of `x`, positive.
        """
        self.mu, self.sigma = cast(Array, mu), cast(Array, sigma)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`."""
        z, below = self._standard(jnp.asarray(x))
        return jnp.where(below, -jnp.inf, -0.5 * (z + jnp.exp(-z)) - log(self.sigma) - _LOG_SQRT_2PI)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        return log_from_tails(self.log_prob, self._log_cdf, self._log_sf, low, high, self.mu)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.mu), jnp.shape(self.sigma))
        dtype = jnp.result_type(float, self.mu, self.sigma)
        # exp(-z/2) is the absolute value of a standard normal variable
        y = jnp.abs(jax.random.normal(key, (*shape, *parameters), dtype))
        return self.mu - 2 * self.sigma * log(jnp.maximum(y, jnp.finfo(dtype).tiny))

    def _log_cdf(self, x: Array) -> Array:
        """log erfc(y / sqrt 2) with y = exp(-z/2)."""
        z, below = self._standard(x)
        return jnp.where(below, -jnp.inf, _LOG_2 + log_upper_tail(jnp.exp(-0.5 * z)))

    def _log_sf(self, x: Array) -> Array:
        """log erf(y / sqrt 2): where it is less than about 1/2 by its series (Abramowitz and Stegun 7.1.5)."""
        z, _ = self._standard(x)
        small = z > 0
        half = 0.5 * jnp.exp(-jnp.where(small, z, 1.0))
        series = jnp.zeros_like(half)
        for k in range(_TERMS, -1, -1):
            series = 1 / (2 * k + 1) - half / (k + 1) * series
        by_series = -0.5 * z + _LOG_SQRT_2_OVER_PI + log(series)
        return jnp.where(small, by_series, log_complement(jnp.where(small, -1.0, self._log_cdf(x))))

    def _standard(self, x: Array) -> tuple[Array, Array]:
        """x in units of the scale, and whether it is so far below that the density is taken as 0."""
        z = (x - self.mu) / self.sigma
        below = -z > largest_exponent(z.dtype)
        return jnp.where(below, 0.0, z), below
