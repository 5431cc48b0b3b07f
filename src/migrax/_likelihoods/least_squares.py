"""Points with errors and a curve through them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree, Scalar

from .._chunks import chunked_sum
from .._faults import Fault
from .._hints import check_callable
from .._parameter import is_concrete, resolve


class Points(eqx.Module):
    """Measured points: `y` with standard errors `yerr` at `x`, which may have standard errors `xerr` of its own."""

    x: Float[Array, "n *dim"]
    y: Float[Array, " n"]
    yerr: Float[Array, " n"]
    xerr: Float[Array, "n *dim"] | None

    def __init__(self, x: ArrayLike, y: ArrayLike, yerr: ArrayLike, xerr: ArrayLike | None = None):
        """**Arguments:**

        - `x`: shape `(n,)`, or `(n, dim)` for several coordinates a point.
        - `y`: shape `(n,)`.
        - `yerr`: a positive number or shape `(n,)`, in the units of `y`.
        - `xerr`: `None`, or a number or an array of the shape of `x`, in the units of `x`.

        **Raises:** `ValueError` for shapes that do not fit together or errors that are not positive.
        """
        self.x, self.y = _floats(x), _floats(y)
        if self.y.ndim != 1 or self.x.ndim not in (1, 2) or self.x.shape[:1] != self.y.shape:
            many = self.y.ndim == 2 and self.y.shape[1:] == self.x.shape[:1]
            hint = "; for many sets: jax.vmap(lambda y: mx.fit(nll, params, mx.Points(x, y, yerr)))(ys)" if many else ""
            raise ValueError(
                f"x must have shape (n,) or (n, dim) and y (n,), got {self.x.shape} and {self.y.shape}{hint}"
            )
        self.yerr = _error(yerr, self.y, "yerr", allow_zero=False)
        self.xerr = None if xerr is None else _error(xerr, self.x, "xerr", allow_zero=True)

    @property
    def size(self) -> int:
        """The number of points."""
        return self.y.shape[0]


def _floats(a: ArrayLike) -> Array:
    a = jnp.asarray(a)
    return a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(jnp.result_type(float))


def _error(error: ArrayLike, like: Array, name: str, *, allow_zero: bool) -> Array:
    array = jnp.asarray(error, dtype=like.dtype)
    if array.shape not in ((), like.shape):
        raise ValueError(f"{name} must be a number or have shape {like.shape}, got {array.shape}")
    array = jnp.broadcast_to(array, like.shape)
    if is_concrete(array):
        bad = ~(np.asarray(array) >= 0 if allow_zero else np.asarray(array) > 0)
        if np.any(bad):
            where = np.unravel_index(int(np.argmax(bad)), bad.shape)
            index = ", ".join(map(str, where))
            raise ValueError(f"{name} must be positive, but {name}[{index}] is {np.asarray(array)[where]}")
    return array


class LeastSquares(eqx.Module):
    """A curve `model(params, x)` through points with errors. Its value is chi2/2, so that it adds to any other term.

        chi2 = sum((y - f(x))^2 / (yerr^2 + (f'(x) xerr)^2))

    Errors of `x` are propagated through the model's slope ("effective variance"; J. Orear, Am. J. Phys. 50 (1982)
    912), by automatic differentiation.

    ```python
    line = mx.LeastSquares(lambda p, x: p["a"] + p["b"] * x)
    mx.fit(line, {"a": 0.0, "b": 1.0}, mx.Points(x, y, yerr=0.1))
    ```

    **Arguments:**

    - `model`: `model(params, x) -> (n,)`, the curve at the points; each row of `x` must matter to its own value alone.
        The method of an `eqx.Module` is given unbound, `Line.__call__`.
    - `chunk_size`: if given, the sum is streamed over this many points at a time (see `mx.chunked_sum`).

    **Raises:** `TypeError` if `model` cannot be called with two arguments.
    """

    model: Callable[[Any, Array], Array]
    chunk_size: int | None = eqx.field(static=True, default=None)
    is_chi2: bool = eqx.field(static=True, default=True, init=False, repr=False)

    def __check_init__(self):
        check_callable(self.model, "the model of LeastSquares", "model(params, x)")

    def __call__(self, params: PyTree, data: Points) -> Scalar:
        """chi2/2 of the points `data`."""
        _check_points(data)
        return chunked_sum(self.terms, params, data, chunk_size=self.chunk_size)

    def terms(self, params: PyTree, data: Points) -> Float[Array, " n"]:
        """The likelihood's terms, half the squares of the residuals."""
        return 0.5 * self.residuals(params, data) ** 2

    def residuals(self, params: PyTree, data: Points) -> Float[Array, " n"]:
        """(y - f(x)) / error, shape `(n,)`: the residuals that Optimistix's least-squares solvers take."""
        _check_points(data)
        if data.xerr is None:
            f, variance = self._curve(params, data.x, data.y), data.yerr**2
        else:
            f, variance = self._with_x_errors(params, data)
        return (data.y - f) / jnp.sqrt(variance)

    def _curve(self, params: PyTree, x: Array, y: Array) -> Array:
        f = jnp.asarray(self.model(resolve(params), x))
        if f.shape != y.shape:
            raise ValueError(f"model(params, x) has shape {f.shape}, y has {y.shape}; they must be the same")
        return f.astype(y.dtype)

    def _with_x_errors(self, params: PyTree, data: Points) -> tuple[Array, Array]:
        xerr = data.xerr
        assert xerr is not None
        curve = lambda x: self._curve(params, x, data.y)  # noqa: E731
        if data.x.ndim == 1:
            f, spread = jax.jvp(curve, (data.x,), (xerr,))
            return f, data.yerr**2 + spread**2
        f, linear = jax.linearize(curve, data.x)
        one = jnp.eye(data.x.shape[1], dtype=xerr.dtype)
        spreads = jax.vmap(lambda column: linear(xerr * column[None, :]))(one)
        return f, data.yerr**2 + jnp.sum(spreads**2, axis=0)

    def expected_data(self, params: PyTree, data: Points) -> Points:
        """The points moved onto the curve: the Asimov data."""
        return Points(data.x, self._curve(params, data.x, data.y), data.yerr, data.xerr)

    def faults(self, params: PyTree, data: Points) -> PyTree:
        """For each array of `data` what makes the likelihood infinite or NaN there, `Fault` numbers, for messages."""
        none = jax.tree.map(lambda a: jnp.full(a.shape, int(Fault.NONE)), data)
        curve = self._curve(params, data.x, data.y)
        code = jnp.where(jnp.isfinite(curve), int(Fault.NONE), int(Fault.EXPECTED_NOT_FINITE))
        return eqx.tree_at(lambda points: points.y, none, code)

    def ndata(self, data: Points) -> int:
        return data.size


def _check_points(data: Any) -> None:
    if not isinstance(data, Points):
        raise TypeError(f"LeastSquares takes mx.Points(x, y, yerr) as data, got {type(data).__name__}")
