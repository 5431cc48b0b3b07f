"""The log of the integral of a power, (1 + s)^-n, with closed forms of its derivatives.

With l = log(1 + r) and u = (n - 1) l, the mean of (1 + r t)^-n over 0 < t < 1 is l / r (1 - exp(-u)) / u, smooth at
n = 1 and, as r goes to 0 with n r fixed, an exponential. E, the power at t = 1 over this mean, and M, the mean of
log(1 + r t) weighted with the power, make all first derivatives of its log L:

    dL = (E - 1) dr / r - M dn,    dE = -E (n dl + l dn + dL),    dM = E (l - M) dr / r - V dn,

where V, the variance of log(1 + r t) with these weights, is l² times that of an exponential on a range.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._util.logs import log, log1p
from ._mean_exp import SMALL, log_mean_exp_series, mean_series, variance
from ._stored import stored

Three = tuple[Array, Array, Array]
_SMALL = 1e-5  # for n r and r below this, three terms of the slope and its derivative are exact to rounding


def log_power_integral(near: Array, width: Array, rate: Array, n: Array) -> Array:
    """The log of the integral of (1 + rate s)^-n over s from `near` to `near` + `width`, all positive and finite."""
    dtype = jnp.result_type(float, near, width, rate, n)
    near, width, rate, n = (jnp.asarray(v, dtype) for v in (near, width, rate, n))
    y = rate * near
    return _log_integral(width, rate * width / (1 + y), n)[0] - n * log1p(y)


@jax.custom_jvp
def _log_integral(width: Array, r: Array, n: Array) -> Three:
    """log(width) + L, E and M."""
    log_end, is_point = log1p(r), r == 0
    ratio = jnp.where(is_point, 1.0, log_end / jnp.where(is_point, 1.0, r))
    u = (n - 1) * log_end
    small = jnp.abs(u) < SMALL
    near, size = jnp.where(small, u, 0.0), jnp.where(small, 1.0, jnp.abs(u))
    e = jnp.exp(-size)
    inverse = 1 / (1 - e)
    factor = width * ratio * jnp.where(small, 1.0, (1 - e) / size)
    log_integral = log(factor) + jnp.where(small, log_mean_exp_series(near), jnp.where(u > 0, 0.0, size))
    rest = 1 / size - e * inverse
    mean = jnp.where(small, mean_series(near), jnp.where(u > 0, rest, 1 - rest))
    end = jnp.where(small, 1 - near * mean, jnp.where(u > 0, e, 1.0) * size * inverse)
    log_integral, mean = stored(e, log_integral, log_end * mean)
    return log_integral, end / ((1 + r) * ratio), mean


@_log_integral.defjvp
def _(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]) -> tuple[Three, Three]:
    (width, r, n), (t_width, t_r, t_n) = primals, tangents
    _, end, mean = out = _log_integral(*primals)
    log_end, is_point = log1p(r), r == 0
    flat = jnp.maximum(jnp.abs(n), 1.0) * jnp.abs(r) < _SMALL
    series = n * (r * ((n + 4) / 12 - r * (n + 2) / 8) - 0.5)
    slope = jnp.where(flat, series, (end - 1) / jnp.where(flat, 1.0, r))
    t_log_end, t_log = t_r / (1 + r), slope * t_r - mean * t_n
    lead = jnp.where(is_point, 0.5, (log_end - mean) / jnp.where(is_point, 1.0, r))
    t_mean = end * lead * t_r - log_end**2 * variance((n - 1) * log_end) * t_n
    return out, (t_width / width + t_log, -end * (n * t_log_end + log_end * t_n + t_log), t_mean)
