"""Integrals of polynomials on a range, as sums without cancellation."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from .._util.logs import log
from ._interval import clip


def positions(x: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The position of `x` in the range: its distances from `low` and from `high`, relative to the width."""
    return (x - low) / (high - low), (high - x) / (high - low)


def log_polynomial_integral(
    polynomial: Callable[[Array, Array], Array], degree: int, low: ArrayLike, high: ArrayLike, start: Array, stop: Array
) -> Array:
    """The log of the integral of a polynomial from `low` to `high`, clipped to the range from `start` to `stop`; x is
    measured in units of the range. -inf where the interval is empty or the integral is 0, NaN where it is negative.

    It is exact, with as many Gauss-Legendre nodes as the degree needs (Abramowitz and Stegun 25.4.29).

    **Arguments:**

    - `polynomial`: a function of the two `positions`.
    """
    a, b = clip(low, high, start, stop)
    empty = b <= a
    a, b = jnp.where(empty, start, a), jnp.where(empty, stop, b)
    (from_low, _), (_, from_high) = positions(a, start, stop), positions(b, start, stop)
    half = 0.5 * (b - a) / (stop - start)
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    mean = jnp.zeros_like(half)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        mean = mean + weight * polynomial(from_low + half * (1 + node), from_high + half * (1 - node))
    return jnp.where(empty, -jnp.inf, log(half) + safe_log(mean))


def safe_log(value: Array) -> Array:
    """The log; -inf at 0, with derivatives 0, and NaN below."""
    return jnp.where(value == 0, -jnp.inf, log(jnp.where(value == 0, 1.0, value)))
