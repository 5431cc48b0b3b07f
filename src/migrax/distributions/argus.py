"""The ARGUS distribution."""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution, check_edges
from ._bins_by_nodes import away_from, log_bins
from ._interval import any_nan, excluded
from ._inversion import invert, panels_around
from ._power_exp import log_power_exp


class Argus(AbstractDistribution):
    """The background below a kinematic end point (ARGUS, Phys. Lett. B 241 (1990) 278): the density is proportional to
    x w^power exp(c w) with w = 1 - (x / endpoint)², for 0 < x < endpoint, and normalised there.

    It has the same parameters as RooFit's RooArgusBG. `scipy.stats.argus(chi, scale=endpoint)` has c = -chi² / 2; here
    c may have either sign. Exact to 1e-12 for `power` above -0.99 and c from -1e3 to 1e3; for larger |c| to 1e-15 |c|.
    """

    endpoint: Array
    c: Array
    power: Array

    def __init__(self, endpoint: ArrayLike, c: ArrayLike, power: ArrayLike = 0.5):
        """**Arguments:**

        - `endpoint`: the end of the range, positive.
        - `c`: the factor in the exponent, of any sign; no unit.
        - `power`: more than -1; with a negative one the density is infinite at the end point.
        """
        self.endpoint, self.c, self.power = cast(Array, endpoint), cast(Array, c), cast(Array, power)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf unless 0 < x < endpoint. The norm takes 266 evaluations."""
        x = jnp.asarray(x)
        inside = ((x > 0) & (x < self.endpoint)) | any_nan(x, self.endpoint)
        x_ = jnp.where(inside, x, 0.5 * jnp.asarray(self.endpoint))
        part = x_ / self.endpoint
        w = (1 - part) * (1 + part)
        log_kernel = log(2 * part / self.endpoint) + self.power * log(w) - self.c * part**2
        return excluded(~inside, log_kernel - self._log_norm())

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`. Each interval takes 266 evaluations."""
        low, high = jnp.asarray(low), jnp.asarray(high)
        zero, end = jnp.zeros_like(jnp.asarray(self.endpoint)), self.endpoint
        a, b = jnp.where(low > 0, low, zero), jnp.where(high < end, high, end)
        nonempty = b > a
        a, b = jnp.where(nonempty, a, zero), jnp.where(nonempty, b, end)
        # from high to low, as w decreases
        upper, lower = (end - a) * (end + a) / end**2, (end - b) * (end + b) / end**2
        mass = _log_mass(lower, upper, (b - a) * (b + a) / end**2, self.c, self.power)
        out = jnp.where(nonempty, mass - self._log_norm(), -jnp.inf)
        return jnp.where(any_nan(low, high, end), jnp.nan, out)

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`. A bin in which the density is smooth takes
        15 evaluations."""
        low, high = check_edges(edges, self)
        smooth = away_from([self.endpoint], low, high)
        return log_bins(self.log_prob, self.log_integral, low, high, smooth, (0.0, self.endpoint))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters, by inversion of the cdf. They are not
        differentiable with respect to `c` and `power`."""
        dtype = jnp.result_type(float, self.endpoint, self.c, self.power)
        end, c, power = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (self.endpoint, self.c, self.power)))
        u = jax.random.uniform(key, (*shape, *end.shape), dtype)
        return end * _standard_quantile(u, jax.lax.stop_gradient(c), jax.lax.stop_gradient(power))

    def _log_norm(self) -> Array:
        return _log_mass(0.0, 1.0, 1.0, self.c, self.power)


@jax.jit
def _log_mass(low: ArrayLike, high: ArrayLike, width: ArrayLike, c: ArrayLike, power: ArrayLike) -> Array:
    """log of the integral of w^power exp(c (w - 1)) over w."""
    dtype = jnp.result_type(float, low, high, width, c, power)
    low, high, width, c, power = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (low, high, width, c, power)))
    k = power + 1
    return log_power_exp(low, high, width, k, -c, lambda w: k * log(w) + c * (w - 1))


@jax.jit
def _standard_quantile(u: Array, c: Array, power: Array) -> Array:
    """x / endpoint where the probability above is `u`, by the density of log w, whose mode is at (power + 1) / -c."""
    k = power + 1
    mode = jnp.where(c < -k, log(k / jnp.where(c < -k, -c, 1.0)), 0.0)
    r = c * jnp.exp(mode)
    edges = panels_around(mode, 1 / (jnp.abs(k + r) + jnp.sqrt(jnp.abs(r)) + jnp.sqrt(k)), mode - 40 / k, 0 * mode)
    log_w = invert(lambda x: k * x + c * jnp.expm1(x), edges, u)
    return jnp.sqrt(-jnp.expm1(log_w))
