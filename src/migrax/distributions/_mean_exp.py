"""The mean of exp(-u t) over 0 < t < 1, and the mean and the variance of t with this weight, for any real u.

Each is minus the derivative of the one before. Where the formula is 0 / 0 there is a series in u.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._util.logs import log

SMALL = 0.5  # the series are exact to rounding for a |u| below this
# log(sinh(x) / x) in powers of x² (Abramowitz and Stegun 4.5.64, integrated)
_LOG_SINHC = (1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250, 2 / 127702575)


@jax.custom_jvp
def log_mean_exp(u: Array) -> Array:
    """log((1 - exp(-u)) / u), the log of the mean of exp(-u t) over 0 < t < 1, precise for any real u."""
    small = jnp.abs(u) < SMALL
    size = jnp.where(small, 1.0, jnp.abs(u))
    # for u > 0 the terms -u/2 and |u|/2 cancel exactly, and are not taken as a difference of large numbers
    by_log = jnp.where(u > 0, 0.0, size) + log((1 - jnp.exp(-size)) / size)
    return jnp.where(small, log_mean_exp_series(jnp.where(small, u, 0.0)), by_log)


@log_mean_exp.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (u,), (t_u,) = primals, tangents
    return log_mean_exp(u), -_mean(u) * t_u


@jax.custom_jvp
def _mean(u: Array) -> Array:
    """The mean of t over 0 < t < 1 with the weight exp(-u t): (1 - L(u/2)) / 2 with Langevin's L(x) = coth x - 1/x."""
    small = jnp.abs(u) < SMALL
    size = jnp.where(small, 1.0, jnp.abs(u))
    e = jnp.exp(-size)
    rest = 1 / size - e / (1 - e)  # the mean for |u|
    return jnp.where(small, mean_series(jnp.where(small, u, 0.0)), jnp.where(u > 0, rest, 1 - rest))


@_mean.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (u,), (t_u,) = primals, tangents
    return _mean(u), -variance(u) * t_u


def variance(u: Array) -> Array:
    """The variance of t with the same weight."""
    small = jnp.abs(u) < SMALL
    near = jnp.where(small, 0.5 * u, 0.0)
    series = jnp.zeros_like(near)
    for k in range(len(_LOG_SINHC), 0, -1):
        series = near**2 * series + 0.5 * k * (2 * k - 1) * _LOG_SINHC[k - 1]
    size = jnp.where(small, 1.0, jnp.abs(u))
    e = jnp.exp(-size)
    return jnp.where(small, series, 1 / size**2 - e / (1 - e) ** 2)


def log_mean_exp_series(u: Array) -> Array:
    """`log_mean_exp` of a small u: -u/2 + log(sinh(x) / x) with x = u/2."""
    x2 = (0.5 * u) ** 2
    series = jnp.zeros_like(x2)
    for coefficient in reversed(_LOG_SINHC):
        series = x2 * (coefficient + series)
    return series - 0.5 * u


def mean_series(u: Array) -> Array:
    """The mean of t for a small u."""
    x = 0.5 * u
    series = jnp.zeros_like(x)
    for k in range(len(_LOG_SINHC), 0, -1):
        series = x**2 * series + 2 * k * _LOG_SINHC[k - 1]
    return 0.5 * (1 - x * series)
