"""Samples of densities whose cdf has no inverse in closed form."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._quadrature import log_panels

_STEPS = {"float64": 44, "float32": 20}
_NODES = 8


def panels_around(peak: Array, unit: Array, low: Array, high: Array, n: int = 96) -> Array:
    """Edges from `low` to `high`, dense near the peak and sparse far from it, on a leading axis. Some of the 2 n + 1
    may be equal."""
    steps = jnp.linspace(-1.0, 1.0, 2 * n + 1, dtype=peak.dtype).reshape(-1, *(1 for _ in range(peak.ndim)))
    reach = jnp.maximum(jnp.abs(high - peak), jnp.abs(peak - low))
    edges = jnp.clip(peak + unit * jnp.sinh(steps * jnp.arcsinh(reach / unit)), low, high)
    return edges.at[0].set(low).at[-1].set(high)


def invert(log_density: Callable[[Array], Array], edges: Array, u: Array) -> Array:
    """The point where the cdf is `u`, exact to rounding if eight Gauss-Legendre nodes suffice for each panel.

    **Arguments:**

    - `log_density`: not normalised, a function of arrays with leading axes in front of those of the parameters.
    - `edges`: those of the panels, with shape (m + 1, *parameters).
    - `u`: between 0 and 1, with shape (*shape, *parameters).
    """
    flat = u.reshape(-1, *edges.shape[1:])
    logs = log_panels(log_density, edges[:-1], edges[1:], nodes=_NODES)
    top = jnp.max(logs, axis=0)
    below = jnp.concatenate([jnp.zeros_like(edges[:1]), jnp.cumsum(jnp.exp(logs - top), axis=0)])
    target = flat * below[-1]
    # by bisection, as comparing with all edges at once would take the memory of all panels for each sample
    first, last = jnp.zeros(flat.shape, int), jnp.full(flat.shape, edges.shape[0] - 1)
    for _ in range(edges.shape[0].bit_length()):
        middle = (first + last) // 2
        right = (jnp.take_along_axis(below, middle, axis=0) <= target) & (middle > first)
        first, last = jnp.where(right, middle, first), jnp.where(right, last, jnp.maximum(middle, first + 1))
    low, high = jnp.take_along_axis(edges, first, axis=0), jnp.take_along_axis(edges, first + 1, axis=0)
    remainder = target - jnp.take_along_axis(below, first, axis=0)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = ends
        middle = 0.5 * (a + b)
        less = jnp.exp(log_panels(log_density, low, middle, nodes=_NODES) - top) < remainder
        return jnp.where(less, middle, a), jnp.where(less, b, middle)

    a, b = jax.lax.fori_loop(0, _STEPS[edges.dtype.name], halve, (low, high))
    return (0.5 * (a + b)).reshape(u.shape)
