"""HESSE: the covariance from exact second derivatives."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Scalar

from .._derivatives.expansion import inverse
from .._derivatives.kinks import expand_on_average
from .._derivatives.one_mode import accuracy_of
from .._likelihoods.base import AbstractLikelihood, as_likelihood
from .._parameters.resolve import resolve
from .._solvers.metric import Metric, decompose
from .._util.jit import jit
from .._util.typing import PyTree
from .covariance import Covariance
from .objective import check_up, objective, prepare_data, prepare_params
from .sandwich import Kind, check_kind, sandwich


def covariance_matrix(
    hessian: Float[Array, "n n"], metric: Metric, active: Bool[Array, " n"], usable: Bool[Array, ""]
) -> Float[Array, "n n"]:
    """The inverse of a Hessian whose decomposition is at hand, over the parameters that are not at a bound: zero rows
    for those that are, NaN where the Hessian is not usable."""
    free = ~active & usable
    matrix = jnp.where(free[:, None] & free[None, :], metric.inverse(), 0.0)
    return jnp.where(usable, inverse(lax.stop_gradient(matrix), hessian), jnp.nan)


def scale_of(chi2: Array, ndof: Any) -> Array:
    """chi2/ndof, by which the covariance of points of unknown errors is scaled; NaN without a degree of freedom."""
    some = jnp.asarray(ndof) > 0
    return jnp.where(some, chi2 / jnp.where(some, ndof, 1), jnp.nan)


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
    - `data`: whatever `nll` takes.
    - `up`: 0.5 for minus log L (and for chi2/2), 1.0 for a chi2.
    - `kind`: `"hesse"`, or `"sandwich"` for the robust covariance H⁻¹JH⁻¹ of weighted events or a likelihood that is
        not quite right (see `mx.fit`). Of migrax's likelihoods it is scaled by 2 `up`, as the other.

    On a kink that the likelihood knows of (`mx.Likelihood(kinks=...)`) it is the mean of the two sides.

    Bounds play no part: unlike the covariance of `mx.fit`, a parameter on its bound has a variance here.

    **Returns:** a `Covariance`, `matrix` of shape `(n_free, n_free)` = 2 UP H⁻¹. It is NaN, and not `valid`, where the
    Hessian is not finite or not positive definite.

    **Raises:** `ValueError`, `TypeError` as `mx.fit` does.
    """
    likelihood = as_likelihood(nll)
    params, data = prepare_params(params), prepare_data(data)
    check_kind(kind, "kind")
    covariance, x = _hesse(likelihood, params, data, check_up(up))
    if kind == "hesse" and likelihood.scale_is_unknown(data):
        scale = scale_of(2 * likelihood(resolve(params), data), likelihood.ndata(data) - x.size)
        valid = covariance.valid & jnp.isfinite(scale)
        return Covariance(covariance.matrix * scale, valid, covariance.names, "scaled")
    return covariance if kind == "hesse" else sandwich(likelihood, params, x, data, covariance, check_up(up))


@jit
def _hesse(nll: AbstractLikelihood, params: PyTree, data: PyTree, up: Scalar) -> tuple[Covariance, Array]:
    fn, theta, x, space = objective(nll, params, data, up)
    at = expand_on_average(fn, x, theta, space.kinks)
    metric = decompose(at.hessian, at.gradient)
    # not the value: over long data it would cost a third more
    usable = metric.positive_definite & jnp.all(jnp.isfinite(at.gradient))
    matrix = covariance_matrix(at.hessian, metric, jnp.zeros(x.shape, bool), usable)
    accuracy = accuracy_of(fn, x, theta, metric.root())
    return Covariance(matrix, usable, space.names, accuracy=accuracy), x
