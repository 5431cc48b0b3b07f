"""A distribution truncated to one or several ranges."""

import itertools
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._base import AbstractDistribution, check_edges
from ._foreign import check_density
from ._foreign_integrals import Foreign
from ._interval import clip, excluded, sample_by_bisection
from ._quadrature import log_sum
from ._ranges import known_bins, outside_of, pairs_of
from .normal import Normal


class Truncated(AbstractDistribution):
    """The density `base` restricted to the range from `low` to `high`, or to several ranges, and normalised there.

    ```python
    mx.distributions.Truncated(mx.distributions.Exponential(0.5), 0.0, 10.0)
    mx.distributions.Truncated(mx.distributions.Exponential(0.5), [(0.0, 4.0), (6.0, 10.0)])  # two sidebands
    ```

    Its log is a difference of two logs of `base`, which are large for a range far in a tail: 30 sigma from the mean of
    a normal distribution it is exact to 1e-13, 200 sigma from it to 1e-11.
    """

    base: AbstractDistribution
    low: Array
    high: Array
    gaps: tuple[tuple[Array, Array], ...]

    def __init__(
        self, base: AbstractDistribution, low: ArrayLike | Sequence[Any] = -np.inf, high: ArrayLike | None = None
    ):
        """**Arguments:**

        - `base`: any distribution; one of another library (numpyro, TFP, ...) needs a single observable and a `cdf`.
        - `low`, `high`: the range, with ends that may be infinite (`high` is, if it is left out); or
        - `low`: without `high`, a list of increasing ranges `(low, high)`, or an array of shape `(ranges, 2)`. The ends
            may be parameters. Two ranges may touch; where parameters make them overlap the density is NaN.

        **Raises:** `TypeError` for a base that is not a distribution; `ValueError` for ranges that are known (not
        traced) and empty, overlapping or not in order.
        """
        check_density(base, "what Truncated cuts")
        if not isinstance(base, AbstractDistribution):
            base = Foreign(base)
        self.base, self.gaps = base, ()
        pairs = pairs_of(low, "Truncated") if high is None else None
        if pairs is not None:
            low, high = pairs[0][0], pairs[-1][1]
            self.gaps = tuple((left[1], right[0]) for left, right in itertools.pairwise(pairs))
        self.low, self.high = cast(Array, low), cast(Array, np.inf if high is None else high)

    @property
    def ranges(self) -> tuple[tuple[Array, Array], ...]:
        """The ranges `(low, high)`, one after the other."""
        starts, stops = zip(*self.gaps, strict=True) if self.gaps else ((), ())
        return tuple(zip((self.low, *stops), (*starts, self.high), strict=True))

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the range."""
        x = jnp.asarray(x)
        outside = outside_of(x, self.ranges)
        # a point that is inside instead: the base may be infinite or NaN elsewhere
        value, total = self.base.log_prob(jnp.where(outside, _middle(*self.ranges[0]), x)), self._log_total()
        # Of nothing in a range there is nothing, but an empty range has no density.
        has_inside = outside | (jnp.asarray(self.low) < self.high)
        total = jnp.where(jnp.isneginf(total), jnp.where(has_inside, 0.0, jnp.nan), total)
        return excluded(outside, value - total)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability of the part of the interval that lies in the ranges."""
        return self._normalised(self._mass(low, high))

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`."""
        low, high = check_edges(edges, self)
        if self.gaps or known_bins(edges, self.low, self.high) is None:
            return self.log_integral(low, high)
        return self._normalised(self.base.log_bin_integrals(edges))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters, by bisection of the cdf, to the last
        digit and in both tails. They have no derivatives in the parameters."""
        if not self.gaps:
            return sample_by_bisection(self.base.log_integral, self.low, self.high, key, shape)
        x = sample_by_bisection(self._mass, self.low, self.high, key, shape)
        for start, stop in self.gaps:  # only rounding leads into them
            x = jnp.where((x > start) & (x < stop), jax.lax.stop_gradient(start), x)
        return jnp.where(jnp.isnan(self._log_total()), jnp.nan, x)

    def _normalised(self, value: Array) -> Array:
        """The log of a probability of `base`, over that of the ranges; nothing of nothing is nothing."""
        return jnp.where(jnp.isneginf(value), -jnp.inf, value - self._log_total())

    def _mass(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability of `base` in the ranges between `low` and `high`."""
        if not self.gaps:
            return self.base.log_integral(*clip(low, high, self.low, self.high))
        # all pieces in one call, on a leading axis in front of those of the parameters
        pieces = [clip(low, high, start, stop) for start, stop in self.ranges]
        lanes = jax.eval_shape(self.base.log_integral, *pieces[0]).shape
        shape = jnp.broadcast_shapes(lanes, *(jnp.shape(end) for piece in pieces for end in piece))
        ends = [jnp.stack([jnp.broadcast_to(piece[side], shape) for piece in pieces]) for side in (0, 1)]
        return log_sum(self.base.log_integral(*ends))

    def _log_total(self) -> Float[Array, "..."]:
        """The log of the probability of `base` in the ranges; NaN where these overlap."""
        if not self.gaps:
            return self.base.log_integral(self.low, self.high)
        ends = [end for pair in self.ranges for end in pair]
        overlap = jnp.array(False)
        for left, right in itertools.pairwise(ends):
            overlap = overlap | ~(jnp.asarray(left) <= right)
        return jnp.where(overlap, jnp.nan, self._mass(self.low, self.high))


def _middle(low: ArrayLike, high: ArrayLike) -> Array:
    """A finite point of a range."""
    low, high = jnp.asarray(low), jnp.asarray(high)
    a, b = (jnp.where(jnp.isfinite(end), end, 0.0) for end in (low, high))
    below, above = jnp.isfinite(low), jnp.isfinite(high)
    return jnp.where(below & above, 0.5 * a + 0.5 * b, jnp.where(below, a + 1, jnp.where(above, b - 1, 0.0)))


class TruncatedNormal(AbstractDistribution):
    """The normal distribution with mean `mu` and standard deviation `sigma`, truncated to the range `low` to `high`.

    The range may be far in a tail: see `Truncated`, which takes several ranges, too.
    """

    mu: Array
    sigma: Array
    low: Array
    high: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike, low: ArrayLike, high: ArrayLike):
        """**Arguments:**

        - `mu`, `sigma`: the mean and the standard deviation before truncation.
        - `low`, `high`: the range, with ends that may be infinite.
        """
        self.mu, self.sigma = cast(Array, mu), cast(Array, sigma)
        self.low, self.high = cast(Array, low), cast(Array, high)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the range."""
        return self._cut().log_prob(x)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        return self._cut().log_integral(low, high)

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`."""
        return self._cut().log_bin_integrals(edges)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters; without derivatives."""
        return self._cut().sample(key, shape)

    def _cut(self) -> Truncated:
        return Truncated(Normal(self.mu, self.sigma), self.low, self.high)
