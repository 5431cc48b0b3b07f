"""The result of a fit, from the point where the search ended and its outcome."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, Scalar

from .._derivatives.expansion import attach
from .._derivatives.kinks import attach_sides
from .._derivatives.one_mode import accuracy_of
from .._host import flow, xp
from .._parameters.space import Space, update
from .._parameters.static import only_arrays
from .._solvers.flat import Differentiated
from .._util.arrays import to_jax
from .._util.packing import unpack
from .along import covariance_of
from .convergence import EDM_GOAL
from .covariance import Covariance
from .evaluated import Objective
from .hesse import covariance_matrix
from .loop import Outcome
from .not_finite import find_not_finite, nothing_found
from .objective import Theta, constant_of
from .result import FitResult
from .status import Status


def result_of(
    fn: Callable[[Float[Array, " n"], Theta], Scalar] | Differentiated,
    theta: Theta,
    space: Space,
    x: Float[Array, " n"],
    outcome: Outcome,
    hesse: bool,
    nll: Any,
    algorithm: str,
    matrix: Float[Array, "n n"] | None = None,
    errors_of: tuple[int, ...] | None = None,
) -> FitResult:
    """The result of a fit of the objective `fn` that ended at `x`. `matrix` is the covariance, if it is known already;
    the data are then not searched for entries that are not finite. `errors_of`: whose errors are wanted, if not all."""
    if outcome.kinks is None:
        at = attach(outcome.at, fn, x, theta)
    else:
        at = attach_sides(outcome.at, fn, x, theta, outcome.kinks.reach, outcome.kinks.held, outcome.active)
    units = 2 * theta.up
    params, data = unpack(theta.params), unpack(theta.data)
    valid = outcome.status == int(Status.VALID)
    names = space.names
    if errors_of is not None:
        names = tuple(space.names[i] for i in errors_of)
        matrix, accuracy = covariance_of(fn, x, theta, outcome.metric, outcome.active, outcome.edm, errors_of)
        matrix = xp.where(outcome.positive_definite, matrix, xp.nan)
        bad_data, data_paths = find_not_finite(data, outcome.status)
    elif matrix is None:
        matrix = covariance_matrix(at.hessian, outcome.metric, outcome.active, outcome.positive_definite)
        accuracy = accuracy_of(fn, x, theta, outcome.metric.root())
        bad_data, data_paths = find_not_finite(data, outcome.status)
    else:
        accuracy = accuracy_of(fn, x, theta, None)
        bad_data, data_paths = nothing_found(data)
    covariance = Covariance(matrix, outcome.positive_definite, names, accuracy=accuracy)
    nothing = xp.full_like(x, xp.nan)
    errors = limiting = covariance.errors
    if errors_of is not None:
        errors = xp.set_at(nothing, xp.asarray(errors_of), covariance.errors)
        limiting = _errors_or_nearly(errors, outcome)
    # The last Newton step is not evaluated again: its gain is the EDM, to third order in a millionth of an error.
    value = (at.value - xp.where(outcome.positive_definite & (outcome.edm <= EDM_GOAL), outcome.edm, 0.0)) * units
    if isinstance(fn, Objective):
        constant, ndata = fn.constant, fn.ndata
    else:
        constant = constant_of(nll, theta)
        ndata = None if nll.ndata is None else xp.asarray(nll.ndata(data))
    return FitResult(
        values=x,
        errors=errors if hesse else nothing,
        covariance=covariance if hesse else None,
        nll=value if constant is None else value + xp.asarray(constant, value.dtype),
        edm=outcome.edm * units,
        valid=valid,
        status=outcome.status,
        at_limit=_at_limit(x, space, outcome, flow.stop_gradient(limiting)),
        on_kink=xp.zeros_like(x, bool) if outcome.kinks is None else outcome.kinks.held & ~outcome.active,
        stats=outcome.counts,
        direction=outcome.weakest,
        lower=space.lower,
        upper=space.upper,
        up=theta.up,
        chi2=2 * value if nll.is_chi2 else None,
        bad_data=bad_data,
        _params=only_arrays(to_jax(update(params, x), jax.tree.leaves((params, data)))),
        minos=None,
        names=space.names,
        ndof=None if ndata is None else ndata - space.num_inside(x),
        algorithm=algorithm,
        data_paths=data_paths,
    )


def _errors_or_nearly(errors: Array, outcome: Outcome) -> Array:
    """The errors, and where they were not asked for those of the last Hessian, which are near enough to find out which
    parameters are at a limit."""
    return xp.where(xp.isnan(errors), xp.sqrt(xp.sum(outcome.metric.root() ** 2, axis=1)), errors)


def _at_limit(x: Array, space: Space, outcome: Outcome, errors: Array) -> Array:
    """Whether each parameter is at a bound, or nearer to one than half its error (MINUIT's rule)."""
    return outcome.active | (space.room(x) < 0.5 * errors)
