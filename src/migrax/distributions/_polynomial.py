"""Integrals of polynomials on a range, as sums without cancellation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from .._util.logs import log
from .._util.tracing import is_concrete
from ._interval import clip

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
    low, high = (np.asarray(end) if isinstance(end, list) else end for end in (low, high))
    dtype = jnp.result_type(float, low, high, start, stop, coefficients)
    known = is_concrete(low, high, start, stop)
    with np.errstate(all="ignore"):  # a range without width
        ends = [np.asarray(end, float) if known else jnp.asarray(end, dtype) for end in (low, high, start, stop)]
        integrals, empty = _integrals(np if known else jnp, ends, basis, coefficients.shape[-1] - 1)
    log_mass = safe_log(polynomial(coefficients, [jnp.asarray(part, dtype) for part in integrals]))
    return log_mass if known and not np.any(empty) else jnp.where(empty, -jnp.inf, log_mass)


def _integrals(xp: Any, ends: Sequence[Any], basis: Basis, degree: int) -> tuple[list[Any], Any]:
    """The integrals of the basis, and which intervals are empty, of NumPy or JAX."""
    low, high, start, stop = ends
    a, b = clip(low, high, start, stop, xp)
    empty = b <= a
    a, b = xp.where(empty, start, a), xp.where(empty, stop, b)
    (from_low, _), (_, from_high) = positions(a, start, stop), positions(b, start, stop)
    half = 0.5 * (b - a) / (stop - start)
    integrals: list[Any] = [0.0] * (degree + 1)
    for node, weight in zip(*np.polynomial.legendre.leggauss(degree // 2 + 1), strict=True):
        at_node = basis(from_low + half * (1 + float(node)), from_high + half * (1 - float(node)), degree)
        integrals = [total + float(weight) * half * part for total, part in zip(integrals, at_node, strict=True)]
    return integrals, empty


def safe_log(value: Array) -> Array:
    """The log; -inf at 0, with derivatives 0, and NaN below."""
    return jnp.where(value == 0, -jnp.inf, log(jnp.where(value == 0, 1.0, value)))
