"""The generalized Pareto distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution
from ._functions import log1p_ratio
from ._mean_exp import log_mean_exp


class GeneralizedPareto(AbstractDistribution):
    """The distribution of the excess over a high threshold: the probability above `x` is

        (1 + xi z)^(-1 / xi),  z = (x - mu) / sigma,  for z > 0 where 1 + xi z > 0

    (S. Coles, An Introduction to Statistical Modeling of Extreme Values (2001), equation 4.2, of x - mu). At xi = 0 it
    is an exponential; it is smooth there. SciPy's shape is xi too.
    """

    mu: Array
    sigma: Array
    xi: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike, xi: ArrayLike):
        """**Arguments:**

        - `mu`: the threshold, where the support begins, in the units of `x`.
        - `sigma`: the scale, in the units of `x`, positive.
        - `xi`: the shape: above 0 the tail falls as the power -1 / xi, below 0 it ends at mu - sigma / xi.
        """
        self.mu, self.sigma, self.xi = cast(Array, mu), cast(Array, sigma), cast(Array, xi)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the support."""
        z = (jnp.asarray(x) - self.mu) / self.sigma
        outside = (z < 0) | (self.xi * z <= -1)
        value = -log(self.sigma) - (1 + self.xi) * self._depth(jnp.where(outside, 0.0, z))
        return jnp.where(outside, -jnp.inf, value)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        low, high = jnp.asarray(low), jnp.asarray(high)
        below = low < self.mu
        z = jnp.where(below, 0.0, (jnp.where(jnp.isposinf(low) | below, self.mu, low) - self.mu) / self.sigma)
        empty = (high <= low) | (high <= self.mu) | (self.xi * z <= -1)
        z = jnp.where(empty, 0.0, z)
        a, b = jnp.where(below, self.mu, low), jnp.where(empty | jnp.isinf(high), 1.0, high)
        # the width in units of the scale of the tail beyond `low`, which is of the same kind
        width = jnp.where(empty | jnp.isinf(high), 1.0, (b - jnp.where(empty, 0.0, a)) / self.sigma) / (1 + self.xi * z)
        to_the_end = jnp.isposinf(high) | (self.xi * width <= -1)
        depth = self._depth(jnp.where(to_the_end, 1.0, width), to_the_end)
        part = jnp.where(to_the_end, 0.0, log(depth) + log_mean_exp(depth))
        return jnp.where(empty, -jnp.inf, part - self._depth(z))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(*(jnp.shape(p) for p in (self.mu, self.sigma, self.xi)))
        dtype = jnp.result_type(float, self.mu, self.sigma, self.xi)
        depth = jax.random.exponential(key, (*shape, *parameters), dtype)
        # (exp(xi depth) - 1) / xi
        return self.mu + self.sigma * depth * jnp.exp(log_mean_exp(-self.xi * depth))

    def _depth(self, z: Array, unused: ArrayLike = False) -> Array:
        """log(1 + xi z) / xi, minus the log of the probability above; z where `unused`."""
        r = jnp.where(unused, 0.0, self.xi * z)
        return z * log1p_ratio(r)
