"""HESSE: the covariance from exact second derivatives."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Scalar

from ._derivatives import expand
from ._objective import check_up, objective, prepare
from ._result import Covariance
from ._solvers.metric import decompose


def covariance_matrix(
    hessian: Float[Array, "n n"], active: Bool[Array, " n"], usable: Bool[Array, ""]
) -> Float[Array, "n n"]:
    """The inverse of a Hessian over the parameters that are not at a bound: zero rows for those that are, NaN where
    the Hessian is not usable. Differentiable also where it is not."""
    n = hessian.shape[0]
    one = jnp.eye(n, dtype=hessian.dtype)
    free = ~active
    block = free[:, None] & free[None, :]
    safe = jnp.where(usable & block, hessian, one)
    scale = jnp.sqrt(jnp.diagonal(safe))
    scale = jnp.where(usable, scale, 1.0)
    inverse = jnp.linalg.inv(safe / (scale[:, None] * scale[None, :]))
    matrix = 0.5 * (inverse + inverse.T) / (scale[:, None] * scale[None, :])
    return jnp.where(usable, jnp.where(block, matrix, 0.0), jnp.nan)


def hesse(
    nll: Callable[[Any, Any], ArrayLike], params: PyTree, data: PyTree = None, *, up: ArrayLike = 0.5
) -> Covariance:
    """The covariance matrix from the exact second derivatives at `params`, which need not be a minimum.

    **Arguments:**

    - `nll`: `nll(params, data) -> scalar`, minus the log of the likelihood.
    - `params`: a tree of `mx.Parameter`s or of floats; the derivatives are taken at its values.
    - `data`: whatever `nll` takes.
    - `up`: 0.5 for minus log L (and for chi2/2), 1.0 for a chi2.

    **Returns:** a `Covariance`, `matrix` of shape `(n_free, n_free)` = 2 UP H⁻¹. It is NaN, and not `valid`, where the
    Hessian is not finite or not positive definite.

    **Raises:** `ValueError`, `TypeError` as `mx.fit` does.
    """
    params, data = prepare(params, data)
    return _hesse(nll, params, data, check_up(up))


@eqx.filter_jit
def _hesse(nll: Callable, params: PyTree, data: PyTree, up: Scalar) -> Covariance:
    fn, theta, x, space = objective(nll, params, data, up)
    at = expand(fn, x, theta)
    usable = decompose(at.hessian, at.gradient).positive_definite & jnp.isfinite(at.value)
    matrix = covariance_matrix(at.hessian, jnp.zeros(x.shape, bool), usable)
    return Covariance(matrix, usable, space.names)
