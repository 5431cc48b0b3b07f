"""Polynomials in the Chebyshev basis."""

from typing import Any, cast

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution, check_edges
from ._interval import sample_by_bisection
from ._polynomial import log_polynomial_integral, polynomial, positions, safe_log
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
        places = positions(jnp.where(outside, self.low, x), self.low, self.high)
        value = polynomial(self._all(), _basis(*places, self.coefficients.shape[-1]))
        log_value = safe_log(jnp.where(outside, 0.0, value))
        norm = self._log_norm() + log(self.high - self.low)
        return jnp.where(jnp.isneginf(log_value), -jnp.inf, log_value - norm)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`; NaN where the integral is negative."""
        mass = log_polynomial_integral(self._all(), _basis, low, high, self.low, self.high)
        return jnp.where(jnp.isneginf(mass), -jnp.inf, mass - self._log_norm())

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`."""
        return self.log_integral(*check_edges(edges, self))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters, by bisection of the cdf. They have no
        derivatives in the parameters."""
        return sample_by_bisection(self.log_integral, self.low, self.high, key, shape)

    def _log_norm(self) -> Array:
        """The log of the mean over the range; T_k has the mean 1 / (1 - k²) for even k, else 0."""
        even = [self.coefficients[..., k - 1] / (1 - k**2) for k in range(2, self.coefficients.shape[-1] + 1, 2)]
        return log(1.0 + sum(even, jnp.zeros_like(self.coefficients[..., 0])))

    def _all(self) -> Array:
        """The coefficients with that of T_0."""
        return jnp.concatenate([jnp.ones_like(self.coefficients[..., :1]), self.coefficients], -1)


def _basis(from_low: Any, from_high: Any, degree: int) -> list[Any]:
    """T_k at the two positions, by the recurrence T_k+1 = 2 t T_k - T_k-1 (Abramowitz and Stegun 22.7.4)."""
    t = from_low - from_high
    values = [t**0, t]
    for _ in range(degree - 1):
        values.append(2 * t * values[-1] - values[-2])
    return values
