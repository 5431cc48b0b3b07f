"""Integrals of polynomials on a range, as sums without cancellation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from .._util.logs import log
from .._util.tracing import is_concrete

# of the two `positions` and the degree, the basis polynomials from degree 0 on, of NumPy or JAX as the positions are
Basis = Callable[[Any, Any, int], Sequence[Any]]


def positions(x: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """The position of `x` in the range: its distances from `low` and from `high`, relative to the width."""
    return (x - low) / (high - low), (high - x) / (high - low)


def polynomial(coefficients: Array, basis: Sequence[Any]) -> Array:
    """The sum of the basis polynomials, each of the same shape, times the coefficients along the last axis."""
    total = coefficients[..., 0] * basis[0]
    for k in range(1, len(basis)):
        total = total + coefficients[..., k] * basis[k]
    return total


def log_polynomial_integral(
    coefficients: Array, basis: Basis, low: ArrayLike, high: ArrayLike, start: Array, stop: Array
) -> Array:
    """The log of the integral of a polynomial from `low` to `high`, clipped to the range from `start` to `stop`; x is
    measured in units of the range. -inf where the interval is empty or the integral is 0, NaN where it is negative.

    It is exact, with as many Gauss-Legendre nodes as the degree needs (Abramowitz and Stegun 25.4.29). The integrals of
    the basis between known ends are numbers, and no part of a program.

    **Arguments:**

    - `coefficients`: those of the basis, along the last axis.
    """
    dtype = jnp.result_type(low, high, start, stop, coefficients)
    xp = np if is_concrete(low, high, start, stop) else jnp
    a, b, first, last = (xp.asarray(end, float if xp is np else dtype) for end in (low, high, start, stop))
    # as `clip`, of NumPy too
    a, b = xp.where(a < first, first, a), xp.where(b > last, last, b)
    empty = b <= a
    a, b = xp.where(empty, first, a), xp.where(empty, last, b)
    (from_low, _), (_, from_high) = positions(a, first, last), positions(b, first, last)
    half, degree = 0.5 * (b - a) / (last - first), coefficients.shape[-1] - 1
    integrals: list[Any] = [0.0] * (degree + 1)
    for node, weight in zip(*np.polynomial.legendre.leggauss(degree // 2 + 1), strict=True):
        at_node = basis(from_low + half * (1 + float(node)), from_high + half * (1 - float(node)), degree)
        integrals = [total + float(weight) * half * part for total, part in zip(integrals, at_node, strict=True)]
    log_mass = safe_log(polynomial(coefficients, [jnp.asarray(part, dtype) for part in integrals]))
    return log_mass if xp is np and not np.any(empty) else jnp.where(empty, -jnp.inf, log_mass)


def safe_log(value: Array) -> Array:
    """The log; -inf at 0, with derivatives 0, and NaN below."""
    return jnp.where(value == 0, -jnp.inf, log(jnp.where(value == 0, 1.0, value)))
