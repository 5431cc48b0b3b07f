"""The density of a histogram."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._base import AbstractDistribution
from ._piecewise import check_contents, choose, floats, growing, log_or_nothing, lookup, overlaps, piece_of


class HistogramTemplate(AbstractDistribution):
    """The density that is constant in each bin of a histogram, proportional to the content divided by the bin width.

    A bin includes its lower edge, and the last bin includes both edges. Contents may be parameters; a negative one
    makes everything that depends on it NaN. The derivative with respect to `x` is 0 everywhere, also at an edge.
    """

    counts: Array
    edges: Array

    def __init__(self, counts: ArrayLike, edges: ArrayLike):
        """**Arguments:**

        - `counts`: the contents of the bins (not densities), shape `(n,)`, or `(..., n)` for several histograms at
            once; in any unit.
        - `edges`: those of the bins, shape `(n + 1,)`, finite, in the units of `x`.

        **Raises:** `ValueError` for edges that do not increase, shapes that do not match, or contents that are known
        (not traced) and negative, not finite or all 0.
        """
        self.edges, self.counts = growing(edges, "edges"), floats(counts)
        n = self.edges.size - 1
        if self.counts.ndim == 0 or self.counts.shape[-1] != n:
            raise ValueError(f"{n + 1} edges make {n} bins: counts must have shape ({n},), got {self.counts.shape}")
        check_contents(self.counts, "counts")

    @property
    def total(self) -> Float[Array, "..."]:
        """The sum of the contents."""
        return jnp.sum(self.counts, axis=-1)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the histogram and in empty bins."""
        x = jnp.asarray(x)
        index, inside = piece_of(x, self.edges)
        logs = log_or_nothing(self.counts / jnp.diff(self.edges)) - log_or_nothing(self.total)[..., None]
        out = jnp.where(inside, lookup(logs, index), -jnp.inf)
        return jnp.where(jnp.isnan(x), jnp.nan, out)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`, which may cut bins."""
        low, high = jnp.broadcast_arrays(jnp.asarray(low), jnp.asarray(high))
        begin, end = overlaps(low, high, self.edges)
        part = (end - begin) / jnp.diff(self.edges)
        mass = log_or_nothing(jnp.sum(self.counts * part, axis=-1))
        return jnp.where(jnp.isneginf(mass), -jnp.inf, mass - log_or_nothing(self.total))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the histograms."""
        index_key, position_key = jax.random.split(key)
        index, _ = choose(index_key, self.counts, shape)
        u = jax.random.uniform(position_key, index.shape, dtype=self.edges.dtype)
        return self.edges[index] + u * jnp.diff(self.edges)[index]
