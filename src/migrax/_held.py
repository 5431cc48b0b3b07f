"""Fits with some parameters held at given values: profiles, impacts, and crossings that are hard to find.

Which ones are held may be traced, so that all lanes of a `vmap` are one program: the fit keeps its number of
parameters, the held ones are replaced by their values inside the objective, and a parabola gives them a minimum there.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from ._inner import Problem
from ._minimum import Minimum
from ._solve import solve, stationarity
from ._solvers import Migrad
from ._space import Space


class Hold(NamedTuple):
    """Which parameters are held, and where."""

    which: Bool[Array, " n"]
    at: Float[Array, " n"]  # the values; what stands at the other parameters' places is not looked at
    scale: Float[Array, " n"]  # their errors, or about


class Refit(NamedTuple):
    """The end of a fit with parameters held."""

    x: Float[Array, " n"]
    value: Scalar  # of the objective
    status: Int[Array, ""]


def refit(minimum: Minimum, rows: Float[Array, "k n"], at: Float[Array, " n"], start: Float[Array, " n"]) -> Refit:
    """Minimises over the other parameters, from `start`, with exact second derivatives for the verdict.

    `rows` are unit vectors, of the parameters that are held.

    Differentiable, by the implicit function theorem, with respect to `at`, the data, and all else of the objective.
    """
    which = jnp.any(rows != 0, axis=0)
    size = jnp.where(minimum.errors > 0, minimum.errors, 1.0)
    hold = Hold(which, at, lax.stop_gradient(size))
    fn = minimum.fn

    def held(x: Array, inputs: tuple[PyTree, Hold]) -> Scalar:
        theta, h = inputs
        parabola = 0.5 * jnp.sum(jnp.where(h.which, (x - h.at) / h.scale, 0.0) ** 2)
        return fn(jnp.where(h.which, h.at, x), theta) + parabola

    x = lax.stop_gradient(jnp.where(which, at, start))
    held = eqx.filter_closure_convert(held, x, (minimum.theta, hold))
    adjoint = optx.ImplicitAdjoint()
    n = x.size
    problem = Problem(
        held,
        None,
        (minimum.theta, hold),
        x,
        without_bounds(minimum.space, which),
        _metric(minimum, rows, which, hold.scale),
        Migrad(),
        adjoint,
        200 + 100 * n + 5 * n**2,
    )
    x, outcome = adjoint.apply(solve, stationarity, tuple(problem), frozenset())
    x = jnp.where(which, at, x)
    return Refit(x, fn(x, minimum.theta), outcome.status)


def _metric(minimum: Minimum, rows: Array, which: Array, scale: Array) -> Array:
    v = conditional(minimum.covariance, rows)
    v = jnp.where(which[:, None] | which[None, :], 0.0, v)
    return v + jnp.diag(jnp.where(which, scale**2, 0.0))


def conditional(covariance: Float[Array, "n n"], rows: Float[Array, "k n"]) -> Float[Array, "n n"]:
    """The covariance if `rows @ x` are held: zero across them."""
    for row in rows:
        v = covariance @ row
        variance = row @ v
        there = variance > 0
        covariance = covariance - jnp.where(there, jnp.outer(v, v) / jnp.where(there, variance, 1.0), 0.0)
    return covariance


def without_bounds(space: Space, which: Bool[Array, " n"]) -> Space:
    """The space without the bounds of some of its parameters."""
    if not space.has_bounds:
        return space
    lower, upper = jnp.where(which, -jnp.inf, space.lower), jnp.where(which, jnp.inf, space.upper)
    return eqx.tree_at(lambda s: (s.lower, s.upper), space, (lower, upper))
