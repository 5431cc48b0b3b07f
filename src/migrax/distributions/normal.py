"""The normal distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jax.scipy.special import erfc
from jaxtyping import Array, ArrayLike, Float

from ._base import AbstractDistribution


class Normal(AbstractDistribution):
    """The normal distribution with mean `mu` and standard deviation `sigma` (arrays of any shape that broadcast)."""

    mu: Array
    sigma: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike):
        """**Arguments:**

        - `mu`: the mean.
        - `sigma`: the standard deviation, positive (not checked: it may be an intermediate value of a fit).
        """
        # Python numbers are kept, so that they adopt the precision of what they are combined with.
        self.mu, self.sigma = cast(Array, mu), cast(Array, sigma)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`."""
        z = (jnp.asarray(x) - self.mu) / self.sigma
        return -0.5 * z**2 - jnp.log(self.sigma) - _LOG_SQRT_2PI

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`. Its log and gradient are finite even 200 sigma from the
        mean."""
        width = jnp.asarray(high) - jnp.asarray(low)
        width = jnp.where(jnp.isfinite(width), width, 0.0) / self.sigma
        return log_standard_interval(self._standard(low), self._standard(high), width)

    def _standard(self, x: ArrayLike) -> Array:
        """x in standard deviations from the mean. Infinity, whose derivatives would be NaN, is returned unchanged."""
        x = jnp.asarray(x)
        finite = jnp.isfinite(x)
        return jnp.where(finite, (jnp.where(finite, x, 0.0) - self.mu) / self.sigma, x)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of `mu` and `sigma`."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.mu), jnp.shape(self.sigma))
        return self.mu + self.sigma * jax.random.normal(key, (*shape, *parameters))


_LOG_SQRT_2PI = 0.9189385332046727
# Below this width times distance from the centre the expansion around the middle of the interval is exact to 1e-13.
_NARROW = 0.2
# Beyond this the asymptotic series is exact to rounding with this many terms, and erfc underflows soon in float32.
_FAR, _TERMS = 12.0, 12
_INFINITY = 1e8  # in standard deviations


def log_standard_interval(a: Array, b: Array, width: Array) -> Array:
    """log(Phi(b) - Phi(a)), or -inf unless b > a. An end may be infinite; beyond 1e8 it is treated as infinite.

    **Arguments:**

    - `a`, `b`: the ends, in standard deviations from the mean.
    - `width`: b - a, computed before the mean was subtracted, so that a narrow interval keeps its digits. Not used
        where an end is infinite.
    """
    far = (jnp.abs(a) >= _INFINITY) | (jnp.abs(b) >= _INFINITY)
    a, b = jnp.clip(a, -_INFINITY, _INFINITY), jnp.clip(b, -_INFINITY, _INFINITY)
    width = jnp.where(far, b - a, width)
    empty = (b <= a) | (width <= 0)
    middle = 0.5 * (a + b)
    narrow = ~empty & (width * (jnp.abs(middle) + 1) < _NARROW)
    by_density = _log_narrow(jnp.where(narrow, middle, 0.0), jnp.where(narrow, width, 0.1))
    by_tails = _log_wide(jnp.where(narrow | empty, -1.0, a), jnp.where(narrow | empty, 1.0, b))
    return jnp.where(empty, -jnp.inf, jnp.where(narrow, by_density, by_tails))


@jax.custom_jvp
def _log_wide(a: Array, b: Array) -> Array:
    """log(Phi(b) - Phi(a)): on one side of the centre from the logs of the tails, across it as 1 minus both tails."""
    tail_a, tail_b = log_upper_tail(jnp.abs(a)), log_upper_tail(jnp.abs(b))
    near, far = jnp.maximum(tail_a, tail_b), jnp.minimum(tail_a, tail_b)
    across = (a < 0) & (b > 0)
    one_side = near + jnp.log(-jnp.expm1(jnp.where(across, -1.0, far - near)))
    return jnp.where(across, jnp.log1p(-jnp.where(across, jnp.exp(near) + jnp.exp(far), 0.0)), one_side)


@_log_wide.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    # the densities at the ends over the integral; the rule differentiates itself for higher orders
    (a, b), (t_a, t_b) = primals, tangents
    out = _log_wide(a, b)
    density = lambda z: jnp.exp(-0.5 * z**2 - _LOG_SQRT_2PI - out)  # noqa: E731
    return out, density(b) * t_b - density(a) * t_a


def log_upper_tail(z: Array) -> Array:
    """log Phi(-z) for z >= 0, precise however large z is (Abramowitz and Stegun 26.2.12; JAX's own `log_ndtr` has ten
    digits there)."""
    far = z > _FAR
    inside = jnp.log(0.5 * erfc(jnp.where(far, 0.0, z) * 0.7071067811865476))
    z = jnp.where(far, z, _FAR)
    inverse = 1 / z**2
    series = jnp.ones_like(z)
    for k in range(_TERMS, 0, -1):
        series = 1 - (2 * k - 1) * inverse * series
    return jnp.where(far, -0.5 * z**2 - jnp.log(z) - _LOG_SQRT_2PI + jnp.log(series), inside)


def _log_narrow(middle: Array, width: Array) -> Array:
    """The density in the middle times the width, with the Hermite corrections of a Taylor expansion."""
    m2, w2 = middle**2, width**2
    he2, he4 = m2 - 1, m2**2 - 6 * m2 + 3
    he6 = m2**3 - 15 * m2**2 + 45 * m2 - 15
    series = w2 / 24 * (he2 + w2 / 80 * (he4 + w2 / 168 * he6))
    return jnp.log(width) - 0.5 * m2 - _LOG_SQRT_2PI + jnp.log1p(series)
