"""Polynomials in the Chebyshev basis."""

from typing import cast

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution
from ._interval import sample_by_bisection
from ._polynomial import log_polynomial_integral, positions, safe_log
from .bernstein import check_coefficients


class Chebyshev(AbstractDistribution):
    """A polynomial on the range from `low` to `high`,

        1 + sum of c_k T_k(t) for k = 1 to the degree,  t from -1 to 1 over the range,

    divided by its integral. T_k are the Chebyshev polynomials of the first kind (Abramowitz and Stegun 22.3.6); the
    convention is that of RooFit's `RooChebychev`. It is a density only if it is nowhere negative. This is certain if
    the absolute values of the coefficients add up to less than 1.
    """

    coefficients: Array
    low: Array
    high: Array

    def __init__(self, coefficients: ArrayLike, low: ArrayLike, high: ArrayLike):
        """**Arguments:**

        - `coefficients`: c_k from k = 1 on, of shape (..., degree); the axes before the last are those of the
            distribution.
        - `low`, `high`: the range, finite.
        """
        self.coefficients = check_coefficients(coefficients)
        self.low, self.high = cast(Array, low), cast(Array, high)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the range, NaN where the polynomial is negative."""
        x = jnp.asarray(x)
        outside = (x < self.low) | (x > self.high)
        value = self._polynomial(*positions(jnp.where(outside, self.low, x), self.low, self.high))
        log_value = safe_log(jnp.where(outside, 0.0, value))
        norm = self._log_norm() + log(self.high - self.low)
        return jnp.where(jnp.isneginf(log_value), -jnp.inf, log_value - norm)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`; NaN where the integral is negative."""
        degree = self.coefficients.shape[-1]
        mass = log_polynomial_integral(self._polynomial, degree, low, high, self.low, self.high)
        return jnp.where(jnp.isneginf(mass), -jnp.inf, mass - self._log_norm())

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters, by bisection of the cdf. They have no
        derivatives in the parameters."""
        return sample_by_bisection(self.log_integral, self.low, self.high, key, shape)

    def _log_norm(self) -> Array:
        """The log of the mean over the range; T_k has the mean 1 / (1 - k²) for even k, else 0."""
        even = [self.coefficients[..., k - 1] / (1 - k**2) for k in range(2, self.coefficients.shape[-1] + 1, 2)]
        return log(1.0 + sum(even, jnp.zeros_like(self.coefficients[..., 0])))

    def _polynomial(self, from_low: Array, from_high: Array) -> Array:
        """The polynomial at the two positions, by Clenshaw's recurrence."""
        t = from_low - from_high
        b_1, b_2 = jnp.zeros_like(t), jnp.zeros_like(t)
        for k in range(self.coefficients.shape[-1] - 1, -1, -1):
            b_1, b_2 = self.coefficients[..., k] + 2 * t * b_1 - b_2, b_1
        return 1.0 + t * b_1 - b_2
