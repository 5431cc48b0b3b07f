"""Draws of Poisson counts by inversion, with a table that depends on the mean alone.

`jax.random.poisson` draws by rejection: under `jax.vmap` all lanes continue until the last one has accepted, 450 to 800
ns per count on a CPU, more than ten times the time of the toy's fit. Toys are many draws at the same means, so that the
distribution functions are tabulated once, and each count takes one uniform number and a search in the table, about 60
ns (inversion: L. Devroye, Non-Uniform Random Variate Generation (1986), III.2).
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float

# Cells of the table. Up to a mean of 160 each cell is one count; above, a cell holds several counts within 7 % of a
# standard deviation, whose probabilities are approximated by a geometric series: accurate to 1e-5.
_CELLS = 256
_REACH = 9.0  # standard deviations on both sides of the mean; the smallest uniform number is at 8.2
_MOST_MEANS = 2**14  # limit on the number of tables
# ln k! minus the leading terms of Stirling's formula, (k + 1/2) ln k - k, for k from 1 on; for larger k its series has
# full precision (Abramowitz and Stegun 6.1.41)
_SMALL = tuple(math.lgamma(k + 1) - (k + 0.5) * math.log(k) + k for k in range(1, 17))
_LARGE = 0.5 * math.log(2 * math.pi)


def draw_poisson(key: Array, mean: Float[Array, "*n"], shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
    """Draws floats of shape `(*shape, *mean.shape)`; NaN where the mean is negative or not finite.

    The same key and means give the same counts, vmapped or not. For vmapped means the tables are made one after
    another, at about 10 us each.
    """
    mean = lax.stop_gradient(mean)
    is_valid = (mean >= 0) & jnp.isfinite(mean)
    safe = jnp.where(is_valid, mean, 0.0)
    if mean.size > _MOST_MEANS:
        drawn = jax.random.poisson(key, safe, (*shape, *mean.shape)).astype(mean.dtype)
    else:
        drawn = _invert(jax.random.uniform(key, (*shape, *mean.shape), mean.dtype), safe)
    return jnp.where(is_valid, drawn, jnp.nan)


@custom_vmap
def _invert(u: Float[Array, "..."], mean: Float[Array, "*n"]) -> Float[Array, "..."]:
    """Returns the smallest counts whose distribution functions are not below `u`."""
    n = mean.size
    first, size, below, fall = _table(jnp.ravel(mean))
    has_wide_cells = jnp.any(size > 1)
    below, fall = jnp.ravel(below), jnp.ravel(fall)
    uniform = u.reshape(-1, n)
    rows = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32) * _CELLS, uniform.shape)
    first, size = jnp.broadcast_to(first, uniform.shape), jnp.broadcast_to(size, uniform.shape)
    cell = jnp.zeros_like(rows)
    for step in (2**i for i in reversed(range(_CELLS.bit_length() - 1))):
        cell = jnp.where(below[rows + cell + (step - 1)] < uniform, cell + step, cell)
    offset = lax.cond(
        has_wide_cells, _inside, lambda uniform, *_: jnp.zeros_like(uniform), uniform, cell, rows, size, below, fall
    )
    return (first + size * cell.astype(size.dtype) + offset).reshape(u.shape)


@_invert.def_vmap
def _(axis_size: int, batched: tuple[bool, bool], u: Array, mean: Array) -> tuple[Array, bool]:
    if not batched[1]:
        return _invert(u, mean), True
    # the means differ between lanes: one table at a time, because all of them may not fit into memory
    u = u if batched[0] else jnp.broadcast_to(u, (axis_size, *u.shape))
    return lax.map(lambda lane: _invert(*lane), (u, mean)), True


def _table(mean: Float[Array, " n"]) -> tuple[Array, Array, Array, Array]:
    """Returns, for each mean, the first count of its table, the number of counts per cell, the distribution function at
    the end of each cell, and the log of the ratio of successive probabilities within it."""
    sigma = jnp.sqrt(mean)
    first = jnp.maximum(jnp.floor(mean - _REACH * sigma - 5), 0.0)
    size = jnp.ceil((mean + _REACH * sigma + 20 - first) / _CELLS)
    step, mean = (jnp.broadcast_to(a[:, None], (mean.size, _CELLS)) for a in (size, mean))
    count = first[:, None] + step * jnp.arange(_CELLS, dtype=mean.dtype)[None]
    log_p = _log_probability(count, mean)
    single_counts = lambda log_p, *_: (jnp.exp(log_p), jnp.zeros_like(log_p))  # noqa: E731
    mass, fall = lax.cond(jnp.any(size > 1), _of_cells, single_counts, log_p, count, step, mean)
    below = jnp.cumsum(mass, axis=1)
    return first, size, below / below[:, -1:], fall


def _of_cells(log_p: Array, count: Array, step: Array, mean: Array) -> tuple[Array, Array]:
    """Returns the probability of cells of several counts, by the geometric series through their first and last counts,
    and the log of the ratio of successive probabilities."""
    fall = (_log_probability(count + step - 1, mean) - log_p) / jnp.maximum(step - 1, 1.0)
    is_flat = ~(jnp.abs(fall) * step > 1e-6)
    safe = jnp.where(is_flat, 1.0, fall)
    terms = jnp.where(is_flat, step, jnp.expm1(step * safe) / jnp.expm1(safe))
    return jnp.exp(log_p) * jnp.where(step > 1, terms, 1.0), fall


def _inside(uniform: Array, cell: Array, rows: Array, size: Array, below: Array, fall: Array) -> Array:
    """Returns the offset of the count within a cell of several counts, by inversion of the geometric series."""
    start = jnp.where(cell > 0, below[rows + jnp.maximum(cell - 1, 0)], 0.0)
    mass = below[rows + cell] - start
    fraction = jnp.clip((uniform - start) / jnp.where(mass > 0, mass, 1.0), 0.0, 1.0)
    slope = fall[rows + cell]
    is_flat = ~(jnp.abs(slope) * size > 1e-6)
    safe = jnp.where(is_flat, 1.0, slope)
    count = jnp.where(is_flat, fraction * size, jnp.log1p(fraction * jnp.expm1(size * safe)) / safe)
    return jnp.clip(jnp.floor(count), 0.0, size - 1)


def _log_probability(k: Array, mean: Array) -> Array:
    """Returns the log of the probability of a count, without cancellation for large means (C. Loader, Fast and Accurate
    Computation of Binomial Probabilities (2000)).

    `mx.distributions.Poisson.log_prob` allows fractional counts and derivatives, too, but its gamma function makes it
    three times slower; a table takes about 25,000 of these.
    """
    positive = jnp.maximum(k, 1.0)
    relative = (positive - mean) / jnp.where(mean > 0, mean, 1.0)
    deviance = mean * ((1 + relative) * jnp.log1p(relative) - relative)
    inverse_k = 1 / jnp.maximum(positive, len(_SMALL))
    series = inverse_k * (1 / 12 - inverse_k**2 * (1 / 360 - inverse_k**2 * (1 / 1260 - inverse_k**2 / 1680)))
    small = jnp.asarray(_SMALL, k.dtype)[jnp.minimum(positive, len(_SMALL)).astype(int) - 1]
    stirling_rest = jnp.where(positive < len(_SMALL), small, _LARGE + series)
    log_p = -deviance - 0.5 * jnp.log(positive) - stirling_rest
    # a mean so small that k / mean overflows counts as zero
    return jnp.where(k == 0, -mean, jnp.where((mean > 0) & jnp.isfinite(relative), log_p, -jnp.inf))
