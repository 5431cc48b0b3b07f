"""A density estimated from events."""

import math
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from .._util.tracing import is_concrete
from ._base import AbstractDistribution
from ._piecewise import choose, floats
from ._sums import log_weighted_sum
from .normal import Normal

# Numbers held at a time: events times points.
_CHUNK = 2**20


class KernelDensity(AbstractDistribution):
    """The sum of normal distributions around the events (K. Cranmer, Comput. Phys. Commun. 136 (2001) 198).

    At a boundary of the range the kernels are reflected, so that the density does not fall there to half its value;
    with `reflect=False` they are cut off, and the sum is normalised to what remains.

    The computing time is proportional to the number of events times the number of points at which the density is
    evaluated; memory holds only a few million numbers at a time.
    """

    events: Array
    weights: Array | None
    bandwidth: Array
    low: Array
    high: Array
    reflect: bool = eqx.field(static=True)

    def __init__(
        self,
        events: ArrayLike,
        bandwidth: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        low: ArrayLike = -np.inf,
        high: ArrayLike = np.inf,
        reflect: bool = True,
    ):
        """**Arguments:**

        - `events`: the values of the observable, shape `(n,)`.
        - `bandwidth`: the standard deviation of the kernels, in the units of the events; one number, or one for each
            event. Default: Scott's rule, sigma n_eff^(-1/5) with the standard deviation sigma of the events and
            n_eff = (sum w)²/(sum w²), as that of `scipy.stats.gaussian_kde` (D. W. Scott, Multivariate Density
            Estimation (1992), there with 1.06). It suits one peak, and is too wide for several.
        - `weights`: of the events, shape `(n,)`; only their ratios matter. Some may be negative; where the sum is
            negative, the density is NaN.
        - `low`, `high`: the range, numbers.
        - `reflect`: the treatment of its ends, see above.

        **Raises:** `ValueError` for shapes that do not match, fewer than 2 events without a bandwidth, or events that
        are known (not traced) and outside the range.
        """
        self.events = floats(events)
        self.weights = None if weights is None else floats(weights)
        self.low, self.high, self.reflect = cast(Array, low), cast(Array, high), reflect
        n = self.events.size
        if self.events.ndim != 1 or n == 0:
            raise ValueError(f"events must have shape (n,), got {self.events.shape}")
        if self.weights is not None and self.weights.shape != (n,):
            raise ValueError(f"weights must have shape ({n},), got {self.weights.shape}")
        if np.ndim(low) or np.ndim(high) or (bandwidth is not None and np.shape(bandwidth) not in ((), (n,))):
            raise ValueError(f"low and high must be numbers, and bandwidth a number or of shape ({n},)")
        if is_concrete(self.events, low, high):
            self._check_events()
        if bandwidth is None:
            if n < 2:
                raise ValueError("a bandwidth from the events needs two of them")
            bandwidth = _scott(self.events, self.weights)
        self.bandwidth = floats(bandwidth) if np.ndim(bandwidth) else cast(Array, bandwidth)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the range."""
        x = jnp.asarray(x)
        centers, weights, widths = self._kernels()
        inside = (x >= self.low) & (x <= self.high)
        points = jnp.where(inside, x, self.events[0])

        def log_sum_at(x: Array) -> Array:
            return log_weighted_sum(weights, Normal(centers, widths).log_prob(x))

        out = _mapped(log_sum_at, points, rows=centers.size) - self._log_norm()
        return jnp.where(inside, out, jnp.where(jnp.isnan(x), jnp.nan, -jnp.inf))

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`, precise in both tails."""
        a, b = jnp.broadcast_arrays(jnp.maximum(low, self.low), jnp.minimum(high, self.high))
        return self._log_mass(a, b) - self._log_norm()

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape: an event plus a random step. NaN if a weight is negative."""
        centers, weights, widths = self._kernels()
        is_positive = jnp.all(weights >= 0)
        index_key, step_key = jax.random.split(key)
        if self._is_unbounded:
            index, _ = choose(index_key, weights, shape)
            step = jax.random.normal(step_key, shape, dtype=centers.dtype)
        else:
            index, _ = choose(
                index_key, weights * jnp.exp(Normal(centers, widths).log_integral(self.low, self.high)), shape
            )
            ends = ((end - centers[index]) / widths[index] for end in (self.low, self.high))
            step = jax.random.truncated_normal(step_key, *ends, shape=shape, dtype=centers.dtype)
        out = centers[index] + widths[index] * step
        return jnp.where(is_positive, jnp.clip(out, self.low, self.high), jnp.nan)

    @property
    def _is_unbounded(self) -> bool:
        """Whether the range is known to be infinite on both sides."""
        return is_concrete(self.low, self.high) and bool(np.isneginf(self.low) & np.isposinf(self.high))

    def _kernels(self) -> tuple[Array, Array, Array]:
        """Centres, weights and widths of the kernels, with those reflected at the ends of the range."""
        weights = jnp.ones_like(self.events) if self.weights is None else self.weights
        # normalised, so that neither sums nor single precision overflow
        weights = weights / jnp.sum(weights)
        widths = jnp.broadcast_to(jnp.asarray(self.bandwidth), self.events.shape)
        if self._is_unbounded or not self.reflect:
            return self.events, weights, widths
        centers, all_weights = [self.events], [weights]
        for end in (self.low, self.high):
            if is_concrete(end) and np.isinf(end):
                continue
            finite = jnp.isfinite(end)
            centers.append(jnp.where(finite, 2 * jnp.where(finite, end, 0.0) - self.events, self.events))
            all_weights.append(jnp.where(finite, weights, 0.0))
        return jnp.concatenate(centers), jnp.concatenate(all_weights), jnp.tile(widths, len(centers))

    def _log_mass(self, a: Array, b: Array) -> Array:
        centers, weights, widths = self._kernels()

        def log_mass_between(ends: tuple[Array, Array]) -> Array:
            return log_weighted_sum(weights, Normal(centers, widths).log_integral(*ends))

        return _mapped(log_mass_between, (a, b), rows=8 * centers.size)

    def _log_norm(self) -> Array:
        """The log of the fraction of the kernels inside the range."""
        if self._is_unbounded:
            return jnp.zeros((), self.events.dtype)
        return self._log_mass(jnp.asarray(self.low), jnp.asarray(self.high))

    def _check_events(self) -> None:
        outside = np.asarray((self.events < self.low) | (self.events > self.high))
        if np.any(outside):
            raise ValueError(
                f"{np.sum(outside)} of {outside.size} events lie outside the range from {self.low} to {self.high}, the "
                f"first is events[{int(np.argmax(outside))}] = {self.events[int(np.argmax(outside))]}"
            )


def _scott(events: Array, weights: Array | None) -> Array:
    """sigma n_eff^(-1/5), with the unbiased variance, as in scipy.stats.gaussian_kde."""
    if weights is None:
        return jnp.std(events, ddof=1) * events.size ** (-0.2)
    w = weights / jnp.sum(weights)
    square = jnp.sum(w**2)
    variance = jnp.sum(w * (events - jnp.sum(w * events)) ** 2) / (1 - square)
    return jnp.sqrt(variance) * square**0.2


def _mapped(fn, args, rows: int) -> Array:
    """Map `fn`, which computes `rows` numbers for each element, over `args`, as many elements at a time as fit into
    memory. Intermediate values are recomputed for derivatives, not stored."""
    shape = jnp.shape(jax.tree.leaves(args)[0])
    flat_args = jax.tree.map(jnp.ravel, args)
    size = max(1, _CHUNK // rows)
    if math.prod(shape) <= size:
        return jax.vmap(fn)(flat_args).reshape(shape)
    return lax.map(jax.checkpoint(fn), flat_args, batch_size=size).reshape(shape)
