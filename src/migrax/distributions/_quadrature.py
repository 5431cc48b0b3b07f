"""Integrals of densities with a fixed number of nodes, in log space: differentiable to any order."""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log, log1p
from ._tails import log_add

# The spacing of the exp-sinh nodes in the rule's own variable. With 1/16 the integrals of exp(-t) and exp(-t²/2) are
# exact to 1e-15, and to 1e-12 if the scale is wrong by a factor of 3.
_STEP = 1 / 16


def log_sum(logs: Array) -> Array:
    """log of the sum of exp(logs) over the first axis, any of which may be -inf, with derivatives 0 for those."""
    largest = jax.lax.stop_gradient(jnp.max(logs, axis=0))
    nonzero = ~jnp.isneginf(largest)
    largest = jnp.where(nonzero, largest, 0.0)
    total = jnp.sum(jnp.exp(logs - largest), axis=0)
    return jnp.where(nonzero, largest + log(jnp.where(nonzero, total, 1.0)), -jnp.inf)


def log_panels(
    log_density: Callable[[Array], Array], low: ArrayLike, high: ArrayLike, panels: int = 1, nodes: int = 20
) -> Float[Array, "..."]:
    """The log of the integral of exp(log_density) over a finite interval, by Gauss-Legendre panels of equal width.

    `panels * nodes` evaluations. Exact to rounding where the density is analytic within about half a panel's width
    around each panel (with 20 nodes: within a third). For a singularity at an end use `log_decay`.

    **Arguments:**

    - `log_density`: a function of an array with a leading axis in front of those of the ends.
    - `low`, `high`: finite; they broadcast with each other, and must have been broadcast with the parameters that
        `log_density` holds. -inf, with derivatives 0, unless `high` is above `low`.
    """
    low, high = jnp.broadcast_arrays(*(jnp.asarray(x, jnp.result_type(float, low, high)) for x in (low, high)))
    nonempty = high > low
    a, width = jnp.where(nonempty, low, high), jnp.where(nonempty, high - low, 1.0)
    points, weights = _legendre(panels, nodes)
    t = a + width * column(points, width)
    logs = jnp.where(nonempty, log_density(jnp.where(nonempty, t, a)), 0.0) + column(np.log(weights), width)
    return jnp.where(nonempty, log(width) + log_sum(logs), -jnp.inf)


def log_decay(
    log_density: Callable[[Array], Array],
    length: ArrayLike,
    scale: ArrayLike,
    near: float = 1e-17,
    far: float = 1e24,
    batch: int | None = None,
) -> Float[Array, "..."]:
    """The log of the integral of exp(log_density(t)) for t from 0 to `length`, which may be infinite, of a density that
    decreases from 0 on; by exp-sinh nodes (Takahasi and Mori, Publ. RIMS 9 (1974) 721).

    133 evaluations with the default `near` and `far`. Exact to 1e-14 for densities that fall like exp(-t), exp(-t²) or
    a power of t, over any length; only powers close to 1/t that end after more than 1e5 scales are less accurate (1e-12
    after 1e6, 1e-9 after 1e9 for t^-1.1). `log_density` is a function of the distance from the start, so that a caller
    can avoid cancellation there.

    **Arguments:**

    - `log_density`: a function of an array with a leading axis in front of those of `length` and `scale`, which must
        have been broadcast with the parameters that it holds. It is called with distances up to `far * scale`.
    - `length`: -inf with derivatives 0 unless positive. The integral is differentiable in it.
    - `scale`: the distance over which the density changes, right within a factor of 3 for light tails, and of 1e3 for
        powers. Derivatives do not depend on it.
    - `near`, `far`: the density nearer than `near * scale` or farther than `far * scale` is ignored. The defaults suit
        a density that is finite at 0, and falls at least as 1/t² at infinity or ends before.
        An integrable singularity t^(p-1) at 0 needs `near=1e-16**(1/p)`, a tail t^(-1-p) needs `far=1e16**(1/p)`
        (within 1e-150 and 1e150; in float32 both are limited to its range).
    - `batch`: the number of nodes evaluated at once, for a density that needs much memory. `None`: all.
    """
    length, scale = jnp.broadcast_arrays(
        *(jnp.asarray(x, jnp.result_type(float, length, scale)) for x in (length, scale))
    )
    nonempty = length > 0
    inverse = 1 / jnp.where(nonempty, length, 1.0)
    scale = jax.lax.stop_gradient(jnp.minimum(2 * scale, jnp.where(nonempty, length, 1.0)))
    log_nodes, log_weights = _exp_sinh(near, far, bool(jnp.finfo(scale.dtype).eps > 1e-10))
    # u goes to infinity, and t = u / (1 + u / length) to the end
    u = scale * column(np.exp(log_nodes), scale)
    ratio = u * inverse
    values = log_density(u / (1 + ratio)) if batch is None else in_batches(log_density, u / (1 + ratio), batch)
    logs = jnp.where(nonempty, values, 0.0) - 2 * log1p(ratio) + column(log_weights, scale)
    return jnp.where(nonempty, log(scale) + log_sum(logs), -jnp.inf)


def log_tail(
    log_density: Callable[[Array], Array],
    x: ArrayLike,
    scale: ArrayLike,
    side: Literal["below", "above"],
    near: float = 1e-17,
    far: float = 1e24,
) -> Float[Array, "..."]:
    """The log of the integral of exp(log_density) from `x` to plus or minus infinity, if it decreases from `x` on.

    See `log_decay` for the number of evaluations, the accuracy, and the arguments. `side="above"`: to plus infinity.
    """
    if side not in ("below", "above"):
        raise ValueError(f'side must be "below" or "above", got {side!r}')
    x, scale = jnp.broadcast_arrays(*(jnp.asarray(v, jnp.result_type(float, x, scale)) for v in (x, scale)))
    sign = 1 if side == "above" else -1
    return log_decay(lambda t: log_density(x + sign * t), jnp.full_like(x, jnp.inf), scale, near, far)


def log_unimodal(
    log_density: Callable[[Array], Array],
    low: ArrayLike,
    high: ArrayLike,
    mode: ArrayLike,
    near: float = 1e-17,
    far: float = 1e24,
    batch: int | None = None,
) -> Float[Array, "..."]:
    """The log of the integral of exp(log_density) between `low` and `high`, which may be infinite, of a density that
    falls on both sides of `mode`.

    Each side of the mode is integrated from its highest point by `log_decay`, with a scale from the slope and the
    curvature of the log of the density there, so that nothing cancels, however narrow or remote the interval is. Two
    times the evaluations of `log_decay`.

    **Arguments:**

    - `log_density`: a function of an array whose last axes are those of the ends. It is smooth on each side of the
        mode, and may have a kink or a jump at it.
    - `low`, `high`, `mode`: broadcast with each other, and have been broadcast with the parameters that `log_density`
        holds. -inf, with derivatives 0, unless `high` is above `low`.
    - `near`, `far`, `batch`: see `log_decay`.
    """
    low, high, mode = jnp.broadcast_arrays(
        *(jnp.asarray(x, jnp.result_type(float, low, high, mode)) for x in (low, high, mode))
    )
    # The sum does not depend on where the two pieces join: the mode has no derivative, but an end that joins them does.
    mode = jax.lax.stop_gradient(mode)
    top_below, top_above = jnp.where(high <= mode, high, mode), jnp.where(low >= mode, low, mode)
    starts = jnp.stack([top_below, top_above])
    ends = jnp.stack([jnp.where(low < top_below, low, top_below), jnp.where(high > top_above, high, top_above)])
    rising, falling = log_piece(log_density, starts, ends, near, far, batch)  # one call, as it compiles faster
    return jnp.where(high > low, log_add(rising, falling), -jnp.inf)


def log_piece(
    log_density: Callable[[Array], Array],
    start: Array,
    end: Array,
    near: float = 1e-17,
    far: float = 1e24,
    batch: int | None = None,
) -> Float[Array, "..."]:
    """The log of the integral between the finite `start` and `end` (on either side of it, possibly infinite) of a
    density that decreases from `start` on: see `log_unimodal`. -inf where the two are equal."""
    finite = jnp.isfinite(end)
    upwards = end > start
    sign = jnp.where(upwards, 1.0, -1.0).astype(start.dtype)
    length = jnp.where(finite, jnp.abs(jnp.where(finite, end, start) - start), jnp.inf)
    slope, curvature = _slopes(lambda t: log_density(start + sign * t), jnp.zeros_like(start))
    steep = slope**2 + jnp.abs(curvature)
    scale = jnp.where(steep > 0, 1 / jnp.sqrt(jnp.where(steep > 0, steep, 1.0)), jnp.where(finite, length, 1.0))
    return log_decay(lambda t: log_density(start + sign * t), length, jax.lax.stop_gradient(scale), near, far, batch)


def pointwise(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Wrap an elementwise function so that its derivatives of any order are taken in forward mode. Reverse mode then
    stores one number per element, and not those at all nodes inside `fn`."""

    @jax.custom_jvp
    def wrapped(x: Array) -> Array:
        return fn(x)

    @wrapped.defjvp
    def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        derivative = pointwise(lambda x: jax.jvp(fn, (x,), (jnp.ones_like(x),))[1])
        return wrapped(*primals), derivative(*primals) * tangents[0]

    return wrapped


def in_batches(fn: Callable[[Array], Array], nodes: Array, size: int) -> Array:
    """fn(nodes), where both have a leading axis of nodes, evaluated `size` nodes at a time."""
    n = nodes.shape[0]
    batches = -(-n // size)
    padded = jnp.concatenate([nodes, jnp.broadcast_to(nodes[-1:], (batches * size - n, *nodes.shape[1:]))])
    out = jax.lax.map(jax.checkpoint(fn), padded.reshape(batches, size, *nodes.shape[1:]))
    return out.reshape(batches * size, *out.shape[2:])[:n]


def _slopes(fn: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """The first and the second derivative of a function, element by element."""
    one = jnp.ones_like(x)
    first = lambda x: jax.jvp(fn, (x,), (one,))[1]  # noqa: E731
    return jax.jvp(first, (x,), (one,))


def column(values: np.ndarray, like: Array) -> Array:
    """Constants on a leading axis, in front of those of `like`."""
    return jnp.asarray(values.reshape(-1, *(1 for _ in range(like.ndim))), like.dtype)


@functools.cache
def _legendre(panels: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights on (0, 1)."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    points = (np.arange(panels)[:, None] + 0.5 * (1 + x)) / panels
    return points.ravel(), np.tile(0.5 * w / panels, panels)


@functools.cache
def _exp_sinh(near: float, far: float, single: bool) -> tuple[np.ndarray, np.ndarray]:
    """The logs of the nodes t = exp(pi/2 sinh s) and of their weights."""
    if single:
        near, far = max(near, 1e-12), min(far, 1e12)
    low, high = (np.arcsinh(2 / np.pi * np.log(end)) for end in (near, far))
    s = _STEP * np.arange(np.floor(low / _STEP), np.ceil(high / _STEP) + 1)
    log_nodes = 0.5 * np.pi * np.sinh(s)
    return log_nodes, log_nodes + np.log(0.5 * np.pi * _STEP * np.cosh(s))
