"""What a covariance says of some parameters if others are held or moved."""

import jax.numpy as jnp
from jaxtyping import Array, Float

_OFF = 3e-4  # standard deviations


def conditional(covariance: Float[Array, "n n"], rows: Float[Array, "k n"]) -> Float[Array, "n n"]:
    """The covariance if `rows @ x` are held: zero across them."""
    for row in rows:
        v = covariance @ row
        variance = row @ v
        there = variance > 0
        covariance = covariance - jnp.where(there, jnp.outer(v, v) / jnp.where(there, variance, 1.0), 0.0)
    return covariance


def conditional_shift(v: Float[Array, "n n"], rows: Float[Array, "k n"], by: Float[Array, " n"]) -> Float[Array, " n"]:
    """By how much all parameters move to first order, if those of `rows` are moved by theirs in `by`."""
    inner = rows @ v @ rows.T
    known = jnp.diagonal(inner) > 0
    inner = jnp.where(known[:, None] & known[None, :], inner, jnp.eye(inner.shape[0], dtype=v.dtype))
    return v @ rows.T @ jnp.linalg.solve(inner, jnp.where(known, rows @ by, 0.0))


def off_symmetry(v: Float[Array, "n n"]) -> Float[Array, " n"]:
    """A tiny step, a few ten-thousandths of a standard deviation of the covariance `v`, in no particular direction.

    Where a likelihood is symmetric in a nuisance parameter, a search that begins on the axis stays there, also where
    the axis is a ridge. From beside it, each step downwards leads away.
    """
    n = v.shape[0]
    # multiples of the golden angle: no two parameters alike
    w = jnp.cos(2.399963229728653 * (1 + jnp.arange(n, dtype=v.dtype)))
    variance = jnp.diagonal(v)
    w = jnp.where(variance > 0, w / jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
    step = v @ w
    length = w @ step
    return jnp.where(length > 0, _OFF * step / jnp.sqrt(jnp.where(length > 0, length, 1.0)), 0.0)
