"""The lowest of the branches of a profile: its points are fitted again from where their neighbours are."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._fit.status import Status

_LOWER = 1e-6  # in units of UP: what counts as lower, beside a few roundings


class Points(NamedTuple):
    """The points of a profile or a scan, one after the other."""

    value: Float[Array, " m"]  # the NLL
    rise: Float[Array, " m"]
    x: Float[Array, "m n"]
    status: Int[Array, " m"]
    lower: Bool[Array, " m"]  # than at the minimum


def follow(run: Callable[[Array, np.ndarray], Points], found: Points, shape: tuple[int, ...]) -> Points:
    """The points, each at the lowest of the minima that can be reached from those of its neighbours.

    A fit that starts near the minimum of the whole stays on its branch, also where another one is lower. So each point
    is fitted from its neighbour on one side after the other, as long as some get lower. Nothing is done for a profile
    of one branch: where all points lie above the minimum and one after the other on a smooth way.

    **Arguments:**

    - `run`: the points from given starts (shape `(m, n)`, NaN: none is wanted), and a mask of those that are wanted.
    - `shape`: of the grid, whose points were put one after the other.
    """
    if not (np.any(found.lower) or _jumps(found, shape)):
        return found
    ways = [(axis, step) for axis, size in enumerate(shape) if size > 1 for step in (1, -1)]
    changed = np.ones(len(found.value), bool)
    fresh = {way: changed for way in ways}  # whose neighbour has a new place since that way was last gone
    for turn in range(2 * len(ways) * max(shape)):
        way = ways[turn % len(ways)]
        source = _neighbours(shape, *way)
        wanted = (source >= 0) & fresh[way][source] & (np.asarray(found.status)[source] == int(Status.VALID))
        fresh[way] = np.zeros_like(changed)
        if not np.any(wanted):
            if not any(np.any(mask) for mask in fresh.values()):
                break
            continue
        starts = jnp.where(wanted[:, None], found.x[source], jnp.nan)
        new = run(starts, wanted)
        now, before = np.asarray(new.rise), np.asarray(found.rise)
        least = _LOWER + 16 * np.finfo(now.dtype).eps * np.abs(before)
        better = wanted & np.isfinite(now) & ~(now >= before - least)
        if np.any(better):
            found = Points(*(_take(better, a, b) for a, b in zip(new, found, strict=True)))
            fresh = {way: mask | better for way, mask in fresh.items()}
    return found


def _take(which: np.ndarray, new: Array, old: Array) -> Array:
    return jnp.where(which.reshape(-1, *(1,) * (new.ndim - 1)), new, old)


def _neighbours(shape: tuple[int, ...], axis: int, step: int) -> np.ndarray:
    """The number of each point's neighbour before it along an axis (after it, for a step of -1); -1 if it has none."""
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    moved = np.roll(numbers, step, axis)
    end = [slice(None)] * len(shape)
    end[axis] = slice(0, 1) if step == 1 else slice(-1, None)
    moved[tuple(end)] = -1
    return moved.ravel()


def _jumps(found: Points, shape: tuple[int, ...]) -> bool:
    """Whether the way from point to point is uneven: a step of a parameter more than three times those beside it."""
    x = np.asarray(found.x).reshape(*shape, -1)
    there, points = np.isfinite(x), tuple(range(len(shape)))
    size = np.max(x, points, where=there, initial=-np.inf) - np.min(x, points, where=there, initial=np.inf)
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
