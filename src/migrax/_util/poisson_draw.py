"""How Poisson counts are drawn: by inversion of a table that depends on the mean alone.

`jax.random.poisson` draws by rejection: under `jax.vmap` all lanes go on until the last one has its number, 450 to 800
ns a count on a CPU, more than ten times what the fit of the toy takes. Toys are many draws at the same means, so that
the distribution functions are tabulated once, and each count is one uniform number and a search in the table, some 60
ns (inversion: L. Devroye, Non-Uniform Random Variate Generation (1986), III.2).
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float

# Cells of the table. Up to a mean of 160 each is one count; above, a cell is several counts within 7 % of a standard
# deviation, between which the probabilities are taken for a geometric series: right to 1e-5.
_CELLS = 256
_REACH = 9.0  # standard deviations on both sides of the mean: the smallest uniform number is at 8.2
_MOST_MEANS = 2**14  # with a table each
# ln k! above the leading terms of Stirling's formula, (k + 1/2) ln k - k, for k from 1 on; its series has all digits
# after these (Abramowitz and Stegun 6.1.41)
_SMALL = tuple(math.lgamma(k + 1) - (k + 0.5) * math.log(k) + k for k in range(1, 17))
_LARGE = 0.5 * math.log(2 * math.pi)


def draw_poisson(key: Array, mean: Float[Array, "*n"], shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
    """Counts of shape `(*shape, *mean.shape)`, as floating-point numbers; NaN where the mean is negative or not finite.

    The same key and means give the same counts, vmapped or not. Means that are vmapped have one table after the other,
    some 10 us for each.
    """
    mean = lax.stop_gradient(mean)
    good = (mean >= 0) & jnp.isfinite(mean)
    safe = jnp.where(good, mean, 0.0)
    if mean.size > _MOST_MEANS:
        drawn = jax.random.poisson(key, safe, (*shape, *mean.shape)).astype(mean.dtype)
    else:
        drawn = _invert(jax.random.uniform(key, (*shape, *mean.shape), mean.dtype), safe)
    return jnp.where(good, drawn, jnp.nan)


@custom_vmap
def _invert(u: Float[Array, "..."], mean: Float[Array, "*n"]) -> Float[Array, "..."]:
    """The smallest counts whose distribution functions are not below `u`."""
    n = mean.size
    first, size, below, fall = _table(jnp.ravel(mean))
    several = jnp.any(size > 1)
    below, fall = jnp.ravel(below), jnp.ravel(fall)
    at = u.reshape(-1, n)
    rows = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32) * _CELLS, at.shape)
    first, size = jnp.broadcast_to(first, at.shape), jnp.broadcast_to(size, at.shape)
    cell = jnp.zeros_like(rows)
    for step in (2**i for i in reversed(range(_CELLS.bit_length() - 1))):
        cell = jnp.where(below[rows + cell + (step - 1)] < at, cell + step, cell)
    inside = lax.cond(several, _inside, lambda at, *_: jnp.zeros_like(at), at, cell, rows, size, below, fall)
    return (first + size * cell.astype(size.dtype) + inside).reshape(u.shape)


@_invert.def_vmap
def _(axis_size: int, batched: tuple[bool, bool], u: Array, mean: Array) -> tuple[Array, bool]:
    if not batched[1]:
        return _invert(u, mean), True
    # other means in each lane: one table at a time, as all of them may not fit into memory
    u = u if batched[0] else jnp.broadcast_to(u, (axis_size, *u.shape))
    return lax.map(lambda lane: _invert(*lane), (u, mean)), True


def _table(mean: Float[Array, " n"]) -> tuple[Array, Array, Array, Array]:
    """The first count of each mean's table, how many counts are in a cell, the distribution function at the end of each
    cell, and the log of the ratio of successive probabilities within it."""
    sigma = jnp.sqrt(mean)
    first = jnp.maximum(jnp.floor(mean - _REACH * sigma - 5), 0.0)
    size = jnp.ceil((mean + _REACH * sigma + 20 - first) / _CELLS)
    step, mean = (jnp.broadcast_to(a[:, None], (mean.size, _CELLS)) for a in (size, mean))
    count = first[:, None] + step * jnp.arange(_CELLS, dtype=mean.dtype)[None]
    log_p = _log_probability(count, mean)
    one = lambda log_p, *_: (jnp.exp(log_p), jnp.zeros_like(log_p))  # noqa: E731
    mass, fall = lax.cond(jnp.any(size > 1), _of_cells, one, log_p, count, step, mean)
    below = jnp.cumsum(mass, axis=1)
    return first, size, below / below[:, -1:], fall


def _of_cells(log_p: Array, count: Array, step: Array, mean: Array) -> tuple[Array, Array]:
    """The probability of cells of several counts from that of their first and last, and the log of the ratio of
    successive ones: a geometric series."""
    fall = (_log_probability(count + step - 1, mean) - log_p) / jnp.maximum(step - 1, 1.0)
    flat = ~(jnp.abs(fall) * step > 1e-6)
    safe = jnp.where(flat, 1.0, fall)
    terms = jnp.where(flat, step, jnp.expm1(step * safe) / jnp.expm1(safe))
    return jnp.exp(log_p) * jnp.where(step > 1, terms, 1.0), fall


def _inside(at: Array, cell: Array, rows: Array, size: Array, below: Array, fall: Array) -> Array:
    """The count within a cell of several, at its share of the cell's probability: a geometric series inverted."""
    start = jnp.where(cell > 0, below[rows + jnp.maximum(cell - 1, 0)], 0.0)
    mass = below[rows + cell] - start
    share = jnp.clip((at - start) / jnp.where(mass > 0, mass, 1.0), 0.0, 1.0)
    slope = fall[rows + cell]
    flat = ~(jnp.abs(slope) * size > 1e-6)
    safe = jnp.where(flat, 1.0, slope)
    count = jnp.where(flat, share * size, jnp.log1p(share * jnp.expm1(size * safe)) / safe)
    return jnp.clip(jnp.floor(count), 0.0, size - 1)


def _log_probability(k: Array, mean: Array) -> Array:
    """The log of the probability of a count, without cancellation for large means (C. Loader, Fast and Accurate
    Computation of Binomial Probabilities (2000)).

    `mx.distributions.Poisson.log_prob` is for counts between whole numbers and for derivatives, too, and by its gamma
    function three times as slow; a table is some 25,000 of these.
    """
    positive = jnp.maximum(k, 1.0)
    off = (positive - mean) / jnp.where(mean > 0, mean, 1.0)
    deviance = mean * ((1 + off) * jnp.log1p(off) - off)
    inverse = 1 / jnp.maximum(positive, len(_SMALL))
    series = inverse * (1 / 12 - inverse**2 * (1 / 360 - inverse**2 * (1 / 1260 - inverse**2 / 1680)))
    small = jnp.asarray(_SMALL, k.dtype)[jnp.minimum(positive, len(_SMALL)).astype(int) - 1]
    rest = jnp.where(positive < len(_SMALL), small, _LARGE + series)
    log_p = -deviance - 0.5 * jnp.log(positive) - rest
    # a mean so small that k over it overflows is as good as none
    return jnp.where(k == 0, -mean, jnp.where((mean > 0) & jnp.isfinite(off), log_p, -jnp.inf))
