"""One nuisance factor per bin for all templates ("Barlow-Beeston lite"), profiled or integrated in closed form.

`n` counts, `mu` expected with the variance `mu_var` from the templates; plain Poisson where this is 0.
"""

import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from .._util.logs import log, log1p
from .counts import Counts, terms_from_mean


def _poisson(n: Array, mu: Array) -> Array:
    return terms_from_mean(mu, Counts(n), None)


def da_terms(
    n: Float[Array, "*bins"], mu: Float[Array, "*bins"], mu_var: Float[Array, "*bins"]
) -> Float[Array, "*bins"]:
    """H. Dembinski and A. Abdelmotteleb, Eur. Phys. J. C 82 (2022) 1043, equations 19 and 20."""
    known = (mu_var > 0) & (mu != 0)
    k = jnp.where(known, mu, 1.0) ** 2 / jnp.where(known, mu_var, 1.0)
    # beta = (n + k) / (mu + k)
    shift = jnp.where(known, (n - mu) / (mu + k), 0.0)
    log_beta = log1p(shift)
    return _poisson(n, mu * (1 + shift)) + jnp.where(known, k * (shift - log_beta), 0.0)


def conway_terms(
    n: Float[Array, "*bins"], mu: Float[Array, "*bins"], mu_var: Float[Array, "*bins"]
) -> Float[Array, "*bins"]:
    """J. S. Conway, PHYSTAT 2011, arXiv:1103.0354; equation 15 of arXiv:2206.12346, solved for beta - 1."""
    known = (mu_var > 0) & (mu != 0)
    relative = jnp.where(known, mu_var, 0.0) / jnp.where(known, mu, 1.0) ** 2
    a = 1 + mu * relative
    discriminant = (1 - mu * relative) ** 2 + 4 * n * relative
    positive = known & (discriminant > 0)
    root = jnp.where(positive, jnp.sqrt(jnp.where(positive, discriminant, 1.0)), 1.0)
    slope = 2 * (n - mu) / jnp.where(known, a + root, 1.0)  # (beta - 1) / variance of beta
    # 1 + slope * relative, without becoming negative by rounding; exactly 0 if the profile is at beta = 0 (n = 0)
    over = mu * relative > 1
    small = 2 * n * relative / jnp.where(known & over, root + mu * relative - 1, 1.0)
    beta = jnp.where(known, jnp.where(over, small, 1 + slope * relative), 1.0)
    return _poisson(n, mu * beta) + jnp.where(known, 0.5 * slope**2 * relative, 0.0)


def asy_terms(
    n: Float[Array, "*bins"], mu: Float[Array, "*bins"], mu_var: Float[Array, "*bins"]
) -> Float[Array, "*bins"]:
    """C. A. Argüelles, A. Schneider and T. Yuan, JHEP 06 (2019) 030, equation 3.15, relative to the saturated model."""
    known = (mu_var > 0) & (mu > 0)
    mu_, var = jnp.where(known, mu, 1.0), jnp.where(known, mu_var, 1.0)
    alpha, inverse = mu_**2 / var + 1, var / mu_
    # -alpha log1p(1/beta) + n log(alpha / (1 + beta)) + log(Gamma(n + alpha) / (Gamma(alpha) alpha^n)), beta = mu/var
    log_l = -alpha * log1p(inverse) + n * log(alpha * inverse / (1 + inverse)) + _log_rising(alpha, n)
    observed = n > 0
    saturated = jnp.where(observed, n * log(jnp.where(observed, n, 1.0)) - n, 0.0)
    return jnp.where(known, saturated - log_l, _poisson(n, jnp.where(known, 1.0, mu)))


_LARGE = 1e3


def _log_rising(a: Array, n: Array) -> Array:
    """log(Gamma(a + n) / (Gamma(a) a^n)), without the cancellation of two large logs (Abramowitz and Stegun 6.1.41)."""
    large = a > _LARGE
    small = jnp.where(large, 1.0, a)
    direct = gammaln(small + n) - gammaln(small) - n * log(small)
    a = jnp.where(large, a, _LARGE)
    x = n / a
    stirling = lambda z: (1 / 12 - (1 / 360 - 1 / (1260 * z**2)) / z**2) / z  # noqa: E731
    series = a * (log1p(x) - x) + (n - 0.5) * log1p(x) + stirling(a + n) - stirling(a)
    return jnp.where(large, series, direct)
