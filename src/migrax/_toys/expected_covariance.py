"""The expected covariance of the fits of toys, which is their metric: from the Hessian at the Asimov data or, for a
likelihood without Asimov data, from the mean Hessian of the first toys."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from .._derivatives.expansion import expand
from .._fit.objective import objective, start_and_space
from .._fit.traced import as_numpy, inputs_of, traced
from .._host.evaluated import evaluated
from .._host.hosted import hosted, is_for_host
from .._host.trips import TooLong
from .._host.xp import on_host
from .._solvers.metric import decompose
from .._util.arrays import to_jax
from .._util.jit import jit
from .._util.typing import PyTree
from .._util.unavailable import Unavailable
from .sample import asimov
from .source import Source

_TOYS = 32  # whose mean Hessian is taken where there are no Asimov data


def expected_covariance(nll: Any, params: PyTree, toy_source: Source, data: PyTree, up: Array) -> Float[Array, "n n"]:
    """Returns the expected covariance of a fit, forced positive definite."""
    return forced_inverse(expected_hessian(nll, params, toy_source, data, up))


def expected_hessian(nll: Any, params: PyTree, toy_source: Source, data: PyTree, up: Array) -> Float[Array, "n n"]:
    """Returns the expected Hessian of the NLL over 2 `up` at `params`; zero if it is not finite."""
    if nll.expected_data is not None:
        try:
            toy = _asimov(nll, toy_source.origin, data)
        except Unavailable:  # a part of the likelihood has no Asimov data
            pass
        else:
            return hessian_at(nll, params, toy, up)
    return _mean_hessian(nll, params, toy_source.batch(0, min(_TOYS, toy_source.n)), up)


def hessian_at(nll: Any, params: PyTree, toy: PyTree, up: Array) -> Float[Array, "n n"]:
    """Returns the Hessian of the NLL over 2 `up` for one toy; zero if it is not finite."""
    at_once = _on_host(nll, params, toy, up)
    return _mean_hessian(nll, params, jax.tree.map(lambda a: a[None], toy), up) if at_once is None else at_once


@hosted
def forced_inverse(hessian: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Returns the inverse of a Hessian, forced positive definite."""
    return decompose(hessian, jnp.ones(hessian.shape[0], hessian.dtype)).inverse()


@evaluated
def _asimov(nll: Any, origin: PyTree, data: PyTree) -> PyTree:
    return jax.tree.map(jnp.asarray, asimov(nll, origin, data=data))


def _on_host(nll: Any, params: PyTree, toy: PyTree, up: Array) -> Array | None:
    """The Hessian by NumPy; `None` where it has to be a program."""
    inputs = inputs_of(nll, params, toy, up)
    if not is_for_host(inputs):
        return None
    jaxprs = traced(nll, params, toy, up, False)
    functions = jaxprs.at(inputs, 0) if jaxprs.is_usable else None
    if functions is None:
        return None
    try:
        with on_host():
            x, _ = start_and_space(nll, as_numpy(params))
            _, gradient, hessian = functions[0].expansion(x)
            return to_jax(_mean(hessian[None], gradient[None]), jax.tree.leaves(inputs))
    except TooLong:
        return None


@jit
def _mean_hessian(nll: Any, params: PyTree, toys: PyTree, up: Scalar) -> Float[Array, "n n"]:
    def hessian(toy: PyTree) -> tuple[Array, Array]:
        fn, theta, x, _ = objective(nll, params, toy, up)
        expansion = expand(fn, x, theta)
        return expansion.hessian, expansion.gradient

    return _mean(*jax.vmap(hessian)(toys))


@hosted
def _mean(hessians: Float[Array, "m n n"], gradients: Float[Array, "m n"]) -> Float[Array, "n n"]:
    """The mean of those that are finite."""
    is_finite = jnp.all(jnp.isfinite(hessians), axis=(1, 2)) & jnp.all(jnp.isfinite(gradients), axis=1)
    return jnp.sum(jnp.where(is_finite[:, None, None], hessians, 0.0), axis=0) / jnp.maximum(jnp.sum(is_finite), 1)
