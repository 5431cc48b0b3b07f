"""A distribution of another library, with integrals from its cdf."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._util.unavailable import Unavailable
from ._base import AbstractDistribution
from ._foreign import check_density, event_shape, sample


class Foreign(AbstractDistribution):
    """A distribution of another library with the integrals of an `AbstractDistribution`, from its cdf.

    In the upper tail they are differences of numbers near one: NaN where fewer than four digits would remain.
    """

    of: Any

    def __init__(self, of: Any):
        """**Raises:** `TypeError` unless `of` has one observable and a `log_prob` and a `cdf`."""
        check_density(of, "the distribution")
        if event_shape(of) != ():
            raise Unavailable(f"a {type(of).__name__} has several observables: cut each of them by itself")
        if not callable(getattr(of, "cdf", None)):
            raise Unavailable(
                f"a {type(of).__name__} of {type(of).__module__} has no cdf, so that its integral over a range is not "
                "known: take that of mx.distributions, or mx.distributions.Normalized(d.log_prob, low, high)"
            )
        self.of = of

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density, from the other library."""
        return self.of.log_prob(jnp.asarray(x))

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the difference of its cdf, which is 0 and 1 at the infinite ends."""
        below, above = self._cdf(low, 0.0), self._cdf(high, 1.0)
        inside = above - below
        log_inside = jnp.where(inside > 0, jnp.log(jnp.where(inside > 0, inside, 1.0)), -jnp.inf)
        imprecise = (
            (inside < 1e4 * jnp.finfo(inside.dtype).eps) & (below > 0.5) & (jnp.asarray(high) > jnp.asarray(low))
        )
        return jnp.where(imprecise, jnp.nan, log_inside)

    def _cdf(self, x: ArrayLike, at_infinity: float) -> Array:
        x = jnp.asarray(x, jnp.result_type(float))
        value = self.of.cdf(jnp.where(jnp.isfinite(x), x, 0.0))
        return jnp.where(jnp.isfinite(x), value, at_infinity)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers from the other library."""
        return sample(self.of, key, shape)
