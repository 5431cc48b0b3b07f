"""The Voigt distribution."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution, check_edges
from ._bins_by_nodes import log_bins
from ._interval import any_nan
from ._quadrature import column, log_unimodal
from ._tails import log_add


class Voigt(AbstractDistribution):
    """A Cauchy (Breit-Wigner) distribution smeared by a normal one: the convolution of both.

    Exact to 1e-13, with its derivatives, for any ratio of the widths, `gamma=0` included, and at any distance.
    """

    mu: Array
    sigma: Array
    gamma: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike, gamma: ArrayLike):
        """**Arguments:**

        - `mu`: the centre.
        - `sigma`: the standard deviation of the normal distribution, positive.
        - `gamma`: the half width at half maximum of the Cauchy distribution, not negative. RooFit's `width`, and the
            decay width of a resonance, is the full width: twice as much.
        """
        self.mu, self.sigma, self.gamma = cast(Array, mu), cast(Array, sigma), cast(Array, gamma)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`. Each point takes 34 terms."""
        return _log_voigt(jnp.asarray(x) - self.mu, self.sigma, self.gamma)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`, exact to 1e-12. Each interval takes 266 densities."""
        return _log_integral(low, high, self.mu, self.sigma, self.gamma)

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`. A bin in which the density is smooth takes
        15 evaluations."""
        return log_bins(self.log_prob, self.log_integral, *check_edges(edges, self))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(*(jnp.shape(p) for p in (self.mu, self.sigma, self.gamma)))
        dtype = jnp.result_type(float, self.mu, self.sigma, self.gamma)
        keys, shape = jax.random.split(key), (*shape, *parameters)
        normal, cauchy = jax.random.normal(keys[0], shape, dtype), jax.random.cauchy(keys[1], shape, dtype)
        return self.mu + self.sigma * normal + self.gamma * cauchy


# The density is an integral of exp(-t²) times Cauchy densities at t (Abramowitz and Stegun 7.1.3 and 7.1.4, with
# z = x + iy in units of sqrt(2) sigma). The trapezoidal rule with the nodes k h or (k + 1/2) h, whichever are farther
# from x, plus the contribution of the pole at z, is exact to rounding everywhere (Hunter and Regan, Math. Comp. 26
# (1972) 539; Al Azah and Chandler-Wilde, SIAM J. Numer. Anal. 59 (2021) 2346). Both are sums of positive terms; their
# real parts are written out here, so that nothing cancels in the tails.
_N = 17
_H = float(np.sqrt(np.pi / _N))
_WHOLE = _H * np.arange(_N)
_HALVES = _WHOLE + 0.5 * _H
_WHOLE_WEIGHTS = np.exp(-(_WHOLE**2)) * np.where(_WHOLE == 0, 0.5, 1.0)
_HALVES_WEIGHTS = np.exp(-(_HALVES**2))
_LOG_SQRT_PI = 0.5723649429247001
_SQRT2 = 1.4142135623730951
# Farther out than this, in units of sqrt(2) sigma, the density is written as a correction to the Cauchy density.
_FAR = 8.0


@jax.jit
def _log_voigt(x: ArrayLike, sigma: ArrayLike, gamma: ArrayLike) -> Array:
    """The log of the density at a distance of `x` from the centre."""
    dtype = jnp.result_type(float, x, sigma, gamma)
    x, sigma, gamma = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (x, sigma, gamma)))
    unit = _SQRT2 * sigma
    far = (jnp.abs(x) + gamma) / unit > _FAR
    inside = _log_near(jnp.where(far, 0.0, x) / unit, jnp.where(far, unit, gamma) / unit)
    inside = inside - log(unit) - _LOG_SQRT_PI
    outside = _log_far(jnp.where(far, x, _FAR * unit), jnp.where(far, gamma, unit), unit)
    return jnp.where(gamma >= 0, jnp.where(far, outside, inside), jnp.nan)


def _log_near(x: Array, y: Array) -> Array:
    """The log of the real part of w(x + iy), for moderate x and y >= 0."""
    angle, damped = (2 * np.pi / _H) * x, jnp.exp((-2 * np.pi / _H) * y)
    halves = jnp.cos(angle) >= 0
    t = jnp.where(halves, column(_HALVES, x), column(_WHOLE, x))
    weights = jnp.where(halves, column(_HALVES_WEIGHTS, x), column(_WHOLE_WEIGHTS, x))
    total = (_H / np.pi) * y * jnp.sum(weights * (1 / ((x - t) ** 2 + y**2) + 1 / ((x + t) ** 2 + y**2)), axis=0)
    # the real part of 2 exp(-z²) / (1 + sign exp(-2 pi i z / h))
    sign = jnp.where(halves, 1.0, -1.0).astype(x.dtype)
    above = damped * jnp.cos(2 * x * y) + sign * jnp.cos(angle - 2 * x * y)
    below = 1 + 2 * sign * damped * jnp.cos(angle) + damped**2
    return log(total + 2 * jnp.exp(y**2 - x**2) * damped * above / below)


def _log_far(x: Array, gamma: Array, unit: Array) -> Array:
    """Far from the centre, or for a large gamma: the Cauchy density times a sum close to 1, so that a derivative by
    sigma, which is small here, is right."""
    square = x**2 + gamma**2
    a, c = (column(_HALVES, x) * unit) ** 2 / square, (gamma**2 - x**2) / square
    terms = column(2 * _H / np.pi**0.5 * _HALVES_WEIGHTS, x) * (1 + a) / (1 + 2 * a * c + a**2)
    has_cauchy = gamma > 0
    cauchy = log(jnp.where(has_cauchy, gamma, 1.0) / np.pi) - log(square) + log(jnp.sum(terms, axis=0))
    # the normal density is negligible unless gamma is this small
    has_normal = gamma < 1e-9 * unit
    normal = -((jnp.where(has_normal, x, 0.0) / unit) ** 2) - log(unit) - _LOG_SQRT_PI
    return log_add(jnp.where(has_cauchy, cauchy, -jnp.inf), jnp.where(has_normal, normal, -jnp.inf))


@jax.jit
def _log_integral(low: ArrayLike, high: ArrayLike, mu: ArrayLike, sigma: ArrayLike, gamma: ArrayLike) -> Array:
    dtype = jnp.result_type(float, low, high, mu, sigma, gamma)
    low, high, mu, sigma, gamma = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (low, high, mu, sigma, gamma)))
    a, b = (jnp.where(jnp.isinf(v), v, jnp.where(jnp.isinf(v), 0.0, v) - mu) for v in (low, high))
    out = log_unimodal(lambda x: _log_voigt(x, sigma, gamma), a, b, jnp.zeros_like(mu), batch=7)
    return jnp.where(any_nan(low, high, mu), jnp.nan, out)
