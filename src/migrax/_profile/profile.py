"""Profiles and scans: the likelihood along one or two parameters, with the others refitted or held."""

import math
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._display.rounding import share
from .._fit.result import FitResult
from .._fit.status import Status, status_counts
from .._host import flow, xp
from .._host.blocks import in_blocks
from .._host.hosted import hosted
from .._parameters.select import Where
from .._util.frames import beside, data_frame
from .._util.result import AbstractResult, names_of, refuse_traced
from .._util.tracing import is_concrete, is_concrete_tree
from .._util.typing import PyTree
from .branches import Points, follow
from .conditional_covariance import conditional_shift
from .fitted import Fitted, fitted
from .kept_points import Keep
from .minimum import Hold, at_minimum
from .on_host import direct
from .refit import refit as refit_at
from .retry import retry

if TYPE_CHECKING:
    from pandas import DataFrame

Grid = ArrayLike | tuple[ArrayLike, ArrayLike]


@hosted
def _is_valid(status: Array) -> Array:
    return status == int(Status.VALID)


class Profile(AbstractResult):
    """The NLL on a grid of one parameter, shape `(m,)`, or of two parameters, shape `(m, l)`.

    **Attributes:**

    - `names`: the one or two parameters.
    - `grid`: a tuple with the values of each parameter, arrays of shape `(m,)` and `(l,)`, in the user's units.
    - `nll`: shape `(m,)` or `(m, l)`, in its own units; NaN where the point failed.
    - `rise`: the same shape, `nll` minus the minimum of the given result, in units of UP, to be compared with quantiles
        of chi2. Where it is negative, the NLL is below that minimum, and no error can be read off the profile.
    - `new_minimum`: whether the NLL is below that minimum at any valid point.
    - `points`: shape `(m, n_free)` or `(m, l, n_free)`, all free parameters at each point.
    - `status`: an `mx.Status` number for each point: that of its fit or, in a scan, whether the NLL is finite.
    - `valid`: for each point, whether its status is `VALID`.
    """

    nll: Float[Array, "*batch"]
    rise: Float[Array, "*batch"]
    points: Float[Array, "*batch n"]
    status: Int[Array, "*batch"]
    new_minimum: Bool[Array, "*lanes"]
    grid: tuple[Float[Array, "*batch m"], ...]
    names: tuple[str, ...] = eqx.field(static=True)
    free_names: tuple[str, ...] = eqx.field(static=True)

    @property
    def valid(self) -> Bool[Array, "*batch"]:
        return _is_valid(self.status)

    def to_pandas(self) -> "DataFrame":
        """The points as a `pandas.DataFrame`, one row per point: all free parameters, `nll`, `rise`, the name of the
        `status`, `valid`. A grid of two parameters is in row-major order. For many fits, the first level of the index,
        `lane`, is the number of the fit.

        **Raises:** `ImportError` without pandas; `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_pandas")
        k, shape = len(self.names), np.shape(self.nll)
        lanes, count = shape[: len(shape) - k], int(np.prod(shape[len(shape) - k :]))
        found: dict[str, Any] = {name: self.points[..., i] for i, name in enumerate(self.free_names)}
        for i, (name, grid) in enumerate(zip(self.names, self.grid, strict=True)):  # known even if a point failed
            found[name] = grid if k == 1 else np.expand_dims(np.asarray(grid), len(lanes) + 1 - i)
        others = {"nll": self.nll, "rise": self.rise, "status": names_of(Status, self.status), "valid": self.valid}
        columns = {
            name: np.broadcast_to(a, shape).reshape(*lanes, count) for name, a in beside(found.items(), others).items()
        }
        return data_frame(columns, range(count), "point", lanes)

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), "status": names_of(Status, self.status), "valid": self.valid}

    def __repr__(self) -> str:
        shape, along = np.shape(self.nll), " and ".join(self.names)
        if not is_concrete_tree(self):
            return f"Profile(traced, along {along}, shape={shape})"
        good = share(int(np.sum(np.asarray(self.valid))), np.size(self.status))
        counts = ", ".join(f"{count} {phrase}" for phrase, count in status_counts(self.status))
        return f"Profile(along {along}, shape={shape}, valid={good}: {counts})"


def profile(
    nll: Callable[[Any, Any], ArrayLike],
    result: FitResult,
    data: PyTree,
    where: Where,
    grid: Grid | int = 30,
    *,
    sigmas: float = 2.0,
    refit: bool = False,
    store: str | os.PathLike[str] | None = None,
    shard: tuple[int, int] | None = None,
    batch_size: int | None = None,
) -> Profile:
    """The profile likelihood along one or two parameters: the NLL minimised over all others at each point of a grid.

    All points are fitted at once. If there are several conditional minima, each point has the lowest one that is known:
    if a point lies below the minimum of the fit, or the profile jumps, all points are refitted from those of their
    neighbours until none becomes lower. (Inside `jax.jit` each point is fitted only once, from a start that is
    extrapolated linearly from the minimum of the fit.) For a parameter with a period the grid may lie anywhere.

    **Arguments:**

    - `nll`, `data`: as they were given to `mx.fit`.
    - `result`: the result of `mx.fit`.
    - `where`: one parameter (or one entry of a vector parameter), or two.
    - `grid`: the values, an array (not the ends of a range), or a tuple of two arrays for two parameters; or the number
        of evenly spaced points (for two parameters, one number for both or two numbers).
    - `sigmas`: how far evenly spaced points extend to both sides of the fitted value, in units of its error; they stay
        within the bounds.
    - `refit`: if `True`, a result that is not valid is fitted again first. Otherwise it raises an error.
    - `store`: a folder in which finished points are kept: the same call goes on after an interruption, several jobs may
        share it, and `mx.merge` joins those of jobs on several machines. All of them are given the same result, to the
        last bit: saved by one of them (`mx.save`), and loaded by the others. See `mx.open_store`.
    - `shard`: `(i, n)`, with i from 0 to n - 1: only the i-th of n parts of the values of the first parameter.
    - `batch_size`: the number of values of the first parameter that are fitted and stored together.

    **Returns:** a `Profile`, of the whole grid or of the shard. A point whose fit fails has its own status and is NaN;
    the others are not affected.

    **Raises:** `ValueError`, `TypeError` for unknown or fixed parameters, an empty grid, values outside the bounds, an
    invalid result; for a shard out of range, a store that is damaged, or one inside `jax.jit`. `OSError` for a store
    that cannot be written.

    **Warns** if the NLL is below the minimum of the result at any point: fit again from there. Inside `jax.jit` check
    `Profile.new_minimum` instead.
    """
    keep = Keep.of(store, shard, batch_size)
    return _profile_or_scan(fitted(nll, result, data, "profile", refit), where, grid, sigmas, "profile", keep)


def scan(
    nll: Callable[[Any, Any], ArrayLike],
    result: FitResult,
    data: PyTree,
    where: Where,
    grid: Grid | int = 30,
    *,
    sigmas: float = 2.0,
    refit: bool = False,
) -> Profile:
    """The NLL along one or two parameters with all others held at their fitted values.

    This is faster than `mx.profile`, but no error can be read off it, because correlations are ignored.

    **Arguments:** `nll`, `result`, `data`, `where`, `grid`, `sigmas` and `refit` as for `mx.profile`.

    **Returns:** a `Profile`. A point at which the NLL is not finite has a status that says so and is NaN.

    **Raises**, **Warns** as `mx.profile`.
    """
    return _profile_or_scan(fitted(nll, result, data, "scan", refit), where, grid, sigmas, "scan")


def _profile_or_scan(
    fitted: Fitted, where: Where, grid: Any, sigmas: float, what: str, keep: Keep | None = None
) -> Profile:
    index, result = fitted.positions(where, what), fitted.result
    if len(index) not in (1, 2) or len(set(index)) != len(index):
        chosen = [result.names[i] for i in index]
        raise ValueError(f"{what} is along one parameter or two different ones, got {chosen}")
    grids = _grids(result, index, grid, sigmas, what)
    names = tuple(result.names[i] for i in index)
    kept = None if keep is None else keep.batches(fitted, index, grids)
    grids = grids if kept is None else (kept.part, *grids[1:])
    shape, lanes = tuple(grid.size for grid in grids), _mesh(grids)

    def run(starts: Float[Array, "m n"], to_fit: Bool[np.ndarray, " m"], lanes: Array = lanes) -> Points:
        return retry(
            lambda fitted, lanes, skip, robust: evaluate(fitted, jnp.asarray(index), lanes, skip, robust, what),
            fitted,
            (lanes, starts),
            lambda points: (np.asarray(points.status) != int(Status.VALID)) & to_fit,
        )

    def first(lanes: Array) -> Points:
        no_starts = np.full((len(lanes), result.values.size), np.nan, result.values.dtype)
        return run(jnp.asarray(no_starts), np.full(len(lanes), what == "profile"), lanes)

    points = first(lanes) if kept is None else kept.points(lambda values: first(_mesh((values, *grids[1:]))))
    if what == "profile" and is_concrete(*points):
        points = follow(run, points, shape)
    if is_concrete(*points) and np.asarray(points.lower).any():
        warnings.warn(_lower_message(result, points, lanes, names, what), stacklevel=3)
    (value, rise, x, status, _), new_minimum = _on_grid(points, shape)
    return Profile(value, rise, x, status, new_minimum, grids, names, result.names)


@hosted
def _mesh(grids: tuple[Array, ...]) -> Float[Array, "m k"]:
    """All points of the grids."""
    return jnp.stack(jnp.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, len(grids))


@hosted
def _on_grid(points: Points, shape: tuple[int, ...]) -> tuple[Points, Bool[Array, ""]]:
    """The points in the shape of the grid, and whether the likelihood is lower at any than at the minimum."""
    return Points(*(a.reshape(*shape, *a.shape[1:]) for a in points)), jnp.any(points.lower)


def _lower_message(result: FitResult, points: Points, lanes: Array, names: tuple[str, ...], what: str) -> str:
    index = int(np.nanargmin(np.where(np.asarray(points.lower), np.asarray(points.value), np.nan)))
    place = ", ".join(f"{name} = {float(x):.6g}" for name, x in zip(names, lanes[index], strict=True))
    return (
        f"{what} met a lower likelihood than at the minimum of the result: the NLL is {float(points.value[index]):.6g} "
        f"at {place}, it was {float(result.nll):.6g}. The rise is above the result's, and no error can be read off it: "
        "fit again, from there"
    )


def _grids(result: FitResult, index: tuple[int, ...], grid: Any, sigmas: float, what: str) -> tuple[Array, ...]:
    counts = grid if isinstance(grid, tuple | list) and len(grid) == len(index) == 2 else [grid] * len(index)
    numbers = [int(n) for n in counts if isinstance(n, int | np.integer) and not isinstance(n, bool)]
    if len(numbers) == len(index):
        if min(numbers) < 1:
            raise ValueError(f"{what} needs at least one point, got {grid}")
        if not (isinstance(sigmas, int | float) and 0 < sigmas < math.inf):
            raise ValueError(f"sigmas must be a positive number, got {sigmas!r}")
        return tuple(_evenly_spaced(result, i, n, sigmas) for i, n in zip(index, numbers, strict=True))
    grids = tuple(grid) if len(index) == 2 and isinstance(grid, tuple | list) and len(grid) == 2 else (grid,)
    if len(grids) != len(index):
        raise ValueError(f"{what} along two parameters takes a tuple of two arrays of values, or a number of points")
    arrays = tuple(jnp.asarray(g, result.values.dtype) for g in grids)
    for i, g in zip(index, arrays, strict=True):
        name = result.names[i]
        if g.ndim != 1 or g.size == 0:
            raise ValueError(
                f"the grid of {name!r} must be a whole number of points, or hold at least one value in one axis; got "
                f"{grid!r}"
                if g.size < 5
                else f"the grid of {name!r} must have one axis, got shape {g.shape}"
            )
        if is_concrete(g, result.lower, result.upper):
            values, low, high = np.asarray(g), np.asarray(result.lower)[i], np.asarray(result.upper)[i]
            bad = ~((values >= low) & (values <= high)) | ~np.isfinite(values)
            if np.any(bad):
                raise ValueError(
                    f"the grid of {name!r} must stay within its bounds: {values[bad][0]} is not in [{low}, {high}]"
                )
    return arrays


def _evenly_spaced(result: FitResult, i: int, size: int, sigmas: float) -> Array:
    if is_concrete(result.errors) and not float(np.asarray(result.errors)[i]) > 0:
        raise ValueError(f"{result.names[i]!r} has no error (it is at a bound): give the values of the grid")
    return _between(result.values, result.errors, result.lower, result.upper, i, float(sigmas), size)


@hosted
def _between(values: Array, errors: Array, lower: Array, upper: Array, i: int, sigmas: float, size: int) -> Array:
    """Values of parameter `i`, evenly spaced up to some errors on both sides, within the bounds."""
    low = jnp.maximum(values[i] - sigmas * errors[i], lower[i])
    high = jnp.minimum(values[i] + sigmas * errors[i], upper[i])
    return jnp.linspace(low, high, size)


@direct
def evaluate(
    fitted: Fitted,
    index: Array,
    lanes: tuple[Float[Array, "m k"], Float[Array, "m n"]],
    skip: Bool[Array, " m"],
    robust: bool,
    what: str,
) -> Points:
    """The points of a profile or scan, each from its own start or, where that is NaN, from the tangent at the minimum.

    `what` is `"profile"`, `"scan"`, or `"value"`, a profile without other parameters, in which an infinite NLL is a
    valid value (data that are impossible there), but NaN is not.
    """
    minimum = at_minimum(fitted)
    n = minimum.x.size
    rows = (xp.arange(n) == index[:, None]).astype(minimum.x.dtype)
    held = xp.any(rows > 0, axis=0)

    def one(values: Array, own_start: Array, skip: Array) -> tuple[Array, Array, Array]:
        at = xp.where(held, values @ rows, minimum.x)
        if what == "profile":
            start = at + xp.where(held, 0.0, conditional_shift(minimum.covariance, rows, at - minimum.x))
            start = xp.where(xp.all(xp.isfinite(own_start)), own_start, start)
            conditional = refit_at(minimum, Hold(rows, at), minimum.space.clip(start), skip, robust)
            value, x, status = conditional.value, conditional.x, conditional.status
        elif what == "value":
            # Where the NLL is infinite, its derivatives are NaN and would spoil others: evaluate it elsewhere.
            impossible = flow.stop_gradient(minimum.fn(at, minimum.theta)) == xp.inf
            value = minimum.fn(xp.where(impossible, minimum.x, at), minimum.theta)
            value, x = xp.where(impossible, xp.inf, value), at
            status = xp.where(minimum.valid, int(Status.VALID), int(Status.NOT_CONVERGED))
            status = xp.where(xp.isnan(value) | (value == -xp.inf), int(Status.NOT_FINITE), status)
        else:
            value, x = minimum.fn(at, minimum.theta), at
            status = xp.where(xp.isfinite(value), int(Status.VALID), int(Status.NOT_FINITE))
        is_valid = (status == int(Status.VALID)) & (fitted.result.valid if what == "scan" else minimum.valid)
        return xp.where(is_valid, value, xp.nan), xp.where(is_valid, x, xp.nan), status

    value, points, status = in_blocks(one, (*lanes, skip), n, with_matrices=robust)
    rise = 2 * (value - minimum.fn(minimum.x, minimum.theta))
    value = value * 2 * fitted.result.up + minimum.constant
    return Points(value, rise, points, status, rise < -2 * minimum.lower)
