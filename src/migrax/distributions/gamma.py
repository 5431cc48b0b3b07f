"""The gamma distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution, check_edges
from ._bins_by_nodes import away_from, log_bins
from ._gammas import stirling_error
from ._interval import any_nan, excluded
from ._power_exp import log_power_exp, log_ratio

_LOG_SQRT_2PI = 0.9189385332046727


class Gamma(AbstractDistribution):
    """The gamma distribution: the density is proportional to x^(shape - 1) exp(-x / scale) for x > 0."""

    shape: Array
    scale: Array

    def __init__(self, shape: ArrayLike, scale: ArrayLike = 1.0):
        """**Arguments:**

        - `shape`: positive. The mean is shape times scale, the variance shape times scale².
        - `scale`: positive, in the units of `x`.
        """
        self.shape, self.scale = cast(Array, shape), cast(Array, scale)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf for x <= 0."""
        x = jnp.asarray(x)
        inside = (x > 0) | jnp.isnan(x)
        x = jnp.where(inside, x, self.scale)
        return excluded(~inside, _log_density(x / self.scale, jnp.asarray(self.shape)) - log(x))

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`. Each interval takes 266 evaluations. Exact to 1e-12,
        including derivatives with respect to `shape`, for shapes from 0.01 to 1e6."""
        return _log_integral(low, high, self.shape, self.scale)

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`. A bin in which the density is smooth takes
        15 evaluations."""
        low, high = check_edges(edges, self)
        return log_bins(self.log_prob, self.log_integral, low, high, away_from([0.0], low, high), (0.0, jnp.inf))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.shape), jnp.shape(self.scale))
        dtype = jnp.result_type(float, self.shape, self.scale)
        k = jnp.broadcast_to(jnp.asarray(self.shape, dtype), (*shape, *parameters))
        # in log space, as samples of a small shape underflow
        return self.scale * jnp.exp(jax.random.loggamma(key, k, dtype=dtype))


def _log_density(r: Array, k: Array) -> Array:
    """The log of the density of log r: k log r - r - log Gamma(k), without cancellation around r = k."""
    fall = (r - k) / k - log_ratio(r, k, r - k)
    return -k * fall + 0.5 * log(k) - _LOG_SQRT_2PI - stirling_error(k)


@jax.jit
def _log_integral(low: ArrayLike, high: ArrayLike, k: ArrayLike, scale: ArrayLike) -> Array:
    dtype = jnp.result_type(float, low, high, k, scale)
    low, high, k, scale = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (low, high, k, scale)))
    is_nan = any_nan(low, high, k, scale)
    low, high = jnp.where(low > 0, low, 0.0), jnp.where(high > 0, high, 0.0)
    finite = jnp.isfinite(low) & jnp.isfinite(high)
    width = jnp.where(finite, jnp.where(finite, high, 1.0) - jnp.where(finite, low, 0.0), 1.0) / scale
    a, b = (jnp.where(jnp.isfinite(v), jnp.where(jnp.isfinite(v), v, 1.0) / scale, v) for v in (low, high))
    out = log_power_exp(a, b, width, k, jnp.ones_like(k), lambda r: _log_density(r, k))
    return jnp.where(is_nan, jnp.nan, out)
