"""The Weibull distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log, log1p
from ._base import AbstractDistribution
from ._functions import largest_exponent
from ._mean_exp import log_mean_exp


class Weibull(AbstractDistribution):
    """The distribution of a positive `x` with the probability exp(-(x / scale)^shape) above it (Johnson, Kotz and
    Balakrishnan, Continuous Univariate Distributions 1, equation 21.3).

    Where the density is so small that the power in its log overflows (below e^-1e138; in float32 below e^-1e17) it is
    taken as 0.
    """

    shape: Array
    scale: Array

    def __init__(self, shape: ArrayLike, scale: ArrayLike):
        """**Arguments:**

        - `shape`: the power, positive; 1 makes it an exponential.
        - `scale`: in the units of `x`, positive; 63% (1 - 1 / e) of the probability is below it.
        """
        self.shape, self.scale = cast(Array, shape), cast(Array, scale)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf for x <= 0."""
        log_z, below, above = self._log_z(jnp.asarray(x))
        value = log(self.shape) - log(self.scale) + (self.shape - 1) * log_z - jnp.exp(self.shape * log_z)
        return jnp.where(below | above, -jnp.inf, value)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        low, high = jnp.asarray(low), jnp.asarray(high)
        log_a, below_a, above_a = self._log_z(jnp.where(jnp.isinf(low), self.scale, low))
        log_b, below_b, above_b = self._log_z(jnp.where(jnp.isinf(high), self.scale, high))
        empty = (high <= low) | above_a | below_b
        from_below, to_above = jnp.isneginf(low) | below_a, jnp.isposinf(high) | above_b
        bounded = ~empty & ~from_below & ~to_above
        # log(b / a); from the width where the difference of two logs would lose digits
        near = bounded & (high < 2 * low)
        a, b = jnp.where(near, low, 1.0), jnp.where(near, high, 2.0)
        growth = self.shape * jnp.where(near, log1p((b - a) / a), jnp.where(bounded, log_b - log_a, 1.0))
        # exp(-t_a) - exp(-t_b) = exp(-t_a) (1 - exp(t_a - t_b)), where t_b - t_a = t_b (1 - exp(-growth))
        log_step = self.shape * log_b + jnp.where(bounded, log(growth) + log_mean_exp(growth), 0.0)
        part = jnp.where(to_above, 0.0, log_step + log_mean_exp(jnp.exp(log_step)))
        return jnp.where(empty, -jnp.inf, part - jnp.where(from_below, 0.0, jnp.exp(self.shape * log_a)))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.shape), jnp.shape(self.scale))
        dtype = jnp.result_type(float, self.shape, self.scale)
        return self.scale * jax.random.exponential(key, (*shape, *parameters), dtype) ** (1 / self.shape)

    def _log_z(self, x: Array) -> tuple[Array, Array, Array]:
        """log(x / scale), whether `x` is below the support, and so far above that the density is taken as 0."""
        below = x <= 0
        log_z = log(jnp.where(below, 1.0, x / self.scale))
        above = ~below & (self.shape * log_z > largest_exponent(log_z.dtype))
        return jnp.where(below | above, 0.0, log_z), below, above
