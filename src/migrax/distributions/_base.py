"""The interface of distributions."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from . import _foreign
from ._ranges import bin_ends


class AbstractDistribution(eqx.Module):
    """A density of one observable, normalised to 1.

    Its parameters are fields: numbers, or arrays that broadcast with each other and with the arguments of the methods.
    Their values are not checked (they may be traced, or intermediate values of a fit); invalid ones give NaN.
    """

    @abc.abstractmethod
    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf where the density is 0."""

    @abc.abstractmethod
    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`, which broadcast and may be infinite.

        Precise in both tails: where the probability itself underflows, its log and the derivatives of the log are
        still right. -inf where `high` is not above `low`, or the density is 0 between them.
        """

    @abc.abstractmethod
    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters."""

    def cdf(self, x: ArrayLike) -> Float[Array, "..."]:
        """The probability below `x`."""
        return jnp.exp(self.log_integral(-jnp.inf, x))

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of `n` bins, shape `(n,)`, precise in both tails.

        The parameters must be numbers, not arrays.

        **Arguments:**

        - `edges`: of adjacent bins, shape `(n + 1,)`, or rows `(low, high)`, shape `(n, 2)`, for bins with gaps between
            them, such as those of sidebands. The first and the last may be infinite.

        **Raises:** `ValueError` unless the edges have one of these shapes and increase, and for a distribution of
            several observables.
        """
        low, high = check_edges(edges, self)
        return self.log_integral(jnp.asarray(low), jnp.asarray(high))

    def bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The probabilities of the `n` bins with these `edges`, shape `(n,)`: see `log_bin_integrals`."""
        return jnp.exp(self.log_bin_integrals(edges))


def check_edges(edges: ArrayLike, d: Any = None) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """The lower and the upper ends of the bins: see `bin_ends`.

    **Raises:** `ValueError` for bins that do not increase, and for a `d` of several observables."""
    if _foreign.event_shape(d):
        raise ValueError(
            f"bins are along one observable, and this {type(d).__name__} has events of shape {_foreign.event_shape(d)}"
        )
    return bin_ends(edges)
