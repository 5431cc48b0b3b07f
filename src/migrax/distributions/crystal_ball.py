"""Crystal Ball shapes: a Gaussian core with tails that fall as a power."""

import abc
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log, log1p
from ._base import AbstractDistribution
from ._interval import clip, excluded, sample_by_bisection
from ._normal_interval import log_standard_interval
from ._power_tail import log_power_integral
from ._ranges import known_finite
from ._tails import log_add

_LOG_SQRT_2PI = 0.9189385332046727


class _AbstractCrystalBall(AbstractDistribution):
    """The common part of the shapes with one or two tails, and one or two widths."""

    @abc.abstractmethod
    def _shape(self) -> "_Shape":
        """The two sides of the peak, and the range."""

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the range."""
        return self._shape().log_prob(x)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        return self._shape().log_integral(low, high)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters, by bisection of the cdf. They have no
        derivatives in the parameters."""
        return self._shape().sample(key, shape)


class CrystalBall(_AbstractCrystalBall):
    """A normal density whose tail on the low side, from `alpha` standard deviations on, falls as a power.

    In t = (x - mu) / sigma it is exp(-t²/2) above -alpha, and (1 + alpha (-t - alpha) / n)^-n times exp(-alpha²/2)
    below (J. Gaiser, SLAC-R-255 (1982), appendix F; the same as RooFit's `RooCBShape`), normalised between `low` and
    `high`. For n to infinity the tail becomes an exponential. On a range with a finite `low` any n > 0 is allowed.
    """

    mu: Array
    sigma: Array
    alpha: Array
    n: Array
    low: Array
    high: Array

    def __init__(
        self,
        mu: ArrayLike,
        sigma: ArrayLike,
        alpha: ArrayLike,
        n: ArrayLike,
        low: ArrayLike = -np.inf,
        high: ArrayLike = np.inf,
    ):
        """**Arguments:**

        - `mu`, `sigma`: the peak and the standard deviation of the core.
        - `alpha`: where the tail begins, in standard deviations below the peak; positive.
        - `n`: the power of the tail; above 1 if the range is infinite there.
        - `low`, `high`: the range.
        """
        self.mu, self.sigma = cast(Array, mu), cast(Array, sigma)
        self.alpha, self.n = cast(Array, alpha), cast(Array, n)
        self.low, self.high = cast(Array, low), cast(Array, high)

    def _shape(self) -> "_Shape":
        below, above = _PeakSide(self.sigma, self.alpha, self.n), _PeakSide(self.sigma, None, None)
        return _Shape(self.mu, below, above, self.low, self.high)


class DoubleCrystalBall(_AbstractCrystalBall):
    """A normal density with a tail that falls as a power on each side: see `CrystalBall`."""

    mu: Array
    sigma: Array
    alpha_low: Array
    n_low: Array
    alpha_high: Array
    n_high: Array
    low: Array
    high: Array

    def __init__(
        self,
        mu: ArrayLike,
        sigma: ArrayLike,
        alpha_low: ArrayLike,
        n_low: ArrayLike,
        alpha_high: ArrayLike,
        n_high: ArrayLike,
        low: ArrayLike = -np.inf,
        high: ArrayLike = np.inf,
    ):
        """**Arguments:**

        - `mu`, `sigma`: the peak and the standard deviation of the core.
        - `alpha_low`, `alpha_high`: where the tails begin, in standard deviations from the peak; both positive.
        - `n_low`, `n_high`: the powers of the tails; above 1 where the range is infinite.
        - `low`, `high`: the range.
        """
        self.mu, self.sigma = cast(Array, mu), cast(Array, sigma)
        self.alpha_low, self.n_low = cast(Array, alpha_low), cast(Array, n_low)
        self.alpha_high, self.n_high = cast(Array, alpha_high), cast(Array, n_high)
        self.low, self.high = cast(Array, low), cast(Array, high)

    def _shape(self) -> "_Shape":
        below = _PeakSide(self.sigma, self.alpha_low, self.n_low)
        above = _PeakSide(self.sigma, self.alpha_high, self.n_high)
        return _Shape(self.mu, below, above, self.low, self.high)


class AsymmetricCrystalBall(_AbstractCrystalBall):
    """A `DoubleCrystalBall` whose core has a different standard deviation on each side of its peak."""

    mu: Array
    sigma_low: Array
    sigma_high: Array
    alpha_low: Array
    n_low: Array
    alpha_high: Array
    n_high: Array
    low: Array
    high: Array

    def __init__(
        self,
        mu: ArrayLike,
        sigma_low: ArrayLike,
        sigma_high: ArrayLike,
        alpha_low: ArrayLike,
        n_low: ArrayLike,
        alpha_high: ArrayLike,
        n_high: ArrayLike,
        low: ArrayLike = -np.inf,
        high: ArrayLike = np.inf,
    ):
        """**Arguments:**

        - `mu`: the peak.
        - `sigma_low`, `sigma_high`: the standard deviations of the core below and above the peak.
        - `alpha_low`, `alpha_high`: where the tails begin, in these standard deviations from the peak; both positive.
        - `n_low`, `n_high`: the powers of the tails; above 1 where the range is infinite.
        - `low`, `high`: the range.
        """
        self.mu = cast(Array, mu)
        self.sigma_low, self.sigma_high = cast(Array, sigma_low), cast(Array, sigma_high)
        self.alpha_low, self.n_low = cast(Array, alpha_low), cast(Array, n_low)
        self.alpha_high, self.n_high = cast(Array, alpha_high), cast(Array, n_high)
        self.low, self.high = cast(Array, low), cast(Array, high)

    def _shape(self) -> "_Shape":
        below = _PeakSide(self.sigma_low, self.alpha_low, self.n_low)
        above = _PeakSide(self.sigma_high, self.alpha_high, self.n_high)
        return _Shape(self.mu, below, above, self.low, self.high)


class _PeakSide(NamedTuple):
    """One side of the peak: half a Gaussian, with a tail unless `alpha` is None."""

    sigma: Any
    alpha: Any
    n: Any


class _Shape(NamedTuple):
    """The shape common to all three, which is 1 at the peak."""

    mu: Array
    below: _PeakSide
    above: _PeakSide
    low: Array
    high: Array

    def log_prob(self, x: ArrayLike) -> Array:
        x = jnp.asarray(x)
        left, outside = x < self.mu, (x < self.low) | (x > self.high)
        # both sides are evaluated everywhere, each at its own distance or 0, where it is 0
        from_left = _log_side(jnp.where(left, self.mu - x, 0.0) / self.below.sigma, self.below)
        from_right = _log_side(jnp.where(left, 0.0, x - self.mu) / self.above.sigma, self.above)
        log_mass = jnp.where(outside, 0.0, self._log_mass(self.low, self.high))
        return excluded(outside, from_left + from_right - log_mass)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Array:
        a, b = jnp.broadcast_arrays(*clip(low, high, self.low, self.high))
        finite = known_finite(low, high, self.low, self.high)
        if any(jnp.ndim(leaf) for leaf in jax.tree.leaves(self)):
            mass, total = self._log_mass(a, b, finite), self._log_mass(self.low, self.high, finite)
        else:  # as one more interval: a second copy of the code would take as long to compile
            masses = self._log_mass(jnp.append(a, self.low), jnp.append(b, self.high), finite)
            mass, total = masses[:-1].reshape(a.shape), masses[-1]
        return jnp.where(jnp.isneginf(mass), -jnp.inf, mass - total)

    def sample(self, key: Array, shape: tuple[int, ...]) -> Array:
        return sample_by_bisection(self._log_mass, self.low, self.high, key, shape)

    def _log_mass(self, low: ArrayLike, high: ArrayLike, finite: bool = False) -> Array:
        """The log of the integral of the shape; `finite` if it is known that both ends are."""
        below, above = self.below, self.above
        if above.alpha is None:
            return _log_mass_of_one_tail(low, high, self.mu, *below, finite)
        # both sides of the peak on a leading axis, the upper one mirrored: there is one copy of the formulas, which
        # take long to compile
        dims = max(jnp.ndim(x) for x in (low, high, *jax.tree.leaves(self)))

        def pair(x: ArrayLike, y: ArrayLike) -> Array:
            both = jnp.stack(jnp.broadcast_arrays(x, y))
            return both.reshape(2, *(1,) * (dims + 1 - both.ndim), *both.shape[1:])

        left, right = clip(low, high, -jnp.inf, self.mu), clip(low, high, self.mu, jnp.inf)
        sigma, alpha, n = (pair(x, y) for x, y in zip(below, above, strict=True))
        ends = pair(left[0], -right[1]), pair(left[1], -right[0])
        return log_add(*_log_mass_of_one_tail(*ends, pair(self.mu, -self.mu), sigma, alpha, n, finite))


def _log_mass_of_one_tail(
    low: ArrayLike, high: ArrayLike, mu: Array, sigma: Array, alpha: Array, n: Array, finite: bool
) -> Array:
    """The log of the integral of the shape with one tail, on the low side; -inf unless `high` is above `low`."""
    low, high, inverse = jnp.asarray(low), jnp.asarray(high), 1 / sigma
    empty = high <= low
    if finite:
        a, b, width, infinite = (low - mu) * inverse, (high - mu) * inverse, (high - low) * inverse, None
    else:
        a, b, infinite = _standard(low, mu, inverse), _standard(high, mu, inverse), jnp.isneginf(low)
        width = jnp.where(jnp.isfinite(high - low), high - low, 0.0) * inverse
    log_mass = log_add(_log_core(a, b, width, alpha), _log_tail(a, b, width, alpha, n, infinite))
    return jnp.where(empty, -jnp.inf, log(sigma) + log_mass)


def _standard(x: ArrayLike, mu: Array, inverse: Array) -> Array:
    """Infinity, whose derivatives would be NaN, is returned unchanged."""
    finite = jnp.isfinite(x)
    return jnp.where(finite, (jnp.where(finite, x, 0.0) - mu) * inverse, x)


def _log_core(a: Array, b: Array, width: Array, alpha: Array) -> Array:
    """The log of the integral of exp(-t²/2) over the part of a < t < b that is above -alpha."""
    cut = a < -alpha
    start, width = jnp.where(cut, -alpha, a), jnp.where(cut, b + alpha, width)
    return _LOG_SQRT_2PI + log_standard_interval(start, b, width)


def _log_tail(a: Array, b: Array, width: Array, alpha: Array, n: Array, infinite: Array | None) -> Array:
    """The log of the integral of the tail over the part of a < t < b that is below -alpha. `infinite`: where a is,
    or None if it is nowhere."""
    empty, joint = (a >= -alpha) | (b <= a), b > -alpha
    near = jnp.where(joint | empty, 0.0, -alpha - b)
    width = jnp.where(empty, 1.0, jnp.where(joint, -alpha - a, width))
    rate = alpha / n
    if infinite is None:
        log_mass = log_power_integral(near, width, rate, n)
    else:
        width = jnp.where(infinite, 1.0, width)
        power = jnp.where(infinite, jnp.where(n > 1, n - 1.0, jnp.nan), 1.0)
        rest = log((1 + rate * near) / (rate * power)) - n * log1p(rate * near)
        log_mass = jnp.where(infinite, rest, log_power_integral(near, width, rate, n))
    return jnp.where(empty, -jnp.inf, log_mass - 0.5 * alpha**2)


def _log_side(s: Array, side: _PeakSide) -> Array:
    """The log of the shape `s` standard deviations from the peak."""
    if side.alpha is None or side.n is None:
        return -0.5 * s**2
    steps = jnp.where(s > side.alpha, s - side.alpha, 0.0)
    core = jnp.where(s > side.alpha, side.alpha, s)
    slope = jnp.where(jnp.isinf(side.alpha), 0.0, side.alpha) / side.n
    return -0.5 * core**2 - side.n * log1p(slope * steps)
