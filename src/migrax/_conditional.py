"""What a covariance says of some parameters if others are held or moved."""

import jax.numpy as jnp
from jaxtyping import Array, Float


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
