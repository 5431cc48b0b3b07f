"""Functions `fn(y, args)` of pytrees as functions of one vector, and their derivatives."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Scalar

from .._host.xp import is_on_host
from .._util.typing import PyTree
from .tangents import BUDGET, bytes_of_one, tangents_at_once

# From so many parameters on, Hessians are made in blocks.
MANY = 256


class Differentiated(abc.ABC):
    """A function of a vector that computes its derivatives itself, for solvers that run on the host."""

    @abc.abstractmethod
    def __call__(self, x: Any, args: Any = None) -> Any:
        """The value; `args` are ignored."""

    @abc.abstractmethod
    def value_and_gradient(self, x: Any) -> tuple[Any, Any]: ...

    @abc.abstractmethod
    def expansion(self, x: Any) -> tuple[Any, Any, Any]:
        """Value, gradient and Hessian."""

    @abc.abstractmethod
    def product_at(self, x: Any) -> Callable[[Any], Any]:
        """The function that multiplies a vector by the Hessian at `x`."""


class WithJacobian(abc.ABC):
    """Residuals as a function of a vector that computes its Jacobian itself, for solvers that run on the host."""

    @abc.abstractmethod
    def values_and_jacobian(self, x: Any) -> tuple[Any, Any]:
        """Arrays of shapes `(m,)` and `(m, n)`."""


Vector = Float[Array, " n"]
Matrix = Float[Array, "n n"]


def flatten(y: PyTree) -> tuple[Vector, Callable[[Vector], PyTree]]:
    """`y` as a vector, and the function that restores the pytree."""
    if is_on_host():
        return y, lambda x: x
    vector, unravel = ravel_pytree(y)
    if vector.size == 0 or not jnp.issubdtype(vector.dtype, jnp.floating):
        raise ValueError(f"y must hold at least one number, and real ones only, got {jax.eval_shape(lambda: y)}")
    return vector, unravel


def flatten_fn(
    fn: Callable | Differentiated, y: PyTree, args: PyTree
) -> tuple[Vector, Callable, Callable[[Vector], tuple[Scalar, Any]] | Differentiated]:
    """`y` as a vector, the function that restores it, and `fn` of the vector, which returns `(value, aux)`."""
    vector, unravel = flatten(y)
    if isinstance(fn, Differentiated):
        return vector, unravel, fn

    def flat(x: Vector) -> tuple[Scalar, Any]:
        value, aux = fn(unravel(x), args)
        return value.astype(vector.dtype), aux

    return vector, unravel, flat


def autodiff_mode(options: dict[str, Any], default: str = "bwd") -> str:
    mode = options.get("autodiff_mode", default)
    if mode not in ("fwd", "bwd"):
        raise ValueError(f"options['autodiff_mode'] must be 'fwd' or 'bwd', got {mode!r}")
    return mode


def value_and_aux(flat: Callable | Differentiated, x: Vector) -> tuple[Scalar, Any]:
    return (flat(x), None) if isinstance(flat, Differentiated) else flat(x)


def value_and_grad(flat: Callable | Differentiated, x: Vector, mode: str) -> tuple[Scalar, Vector, Any]:
    """Value, gradient and aux from one linearisation: one copy of the function in the program."""
    if isinstance(flat, Differentiated):
        return *flat.value_and_gradient(x), None
    if mode == "fwd":
        push = lambda direction: jax.jvp(flat, (x,), (direction,), has_aux=True)  # noqa: E731
        return jax.vmap(push, out_axes=(None, 0, None))(jnp.eye(x.size, dtype=x.dtype))
    value, linear, aux = jax.linearize(flat, x, has_aux=True)
    (grad,) = jax.linear_transpose(linear, x)(jnp.ones_like(value))
    return value, grad, aux


def value_grad_and_product_fn(
    flat: Callable | Differentiated, x: Vector, mode: str
) -> tuple[Scalar, Vector, Callable[[Vector], Vector], Any]:
    """As `value_and_grad`, and the function that multiplies a vector by the exact Hessian."""
    if isinstance(flat, Differentiated):
        return *flat.value_and_gradient(x), flat.product_at(x), None

    def gradient(v: Vector) -> tuple[Vector, tuple[Scalar, Any]]:
        value, grad, aux = value_and_grad(flat, v, mode)
        return grad, (value, aux)

    grad, linear, (value, aux) = jax.linearize(gradient, x, has_aux=True)
    return value, grad, linear, aux


def value_grad_and_hessian_fn(
    flat: Callable | Differentiated, x: Vector, mode: str
) -> tuple[Scalar, Vector, Callable[[], Matrix], Any]:
    """As `value_and_grad`, and a function that computes the exact Hessian (forward over the gradient, symmetrised)."""
    if isinstance(flat, Differentiated):
        value, grad, matrix = flat.expansion(x)
        return value, grad, lambda: matrix, None

    value, grad, linear, aux = value_grad_and_product_fn(flat, x, mode)

    def hessian() -> Matrix:
        rows = _rows(linear, x)
        return 0.5 * (rows + rows.T)

    return value, grad, hessian, aux


def value_grad_hessian(flat: Callable | Differentiated, x: Vector, mode: str) -> tuple[Scalar, Vector, Matrix, Any]:
    """Value, gradient, exact Hessian and aux, from one copy of the function. The Hessian of many parameters is made of
    blocks of its rows."""
    if isinstance(flat, Differentiated):
        return *flat.expansion(x), None
    if x.size >= MANY:
        value, grad, hessian, aux = value_grad_and_hessian_fn(flat, x, mode)
        return value, grad, hessian(), aux

    def gradient(v: Vector) -> tuple[Vector, tuple[Scalar, Any]]:
        value, grad, aux = value_and_grad(flat, v, mode)
        return grad, (value, aux)

    def push(direction: Vector) -> tuple[Vector, Vector, tuple[Scalar, Any]]:
        return jax.jvp(gradient, (x,), (direction,), has_aux=True)

    grad, rows, (value, aux) = jax.vmap(push, out_axes=(None, 0, None))(jnp.eye(x.size, dtype=x.dtype))
    return value, grad, 0.5 * (rows + rows.T), aux


def _rows(linear: Callable[[Vector], Vector], x: Vector) -> Matrix:
    """The matrix of a linear function, row by row; where there are many, as many together as there is memory for."""
    unit = jnp.eye(x.size, dtype=x.dtype)
    together = x.size if x.size < MANY else tangents_at_once(x.size, bytes_of_one(linear, x), BUDGET)
    return jax.vmap(linear)(unit) if together >= x.size else jax.lax.map(linear, unit, batch_size=together)
