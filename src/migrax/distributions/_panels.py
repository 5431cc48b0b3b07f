"""Gauss-Legendre panels in log space, along one axis or two, with an estimate of their error."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from ._sums import log_weighted_sum


class Axis(NamedTuple):
    low: Array
    high: Array
    breaks: Any
    panels: int


def panel_edges(axis: Axis) -> Array:
    """The ends of the panels, on the leading axis."""
    low, high, breaks, panels = axis
    if isinstance(breaks, jax.Array):  # a vector, with scalar ends
        ends = jnp.sort(jnp.concatenate([low[None], jnp.clip(breaks.astype(low.dtype), low, high), high[None]]))
        return _divided(ends, panels)
    inner = [jnp.clip(jnp.asarray(b, low.dtype), low, high) for b in breaks]
    ends = jnp.stack([low, *inner, high])
    ends = jnp.sort(ends, axis=0) if len(inner) > 1 else ends
    return _divided(ends, panels)


def _divided(ends: Array, panels: int) -> Array:
    """Divide each interval between two ends into `panels` equal ones."""
    if panels == 1:
        return ends
    steps = jnp.asarray(np.arange(panels) / panels, ends.dtype).reshape(-1, *[1] * (ends.ndim - 1))
    pieces = [ends[i] + (ends[i + 1] - ends[i]) * steps for i in range(ends.shape[0] - 1)]
    return jnp.concatenate([*pieces, ends[-1:]])


def gauss(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on a panel from 0 to 1."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return 0.5 * (1 + points), 0.5 * weights


def _comparison_rules(nodes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rules for comparison: Gauss with fewer nodes, Gauss on both halves, and Chebyshev points up to the very ends of
    the panel (Clenshaw-Curtis), as none of Gauss's nodes sees a step beyond the last of them."""
    points, weights = gauss((nodes + 1) // 2)
    halves = np.append(0.5 * points, 0.5 + 0.5 * points), np.append(0.5 * weights, 0.5 * weights)
    # not the ends themselves, which may be on the other side of a step at one of the breaks
    points = np.cos(np.pi * np.arange(nodes) / (nodes - 1)) * (1 - 1e-6)
    legendre = np.polynomial.legendre.legvander(points, nodes - 1)
    weights = np.linalg.solve(legendre.T, np.eye(nodes)[0])  # over -1 to 1, halved
    return [gauss(nodes - 1), gauss(nodes - 3), halves, (0.5 * (1 + points), weights)]


def panel_values(
    log_density: Callable[[Array], Array], axes: list[Axis], rule: tuple[np.ndarray, np.ndarray]
) -> tuple[Array, Array]:
    """The log of the density at all nodes, and their weights; shapes (panels, nodes, ...)."""
    points, weights = grid([panel_edges(axis) for axis in axes], rule)
    # by vmap, so that parameters may have any shape
    values = jax.vmap(log_density)(points)
    return values.reshape(*weights.shape[:2], *values.shape[1:]), weights


def grid(edges: list[Array], rule: tuple[np.ndarray, np.ndarray]) -> tuple[Array, Array]:
    """The nodes in all panels between the edges on the leading axis, shape (panels * nodes, ...), with a trailing axis
    of 2 for two observables, and their weights, shape (panels, nodes, ...)."""
    grids = []
    for ends in edges:
        points, weights = (jnp.asarray(a, ends.dtype).reshape(1, -1, *[1] * (ends.ndim - 1)) for a in rule)
        width = (ends[1:] - ends[:-1])[:, None]
        grids.append((ends[:-1, None] + width * points, width * weights))
    if len(edges) == 1:
        x, weights = grids[0]
        return x.reshape(-1, *x.shape[2:]), weights
    (x, wx), (y, wy) = grids
    x, y = jnp.broadcast_arrays(x[:, None, :, None], y[None, :, None, :])
    nodes = jnp.stack([x, y], axis=-1).reshape(-1, *x.shape[4:], 2)
    weights = wx[:, None, :, None] * wy[None, :, None, :]
    return nodes, weights.reshape(weights.shape[0] * weights.shape[1], -1, *weights.shape[4:])


def log_of_panels(values: Array, weights: Array) -> Array:
    weights = weights.reshape(*weights.shape[:2], *[1] * (values.ndim - weights.ndim), *weights.shape[2:])
    return log_weighted_sum(weights.reshape(-1, *weights.shape[2:]), values.reshape(-1, *values.shape[2:]))


def integral_with_error(log_density: Callable[[Array], Array], axes: list[Axis], nodes: int) -> tuple[Array, Array]:
    values, weights = panel_values(log_density, axes, gauss(nodes))
    log_total = log_of_panels(values, weights)

    def panels(values: Array, weights: Array) -> Array:
        """The fraction of the integral in each panel."""
        weights = weights.reshape(*weights.shape[:2], *[1] * (values.ndim - weights.ndim), *weights.shape[2:])
        return jnp.sum(weights * jnp.exp(values - jnp.where(jnp.isneginf(log_total), 0.0, log_total)), axis=1)

    fractions = panels(values, weights)
    alternatives = [panels(*panel_values(log_density, axes, rule)) for rule in _comparison_rules(nodes)]
    difference = jnp.max(jnp.stack([jnp.abs(other - fractions) for other in alternatives]), axis=0)
    return log_total, 3 * lax.stop_gradient(jnp.sum(difference, axis=0)) + 4 * jnp.finfo(values.dtype).eps


def legendre_matrix(nodes: int) -> np.ndarray:
    """The matrix from values at the nodes to the Legendre coefficients of the polynomial through them."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    vander = np.polynomial.legendre.legvander(points, nodes - 1)
    return weights[:, None] * vander * (np.arange(nodes) + 0.5)


def invert_series(coefficients: Array, u: Array) -> Array:
    """The point, as (1 + t) / 2, up to which the integral of a Legendre series over -1 < t < 1 is the fraction `u` of
    the total; by bisection."""
    n = coefficients.shape[-1]
    target = 2 * u * coefficients[..., 0]

    def integral(t: Array) -> Array:
        # the integral of P_k is (P_{k+1} - P_{k-1}) / (2k + 1) (Abramowitz and Stegun 8.5.3, 8.14)
        out, previous, current = coefficients[..., 0] * (t + 1), jnp.ones_like(t), t
        for k in range(1, n):
            following = ((2 * k + 1) * t * current - k * previous) / (k + 1)
            out = out + coefficients[..., k] * (following - previous) / (2 * k + 1)
            previous, current = current, following
        return out

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = ends
        middle = 0.5 * (a + b)
        left = integral(middle) < target
        return jnp.where(left, middle, a), jnp.where(left, b, middle)

    a, b = lax.fori_loop(0, 40, halve, (jnp.full_like(u, -1.0), jnp.full_like(u, 1.0)))
    return 0.25 * (a + b) + 0.5
