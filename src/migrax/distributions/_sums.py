"""Weighted sums in log space, whose weights may be 0 or negative."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .._util.logs import log


def log_weighted_sum(weights: Array, logs: Array, axis: int = 0) -> Array:
    """log(sum of weights · exp(logs)) over an axis; the two broadcast.

    Derivatives are right also where a weight is exactly 0 (that in the weight is exp(log) over the sum). Negative
    weights are allowed: the result is NaN where the sum is negative, and -inf where it is 0, with derivatives 0.
    """
    dtype = jnp.result_type(weights, logs)
    weights, logs = (a.astype(dtype) for a in jnp.broadcast_arrays(weights, logs))
    zero, vanishing = weights == 0, jnp.isneginf(logs)
    size = log(jnp.where(zero, 1.0, jnp.abs(lax.stop_gradient(weights))))
    counted = jnp.where(zero | vanishing, -jnp.inf, lax.stop_gradient(logs) + size)
    largest = jnp.max(counted, axis=axis, keepdims=True)
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    gap = jnp.where(vanishing, 0.0, logs - largest)
    # A term of weight 0 may exceed the sum by any factor. It adds nothing to the value; its ratio to the sum, which is
    # the derivative in the weight, is limited so that its square is finite.
    gap = jnp.where(zero, jnp.minimum(gap, 0.4 * log(jnp.finfo(dtype).max).astype(dtype)), gap)
    total = jnp.sum(jnp.where(vanishing, 0.0, weights * jnp.exp(gap)), axis=axis)
    positive = total > 0
    log_total = jnp.squeeze(largest, axis) + log(jnp.where(positive, total, 1.0))
    return jnp.where(positive, log_total, jnp.where(total == 0, -jnp.inf, jnp.nan))


def log_mixture(weights: Sequence[Any], logs: Sequence[Any]) -> Array:
    """The same of a few weights and logs, which broadcast, each in its own array; all derivatives are products of the
    ratios exp(log) / sum, which are computed once."""
    dtype = jnp.result_type(*weights, *logs)
    return _log_ratios(*(tuple(jnp.asarray(a, dtype) for a in arrays) for arrays in (weights, logs)))[0]


@jax.custom_jvp
def _log_ratios(weights: tuple[Array, ...], logs: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
    """The log of the sum, and the derivatives in the weights."""
    vanishing = [jnp.isneginf(a) for a in logs]
    zero = [w == 0 for w in weights]
    sizes = [jnp.where(z, -jnp.inf, log(jnp.where(z, 1.0, jnp.abs(w)))) for w, z in zip(weights, zero, strict=True)]
    largest = functools.reduce(jnp.maximum, [a + size for a, size in zip(logs, sizes, strict=True)])
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    # of a term of weight 0, which may exceed the sum by any factor: its square must be finite
    most = 0.4 * log(jnp.finfo(largest.dtype).max).astype(largest.dtype)
    parts = [
        jnp.where(v, 0.0, jnp.exp(jnp.where(z, jnp.minimum(a - largest, most), a - largest)))
        for a, z, v in zip(logs, zero, vanishing, strict=True)
    ]
    total = functools.reduce(jnp.add, [w * part for w, part in zip(weights, parts, strict=True)])
    # A choice after the logarithm would be a branch around it, and a loop with a branch is not vectorised.
    inverse = 1 / jnp.where(total == 0, jnp.inf, total)
    return largest + log(total), tuple(part * inverse for part in parts)


@_log_ratios.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (weights, logs), (t_weights, t_logs) = primals, tangents
    total, ratios = _log_ratios(weights, logs)
    # the log of nothing has no slope
    t_logs = [jnp.where(jnp.isneginf(a), 0.0, t) for a, t in zip(logs, t_logs, strict=True)]
    changes = [r * (t_w + w * t) for r, w, t_w, t in zip(ratios, weights, t_weights, t_logs, strict=True)]
    t_total = functools.reduce(jnp.add, changes)
    return (total, ratios), (t_total, tuple(r * (t - t_total) for r, t in zip(ratios, t_logs, strict=True)))
