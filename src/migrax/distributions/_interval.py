"""Intervals clipped to a range; quantiles and random numbers from the probabilities of intervals alone."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from .._util.logs import log, log1p


def clip(low: Any, high: Any, start: Any, stop: Any, xp: Any = jnp) -> tuple[Any, Any]:
    """The part of the interval between `start` and `stop`, empty (its end not above its start) if there is none.

    Where an end of the interval coincides with one of the range, the derivative goes to that of the interval:
    `jnp.maximum` would give each a half, which is wrong in a sum over pieces.
    """
    low, high = xp.asarray(low), xp.asarray(high)
    return xp.where(low < start, start, low), xp.where(high > stop, stop, high)


def any_nan(*values: ArrayLike) -> Bool[Array, "..."]:
    """Where one of them is NaN: parameters that make comparisons false, which would be taken for an empty interval."""
    return functools.reduce(jnp.logical_or, map(jnp.isnan, values))


def sample_by_bisection(
    log_integral: Callable[[Array, Array], Array], low: ArrayLike, high: ArrayLike, key: Array, shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """Random numbers by inversion of the cdf, of the given shape, followed by that of the parameters: see `quantiles`.
    They have no derivatives in the parameters.

    **Arguments:**

    - `log_integral`: the log of the probability of an interval, which need not be normalised.
    - `low`, `high`: the range of the numbers.
    """
    log_total = jax.eval_shape(log_integral, jnp.asarray(low), jnp.asarray(high))
    u = jax.random.uniform(key, (*shape, *log_total.shape), log_total.dtype, minval=jnp.finfo(log_total.dtype).tiny)
    left = u < 0.5
    return quantiles(log_integral, low, high, jnp.where(left, log(u), log1p(-u)), left)


def quantiles(
    log_integral: Callable[[Array, Array], Array],
    low: ArrayLike,
    high: ArrayLike,
    log_tail: Float[Array, "..."],
    left: Bool[Array, "..."],
) -> Float[Array, "..."]:
    """The point below (`left`) or above which the fraction exp(log_tail) of the probability from `low` to `high` lies.

    It is found by bisection of the set of floating-point numbers, in as many steps as these have bits, for any range,
    finite or not, to the last digit. Each tail is compared on its own side, so that both are precise.
    """
    log_total = log_integral(jnp.asarray(low), jnp.asarray(high))
    dtype = log_total.dtype
    bits = jnp.finfo(dtype).bits
    integers = jnp.dtype(f"int{bits}")
    target = log_total + log_tail
    low, high = (jnp.broadcast_to(jnp.asarray(end, dtype), target.shape) for end in (low, high))

    # As integers with the same bits, positive floats are in order, and negative ones in reverse order.
    def reorder(i: Array) -> Array:
        return jnp.where(i < 0, i ^ jnp.iinfo(integers).max, i)

    def as_float(i: Array) -> Array:
        return jax.lax.bitcast_convert_type(reorder(i), dtype)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = ends
        middle = (a & b) + ((a ^ b) >> 1)  # (a + b) / 2 could overflow
        x = as_float(middle)
        mass = log_integral(jnp.where(left, low, x), jnp.where(left, x, high))
        below = jnp.where(left, mass < target, mass > target)
        return jnp.where(below, middle, a), jnp.where(below, b, middle)

    ends = tuple(reorder(jax.lax.bitcast_convert_type(end, integers)) for end in (low, high))
    _, solution = jax.lax.fori_loop(0, bits, halve, jax.lax.stop_gradient(ends))
    return jnp.where(jnp.isfinite(log_total), as_float(solution), jnp.nan)


@jax.custom_jvp
def excluded(outside: Array, log_prob: Array) -> Array:
    """-inf where `outside`, where `log_prob` must not be infinity, without derivatives there. A sum, as
    `jnp.where` would be compiled to a branch around the logarithms in `log_prob`, and loops with a branch use no
    vectors."""
    return log_prob + jnp.where(outside, -jnp.inf, 0.0)


@excluded.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    outside, log_prob = primals
    return excluded(outside, log_prob), jnp.where(outside, 0.0, tangents[1])
