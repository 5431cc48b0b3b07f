"""Weighted sums in log space, whose weights may be 0 or negative."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def log_weighted_sum(weights: Array, logs: Array, axis: int = 0) -> Array:
    """log(sum of weights · exp(logs)) over an axis; the two broadcast.

    Derivatives are right also where a weight is exactly 0 (that in the weight is exp(log) over the sum). Negative
    weights are allowed: the result is NaN where the sum is negative, and -inf where it is 0, with derivatives 0.
    """
    dtype = jnp.result_type(weights, logs)
    weights, logs = (a.astype(dtype) for a in jnp.broadcast_arrays(weights, logs))
    zero, vanishing = weights == 0, jnp.isneginf(logs)
    size = jnp.log(jnp.where(zero, 1.0, jnp.abs(lax.stop_gradient(weights))))
    counted = jnp.where(zero | vanishing, -jnp.inf, lax.stop_gradient(logs) + size)
    largest = jnp.max(counted, axis=axis, keepdims=True)
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    gap = jnp.where(vanishing, 0.0, logs - largest)
    # A term of weight 0 may exceed the sum by any factor. It adds nothing to the value; its ratio to the sum, which is
    # the derivative in the weight, is limited so that its square is finite.
    gap = jnp.where(zero, jnp.minimum(gap, 0.4 * jnp.log(jnp.finfo(dtype).max).astype(dtype)), gap)
    total = jnp.sum(jnp.where(vanishing, 0.0, weights * jnp.exp(gap)), axis=axis)
    positive = total > 0
    log_total = jnp.squeeze(largest, axis) + jnp.log(jnp.where(positive, total, 1.0))
    return jnp.where(positive, log_total, jnp.where(total == 0, -jnp.inf, jnp.nan))
