"""Asymptotic p-values of the test statistics (CCGV: G. Cowan, K. Cranmer, E. Gross and O. Vitells, Eur. Phys. J. C 71
(2011) 1554), from the statistic `q` of the data and `q_a` of the Asimov data of the alternative.

All formulas use the logarithm of the normal tail, so that p-values of 1e-300 keep all digits and derivatives are finite
at q = 0.
"""

import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Array

from .._host import xp

BANDS = (-2, -1, 0, 1, 2)  # expected bands, in standard deviations of the estimate


def root(q: Array) -> Array:
    """Returns the square root, with derivative 0 at 0, where the statistic is one-sided and stays 0."""
    positive = q > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, q, 1.0)), xp.where(xp.isnan(q), xp.nan, 0.0))


def distance(q: Array, q_a: Array, tilde: bool) -> Array:
    """Returns the distance of the data from the expectation of the alternative, in standard deviations: sqrt(q) -
    sqrt(q_a), and (q - q_a) / (2 sqrt(q_a)) for a tilde statistic above q_a (CCGV eqs. 57, 65)."""
    r, r_a = root(q), root(q_a)
    if not tilde:
        return r - r_a
    is_beyond = q > q_a
    safe = jnp.where(is_beyond & (q_a > 0), r_a, 1.0)
    return jnp.where(is_beyond & (q_a > 0), (q - q_a) / (2 * safe), r - r_a)


def log_p_one_sided(distance: Array, r_a: Array) -> tuple[Array, Array]:
    """Returns log p of the tested hypothesis and of the alternative, from the distance of the data."""
    return log_ndtr(-(distance + r_a)), log_ndtr(-distance)


def log_p_two_sided(q: Array, q_a: Array, tilde: bool) -> tuple[Array, Array]:
    """Returns log p of both hypotheses for t_mu (CCGV eqs. 35 and 32), or for t̃_mu (eqs. 41 to 45) if `tilde`."""
    r, r_a = root(q), root(q_a)
    untruncated = (_log_both(r, jnp.zeros_like(r)), _log_both(r, r_a))
    if not tilde:
        return untruncated
    is_beyond = (q > q_a) & (q_a > 0)
    safe = jnp.where(is_beyond, r_a, 1.0)
    high = (q + safe**2) / (2 * safe), (q - safe**2) / (2 * safe)
    tested = jnp.logaddexp(log_ndtr(-r), log_ndtr(-high[0]))
    # the alternative: eq. 43 with mu' = 0, where sigma = mu / sqrt(q_a)
    alternative = jnp.logaddexp(log_ndtr(-(r + r_a)), log_ndtr(-high[1]))
    return jnp.where(is_beyond, tested, untruncated[0]), jnp.where(is_beyond, alternative, untruncated[1])


def _log_both(r: Array, shift: Array) -> Array:
    """Returns the log of 1 - [Phi(r + shift) + Phi(r - shift) - 1]."""
    return jnp.logaddexp(log_ndtr(-(r + shift)), log_ndtr(-(r - shift)))


def expected_log_p(r_a: Array) -> tuple[Array, Array]:
    """Returns log p of the tested hypothesis and of the alternative, shape `(5,)`, for data as the alternative expects
    them or 1, 2 standard deviations off (CCGV eqs. 88, 89). In the first the estimate is 2 standard deviations low."""
    distances = -jnp.asarray(BANDS, r_a.dtype)
    return log_p_one_sided(distances, jnp.broadcast_to(r_a, distances.shape))


def significance(log_p: Array) -> Array:
    """Returns Z of a one-sided p-value from its log: Phi(-Z) = p, accurate even for p of 1e-300."""
    p = jnp.exp(jnp.maximum(log_p, -650.0))
    z = -ndtri(jnp.where((p > 0) & (p < 1), p, 0.5))
    # two Newton steps in the log, because ndtri is inaccurate at tiny p
    for _ in range(2):
        value = log_ndtr(-z)
        slope = -jnp.exp(-0.5 * z**2 - 0.5 * jnp.log(2 * jnp.pi) - value)
        z = z - (value - log_p) / slope
    return jnp.where(log_p == 0, -jnp.inf, z)


def fraction_error(p: Array, n: Array) -> Array:
    """Returns the standard error of a fraction `p` of `n` toys, by the beta distribution of Jeffreys' prior: not 0 for
    a fraction of 0 or 1 (L. D. Brown, T. T. Cai and A. DasGupta, Statist. Sci. 16 (2001) 101)."""
    a, b = p * n + 0.5, n - p * n + 0.5
    return jnp.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))


def significance_error(z: Array, error: Array) -> Array:
    """Returns the standard error of Z: that of its p-value over the normal density at Z."""
    return error * jnp.exp(0.5 * z**2) * jnp.sqrt(2 * jnp.pi)
