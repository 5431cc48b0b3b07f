"""log CLs (or the p-value) above its level, as a function of the parameter of interest."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Scalar

from .._fit.status import Status
from . import formulas
from .limit_sides import LimitProblem, Sides, sides_of


class Curve(NamedTuple):
    """log CLs above its level as a function of the parameter of interest."""

    sides: Sides
    minima: Float[Array, "2 n"]  # the free fits of the data and of the Asimov data
    error: Scalar  # of the parameter; if it has none, its size
    best: Scalar
    below: Scalar  # -2 log of the ratio at 0, where the estimate is negative and counts as 0
    at: Scalar  # the alternative, where nothing is excluded
    upper: Scalar  # bound
    log_alpha: Scalar
    distances: Float[Array, "5"]  # standard deviations from the alternative at the limits that are expected
    valid: Bool[Array, ""]  # all of the fits that it rests on
    tilde: bool
    cls: bool

    def excess(self, lane: Array, mu: Scalar, q: Scalar, q_a: Scalar) -> Scalar:
        """Falls with mu; 0 at the limit."""
        q = jnp.where(mu < self.best, 0.0, jnp.maximum(q - self.below, 0.0))
        r_a = formulas.root(q_a)
        off = -jnp.asarray(formulas.BANDS, r_a.dtype)[jnp.maximum(lane - 1, 0)]
        far = jnp.where(lane == 0, formulas.distance(q, q_a, self.tilde), off)
        log_sb, log_b = formulas.log_p_one_sided(far, r_a)
        return log_sb - (log_b if self.cls else 0.0) - self.log_alpha

    def look(
        self, lane: Array, mu: Scalar, near: Float[Array, "2 n"], skip: Bool[Array, "2"], robust: bool
    ) -> "Height":
        """At `mu`, from conditional fits nearby to the data and to the Asimov data, unless they are skipped."""
        point = self.sides.at(mu, near, skip, robust)
        q, slope = (jnp.where(lane == 0, a[0], 0.0) for a in (point.q, point.slope))
        q_a, slope_a = point.q[1], point.slope[1]
        height = self.excess(lane, mu, q, q_a)
        by_q, by_q_a = jax.grad(self.excess, argnums=(2, 3))(lane, mu, q, q_a)
        good = point.good[1] & ((lane > 0) | point.good[0]) & jnp.isfinite(height)
        return Height(height, by_q * slope + by_q_a * slope_a, formulas.root(q_a), point.x, good)


class Height(NamedTuple):
    value: Scalar
    slope: Scalar
    r_a: Scalar  # how many standard deviations from the alternative
    x: Float[Array, "2 n"]
    good: Bool[Array, ""]


def curve_of(problem: LimitProblem, tilde: bool, cls: bool) -> Curve:
    found, there = problem.found, problem.there
    fits = (found.free, there.free)
    sides = sides_of(problem)
    minima = lax.stop_gradient(jnp.stack([fit.values for fit in fits]))
    best, error = found.free.values[problem.index], lax.stop_gradient(found.free.errors[problem.index])
    error = jnp.where(error > 0, error, jnp.maximum(jnp.abs(lax.stop_gradient(best)), 1.0))
    negative = (best < 0) & tilde
    below = jnp.where(negative, found.rise[0], 0.0)
    valid = (there.status == int(Status.VALID)) & ((found.status[0] == int(Status.VALID)) | ~negative)
    valid &= found.free.valid & there.free.valid
    at, log_alpha = problem.at[0].astype(best.dtype), jnp.log(problem.alpha).astype(best.dtype)
    distances = problem.distances.astype(best.dtype)
    upper = found.free.upper[problem.index]
    return Curve(sides, minima, error, best, below, at, upper, log_alpha, distances, valid, tilde, cls)
