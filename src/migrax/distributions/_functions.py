"""Functions shared by densities, each smooth and precise where its formula is 0 / 0."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array

from .._util.logs import log1p

_TERMS = 10


def log1p_ratio(r: Array) -> Array:
    """log(1 + r) / r for r > -1, which is 1 at 0, with all its derivatives."""
    # log(1 + r) = 2 atanh(q) with q = r / (2 + r), and a series in q² (Abramowitz and Stegun 4.1.27)
    small = jnp.abs(r) < 0.25
    near = jnp.where(small, r, 0.0)
    q2 = (near / (2 + near)) ** 2
    series = jnp.zeros_like(q2)
    for k in range(_TERMS, -1, -1):
        series = 1 / (2 * k + 1) + q2 * series
    far = jnp.where(small, 1.0, r)
    return jnp.where(small, 2 / (2 + near) * series, log1p(far) / far)


def largest_exponent(dtype: DTypeLike) -> float:
    """The exp of this, and the square of that, are finite, with a margin for the factors in derivatives."""
    return 0.45 * float(np.log(float(jnp.finfo(dtype).max)))


def log1p_remainder(y: Array) -> Array:
    """y - log(1 + y) for y > -1, which is y²/2 near 0."""
    # log(1 + y) = 2 atanh(q) with q = y / (2 + y), and y - 2 q = y q
    small = jnp.abs(y) < 0.25
    near = jnp.where(small, y, 0.0)
    q = near / (2 + near)
    series = jnp.zeros_like(q)
    for k in range(_TERMS, 0, -1):
        series = q**2 * (1 / (2 * k + 1) + series)
    far = jnp.where(small, 1.0, y)
    return jnp.where(small, q * (near - 2 * series), far - log1p(far))
