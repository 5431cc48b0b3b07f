"""Resonances: the Cauchy distribution (the non-relativistic Breit-Wigner), and the relativistic one."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log, log1p
from ._base import AbstractDistribution, check_edges
from ._interval import clip, sample_by_bisection
from ._ranges import known_finite

_LOG_PI = 1.1447298858494002
# Where the square of atanh's argument is smaller, its series is used; 0.04^13 is below 1e-16. Beyond, the
# difference of the two terms with angles loses less than two digits.
_SMALL, _TERMS = 0.04, 12


class Cauchy(AbstractDistribution):
    """The density 1 / (pi gamma (1 + z²)), z = (x - mu) / gamma (Johnson, Kotz and Balakrishnan, Continuous Univariate
    Distributions 1, equation 16.1): the non-relativistic Breit-Wigner."""

    mu: Array
    gamma: Array

    def __init__(self, mu: ArrayLike, gamma: ArrayLike):
        """**Arguments:**

        - `mu`: the position of the peak, which is also the median.
        - `gamma`: the half width at half maximum, positive: half of the width Γ of a resonance.
        """
        self.mu, self.gamma = cast(Array, mu), cast(Array, gamma)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`."""
        z = (jnp.asarray(x) - self.mu) / self.gamma
        # 1 + z² without an overflow, and without a choice after the logarithms, which would not be vectorised
        far = jnp.abs(z) > 1
        size = jnp.where(far, jnp.abs(z), 1.0)
        ratio = jnp.where(far, 1 / size, z)
        return -_LOG_PI - log(self.gamma) - 2 * log(size) - log1p(ratio**2)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        if known_finite(low, high) and np.all(np.asarray(high) > np.asarray(low)):
            return log(self._between(jnp.asarray(low), jnp.asarray(high))) - _LOG_PI
        low, high = jnp.asarray(low), jnp.asarray(high)
        empty, from_below, to_above = high <= low, jnp.isneginf(low), jnp.isposinf(high)
        a = jnp.where(jnp.isinf(low) | empty, self.mu, low)
        b = jnp.where(jnp.isinf(high) | empty, self.mu + self.gamma, high)
        z = (jnp.where(from_below, self.mu - b, a - self.mu)) / self.gamma
        one_sided = jnp.where(from_below & to_above, jnp.pi, _angle(jnp.ones_like(z), z))
        angle = jnp.where(from_below | to_above, one_sided, self._between(a, b))
        return jnp.where(empty, -jnp.inf, log(jnp.where(empty, 1.0, angle)) - _LOG_PI)

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`."""
        return self.log_integral(*check_edges(edges, self))

    def _between(self, low: Array, high: Array) -> Array:
        """The angle between two ends, pi times the probability."""
        return _angle_between((low - self.mu) / self.gamma, (high - self.mu) / self.gamma, (high - low) / self.gamma)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(jnp.shape(self.mu), jnp.shape(self.gamma))
        dtype = jnp.result_type(float, self.mu, self.gamma)
        return self.mu + self.gamma * jax.random.cauchy(key, (*shape, *parameters), dtype)


@jax.custom_jvp
def _angle(y: Array, x: Array) -> Array:
    """arctan2(y, x) for y >= 0, by the arctan of numbers up to 1, which XLA's CPU has as vector instructions."""
    below = y < jnp.abs(x)
    ratio = jnp.where(below, y, jnp.abs(x)) / jnp.where(below, jnp.abs(x), y)
    angle = jnp.arctan(ratio)
    acute = jnp.where(below, angle, 0.5 * np.pi - angle)
    return jnp.where(x < 0, np.pi - acute, acute)


@_angle.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (y, x), (t_y, t_x) = primals, tangents
    return _angle(y, x), (x * t_y - y * t_x) / (x**2 + y**2)


@jax.custom_jvp
def _angle_between(a: Array, b: Array, width: Array) -> Array:
    """arctan b - arctan a, for b - a = `width`, which keeps the digits that the difference loses."""
    # the angle of one complex number, (1 + i b) (1 - i a) up to a scale
    shrink_a, shrink_b = (1 / jnp.where(jnp.abs(z) > 1, jnp.abs(z), 1.0) for z in (a, b))
    return _angle(width * shrink_b * shrink_a, shrink_a * shrink_b + (a * shrink_a) * (b * shrink_b))


@_angle_between.defjvp
def _(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (a, b, width), (t_a, t_b, t_width) = primals, tangents
    # the densities times pi; where they are close to each other, their difference without cancellation, elsewhere each
    # of its own, as the two terms of the former would cancel
    at_a, at_b = 1 / (1 + a**2), 1 / (1 + b**2)
    difference = -width * (a * at_a * at_b + b * at_b * at_a)
    close = jnp.abs(difference) < 0.5 * (at_a + at_b)
    by_middle = 0.5 * (difference * (t_a + t_b) + (at_a + at_b) * t_width)
    return _angle_between(a, b, width), jnp.where(close, by_middle, at_b * t_b - at_a * t_a)


class RelativisticBreitWigner(AbstractDistribution):
    """The density k / ((E² - M²)² + M² Γ²) of an energy E > 0, for a resonance of mass M and width Γ.

    With γ = sqrt(M² (M² + Γ²)) the factor is k = 2 sqrt(2) M Γ γ / (π sqrt(M² + γ)) (the squared propagator of R. L.
    Workman et al. (Particle Data Group), PTEP 2022 083C01, section 50, with a constant width, normalised over E). Its
    integral is elementary: with e = E / M, g = Γ / M and c² = 1 + i g it is Im(atanh(e / c) / -c) / g, here in real
    numbers in which nothing cancels.
    """

    mass: Array
    width: Array

    def __init__(self, mass: ArrayLike, width: ArrayLike):
        """**Arguments:**

        - `mass`: M, positive, in the units of E.
        - `width`: Γ, the full width, positive, in the units of E.
        """
        self.mass, self.width = cast(Array, mass), cast(Array, width)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at the energy `x`; -inf for x <= 0."""
        x = jnp.asarray(x)
        outside = x <= 0
        x = jnp.where(outside, self.mass, x)
        g, gamma, p, _, _ = self._root()
        e = x / self.mass
        offset = (x - self.mass) / self.mass * (e + 1)
        # divided by its larger term, so that the square does not overflow
        scale = jax.lax.stop_gradient(jnp.maximum(jnp.abs(offset), g))
        log_square = 2 * log(scale) + log((offset / scale) ** 2 + (g / scale) ** 2)
        log_norm = log(2 / np.pi * gamma * g / p)
        return jnp.where(outside, -jnp.inf, log_norm - log(self.mass) - log_square)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability of an energy between `low` and `high`."""
        a, b = clip(low, high, 0.0, jnp.inf)
        empty, infinite = b <= a, jnp.isposinf(b)
        a = jnp.where(empty, 0.0, a)
        b = jnp.where(empty | infinite, a + self.mass, b)
        g, gamma, p, p_less_one, q = self._root()
        # a, b, and their distance in units of the mass. All that follows is homogeneous in (b, the distance), which are
        # divided by b if that is above 1, so that it may be infinite: `one` is 1 after this division.
        a_, b_ = a / self.mass, b / self.mass
        one = jnp.where(infinite, 0.0, 1 / jnp.where(b_ > 1, b_, 1.0))
        distance = jnp.where(infinite, 1.0, (b - a) / self.mass * one)
        b_ = jnp.where(infinite, 1.0, b_ * one)
        # the distances from the pole's real part p, from before a and b were divided by the mass
        a_p = (a - self.mass) / self.mass - p_less_one
        b_p = jnp.where(infinite, 1.0, ((b - self.mass) / self.mass - p_less_one) * one)
        # d - i g one = a b - c²
        d = a_ * b_ - one
        norm = d**2 + (g * one) ** 2
        small = gamma * distance**2 < _SMALL * norm
        inverse = distance / jnp.where(small, norm, 1.0)
        by_series = _imaginary_atanh((jnp.where(small, d, 0.0) * inverse, g * one * inverse), g, small)
        by_angles = self._by_angles(a_ + p, a_p, b_ + p * one, b_p, distance, one, d * p - g * q * one)
        integral = jnp.where(small, by_series, by_angles)
        log_norm = log(2 / np.pi * gamma / p)
        return jnp.where(empty, -jnp.inf, log_norm + log(jnp.where(empty, 1.0, integral)))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters, by bisection of the cdf. They have no
        derivatives in the parameters."""
        return sample_by_bisection(self.log_integral, 0.0, jnp.inf, key, shape)

    def _root(self) -> tuple[Array, Array, Array, Array, Array]:
        """g = Γ / M; γ / M² = |1 + i g|; c = sqrt(1 + i g) = p + i q: p, p - 1 and q."""
        g = jnp.asarray(self.width / self.mass)
        gamma = jnp.sqrt(1 + g**2)
        p = jnp.sqrt(0.5 * (1 + gamma))
        p_less_one = 0.5 * g**2 / (1 + gamma) / (1 + p)
        return g, gamma, p, p_less_one, 0.5 * g / p

    def _by_angles(
        self, a_plus: Array, a_less: Array, b_plus: Array, b_less: Array, distance: Array, one: Array, real: Array
    ) -> Array:
        """Im(atanh(c w / D) / c) from ½ log((b - c) (a + c) / ((b + c) (a - c))), its modulus and its angle.

        The angle is the sum of two positive ones; the modulus is 1 plus something of the sign of `real`, the real part
        of D / c times |c|².
        """
        _, gamma, p, _, q = self._root()
        angle = jnp.arctan2(q * distance, a_less * b_less + q**2 * one)
        angle = angle + jnp.arctan2(q * distance, a_plus * b_plus + q**2 * one)
        q_ = q * one
        grows = real >= 0
        larger = jnp.where(grows, a_less**2 + q**2, a_plus**2 + q**2)
        larger = larger * jnp.where(grows, b_plus**2 + q_**2, b_less**2 + q_**2)
        log_modulus = jnp.where(grows, 0.5, -0.5) * log1p(4 * distance * jnp.abs(real) / larger)
        return 0.5 * (p * angle - q * log_modulus) / gamma


def _imaginary_atanh(omega: tuple[Array, Array], g: Array, used: Array) -> Array:
    """Im(atanh(c w) / c) for a small complex number `omega` = w and c² = 1 + i g: its series, in which every imaginary
    part is a small number by itself; 1 where not `used`."""
    square = _times(_times(omega, omega), (jnp.ones_like(g), g))
    square = (jnp.where(used, square[0], 0.0), jnp.where(used, square[1], 0.0))
    series = (jnp.zeros_like(square[0]), jnp.zeros_like(square[0]))
    for k in range(_TERMS, -1, -1):
        product = _times(square, series)
        series = (1 / (2 * k + 1) + product[0], product[1])
    return jnp.where(used, _times(omega, series)[1], 1.0)


def _times(x: tuple[Array, Array], y: tuple[Array, Array]) -> tuple[Array, Array]:
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]
