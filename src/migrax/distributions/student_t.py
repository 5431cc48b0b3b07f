"""Student's t distribution."""

from typing import cast

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from ._base import AbstractDistribution, check_edges
from ._bins_by_nodes import log_bins
from .q_gaussian import sample_student, standard_log_integral, standard_log_prob


class StudentT(AbstractDistribution):
    """Student's t distribution with location and scale: the density is proportional to
    (1 + (x - mu)² / (nu sigma²))^(-(nu + 1) / 2).

    Exact to 1e-13 for nu of 0.05 or more. For large nu it approaches the normal distribution, which is `nu=inf`; the
    derivatives with respect to `nu`, which approach 0, remain accurate.
    """

    mu: Array
    sigma: Array
    nu: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike, nu: ArrayLike):
        """**Arguments:**

        - `mu`: the centre.
        - `sigma`: the scale, positive; the standard deviation is sigma sqrt(nu / (nu - 2)) for nu > 2.
        - `nu`: the number of degrees of freedom, positive, not necessarily an integer.
        """
        self.mu, self.sigma, self.nu = cast(Array, mu), cast(Array, sigma), cast(Array, nu)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`."""
        e, scale = self._as_q_gaussian()
        return standard_log_prob((jnp.asarray(x) - self.mu) / scale, e) - log(scale)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`. Each interval takes 286 evaluations."""
        e, scale = self._as_q_gaussian()
        return standard_log_integral(low, high, self.mu, scale, e)

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`. A bin in which the density is smooth takes
        15 evaluations."""
        return log_bins(self.log_prob, self.log_integral, *check_edges(edges, self))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""
        parameters = jnp.broadcast_shapes(*(jnp.shape(p) for p in (self.mu, self.sigma, self.nu)))
        dtype = jnp.result_type(float, self.mu, self.sigma, self.nu)
        u = jnp.asarray(2 / jnp.asarray(self.nu))
        return self.mu + self.sigma * sample_student(key, (*shape, *parameters), u, dtype)

    def _as_q_gaussian(self) -> tuple[Array, Array]:
        """q - 1 and sigma of the equivalent q-Gaussian."""
        nu = jnp.asarray(self.nu)
        return 2 / (nu + 1), self.sigma / jnp.sqrt(1 + 1 / nu)
