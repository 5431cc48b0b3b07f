"""The Jacobian of a gradient by finite differences, with steps set by the curvature, and an estimate of its error."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Scalar

from .._util.typing import PyTree

_STEP = 1e-2  # in errors: the truncation error scales as its fourth power, rounding as its inverse
_MAX_TRIES = 6  # iterations to find the curvature, each of which can change the step by a factor of a thousand

# Nodes in steps, and weights of the gradients there: fourth order, then second order (W. H. Press et al., Numerical
# Recipes, section 5.7; B. Fornberg, Math. Comp. 51 (1988) 699, tables 1 and 3), central and on one side of a bound.
_NODES = np.array([[-2.0, -1.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0], [-1.0, -2.0, -3.0, -4.0]])
_CENTRE = np.array([0.0, -25 / 12, 25 / 12])  # the weight of the gradient at the point itself
_WEIGHTS = np.array([[1 / 12, -2 / 3, 2 / 3, -1 / 12], [4.0, -3.0, 4 / 3, -1 / 4], [-4.0, 3.0, -4 / 3, 1 / 4]])
_LOW_CENTRE = np.array([0.0, -1.5, 1.5])
_LOW_WEIGHTS = np.array([[0.0, -0.5, 0.5, 0.0], [2.0, -0.5, 0.0, 0.0], [-2.0, 0.5, 0.0, 0.0]])


def gradient_differences(
    gradient: Callable[[Float[Array, " n"]], tuple[PyTree, Float[Array, " n"]]],
    x: Float[Array, " n"],
    lower: Float[Array, " n"],
    upper: Float[Array, " n"],
) -> tuple[PyTree, PyTree]:
    """Fourth-order differences of a gradient along each number of `x`, within the bounds.

    **Arguments:**

    - `gradient`: a function of `x` that returns any tree of arrays, and the derivatives with respect to `x` itself.

    **Returns:** the differences, a tree with a leading axis of n, and those of second order minus them.
    """
    tree, slopes = gradient(x)

    def row(i: Array) -> tuple[PyTree, PyTree]:
        step = _step(lambda v: gradient(v)[1][i], x, i, slopes[i], lower[i], upper[i])
        stencil = _stencil(x[i], 2 * step, lower[i], upper[i])
        nodes, weights, low = (jnp.asarray(a, x.dtype)[stencil] for a in (_NODES, _WEIGHTS, _LOW_WEIGHTS))
        points = lax.map(lambda node: gradient(x.at[i].add(node * step))[0], nodes)

        def combine(centre_weights: np.ndarray, weights: Array) -> PyTree:
            centre = jnp.asarray(centre_weights, x.dtype)[stencil]
            return jax.tree.map(lambda g, p: (centre * g + jnp.tensordot(weights, p, 1)) / step, tree, points)

        best = combine(_CENTRE, weights)
        return best, jax.tree.map(jnp.subtract, combine(_LOW_CENTRE, low), best)

    return lax.map(row, jnp.arange(x.size))


def _stencil(x: Scalar, reach: Scalar, lower: Scalar, upper: Scalar) -> Array:
    """The index of the stencil: 0 central, 1 away from the lower bound, 2 away from the upper bound."""
    return jnp.where(x - reach < lower, 1, jnp.where(x + reach > upper, 2, 0))


def _step(
    slope: Callable[[Array], Scalar], x: Array, i: Array, slope_here: Scalar, lower: Scalar, upper: Scalar
) -> Scalar:
    """The step along number `i`: a hundredth of an error, over which the slope changes by 0.01 / error."""
    eps = jnp.finfo(x.dtype).eps
    size = jnp.where(x[i] != 0, jnp.abs(x[i]), 1.0)
    smallest = 1e3 * eps * size
    largest = 0.2 * jnp.maximum(upper - x[i], x[i] - lower)  # so that four steps fit on one side

    def proposed(step: Scalar) -> Scalar:
        inwards = jnp.where(x[i] + step > upper, -step, step)
        curvature = jnp.abs((slope(x.at[i].add(inwards)) - slope_here) / inwards)
        step_of_curvature = _STEP / jnp.sqrt(jnp.where(curvature > 0, curvature, jnp.nan))
        return jnp.where(jnp.isfinite(step_of_curvature), step_of_curvature, 1e-3 * step)

    def update(carry: tuple[Scalar, Scalar, Array]) -> tuple[Scalar, Scalar, Array]:
        step, _, tries = carry
        return jnp.clip(proposed(step), smallest, largest), step, tries + 1

    def is_unsettled(carry: tuple[Scalar, Scalar, Array]) -> Array:
        step, previous, tries = carry
        return (tries < _MAX_TRIES) & ~((step > 0.5 * previous) & (step < 2 * previous))

    start = jnp.clip(eps ** (1 / 3) * size, smallest, largest)
    step, _, _ = lax.while_loop(is_unsettled, update, (start, jnp.full_like(start, jnp.inf), jnp.array(0)))
    return step
