"""Polynomials in the Bernstein basis."""

import math
from typing import Any, cast

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution, check_edges
from ._interval import sample_by_bisection
from ._polynomial import log_polynomial_integral, polynomial, positions, safe_log


class Bernstein(AbstractDistribution):
    """A polynomial on the range from `low` to `high`: the sum of c_k times the Bernstein basis polynomials

        binomial(m, k) t^k (1 - t)^(m - k),  t = (x - low) / (high - low),

    of degree m, divided by its integral (S. N. Bernstein, Comm. Soc. Math. Kharkov 13 (1912) 1; RooFit's
    `RooBernstein`). It is a density if no coefficient is negative. Only the ratios of the coefficients matter: fix one
    of them in a fit.
    """

    coefficients: Array
    low: Array
    high: Array

    def __init__(self, coefficients: ArrayLike, low: ArrayLike, high: ArrayLike):
        """**Arguments:**

        - `coefficients`: c_k, 0 or more, of shape (..., degree + 1); the axes before the last are those of the
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
        value = polynomial(self.coefficients, _basis(*places, self.coefficients.shape[-1] - 1))
        norm = log(jnp.mean(self.coefficients, -1)) + log(self.high - self.low)
        log_value = safe_log(jnp.where(outside, 0.0, value))
        return jnp.where(jnp.isneginf(log_value), -jnp.inf, log_value - norm)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        mass = log_polynomial_integral(self.coefficients, _basis, low, high, self.low, self.high)
        return jnp.where(jnp.isneginf(mass), -jnp.inf, mass - log(jnp.mean(self.coefficients, -1)))

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`."""
        return self.log_integral(*check_edges(edges, self))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters, by bisection of the cdf. They have no
        derivatives in the parameters."""
        return sample_by_bisection(self.log_integral, self.low, self.high, key, shape)


def _basis(t: Any, u: Any, degree: int) -> list[Any]:
    """The Bernstein polynomials at the two positions, which add up to 1: none is negative."""
    of_t, of_u = [t**0], [u**0]
    for _ in range(degree):
        of_t.append(of_t[-1] * t)
        of_u.append(of_u[-1] * u)
    return [math.comb(degree, k) * of_t[k] * of_u[degree - k] for k in range(degree + 1)]


def check_coefficients(coefficients: ArrayLike) -> Array:
    """**Raises:** `ValueError` unless there is an axis of coefficients, with at least one."""
    array = jnp.asarray(coefficients)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"the coefficients of a polynomial must have shape (..., n) with n > 0, got {array.shape}")
    return array
