"""The search for one crossing, by the quick or the robust method, with its status and its derivative."""

import enum
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, Scalar

from .._derivatives.kinks import gradient_at
from .._host import flow, xp
from .crossing_bracket import Line, bracket
from .crossing_newton import Way, crossing
from .minimum import Minimum

_STRIDE = 1 / 16  # of a period: the longest step of the bracketing


class Side(enum.IntEnum):
    """The status of one side of a MINOS error, or of one point of a contour.

    - `FOUND`: the NLL has risen by the amount that was asked for.
    - `AT_LIMIT`: it does not rise that far before a bound of the parameter; the error or the region ends at the bound.
    - `NEW_MINIMUM`: the search found a point with an NLL below the minimum of the fit.
    - `FAILED`: no crossing was found.
    """

    FOUND = 0
    AT_LIMIT = 1
    NEW_MINIMUM = 2
    FAILED = 3


class Aim(NamedTuple):
    """A crossing to find: from `base` along `direction`, where the NLL has risen by `rise` times UP above the minimum.

    The parameters of `rows`, unit vectors, are held to the line: one for a MINOS error, two for a point of a contour.
    """

    rows: Float[Array, "k n"]
    base: Float[Array, " n"] | None  # if `None`, the minimum
    direction: Float[Array, " n"]  # zero for the parameters that are not held
    first: Scalar  # a guess of the distance to the crossing, in units of `direction`
    rise: Scalar


class Found(NamedTuple):
    """The point of a crossing; if its status is not `FOUND`, the best point known."""

    x: Float[Array, " n"]
    status: Int[Array, ""]
    num_gradients: Int[Array, ""]  # evaluated


class _CrossingEnd(NamedTuple):
    status: Int[Array, ""]
    active: Bool[Array, " n"]
    num_gradients: Int[Array, ""]


def search(minimum: Minimum, aim: Aim, skip: Bool[Array, ""], robust: bool) -> Found:
    """Searches for a crossing with one gradient a step and, if `robust`, by bracketing where that fails.

    Differentiable, by the implicit function theorem, with respect to the data, all other inputs of the objective, and
    the rise.
    """
    x, end = flow.implicit(_robust if robust else _quick, _stationarity, (minimum, aim, skip))
    return Found(x, end.status, end.num_gradients)


def _quick(inputs: tuple[Any, ...]) -> tuple[Float[Array, " n"], _CrossingEnd]:
    return _primal(inputs, False)


def _robust(inputs: tuple[Any, ...]) -> tuple[Float[Array, " n"], _CrossingEnd]:
    return _primal(inputs, True)


def _primal(inputs: tuple[Any, ...], robust: bool) -> tuple[Float[Array, " n"], _CrossingEnd]:
    minimum, aim, skip, _ = inputs
    x, space = minimum.x, minimum.space
    base = x if aim.base is None else aim.base
    z = xp.sqrt(aim.rise)
    held = xp.any(aim.rows != 0, axis=0)
    period = _period_along(minimum, aim.direction)
    end = xp.minimum(_distance_to_bound(minimum, base, aim.direction), period)
    blocked = end <= 0
    skip = skip | ~minimum.valid | ~minimum.sees(0.5 * aim.rise)
    variance = xp.where(held & (minimum.errors > 0), minimum.errors, 1.0) ** 2
    way = Way(
        # Parameters that do not move are at their bounds, wherever the line begins.
        start=xp.where(minimum.active & ~held, x, base),
        origin=None if aim.base is None else minimum.fn(x, minimum.theta),
        e=xp.where(held, aim.direction / variance, 0.0),
        rows=_rows_across(aim),
        moves=~minimum.active,
        direct=held,
    )
    fast = crossing(minimum, way, z, skip | blocked)
    sign = xp.where(space.lower_is_nearer(x), xp.ones_like(x), -1.0)
    stays_at_bounds = xp.all(~minimum.active | held | (fast.gradient * sign >= 0))
    found, x_found, count = fast.found & stays_at_bounds & minimum.near(fast.x, held), fast.x, fast.num_gradients
    if space.has_period:  # after one period the line is back at the minimum: a crossing beyond is a repetition
        found = found & (_distance_along(aim, base, fast.x) < period)
    new_minimum, at_limit = fast.new_minimum, blocked & ~skip
    if robust:
        line = Line(aim.rows, base, aim.direction, end, aim.first, _STRIDE * period)
        slow = bracket(minimum, line, z, skip | blocked | found | new_minimum)
        x_found = xp.where(found | new_minimum | skip | blocked, x_found, slow.x)
        count = count + slow.num_gradients
        found, at_limit, new_minimum = found | slow.found, at_limit | slow.at_limit, new_minimum | slow.new_minimum
    x_found = space.clip(xp.where(blocked, base, x_found))
    if space.has_period:  # the whole period is allowed: half of it to each side
        x_found = xp.where(at_limit & (end == period) & ~blocked, base + 0.5 * period * aim.direction, x_found)
    status = xp.where(found, int(Side.FOUND), int(Side.FAILED))
    status = xp.where(at_limit, int(Side.AT_LIMIT), status)
    status = xp.where(new_minimum, int(Side.NEW_MINIMUM), status)
    tolerance = 1e-9 * (xp.abs(x_found) + xp.where(minimum.errors > 0, minimum.errors, 0.0))
    active = ~held & (space.room(x_found) <= tolerance)
    return x_found, flow.stop_gradient(_CrossingEnd(status, active, count))


def _rows_across(aim: Aim) -> Float[Array, "k-1 n"]:
    """The row that keeps the held parameters on the line: orthogonal to `direction`; none if one parameter is held."""
    if aim.rows.shape[0] == 1:
        return aim.rows[:0]
    a, b = aim.rows
    direction = aim.direction
    return ((direction @ b) * a - (direction @ a) * b)[None]


def _distance_to_bound(minimum: Minimum, x: Float[Array, " n"], direction: Float[Array, " n"]) -> Scalar:
    """The distance from `x` to the nearest bound along `direction`, in units of it."""
    space = minimum.space
    if not space.has_bounds:
        return xp.asarray(xp.inf, x.dtype)
    bound = xp.where(direction > 0, space.upper, space.lower)
    bounded = (direction != 0) & xp.isfinite(bound)
    # Without infinities, whose derivatives would be NaN even where they are not used.
    room = xp.abs(xp.where(bounded, bound, x) - x)
    return xp.min(xp.where(bounded, room / xp.where(bounded, xp.abs(direction), 1.0), xp.inf))


def _period_along(minimum: Minimum, direction: Float[Array, " n"]) -> Scalar:
    """The distance along `direction`, in units of it, after which a held periodic parameter has gone one period; for
    two of them, the shorter one."""
    space = minimum.space
    if not space.has_period:
        return xp.asarray(xp.inf, direction.dtype)
    periodic = (direction != 0) & xp.isfinite(space.period)
    length = xp.where(periodic, space.period, 1.0) / xp.where(periodic, xp.abs(direction), 1.0)
    return xp.min(xp.where(periodic, length, xp.inf))


def _distance_along(aim: Aim, base: Float[Array, " n"], x: Float[Array, " n"]) -> Scalar:
    """The distance of a point from `base` along the direction, in units of it."""
    square = aim.direction @ aim.direction
    return (x - base) @ aim.direction / xp.where(square > 0, square, 1.0)


def _stationarity(x: Float[Array, " n"], end: _CrossingEnd, inputs: tuple[Any, ...]) -> Float[Array, " n"]:
    """The residual that is zero at a crossing; the identity where there is none."""
    minimum, aim, *_ = inputs
    fn, theta, space = minimum.fn, minimum.theta, minimum.space
    value = fn(x, theta)
    scale = flow.stop_gradient(xp.where(minimum.errors > 0, minimum.errors, 1.0))
    gradient, on_kink = gradient_at(fn, x, theta, space.kinks, scale, xp.any(aim.rows != 0, axis=0))
    at = flow.stop_gradient(x)
    bound = space.nearer_bound(at)
    to_bound = (x - xp.where(xp.isfinite(bound), bound, 0.0)) / scale
    residual = xp.where(end.active, to_bound, gradient * scale)
    residual = xp.where(on_kink, (x - at) / scale, residual)
    level = value - fn(minimum.x, theta) - 0.5 * aim.rise
    at_limit = end.status == int(Side.AT_LIMIT)
    base = minimum.x if aim.base is None else aim.base
    offset, scaled_direction = (x - base) / scale, aim.direction / scale
    square = scaled_direction @ scaled_direction
    length, period = _distance_to_bound(minimum, base, aim.direction), _period_along(minimum, aim.direction)
    length = xp.where(period < length, 0.5 * period, length)
    to_end = offset @ scaled_direction / xp.where(square > 0, square, 1.0) - length
    residual = xp.where(aim.rows[0] > 0, xp.where(at_limit, to_end, level), residual)
    for row, across in zip(aim.rows[1:], _rows_across(aim), strict=True):
        residual = xp.where(row > 0, across @ (x - base) / (xp.abs(across) @ scale), residual)
    has_crossing = (end.status == int(Side.FOUND)) | at_limit
    return xp.where(has_crossing, residual, x / scale)
