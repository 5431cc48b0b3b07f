"""Intervals cut to a range; quantiles and random numbers from nothing but the probabilities of intervals."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float


def clip(low: ArrayLike, high: ArrayLike, start: ArrayLike, stop: ArrayLike) -> tuple[Array, Array]:
    """The part of the interval between `start` and `stop`, empty (its end not above its start) if there is none.

    Where an end of the interval and one of the range are the same, the derivatives go to that of the interval:
    `jnp.maximum` would give each a half, which is wrong in a sum over pieces.
    """
    low, high = jnp.asarray(low), jnp.asarray(high)
    return jnp.where(low < start, start, low), jnp.where(high > stop, stop, high)


def sample_by_bisection(
    log_integral: Callable[[Array, Array], Array], low: ArrayLike, high: ArrayLike, key: Array, shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """Random numbers by the inverse of the cdf, of the given shape in front of that of the parameters: see `quantiles`.
    They have no derivatives in the parameters.

    **Arguments:**

    - `log_integral`: the log of the probability of an interval; need not be normalised.
    - `low`, `high`: the range of the numbers.
    """
    whole = jax.eval_shape(log_integral, jnp.asarray(low), jnp.asarray(high))
    u = jax.random.uniform(key, (*shape, *whole.shape), whole.dtype, minval=jnp.finfo(whole.dtype).tiny)
    left = u < 0.5
    return quantiles(log_integral, low, high, jnp.where(left, jnp.log(u), jnp.log1p(-u)), left)


def quantiles(
    log_integral: Callable[[Array, Array], Array],
    low: ArrayLike,
    high: ArrayLike,
    log_tail: Float[Array, "..."],
    left: Bool[Array, "..."],
) -> Float[Array, "..."]:
    """Where the part below (`left`) or above of the probability between `low` and `high` is exp(log_tail).

    The number is found between those that floating point has, by halving how many are left: as many steps as it has
    bits, for any range, finite or not, to the last digit. Each is compared with the tail on its own side, so that both
    tails are precise.
    """
    whole = log_integral(jnp.asarray(low), jnp.asarray(high))
    dtype = whole.dtype
    bits = jnp.finfo(dtype).bits
    integers = jnp.dtype(f"int{bits}")
    target = whole + log_tail
    low, high = (jnp.broadcast_to(jnp.asarray(end, dtype), target.shape) for end in (low, high))

    # Among the integers with the same bits positive floats are in order, and negative ones in the reverse order.
    def swap(i: Array) -> Array:
        return jnp.where(i < 0, i ^ jnp.iinfo(integers).max, i)

    def number(i: Array) -> Array:
        return jax.lax.bitcast_convert_type(swap(i), dtype)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = ends
        middle = (a & b) + ((a ^ b) >> 1)  # (a + b) / 2 could overflow
        x = number(middle)
        mass = log_integral(jnp.where(left, low, x), jnp.where(left, x, high))
        below = jnp.where(left, mass < target, mass > target)
        return jnp.where(below, middle, a), jnp.where(below, b, middle)

    ends = tuple(swap(jax.lax.bitcast_convert_type(end, integers)) for end in (low, high))
    _, found = jax.lax.fori_loop(0, bits, halve, jax.lax.stop_gradient(ends))
    return jnp.where(jnp.isfinite(whole), number(found), jnp.nan)
