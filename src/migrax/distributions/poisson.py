"""The Poisson distribution."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from .._util.poisson_draw import draw_poisson
from ._base import AbstractDistribution
from ._functions import log1p_remainder
from ._tails import log_add, log_complement, log_sub

_LOG_SQRT_2PI = 0.9189385332046727
# From this count on the Stirling series for the gamma function is exact to rounding (Abramowitz and Stegun 6.1.41).
_LARGE = 16.0
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
# An interval of so few counts is summed, as the difference of two tails would lose digits.
_FEW = 8


class Poisson(AbstractDistribution):
    """The distribution of a count with the expectation `rate`: exp(-rate) rate^k / k! (Johnson, Kemp and Kotz,
    Univariate Discrete Distributions, equation 4.1).

    `log_prob` is the log of a probability, not of a density, and continuous in k: between whole numbers k! is the gamma
    function of k + 1. `log_integral` and `cdf` are those of whole counts, and step functions.
    """

    rate: Array

    def __init__(self, rate: ArrayLike):
        """**Arguments:**

        - `rate`: the expectation, 0 or more. At 0 all counts are 0.
        """
        self.rate = cast(Array, rate)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability of the count `x`; -inf below 0."""
        return _log_prob(jnp.asarray(x, jnp.result_type(x, self.rate, 1.0)), jnp.asarray(self.rate))

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability that low < k <= high: a count at the upper end belongs to the interval, one at
        the lower end does not, so that `cdf(k)` is the probability of k and less. The derivatives in the ends are 0.

        An interval of more than eight counts is a difference of two tails: if it holds the fraction p of the larger
        one, its log is exact to about 1e-14 / p (20 counts at a rate of a million: 1e-13).
        """
        dtype = jnp.result_type(low, high, self.rate, 1.0)
        low, high, rate = jnp.broadcast_arrays(*(jnp.asarray(x, dtype) for x in (low, high, self.rate)))
        a, b = jnp.maximum(jnp.floor(low), -1.0), jnp.floor(high)
        empty, zero = b <= a, rate == 0
        value = _log_interval(jnp.where(zero, 1.0, rate), jnp.where(empty, -1.0, a), jnp.where(empty, 1.0, b))
        # at a rate of 0 all probability is at 0, and falls with the rate if the interval contains only 0
        at_zero = jnp.where(a < 0, jnp.where(b == 0, -rate, 0.0), -jnp.inf)
        return jnp.where(empty, -jnp.inf, jnp.where(zero, at_zero, value))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random counts of the given shape, followed by that of `rate`, as floats; without derivatives."""
        rate = jnp.asarray(self.rate, jnp.result_type(float, self.rate))
        return draw_poisson(key, rate, shape)


@jax.jit
def _log_prob(k: Array, rate: Array) -> Array:
    outside, zero = k < 0, rate == 0
    k = jnp.where(outside, 1.0, k)
    lam = jnp.where(zero, 1.0, rate)
    large = k >= _LARGE
    # few: the plain formula
    few = jnp.where(large, 1.0, k)
    by_gamma = few * log(lam) - lam - gammaln(few + 1)
    # many: Stirling's formula, and the remaining part, which vanishes where k = rate (C. Loader, Fast and Accurate
    # Computation of Binomial Probabilities (2000))
    many = jnp.where(large, k, _LARGE)
    relative = (lam - many) / many
    near = jnp.abs(relative) < 0.25
    by_ratio = many * (log(many) - log(jnp.where(near, many, lam))) + jnp.where(near, 0.0, lam) - many
    remainder = jnp.where(near, many * log1p_remainder(jnp.where(near, relative, 0.0)), by_ratio)
    series = jnp.zeros_like(many)
    for coefficient in reversed(_STIRLING):
        series = coefficient + series / many**2
    by_stirling = -_LOG_SQRT_2PI - 0.5 * log(many) - series / many - remainder
    value = jnp.where(large, by_stirling, by_gamma)
    return jnp.where(outside | (zero & (k > 0)), -jnp.inf, jnp.where(zero, -rate, value))


@jax.custom_jvp
@jax.jit
def _log_interval(rate: Array, a: Array, b: Array) -> Array:
    """log P(a < k <= b) for whole a < b, of the same shape, a from -1 on, b perhaps infinite; rate > 0."""
    below_a, above_a = _log_tails(rate, a)
    below_b, above_b = _log_tails(rate, b)
    left, right = b < rate, a >= rate
    one_side = log_sub(jnp.where(left, below_b, above_a), jnp.where(left, below_a, above_b))
    by_tails = jnp.where(left | right, one_side, log_complement(log_add(below_a, above_b)))
    steps = np.arange(1, _FEW + 1).reshape(-1, *(1 for _ in a.shape)).astype(a.dtype)
    terms = jnp.where(a + steps <= b, _log_prob(a + steps, rate), -jnp.inf)
    return jnp.where(b - a <= _FEW, jax.nn.logsumexp(terms, axis=0), by_tails)


@_log_interval.defjvp
def _(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    # all terms of the derivative of the sum but the first and the last cancel; the rule is differentiable itself
    rate, a, b = primals
    out = _log_interval(rate, a, b)
    infinite = jnp.isposinf(b)
    first = jnp.exp(_log_prob(a, rate) - out)
    last = jnp.where(infinite, 0.0, jnp.exp(_log_prob(jnp.where(infinite, 0.0, b), rate) - out))
    return out, (first - last) * tangents[0]


# The panels of the nodes below, in units of the length over which the integrand falls by e.
_PANELS = (0.0, 1.0, 3.0, 8.0, 18.0, 40.0)


def _panels() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on the panels, relative to their total length."""
    nodes, weights = np.polynomial.legendre.leggauss(14)
    ends = np.array(_PANELS) / _PANELS[-1]
    half = 0.5 * np.diff(ends)[:, None]
    return (ends[:-1, None] + half * (1 + nodes)).ravel(), (half * weights).ravel()


_NODES, _WEIGHTS = _panels()


def _log_tails(rate: Array, k: Array) -> tuple[Array, Array]:
    """The logs of P(count <= k) and P(count > k), for a whole k from -1 on, possibly infinite.

    They are the incomplete gamma functions of k + 1: with the probability p of k itself, P(count <= k) / p is the
    integral of exp(k log(1 + u / rate) - u) over u > 0, and P(count > k) / p that of exp(k log(1 - u / rate) + u) over
    0 < u < rate (Abramowitz and Stegun 6.5.3, 26.4.21). The first falls from 1 on for k < rate, the second for
    k >= rate, both faster and faster.
    """
    special = (k <= 0) | jnp.isposinf(k)
    n = jnp.where(special, 1.0, k)
    left = n < rate
    sign = jnp.where(left, 1.0, -1.0)
    slope = jnp.abs(rate - n)
    # x = u / rate; the exponent is slope x + n (sign x - log(1 + sign x)), about slope x + n x²/2, and 1 at `length`
    length = 2 / (slope + jnp.sqrt(slope**2 + 2 * n))
    step = (1 - slope * length - n * log1p_remainder(length)) / (slope + n * length / (1 + length))
    end = jnp.where(left, _PANELS[-1] * (length + step), jnp.minimum(_PANELS[-1] * length, 1.0))
    column = (-1, *(1 for _ in k.shape))
    x = end * jnp.asarray(_NODES, k.dtype).reshape(column)
    integrand = jnp.exp(-slope * x - n * log1p_remainder(jnp.maximum(sign * x, -1 + jnp.finfo(k.dtype).epsneg)))
    mean = jnp.sum(jnp.asarray(_WEIGHTS, k.dtype).reshape(column) * integrand, axis=0)
    tail = _log_prob(n, rate) + log(rate * end) + log(mean)
    other = log_complement(jnp.minimum(tail, 0.0))
    below, above = jnp.where(left, tail, other), jnp.where(left, other, tail)
    below, above = jnp.where(k == 0, -rate, below), jnp.where(k == 0, log(-jnp.expm1(-rate)), above)
    below = jnp.where(k < 0, -jnp.inf, jnp.where(jnp.isposinf(k), 0.0, below))
    return below, jnp.where(k < 0, 0.0, jnp.where(jnp.isposinf(k), -jnp.inf, above))
