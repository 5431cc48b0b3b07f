"""The gamma distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._base import AbstractDistribution
from ._gammas import stirling_error
from ._quadrature import log_decay
from ._tails import log_add

_LOG_SQRT_2PI = 0.9189385332046727


class Gamma(AbstractDistribution):
    """The gamma distribution: the density is proportional to x^(shape - 1) exp(-x / scale) for x > 0."""

    shape: Array
    scale: Array

    def __init__(self, shape: ArrayLike, scale: ArrayLike = 1.0):
        """**Arguments:**

        - `shape`: positive. The mean is shape times scale, the variance shape times scale².
        - `scale`: positive, in the units of `x`.
        """
        self.shape, self.scale = cast(Array, shape), cast(Array, scale)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf for x <= 0."""
        x = jnp.asarray(x)
        inside = (x > 0) | jnp.isnan(x)
        x = jnp.where(inside, x, self.scale)
        return jnp.where(inside, _log_density(x / self.scale, jnp.asarray(self.shape)) - jnp.log(x), -jnp.inf)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`. 266 evaluations for each interval; exact to 1e-12, also
        in the derivatives by `shape`, for shapes from 0.01 to 1e6."""
        return _log_integral(low, high, self.shape, self.scale)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape (in front of that of the parameters)."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.shape), jnp.shape(self.scale))
        dtype = jnp.result_type(float, self.shape, self.scale)
        k = jnp.broadcast_to(jnp.asarray(self.shape, dtype), (*shape, *parameters))
        # in log space, as samples of a small shape are below the smallest number
        return self.scale * jnp.exp(jax.random.loggamma(key, k, dtype=dtype))


# Where exp(-k exp(w)) is 0 for certain, and the square of exp(w) is not infinite yet.
_FAR = {"float64": 100.0, "float32": 30.0}


def _log_ratio(x: Array, to: Array) -> Array:
    """log(x / to), precise also where the two are close, or far from each other."""
    step = (x - to) / to
    near = jnp.abs(step) < 0.5
    return jnp.where(near, jnp.log1p(jnp.where(near, step, 0.0)), jnp.log(jnp.where(near, 1.0, x)) - jnp.log(to))


def _log_density(r: Array, k: Array) -> Array:
    """The log of the density of log r: k log r - r - log Gamma(k), without cancellation around r = k."""
    return k * (_log_ratio(r, k) - (r - k) / k) + 0.5 * jnp.log(k) - _LOG_SQRT_2PI - stirling_error(k)


@jax.jit
def _log_integral(low: ArrayLike, high: ArrayLike, k: ArrayLike, scale: ArrayLike) -> Array:
    """The density of log x falls on both sides of x = k scale, the faster the farther. Either side is integrated from
    its highest point r on, in terms of v = |log(x / r)|."""
    dtype = jnp.result_type(float, low, high, k, scale)
    low, high, k, scale = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (low, high, k, scale)))
    unknown = jnp.isnan(low) | jnp.isnan(high)
    low = jnp.where(low > 0, low, 0.0)
    some = high > low
    mode = jax.lax.stop_gradient(k * scale)
    starts = jnp.stack([jnp.where(some & (high <= mode), high, mode), jnp.where(some & (low > mode), low, mode)])
    there = jnp.stack([some & (low < starts[0]), some & (high > starts[1])])
    endless = jnp.stack([low == 0, jnp.isposinf(high)])
    ends = jnp.where(there & ~endless, jnp.stack([low, high]), starts)
    # Upwards, where the density falls like exp(-exp(v)), the rule is much better on an interval: as far as exp(-60).
    last = jax.lax.stop_gradient(jnp.stack([jnp.full_like(k, jnp.inf), jnp.log1p(60 / k + jnp.sqrt(120 / k))]))
    length = jnp.where(there, jnp.where(endless, last, jnp.abs(_log_ratio(ends, starts))), 0.0)
    r = starts / scale
    up = jnp.array([False, True]).reshape(2, *(1 for _ in range(low.ndim)))

    def fall(v: Array) -> Array:
        w = jnp.where(up, jnp.minimum(v, _FAR[dtype.name]), -v)
        return k * w - r * jnp.expm1(w)

    size = 1 / (jnp.abs(r - k) + jnp.where(up | (r > 1), jnp.sqrt(r), r))
    tails = log_decay(fall, length, size)
    some = ~jnp.isneginf(tails)
    pieces = jnp.where(some, jnp.where(some, tails, 0.0) + _log_density(r, k), -jnp.inf)
    return jnp.where(unknown, jnp.nan, log_add(pieces[0], pieces[1]))
