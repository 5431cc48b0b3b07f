"""The q-Gaussian distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log, log1p
from ._base import AbstractDistribution, check_edges
from ._bins_by_nodes import away_from, log_bins
from ._functions import log1p_ratio
from ._gammas import log_half_step
from ._interval import any_nan, excluded
from ._quadrature import log_decay, log_panels
from ._tails import log_add


class QGaussian(AbstractDistribution):
    """The density proportional to (1 + (q - 1) z²/2)^(-1 / (q - 1)) with z = (x - mu) / sigma (Tsallis, J. Stat. Phys.
    52 (1988) 479): the q-exponential of -z²/2.

    With q = 1 it is the normal distribution, with 1 < q < 3 Student's t with nu = (3 - q) / (q - 1) degrees of freedom
    and a scale of sigma sqrt(2 / (3 - q)), with q = 2 Cauchy's with a half width of sqrt(2) sigma, and with q < 1 it is
    0 where |z| > sqrt(2 / (1 - q)). Values and derivatives are smooth in q. As in numba-stats; SciPy has none.
    """

    mu: Array
    sigma: Array
    q: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike, q: ArrayLike):
        """**Arguments:**

        - `mu`: the centre.
        - `sigma`: the width, positive; the curvature of the log of the density at `mu` is -1 / sigma². The standard
            deviation is sigma sqrt(2 / (5 - 3 q)) for q < 5/3, and infinite above.
        - `q`: below 3.
        """
        self.mu, self.sigma, self.q = cast(Array, mu), cast(Array, sigma), cast(Array, q)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the support, which is finite for q < 1."""
        z = (jnp.asarray(x) - self.mu) / self.sigma
        return standard_log_prob(z, jnp.asarray(self.q - 1.0)) - log(self.sigma)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`. Each interval takes 286 evaluations."""
        return standard_log_integral(low, high, self.mu, self.sigma, self.q - 1.0)

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`. A bin in which the density is smooth takes
        15 evaluations."""
        low, high = check_edges(edges, self)
        e = jnp.asarray(self.q - 1)
        reach = jnp.where(e < 0, self.sigma * jnp.sqrt(2 / jnp.where(e < 0, -e, 1.0)), jnp.inf)
        support = (self.mu - reach, self.mu + reach)
        return log_bins(self.log_prob, self.log_integral, low, high, away_from(support, low, high), support)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        e = jnp.asarray(self.q - 1.0)
        parameters = jnp.broadcast_shapes(*(jnp.shape(p) for p in (self.mu, self.sigma, e)))
        dtype = jnp.result_type(float, self.mu, self.sigma, e)
        t = sample_student(key, (*shape, *parameters), e / (1 - 0.5 * e), dtype)
        return self.mu + self.sigma / jnp.sqrt(1 - 0.5 * e) * t


# In what follows z is standardised, and e = q - 1.
_LOG_SQRT_2PI = 0.9189385332046727


@jax.jit
def standard_log_prob(z: Array, e: Array) -> Float[Array, "..."]:
    """The log of the density; -inf outside the support."""
    inside = (1 + 0.5 * e * z**2 > 0) | any_nan(z, e)
    return excluded(~inside, _log_kernel(jnp.where(inside, z, 0.0), e) - _log_norm(e))


@jax.jit
def standard_log_integral(
    low: ArrayLike, high: ArrayLike, mu: ArrayLike, sigma: ArrayLike, e: ArrayLike
) -> Float[Array, "..."]:
    """The log of the probability between `low` and `high`, from three pieces: the middle by Gauss-Legendre nodes, and
    the part of the tail on each side of it, where the density falls."""
    dtype = jnp.result_type(float, low, high, mu, sigma, e)
    low, high, mu, sigma, e = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (low, high, mu, sigma, e)))
    z = [jnp.where(jnp.isfinite(v), (jnp.where(jnp.isfinite(v), v, mu) - mu) / sigma, v) for v in (low, high)]
    # the region around the middle in which the density is well analytic, and not small at its ends
    edge = jax.lax.stop_gradient(jnp.sqrt(0.5 / jnp.maximum(1.0, -e)))
    # not jnp.clip, as a bin edge exactly at this point belongs to one piece, with its full derivative
    a, b = (jnp.where(v < -edge, -edge, jnp.where(v > edge, edge, v)) for v in z)
    middle = log_panels(lambda z: _log_kernel(z, e), a, b)
    sides = _log_side(jnp.stack([z[0], -z[1]]), jnp.stack([z[1], -z[0]]), e, edge)
    total = log_add(middle, log_add(sides[0], sides[1]))
    nonzero = ~jnp.isneginf(total)
    out = jnp.where(nonzero, jnp.where(nonzero, total, 0.0) - _log_norm(e), -jnp.inf)
    return jnp.where(any_nan(low, high, mu, sigma, e), jnp.nan, jnp.where(high > low, out, -jnp.inf))


def sample_student(key: Array, shape: tuple[int, ...], u: Array, dtype: jnp.dtype) -> Array:
    """Student's t with 2 / u degrees of freedom, for u = 0 the normal distribution, for u < 0 its continuation
    (Bailey, Math. Comp. 62 (1994) 779; Thistleton et al., IEEE Trans. Inf. Theory 53 (2007) 4805)."""
    keys = jax.random.split(key)
    w = jax.random.exponential(keys[0], shape, dtype)
    angle = jax.random.uniform(keys[1], shape, dtype, maxval=2 * jnp.pi)
    y = u * w
    small = jnp.abs(y) < 1e-3
    large = jnp.where(small, 1.0, y)
    ratio = jnp.where(small, 1 + 0.5 * y * (1 + y / 3 * (1 + 0.25 * y)), jnp.expm1(large) / large)
    return jnp.sqrt(2 * w * ratio) * jnp.cos(angle)


def _log_norm(e: Array) -> Array:
    """log of the integral of the kernel: sqrt(2 pi / e) Gamma(1/e - 1/2) / Gamma(1/e) for e > 0."""
    return _LOG_SQRT_2PI - 0.5 * log1p(-0.5 * e) - log_half_step(e / (1 - 0.5 * e))


def _log_kernel(z: Array, e: Array) -> Array:
    """-log(1 + e z²/2) / e."""
    half = 0.5 * z**2
    return -half * log1p_ratio(e * half)


def _falling_ratio(y: Array) -> Array:
    """(1 - exp(-y)) / y for y >= 0, smooth at 0."""
    small = y < 0.5
    s = jnp.where(small, y, 0.0)
    series = jnp.ones_like(s)
    for k in range(16, 1, -1):
        series = 1 - s / k * series
    y = jnp.where(small, 1.0, y)
    return jnp.where(small, series, -jnp.expm1(-y) / y)


def _log_side(low: Array, high: Array, e: Array, edge: Array) -> Array:
    """log of the integral of the kernel over the part of the interval above `edge`.

    In terms of the fall s of the log of the density since the lower end a: there a power law is as light as a normal
    tail, and the upper end of a finite support is at infinity. With c = 1 + e a²/2, z² = a² + 2 c (exp(e s) - 1) / e.
    """
    a = jnp.where(low >= edge, low, edge)
    c = 1 + 0.5 * e * a**2
    nonempty = (high > a) & (c > 0)
    a, c = jnp.where(nonempty, a, edge), jnp.where(nonempty, c, 1 + 0.5 * e * edge**2)
    finite = jnp.isfinite(high)
    high = jnp.where(nonempty & finite, high, a + edge)
    step = 0.5 * (high - a) * (high + a) / c
    inside = finite & (1 + e * step > 0)
    step = jnp.where(inside, step, 0.0)
    fall = jnp.where(nonempty, jnp.where(inside, step * log1p_ratio(e * step), jnp.inf), 0.0)
    negative = e < 0
    size, positive = jnp.where(negative, -e, e), jnp.where(negative, 0.0, e)

    def log_density(s: Array) -> Array:
        square = a**2 * jnp.exp(-positive * s) + 2 * c * s * _falling_ratio(size * s)
        return log(c) - 0.5 * log(square) - s * (1 - e + 0.5 * positive)

    tail = log_decay(log_density, fall, 1 / (1 - e + 0.5 * positive))
    return jnp.where(nonempty, _log_kernel(a, e) + tail, -jnp.inf)
