"""What every solver here does first: look at `fn(y, args)` of pytrees as a function of one vector, with derivatives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

Vector = Float[Array, " n"]


def flatten_fn(fn: Callable, y: PyTree, args: PyTree) -> tuple[Vector, Callable, Callable[[Vector], tuple[Array, Any]]]:
    """`y` as a vector, the way back, and `fn` as a function of the vector that returns `(value, aux)`."""
    vector, unravel = ravel_pytree(y)

    def flat(x: Vector) -> tuple[Array, Any]:
        value, aux = fn(unravel(x), args)
        return value.astype(vector.dtype), aux

    return vector, unravel, flat


def autodiff_mode(options: dict[str, Any]) -> str:
    mode = options.get("autodiff_mode", "bwd")
    if mode not in ("fwd", "bwd"):
        raise ValueError(f"options['autodiff_mode'] must be 'fwd' or 'bwd', got {mode!r}")
    return mode


def value_and_grad(flat: Callable, x: Vector, mode: str) -> tuple[Array, Vector, Any]:
    """Value, gradient and aux from one linearisation: one copy of the function in the program."""
    value, linear, aux = jax.linearize(flat, x, has_aux=True)
    if mode == "bwd":
        (grad,) = jax.linear_transpose(linear, x)(jnp.ones_like(value))
    else:
        grad = jax.vmap(linear)(jnp.eye(x.size, dtype=x.dtype))
    return value, grad, aux


def value_grad_hessian(flat: Callable, x: Vector, mode: str) -> tuple[Array, Vector, Float[Array, "n n"], Any]:
    """Value, gradient, exact Hessian (forward over the gradient, symmetrised) and aux, from one linearisation."""

    def gradient(v: Vector) -> tuple[Vector, tuple[Array, Any]]:
        value, grad, aux = value_and_grad(flat, v, mode)
        return grad, (value, aux)

    grad, linear, (value, aux) = jax.linearize(gradient, x, has_aux=True)
    hessian = jax.vmap(linear)(jnp.eye(x.size, dtype=x.dtype))
    return value, grad, 0.5 * (hessian + hessian.T), aux
