"""The part of `Minuit` that evaluates the function around its minimum, or around the current values."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from ..._fit.objective import check_up
from ..._profile.contour import Contour, contour
from ..._profile.profile import profile
from .fits import minimum, replace
from .keys import one
from .memory import Memory, refuse_traced
from .pure import refits, values_at

Key = int | str


class AbstractAround:
    """The function around a point of a `Minuit`. The arrays are NumPy's, in iminuit's order."""

    __slots__ = ()
    _memory: Memory

    def profile(
        self,
        vname: Key,
        *,
        size: int = 100,
        bound: float | tuple[float, float] = 2,
        grid: ArrayLike | None = None,
        subtract_min: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The function along one parameter, all others held at their current values: at a minimum that of `mx.scan`.

        **Arguments:**

        - `vname`: the name or the position of the parameter; it may be fixed.
        - `size`: the number of points.
        - `bound`: the range, two numbers; or a number of errors to both sides, within the limits.
        - `grid`: the values, instead of `size` and `bound`.
        - `subtract_min`: whether the smallest value is subtracted.

        **Returns:** the values of the parameter and those of the function, each of shape `(size,)`.

        **Raises:** `ValueError` for an unknown name, values outside the limits, a number of errors if none is known.
        """
        memory = self._memory
        i = one(vname, memory.names, memory.template, "profile")
        x = _axis(memory, i, size, bound, grid, "profile")
        return x, _above(_at(memory, (i,), x[:, None]), subtract_min)

    def mnprofile(
        self,
        vname: Key,
        *,
        size: int = 30,
        bound: float | tuple[float, float] = 2,
        grid: ArrayLike | None = None,
        subtract_min: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The function along one parameter, minimised over all others that are not fixed: `mx.profile`. If the current
        values are not those of a fitted minimum, each point is fitted from them.

        **Arguments:** as for `profile`.

        **Returns:** the values of the parameter, those of the function (NaN where a fit failed), and whether the fits
        are valid, each of shape `(size,)`.

        **Raises:** as `profile`.

        **Warns** of points whose fit failed.
        """
        memory = self._memory
        i = one(vname, memory.names, memory.template, "mnprofile")
        x = _axis(memory, i, size, bound, grid, "mnprofile")
        y, is_valid = _minimised(memory, i, x)
        if not np.all(is_valid):
            warnings.warn(
                f"mnprofile: {np.sum(~is_valid)} of {is_valid.size} fits along {memory.names[i]} failed", stacklevel=2
            )
        return x, _above(y, subtract_min), is_valid

    def contour(
        self,
        x: Key,
        y: Key,
        *,
        size: int | tuple[int, int] = 50,
        bound: Any = 2,
        grid: tuple[ArrayLike, ArrayLike] | None = None,
        subtract_min: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The function over two parameters, all others held at their current values. It is not a confidence region: see
        `mncontour`.

        **Arguments:**

        - `x`, `y`: the names or positions of two parameters; they may be fixed.
        - `size`: the number of points along each, or two numbers.
        - `bound`: two ranges, `((low, high), (low, high))`; or a number of errors to all sides, within the limits.
        - `grid`: two arrays of values, instead of `size` and `bound`.
        - `subtract_min`: whether the smallest value is subtracted.

        **Returns:** the values of the first parameter, shape `(n,)`, of the second, `(m,)`, and the function, `(n, m)`.

        **Raises:** as `profile`, and for the same parameter twice.
        """
        memory = self._memory
        pair = _two(memory, x, y, "contour")
        sizes, bounds, grids = (
            given if isinstance(given, Sequence | np.ndarray) and len(given) == 2 else (given, given)
            for given in (size, bound, grid)
        )
        ax, ay = (_axis(memory, i, s, b, g, "contour") for i, s, b, g in zip(pair, sizes, bounds, grids, strict=True))
        points = np.stack(np.meshgrid(ax, ay, indexing="ij"), axis=-1)
        z = _at(memory, pair, points.reshape(-1, 2)).reshape(points.shape[:2])
        return ax, ay, _above(z, subtract_min)

    def mncontour(self, x: Key, y: Key, *, cl: float | None = None, size: int = 100) -> np.ndarray:
        """The confidence region of two parameters, the function minimised over all others: `mx.contour`.

        **Arguments:**

        - `x`, `y`: the names or positions of two parameters that are not fixed.
        - `cl`: the probability that the region contains both, or, from 1 on, a number of standard deviations (1 is
            0.6827); default 0.68.
        - `size`: the number of points, at least 8.

        **Returns:** shape `(size + 1, 2)`; the last point is the first one again. NaN where the search failed.

        **Raises:** `RuntimeError` unless the values are at a valid minimum; `ValueError` for invalid names, fixed
        parameters, an invalid `cl` or `size`.

        **Warns** of points that were not found.
        """
        region = contour_of(self._memory, x, y, 0.68 if cl is None else cl, size, "mncontour")
        if jnp.ndim(region.rise) != 0:
            raise ValueError(f"mncontour takes one cl, got {cl!r}; draw_mncontour takes several")
        return np.stack([np.asarray(region.x, dtype=float), np.asarray(region.y, dtype=float)], axis=-1)


def contour_of(memory: Memory, x: Key, y: Key, cl: Any, size: int, what: str) -> Contour:
    """The contours at one or many levels, from the minimum at the current values."""
    pair = _two(memory, x, y, what)
    names = [memory.names[i] for i in pair]
    fixed = [name for name, i in zip(names, pair, strict=True) if memory.now.fixed[i]]
    if fixed:
        raise ValueError(f"{what} is of parameters that float, and {' and '.join(fixed)} is fixed")
    result = minimum(memory, what)
    contours = contour(memory.nll, result, memory.data, names, cl=cl, size=size)
    replace(memory, contours.result)
    failed = int(np.sum(~np.asarray(contours.valid)))
    if failed:
        warnings.warn(f"{what}: {failed} of {np.size(contours.status)} points were not found", stacklevel=3)
    return contours


def _two(memory: Memory, x: Key, y: Key, what: str) -> tuple[int, int]:
    i, j = (one(key, memory.names, memory.template, what) for key in (x, y))
    if i == j:
        raise ValueError(f"{what} is of two different parameters, got {memory.names[i]!r} twice")
    return i, j


def _axis(memory: Memory, i: int, size: int, bound: Any, grid: Any, what: str) -> np.ndarray:
    name, low, high = memory.names[i], memory.now.lower[i], memory.now.upper[i]
    refuse_traced(grid, bound)
    if grid is not None:
        x = np.array(grid, dtype=float)
        if x.ndim != 1 or x.size == 0:
            raise ValueError(f"the grid of {name!r} must have one axis and at least one value, got shape {x.shape}")
    else:
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"{what} takes a whole number of points, at least 1; got size={size!r}")
        x = np.linspace(*_ends(memory, i, bound, what), int(size))
    is_outside = ~((x >= low) & (x <= high)) | ~np.isfinite(x)
    if np.any(is_outside):
        raise ValueError(f"{what}: {x[is_outside][0]:g} is outside of the limits of {name!r}, {low:g} and {high:g}")
    return x


def _ends(memory: Memory, i: int, bound: Any, what: str) -> tuple[float, float]:
    name, value = memory.names[i], memory.now.values[i]
    if isinstance(bound, Sequence | np.ndarray) and not isinstance(bound, str) and np.ndim(bound) == 1:
        if len(bound) != 2 or None in bound or not bound[0] < bound[1]:
            raise ValueError(f"the bound of {name!r} is a number of errors, or two numbers, low and high: got {bound}")
        return float(bound[0]), float(bound[1])
    if isinstance(bound, bool) or not isinstance(bound, int | float | np.number) or not 0 < bound < math.inf:
        raise ValueError(f"the bound of {name!r} is a positive number of errors, or two numbers; got {bound!r}")
    error = memory.error(i)
    if not error > 0:
        reason = "is fixed" if memory.now.fixed[i] else "has no error (migrad or hesse find it; none at a limit)"
        raise ValueError(f"{what}: {name!r} {reason}: give bound=(low, high) or grid=...")
    low, high = value - bound * error, value + bound * error
    return max(low, memory.now.lower[i]), min(high, memory.now.upper[i])


def _at(memory: Memory, index: tuple[int, ...], points: np.ndarray) -> np.ndarray:
    refuse_traced()
    values = values_at(
        memory.likelihood, memory.tree(released=True), memory.data, jnp.asarray(index), jnp.asarray(points)
    )
    refuse_traced(values)
    memory.count(nfcn=points.shape[0])
    return np.array(values, dtype=float)


def _minimised(memory: Memory, i: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The minimum over all others at values of one parameter, and whether it was found."""
    refuse_traced()
    name, is_fixed, now = memory.names[i], bool(memory.now.fixed[i]), memory.now
    result = memory.result
    if memory.result_is_of_now and result is not None and bool(result.valid) and not is_fixed:
        points = profile(memory.nll, result, memory.data, name, x)
        # relative to fval, as a likelihood may minimise without its constant part
        return float(result.nll) + memory.up * np.array(points.rise, dtype=float), np.array(points.valid)
    if not np.any(~np.delete(now.fixed, i)):  # nothing to minimise over
        y = _at(memory, (i,), x[:, None])
        return y, np.isfinite(y)
    y, is_valid = refits(memory.likelihood, memory.tree(), memory.data, name, jnp.asarray(x), check_up(memory.up))
    refuse_traced(y)
    return np.where(is_valid, np.array(y, dtype=float), np.nan), np.array(is_valid)


def _above(y: np.ndarray, subtract_min: bool) -> np.ndarray:
    return y - np.nanmin(y) if subtract_min and not np.all(np.isnan(y)) else y
