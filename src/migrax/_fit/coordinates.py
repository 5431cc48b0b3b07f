"""On the host: objectives in other coordinates, with the chain rule for their derivatives."""

from collections.abc import Callable
from typing import Any

from .._host import xp
from .._parameters.space import Space
from .._solvers.flat import Differentiated, WithJacobian


class Internal(Differentiated):
    """An objective above `offset`, in the internal coordinates of a space."""

    def __init__(self, fn: Differentiated, space: Space, offset: Any):
        self._fn, self._space, self._offset = fn, space, offset

    def __call__(self, x: Any, args: Any = None) -> Any:
        return self._fn(self._space.external(x)) - self._offset

    def value_and_gradient(self, x: Any) -> tuple[Any, Any]:
        value, gradient = self._fn.value_and_gradient(self._space.external(x))
        return value - self._offset, self._space.slopes(x)[0] * gradient

    def expansion(self, x: Any) -> tuple[Any, Any, Any]:
        value, gradient, hessian = self._fn.expansion(self._space.external(x))
        slope, curvature = self._space.slopes(x)
        hessian = slope[:, None] * hessian * slope[None, :] + xp.diag(curvature * gradient)
        return value - self._offset, slope * gradient, hessian

    def product_at(self, x: Any) -> Callable[[Any], Any]:
        at = self._space.external(x)
        product = self._fn.product_at(at)
        if not self._space.has_bounds:
            return product
        slope, curvature = self._space.slopes(x)
        bend = curvature * self._fn.value_and_gradient(at)[1]
        return lambda v: slope * product(slope * v) + bend * v


class Affine(Differentiated):
    """A function at `origin + root @ x`."""

    def __init__(self, fn: Differentiated, origin: Any, root: Any):
        self._fn, self._origin, self._root = fn, origin, root

    def __call__(self, x: Any, args: Any = None) -> Any:
        return self._fn(self._origin + self._root @ x)

    def value_and_gradient(self, x: Any) -> tuple[Any, Any]:
        value, gradient = self._fn.value_and_gradient(self._origin + self._root @ x)
        return value, self._root.T @ gradient

    def expansion(self, x: Any) -> tuple[Any, Any, Any]:
        value, gradient, hessian = self._fn.expansion(self._origin + self._root @ x)
        return value, self._root.T @ gradient, self._root.T @ hessian @ self._root

    def product_at(self, x: Any) -> Callable[[Any], Any]:
        product = self._fn.product_at(self._origin + self._root @ x)
        return lambda v: self._root.T @ product(self._root @ v)


class InternalResiduals(WithJacobian):
    """Residuals at the internal coordinates `origin + root @ x` of a space."""

    def __init__(self, residuals: WithJacobian, space: Space, origin: Any, root: Any):
        self._residuals, self._space, self._origin, self._root = residuals, space, origin, root

    def values_and_jacobian(self, x: Any) -> tuple[Any, Any]:
        q = self._origin + self._root @ x
        values, jacobian = self._residuals.values_and_jacobian(self._space.external(q))
        return values, (jacobian * self._space.slopes(q)[0][None, :]) @ self._root


class Held(Differentiated):
    """An objective with the parameters `which` held at their values `at`, where a parabola of width `scale` has its
    minimum."""

    def __init__(self, fn: Differentiated, which: Any, at: Any, scale: Any):
        self._fn, self._which, self._at, self._scale = fn, which, at, scale

    def _parabola(self, x: Any) -> tuple[Any, Any, Any]:
        distance = xp.where(self._which, (x - self._at) / self._scale, 0.0)
        return xp.where(self._which, self._at, x), 0.5 * xp.sum(distance**2), distance / self._scale

    def __call__(self, x: Any, args: Any = None) -> Any:
        point, parabola, _ = self._parabola(x)
        return self._fn(point) + parabola

    def value_and_gradient(self, x: Any) -> tuple[Any, Any]:
        point, parabola, slope = self._parabola(x)
        value, gradient = self._fn.value_and_gradient(point)
        return value + parabola, xp.where(self._which, slope, gradient)

    def expansion(self, x: Any) -> tuple[Any, Any, Any]:
        point, parabola, slope = self._parabola(x)
        value, gradient, hessian = self._fn.expansion(point)
        free = ~self._which
        hessian = xp.where(free[:, None] & free[None, :], hessian, xp.diag(xp.where(free, 0.0, 1 / self._scale**2)))
        return value + parabola, xp.where(self._which, slope, gradient), hessian

    def product_at(self, x: Any) -> Callable[[Any], Any]:
        product = self._fn.product_at(self._parabola(x)[0])
        return lambda v: xp.where(self._which, v / self._scale**2, product(xp.where(self._which, 0.0, v)))
