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
    """The ends of the panels, on the first axis."""
    low, high, breaks, panels = axis
    if isinstance(breaks, jax.Array):  # of one axis, for numbers
        ends = jnp.sort(jnp.concatenate([low[None], jnp.clip(breaks.astype(low.dtype), low, high), high[None]]))
        return _divided(ends, panels)
    inner = [jnp.clip(jnp.asarray(b, low.dtype), low, high) for b in breaks]
    ends = jnp.stack([low, *inner, high])
    ends = jnp.sort(ends, axis=0) if len(inner) > 1 else ends
    return _divided(ends, panels)


def _divided(ends: Array, panels: int) -> Array:
    """`panels` equal ones between each two ends."""
    if panels == 1:
        return ends
    steps = jnp.asarray(np.arange(panels) / panels, ends.dtype).reshape(-1, *[1] * (ends.ndim - 1))
    pieces = [ends[i] + (ends[i + 1] - ends[i]) * steps for i in range(ends.shape[0] - 1)]
    return jnp.concatenate([*pieces, ends[-1:]])


def gauss(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on a panel from 0 to 1."""
    at, weights = np.polynomial.legendre.leggauss(nodes)
    return 0.5 * (1 + at), 0.5 * weights


def _others(nodes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rules to compare with: Gauss with fewer nodes, Gauss on both halves, and Chebyshev points to the very ends of the
    panel (Clenshaw-Curtis), as a step beyond the last of Gauss's nodes is seen by none of them."""
    at, weights = gauss((nodes + 1) // 2)
    halves = np.append(0.5 * at, 0.5 + 0.5 * at), np.append(0.5 * weights, 0.5 * weights)
    # not the ends themselves, which may belong to the other side of a step that is one of the breaks
    at = np.cos(np.pi * np.arange(nodes) / (nodes - 1)) * (1 - 1e-6)
    legendre = np.polynomial.legendre.legvander(at, nodes - 1)
    weights = np.linalg.solve(legendre.T, np.eye(nodes)[0])  # over -1 to 1, halved
    return [gauss(nodes - 1), gauss(nodes - 3), halves, (0.5 * (1 + at), weights)]


def panel_values(
    log_density: Callable[[Array], Array], axes: list[Axis], rule: tuple[np.ndarray, np.ndarray]
) -> tuple[Array, Array]:
    """The log of the density at all nodes, and their weights; shapes (panels, nodes, ...)."""
    points, weights = grid([panel_edges(axis) for axis in axes], rule)
    # by vmap, so that a parameter may have any shape beside the node
    values = jax.vmap(log_density)(points)
    return values.reshape(*weights.shape[:2], *values.shape[1:]), weights


def grid(edges: list[Array], rule: tuple[np.ndarray, np.ndarray]) -> tuple[Array, Array]:
    """The nodes in all panels between the edges on the first axis, shape (panels * nodes, ...) with one more axis of 2
    at the end for two observables, and their weights, shape (panels, nodes, ...)."""
    grids = []
    for ends in edges:
        at, weights = (jnp.asarray(a, ends.dtype).reshape(1, -1, *[1] * (ends.ndim - 1)) for a in rule)
        width = (ends[1:] - ends[:-1])[:, None]
        grids.append((ends[:-1, None] + width * at, width * weights))
    if len(edges) == 1:
        x, weights = grids[0]
        return x.reshape(-1, *x.shape[2:]), weights
    (x, wx), (y, wy) = grids
    x, y = jnp.broadcast_arrays(x[:, None, :, None], y[None, :, None, :])
    points = jnp.stack([x, y], axis=-1).reshape(-1, *x.shape[4:], 2)
    weights = wx[:, None, :, None] * wy[None, :, None, :]
    return points, weights.reshape(weights.shape[0] * weights.shape[1], -1, *weights.shape[4:])


def log_of_panels(values: Array, weights: Array) -> Array:
    weights = weights.reshape(*weights.shape[:2], *[1] * (values.ndim - weights.ndim), *weights.shape[2:])
    return log_weighted_sum(weights.reshape(-1, *weights.shape[2:]), values.reshape(-1, *values.shape[2:]))


def integral_with_error(log_density: Callable[[Array], Array], axes: list[Axis], nodes: int) -> tuple[Array, Array]:
    values, weights = panel_values(log_density, axes, gauss(nodes))
    log_total = log_of_panels(values, weights)

    def panels(values: Array, weights: Array) -> Array:
        """The parts of the panels, of the integral."""
        weights = weights.reshape(*weights.shape[:2], *[1] * (values.ndim - weights.ndim), *weights.shape[2:])
        return jnp.sum(weights * jnp.exp(values - jnp.where(jnp.isneginf(log_total), 0.0, log_total)), axis=1)

    parts = panels(values, weights)
    others = [panels(*panel_values(log_density, axes, rule)) for rule in _others(nodes)]
    difference = jnp.max(jnp.stack([jnp.abs(other - parts) for other in others]), axis=0)
    return log_total, 3 * lax.stop_gradient(jnp.sum(difference, axis=0)) + 4 * jnp.finfo(values.dtype).eps


def legendre_matrix(nodes: int) -> np.ndarray:
    """From values at the nodes to the Legendre coefficients of the polynomial through them."""
    at, weights = np.polynomial.legendre.leggauss(nodes)
    vander = np.polynomial.legendre.legvander(at, nodes - 1)
    return weights[:, None] * vander * (np.arange(nodes) + 0.5)


def invert_series(coefficients: Array, u: Array) -> Array:
    """Where the integral of a Legendre series over -1 < t < 1 comes to the part `u` of the whole; by bisection, as
    (1 + t) / 2."""
    n = coefficients.shape[-1]
    target = 2 * u * coefficients[..., 0]

    def integral(t: Array) -> Array:
        # of P_k it is (P_{k+1} - P_{k-1}) / (2k + 1) (Abramowitz and Stegun 8.5.3, 8.14)
        out, before, here = coefficients[..., 0] * (t + 1), jnp.ones_like(t), t
        for k in range(1, n):
            after = ((2 * k + 1) * t * here - k * before) / (k + 1)
            out = out + coefficients[..., k] * (after - before) / (2 * k + 1)
            before, here = here, after
        return out

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = ends
        middle = 0.5 * (a + b)
        left = integral(middle) < target
        return jnp.where(left, middle, a), jnp.where(left, b, middle)

    a, b = lax.fori_loop(0, 40, halve, (jnp.full_like(u, -1.0), jnp.full_like(u, 1.0)))
    return 0.25 * (a + b) + 0.5
