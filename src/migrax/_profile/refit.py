"""Conditional fits, with some parameters held at given values: for profiles, impacts and the bracketing of crossings.

Which parameters are held may be traced, so that all lanes of a `vmap` share one program: the fit keeps its number of
parameters, the held ones are replaced by their values inside the objective, and a parabola gives them a minimum there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._derivatives.kinks import gradient_at
from .._fit.coordinates import Held
from .._fit.loop import solve
from .._fit.minimiser import Problem, step_limit
from .._fit.status import Status
from .._host import flow, xp
from .._solvers import Migrad
from .._solvers.flat import Differentiated
from .._util.typing import PyTree
from .conditional_covariance import conditional, conditional_shift
from .minimum import Hold, Minimum
from .quick_refit import descend


class Refit(NamedTuple):
    """The result of a conditional fit."""

    x: Float[Array, " n"]
    value: Scalar  # of the objective
    status: Int[Array, ""]
    num_gradients: Int[Array, ""]  # including those computed with a Hessian


_MAX_TRIES = 24
_FIRST_PART, _LONGER, _SHORTER = 0.5, 1.5, 0.5


class _StepwiseState(NamedTuple):
    """A sequence of conditional fits on the way from the minimum to the values at which parameters are held."""

    fraction: Scalar  # the fraction of the way at which the last fit converged
    x: Float[Array, " n"]  # its minimum
    slope: Float[Array, " n"]  # the derivative of `x` with respect to the fraction
    step: Scalar  # the next increase of the fraction
    status: Int[Array, ""]  # of the fit at the end of the way
    num_gradients: Int[Array, ""]
    tries: Int[Array, ""]
    done: Bool[Array, ""]


class _RefitEnd(NamedTuple):
    status: Int[Array, ""]
    num_gradients: Int[Array, ""]
    active: Bool[Array, " n"]


def refit(minimum: Minimum, hold: Hold, start: Float[Array, " n"], skip: Bool[Array, ""], robust: bool) -> Refit:
    """The conditional minimum with the parameters of `hold` held, from `start`: with one gradient a step and the
    covariance at the minimum and, if `robust`, with exact Hessians where that does not converge. Returns at once if
    `skip`.

    All fits from a predicted start use this function. Where the likelihood is not finite at `start`, the start is moved
    halfway back towards the other parameters of the minimum; if it is not finite there either, and `robust`, the held
    parameters are moved to their values step by step.

    Differentiable, by the implicit function theorem, with respect to the held values, the data, and all other inputs of
    the objective.
    """
    start = flow.stop_gradient(start)
    x, end = flow.implicit(_robust if robust else _quick, _stationarity, (minimum, hold, start, skip))
    x = xp.where(hold.which, hold.at, minimum.space.wrap(x))
    return Refit(x, minimum.fn(x, minimum.theta), end.status, end.num_gradients)


def _quick(inputs: tuple[Any, ...]) -> tuple[Float[Array, " n"], _RefitEnd]:
    return _primal(inputs, False)


def _robust(inputs: tuple[Any, ...]) -> tuple[Float[Array, " n"], _RefitEnd]:
    return _primal(inputs, True)


def _primal(inputs: tuple[Any, ...], robust: bool) -> tuple[Float[Array, " n"], _RefitEnd]:
    minimum, hold, start, skip, while_loop = inputs
    which, space = hold.which, minimum.space
    descent = descend(minimum, hold, start, skip)
    converged = descent.converged & minimum.near(descent.x, which)
    x = xp.where(converged, descent.x, start)
    status = xp.where(converged, int(Status.VALID), int(Status.NOT_CONVERGED))
    num_gradients = descent.num_gradients
    if robust:
        robust_fit = _stepwise_fit(minimum, hold, descent.start, skip | converged, while_loop)
        x = xp.where(converged, x, robust_fit.x)
        status = xp.where(converged, status, robust_fit.status)
        num_gradients = num_gradients + robust_fit.num_gradients
    tolerance = 1e-9 * (xp.abs(x) + minimum.errors)
    active = ~which & (space.room(x) <= tolerance)
    return x, flow.stop_gradient(_RefitEnd(status, num_gradients, active))


def _stationarity(x: Float[Array, " n"], end: _RefitEnd, inputs: tuple[Any, ...]) -> Float[Array, " n"]:
    """The residual that is zero at the conditional minimum: the gradient of free parameters, and the distances of the
    others to their bounds or held values."""
    minimum, hold, *_ = inputs
    space = minimum.space
    scale = flow.stop_gradient(minimum.sizes)
    resolved_x = xp.where(hold.which, hold.at, x)
    gradient, on_kink = gradient_at(minimum.fn, resolved_x, minimum.theta, space.kinks, scale, hold.which)
    at = flow.stop_gradient(x)
    bound = space.nearer_bound(at)
    residual = xp.where(end.active, (x - xp.where(end.active, bound, 0.0)) / scale, gradient * scale)
    residual = xp.where(on_kink, (x - at) / scale, residual)
    residual = xp.where(hold.which, (x - hold.at) / scale, residual)
    return xp.where(end.status == int(Status.VALID), residual, x / scale)


def _stepwise_fit(
    minimum: Minimum, hold: Hold, start: Float[Array, " n"], skip: Bool[Array, ""], while_loop: Callable
) -> Refit:
    """A conditional fit by the loop of `mx.fit`, from `start` or else from the minimum. If the likelihood is finite at
    neither, the held parameters are moved in steps from the minimum: each fit starts at the extrapolation of the last
    two, and a step is shortened until the likelihood is finite there."""

    def body(s: _StepwiseState) -> _StepwiseState:
        in_steps = s.tries > 1
        fraction = xp.where(in_steps, xp.minimum(s.fraction + s.step, 1.0), 1.0)
        at = minimum.x + fraction * (hold.at - minimum.x)
        partial_hold = hold._replace(at=xp.where(fraction == 1, hold.at, at))
        extrapolated = xp.where(in_steps, s.x + (fraction - s.fraction) * s.slope, s.x)
        begin = xp.where(s.tries == 0, start, minimum.space.clip(extrapolated))
        conditional = _fit_by_loop(minimum, partial_hold, begin, s.done, while_loop)
        is_valid, is_last = conditional.status == int(Status.VALID), fraction == 1
        is_unknown = _not_finite(s.status) | (s.tries == 0)
        status = xp.where(is_last & (is_valid | is_unknown), conditional.status, s.status)
        tries = s.tries + 1
        is_hopeless = (tries == 2) & ~_not_finite(status)
        return _StepwiseState(
            fraction=xp.where(is_valid, fraction, s.fraction),
            x=xp.where(is_valid, conditional.x, s.x),
            slope=xp.where(is_valid, (conditional.x - s.x) / (fraction - s.fraction), s.slope),
            step=xp.where(in_steps, s.step * xp.where(is_valid, _LONGER, _SHORTER), s.step),
            status=status,
            num_gradients=s.num_gradients + conditional.num_gradients,
            tries=tries,
            done=(is_last & is_valid) | is_hopeless | (tries >= _MAX_TRIES),
        )

    zero, zero_count = xp.zeros((), minimum.x.dtype), xp.array(0)
    status = xp.array(int(Status.NOT_CONVERGED))
    slope = conditional_shift(minimum.covariance, hold.rows, xp.where(hold.which, hold.at - minimum.x, 0.0))
    done = skip | ~minimum.valid
    begin = _StepwiseState(zero, minimum.x, slope, zero + _FIRST_PART, status, zero_count, zero_count, done)
    end = flow.while_loop(lambda s: ~s.done, body, begin)
    return Refit(xp.where(hold.which, hold.at, end.x), zero, end.status, end.num_gradients)


def _not_finite(status: Int[Array, ""]) -> Bool[Array, ""]:
    return (status == int(Status.NOT_FINITE_AT_START)) | (status == int(Status.NOT_FINITE))


def _fit_by_loop(
    minimum: Minimum, hold: Hold, start: Float[Array, " n"], skip: Bool[Array, ""], while_loop: Callable
) -> Refit:
    """A conditional fit by the loop of `mx.fit`. The held parameters are replaced by their values inside the objective,
    and a parabola gives them a minimum there, so that which ones are held may be traced."""
    which = hold.which
    x = xp.where(which, hold.at, start)
    x = xp.where(skip, xp.nan, x)  # NaN ends the loop at once
    inputs = (minimum.theta, hold, minimum.sizes)
    objective = _with_held(minimum, x, inputs)
    problem = Problem(
        objective,
        None,
        inputs,
        x,
        minimum.space.without(which),
        _conditional_covariance(minimum, hold),
        Migrad(),
        optx.ImplicitAdjoint(),
        max_steps=step_limit(x.size),
    )
    x, outcome = solve((problem, while_loop))
    count = outcome.counts["num_gradients"] + outcome.counts["num_hessians"]
    return Refit(x, outcome.at.value, outcome.status, count)


def _with_held(minimum: Minimum, x: Array, inputs: tuple[PyTree, Hold, Array]) -> Callable[..., Scalar] | Held:
    """The objective with the held parameters replaced by their values, and a parabola with its minimum there."""
    fn, hold = minimum.fn, inputs[1]
    if isinstance(fn, Differentiated):
        return Held(fn, hold.which, hold.at, minimum.sizes)

    def objective(x: Array, inputs: tuple[PyTree, Hold, Array]) -> Scalar:
        theta, held, scale = inputs
        parabola = 0.5 * xp.sum(xp.where(held.which, (x - held.at) / scale, 0.0) ** 2)
        return fn(xp.where(held.which, held.at, x), theta) + parabola

    return eqx.filter_closure_convert(objective, x, inputs)


def _conditional_covariance(minimum: Minimum, hold: Hold) -> Float[Array, "n n"]:
    which = hold.which
    v = conditional(minimum.covariance, hold.rows)
    v = xp.where(which[:, None] | which[None, :], 0.0, v)
    return v + xp.diag(xp.where(which, minimum.sizes**2, 0.0))
