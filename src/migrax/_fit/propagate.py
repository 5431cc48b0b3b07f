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
    """The value of a function of the fitted parameters and its covariance to first order, J C Jᵀ, with the exact
    Jacobian J.

    ```python
    value, covariance = mx.propagate(lambda p: p["a"] + p["b"] * x, result)
    band = jnp.sqrt(jnp.diagonal(covariance))
    ```

    **Arguments:**

    - `fn`: `fn(params) -> out`, called with the resolved parameters as a likelihood is; `out` is any pytree of `m` real
        numbers in all.
    - `result`: the result of `mx.fit`. For vmapped fits, all are propagated, with the same leading axes.

    **Returns:** `fn` at the fitted values, and the covariance of its numbers: shape `(m, m)` in the order of
    `jax.flatten_util.ravel_pytree`, or the variance alone, shape `()`, if `out` is one number. NaN where the fit has no
    valid covariance.

    **Raises:** `TypeError` unless `result` is a fit and `fn` returns real numbers; `ValueError` for `hesse=False`.
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
