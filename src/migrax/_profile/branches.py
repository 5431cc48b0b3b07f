"""The lowest branch of a profile: its points are refitted from the minima of their neighbours."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._fit.status import Status

_LOWER = 1e-6  # in units of UP: a smaller decrease, or one of a few roundings, is ignored


class Points(NamedTuple):
    """The points of a profile or a scan, flattened."""

    value: Float[Array, " m"]  # the NLL
    rise: Float[Array, " m"]
    x: Float[Array, "m n"]
    status: Int[Array, " m"]
    lower: Bool[Array, " m"]  # whether the NLL is lower than at the minimum


def follow(run: Callable[[Array, np.ndarray], Points], points: Points, shape: tuple[int, ...]) -> Points:
    """The points, each at the lowest conditional minimum that can be reached from those of its neighbours.

    A conditional fit that starts near the global minimum stays on its branch, even where another one is lower. Each
    point is therefore refitted from its neighbours, one direction after the other, until no point becomes lower. A
    profile with a single branch is returned as it is: all its points lie above the minimum and on a smooth curve.

    **Arguments:**

    - `run`: returns the points for given starts (shape `(m, n)`, NaN where none is to be fitted) and a mask of the
        points to fit.
    - `shape`: the shape of the grid before flattening.
    """
    if not (np.asarray(points.lower).any() or _jumps(points, shape)):
        return points
    directions = [(axis, step) for axis, size in enumerate(shape) if size > 1 for step in (1, -1)]
    everywhere = np.ones(len(points.value), bool)
    updated = {direction: everywhere for direction in directions}  # the points that have changed since then
    for sweep in range(2 * len(directions) * max(shape)):
        direction = directions[sweep % len(directions)]
        source = _neighbours(shape, *direction)
        to_refit = (source >= 0) & updated[direction][source] & (np.asarray(points.status)[source] == int(Status.VALID))
        updated[direction] = np.zeros_like(everywhere)
        if not np.any(to_refit):
            if not any(np.any(mask) for mask in updated.values()):
                break
            continue
        starts = jnp.where(to_refit[:, None], points.x[source], jnp.nan)
        new = run(starts, to_refit)
        new_rise, old_rise = np.asarray(new.rise), np.asarray(points.rise)
        threshold = _LOWER + 16 * np.finfo(new_rise.dtype).eps * np.abs(old_rise)
        better = to_refit & np.isfinite(new_rise) & ~(new_rise >= old_rise - threshold)
        if np.any(better):
            points = Points(*(_replace_where(better, a, b) for a, b in zip(new, points, strict=True)))
            updated = {direction: mask | better for direction, mask in updated.items()}
    return points


def _replace_where(replace: np.ndarray, new: Array, old: Array) -> Array:
    return jnp.where(replace.reshape(-1, *(1,) * (new.ndim - 1)), new, old)


def _neighbours(shape: tuple[int, ...], axis: int, step: int) -> np.ndarray:
    """The index of each point's neighbour before it along an axis (after it, for a step of -1); -1 if it has none."""
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    neighbours = np.roll(numbers, step, axis)
    end = [slice(None)] * len(shape)
    end[axis] = slice(0, 1) if step == 1 else slice(-1, None)
    neighbours[tuple(end)] = -1
    return neighbours.ravel()


def _jumps(points: Points, shape: tuple[int, ...]) -> bool:
    """Whether a parameter jumps: it changes between two points by more than three times the change next to it."""
    x = np.asarray(points.x).reshape(*shape, -1)
    finite, axes = np.isfinite(x), tuple(range(len(shape)))
    size = np.max(x, axes, where=finite, initial=-np.inf) - np.min(x, axes, where=finite, initial=np.inf)
    for axis, length in enumerate(shape):
        if length < 2:
            continue
        steps = np.abs(np.diff(x, axis=axis))
        if length < 4:
            return True
        before, here, after = (np.take(steps, range(i, length - 3 + i), axis) for i in range(3))
        ends = np.take(steps, [0, -1], axis), np.take(steps, [1, -2], axis)
        tiny = 1e-6 * np.maximum(size, 0.0)
        uneven = (here > 3 * np.maximum(before, after) + tiny).any() or (ends[0] > 3 * ends[1] + tiny).any()
        if uneven:
            return True
    return False
