"""The inputs of iminuit's tutorial on automatic differentiation, made anew: a histogram and a curve."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

import migrax as mx

COUNTS, EDGES = np.histogram(np.random.default_rng(1).normal(size=10_000), bins=1000)
MINIMUM = 496.2133719


def tutorial_nll(p, n):
    """The tutorial's own likelihood, with its guards against empty bins."""
    z = (EDGES - p["mu"]) / p["sigma"]
    cdf = 0.5 * (1 + erf(z / np.sqrt(2)))
    mu = p["amp"] * jnp.diff(cdf)
    return jnp.sum(mu - n + n * jnp.log(n / (mu + 1e-100) + 1e-100))


def log_expected(p):
    return jnp.log(p["amp"]) + mx.distributions.Normal(p["mu"], p["sigma"]).log_bin_integrals(EDGES)


stable_nll = mx.PoissonNLL(log_expected=log_expected)


def start(amp=15_000.0, mu=1.0, sigma=2.0):
    return {"amp": mx.Parameter(amp, lower=0.0), "mu": mx.Parameter(mu), "sigma": mx.Parameter(sigma, lower=0.0)}


def coarse(seed=3, bins=40, size=2000):
    """A histogram small enough for finite differences of refits."""
    counts, edges = np.histogram(np.random.default_rng(seed).normal(0.3, 1.2, size), bins=bins)
    return counts.astype(float), edges


def points():
    rng = np.random.default_rng(1)
    x = np.linspace(-4, 7, 30)
    y = x**2 + 2 * x + 3
    x = x + rng.normal(0, 0.5, x.size)
    y = y + rng.normal(0, 5, y.size)
    return mx.Points(x, y, yerr=5.0, xerr=0.5)


def peak(amp, mu, sigma, edges):
    """Expected counts of a Gaussian peak, by its density in the middle of each bin: cheap to compile."""
    z = (0.5 * (edges[1:] + edges[:-1]) - mu) / sigma
    return amp * np.diff(edges) / (sigma * np.sqrt(2 * np.pi)) * jnp.exp(-0.5 * z**2)
