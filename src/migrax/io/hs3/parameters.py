"""From a parameter of an HS3 document to an `mx.Parameter`."""

import difflib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..._parameters.parameter import Parameter
from .._node import shown
from .document import Point


def parameter(
    name: str,
    points: Mapping[str, Point],
    ranges: Mapping[str, tuple[float, float]],
    where: str,
    default: Parameter | None = None,
) -> Parameter:
    """The parameter of this name, needed by the object at `where`; `default` is that of a HistFactory channel. Without
    a value it starts at its default, or in the middle of its domain.

    **Raises:** `ValueError` for one without any of these, or outside its domain.
    """
    if default is not None and jnp.ndim(default.value) > 0:
        return _with_entries(default, name, points)
    point = points.get(name)
    lower, upper = ranges.get(name, (-np.inf, np.inf))
    if point is None:
        if default is None and np.isfinite(lower) and np.isfinite(upper):
            return Parameter(0.5 * (lower + upper), lower, upper)
        if default is None:
            near = difflib.get_close_matches(name, points, 1)
            hint = f" (is {near[0]!r} meant?)" if near else ""
            raise ValueError(f"{where}: the parameter {shown(name)} has a value in no parameter point{hint}")
        if name not in ranges:
            return default
        return Parameter(np.clip(np.asarray(default.value), lower, upper), *_bounds(lower, upper), fixed=default.fixed)
    if not lower <= point.value <= upper and not point.const:
        raise ValueError(
            f"the parameter {shown(name)} is {point.value:g}, outside its domain from {lower:g} to {upper:g}"
        )
    fixed = point.const or (default is not None and bool(np.all(default.fixed)))
    if not lower <= point.value <= upper:
        return Parameter(point.value, fixed=True)
    return Parameter(point.value, *_bounds(lower, upper), fixed=fixed)


def _with_entries(default: Parameter, name: str, points: Mapping[str, Point]) -> Parameter:
    """A vector whose entries have no names in the document, except in the points of `to_hs3`: `"name[0]"`."""
    values = np.array(default.value)
    fixed = np.array(np.broadcast_to(np.asarray(default.fixed), values.shape))
    for i in range(values.size):
        if (point := points.get(f"{name}[{i}]")) is not None:
            values[i], fixed[i] = point.value, fixed[i] | point.const
    return Parameter(values, default.lower, default.upper, fixed=fixed)


def _bounds(lower: float, upper: float) -> tuple[float | None, float | None]:
    return (lower if np.isfinite(lower) else None), (upper if np.isfinite(upper) else None)


def entry(p: Parameter, i: int) -> Parameter:
    """An entry of a vector, as a parameter of its own."""
    lower, upper = (None if b is None else b[i] for b in (p.lower, p.upper))
    return Parameter(p.value[i], lower, upper, fixed=_flag(p.fixed, i))


def _flag(fixed: Any, i: int) -> bool:
    return bool(np.ravel(np.broadcast_to(fixed, max(i + 1, np.size(fixed))))[i])


def fixed_below(p: Parameter, errors: Mapping[str, float], name: str, least: float) -> Parameter:
    """Fix the parameters of staterror whose relative errors are below a threshold, as ROOT does."""
    relative = np.array([errors[f"{name}[{i}]"] for i in range(np.size(p.value))])
    return Parameter(p.value, p.lower, p.upper, fixed=(relative < least) | np.asarray(p.fixed))
