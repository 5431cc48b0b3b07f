"""The excess of log CLs (or of the log p-value) over its level, as a function of the parameter of interest."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Scalar

from .._fit.status import Status
from . import formulas
from .limit_sides import LimitProblem, Sides, sides_of


class Curve(NamedTuple):
    """The excess of log CLs over its level as a function of the parameter of interest."""

    sides: Sides
    minima: Float[Array, "2 n"]  # free fits to the data and to the Asimov data
    error: Scalar  # of the parameter, or its size if it has no error
    best: Scalar
    rise_at_zero: Scalar  # -2 log of the ratio at 0 for a negative estimate, which counts as 0; else 0
    alternative: Scalar  # where nothing is excluded
    upper: Scalar  # bound
    log_alpha: Scalar
    distances: Float[Array, "5"]  # of the expected limits from the alternative, in standard deviations
    valid: Bool[Array, ""]  # whether all fits used are valid
    tilde: bool
    cls: bool

    def excess(self, lane: Array, mu: Scalar, q: Scalar, q_a: Scalar) -> Scalar:
        """Returns the excess, which falls with mu and is 0 at the limit. Lane 0 is the observed limit."""
        q = jnp.where(mu < self.best, 0.0, jnp.maximum(q - self.rise_at_zero, 0.0))
        r_a = formulas.root(q_a)
        band = -jnp.asarray(formulas.BANDS, r_a.dtype)[jnp.maximum(lane - 1, 0)]
        distance = jnp.where(lane == 0, formulas.distance(q, q_a, self.tilde), band)
        log_sb, log_b = formulas.log_p_one_sided(distance, r_a)
        return log_sb - (log_b if self.cls else 0.0) - self.log_alpha

    def look(
        self, lane: Array, mu: Scalar, near: Float[Array, "2 n"], skip: Bool[Array, "2"], robust: bool
    ) -> "Height":
        """Evaluates the curve at `mu` by conditional fits to the data and to the Asimov data, unless they are skipped.
        The fits start from the nearby ones at `near`."""
        point = self.sides.at(mu, near, skip, robust)
        q, slope = (jnp.where(lane == 0, a[0], 0.0) for a in (point.q, point.slope))
        q_a, slope_a = point.q[1], point.slope[1]
        height = self.excess(lane, mu, q, q_a)
        d_excess_dq, d_excess_dq_a = jax.grad(self.excess, argnums=(2, 3))(lane, mu, q, q_a)
        is_good = point.good[1] & ((lane > 0) | point.good[0]) & jnp.isfinite(height)
        return Height(height, d_excess_dq * slope + d_excess_dq_a * slope_a, formulas.root(q_a), point.x, is_good)


class Height(NamedTuple):
    """The curve at one point."""

    value: Scalar
    slope: Scalar
    r_a: Scalar  # distance from the alternative in standard deviations
    x: Float[Array, "2 n"]
    good: Bool[Array, ""]


def curve_of(problem: LimitProblem, tilde: bool, cls: bool) -> Curve:
    conditional, asimov = problem.conditional, problem.asimov
    fits = (conditional.free, asimov.free)
    sides = sides_of(problem)
    minima = lax.stop_gradient(jnp.stack([fit.values for fit in fits]))
    best, error = conditional.free.values[problem.index], lax.stop_gradient(conditional.free.errors[problem.index])
    error = jnp.where(error > 0, error, jnp.maximum(jnp.abs(lax.stop_gradient(best)), 1.0))
    is_negative = (best < 0) & tilde
    rise_at_zero = jnp.where(is_negative, conditional.rise[0], 0.0)
    valid = (asimov.status == int(Status.VALID)) & ((conditional.status[0] == int(Status.VALID)) | ~is_negative)
    valid &= conditional.free.valid & asimov.free.valid
    alternative, log_alpha = problem.alternative[0].astype(best.dtype), jnp.log(problem.alpha).astype(best.dtype)
    distances = problem.distances.astype(best.dtype)
    upper = conditional.free.upper[problem.index]
    return Curve(sides, minima, error, best, rise_at_zero, alternative, upper, log_alpha, distances, valid, tilde, cls)
