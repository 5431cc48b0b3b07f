"""Contours: the region of two parameters that the likelihood allows at a confidence level."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._display.rounding import share
from .._fit.result import FitResult
from .._host.hosted import hosted
from .._parameters.select import Where
from .._util.frames import beside, data_frame
from .._util.result import AbstractResult, names_of, refuse_traced
from .._util.tracing import is_concrete, is_concrete_tree
from .._util.typing import PyTree
from .contour_rays import Extremes, rays
from .contour_walk import walk
from .crossing import Found, Side
from .fitted import Fitted, fitted
from .levels import rise
from .minos import sides

if TYPE_CHECKING:
    from pandas import DataFrame

_MIN_POINTS = 8


@hosted
def _is_found(status: Array) -> Array:
    return status <= int(Side.AT_LIMIT)


@hosted
def _closed(values: Array, i: int) -> Array:
    v = values[..., i]
    return jnp.concatenate([v, v[..., :1]], axis=-1)


class Contour(AbstractResult):
    """The contours of two parameters at `c` confidence levels, with `m` points each; no axis `c` for a single level.

    **Attributes:**

    - `names`: the two parameters.
    - `values`: shape `(c, m, 2)`, the points, counterclockwise, in the user's units; NaN where the search failed.
    - `x`, `y`: shape `(c, m + 1)`, the same points with the first one repeated at the end, for drawing.
    - `points`: shape `(c, m, n_free)`, all free parameters at these points.
    - `status`: shape `(c, m)`, an `mx.Side` number for each point. `AT_LIMIT` means that the region ends at a bound of
        a parameter, because the NLL does not rise far enough before it.
    - `valid`: shape `(c, m)`, whether a point is `FOUND` or `AT_LIMIT`.
    - `rise`: shape `(c,)`, the rise of the NLL on the contour in units of UP: the quantile of chi2 with two degrees of
        freedom.
    - `result`: the fit that the contours belong to. If a deeper minimum was found, this is the fit of that minimum, not
        the one that was given.
    """

    points: Float[Array, "*batch m n"]
    values: Float[Array, "*batch m 2"]
    status: Int[Array, "*batch m"]
    rise: Float[Array, "*batch"]
    result: FitResult
    names: tuple[str, str] = eqx.field(static=True)

    @property
    def valid(self) -> Bool[Array, "*batch m"]:
        return _is_found(self.status)

    @property
    def x(self) -> Float[Array, "*batch m+1"]:
        return self._closed(0)

    @property
    def y(self) -> Float[Array, "*batch m+1"]:
        return self._closed(1)

    def _closed(self, i: int) -> Array:
        return _closed(self.values, i)

    def to_pandas(self) -> "DataFrame":
        """The points as a `pandas.DataFrame`, one row per point: all free parameters, the `rise`, the name of the
        `status` (of `mx.Side`), `valid`. For several levels, the first level of the index, `curve`, is their number.

        **Raises:** `ImportError` without pandas; `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_pandas")
        *curves, count = np.shape(self.status)
        found = [(name, self.points[..., i]) for i, name in enumerate(self.result.names)]
        others = {"rise": self.rise[..., None], "status": names_of(Side, self.status), "valid": self.valid}
        return data_frame(beside(found, others), range(count), "point", tuple(curves), "curve")

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), "status": names_of(Side, self.status), "valid": self.valid}

    def __repr__(self) -> str:
        shape, along = np.shape(self.status), " and ".join(self.names)
        if not is_concrete_tree(self):
            return f"Contour(traced, of {along}, shape={shape})"
        status = np.asarray(self.status)
        counts = ((side.name.lower().replace("_", " "), int(np.sum(status == int(side)))) for side in Side)
        words = ", ".join(f"{count} {phrase}" for phrase, count in counts if count)
        good = share(int(np.sum(np.asarray(self.valid))), status.size)
        return f"Contour(of {along}, shape={shape}, valid={good}: {words})"


def contour(
    nll: Callable[[Any, Any], ArrayLike],
    result: FitResult,
    data: PyTree,
    where: Where,
    *,
    cl: ArrayLike | list[float] | tuple[float, ...] = 0.68,
    size: int = 100,
    refit: bool = False,
) -> Contour:
    """The contour of the profile likelihood of two parameters.

    All points are found at once, with the accuracy of `mx.minos`. The points with the smallest and the largest value of
    each parameter are found as by `mx.minos`; the others lie on rays between them, evenly spread along the ellipse
    through these four. A contour that some rays cross more than once (a banana) is followed step by step, which takes a
    second or more. This is not possible under `jax.jit`, `jax.vmap` or differentiation, where the points of such a
    contour fail, nor along a bound.

    **Arguments:**

    - `nll`, `data`: as they were given to `mx.fit`.
    - `result`: the result of `mx.fit`.
    - `where`: two parameters: their names, or functions that pick nodes.
    - `cl`: the joint confidence level of the region for both parameters: a probability below 1, or a number of standard
        deviations from 1 on (1 is 0.6827); or a sequence of levels. The default, 0.68, is that of iminuit's
        `mncontour`.
    - `size`: the number of points, at least 8.
    - `refit`: if `True`, a result that is not valid is fitted again first. Otherwise it raises an error.

    **Returns:** a `Contour`. A point that is not found has its own status and is NaN; the others are not affected. The
    derivatives of a point include the motion of the ray that it lies on.

    **Raises:** `ValueError`, `TypeError` unless two different free parameters are given, for a `cl` out of range, for
    too few points, for an invalid result.
    """
    checked = fitted(nll, result, data, "contour", refit)
    index, result = checked.positions(where, "contour"), checked.result
    if len(index) != 2 or index[0] == index[1]:
        raise ValueError(f"contour takes two different parameters, got {[result.names[i] for i in index]}")
    if isinstance(size, bool) or int(size) != size or size < _MIN_POINTS:
        raise ValueError(f"contour needs a whole number of at least {_MIN_POINTS} points, got size={size!r}")
    level = rise(jnp.asarray(cl) if isinstance(cl, list | tuple) else cl, dof=2).astype(result.values.dtype)
    if jnp.ndim(level) > 1 or jnp.size(level) == 0:
        raise ValueError(f"contour takes one cl or a sequence of them, got shape {jnp.shape(level)}")
    levels = jnp.ravel(level)
    result, corners = sides(checked, _corners(index, levels), "contour")
    checked = checked._replace(result=result)
    extremes = _extremes_of(corners, levels)
    crossings, is_complete = rays(checked, index, extremes, int(size))
    crossings = _walked(checked, index, extremes, crossings, is_complete)
    return _contour_of(result, crossings, index, level)


@hosted
def _corners(index: tuple[int, ...], levels: Float[Array, " c"]) -> tuple[Array, Array, Array]:
    """The searches for the largest and smallest value of each parameter, counterclockwise from the right: parameter,
    side and rise."""
    a, b = index
    which, side = jnp.array([a, b, a, b]), jnp.array([1.0, 1.0, -1.0, -1.0])
    return jnp.tile(which, levels.size), jnp.tile(side, levels.size), jnp.repeat(levels, 4)


@hosted
def _extremes_of(corners: Found, levels: Float[Array, " c"]) -> Extremes:
    return Extremes(corners.x.reshape(levels.size, 4, -1), corners.status.reshape(levels.size, 4), levels)


def _walked(
    fitted: Fitted,
    index: tuple[int, ...],
    extremes: Extremes,
    crossings: Found,
    is_complete: Bool[Array, " c"],
) -> Found:
    """The crossings, with each contour that rays do not show as a whole walked along or, if it is traced, failed."""
    if not is_concrete(is_complete, crossings.status):
        return crossings._replace(status=jnp.where(is_complete[:, None], crossings.status, int(Side.FAILED)))
    for i in np.flatnonzero(~np.asarray(is_complete)):
        x, status = walk(fitted, index, extremes.at(int(i)), crossings.status.shape[1])
        crossings = crossings._replace(x=crossings.x.at[i].set(x), status=crossings.status.at[i].set(status))
    return crossings


@hosted
def _contour_of(result: FitResult, crossings: Found, index: tuple[int, ...], level: Array) -> Contour:
    is_valid = crossings.status <= int(Side.AT_LIMIT)
    points = jnp.where(is_valid[..., None], crossings.x, jnp.nan)
    points, status = (a.reshape(*level.shape, *a.shape[1:]) for a in (points, crossings.status))
    a, b = index
    return Contour(points, points[..., jnp.array(index)], status, level, result, (result.names[a], result.names[b]))
