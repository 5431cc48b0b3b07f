"""Minus the log of the Poisson likelihood of one bin relative to the saturated model, mu - n + n log(n / mu).

In an empty bin -n log mu is 0, but its derivative with respect to n is not: it moves a fit when the count becomes
positive. (The derivative of n log n - n, infinite there for any parameters, is left out.)
"""

import functools
import math
import operator
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float

from .._util.logs import log

Four = tuple[Array, Array, Array, Array]

_NEAR = 0.25  # below it the first terms of the exponential are left out of its series, not subtracted
_SERIES = tuple(1 / math.factorial(k + 2) for k in range(12))


def from_log(log_mu: Float[Array, "*bins"], n: Float[Array, "*bins"]) -> Float[Array, "*bins"]:
    """The term from the log of the expectation. NaN for a negative count."""
    return _from_log(*jnp.broadcast_arrays(log_mu, n))[0]


def from_mean(mu: Float[Array, "*bins"], n: Float[Array, "*bins"]) -> Float[Array, "*bins"]:
    """The term from the expectation. NaN for a negative count or expectation."""
    return _from_mean(*jnp.broadcast_arrays(mu, n))[0]


@jax.custom_jvp
def _from_log(log_mu: Array, n: Array) -> Four:
    """The term T, its derivative mu - n in log mu, mu, and its derivative -r in n, where r is log(mu / n) or, in an
    empty bin, log mu. T = n (exp(r) - 1 - r) has no cancellation where mu is near n."""
    observed = n > 0
    safe_n = jnp.where(observed, n, 1.0)
    r = log_mu - log(safe_n)
    ratio, series = jnp.exp(r), jnp.full_like(r, _SERIES[-1])
    for coefficient in _SERIES[-2::-1]:
        series = series * r + coefficient
    near, excess = jnp.abs(r) < _NEAR, r**2 * series
    term = jnp.where(observed, n * jnp.where(near, excess, ratio - 1 - r), jnp.where(n == 0, ratio, jnp.nan))
    slope = jnp.where(observed, n * jnp.where(near, excess + r, ratio - 1), ratio)
    return term, slope, safe_n * ratio, jnp.where(~observed & jnp.isneginf(r), 0.0, -r)


def _derivatives_from_log(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Four, Four]:
    (_, n), (t_log, t_n) = primals, tangents
    _, slope, mu, slope_n = out = _from_log(*primals)
    changes = []  # of the four results, with log mu and with n
    if not isinstance(t_log, SymbolicZero):
        changes.append((slope * t_log, mu * t_log, mu * t_log, -t_log))
    if not isinstance(t_n, SymbolicZero):
        changes.append((slope_n * t_n, -t_n, jnp.zeros_like(mu), _quotient(t_n, n, n > 0)))
    return out, _summed(changes)


@jax.custom_jvp
def _from_mean(mu: Array, n: Array) -> Four:
    """The term T, its derivatives 1 - n / mu and n / mu² in mu, and its derivative -log(mu / n) in n."""
    observed = n > 0
    ratio = jnp.where(_has_log(mu, n), mu, 1.0) / jnp.where(observed, n, 1.0)
    log_ratio = log(ratio)
    term = jnp.where(observed | ((n == 0) & (mu >= 0)), mu - n - n * log_ratio, jnp.nan)
    inverse = jnp.where(observed, 1 / ratio, 0.0)
    return term, 1 - inverse, _quotient(inverse, mu, observed), -log_ratio


def _derivatives_from_mean(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Four, Four]:
    (mu, n), (t_mu, t_n) = primals, tangents
    _, slope, curvature, slope_n = out = _from_mean(*primals)
    inverse = _quotient(jnp.ones_like(mu), mu, _has_log(mu, n))
    changes = []  # of the four results, with mu and with n
    if not isinstance(t_mu, SymbolicZero):
        changes.append((slope * t_mu, curvature * t_mu, -2 * curvature * inverse * t_mu, -inverse * t_mu))
    if not isinstance(t_n, SymbolicZero):
        changes.append((slope_n * t_n, -inverse * t_n, inverse**2 * t_n, _quotient(t_n, n, n > 0)))
    return out, _summed(changes)


def _summed(changes: list[Four]) -> Four:
    return cast(Four, functools.reduce(lambda a, b: tuple(map(operator.add, a, b)), changes))


def _has_log(mu: Array, n: Array) -> Bool[Array, "*bins"]:
    """Whether log mu is used: n = 0 multiplies its derivatives, which overflow for tiny mu; the first four do not."""
    return (n > 0) | (mu > jnp.finfo(mu.dtype).tiny ** 0.2)


def _quotient(a: Array, b: Array, where: Array) -> Array:
    """a / b, or 0 elsewhere."""
    return jnp.where(where, a / jnp.where(where, b, 1.0), 0.0)


_from_log.defjvp(_derivatives_from_log, symbolic_zeros=True)
_from_mean.defjvp(_derivatives_from_mean, symbolic_zeros=True)
