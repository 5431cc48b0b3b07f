"""A density smeared by a resolution."""

import math
from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from .._util.tracing import is_concrete
from . import _foreign
from ._base import AbstractDistribution
from ._piecewise import choose, floats, lookup
from ._sums import log_weighted_sum

# The grid extends beyond the range by this many cells on both sides, for the polynomials through six cell edges.
_MARGIN = 2
_STENCIL = np.arange(-_MARGIN, _MARGIN + 2)
_AT, _WEIGHTS = np.polynomial.legendre.leggauss(5)
_AT, _WEIGHTS = (0.5 * (1 + _AT)).tolist(), (0.5 * _WEIGHTS).tolist()
_FLOOR = 64  # in units of the rounding of the largest density


class Convolution(AbstractDistribution):
    """The density of a sum y + e, with y from `signal` and e from `resolution`, between `low` and `high`: 0 outside,
    and normalised to 1 inside.

    The convolution is computed by FFT on a grid of `n` cells over the range, and half as many beyond each end, without
    wrapping around. Its log is interpolated by polynomials of degree 5. Contributions from farther away than half the
    range are left out.

    **Accuracy** of the log, where the density is not below 1e-6 of its largest value: 1e-5 if the cells are a third as
    wide as the narrower of the two densities, 1e-7 for a sixth, 1e-9 for a twentieth. The probabilities of cells are
    exact if `signal` has a `log_integral`, so that nothing of a narrow peak or a step is lost. Near a step (the start
    of an exponential), however, the error falls only with the square of the cell size, and the position of a peak
    that is narrower than a cell is known only to half a cell. Double `n` to see the accuracy. Densities below about
    1e-14 of the largest one (1e-5 in float32) are lost in the rounding of the FFT: `log_prob` stays at this floor,
    and its derivatives have no meaning there.
    """

    signal: Any
    resolution: Any
    low: Array
    high: Array
    n: int = eqx.field(static=True)

    def __init__(self, signal: Any, resolution: Any, low: ArrayLike, high: ArrayLike, n: int = 1024):
        """**Arguments:**

        - `signal`: a distribution of y. The density of one of another library must be smooth over a cell.
        - `resolution`: the distribution of the error e, around 0 or a shift; continuous, and wider than a cell.
        - `low`, `high`: the range, finite numbers, in the units of the observable.
        - `n`: the number of cells in the range, even and at least 16; powers of 2 are fast.

        **Raises:** `TypeError` for densities without a `log_prob`; `ValueError` for a range that is known (not traced)
        and not finite or empty, or for an `n` that is odd or too small.
        """
        _foreign.check_density(signal, "the signal of the convolution")
        _foreign.check_density(resolution, "the resolution of the convolution")
        if np.shape(low) or np.shape(high):
            raise ValueError(f"low and high must be numbers, got shapes {np.shape(low)} and {np.shape(high)}")
        if is_concrete(low, high) and not (np.isfinite(low) & np.isfinite(high) & (np.asarray(high) > low)):
            raise ValueError(f"the range must be finite, with low below high; got {low} and {high}")
        if n < 16 or n % 2:
            raise ValueError(f"n must be even and at least 16, got {n}")
        self.signal, self.resolution, self.n = signal, resolution, int(n)
        self.low, self.high = cast(Array, low), cast(Array, high)

    @property
    def log_acceptance(self) -> Float[Array, "..."]:
        """The log of the probability that a sum y + e lies between `low` and `high`."""
        return self._table(jnp.result_type(float, self.low, self.high))[1]

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the range."""
        x = floats(x)
        logs, log_norm, _ = self._table(x.dtype)
        inside = (x >= self.low) & (x <= self.high)
        out = self._interpolate(logs, jnp.where(inside, x, self.low)) - log_norm
        return jnp.where(inside, out, jnp.where(jnp.isnan(x), jnp.nan, -jnp.inf))

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`."""
        low, high = jnp.broadcast_arrays(floats(low), floats(high))
        logs, log_norm, cells = self._table(low.dtype)
        a, b = jnp.maximum(low, self.low), jnp.minimum(high, self.high)
        empty = b <= a
        a, b = jnp.where(empty, self.low, a), jnp.where(empty, self.high, b)
        step = self._step(low.dtype)
        first, last = (self._cell(end)[0] for end in (a, b))
        same, number = first == last, jnp.arange(self.n)
        # whole cells are added up; the difference of two cumulative sums would lose digits
        is_whole = (number > first[..., None]) & (number < last[..., None])
        middle = log_weighted_sum(is_whole.astype(cells.dtype), cells, axis=-1)
        begin = self._part(logs, a, jnp.where(same, b, self.low + step * (first + 1)))
        end = jnp.where(same, -jnp.inf, self._part(logs, jnp.where(same, a, self.low + step * last), b))
        parts = jnp.stack(jnp.broadcast_arrays(begin, middle, end))
        return jnp.where(empty, -jnp.inf, log_weighted_sum(jnp.ones((), parts.dtype), parts) - log_norm)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters, between `low` and `high`: a cell by
        its probability, and a position in it from a linear density."""
        _, log_norm, cells = self._table(jnp.result_type(float, self.low, self.high))
        index_key, position_key = jax.random.split(key)
        index, _ = choose(index_key, jnp.exp(cells - log_norm[..., None]), shape)
        u = jax.random.uniform(position_key, index.shape, dtype=cells.dtype)
        # the slope is that between the neighbours
        before, after = (lookup(cells, jnp.clip(index + by, 0, self.n - 1)) for by in (-1, 1))
        a, b = jnp.exp(0.25 * (before - after)), jnp.exp(0.25 * (after - before))
        t = u * (a + b) / (a + jnp.sqrt(a**2 * (1 - u) + b**2 * u))
        return self.low + self._step(cells.dtype) * (index + t)

    def _step(self, dtype: Any) -> Array:
        return (jnp.asarray(self.high, dtype) - jnp.asarray(self.low, dtype)) / self.n

    def _table(self, dtype: Any) -> tuple[Array, Array, Array]:
        """The log of the density at the edges of the cells and the margin (last axis), that of its integral over the
        range, and that over each cell."""
        density = self._convolved(dtype)
        floor = jnp.max(density, axis=-1, keepdims=True) * (_FLOOR * jnp.finfo(density.dtype).eps)
        logs = log(jnp.where(density > floor, density, floor))
        shifted = [logs[..., i : i + self.n] for i in range(_STENCIL.size)]
        values = [sum(w * s for w, s in zip(_lagrange(at), shifted, strict=True)) for at in _AT]
        weights = jnp.asarray(_WEIGHTS, logs.dtype).reshape(-1, *[1] * logs.ndim) * self._step(logs.dtype)
        cells = log_weighted_sum(weights, jnp.stack(values))
        return logs, log_weighted_sum(jnp.ones((), cells.dtype), cells, axis=-1), cells

    def _cell(self, x: Array) -> tuple[Array, Array]:
        """The cell that contains `x`, and the position between its edges (0 to 1)."""
        position = (x - self.low) / self._step(x.dtype)
        cell = jnp.clip(jnp.floor(lax.stop_gradient(position)), 0, self.n - 1)
        return cell.astype(int), position - cell

    def _interpolate(self, logs: Array, x: Array) -> Array:
        cell, t = self._cell(x)
        return sum((w * lookup(logs, cell + i) for i, w in enumerate(_lagrange(t))), start=jnp.zeros((), logs.dtype))

    def _part(self, logs: Array, a: Array, b: Array) -> Array:
        """The log of the integral from a to b in one cell."""
        width = jnp.where(b < a, 0.0, b - a)  # against rounding
        # one lookup for all nodes, whose axis is in front of those of the parameters
        column = (-1, *[1] * max(logs.ndim - 1, width.ndim))
        at, weights = (jnp.asarray(constants, width.dtype).reshape(column) for constants in (_AT, _WEIGHTS))
        return log_weighted_sum(width * weights, self._interpolate(logs, a + width * at))

    def _convolved(self, dtype: Any) -> Array:
        """The density of the sum at the cell edges, from `_MARGIN` cells below the range to as many above."""
        n, step = self.n, self._step(dtype)
        low = jnp.asarray(self.low, dtype)
        edges = low + step * (jnp.arange(2 * n + 1) - n // 2)
        size = 4 * n
        # all distances from the middle of a cell to an edge
        count = 3 * n + 2 * _MARGIN
        distance = step * (jnp.arange(count, dtype=dtype) - jnp.asarray(1.5 * n + _MARGIN - 0.5, dtype))
        errors = jnp.exp(_along(self.resolution.log_prob, distance))
        if hasattr(self.signal, "log_integral"):
            masses = jnp.exp(_along(self.signal.log_integral, edges[:-1], edges[1:]))
            # the average of the density over cells, whose transform is that of the density times that of a cell
            width = np.sinc(np.fft.rfftfreq(size))
        else:
            masses = step * jnp.exp(_along(self.signal.log_prob, edges[:-1] + 0.5 * step))
            width = np.ones(size // 2 + 1)
        spectrum = jnp.fft.rfft(masses, size) * jnp.fft.rfft(errors, size) / jnp.asarray(width, dtype)
        # cell k and distance j contribute to index k + j; only indices below the first one returned wrap around
        return jnp.fft.irfft(spectrum, size)[..., 2 * n - 1 : 3 * n + 2 * _MARGIN]


def _along(fn: Callable[..., Array], *grid: Array) -> Array:
    """The function on a grid, which is the last axis, after those of its parameters."""
    return jnp.moveaxis(jax.vmap(fn)(*grid), 0, -1)


def _lagrange(t: Any) -> list[Any]:
    """The weights of the values at the stencil for the polynomial through them at `t`."""
    weights = []
    for i in _STENCIL:
        others = [j for j in _STENCIL if j != i]
        weight = 1 / math.prod(float(i - j) for j in others)
        for j in others:
            weight = weight * (t - float(j))
        weights.append(weight)
    return weights
