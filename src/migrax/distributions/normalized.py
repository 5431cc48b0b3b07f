"""A user's density, normalised numerically."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._util.tracing import is_concrete
from ._base import AbstractDistribution, check_edges
from ._bins_by_nodes import log_bins, without
from ._panels import (
    Axis,
    gauss,
    integral_with_error,
    invert_series,
    legendre_matrix,
    log_of_panels,
    panel_edges,
    panel_values,
)
from ._piecewise import choose, floats

_TOLERANCE = 1e-6


class Normalized(AbstractDistribution):
    """The density proportional to `exp(log_density(x))` between `low` and `high`, of one or two observables.

    ```python
    def make(slope, bump):
        return mx.distributions.Normalized(lambda x: jnp.log(1 + slope * x + bump * jnp.sin(x) ** 2), 0.0, 5.0)
    ```

    Its integral is computed on `panels` of equal length with Gauss-Legendre `nodes` each, in log space. It has
    derivatives of any order with respect to everything that `log_density` depends on. It is accurate if a polynomial of
    degree 2 nodes - 1 describes the density over each panel: let panels end at kinks or steps (`breaks`), and put
    enough panels under a peak (one per 5 standard deviations gives 1e-13). `normalization_error` estimates the
    accuracy.

    Where parameters make the density negative or NaN, `log_prob` is NaN.
    """

    log_density: Callable[[Array], Array]
    low: Array
    high: Array
    breaks: Any
    panels: tuple[int, ...] = eqx.field(static=True)
    nodes: int = eqx.field(static=True)

    def __init__(
        self,
        log_density: Callable[[Array], Array],
        low: ArrayLike,
        high: ArrayLike,
        panels: int | None = None,
        nodes: int = 16,
        breaks: Sequence[Any] = (),
    ):
        """**Arguments:**

        - `log_density`: the log of the density up to a constant; -inf where it is 0. Called as `log_density(x)` with
            `x` of any shape, it returns one number for each; for two observables `x` has shape `(..., 2)`. Its
            parameters are in its closure, or it is an `eqx.Module` that holds them.
        - `low`, `high`: the range, finite: two numbers, or two arrays of shape `(2,)` for two observables.
        - `panels`: the number of panels along each axis, between successive `breaks`; default 32, or 8 for two
            observables.
        - `nodes`: the number of nodes in each panel, at least 4.
        - `breaks`: points where panels must end (kinks and steps of the density); they may be parameters. Those outside
            the range are ignored. For two observables a pair of sequences.

        **Raises:** `ValueError` for a range that is known (not traced) and not finite or empty; and for wrong shapes.
        **Warns** if the parameters are known (not traced) and the density is NaN or the error of the normalisation
        exceeds 1e-6.
        """
        self.breaks, self.panels, self.nodes = _check(low, high, panels, nodes, breaks)
        self.log_density = log_density
        self.low, self.high = (floats(end) if np.ndim(end) else cast(Array, end) for end in (low, high))
        if is_concrete(jnp.add(jnp.asarray(low), 0), high):  # not inside a jit, where the values are unknown
            log_total, error = self._integrate(None)
            if is_concrete(log_total):
                self._warn(np.asarray(log_total), np.asarray(error))

    @property
    def normalization(self) -> Float[Array, "..."]:
        """The log of the integral of `exp(log_density(x))` over the range."""
        return self._log_mass(None)

    @property
    def normalization_error(self) -> Float[Array, "..."]:
        """An estimate of the relative error of the integral, which is usually too large: see `integrate`."""
        return self._integrate(None)[1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one event: `()` or `(2,)`."""
        return np.shape(self.low)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`, of shape `(..., 2)` for two observables; -inf outside the range."""
        x = floats(x)
        if self.event_shape and x.shape[-1:] != (2,):
            raise ValueError(f"x must have shape (..., 2), got {x.shape}")
        inside, nan = (x >= self.low) & (x <= self.high), jnp.isnan(x)
        if self.event_shape:
            inside, nan = jnp.all(inside, axis=-1, keepdims=True), jnp.any(nan, axis=-1)
        out = self.log_density(jnp.where(inside, x, self.low)) - self._log_mass(x.dtype)
        inside = inside[..., 0] if self.event_shape else inside
        return jnp.where(inside, out, jnp.where(nan, jnp.nan, -jnp.inf))

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`, or of the box between them (shape `(..., 2)`).

        Each interval has as many panels as the whole range: a bin costs as much as the normalisation.
        """
        low, high = jnp.broadcast_arrays(floats(low), floats(high))
        dtype = jnp.result_type(low, high)
        a, b = jnp.maximum(low, self.low), jnp.minimum(high, self.high)
        empty = b <= a
        if self.event_shape:
            empty = jnp.any(empty, axis=-1, keepdims=True)
        a, b = jnp.where(empty, self.low, a), jnp.where(empty, self.high, b)
        values, weights = panel_values(self.log_density, self._axes(a, b, dtype), gauss(self.nodes))
        out = log_of_panels(values, weights) - self._log_mass(dtype)
        empty = empty[..., 0] if self.event_shape else empty
        return jnp.where(empty, -jnp.inf, out)

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`. A bin in which the density is smooth takes
        15 evaluations."""
        low, high = check_edges(edges, self)
        ends = panel_edges(self._axes(self.low, self.high, low.dtype)[0])
        # no wider than the panel in which it begins: what the panels see, the nodes of a bin see, too
        panel = jnp.diff(ends)[jnp.clip(jnp.searchsorted(ends, low, side="right") - 1, 0, ends.shape[0] - 2)]
        smooth = without(self.breaks, low, high) & (high - low <= panel * (1 + 1e-6))
        return log_bins(self.log_prob, self.log_integral, low, high, smooth, (self.low, self.high))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters, by inverting the integral of the
        polynomial through the nodes of each panel. For one observable.

        **Raises:** `TypeError` for two observables.
        """
        if self.event_shape:
            raise TypeError("Normalized samples one observable only")
        axis = self._axes(self.low, self.high, None)[0]
        values, weights = panel_values(self.log_density, [axis], gauss(self.nodes))
        logs = values - log_of_panels(values, weights)
        weights = weights.reshape(*weights.shape, *[1] * (logs.ndim - weights.ndim))
        lanes = jnp.moveaxis(jnp.sum(weights * jnp.exp(logs), axis=1), 0, -1)  # (*parameters, panels)
        panel_key, position_key = jax.random.split(key)
        panel, _ = choose(panel_key, lanes, shape)
        u = jax.random.uniform(position_key, panel.shape, dtype=logs.dtype)
        f = jnp.moveaxis(jnp.exp(logs), (0, 1), (-2, -1))  # (*parameters, panels, nodes)
        f = jnp.broadcast_to(f, (*panel.shape, *f.shape[-2:])) if f.ndim > 2 else f
        node_values = f[panel] if f.ndim == 2 else jnp.take_along_axis(f, panel[..., None, None], axis=-2)[..., 0, :]
        t = invert_series(node_values @ jnp.asarray(legendre_matrix(self.nodes), node_values.dtype), u)
        ends = panel_edges(axis)
        return ends[panel] + (ends[panel + 1] - ends[panel]) * t

    def _axes(self, low: ArrayLike, high: ArrayLike, dtype: Any) -> list["Axis"]:
        low, high = jnp.asarray(low), jnp.asarray(high)
        dtype = jnp.result_type(float, low, high) if dtype is None else dtype
        low, high = low.astype(dtype), high.astype(dtype)
        if not self.event_shape:
            return [Axis(low, high, self.breaks, self.panels[0])]
        return [Axis(low[..., i], high[..., i], self.breaks[i], self.panels[i]) for i in range(2)]

    def _log_mass(self, dtype: Any) -> Array:
        return log_of_panels(*panel_values(self.log_density, self._axes(self.low, self.high, dtype), gauss(self.nodes)))

    def _integrate(self, dtype: Any) -> tuple[Array, Array]:
        return integral_with_error(self.log_density, self._axes(self.low, self.high, dtype), self.nodes)

    def _warn(self, log_total: np.ndarray, error: np.ndarray) -> None:
        if np.any(np.isnan(log_total)):
            warnings.warn(
                "the density of Normalized is NaN somewhere between low and high (its log is that of a negative "
                "number?), so log_prob is NaN",
                stacklevel=4,
            )
        elif np.any(np.isneginf(log_total)):
            warnings.warn("the density of Normalized is 0 everywhere between low and high", stacklevel=4)
        elif not np.all(error <= _TOLERANCE):
            warnings.warn(
                f"the normalisation of Normalized has a relative error of up to {np.max(error):.1g}: give it more "
                f"panels than {self.panels[0]}, or breaks where the density has kinks or steps",
                stacklevel=4,
            )


def integrate(
    log_density: Callable[[Array], Array],
    low: ArrayLike,
    high: ArrayLike,
    panels: int | None = None,
    nodes: int = 16,
    breaks: Sequence[Any] = (),
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The log of the integral of `exp(log_density(x))` from `low` to `high`, and its relative error.

    The error is the sum over panels of three times the largest difference from four other rules: one node less, three
    less, half as many in each half of the panel, and Clenshaw-Curtis. It was an overestimate for every kink and step
    that was tried. A peak between the nodes of all these rules is not noticed; if only some of the rules see a peak,
    the error is of the order of 1.

    **Arguments:** as those of `Normalized`.

    **Returns:** two numbers, or arrays of the shape of the parameters.

    **Raises:** `ValueError` as `Normalized` does.
    """
    breaks, counts, nodes = _check(low, high, panels, nodes, breaks)
    low, high = floats(low), floats(high)
    axes = [Axis(low, high, breaks, counts[0])]
    if low.ndim:
        axes = [Axis(low[i], high[i], breaks[i], counts[i]) for i in range(2)]
    return integral_with_error(log_density, axes, nodes)


def _check(low: Any, high: Any, panels: int | None, nodes: int, breaks: Any) -> tuple[Any, tuple[int, ...], int]:
    shape = np.shape(low)
    if shape != np.shape(high) or shape not in ((), (2,)):
        raise ValueError(
            f"low and high must be two numbers, or of shape (2,) for two observables; got {shape} and {np.shape(high)}"
        )
    if is_concrete(low, high) and not np.all(np.isfinite(low) & np.isfinite(high) & (np.asarray(high) > low)):
        raise ValueError(f"the range must be finite, with low below high; got {low} and {high}")
    panels = (8 if shape else 32) if panels is None else panels
    if panels < 1 or nodes < 4:
        raise ValueError(f"panels must be at least 1 and nodes at least 4, got {panels} and {nodes}")
    if not shape:
        return tuple(breaks), (panels,), nodes
    if len(breaks) not in (0, 2) or any(np.ndim(b) != 1 for b in breaks):
        raise ValueError("breaks must be a pair of sequences for two observables")
    first, second = breaks or ((), ())
    return (tuple(first), tuple(second)), (panels, panels), nodes
