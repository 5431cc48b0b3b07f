"""Several independent observables."""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from . import _foreign


class Product(eqx.Module):
    """The density of `k` independent observables: the last axis of `x`, each with a distribution of its own.

    It is not an `AbstractDistribution`, because these have one observable, with bins and a cdf. It may be a component
    of a `Mixture`, which then also has `k` observables and no bins.
    """

    distributions: tuple[Any, ...]

    def __init__(self, distributions: Sequence[Any]):
        """**Arguments:**

        - `distributions`: of one observable each; those of other libraries work for everything but `log_integral`.

        **Raises:** `TypeError` for one without a `log_prob`, `ValueError` for one of several observables.
        """
        self.distributions = tuple(distributions)
        if not self.distributions:
            raise ValueError("a product needs at least one distribution")
        for j, d in enumerate(self.distributions):
            _foreign.check_density(d, f"factor {j} of the product")
            if _foreign.event_shape(d):
                raise ValueError(
                    f"factor {j} of the product has events of shape {_foreign.event_shape(d)}: each has one observable"
                )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one event, `(k,)`."""
        return (len(self.distributions),)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x` of shape `(..., k)`; its unit is one over the product of those of all `k`."""
        columns = self._columns(x, "x")
        return functools.reduce(
            jnp.add, [d.log_prob(column) for d, column in zip(self.distributions, columns, strict=True)]
        )

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability of the box between `low` and `high`, of shape `(..., k)`, or one number for all
        observables (such as infinity)."""
        parts = zip(self.distributions, self._columns(low, "low"), self._columns(high, "high"), strict=True)
        logs = [_foreign.log_integral(d, a, b, f"factor {j} of the product") for j, (d, a, b) in enumerate(parts)]
        return functools.reduce(jnp.add, logs)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "... k"]:
        """Random events of the given shape, followed by that of the parameters and by `k`."""
        lanes = jnp.broadcast_shapes(*map(_foreign.lanes_of, self.distributions))
        keys = jax.random.split(key, len(self.distributions))
        draws = [_foreign.sample_lanes(d, key, shape, lanes) for d, key in zip(self.distributions, keys, strict=True)]
        return jnp.stack(draws, axis=-1)

    def _columns(self, x: ArrayLike, what: str) -> list[Array]:
        x, k = jnp.asarray(x), len(self.distributions)
        if x.ndim == 0 and what != "x":
            x = jnp.broadcast_to(x, (k,))
        if x.ndim == 0 or x.shape[-1] != k:
            raise ValueError(f"{what} must have shape (..., {k}), got {x.shape}")
        return [x[..., j] for j in range(k)]
