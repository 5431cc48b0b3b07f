"""Conditional covariances, and the first-order shift of all parameters if some are moved."""

import jax.numpy as jnp
from jaxtyping import Array, Float

_OFF = 3e-4  # standard deviations


def conditional(covariance: Float[Array, "n n"], rows: Float[Array, "k n"]) -> Float[Array, "n n"]:
    """The covariance conditional on `rows @ x`, with zero variance along these rows."""
    for row in rows:
        v = covariance @ row
        variance = row @ v
        has_variance = variance > 0
        covariance = covariance - jnp.where(has_variance, jnp.outer(v, v) / jnp.where(has_variance, variance, 1.0), 0.0)
    return covariance


def conditional_shift(v: Float[Array, "n n"], rows: Float[Array, "k n"], by: Float[Array, " n"]) -> Float[Array, " n"]:
    """The shift of all parameters, to first order, if the parameters of `rows` are moved by their entries of `by`."""
    inner = rows @ v @ rows.T
    known = jnp.diagonal(inner) > 0
    inner = jnp.where(known[:, None] & known[None, :], inner, jnp.eye(inner.shape[0], dtype=v.dtype))
    return v @ rows.T @ jnp.linalg.solve(inner, jnp.where(known, rows @ by, 0.0))


def off_symmetry(v: Float[Array, "n n"]) -> Float[Array, " n"]:
    """A tiny step in an arbitrary direction, of a few ten-thousandths of a standard deviation of the covariance `v`.

    Where a likelihood is symmetric in a nuisance parameter, a search that starts on the axis of symmetry stays on it,
    even if it is a ridge. From beside the axis, each descent step leads away from a ridge.
    """
    n = v.shape[0]
    # multiples of the golden angle, so that no two parameters are treated alike
    weights = jnp.cos(2.399963229728653 * (1 + jnp.arange(n, dtype=v.dtype)))
    variance = jnp.diagonal(v)
    weights = jnp.where(variance > 0, weights / jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
    step = v @ weights
    length = weights @ step
    return jnp.where(length > 0, _OFF * step / jnp.sqrt(jnp.where(length > 0, length, 1.0)), 0.0)
