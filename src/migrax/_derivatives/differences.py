"""The Jacobian of a gradient by differences, with steps that come from the curvature and an estimate of the error."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Scalar

from .._util.typing import PyTree

_STEP = 1e-2  # errors: truncation falls with its fourth power, rounding grows with its inverse
_TRIES = 6  # at finding the curvature: each a factor of a thousand in the step

# Nodes in steps, and weights of the gradients there: fourth order, then second order (W. H. Press et al., Numerical
# Recipes, section 5.7; B. Fornberg, Math. Comp. 51 (1988) 699, tables 1 and 3), central and on one side of a bound.
_NODES = np.array([[-2.0, -1.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0], [-1.0, -2.0, -3.0, -4.0]])
_AT = np.array([0.0, -25 / 12, 25 / 12])  # of the gradient at the point itself
_WEIGHTS = np.array([[1 / 12, -2 / 3, 2 / 3, -1 / 12], [4.0, -3.0, 4 / 3, -1 / 4], [-4.0, 3.0, -4 / 3, 1 / 4]])
_LOW_AT = np.array([0.0, -1.5, 1.5])
_LOW_WEIGHTS = np.array([[0.0, -0.5, 0.5, 0.0], [2.0, -0.5, 0.0, 0.0], [-2.0, 0.5, 0.0, 0.0]])


def gradient_differences(
    gradient: Callable[[Float[Array, " n"]], tuple[PyTree, Float[Array, " n"]]],
    x: Float[Array, " n"],
    lower: Float[Array, " n"],
    upper: Float[Array, " n"],
) -> tuple[PyTree, PyTree]:
    """Derivatives of a gradient along each number of `x`, of fourth order, within the bounds.

    **Arguments:**

    - `gradient`: of `x`, returns any tree of arrays, and the derivatives along `x` itself.

    **Returns:** the tree with a leading axis of n, and by how much the derivatives of second order differ from it.
    """
    here, along = gradient(x)

    def row(i: Array) -> tuple[PyTree, PyTree]:
        step = _step(lambda v: gradient(v)[1][i], x, i, along[i], lower[i], upper[i])
        side = _side(x[i], 2 * step, lower[i], upper[i])
        nodes, weights, low = (jnp.asarray(a, x.dtype)[side] for a in (_NODES, _WEIGHTS, _LOW_WEIGHTS))
        points = lax.map(lambda node: gradient(x.at[i].add(node * step))[0], nodes)

        def combine(at: np.ndarray, weights: Array) -> PyTree:
            own = jnp.asarray(at, x.dtype)[side]
            return jax.tree.map(lambda g, p: (own * g + jnp.tensordot(weights, p, 1)) / step, here, points)

        best = combine(_AT, weights)
        return best, jax.tree.map(jnp.subtract, combine(_LOW_AT, low), best)

    return lax.map(row, jnp.arange(x.size))


def _side(x: Scalar, reach: Scalar, lower: Scalar, upper: Scalar) -> Array:
    """0: central; 1, 2: away from the lower, the upper bound."""
    return jnp.where(x - reach < lower, 1, jnp.where(x + reach > upper, 2, 0))


def _step(slope: Callable[[Array], Scalar], x: Array, i: Array, here: Scalar, lower: Scalar, upper: Scalar) -> Scalar:
    """A hundredth of an error, which is where the slope has changed by a hundredth of its inverse."""
    eps = jnp.finfo(x.dtype).eps
    size = jnp.where(x[i] != 0, jnp.abs(x[i]), 1.0)
    least = 1e3 * eps * size
    room = 0.2 * jnp.maximum(upper - x[i], x[i] - lower)  # one side has room for four steps

    def proposed(step: Scalar) -> Scalar:
        away = jnp.where(x[i] + step > upper, -step, step)
        curvature = jnp.abs((slope(x.at[i].add(away)) - here) / away)
        found = _STEP / jnp.sqrt(jnp.where(curvature > 0, curvature, jnp.nan))
        return jnp.where(jnp.isfinite(found), found, 1e-3 * step)

    def again(carry: tuple[Scalar, Scalar, Array]) -> tuple[Scalar, Scalar, Array]:
        step, _, tries = carry
        return jnp.clip(proposed(step), least, room), step, tries + 1

    def wrong(carry: tuple[Scalar, Scalar, Array]) -> Array:
        step, before, tries = carry
        return (tries < _TRIES) & ~((step > 0.5 * before) & (step < 2 * before))

    start = jnp.clip(eps ** (1 / 3) * size, least, room)
    step, _, _ = lax.while_loop(wrong, again, (start, jnp.full_like(start, jnp.inf), jnp.array(0)))
    return step
