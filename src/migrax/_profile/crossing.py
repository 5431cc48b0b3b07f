"""One crossing, found one way or the other, with its status and its derivative."""

import enum
from typing import Any, NamedTuple

import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._derivatives.kinks import gradient_at
from .conditional_covariance import conditional
from .crossing_bracket import Line, bracket
from .crossing_newton import Way, crossing
from .minimum import Minimum

_STRIDE = 1 / 16  # of a period: how far the bracketing goes at a time


class Side(enum.IntEnum):
    """How the search for a crossing ended."""

    FOUND = 0
    AT_LIMIT = 1
    NEW_MINIMUM = 2
    FAILED = 3


class Aim(NamedTuple):
    """What is looked for: from `base` along `direction` where the NLL has risen by `rise` times UP above the minimum.

    Held are the parameters of `rows`, unit vectors: one for an error of MINOS, two for a point of a contour.
    """

    rows: Float[Array, "k n"]
    base: Float[Array, " n"] | None  # the minimum, if there is none
    direction: Float[Array, " n"]  # zero for the parameters that are not held
    first: Scalar  # a guess how many times `direction` the crossing is away
    rise: Scalar


class Found(NamedTuple):
    """A point; the best that there is, if its status is not `FOUND`."""

    x: Float[Array, " n"]
    status: Int[Array, ""]
    num_gradients: Int[Array, ""]  # evaluated


class _End(NamedTuple):
    status: Int[Array, ""]
    active: Bool[Array, " n"]
    num_gradients: Int[Array, ""]


def search(minimum: Minimum, aim: Aim, skip: Bool[Array, ""], robust: bool) -> Found:
    """Looks for a crossing: with one gradient a step and, if `robust`, by bracketing where that finds none.

    Differentiable, by the implicit function theorem, with respect to the data, all else of the objective, and the rise.
    """
    adjoint = optx.ImplicitAdjoint()
    x, end = adjoint.apply(_sure if robust else _quick, _stationarity, (minimum, aim, skip), frozenset())
    return Found(x, end.status, end.num_gradients)


def _quick(inputs: tuple[Any, ...]) -> tuple[Float[Array, " n"], _End]:
    return _primal(inputs, False)


def _sure(inputs: tuple[Any, ...]) -> tuple[Float[Array, " n"], _End]:
    return _primal(inputs, True)


def _primal(inputs: tuple[Any, ...], robust: bool) -> tuple[Float[Array, " n"], _End]:
    minimum, aim, skip, _ = inputs
    x, space = minimum.x, minimum.space
    base = x if aim.base is None else aim.base
    z = jnp.sqrt(aim.rise)
    held = jnp.any(aim.rows != 0, axis=0)
    turn = _turn(minimum, aim.direction)
    end = jnp.minimum(_room(minimum, base, aim.direction), turn)
    blocked = end <= 0
    skip = skip | ~minimum.valid | ~minimum.sees(0.5 * aim.rise)
    variance = jnp.where(held & (minimum.errors > 0), minimum.errors, 1.0) ** 2
    way = Way(
        # what does not move is at its bound, wherever the line begins
        start=jnp.where(minimum.active & ~held, x, base),
        origin=None if aim.base is None else minimum.fn(x, minimum.theta),
        e=jnp.where(held, aim.direction / variance, 0.0),
        covariance=conditional(minimum.covariance, _across(aim)),
        moves=~minimum.active,
        direct=held,
    )
    fast = crossing(minimum, way, z, skip | blocked)
    sign = jnp.where(space.lower_is_nearer(x), 1.0, -1.0)
    pushed = jnp.all(~minimum.active | held | (fast.gradient * sign >= 0))
    found, x_found, count = fast.found & pushed & minimum.near(fast.x, held), fast.x, fast.num_gradients
    if space.has_period:  # the way round leads back to the minimum: what is beyond was passed before
        found &= _gone(aim, base, fast.x) < turn
    new_minimum, at_limit = fast.new_minimum, blocked & ~skip
    if robust:
        line = Line(aim.rows, base, aim.direction, end, aim.first, _STRIDE * turn)
        sure = bracket(minimum, line, z, skip | blocked | found | new_minimum)
        x_found = jnp.where(found | new_minimum | skip | blocked, x_found, sure.x)
        count = count + sure.num_gradients
        found, at_limit, new_minimum = found | sure.found, at_limit | sure.at_limit, new_minimum | sure.new_minimum
    x_found = space.clip(jnp.where(blocked, base, x_found))
    if space.has_period:  # all values round: half the way to each side
        x_found = jnp.where(at_limit & (end == turn) & ~blocked, base + 0.5 * turn * aim.direction, x_found)
    status = jnp.where(found, int(Side.FOUND), int(Side.FAILED))
    status = jnp.where(at_limit, int(Side.AT_LIMIT), status)
    status = jnp.where(new_minimum, int(Side.NEW_MINIMUM), status)
    near = 1e-9 * (jnp.abs(x_found) + jnp.where(minimum.errors > 0, minimum.errors, 0.0))
    active = ~held & (space.room(x_found) <= near)
    return x_found, lax.stop_gradient(_End(status, active, count))


def _across(aim: Aim) -> Float[Array, "k-1 n"]:
    """What is held beside the way itself."""
    if aim.rows.shape[0] == 1:
        return aim.rows[:0]
    a, b = aim.rows
    d = aim.direction
    return ((d @ b) * a - (d @ a) * b)[None]


def _room(minimum: Minimum, x: Float[Array, " n"], direction: Float[Array, " n"]) -> Scalar:
    """How far the bounds let us go from `x`, in units of the direction."""
    space = minimum.space
    if not space.has_bounds:
        return jnp.asarray(jnp.inf, x.dtype)
    bound = jnp.where(direction > 0, space.upper, space.lower)
    bounded = (direction != 0) & jnp.isfinite(bound)
    # no infinity inside: its derivative, though not used, would be NaN
    room = jnp.abs(jnp.where(bounded, bound, x) - x)
    return jnp.min(jnp.where(bounded, room / jnp.where(bounded, jnp.abs(direction), 1.0), jnp.inf))


def _turn(minimum: Minimum, direction: Float[Array, " n"]) -> Scalar:
    """After how much of the direction a periodic likelihood repeats itself; of two that are held, the nearer period."""
    space = minimum.space
    if not space.has_period:
        return jnp.asarray(jnp.inf, direction.dtype)
    periodic = (direction != 0) & jnp.isfinite(space.period)
    length = jnp.where(periodic, space.period, 1.0) / jnp.where(periodic, jnp.abs(direction), 1.0)
    return jnp.min(jnp.where(periodic, length, jnp.inf))


def _gone(aim: Aim, base: Float[Array, " n"], x: Float[Array, " n"]) -> Scalar:
    """How far along the direction a point lies."""
    square = aim.direction @ aim.direction
    return (x - base) @ aim.direction / jnp.where(square > 0, square, 1.0)


def _stationarity(x: Float[Array, " n"], end: _End, inputs: tuple[Any, ...]) -> Float[Array, " n"]:
    """What is zero at a crossing; the identity where there is none."""
    minimum, aim, *_ = inputs
    fn, theta, space = minimum.fn, minimum.theta, minimum.space
    value = fn(x, theta)
    scale = lax.stop_gradient(jnp.where(minimum.errors > 0, minimum.errors, 1.0))
    gradient, pinned = gradient_at(fn, x, theta, space.kinks, scale, jnp.any(aim.rows != 0, axis=0))
    at = lax.stop_gradient(x)
    bound = space.nearer_bound(at)
    to_bound = (x - jnp.where(jnp.isfinite(bound), bound, 0.0)) / scale
    residual = jnp.where(end.active, to_bound, gradient * scale)
    residual = jnp.where(pinned, (x - at) / scale, residual)
    level = value - fn(minimum.x, theta) - 0.5 * aim.rise
    at_limit = end.status == int(Side.AT_LIMIT)
    base = minimum.x if aim.base is None else aim.base
    away, d = (x - base) / scale, aim.direction / scale
    square = d @ d
    room, turn = _room(minimum, base, aim.direction), _turn(minimum, aim.direction)
    room = jnp.where(turn < room, 0.5 * turn, room)
    to_end = away @ d / jnp.where(square > 0, square, 1.0) - room
    residual = jnp.where(aim.rows[0] > 0, jnp.where(at_limit, to_end, level), residual)
    for row, across in zip(aim.rows[1:], _across(aim), strict=True):
        residual = jnp.where(row > 0, across @ (x - base) / (jnp.abs(across) @ scale), residual)
    usable = (end.status == int(Side.FOUND)) | at_limit
    return jnp.where(usable, residual, x / scale)
