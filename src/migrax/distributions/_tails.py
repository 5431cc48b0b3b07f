"""Probabilities of intervals from the logs of a distribution's two tails, without cancellation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log, log1p
from ._interval import any_nan
from ._stored import stored

# An interval that holds less than this fraction of its tail, and over which the log of the density changes by less than
# this, is integrated with Gauss-Legendre nodes: unlike the difference of two tails, these lose no digits.
_NARROW = 0.2
_MAX_CHANGE = 0.5
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_LOG_HALF = -0.6931471805599453


def log_sub(a: Array, b: Array) -> Array:
    """log(exp(a) - exp(b)), where `b` may be -inf. -inf if a <= b, with derivatives 0 there."""
    positive, two = a > b, (a > b) & ~jnp.isneginf(b)
    gap = jnp.where(two, b, -1.0) - jnp.where(two, a, 0.0)
    value = jnp.where(positive, a, 0.0) + jnp.where(two, log(-jnp.expm1(gap)), 0.0)
    return jnp.where(positive, value, jnp.where(any_nan(a, b), jnp.nan, -jnp.inf))


def log_add(a: Array, b: Array) -> Array:
    """log(exp(a) + exp(b)), where either may be -inf, with derivatives 0 for that one."""
    return _log_sum_and_parts(*jnp.broadcast_arrays(a, b))[0]


@jax.custom_jvp
def _log_sum_and_parts(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """The log of the sum, and the parts of the sum that `a` and `b` are."""
    one = jnp.isneginf(a) | jnp.isneginf(b)
    fraction = jnp.where(one, 0.0, jnp.exp(-jnp.abs(jnp.where(one, 0.0, a - b))))  # the smaller over the larger
    whole = 1 / (1 + fraction)
    part = fraction * whole
    parts = jnp.where(a > b, whole, part), jnp.where(a > b, part, whole)
    log_sum, a_part, b_part = stored(fraction, jnp.maximum(a, b) + log1p(fraction), *parts)
    return log_sum, a_part, b_part


@_log_sum_and_parts.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[tuple, tuple]:
    out = _log_sum_and_parts(*primals)
    t_a, t_b = (jnp.where(jnp.isneginf(x), 0.0, t) for x, t in zip(primals, tangents, strict=True))
    t_sum = out[1] * t_a + out[2] * t_b
    return out, (t_sum, out[1] * (t_a - t_sum), out[2] * (t_b - t_sum))


def log_complement(a: Array) -> Array:
    """log(1 - exp(a)) for a < 0, precise near both ends; -inf for a >= 0, with derivatives 0 there."""
    is_negative, is_nan = a < 0, any_nan(a)
    a = jnp.where(is_negative, a, -1.0)
    near_one = a > _LOG_HALF
    by_expm1 = log(-jnp.expm1(jnp.where(near_one, a, -0.1)))
    by_log1p = log1p(-jnp.exp(jnp.where(near_one, -1.0, a)))
    return jnp.where(is_negative, jnp.where(near_one, by_expm1, by_log1p), jnp.where(is_nan, jnp.nan, -jnp.inf))


def log_from_tails(
    log_prob: Callable[[Array], Array],
    log_cdf: Callable[[Array], Array],
    log_sf: Callable[[Array], Array],
    low: ArrayLike,
    high: ArrayLike,
    center: ArrayLike,
) -> Float[Array, "..."]:
    """The log of the probability between `low` and `high` of a distribution whose two tails are known.

    **Arguments:**

    - `log_prob`: the log of the density; analytic wherever it changes by less than 0.5 over an interval that holds
        less than a fifth of the tail beyond its end (pieces that join there are integrated one by one).
    - `log_cdf`, `log_sf`: the logs of the probabilities below and above a point; each is used where it is the smaller
        one, so that it may be computed as the complement of the other elsewhere. -inf outside the support.
    - `low`, `high`: broadcast with each other and the parameters; may be infinite. The functions are never called with
        infinity.
    - `center`: a point inside the support, where all three functions have finite values and derivatives.

    All three must have finite derivatives where they are finite, and no NaN derivatives elsewhere.
    """
    low, high, center = jnp.broadcast_arrays(
        *(jnp.asarray(x, jnp.result_type(low, high, center)) for x in (low, high, center))
    )
    from_below, to_above = jnp.isneginf(low), jnp.isposinf(high)
    a, b = jnp.where(jnp.isfinite(low), low, center), jnp.where(jnp.isfinite(high), high, center)
    (below_a, below_b), (above_a, above_b) = (jax.vmap(tail)(jnp.stack([a, b])) for tail in (log_cdf, log_sf))
    below_a, above_a = jnp.where(from_below, -jnp.inf, below_a), jnp.where(from_below, 0.0, above_a)
    below_b, above_b = jnp.where(to_above, 0.0, below_b), jnp.where(to_above, -jnp.inf, above_b)
    left = below_b <= _LOG_HALF
    right = ~left & (above_a <= _LOG_HALF)
    one_side = log_sub(jnp.where(left, below_b, above_a), jnp.where(left, below_a, above_b))
    by_tails = jnp.where(left | right, one_side, log_complement(log_add(below_a, above_b)))
    tail = jnp.where(left, below_b, jnp.where(right, above_a, _LOG_HALF))
    narrow = jnp.isfinite(low) & jnp.isfinite(high) & (high > low) & (by_tails < tail + np.log(_NARROW))
    by_nodes, spread = _by_nodes(log_prob, jnp.where(narrow, a, center), jnp.where(narrow, b, center))
    out = jnp.where(narrow & (spread < _MAX_CHANGE), by_nodes, by_tails)
    return jnp.where(high > low, out, jnp.where(any_nan(low, high, center), jnp.nan, -jnp.inf))


def _by_nodes(log_prob: Callable[[Array], Array], a: Array, b: Array) -> tuple[Array, Array]:
    """The log of the integral by eight nodes, and the change of the log of the density over them."""
    nodes, weights = jnp.asarray(_NODES, a.dtype), jnp.asarray(_WEIGHTS, a.dtype)
    half = 0.5 * (b - a)
    # by vmap instead of an axis of nodes, as the parameters broadcast with `a`
    values = jax.vmap(lambda node: log_prob(a + half * (1 + node)))(nodes)
    largest = jnp.max(values, axis=0)
    spread = largest - jnp.min(values, axis=0)
    usable = (spread < _MAX_CHANGE) & (half > 0)
    values = jnp.where(usable, values, 0.0)
    largest = jnp.where(usable, largest, 0.0)
    mean = jnp.tensordot(weights, jnp.exp(values - largest), axes=1)
    return log(jnp.where(usable, half, 1.0)) + largest + log(mean), spread
