"""Contours that a ray may meet more than once (bananas), by walking along them point by point.

Each step extrapolates the direction and the turn of the last one to a point slightly within the region, and searches
from there outwards to the contour. Steps are shortened where the contour turns fast. Finally, points spread evenly
along the walk are moved onto the contour, all in one call. Runs on the host.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .contour_rays import Extremes
from .crossing import Side
from .crossing_lines import Lanes, look
from .fitted import Fitted

# Lengths are in half widths of the contour.
_FIRST, _LONGEST, _SHORTEST = 0.01, 0.06, 1e-6
_MAX_STEPS = 4000
_TURN = 0.25  # the largest deviation of a step from the predicted direction, in radians
_SHARP = 0.8  # the same for a step much shorter than the last one, which predicts its direction badly
_STRAIGHT = 0.08  # after a step with a smaller deviation the next one is longer
_INWARDS = 0.1  # how far inside the contour the search starts, in units of the step


class _Plane(NamedTuple):
    """The plane of the two parameters, in units of the contour's half widths, and the search in it."""

    search: Callable[[np.ndarray, np.ndarray, bool], tuple[np.ndarray, np.ndarray]]
    which: tuple[int, ...]
    unit: np.ndarray

    def flat(self, x: np.ndarray) -> np.ndarray:
        return x[..., list(self.which)] / self.unit

    def lift(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The point `x` of all parameters with the two parameters at `u`."""
        x = x.copy()
        x[..., list(self.which)] = u * self.unit
        return x


def walk(fitted: Fitted, index: tuple[int, ...], extremes: Extremes, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The points of one contour, shape `(size, n_free)`, and their statuses; all failed if the walk fails."""
    corners = np.asarray(extremes.x)
    rise = float(extremes.rise)
    widths = np.ptp(corners[:, list(index)], axis=0)

    def search(base: np.ndarray, direction: np.ndarray, robust: bool) -> tuple[np.ndarray, np.ndarray]:
        crossings = look(fitted, index, Lanes(base, direction, np.full(len(base), rise)), robust)  # pyright: ignore[reportArgumentType]
        return np.asarray(crossings.x), np.asarray(crossings.status)

    plane = _Plane(search, index, 0.5 * widths)
    points = _follow(plane, corners[0])
    places = None if points is None else _place_extremes(plane, points, corners, size)
    if points is None or places is None:
        return np.full((size, corners.shape[1]), np.nan), np.full(size, int(Side.FAILED))
    x, status = _points_on_contour(plane, points, places, size)
    x[places[0]], status[places[0]] = corners, np.asarray(extremes.status)
    return x, status


def _follow(plane: _Plane, start: np.ndarray) -> np.ndarray | None:
    """Points along the contour, counterclockwise from the rightmost one; `None` if it does not close."""
    points, first = [start], plane.flat(start)
    angle, rate, turned, step = 0.5 * np.pi, 0.0, 0.0, _FIRST
    last_length = _FIRST
    for _ in range(_MAX_STEPS):
        here = plane.flat(points[-1])
        if turned > np.pi and np.linalg.norm(first - here) <= 1.2 * step:
            return np.stack(points) if abs(turned - 2 * np.pi) < 1.0 else None
        predicted = angle + rate * 0.5 * (step + last_length)
        direction = np.array([np.cos(predicted), np.sin(predicted)])
        inwards = _INWARDS * step * np.array([-direction[1], direction[0]])
        target = here + step * direction
        extrapolated = points[-1] + (points[-1] - points[-2]) * step / last_length if len(points) > 1 else points[-1]
        x, status = plane.search(plane.lift(extrapolated, target + inwards)[None], (-inwards * plane.unit)[None], False)
        step_taken = plane.flat(x[0]) - here
        length = float(np.linalg.norm(step_taken))
        deviation = _angle(direction, step_taken)
        max_deviation = _TURN if step > 0.1 * last_length else _SHARP
        if status[0] != int(Side.FOUND) or abs(deviation) > max_deviation or not 0.5 * step < length < 2 * step:
            step *= 0.5
            if step < _SHORTEST:
                return None
            continue
        turn = predicted + deviation - angle
        rate = turn / (0.5 * (length + last_length))
        angle, turned, last_length = angle + turn, turned + turn, length
        points.append(x[0])
        if abs(deviation) < _STRAIGHT:
            step = min(1.5 * step, _LONGEST)
    return None


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.arctan2(a[0] * b[1] - a[1] * b[0], a @ b))


def _place_extremes(
    plane: _Plane, walk: np.ndarray, extremes: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The indices of the extremes among the points of the contour, their positions along the walk, and the length of
    the walk up to each of its points; `None` if it does not pass the extremes in order."""
    u = plane.flat(walk)
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.roll(u, -1, axis=0) - u, axis=1))])
    distance = np.linalg.norm(u[None] - plane.flat(extremes)[:, None], axis=2)
    positions = lengths[np.argmin(distance, axis=1)]
    positions[0] = 0.0
    if np.any(np.diff(positions) <= 0) or np.max(np.min(distance, axis=1)) > _LONGEST:
        return None
    indices = np.round(size * positions / lengths[-1]).astype(int)
    for i in (1, 2, 3):
        indices[i] = max(indices[i], indices[i - 1] + 1)
    for i in (3, 2, 1):
        indices[i] = min(indices[i], size - 4 + i)
    return indices, positions, lengths


def _points_on_contour(
    plane: _Plane, walk: np.ndarray, places: tuple[np.ndarray, np.ndarray, np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """`size` points on the contour, evenly spread along the walk between the extremes."""
    indices, positions, lengths_along = places
    u = plane.flat(walk)
    target_lengths = np.interp(np.arange(size), [*indices, size], [*positions, lengths_along[-1]])
    closed = np.concatenate([walk, walk[:1]])
    x = np.stack([np.interp(target_lengths, lengths_along, column) for column in closed.T], axis=1)
    segment = np.minimum(np.searchsorted(lengths_along, target_lengths, side="right"), len(u)) - 1
    lengths = np.diff(lengths_along)[segment, None]
    tangents = (np.roll(u, -1, axis=0) - u)[segment] / lengths
    inwards = _INWARDS * lengths * np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)
    x, status = plane.search(plane.lift(x, plane.flat(x) + inwards), -inwards * plane.unit, True)
    # A contour that ends at a bound would have to be followed along the bound.
    return x.copy(), np.where(status == int(Side.AT_LIMIT), int(Side.FAILED), status)
