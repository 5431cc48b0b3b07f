"""Integrals of polynomials on a range, as sums without cancellation."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from .._util.logs import log
from .._util.tracing import is_concrete


def positions(x: Any, low: Any, high: Any) -> tuple[Any, Any]:
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
    xp = np if is_concrete(low, high, start, stop) else jnp
    low, high = xp.asarray(low), xp.asarray(high)
    # as `clip`, here also of NumPy: what is made of known ends alone is no part of a program
    a, b = xp.where(low < start, start, low), xp.where(high > stop, stop, high)
    empty = b <= a
    a, b = xp.where(empty, start, a), xp.where(empty, stop, b)
    (from_low, _), (_, from_high) = positions(a, start, stop), positions(b, start, stop)
    half = 0.5 * (b - a) / (stop - start)
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    # the width goes into the weights: one logarithm, and no range is so narrow that their product underflows
    mass = jnp.zeros_like(half)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        mass = mass + weight * half * polynomial(from_low + half * (1 + node), from_high + half * (1 - node))
    return jnp.where(empty, -jnp.inf, safe_log(mass)) if xp is jnp or np.any(empty) else safe_log(mass)


def safe_log(value: Array) -> Array:
    """The log; -inf at 0, with derivatives 0, and NaN below."""
    return jnp.where(value == 0, -jnp.inf, log(jnp.where(value == 0, 1.0, value)))
