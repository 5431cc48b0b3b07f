"""The Landau distribution."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._base import AbstractDistribution
from ._interval import any_nan
from ._quadrature import column, in_batches, log_panels, log_sum, pointwise
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
        """The log of the density at `x`. Each point takes 112 evaluations."""
        return _log_phi((jnp.asarray(x) - self.mu) / self.sigma) - jnp.log(self.sigma)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`. Each interval takes 1120 evaluations."""
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
        draws = sum_ * jnp.tan(angle) - jnp.log(w * jnp.cos(angle) / sum_)
        return self.mu + self.sigma * draws


# The integral along the path of steepest descent (Zolotarev, One-dimensional Stable Distributions (1986), 2.2.19): with
# s = exp(-1 - l) and V(a) = a / sin(a) exp(1 - a cot(a)),
#     cdf(l) = 1/pi int_0^pi exp(-s V) da,    phi(l) = s/pi int_0^pi V exp(-s V) da,
# where everything is positive. V grows from 1 to infinity, and the integrand is where s V is about 1. With
# a = pi (1 - 1/p), where log V is about p for large p, and p = 1 + log(1 + exp(u)), it falls like exp(u) on the left
# and exp(-exp(u)) on the right. The nodes are trapezoidal ones in v, with u = U(l) + v - exp(-v), which move with l.
_STEP = 1 / 14
_V = np.arange(-3.7, 4.3, _STEP)
_T = _V - np.exp(-_V)
_LOG_WEIGHTS = np.log(_STEP * (1 + np.exp(-_V)))
_BATCH = 14
# zeta(2n), in the series of log(a / sin a) and 1 - a cot a (Abramowitz and Stegun 4.3.70 and 4.3.71)
_ZETA = (
    1.6449340668482264, 1.0823232337111382, 1.0173430619844491, 1.0040773561979443, 1.0009945751278182,
    1.0002460865533080, 1.0000612481350587, 1.0000152822594087, 1.0000038172932650,
)  # fmt: skip
# Separates the tails; the larger one is the complement of the other. The median is at 1.3558.
_MIDDLE = 1.36
_LOG_PI = 1.1447298858494002
_LOG_HALF = -0.6931471805599453
# Below this, exp(-1 - l) would soon be infinite (squared, in second derivatives); it continues as a straight line.
_LOWEST = {"float64": -200.0, "float32": -30.0}


def _path(level: Array, t: Array) -> tuple[Array, Array, Array, Array]:
    """At the nodes: log(s V), where `level` is -log s; s (V - 1); the log of da/du; and pi - a."""
    below = jnp.logaddexp(0.0, -level)
    shift = 0.5 * below - 1.14 - jnp.log1p(jnp.logaddexp(0.0, level)) + t  # of u from `level`
    u = level + shift
    m = jnp.logaddexp(0.0, u)
    p = 1 + m
    # near a = 0
    near = m < 0.19
    ratio, by_zero = jnp.where(near, m / p, 0.1) ** 2, jnp.zeros_like(u)
    for n in range(9, 0, -1):
        by_zero = ratio * (_ZETA[n - 1] * (1 / n + 2) + by_zero)
    # near a = pi, where log V - level is a difference of large numbers, unless it is written with `shift`
    far = m > 5.3
    m_, u_ = jnp.where(far, m, 10.0), jnp.where(far, u, 10.0)
    inverse, by_pi = 1 / (1 + m_) ** 2, jnp.zeros_like(u)
    for n in range(9, 0, -1):
        by_pi = inverse * (_ZETA[n - 1] * (1 / n - 2 * m_) + by_pi)
    by_pi = 1 + shift + jnp.log1p(jnp.exp(-u_)) + jnp.log(m_) + by_pi
    # between
    m_ = jnp.where(near | far, 1.0, m)
    a = np.pi * m_ / (1 + m_)
    between = jnp.log(a / jnp.sin(a)) + 1 - a * jnp.cos(a) / jnp.sin(a)
    log_v = jnp.where(near, by_zero, between)
    g = jnp.where(far, by_pi, log_v - level)
    # s (V - 1), where V - 1 has all digits for small a
    s = _rate(level)
    rise = jnp.where(
        far, jnp.exp(jnp.where(far, jnp.minimum(g, 30.0), 0.0)) - s, s * jnp.expm1(jnp.minimum(log_v, 60.0))
    )
    log_slope = _LOG_PI - jnp.logaddexp(0.0, -u) - 2 * jnp.log(p)
    return g, rise, log_slope, np.pi / p


def _level(x: Array) -> tuple[Array, Array]:
    """x + 1, limited to the lowest value from below; and the distance below that."""
    low = _LOWEST[x.dtype.name]
    return jnp.where(x > low, x, low) + 1, jnp.where(x > low, 0.0, low - x)


def _nodes(x: Array) -> tuple[Array, Array]:
    """The nodes and log weights; in float32 without the first ones, where the square of the small V - 1 would be 0."""
    first = 0 if x.dtype == jnp.float64 else 15
    return column(_T[first:], x), column(_LOG_WEIGHTS[first:], x)


def _rate(level: Array) -> Array:
    return jnp.exp(-level)


@jax.jit
@pointwise
def _log_phi(x: Array) -> Array:
    """The log of the standard density."""
    level, lower = _level(x)
    nodes, log_weights = _nodes(x)

    def log_integrand(t: Array) -> Array:
        g, rise, log_slope, _ = _path(level, t)
        return g - rise + log_slope

    logs = in_batches(log_integrand, nodes, _BATCH) + log_weights
    return log_sum(logs) - _rate(level) * (1 + lower) - _LOG_PI


@jax.jit
@pointwise
def _log_tail(x: Array) -> Array:
    """The log of the cdf below the middle, of 1 - cdf above it."""
    level, lower = _level(x)
    nodes, log_weights = _nodes(x)
    left = x < _MIDDLE

    def log_integrand(t: Array) -> Array:
        t = jnp.broadcast_to(t, (t.shape[0], *x.shape))
        (g, rise, log_slope, remainder), (steepness, *_) = jax.jvp(lambda t: _path(level, t), (t,), (jnp.ones_like(t),))
        # 1 - cdf by parts: 1 - exp(-s) and the integral of (pi - a) exp(-s V) s dV, which ends where s V does
        above = g + jnp.log(remainder) + jnp.log(jnp.where(left, 1.0, steepness))
        return jnp.where(left, log_slope, above) - rise

    logs = in_batches(log_integrand, nodes, _BATCH) + log_weights
    integral = log_sum(logs) - _rate(level) * (1 + lower) - _LOG_PI
    first = log_complement(-_rate(jnp.where(left, 0.0, jnp.minimum(level, 40.0))))
    return jnp.where(left, integral, log_add(integral, jnp.where(level > 40.0, -level, first)))


@jax.jit
def _log_interval(low: ArrayLike, high: ArrayLike, mu: ArrayLike, sigma: ArrayLike) -> Array:
    """From the tails; by nodes where the tails would cancel, as the density hardly changes over the interval."""
    dtype = jnp.result_type(float, low, high, mu, sigma)
    low, high, mu, sigma = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (low, high, mu, sigma)))
    finite = jnp.stack([jnp.isfinite(low), jnp.isfinite(high)])
    ends = (jnp.where(finite, jnp.stack([low, high]), mu) - mu) / sigma
    left, tails = ends < _MIDDLE, _log_tail(ends)
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
    steepness = _rate(_level(a)[0]) + 2 / (2 + jnp.logaddexp(0.0, a))
    narrow = finite[0] & finite[1] & (high > low) & ((b - a) * steepness < 0.5)
    by_nodes = log_panels(_log_phi, jnp.where(narrow, a, 0.0), jnp.where(narrow, b, 0.1), nodes=8)
    out = jnp.where(narrow, by_nodes, by_tails)
    is_nan = any_nan(low, high, mu, sigma)
    return jnp.where(is_nan, jnp.nan, jnp.where(high > low, out, -jnp.inf))
