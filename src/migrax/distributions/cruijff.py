"""The Cruijff distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._base import AbstractDistribution, check_edges
from ._bins_by_nodes import log_bins, without
from ._interval import any_nan
from ._inversion import invert, panels_around
from ._quadrature import log_unimodal


class Cruijff(AbstractDistribution):
    """A peak with a width and a tail on each side, on a finite range: the density is proportional to
    exp(-(x - mu)² / (2 sigma² + alpha (x - mu)²)) (P. del Amo Sanchez et al. (BABAR), Phys. Rev. D 82 (2010) 051101).

    With alpha > 0 the density far from the peak does not fall to 0 but to exp(-1 / alpha) of its maximum, so that it
    can be normalised only on a finite range; with both alphas 0 it is the bifurcated normal distribution. `mu` may be
    outside the range.
    """

    mu: Array
    sigma_low: Array
    sigma_high: Array
    alpha_low: Array
    alpha_high: Array
    low: Array
    high: Array

    def __init__(
        self,
        mu: ArrayLike,
        sigma_low: ArrayLike,
        sigma_high: ArrayLike,
        alpha_low: ArrayLike,
        alpha_high: ArrayLike,
        low: ArrayLike,
        high: ArrayLike,
    ):
        """**Arguments:**

        - `mu`: the position of the peak, where the two sides meet.
        - `sigma_low`, `sigma_high`: the widths below and above it, positive, in the units of `x`.
        - `alpha_low`, `alpha_high`: the strengths of the tails below and above it, not negative; no unit.
        - `low`, `high`: the range, finite. The integrals are exact to 1e-12 for ranges of up to 1e4 widths.
        """
        self.mu, self.sigma_low, self.sigma_high = cast(Array, mu), cast(Array, sigma_low), cast(Array, sigma_high)
        self.alpha_low, self.alpha_high = cast(Array, alpha_low), cast(Array, alpha_high)
        self.low, self.high = cast(Array, low), cast(Array, high)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the range. The norm takes 266 evaluations."""
        x = jnp.asarray(x)
        inside = (x >= self.low) & (x <= self.high) | jnp.isnan(x)
        steps = jnp.where(inside, x - self.mu, 0.0)
        value = jnp.where(inside, _log_kernel(steps, *self._shape) - self._log_norm(), -jnp.inf)
        return jnp.where(any_nan(self.low, self.high), jnp.nan, value)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`. Each interval takes 266 evaluations."""
        low, high = jnp.asarray(low), jnp.asarray(high)
        a, b = jnp.where(low > self.low, low, self.low), jnp.where(high < self.high, high, self.high)
        nonempty = b > a
        a, b = jnp.where(nonempty, a, self.low), jnp.where(nonempty, b, self.high)
        out = jnp.where(nonempty, _log_mass(a, b, self.mu, *self._shape) - self._log_norm(), -jnp.inf)
        return jnp.where(any_nan(low, high, self.low, self.high), jnp.nan, out)

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`. A bin in which the density is smooth takes
        15 evaluations."""
        low, high = check_edges(edges, self)
        smooth = without([self.mu], low, high)
        return log_bins(self.log_prob, self.log_integral, low, high, smooth, (self.low, self.high))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters, by inversion of the cdf. They are not
        differentiable."""
        fields = (self.mu, self.sigma_low, self.sigma_high, self.alpha_low, self.alpha_high, self.low, self.high)
        parameters = jnp.broadcast_shapes(*(jnp.shape(p) for p in fields))
        dtype = jnp.result_type(float, *fields)
        u = jax.random.uniform(key, (*shape, *parameters), dtype)
        return _quantile(u, *(jnp.broadcast_to(jnp.asarray(p, dtype), parameters) for p in fields))

    @property
    def _shape(self) -> tuple[Array, Array, Array, Array]:
        return self.sigma_low, self.sigma_high, self.alpha_low, self.alpha_high

    def _log_norm(self) -> Array:
        return _log_mass(self.low, self.high, self.mu, *self._shape)


def _log_kernel(
    steps: Array, sigma_low: ArrayLike, sigma_high: ArrayLike, alpha_low: ArrayLike, alpha_high: ArrayLike
) -> Array:
    """The log of the kernel at a distance from the peak."""
    below = steps < 0
    sigma, alpha = jnp.where(below, sigma_low, sigma_high), jnp.where(below, alpha_low, alpha_high)
    square = (steps / sigma) ** 2
    return -square / (2 + alpha * square)


@jax.jit
def _log_mass(low: ArrayLike, high: ArrayLike, mu: ArrayLike, *shape: ArrayLike) -> Array:
    """log of the integral of the kernel from `low` to `high`."""
    dtype = jnp.result_type(float, low, high, mu, *shape)
    low, high, mu, *shape_ = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (low, high, mu, *shape)))
    return log_unimodal(lambda x: _log_kernel(x, *shape_), low - mu, high - mu, jnp.zeros_like(mu))


@jax.jit
def _quantile(u: Array, mu: Array, *rest: Array) -> Array:
    *shape, low, high = (jax.lax.stop_gradient(v) for v in rest)
    center = jax.lax.stop_gradient(mu)
    peak = jnp.clip(center, low, high)
    # each side has its own width, and panels end at the peak
    edges = jnp.concatenate([
        panels_around(peak, shape[0], low, peak),
        panels_around(peak, shape[1], peak, high)[1:],
    ])  # fmt: skip
    return invert(lambda x: _log_kernel(x - center, *shape), edges, u)
