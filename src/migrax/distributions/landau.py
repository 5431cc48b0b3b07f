"""The Landau distribution."""

import functools
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from . import _landau_table as table
from ._base import AbstractDistribution
from ._interval import any_nan
from ._landau_path import rate_of
from ._quadrature import log_panels
from ._tails import log_add, log_complement, log_sub


class Landau(AbstractDistribution):
    """Landau's distribution of the energy lost in a thin layer (J. Phys. USSR 8 (1944) 201), with location and scale.

    The density is phi((x - mu) / sigma) / sigma with Landau's own phi(l), the inverse Laplace transform of s^s, as in
    ROOT, RooFit and SciPy's documentation. `mu` is not the position of the maximum, which is at mu - 0.22278 sigma;
    neither the mean nor the variance exist. `scipy.stats.landau` uses another scale (seen with 1.17): the distribution
    here is its `landau(mu + sigma * log(pi / 2), sigma * pi / 2)`. Exact to 1e-12, with its derivatives, for
    (x - mu) / sigma from -200, where the log of the density is -1e86 (below, it continues linearly), to 1e8 and beyond.
    """

    mu: Array
    sigma: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike):
        """**Arguments:**

        - `mu`: the location; the maximum is 0.22278 sigma below.
        - `sigma`: the scale, positive.
        """
        self.mu, self.sigma = cast(Array, mu), cast(Array, sigma)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`, by a polynomial of degree 14."""
        return _log_phi((jnp.asarray(x) - self.mu) / self.sigma) - log(self.sigma)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`, by a polynomial of degree 14 at each end and, where the
        interval is narrow, at eight points inside."""
        return _log_interval(low, high, self.mu, self.sigma)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.mu), jnp.shape(self.sigma))
        dtype = jnp.result_type(float, self.mu, self.sigma)
        keys, shape = jax.random.split(key), (*shape, *parameters)
        # Chambers, Mallows and Stuck, J. Am. Stat. Assoc. 71 (1976) 340, eq. 2.4, in Landau's units of pi / 2
        half = 0.5 * np.pi
        angle = half * jax.random.uniform(keys[0], shape, dtype, minval=-1, maxval=1)
        w = jax.random.exponential(keys[1], shape, dtype)
        sum_ = half + angle
        draws = sum_ * jnp.tan(angle) - log(w * jnp.cos(angle) / sum_)
        return self.mu + self.sigma * draws


_LOG_HALF = -0.6931471805599453
# Below this, exp(-1 - l) would soon be infinite (squared, in second derivatives); it continues as a straight line.
_LOWEST = {"float64": -200.0, "float32": -30.0}


def _level(x: Array) -> tuple[Array, Array]:
    """x + 1, limited to the lowest value from below; and the distance below that."""
    low = _LOWEST[x.dtype.name]
    return jnp.where(x > low, x, low) + 1, jnp.where(x > low, 0.0, low - x)


def _polynomial(k: int, x: Array) -> Array:
    """The function of number `k` in the tables, without what the tables leave out."""
    index, t = table.place(jnp, x)
    coefficients = jnp.asarray(table.tables()[k], x.dtype)[index]
    value = coefficients[..., -1]
    for n in range(coefficients.shape[-1] - 2, -1, -1):
        value = value * t + coefficients[..., n]
    return value


def _log_phi(x: Array) -> Array:
    """The log of the standard density."""
    x = jnp.asarray(x, jnp.result_type(float, x))
    level, lower = _level(x)
    return _smooth_part(0, level - 1) - rate_of(level) * (1 + lower)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _smooth_part(k: int, x: Array) -> Array:
    """The derivative of order `k` of log phi(x) + exp(-1 - x)."""
    return _restored(k, x)


@_smooth_part.defjvp
def _(k: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (t,) = primals, tangents
    if k + 1 < table.NUM_ORDERS:
        return _smooth_part(k, x), _smooth_part(k + 1, x) * t
    return jax.jvp(lambda x: _restored(k, x), (x,), (t,))


def _restored(k: int, x: Array) -> Array:
    value, left, right = _polynomial(k, x), x < table.LEFT, x >= table.RIGHT
    far = jnp.where(right, x, 1.0)
    value = value - 2 * log(far) if k == 0 else value / far**k
    return value - jnp.where(left, 0.5 * (1 + x) if k == 0 else 0.5 if k == 1 else 0.0, 0.0)


def _log_tail(x: Array) -> Array:
    """The log of the cdf below the middle, of 1 - cdf above it."""
    x = jnp.asarray(x, jnp.result_type(float, x))
    level, lower = _level(x)
    return _smooth_tail(level - 1) - jnp.where(x < table.MIDDLE, rate_of(level) * (1 + lower), 0.0)


@jax.custom_jvp
def _smooth_tail(x: Array) -> Array:
    """The same, with exp(-1 - x) added to the log of the cdf."""
    far = jnp.where(x >= table.RIGHT, x, 1.0)
    value = _polynomial(table.NUM_ORDERS, x) - log(far)
    return value + jnp.where(x < table.LEFT, 0.5 * (1 + x), 0.0)


@_smooth_tail.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (t,) = primals, tangents
    tail, rate, left = _smooth_tail(x), rate_of(1 + x), x < table.MIDDLE
    hazard = jnp.exp(_smooth_part(0, x) - tail - jnp.where(left, 0.0, rate))
    return tail, jnp.where(left, hazard - rate, -hazard) * t


@jax.jit
def _log_interval(low: ArrayLike, high: ArrayLike, mu: ArrayLike, sigma: ArrayLike) -> Array:
    """From the tails; by nodes where the tails would cancel, as the density hardly changes over the interval."""
    dtype = jnp.result_type(float, low, high, mu, sigma)
    low, high, mu, sigma = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (low, high, mu, sigma)))
    finite = jnp.stack([jnp.isfinite(low), jnp.isfinite(high)])
    ends = (jnp.where(finite, jnp.stack([low, high]), mu) - mu) / sigma
    left, tails = ends < table.MIDDLE, _log_tail(ends)
    complements = log_complement(tails)
    below, above = jnp.where(left, tails, complements), jnp.where(left, complements, tails)
    infinite = ~finite
    below_a, above_a = jnp.where(infinite[0], -jnp.inf, below[0]), jnp.where(infinite[0], 0.0, above[0])
    below_b, above_b = jnp.where(infinite[1], 0.0, below[1]), jnp.where(infinite[1], -jnp.inf, above[1])
    on_left = below_b <= _LOG_HALF
    one_side = log_sub(jnp.where(on_left, below_b, above_a), jnp.where(on_left, below_a, above_b))
    across = log_complement(log_add(below_a, above_b))
    by_tails = jnp.where(on_left | (above_a <= _LOG_HALF), one_side, across)
    a, b = ends
    steepness = rate_of(_level(a)[0]) + 2 / (2 + jnp.logaddexp(0.0, a))
    narrow = finite[0] & finite[1] & (high > low) & ((b - a) * steepness < 0.5)
    by_nodes = log_panels(_log_phi, jnp.where(narrow, a, 0.0), jnp.where(narrow, b, 0.1), nodes=8)
    out = jnp.where(narrow, by_nodes, by_tails)
    is_nan = any_nan(low, high, mu, sigma)
    return jnp.where(is_nan, jnp.nan, jnp.where(high > low, out, -jnp.inf))
