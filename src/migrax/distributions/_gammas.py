"""Logs of gamma functions without cancellation, differentiable to any order."""

import jax.numpy as jnp
from jaxtyping import Array

from .._util.logs import log1p

# Both series are used above this number, where they are exact to rounding; the recurrence leads there.
_SHIFT = 10
# B_2j / (2j (2j - 1)) (Abramowitz and Stegun 6.1.40)
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
# -(1 - 2^-2j) B_2j / (j (2j - 1)), from 6.1.40 and the duplication formula 6.1.18
_HALF = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432, 691 / 180224, -5461 / 425984)


def stirling_error(k: Array) -> Array:
    """log Gamma(k) - (k - 1/2) log k + k - log(2 pi) / 2 for k > 0; it falls as 1 / (12 k)."""
    j = _steps(k)
    return _odd_series(_STIRLING, 1 / (k + _SHIFT)) + jnp.sum((k + j + 0.5) * log1p(1 / (k + j)) - 1, axis=0)


def log_half_step(u: Array) -> Array:
    """log(Gamma(a + 1/2) / (Gamma(a) sqrt(a))) for a = 1/u, with u >= 0; an odd function of any real u, smooth at 0.

    Exact to 1e-15, from u = -1e3 to 1e3.
    """
    negative = u < 0
    u = jnp.where(negative, -u, u)
    out = _odd_series(_HALF, u / (1 + _SHIFT * u)) + 0.5 * log1p(_SHIFT * u)
    out = out - jnp.sum(log1p(0.5 * u / (1 + _steps(u) * u)), axis=0)
    return jnp.where(negative, -out, out)


def _steps(like: Array) -> Array:
    """0, 1, ... on a leading axis (instead of a loop, as it compiles much faster)."""
    return jnp.arange(_SHIFT, dtype=like.dtype).reshape(-1, *(1 for _ in range(like.ndim)))


def _odd_series(coefficients: tuple[float, ...], x: Array) -> Array:
    square, out = x**2, jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        out = coefficient + square * out
    return x * out
