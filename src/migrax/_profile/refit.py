"""Fits with some parameters held at given values: profiles, impacts, and crossings that are hard to find.

Which ones are held may be traced, so that all lanes of a `vmap` are one program: the fit keeps its number of
parameters, the held ones are replaced by their values inside the objective, and a parabola gives them a minimum there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._derivatives.kinks import gradient_at
from .._fit.loop import solve
from .._fit.minimiser import Problem
from .._fit.status import Status
from .._solvers import Migrad
from .._util.typing import PyTree
from .conditional_covariance import conditional, conditional_shift
from .minimum import Hold, Minimum
from .quick_refit import descend


class Refit(NamedTuple):
    """The end of a fit with parameters held."""

    x: Float[Array, " n"]
    value: Scalar  # of the objective
    status: Int[Array, ""]
    num_gradients: Int[Array, ""]  # those with second derivatives too


_MAX_TRIES = 24
_FIRST_PART, _LONGER, _SHORTER = 0.5, 1.5, 0.5


class _Tries(NamedTuple):
    """Fits one after the other, on the way from the minimum to where parameters are held."""

    part: Scalar  # how far the way is gone: a fit converged there
    x: Float[Array, " n"]  # its end
    slope: Float[Array, " n"]  # how x changes with the part
    step: Scalar  # the part that is tried next
    status: Int[Array, ""]  # with the parameters where they are to be held
    num_gradients: Int[Array, ""]
    tries: Int[Array, ""]
    done: Bool[Array, ""]


class _End(NamedTuple):
    status: Int[Array, ""]
    num_gradients: Int[Array, ""]
    active: Bool[Array, " n"]


def refit(minimum: Minimum, hold: Hold, start: Float[Array, " n"], skip: Bool[Array, ""], robust: bool) -> Refit:
    """Minimises over the other parameters, from `start`: with one gradient a step from the covariance at the minimum
    and, if `robust`, with exact second derivatives where that does not converge. Nothing is done if `skip`.

    All that starts from a prediction comes here. Where the likelihood is not finite at `start`, the start is halved
    back towards the minimum's other parameters; if it is not finite at these either, and `robust`, the parameters are
    brought to where they are held step by step.

    Differentiable, by the implicit function theorem, with respect to the values held, the data, and all else of the
    objective.
    """
    adjoint = optx.ImplicitAdjoint()
    start = lax.stop_gradient(start)
    x, end = adjoint.apply(_sure if robust else _quick, _stationarity, (minimum, hold, start, skip), frozenset())
    x = jnp.where(hold.which, hold.at, minimum.space.wrap(x))
    return Refit(x, minimum.fn(x, minimum.theta), end.status, end.num_gradients)


def _quick(inputs: tuple[Any, ...]) -> tuple[Float[Array, " n"], _End]:
    return _primal(inputs, False)


def _sure(inputs: tuple[Any, ...]) -> tuple[Float[Array, " n"], _End]:
    return _primal(inputs, True)


def _primal(inputs: tuple[Any, ...], robust: bool) -> tuple[Float[Array, " n"], _End]:
    minimum, hold, start, skip, while_loop = inputs
    which, space = hold.which, minimum.space
    down = descend(minimum, hold, start, skip)
    found = down.found & minimum.near(down.x, which)
    x = jnp.where(found, down.x, start)
    status = jnp.where(found, int(Status.VALID), int(Status.NOT_CONVERGED))
    count = down.num_gradients
    if robust:
        again = _tried(minimum, hold, down.start, skip | found, while_loop)
        x = jnp.where(found, x, again.x)
        status = jnp.where(found, status, again.status)
        count = count + again.num_gradients
    near = 1e-9 * (jnp.abs(x) + minimum.errors)
    active = ~which & (space.room(x) <= near)
    return x, lax.stop_gradient(_End(status, count, active))


def _stationarity(x: Float[Array, " n"], end: _End, inputs: tuple[Any, ...]) -> Float[Array, " n"]:
    """What is zero at the end: derivatives of the free parameters, distances of the others to where they are held."""
    minimum, hold, *_ = inputs
    space = minimum.space
    scale = lax.stop_gradient(minimum.sizes)
    inside = jnp.where(hold.which, hold.at, x)
    gradient, pinned = gradient_at(minimum.fn, inside, minimum.theta, space.kinks, scale, hold.which)
    at = lax.stop_gradient(x)
    bound = space.nearer_bound(at)
    residual = jnp.where(end.active, (x - jnp.where(end.active, bound, 0.0)) / scale, gradient * scale)
    residual = jnp.where(pinned, (x - at) / scale, residual)
    residual = jnp.where(hold.which, (x - hold.at) / scale, residual)
    return jnp.where(end.status == int(Status.VALID), residual, x / scale)


def _tried(
    minimum: Minimum, hold: Hold, start: Float[Array, " n"], skip: Bool[Array, ""], while_loop: Callable
) -> Refit:
    """By the loop of `mx.fit`, from `start`; else from the minimum; and, where the likelihood is finite at neither, on
    the way from there: each part begins where the last two point to, and is shortened until that is finite."""

    def body(s: _Tries) -> _Tries:
        by_parts = s.tries > 1
        part = jnp.where(by_parts, jnp.minimum(s.part + s.step, 1.0), 1.0)
        at = minimum.x + part * (hold.at - minimum.x)
        here = hold._replace(at=jnp.where(part == 1, hold.at, at))
        ahead = jnp.where(by_parts, s.x + (part - s.part) * s.slope, s.x)
        begin = jnp.where(s.tries == 0, start, minimum.space.clip(ahead))
        found = _solve(minimum, here, begin, s.done, while_loop)
        good, there = found.status == int(Status.VALID), part == 1
        unknown = _not_finite(s.status) | (s.tries == 0)
        status = jnp.where(there & (good | unknown), found.status, s.status)
        tries = s.tries + 1
        hopeless = (tries == 2) & ~_not_finite(status)
        return _Tries(
            part=jnp.where(good, part, s.part),
            x=jnp.where(good, found.x, s.x),
            slope=jnp.where(good, (found.x - s.x) / (part - s.part), s.slope),
            step=jnp.where(by_parts, s.step * jnp.where(good, _LONGER, _SHORTER), s.step),
            status=status,
            num_gradients=s.num_gradients + found.num_gradients,
            tries=tries,
            done=(there & good) | hopeless | (tries >= _MAX_TRIES),
        )

    zero, none = jnp.zeros((), minimum.x.dtype), jnp.array(0)
    status = jnp.array(int(Status.NOT_CONVERGED))
    slope = conditional_shift(minimum.covariance, hold.rows, jnp.where(hold.which, hold.at - minimum.x, 0.0))
    done = skip | ~minimum.valid
    begin = _Tries(zero, minimum.x, slope, zero + _FIRST_PART, status, none, none, done)
    end = lax.while_loop(lambda s: ~s.done, body, begin)
    return Refit(jnp.where(hold.which, hold.at, end.x), zero, end.status, end.num_gradients)


def _not_finite(status: Int[Array, ""]) -> Bool[Array, ""]:
    return (status == int(Status.NOT_FINITE_AT_START)) | (status == int(Status.NOT_FINITE))


def _solve(
    minimum: Minimum, hold: Hold, start: Float[Array, " n"], skip: Bool[Array, ""], while_loop: Callable
) -> Refit:
    """By the loop of `mx.fit`. The held parameters are replaced by their values inside the objective, and a parabola
    gives them a minimum there, so that which ones are held may be traced."""
    fn, which = minimum.fn, hold.which

    def held(x: Array, inputs: tuple[PyTree, Hold, Array]) -> Scalar:
        theta, h, scale = inputs
        parabola = 0.5 * jnp.sum(jnp.where(h.which, (x - h.at) / scale, 0.0) ** 2)
        return fn(jnp.where(h.which, h.at, x), theta) + parabola

    x = jnp.where(which, hold.at, start)
    x = jnp.where(skip, jnp.nan, x)  # which ends it at once
    inputs = (minimum.theta, hold, minimum.sizes)
    problem = Problem(
        eqx.filter_closure_convert(held, x, inputs),
        None,
        inputs,
        x,
        minimum.space.without(which),
        _metric(minimum, hold),
        Migrad(),
        optx.ImplicitAdjoint(),
        max_steps=200 + 100 * x.size + 5 * x.size**2,
    )
    x, outcome = solve((problem, while_loop))
    count = outcome.counts["num_gradients"] + outcome.counts["num_hessians"]
    return Refit(x, outcome.at.value, outcome.status, count)


def _metric(minimum: Minimum, hold: Hold) -> Float[Array, "n n"]:
    which = hold.which
    v = conditional(minimum.covariance, hold.rows)
    v = jnp.where(which[:, None] | which[None, :], 0.0, v)
    return v + jnp.diag(jnp.where(which, minimum.sizes**2, 0.0))
