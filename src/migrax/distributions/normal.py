"""The normal distribution."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr as _jax_log_ndtr
from jax.scipy.special import ndtr
from jaxtyping import Array, ArrayLike, Float


class Normal(eqx.Module):
    """The normal distribution with mean `mu` and standard deviation `sigma` (arrays of any shape that broadcast)."""

    mu: ArrayLike
    sigma: ArrayLike

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`."""
        z = (x - self.mu) / self.sigma
        return -0.5 * z**2 - jnp.log(self.sigma) - _LOG_SQRT_2PI

    def cdf(self, x: ArrayLike) -> Float[Array, "..."]:
        """The probability below `x`."""
        return ndtr((x - self.mu) / self.sigma)

    def log_bin_integrals(self, edges: Float[Array, " n+1"]) -> Float[Array, " n"]:
        """The logs of the probabilities of the bins between consecutive `edges`, shape `(n,)`.

        Full precision in both tails: a bin 200 sigma off has a finite log and a gradient. Edges may be infinite.
        `mu` and `sigma` are numbers here.
        """
        edges = jnp.asarray(edges)
        finite = jnp.isfinite(edges)
        z = (jnp.where(finite, edges, 0.0) - self.mu) / self.sigma
        # an infinite edge must not reach the arithmetic: its derivative would be NaN
        z = jnp.where(finite, z, jnp.where(edges > 0, jnp.inf, -jnp.inf))
        return _log_interval(z[:-1], z[1:])

    def bin_integrals(self, edges: Float[Array, " n+1"]) -> Float[Array, " n"]:
        """The probabilities of the bins between consecutive `edges`, shape `(n,)`, precise in both tails."""
        return jnp.exp(self.log_bin_integrals(edges))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape (in front of that of `mu` and `sigma`)."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.mu), jnp.shape(self.sigma))
        return self.mu + self.sigma * jax.random.normal(key, (*shape, *parameters))


_LOG_SQRT_2PI = 0.9189385332046727
# Below this width times distance from the centre the expansion around the middle of the interval is exact to 1e-13.
_NARROW = 0.2


def _log_interval(lower: Array, upper: Array) -> Array:
    """log(Phi(upper) - Phi(lower)) for lower < upper, each finite or infinite."""
    # By symmetry to the left side, where Phi has its precision.
    flip = lower + upper > 0
    a, b = jnp.where(flip, -upper, lower), jnp.where(flip, -lower, upper)
    open_left, open_right = jnp.isneginf(a), jnp.isposinf(b)
    a_safe = jnp.where(open_left | open_right, -1.0, a)
    b_safe = jnp.where(open_left & ~open_right, b, jnp.where(open_right, 1.0, b))
    b_safe = jnp.where(jnp.isfinite(b_safe), b_safe, 1.0)
    width, middle = b_safe - a_safe, 0.5 * (a_safe + b_safe)
    narrow = (width * (jnp.abs(middle) + 1) < _NARROW) & ~open_left & ~open_right
    by_density = _log_narrow(jnp.where(narrow, middle, 0.0), jnp.where(narrow, width, 0.1))
    a_wide, b_wide = jnp.where(narrow, -1.0, a_safe), jnp.where(narrow, 1.0, b_safe)
    log_b = _log_ndtr(b_wide)
    fall = log_b - _log_ndtr(jnp.where(open_left, b_wide - 1, a_wide))
    by_cdf = log_b + jnp.where(open_left, 0.0, jnp.log(-jnp.expm1(-fall)))
    # open_right after the flip means that both ends are infinite
    return jnp.where(narrow, by_density, jnp.where(open_left & open_right, 0.0, by_cdf))


def _log_ndtr(z: Array) -> Array:
    """log Phi(z). JAX's own has ten digits below -20; there the asymptotic series (Abramowitz and Stegun 26.2.12) has
    all of them from -10 on."""
    far = z < -10
    z_far = jnp.where(far, z, -10.0)
    inverse = 1 / z_far**2
    series = jnp.ones_like(z_far)
    for k in range(16, 0, -1):
        series = 1 - (2 * k - 1) * inverse * series
    tail = -0.5 * z_far**2 - jnp.log(-z_far) - _LOG_SQRT_2PI + jnp.log(series)
    return jnp.where(far, tail, _jax_log_ndtr(jnp.where(far, -10.0, z)))


def _log_narrow(middle: Array, width: Array) -> Array:
    """The density in the middle times the width, with the Hermite corrections of a Taylor expansion."""
    m2, w2 = middle**2, width**2
    he2, he4 = m2 - 1, m2**2 - 6 * m2 + 3
    he6 = m2**3 - 15 * m2**2 + 45 * m2 - 15
    series = w2 / 24 * (he2 + w2 / 80 * (he4 + w2 / 168 * he6))
    return jnp.log(width) - 0.5 * m2 - _LOG_SQRT_2PI + jnp.log1p(series)
