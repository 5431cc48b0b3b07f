"""Roots of curves that fall and are known with an error: p-values by toys against the value tested.

The toys at all values have the same keys, so that neighbouring p-values fluctuate together: their slope is known better
than they are, and a secant is what it is for a smooth curve.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .limit_status import LimitStatus

_MOST = 12  # values that are looked at for one curve, beside those of the others
_CLOSE = 0.3  # standard errors of a curve, within which its root has been found
_NARROW = 1e-4  # of a bracket, relative to the largest of the first distances
_NEAR = 1.5  # the heights between which a curve is taken for a line


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


def find_roots(look: Callable[[float], Heights], first: list[float], end: float, top: float, curves: int) -> list[Root]:
    """Where each of the curves crosses zero, at a distance between 0 and `end`, which may be infinite.

    A curve that has not been looked at where the distance is 0 is `top` there. The curves that `look` gives are NaN
    where they are not known. Each root is on the chord between the last value above zero and the next one below; more
    are looked at until one of the two is zero within its error.
    """
    seen = {distance: look(distance) for distance in sorted({min(d, end) for d in first})}
    reach = max(seen)
    for j in range(curves):
        for _ in range(_MOST):
            following = _next(*_bracket(seen, j, top), end, reach)
            if following is None or following in seen:
                break
            seen[following] = look(following)
    return [_root(_points(seen, j), *_bracket(seen, j, top), end, reach) for j in range(curves)]


def _points(seen: dict[float, Heights], j: int) -> list[_Point]:
    """Those of one curve that are known, in their order."""
    every = (_Point(d, float(h.value[j]), float(h.error[j])) for d, h in sorted(seen.items()))
    return [p for p in every if np.isfinite(p.height)]


def _bracket(seen: dict[float, Heights], j: int, top: float) -> tuple[_Point, _Point | None]:
    """The last point above zero, and the next one below it if there is one."""
    points = _points(seen, j)
    nothing = _Point(-1.0 if 0.0 in seen else 0.0, top, np.inf)
    low = max((p for p in points if p.height > 0), default=nothing)
    high = min((p for p in points if p.at > low.at), default=None)
    return low, high


def _next(low: _Point, high: _Point | None, end: float, reach: float) -> float | None:
    """The distance to look at next, or `None` if nothing more is to be learnt."""
    if high is None:
        return None if low.at >= end else min(2 * max(low.at, 0.1 * reach), end)
    if high.at == 0 or high.at - low.at < _NARROW * reach:
        return None
    if any(abs(p.height) < _CLOSE * p.error for p in (low, high) if np.isfinite(p.error)):
        return None
    share = low.height / (low.height - high.height)
    return low.at + min(max(share, 0.05), 0.95) * (high.at - low.at)


def _root(points: list[_Point], low: _Point, high: _Point | None, end: float, reach: float) -> Root:
    if not points:
        return Root(np.nan, np.nan, LimitStatus.FIT_FAILED)
    if high is None:
        return Root(np.nan, np.nan, LimitStatus.BEYOND_BOUND if low.at >= end else LimitStatus.NO_EFFECT)
    if high.at < _NARROW * reach:
        return Root(np.nan, np.nan, LimitStatus.NONE_ALLOWED)
    ends = [p for p in (low, high) if np.isfinite(p.error)]
    nearest = min(ends, key=lambda p: abs(p.height))
    slope = _slope([p for p in points if abs(p.height) < _NEAR] or ends, low, high)
    root = min(nearest.at - nearest.height / slope, high.at)
    if root <= 0:
        return Root(np.nan, np.nan, LimitStatus.NONE_ALLOWED)
    return Root(max(root, low.at), nearest.error / abs(slope), LimitStatus.FOUND)


def _slope(points: list[_Point], low: _Point, high: _Point) -> float:
    """Of a line through the points near the root: those of a narrow bracket alone say nothing of it."""
    at, height, error = (np.array(x) for x in zip(*points, strict=True))
    weight = 1 / np.maximum(error, 1e-9) ** 2
    off = at - np.average(at, weights=weight)
    spread = np.sum(weight * off**2)
    slope = np.sum(weight * off * height) / spread if spread > 0 else 0.0
    return float(slope) if slope < 0 else (high.height - low.height) / (high.at - low.at)
