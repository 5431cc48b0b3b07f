"""The pure functions that a `Minuit` needs besides the public ones: the likelihood at points that are not a minimum."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Scalar

from ..._derivatives.one_mode import accuracy_of
from ..._fit.convergence import EDM_GOAL, look_at, on_average
from ..._fit.covariance import Covariance
from ..._fit.fit import covariance_kind, fit
from ..._fit.hesse import covariance_matrix
from ..._fit.objective import check_up, constant_of, objective
from ..._fit.sandwich import sandwich
from ..._fit.status import Status
from ..._host.evaluated import evaluated
from ..._likelihoods.base import AbstractLikelihood
from ..._parameters.fix import fix
from ..._parameters.space import ravel
from ..._util.jit import jit
from ..._util.typing import PyTree

_LANES = 64  # points at a time, each with its own arrays of data


class Look(NamedTuple):
    """The exact second-order expansion at a point: `finite` and `positive_definite` as in a fit's verdict."""

    value: Scalar
    edm: Scalar  # in units of the function; NaN if there is no minimum
    covariance: Covariance
    finite: Bool[Array, ""]
    goal: Scalar  # for the EDM

    @property
    def valid(self) -> Bool[Array, ""]:
        return self.finite & self.covariance.valid & (self.edm <= self.goal)


def look(nll: AbstractLikelihood, params: PyTree, data: PyTree, up: float) -> Look:
    """Value, EDM and covariance at `params`, by the rules of `mx.fit`: with the sandwich if the likelihood requires it,
    and without an error for a parameter that a bound holds at its minimum."""
    looked = _look(nll, params, data, check_up(up))
    if covariance_kind(nll, data, True) == "sandwich":
        x, _ = ravel(params)
        looked = looked._replace(covariance=sandwich(nll, params, x, data, looked.covariance, check_up(up)))
    return looked


@evaluated
def _look(nll: AbstractLikelihood, params: PyTree, data: PyTree, up: Scalar) -> Look:
    fn, theta, x, space = objective(nll, params, data, up)
    goal = jnp.asarray(EDM_GOAL, x.dtype)
    at, verdict = look_at(fn, x, theta, space, goal)
    near = verdict.positive_definite & (verdict.edm <= goal)
    # away from a minimum the active bounds of the quadratic model say nothing about the parameters
    usable = verdict.positive_definite & (near | ~jnp.any(verdict.active))
    at, metric, active = on_average(at, verdict, verdict.active & near)
    matrix = covariance_matrix(at.hessian, metric, active, usable)
    accuracy = accuracy_of(fn, x, theta, metric.root())
    units = 2 * theta.up
    value = at.value * units + constant_of(nll, theta)
    return Look(
        value,
        verdict.edm * units,
        Covariance(matrix, usable, space.names, accuracy=accuracy),
        verdict.finite,
        goal * units,
    )


@evaluated
def values_at(
    nll: AbstractLikelihood, params: PyTree, data: PyTree, index: Int[Array, " k"], points: Float[Array, "m k"]
) -> Float[Array, " m"]:
    """The function where the numbers at `index` are those of `points`, and all others those of `params`, in which
    nothing is fixed."""
    fn, theta, x, _ = objective(nll, params, data, check_up(0.5))
    points = points.astype(x.dtype)
    values = jax.lax.map(lambda p: fn(x.at[index].set(p), theta), points, batch_size=_LANES)
    return values + constant_of(nll, theta)


@evaluated
def deviance(nll: Any, params: PyTree, data: PyTree) -> Scalar:
    """Twice the likelihood relative to the saturated model, for a likelihood that has one."""
    return nll.deviance(params, data)


@jit
def refits(
    nll: AbstractLikelihood, params: PyTree, data: PyTree, name: str, values: Float[Array, " m"], up: Any
) -> tuple[Float[Array, " m"], Bool[Array, " m"]]:
    """The function minimised over all other parameters, from `params`, for many values of one, and whether each fit is
    valid."""

    def refit(value: Array) -> tuple[Array, Array]:
        result = fit(nll, fix(params, name, value), data, up=up, hesse=False)
        return result.nll, result.status == int(Status.VALID)

    return jax.vmap(refit)(values)
