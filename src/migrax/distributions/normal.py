"""The normal distribution."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import erfc, ndtr
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
        # an infinite edge must not reach the arithmetic: its derivative would be NaN
        z = (jnp.where(finite, edges, 0.0) - self.mu) / self.sigma
        return _log_intervals(z, finite, edges > 0)

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
# Beyond this the asymptotic series has all digits with this many terms, and erfc comes near to underflow in float32.
_FAR, _TERMS = 12.0, 12


def _log_intervals(z: Array, finite: Array, positive: Array) -> Array:
    """log(Phi(z[i+1]) - Phi(z[i])) of consecutive edges; infinite ones have their sign in `positive`.

    On one side of the centre as a difference of the tails' logs, across it as 1 minus both tails, and by the density
    in the middle where an interval is too narrow for a difference.
    """
    right = jnp.where(finite, z > 0, positive)
    tail = jnp.where(finite, _log_tail(jnp.abs(z)), -jnp.inf)
    near, far = jnp.maximum(tail[:-1], tail[1:]), jnp.minimum(tail[:-1], tail[1:])
    width, middle = z[1:] - z[:-1], 0.5 * (z[1:] + z[:-1])
    narrow = finite[:-1] & finite[1:] & (width * (jnp.abs(middle) + 1) < _NARROW)
    across = right[1:] & ~right[:-1] & ~narrow
    fall = jnp.where(narrow | across, -1.0, far - near)
    one_side = near + jnp.log(-jnp.expm1(fall))
    both = jnp.where(across, jnp.exp(near) + jnp.exp(far), 0.0)
    by_density = _log_narrow(jnp.where(narrow, middle, 0.0), jnp.where(narrow, width, 0.1))
    return jnp.where(narrow, by_density, jnp.where(across, jnp.log1p(-both), one_side))


def _log_tail(z: Array) -> Array:
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
