"""Roots of falling curves that are known with an error: p-values by toys as functions of the tested value.

The toys at all values have the same keys, so that neighbouring p-values fluctuate together: their slope is known better
than their values, and the secant method works as for a smooth curve. For discrete observations the curves are
staircases, on which secants alone need not converge. Each secant is therefore projected to where a bisection can still
finish in the remaining steps (I. F. D. Oliveira and R. H. C. Takahashi, "An enhancement of the bisection method average
performance preserving minmax optimality", ACM Trans. Math. Softw. 47 (2020) 5).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .limit_status import LimitStatus

_DOUBLINGS = 12  # of the distance, before a curve counts as one that does not fall
_CLOSE = 0.3  # a height within this many standard errors of zero is a root
_NARROW = 1e-3  # width of a bracket that is narrow enough, relative to the largest of the first distances
_NEAR = 1.5  # a curve is treated as a line where its height is smaller
_JUMP = 5.0  # a fall by more standard errors within a narrow bracket is a step
_FEW_TOYS = 0.4  # error of the log of a p-value by about four toys
_SPARE = 2  # steps in excess of a bisection's: the n_0 of Oliveira and Takahashi


class Heights(NamedTuple):
    """The heights of all curves at one distance, log(p-value / level), and their standard errors."""

    value: Float[np.ndarray, " curves"]
    error: Float[np.ndarray, " curves"]


class Root(NamedTuple):
    distance: float
    error: float
    status: LimitStatus


class _CurvePoint(NamedTuple):
    distance: float
    height: float
    error: float

    @property
    def close(self) -> bool:
        """Whether the height is zero within its error. A point that was not evaluated has an infinite error."""
        return np.isfinite(self.error) and abs(self.height) < _CLOSE * self.error


class _Bracket(NamedTuple):
    """The last point above zero, and the next one below it."""

    low: _CurvePoint
    high: _CurvePoint

    @property
    def width(self) -> float:
        return self.high.distance - self.low.distance

    @property
    def chord(self) -> float:
        return (self.high.height - self.low.height) / self.width

    @property
    def has_step(self) -> bool:
        errors = [p.error for p in self if np.isfinite(p.error)]
        return self.low.height - self.high.height > _JUMP * math.hypot(*errors)

    @property
    def nearest(self) -> _CurvePoint:
        return min((p for p in self if np.isfinite(p.error)), key=lambda p: abs(p.height))


def find_roots(look: Callable[[float], Heights], first: list[float], end: float, top: float, curves: int) -> list[Root]:
    """Returns the crossing of zero of each curve, at a distance between 0 and `end`, which may be infinite.

    At a distance of 0 a curve that is not evaluated there has the height `top`. Heights that `look` returns are NaN
    where a curve is unknown. The error of a root combines that of the curve and the width of its last bracket.
    """
    seen = {distance: look(distance) for distance in sorted({min(d, end) for d in first})}
    reach = max(seen) or 1.0  # 1 for a parameter at its bound, which has no room
    return [_search(seen, look, j, end, reach, top) for j in range(curves)]


def roots_between(seen: dict[float, Heights], end: float, curves: int) -> list[Root]:
    """Returns the crossing of zero of each curve between given distances, where the log of the p-value is taken as a
    straight line. The error of a root is that of the curve, as the p-values of neighbours fluctuate together, and, of
    the line, its distance from the root of a parabola through a third point; without one, an eighth of the bracket, as
    of a parabola with its top at one end. At a distance of 0 a p-value is 1, whatever the curve: no root is sought
    between it and the first other value."""
    return [_between(seen, end, j) for j in range(curves)]


def _between(seen: dict[float, Heights], end: float, j: int) -> Root:
    points = _points(seen, j)
    unknown = [d for d, heights in seen.items() if not np.isfinite(heights.value[j])]
    low = max((p for p in points if p.height > 0), default=None)
    high = min((p for p in points if low is None or p.distance > low.distance), default=None)
    if low is None:
        if high is not None and high.distance == 0:
            return _no_root(LimitStatus.NONE_ALLOWED)
        return _no_root(LimitStatus.FIT_FAILED if unknown else LimitStatus.OUTSIDE_VALUES)
    if high is None:
        if low.distance >= end:
            return _no_root(LimitStatus.BEYOND_BOUND)
        return _no_root(
            LimitStatus.FIT_FAILED if any(d > low.distance for d in unknown) else LimitStatus.OUTSIDE_VALUES
        )
    if any(low.distance < d < high.distance for d in unknown):
        return _no_root(LimitStatus.FIT_FAILED)
    if low.distance == 0:
        return _no_root(LimitStatus.OUTSIDE_VALUES)
    slope = -_Bracket(low, high).chord
    share = low.height / (low.height - high.height)
    error = (1 - share) * low.error + share * high.error
    root = low.distance + low.height / slope
    return Root(root, math.hypot(error / slope, _bend(points, low, high, root)), LimitStatus.FOUND)


def _bend(points: list[_CurvePoint], low: _CurvePoint, high: _CurvePoint, root: float) -> float:
    """How far the root of a line between two points may be off, as the curve is none."""
    width = high.distance - low.distance
    others = [p for p in points if p not in (low, high) and p.distance > 0]
    if not others:
        return width / 8
    third = min(others, key=lambda p: abs(p.distance - root))
    chord = (high.height - low.height) / width
    curvature = ((third.height - low.height) / (third.distance - low.distance) - chord) / (
        third.distance - high.distance
    )
    # what a parabola adds to the line at its root, over the slope of the line
    return min(abs(curvature * (root - low.distance) * (root - high.distance) / chord), width / 2)


def _search(
    seen: dict[float, Heights], look: Callable[[float], Heights], j: int, end: float, reach: float, top: float
) -> Root:
    """Returns the root of one curve. Evaluations are shared with the other curves through `seen`."""

    def evaluate(distance: float) -> bool:
        if distance not in seen:
            seen[distance] = look(distance)
        return bool(np.isfinite(seen[distance].value[j]))

    for _ in range(_DOUBLINGS):
        low, high = _ends(_points(seen, j), top, 0.0 in seen)
        if high is not None or low.distance >= end:
            break
        # the root is searched below the distances at which the curve is unknown (the data are impossible there)
        unknown = min(
            (d for d, h in seen.items() if d > low.distance and not np.isfinite(h.value[j])), default=math.inf
        )
        next_distance = min(2 * max(low.distance, 0.1 * reach), end)
        evaluate(next_distance if next_distance < unknown else 0.5 * (max(low.distance, 0.0) + unknown))
    low, high = _ends(_points(seen, j), top, 0.0 in seen)
    if high is None:
        failed = any(d > low.distance and not np.isfinite(h.value[j]) for d, h in seen.items())
        failure = LimitStatus.FIT_FAILED if failed else LimitStatus.NO_EFFECT
        return _no_root(LimitStatus.BEYOND_BOUND if low.distance >= end else failure)
    bracket, tolerance = _Bracket(low, high), _NARROW * reach
    n_left = max(math.ceil(math.log2(bracket.width / tolerance)), 0) + _SPARE
    while not _is_converged(bracket, _points(seen, j), tolerance):
        n_left -= 1
        if not evaluate(_next(bracket, tolerance, n_left)):
            return _no_root(LimitStatus.FIT_FAILED)
        low, high = _ends(_points(seen, j), top, 0.0 in seen)
        assert high is not None
        bracket = _Bracket(low, high)
    return _root(_points(seen, j), bracket, tolerance, top)


def _no_root(status: LimitStatus) -> Root:
    return Root(np.nan, np.nan, status)


def _points(seen: dict[float, Heights], j: int) -> list[_CurvePoint]:
    """Returns the known points of one curve, by distance."""
    every = (_CurvePoint(d, float(h.value[j]), float(h.error[j])) for d, h in sorted(seen.items()))
    return [p for p in every if np.isfinite(p.height)]


def _ends(points: list[_CurvePoint], top: float, zero_seen: bool) -> tuple[_CurvePoint, _CurvePoint | None]:
    start = _CurvePoint(-1.0 if zero_seen else 0.0, top, np.inf)
    low = max((p for p in points if p.height > 0), default=start)
    return low, min((p for p in points if p.distance > low.distance), default=None)


def _next(bracket: _Bracket, tolerance: float, n_left: int) -> float:
    """Returns the distance to evaluate next: the secant's, projected to where `n_left` bisections still suffice."""
    middle = 0.5 * (bracket.low.distance + bracket.high.distance)
    secant = bracket.low.distance - bracket.low.height / bracket.chord
    half_room = max(tolerance * 2.0**n_left - 0.5 * bracket.width, 0.0)
    return middle + min(max(secant - middle, -half_room), half_room)


def _is_converged(bracket: _Bracket, points: list[_CurvePoint], tolerance: float) -> bool:
    if bracket.width <= tolerance or bracket.high.distance == 0:
        return True
    has_root = any(p.close for p in bracket)
    return has_root and np.isfinite(_line_error(bracket.nearest, points))


def _root(points: list[_CurvePoint], bracket: _Bracket, tolerance: float, top: float) -> Root:
    low, high = bracket
    if high.distance <= tolerance:
        return _no_root(LimitStatus.NONE_ALLOWED)
    nearest = bracket.nearest
    error = _line_error(nearest, points)
    if (bracket.has_step and bracket.width <= tolerance) or not np.isfinite(error):
        root, error = low.distance - low.height / bracket.chord, max(bracket.width, _flat_half_width(points))
        return Root(root, max(error, _mean_error(low, top)), LimitStatus.FOUND)
    root = nearest.distance - nearest.height / _slope(points)
    return Root(min(max(root, low.distance), high.distance), max(error, _flat_half_width(points)), LimitStatus.FOUND)


def _falling(points: list[_CurvePoint]) -> list[_CurvePoint]:
    """Returns the points up to the first at the least height: where no toy is left, the curve goes on at that."""
    least = min((p.height for p in points), default=0.0)
    end = min((p.distance for p in points if p.height == least), default=0.0)
    return [p for p in points if p.distance <= end]


def _slope(points: list[_CurvePoint]) -> float:
    """Returns the slope of a line through the points near the root, because those of a narrow bracket alone do not
    determine it. Zero if there is no line."""
    near = [p for p in _falling(points) if abs(p.height) < _NEAR]
    if len(near) < 2:
        return 0.0
    distance, height, error = (np.array(x) for x in zip(*near, strict=True))
    weights = 1 / np.maximum(error, 1e-9) ** 2
    centred = distance - np.average(distance, weights=weights)
    return float(np.sum(weights * centred * height) / np.sum(weights * centred**2))


def _line_error(nearest: _CurvePoint, points: list[_CurvePoint]) -> float:
    """Returns the error of the root of a line from that of the curve; infinite if the points near the root do not lie
    on a falling line."""
    slope = _slope(points)
    span = points[-1].distance - points[0].distance
    return nearest.error / -slope if -slope * span > nearest.error else np.inf


def _mean_error(low: _CurvePoint, top: float) -> float:
    """Returns the error of the distance at the mean slope from a distance of 0 on, for a step from one of the last toys
    to the next, where the curve has no other slope. It is 0 at other steps, which are those of discrete observations.
    """
    fall = top - low.height
    return low.error * low.distance / fall if fall > 0 and _FEW_TOYS < low.error < np.inf else 0.0


def _flat_half_width(points: list[_CurvePoint]) -> float:
    """Returns half the range over which the curve is zero within its error."""
    flat = [p.distance for p in _falling(points) if abs(p.height) < p.error]
    return 0.5 * (max(flat) - min(flat)) if flat else 0.0
