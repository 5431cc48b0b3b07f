"""HESSE: the covariance from exact second derivatives."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Scalar

from .._derivatives.expansion import Objective, inverse
from .._derivatives.kinks import expand_on_average
from .._derivatives.one_mode import accuracy_of
from .._host import flow, xp
from .._host.hosted import is_for_host
from .._host.trips import TooLong
from .._host.xp import on_host
from .._likelihoods.base import AbstractLikelihood, as_likelihood
from .._parameters.resolve import resolve
from .._parameters.space import Space
from .._solvers.metric import Metric, decompose
from .._util.arrays import to_jax
from .._util.jit import jit
from .._util.typing import PyTree
from .covariance import Covariance
from .objective import Theta, check_up, objective, prepare_data, prepare_params, start_and_space
from .sandwich import Kind, check_kind, sandwich
from .traced import as_numpy, inputs_of, traced


def covariance_matrix(
    hessian: Float[Array, "n n"], metric: Metric, active: Bool[Array, " n"], usable: Bool[Array, ""]
) -> Float[Array, "n n"]:
    """The inverse of a Hessian, from its decomposition, over the parameters that are not at a bound. The rows of those
    that are at a bound are zero; NaN if the Hessian is not usable."""
    free = ~active & usable
    matrix = xp.where(free[:, None] & free[None, :], metric.inverse(), 0.0)
    return xp.where(usable, inverse(flow.stop_gradient(matrix), hessian), xp.nan)


def scale_of(chi2: Array, ndof: Any) -> Array:
    """chi2/ndof, the scale of the covariance for points with unknown errors; NaN without a degree of freedom."""
    has_dof = jnp.asarray(ndof) > 0
    return jnp.where(has_dof, chi2 / jnp.where(has_dof, ndof, 1), jnp.nan)


def hesse(
    nll: Callable[[Any, Any], ArrayLike],
    params: PyTree,
    data: PyTree = None,
    *,
    up: ArrayLike = 0.5,
    kind: Kind = "hesse",
) -> Covariance:
    """The covariance matrix from the exact second derivatives at `params`, which need not be a minimum.

    **Arguments:**

    - `nll`: `nll(params, data) -> scalar`, minus the log of the likelihood.
    - `params`: a tree of `mx.Parameter`s or of floats; the derivatives are taken at its values.
    - `data`: the data, passed to `nll` as they are.
    - `up`: 0.5 for minus log L (and for chi2/2), 1.0 for a chi2.
    - `kind`: `"hesse"`, or `"sandwich"` for the robust covariance H⁻¹JH⁻¹ of weighted events or of a likelihood that is
        only approximate (see `mx.fit`). For migrax's likelihoods it is scaled by 2 `up`, as `"hesse"` is.

    On a kink that the likelihood declares (`mx.Likelihood(kinks=...)`) the derivatives are the mean of the two sides.

    Bounds are ignored: unlike in the covariance of `mx.fit`, a parameter on its bound has a variance here.

    **Returns:** a `Covariance`, whose `matrix`, of shape `(n_free, n_free)`, is 2 UP H⁻¹ (times chi2/ndof for points
    with unknown errors, see `mx.LeastSquares`). It is NaN, and not `valid`, if the Hessian is not finite or not
    positive definite.

    **Raises:** `ValueError`, `TypeError` as `mx.fit` does.
    """
    likelihood = as_likelihood(nll)
    params, data = prepare_params(params), prepare_data(data)
    check_kind(kind, "kind")
    inputs = (likelihood, params, data, check_up(up))
    covariance, x = _hesse_on_host(*inputs) or _hesse(*inputs)
    if kind == "hesse" and likelihood.scale_is_unknown(data):
        scale = scale_of(2 * likelihood(resolve(params), data), likelihood.ndata(data) - x.size)
        valid = covariance.valid & jnp.isfinite(scale)
        return Covariance(covariance.matrix * scale, valid, covariance.names, "scaled")
    return covariance if kind == "hesse" else sandwich(likelihood, params, x, data, covariance, check_up(up))


@jit
def _hesse(nll: AbstractLikelihood, params: PyTree, data: PyTree, up: Scalar) -> tuple[Covariance, Array]:
    return _covariance_at(*objective(nll, params, data, up))


def _hesse_on_host(
    nll: AbstractLikelihood, params: PyTree, data: PyTree, up: Scalar
) -> tuple[Covariance, Array] | None:
    """As `_hesse`, by NumPy; `None` where it has to be a program."""
    inputs = inputs_of(nll, params, data, up)
    if not is_for_host(inputs):
        return None
    jaxprs = traced(nll, params, data, up, False)
    functions = jaxprs.at(inputs, 0) if jaxprs.is_usable and not jaxprs.repeats.is_ready("hesse") else None
    if functions is None:
        return None
    start_time = time.perf_counter()
    try:
        with on_host():
            x, space = start_and_space(nll, as_numpy(params))
            out = _covariance_at(functions[0], None, x, space)
    except TooLong:
        return None
    jaxprs.repeats.add("hesse", time.perf_counter() - start_time, lambda: _hesse(nll, params, data, up))
    return to_jax(out, jax.tree.leaves(inputs))


def _covariance_at(
    fn: Objective, theta: Theta | None, x: Float[Array, " n"], space: Space
) -> tuple[Covariance, Float[Array, " n"]]:
    at = expand_on_average(fn, x, theta, space.kinks)
    metric = decompose(at.hessian, at.gradient)
    # The value is not tested, because this would make long data a third slower.
    usable = metric.positive_definite & xp.all(xp.isfinite(at.gradient))
    matrix = covariance_matrix(at.hessian, metric, xp.zeros(x.shape, bool), usable)
    accuracy = accuracy_of(fn, x, theta, metric.root())
    return Covariance(matrix, usable, space.names, accuracy=accuracy), x
