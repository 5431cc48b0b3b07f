"""Contours that a ray may meet more than once (bananas): walked along, one point after another.

A step goes along the last one, turned as the last one was turned, to a point slightly within the region, and from there
outwards to the contour. Steps are cut where the contour turns fast. Last, points spread evenly along the walk are
brought onto the contour, all in one call. Runs on the host.
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
_TURN = 0.25  # how far a step's direction may be off the one foreseen, in radians
_SHARP = 0.8  # the same for a step much shorter than the last one, which foresees little
_STRAIGHT = 0.08  # a step so little off is followed by a longer one
_INWARDS = 0.1  # of a step, where the search starts


class _Plane(NamedTuple):
    """The two parameters in units of the contour's half widths, and the search in their plane."""

    search: Callable[[np.ndarray, np.ndarray, bool], tuple[np.ndarray, np.ndarray]]
    which: tuple[int, ...]
    unit: np.ndarray

    def flat(self, x: np.ndarray) -> np.ndarray:
        return x[..., list(self.which)] / self.unit

    def lift(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The full point `x` with its two parameters at `u`."""
        x = x.copy()
        x[..., list(self.which)] = u * self.unit
        return x


def walk(fitted: Fitted, index: tuple[int, ...], extremes: Extremes, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The points of one contour, shape `(size, n_free)`, and their statuses; all failed where it cannot be walked."""
    corners = np.asarray(extremes.x)
    rise = float(extremes.rise)
    widths = np.ptp(corners[:, list(index)], axis=0)

    def search(base: np.ndarray, direction: np.ndarray, robust: bool) -> tuple[np.ndarray, np.ndarray]:
        found = look(fitted, index, Lanes(base, direction, np.full(len(base), rise)), robust)  # pyright: ignore[reportArgumentType]
        return np.asarray(found.x), np.asarray(found.status)

    plane = _Plane(search, index, 0.5 * widths)
    points = _walk(plane, corners[0])
    places = None if points is None else _places(plane, points, corners, size)
    if points is None or places is None:
        return np.full((size, corners.shape[1]), np.nan), np.full(size, int(Side.FAILED))
    x, status = _settle(plane, points, places, size)
    x[places[0]], status[places[0]] = corners, np.asarray(extremes.status)
    return x, status


def _walk(plane: _Plane, start: np.ndarray) -> np.ndarray | None:
    """Points along the contour, counterclockwise from its rightmost one; `None` if it does not close."""
    points, home = [start], plane.flat(start)
    angle, rate, turned, step = 0.5 * np.pi, 0.0, 0.0, _FIRST
    last = _FIRST
    for _ in range(_MAX_STEPS):
        here = plane.flat(points[-1])
        if turned > np.pi and np.linalg.norm(home - here) <= 1.2 * step:
            return np.stack(points) if abs(turned - 2 * np.pi) < 1.0 else None
        foreseen = angle + rate * 0.5 * (step + last)
        way = np.array([np.cos(foreseen), np.sin(foreseen)])
        inwards = _INWARDS * step * np.array([-way[1], way[0]])
        goal = here + step * way
        before = points[-1] + (points[-1] - points[-2]) * step / last if len(points) > 1 else points[-1]
        x, status = plane.search(plane.lift(before, goal + inwards)[None], (-inwards * plane.unit)[None], False)
        gone = plane.flat(x[0]) - here
        length = float(np.linalg.norm(gone))
        off = _angle(way, gone)
        allowed = _TURN if step > 0.1 * last else _SHARP
        if status[0] != int(Side.FOUND) or abs(off) > allowed or not 0.5 * step < length < 2 * step:
            step *= 0.5
            if step < _SHORTEST:
                return None
            continue
        turn = foreseen + off - angle
        rate = turn / (0.5 * (length + last))
        angle, turned, last = angle + turn, turned + turn, length
        points.append(x[0])
        if abs(off) < _STRAIGHT:
            step = min(1.5 * step, _LONGEST)
    return None


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.arctan2(a[0] * b[1] - a[1] * b[0], a @ b))


def _places(
    plane: _Plane, walk: np.ndarray, extremes: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Which of the points the extremes are to be, where these lie along the walk, and the lengths of all of it; `None`
    if it does not pass them one after the other."""
    u = plane.flat(walk)
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.roll(u, -1, axis=0) - u, axis=1))])
    distance = np.linalg.norm(u[None] - plane.flat(extremes)[:, None], axis=2)
    lies = at[np.argmin(distance, axis=1)]
    lies[0] = 0.0
    if np.any(np.diff(lies) <= 0) or np.max(np.min(distance, axis=1)) > _LONGEST:
        return None
    places = np.round(size * lies / at[-1]).astype(int)
    for i in (1, 2, 3):
        places[i] = max(places[i], places[i - 1] + 1)
    for i in (3, 2, 1):
        places[i] = min(places[i], size - 4 + i)
    return places, lies, at


def _settle(
    plane: _Plane, walk: np.ndarray, places: tuple[np.ndarray, np.ndarray, np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """As many points on the contour, evenly spread along the walk between the extremes."""
    which, lies, at = places
    u = plane.flat(walk)
    wanted = np.interp(np.arange(size), [*which, size], [*lies, at[-1]])
    closed = np.concatenate([walk, walk[:1]])
    x = np.stack([np.interp(wanted, at, column) for column in closed.T], axis=1)
    segment = np.minimum(np.searchsorted(at, wanted, side="right"), len(u)) - 1
    lengths = np.diff(at)[segment, None]
    along = (np.roll(u, -1, axis=0) - u)[segment] / lengths
    inwards = _INWARDS * lengths * np.stack([-along[:, 1], along[:, 0]], axis=1)
    x, status = plane.search(plane.lift(x, plane.flat(x) + inwards), -inwards * plane.unit, True)
    # a contour that ends at a bound would have to be walked along it
    return x.copy(), np.where(status == int(Side.AT_LIMIT), int(Side.FAILED), status)
