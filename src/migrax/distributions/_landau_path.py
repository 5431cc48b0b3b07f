"""The integrals of Landau's density and tails along the path of steepest descent, from which the tables are made."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._util.logs import log, log1p

# The integral along the path of steepest descent (Zolotarev, One-dimensional Stable Distributions (1986), 2.2.19): with
# s = exp(-1 - l) and V(a) = a / sin(a) exp(1 - a cot(a)),
#     cdf(l) = 1/pi int_0^pi exp(-s V) da,    phi(l) = s/pi int_0^pi V exp(-s V) da,
# where everything is positive. V grows from 1 to infinity, and the integrand is where s V is about 1. With
# a = pi (1 - 1/p), where log V is about p for large p, and p = 1 + log(1 + exp(u)), it falls like exp(u) on the left
# and exp(-exp(u)) on the right. The nodes are trapezoidal ones in v, with u = U(l) + v - exp(-v), which move with l.
_STEP = 1 / 26
_V = np.arange(-3.7, 4.3, _STEP)
NODES = _V - np.exp(-_V)
LOG_WEIGHTS = np.log(_STEP * (1 + np.exp(-_V)))
# zeta(2n), in the series of log(a / sin a) and 1 - a cot a (Abramowitz and Stegun 4.3.70 and 4.3.71)
_ZETA = (
    1.6449340668482264, 1.0823232337111382, 1.0173430619844491, 1.0040773561979443, 1.0009945751278182,
    1.0002460865533080, 1.0000612481350587, 1.0000152822594087, 1.0000038172932650,
)  # fmt: skip
_LOG_PI = 1.1447298858494002


def path(level: Array, t: Array) -> tuple[Array, Array, Array, Array]:
    """At the nodes: log(s V), where `level` is -log s; s (V - 1); the log of da/du; and pi - a."""
    below = jnp.logaddexp(0.0, -level)
    shift = 0.5 * below - 1.14 - log1p(jnp.logaddexp(0.0, level)) + t  # of u from `level`
    u = level + shift
    m = jnp.logaddexp(0.0, u)
    p = 1 + m
    # near a = 0
    near = m < 0.19
    ratio, by_zero = jnp.where(near, m / p, 0.1) ** 2, jnp.zeros_like(u)
    for n in range(9, 0, -1):
        by_zero = ratio * (_ZETA[n - 1] * (1 / n + 2) + by_zero)
    # near a = pi, where log V - level is a difference of large numbers, unless it is written with `shift`
    far = m > 5.3
    m_, u_ = jnp.where(far, m, 10.0), jnp.where(far, u, 10.0)
    inverse, by_pi = 1 / (1 + m_) ** 2, jnp.zeros_like(u)
    for n in range(9, 0, -1):
        by_pi = inverse * (_ZETA[n - 1] * (1 / n - 2 * m_) + by_pi)
    by_pi = 1 + shift + log1p(jnp.exp(-u_)) + log(m_) + by_pi
    # between
    m_ = jnp.where(near | far, 1.0, m)
    a = np.pi * m_ / (1 + m_)
    between = log(a / jnp.sin(a)) + 1 - a * jnp.cos(a) / jnp.sin(a)
    log_v = jnp.where(near, by_zero, between)
    g = jnp.where(far, by_pi, log_v - level)
    # s (V - 1), where V - 1 has all digits for small a
    s = rate_of(level)
    rise = jnp.where(
        far, jnp.exp(jnp.where(far, jnp.minimum(g, 30.0), 0.0)) - s, s * jnp.expm1(jnp.minimum(log_v, 60.0))
    )
    log_slope = _LOG_PI - jnp.logaddexp(0.0, -u) - 2 * log(p)
    return g, rise, log_slope, np.pi / p


def rate_of(level: Array) -> Array:
    """s = exp(-1 - l), where `level` is 1 + l."""
    return jnp.exp(-level)
