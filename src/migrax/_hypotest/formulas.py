"""Asymptotic p-values of the test statistics (CCGV: G. Cowan, K. Cranmer, E. Gross and O. Vitells, Eur. Phys. J. C 71
(2011) 1554), from the statistic `q` of the data and `q_a` of the Asimov data of the alternative.

All is in logarithms of the normal tail, so that p-values of 1e-300 have all their digits, and derivatives are finite
where q is 0.
"""

import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Array

BANDS = (-2, -1, 0, 1, 2)  # standard deviations of the estimate, for what is expected


def root(q: Array) -> Array:
    """The square root, with derivative 0 at 0: there, the statistic is 0 on one side whatever the data are."""
    positive = q > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, q, 1.0)), jnp.where(jnp.isnan(q), jnp.nan, 0.0))


def distance(q: Array, q_a: Array, tilde: bool) -> Array:
    """How far the data are from what the alternative expects, in standard deviations: sqrt(q) - sqrt(q_a), and for a
    tilde statistic above q_a (q - q_a) / (2 sqrt(q_a)) (CCGV eqs. 57, 65)."""
    r, r_a = root(q), root(q_a)
    if not tilde:
        return r - r_a
    beyond = q > q_a
    safe = jnp.where(beyond & (q_a > 0), r_a, 1.0)
    return jnp.where(beyond & (q_a > 0), (q - q_a) / (2 * safe), r - r_a)


def log_p_one_sided(distance: Array, r_a: Array) -> tuple[Array, Array]:
    """log p of the hypothesis tested, and of the alternative, from the distance of the data."""
    return log_ndtr(-(distance + r_a)), log_ndtr(-distance)


def log_p_two_sided(q: Array, q_a: Array, tilde: bool) -> tuple[Array, Array]:
    """The same for t_mu (CCGV eqs. 35 and 32), and for t̃_mu (eqs. 41 to 45) where `tilde`."""
    r, r_a = root(q), root(q_a)
    usual = (_log_both(r, jnp.zeros_like(r)), _log_both(r, r_a))
    if not tilde:
        return usual
    beyond = (q > q_a) & (q_a > 0)
    safe = jnp.where(beyond, r_a, 1.0)
    high = (q + safe**2) / (2 * safe), (q - safe**2) / (2 * safe)
    tested = jnp.logaddexp(log_ndtr(-r), log_ndtr(-high[0]))
    # the alternative: eq. 43 with mu' = 0, where sigma = mu / sqrt(q_a)
    other = jnp.logaddexp(log_ndtr(-(r + r_a)), log_ndtr(-high[1]))
    return jnp.where(beyond, tested, usual[0]), jnp.where(beyond, other, usual[1])


def _log_both(r: Array, shift: Array) -> Array:
    """log of 1 - [Phi(r + shift) + Phi(r - shift) - 1]."""
    return jnp.logaddexp(log_ndtr(-(r + shift)), log_ndtr(-(r - shift)))


def expected_log_p(r_a: Array) -> tuple[Array, Array]:
    """log p of the hypothesis tested and of the alternative, shape `(5,)`, where the data are those of the alternative
    or 1, 2 standard deviations off (CCGV eqs. 88, 89). The first is where the estimate is 2 standard deviations low."""
    off = -jnp.asarray(BANDS, r_a.dtype)
    return log_p_one_sided(off, jnp.broadcast_to(r_a, off.shape))


def significance(log_p: Array) -> Array:
    """Z of a one-sided p-value given as its log: Phi(-Z) = p, also for p of 1e-300."""
    p = jnp.exp(jnp.maximum(log_p, -650.0))
    z = -ndtri(jnp.where((p > 0) & (p < 1), p, 0.5))
    # two steps of Newton in the log, which ndtri's rounding at tiny p needs
    for _ in range(2):
        value = log_ndtr(-z)
        slope = -jnp.exp(-0.5 * z**2 - 0.5 * jnp.log(2 * jnp.pi) - value)
        z = z - (value - log_p) / slope
    return jnp.where(log_p == 0, -jnp.inf, z)


def fraction_error(p: Array, n: Array) -> Array:
    """The standard error of a fraction `p` of `n` toys: of the beta distribution of Jeffreys' prior, not 0 where
    no toy or all of them count (L. D. Brown, T. T. Cai and A. DasGupta, Statist. Sci. 16 (2001) 101)."""
    a, b = p * n + 0.5, n - p * n + 0.5
    return jnp.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))


def significance_error(z: Array, error: Array) -> Array:
    """The standard error of Z from that of its p-value: over the normal density at Z."""
    return error * jnp.exp(0.5 * z**2) * jnp.sqrt(2 * jnp.pi)
