"""The histogram fit of iminuit's tutorial on automatic differentiation: 10,000 normal numbers in 1000 bins."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from jaxtyping import Array, Float, Scalar

import migrax as mx

from ._contestants import NLL

COUNTS, EDGES = np.histogram(np.random.default_rng(1).normal(size=10_000), bins=1000)
NAMES = ("amp", "mu", "sigma")
START = np.array([1.5 * COUNTS.sum(), 1.0, 2.0])
TRUTH = np.array([10_000.0, 0.0, 1.0])
LIMITS = ((0.0, None), (None, None), (0.0, None))
MINIMUM = 496.2134


def nll(p: dict[str, Any], n: Float[Array, " bins"]) -> Scalar:
    """The tutorial's own likelihood, with its guards against empty bins."""
    z = (EDGES - p["mu"]) / p["sigma"]
    mu = p["amp"] * jnp.diff(0.5 * (1 + erf(z / np.sqrt(2))))
    return jnp.sum(mu - n + n * jnp.log(n / (mu + 1e-100) + 1e-100))


def _log_expected(p: dict[str, Any]) -> Array:
    return jnp.log(p["amp"]) + mx.distributions.Normal(p["mu"], p["sigma"]).log_bin_integrals(EDGES)


stable_nll = mx.PoissonNLL(log_expected=_log_expected)


def params(start: Any) -> dict[str, mx.Parameter]:
    """The start as migrax takes it, with the limits."""
    amp, mu, sigma = start
    return {"amp": mx.Parameter(amp, lower=0.0), "mu": mx.Parameter(mu), "sigma": mx.Parameter(sigma, lower=0.0)}


def of_vector(fn: Any) -> NLL:
    """A likelihood of named parameters as a function of a vector, which the peers take."""
    return lambda x, n: fn(dict(zip(NAMES, x, strict=True)), n)


def toys(count: int, seed: int = 7) -> Float[np.ndarray, "count bins"]:
    """Histograms of 10,000 normal numbers each, in the same bins."""
    draws = np.random.default_rng(seed).normal(size=(count, 10_000))
    return np.stack([np.histogram(draw, bins=EDGES)[0] for draw in draws]).astype(float)
