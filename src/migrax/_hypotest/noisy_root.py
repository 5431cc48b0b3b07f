"""Roots of curves that fall and are known with an error: p-values by toys against the value tested.

The toys at all values have the same keys, so that neighbouring p-values fluctuate together: their slope is known better
than they are, and a secant is what it is for a smooth curve. Where the observations are discrete the curves are stairs,
and secants alone would not end: I. F. D. Oliveira and R. H. C. Takahashi, "An enhancement of the bisection method
average performance preserving minmax optimality", ACM Trans. Math. Softw. 47 (2020) 5: a secant that is projected to
where a bisection can still end in the steps that are left.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .limit_status import LimitStatus

_DOUBLINGS = 12  # of the distance, until a curve is said not to fall
_CLOSE = 0.3  # standard errors of a curve, within which its root has been found
_NARROW = 1e-3  # width of a bracket that is narrow enough, relative to the largest of the first distances
_NEAR = 1.5  # the heights between which a curve is taken for a line
_JUMP = 5.0  # standard errors: what falls by more within a narrow bracket is a step
_SPARE = 2  # steps more than a bisection's: the n_0 of Oliveira and Takahashi


class Heights(NamedTuple):
    """Curves at one distance, and their standard errors: logs of p-values over the level that is looked for."""

    value: Float[np.ndarray, " curves"]
    error: Float[np.ndarray, " curves"]


class Root(NamedTuple):
    distance: float
    error: float
    status: LimitStatus


class _Point(NamedTuple):
    at: float
    height: float
    error: float

    @property
    def close(self) -> bool:
        """Whether the root is here, as far as can be told. A point that has not been looked at has no error."""
        return np.isfinite(self.error) and abs(self.height) < _CLOSE * self.error


class _Bracket(NamedTuple):
    """The last point above zero, and the next one below it."""

    low: _Point
    high: _Point

    @property
    def width(self) -> float:
        return self.high.at - self.low.at

    @property
    def chord(self) -> float:
        return (self.high.height - self.low.height) / self.width

    @property
    def jumps(self) -> bool:
        errors = [p.error for p in self if np.isfinite(p.error)]
        return self.low.height - self.high.height > _JUMP * math.hypot(*errors)

    @property
    def nearest(self) -> _Point:
        return min((p for p in self if np.isfinite(p.error)), key=lambda p: abs(p.height))


def find_roots(look: Callable[[float], Heights], first: list[float], end: float, top: float, curves: int) -> list[Root]:
    """Where each of the curves crosses zero, at a distance between 0 and `end`, which may be infinite.

    A curve that has not been looked at where the distance is 0 is `top` there. The curves that `look` gives are NaN
    where they are not known. A root's error has what the curve's own does to it, and the width of what is left of its
    bracket.
    """
    seen = {distance: look(distance) for distance in sorted({min(d, end) for d in first})}
    reach = max(seen) or 1.0  # of a parameter that has no room at all
    return [_search(seen, look, j, end, reach, top) for j in range(curves)]


def _search(
    seen: dict[float, Heights], look: Callable[[float], Heights], j: int, end: float, reach: float, top: float
) -> Root:
    """The root of one curve. What is looked at is seen by the others too."""

    def seen_at(distance: float) -> bool:
        if distance not in seen:
            seen[distance] = look(distance)
        return bool(np.isfinite(seen[distance].value[j]))

    for _ in range(_DOUBLINGS):
        low, high = _ends(_points(seen, j), top, 0.0 in seen)
        if high is not None or low.at >= end:
            break
        # where a curve is not known (the data are impossible there) its root is looked for before
        unknown = min((d for d, h in seen.items() if d > low.at and not np.isfinite(h.value[j])), default=math.inf)
        further = min(2 * max(low.at, 0.1 * reach), end)
        seen_at(further if further < unknown else 0.5 * (max(low.at, 0.0) + unknown))
    low, high = _ends(_points(seen, j), top, 0.0 in seen)
    if high is None:
        failed = any(d > low.at and not np.isfinite(h.value[j]) for d, h in seen.items())
        never = LimitStatus.FIT_FAILED if failed else LimitStatus.NO_EFFECT
        return _nothing(LimitStatus.BEYOND_BOUND if low.at >= end else never)
    bracket, narrow = _Bracket(low, high), _NARROW * reach
    left = max(math.ceil(math.log2(bracket.width / narrow)), 0) + _SPARE
    while not _is_enough(bracket, _points(seen, j), narrow):
        left -= 1
        if not seen_at(_next(bracket, narrow, left)):
            return _nothing(LimitStatus.FIT_FAILED)
        low, high = _ends(_points(seen, j), top, 0.0 in seen)
        assert high is not None
        bracket = _Bracket(low, high)
    return _root(_points(seen, j), bracket, narrow)


def _nothing(status: LimitStatus) -> Root:
    return Root(np.nan, np.nan, status)


def _points(seen: dict[float, Heights], j: int) -> list[_Point]:
    """Those of one curve that are known, in their order."""
    every = (_Point(d, float(h.value[j]), float(h.error[j])) for d, h in sorted(seen.items()))
    return [p for p in every if np.isfinite(p.height)]


def _ends(points: list[_Point], top: float, zero_seen: bool) -> tuple[_Point, _Point | None]:
    start = _Point(-1.0 if zero_seen else 0.0, top, np.inf)
    low = max((p for p in points if p.height > 0), default=start)
    return low, min((p for p in points if p.at > low.at), default=None)


def _next(bracket: _Bracket, narrow: float, left: int) -> float:
    """The distance to look at next: the secant's, or as near to it as leaves enough for `left` bisections."""
    middle = 0.5 * (bracket.low.at + bracket.high.at)
    secant = bracket.low.at - bracket.low.height / bracket.chord
    room = max(narrow * 2.0**left - 0.5 * bracket.width, 0.0)
    return middle + min(max(secant - middle, -room), room)


def _is_enough(bracket: _Bracket, points: list[_Point], narrow: float) -> bool:
    if bracket.width <= narrow or bracket.high.at == 0:
        return True
    close = any(p.close for p in bracket)
    return close and np.isfinite(_line_error(bracket.nearest, points))


def _root(points: list[_Point], bracket: _Bracket, narrow: float) -> Root:
    low, high = bracket
    if high.at <= narrow:
        return _nothing(LimitStatus.NONE_ALLOWED)
    nearest = bracket.nearest
    error = _line_error(nearest, points)
    if (bracket.jumps and bracket.width <= narrow) or not np.isfinite(error):
        return Root(low.at - low.height / bracket.chord, max(bracket.width, _level(points)), LimitStatus.FOUND)
    root = nearest.at - nearest.height / _slope(points)
    return Root(min(max(root, low.at), high.at), max(error, _level(points)), LimitStatus.FOUND)


def _slope(points: list[_Point]) -> float:
    """Of a line through the points near the root: those of a narrow bracket alone say nothing of it. Zero where there
    is none."""
    near = [p for p in points if abs(p.height) < _NEAR]
    if len(near) < 2:
        return 0.0
    at, height, error = (np.array(x) for x in zip(*near, strict=True))
    weight = 1 / np.maximum(error, 1e-9) ** 2
    off = at - np.average(at, weights=weight)
    return float(np.sum(weight * off * height) / np.sum(weight * off**2))


def _line_error(nearest: _Point, points: list[_Point]) -> float:
    """What a curve's error does to the root of a line; infinite where the points near the root are on no line that
    falls."""
    slope = _slope(points)
    span = points[-1].at - points[0].at
    return nearest.error / -slope if -slope * span > nearest.error else np.inf


def _level(points: list[_Point]) -> float:
    """How far the curve is zero within its error."""
    level = [p.at for p in points if abs(p.height) < p.error]
    return 0.5 * (max(level) - min(level)) if level else 0.0
