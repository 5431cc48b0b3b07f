"""What every distribution can do, and what it must bring."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._parameter import is_concrete
from . import _foreign


class AbstractDistribution(eqx.Module):
    """A density of one observable, normalised to 1.

    Its parameters are fields: numbers, or arrays that broadcast with each other and with what is asked for. They are
    not looked at (they may be traced, or on their way through a fit); parameters that make no sense give NaN.
    """

    @abc.abstractmethod
    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf where the density is 0."""

    @abc.abstractmethod
    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`, which broadcast and may be infinite.

        Precise in both tails: where the probability itself is less than the smallest number there is, its log and the
        derivatives of it are still right. -inf where `high` is not above `low`, or the density is 0 between them.
        """

    @abc.abstractmethod
    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape (in front of that of the parameters)."""

    def cdf(self, x: ArrayLike) -> Float[Array, "..."]:
        """The probability below `x`."""
        return jnp.exp(self.log_integral(-jnp.inf, x))

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of the `n` bins between consecutive `edges`, precise in both tails.

        The parameters are numbers here. The first and the last edge may be infinite.

        **Raises:** `ValueError` unless the edges are one axis of at least two numbers that grow, and for a distribution
        of several observables.
        """
        edges = check_edges(edges, self)
        return self.log_integral(edges[:-1], edges[1:])

    def bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The probabilities of the `n` bins between consecutive `edges`: see `log_bin_integrals`."""
        return jnp.exp(self.log_bin_integrals(edges))


def check_edges(edges: ArrayLike, d: Any = None) -> Float[Array, " m"]:
    """**Raises:** `ValueError` unless the edges are one axis of at least two numbers that grow, and for a `d` of
    several observables."""
    if _foreign.event_shape(d):
        raise ValueError(
            f"bins are along one observable, and this {type(d).__name__} has events of shape {_foreign.event_shape(d)}"
        )
    array = jnp.asarray(edges)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(jnp.result_type(float))
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"the edges of bins must have shape (n + 1,), got {array.shape}")
    if is_concrete(array):
        good = np.diff(np.asarray(array)) > 0
        if not np.all(good):
            i = int(np.argmin(good))
            raise ValueError(
                f"the edges of bins must grow: bin {i} goes from {np.asarray(array)[i]} to {np.asarray(array)[i + 1]}"
            )
    return array
