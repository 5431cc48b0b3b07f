"""The generalized extreme value distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution
from ._functions import largest_exponent, log1p_ratio
from ._mean_exp import log_mean_exp


class GeneralizedExtremeValue(AbstractDistribution):
    """The distribution of the largest of many random numbers: its cdf is

        exp(-(1 + xi z)^(-1 / xi)),  z = (x - mu) / sigma,  where 1 + xi z > 0

    (S. Coles, An Introduction to Statistical Modeling of Extreme Values (2001), equation 3.2). At xi = 0 it is the
    Gumbel distribution, with cdf exp(-exp(-z)); it is smooth there. SciPy's shape is -xi.

    Where the density is so small that the exponential in its log overflows (below e^-1e138; in float32 below e^-1e17)
    it is taken as 0.
    """

    mu: Array
    sigma: Array
    xi: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike, xi: ArrayLike):
        """**Arguments:**

        - `mu`: the location, in the units of `x`; 37% (1 / e) of the probability is below it.
        - `sigma`: the scale, in the units of `x`, positive.
        - `xi`: the shape: above 0 the upper tail falls as the power -1 / xi, below 0 it ends at mu - sigma / xi.
        """
        self.mu, self.sigma, self.xi = cast(Array, mu), cast(Array, sigma), cast(Array, xi)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the support."""
        s, below, above = self._gumbel(jnp.asarray(x))
        return jnp.where(below | above, -jnp.inf, -log(self.sigma) - (1 + self.xi) * s - jnp.exp(-s))

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        low, high = jnp.asarray(low), jnp.asarray(high)
        s_a, below_a, above_a = self._gumbel(jnp.where(jnp.isinf(low), self.mu, low))
        s_b, below_b, above_b = self._gumbel(jnp.where(jnp.isinf(high), self.mu, high))
        empty = (high <= low) | above_a | below_b
        from_below, to_above = jnp.isneginf(low) | below_a, jnp.isposinf(high) | above_b
        bounded = ~empty & ~from_below & ~to_above
        # The cdf is exp(-exp(-s)). The growth of s over the interval, from its width:
        a, b = jnp.where(bounded, low, self.mu), jnp.where(bounded, high, self.mu + self.sigma)
        base = 1 + self.xi * (a - self.mu) / self.sigma
        width = jnp.where(bounded, (b - a) / self.sigma / jnp.where(bounded, base, 1.0), 1.0)
        r = jnp.where(bounded, self.xi * width, 0.0)
        growth = width * log1p_ratio(jnp.maximum(r, -1 + jnp.finfo(r.dtype).epsneg))
        # exp(-t_b) - exp(-t_a) = exp(-t_b) (1 - exp(t_b - t_a)), where t_a - t_b = t_a (1 - exp(-growth))
        log_step = -s_a + jnp.where(bounded, log(growth) + log_mean_exp(growth), 0.0)
        part = jnp.where(from_below, 0.0, log_step + log_mean_exp(jnp.exp(log_step)))
        return jnp.where(empty, -jnp.inf, part - jnp.where(to_above, 0.0, jnp.exp(-s_b)))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(*(jnp.shape(p) for p in (self.mu, self.sigma, self.xi)))
        s = jax.random.gumbel(key, (*shape, *parameters), jnp.result_type(float, self.mu, self.sigma, self.xi))
        # (exp(xi s) - 1) / xi
        return self.mu + self.sigma * s * jnp.exp(log_mean_exp(-self.xi * s))

    def _gumbel(self, x: Array) -> tuple[Array, Array, Array]:
        """log(1 + xi z) / xi, which follows a Gumbel distribution; whether `x` is below the support (or the density so
        small that it is taken as 0), and whether it is above."""
        z = (x - self.mu) / self.sigma
        r = self.xi * z
        outside = r <= -1
        s = z * log1p_ratio(jnp.where(outside, 0.0, r))
        below = jnp.where(outside, z < 0, -s > largest_exponent(s.dtype))
        return jnp.where(outside | below, 0.0, s), below, outside & (z > 0)
