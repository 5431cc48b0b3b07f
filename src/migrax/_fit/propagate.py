"""Errors of functions of the fitted parameters, by automatic differentiation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .._host.evaluated import evaluated
from .._parameters.space import resolve_at
from .._util.typing import PyTree
from .result import FitResult, check_has_covariance


def propagate(fn: Callable[[Any], PyTree], result: FitResult) -> tuple[PyTree, Float[Array, "..."]]:
    """The value of a function of the fitted parameters, and its covariance to first order, J C Jᵀ, where J is the exact
    Jacobian and C the covariance of the fit.

    ```python
    value, covariance = mx.propagate(lambda p: p["a"] + p["b"] * x, result)
    band = jnp.sqrt(jnp.diagonal(covariance))
    ```

    **Arguments:**

    - `fn`: `fn(params) -> out`, called with the resolved parameters, as a likelihood is; `out` is any pytree that holds
        `m` real numbers in total.
    - `result`: the result of `mx.fit`. Vmapped fits are all propagated; the values and covariances returned then have
        the same batch axes.

    **Returns:** `(value, covariance)`: `fn` at the fitted values, and the covariance of its `m` numbers, of shape
    `(m, m)` in the order of `jax.flatten_util.ravel_pytree`; if `out` is one number, its variance, of shape `()`. The
    covariance is NaN where the fit has no valid covariance.

    **Raises:** `TypeError` unless `result` is a fit and `fn` returns real numbers; `ValueError` for a result of
    `fit(hesse=False)`.
    """
    check_has_covariance(result, "propagate")

    return _propagate(fn, result)


@evaluated
def _propagate(fn: Callable[[Any], PyTree], result: FitResult) -> tuple[PyTree, Array]:
    def one(result: FitResult) -> tuple[PyTree, Array]:
        assert result.covariance is not None
        at = lambda x: fn(resolve_at(result.params, x))  # noqa: E731
        value = jax.tree.map(jnp.asarray, at(result.values))
        if any(not jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(value)):
            raise TypeError(
                f"propagate takes a function that returns real numbers, got {jax.eval_shape(lambda: value)}"
            )
        jacobian = jax.jacfwd(lambda x: ravel_pytree(at(x))[0])(result.values)
        covariance = jacobian @ result.covariance.matrix @ jacobian.T
        single = isinstance(value, jax.Array) and value.ndim == 0
        return value, covariance[0, 0] if single else covariance

    for _ in range(jnp.ndim(result.nll)):
        one = jax.vmap(one)
    return one(result)
