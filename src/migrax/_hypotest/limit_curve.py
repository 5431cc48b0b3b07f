"""The excess of log CLs (or of the log p-value) over its level, as a function of the parameter of interest."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Scalar

from .._fit.status import Status
from .._host import flow, xp
from .._host.hosted import hosted
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

    @property
    def level(self) -> "Level":
        return Level(self.best, self.rise_at_zero, self.log_alpha, self.tilde, self.cls)

    def excess(self, lane: Array, mu: Scalar, q: Scalar, q_a: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        """The excess, which falls with mu and is 0 at the limit, and its derivatives by `q` and `q_a`. Lane 0 is the
        observed limit."""
        return _excess_and_slopes(lane, mu, q, q_a, self.level)

    def look(
        self, lane: Array, mu: Scalar, near: Float[Array, "2 n"], skip: Bool[Array, "2"], robust: bool
    ) -> "Height":
        """Evaluates the curve at `mu` by conditional fits to the data and to the Asimov data, unless they are skipped.
        The fits start from the nearby ones at `near`."""
        point = self.sides.at(mu, near, skip, robust)
        q, slope = (xp.where(lane == 0, a[0], 0.0) for a in (point.q, point.slope))
        q_a, slope_a = point.q[1], point.slope[1]
        height, d_excess_dq, d_excess_dq_a = self.excess(lane, mu, q, q_a)
        is_good = point.good[1] & ((lane > 0) | point.good[0]) & xp.isfinite(height)
        return Height(height, d_excess_dq * slope + d_excess_dq_a * slope_a, formulas.root(q_a), point.x, is_good)


class Level(NamedTuple):
    """What the excess depends on beside the fits."""

    best: Scalar
    rise_at_zero: Scalar
    log_alpha: Scalar
    tilde: bool
    cls: bool


def excess(lane: Array, mu: Scalar, q: Scalar, q_a: Scalar, level: Level) -> Scalar:
    """The excess of log CLs over its level."""
    q = jnp.where(mu < level.best, 0.0, jnp.maximum(q - level.rise_at_zero, 0.0))
    r_a = formulas.root(q_a)
    band = -jnp.asarray(formulas.BANDS, r_a.dtype)[jnp.maximum(lane - 1, 0)]
    distance = jnp.where(lane == 0, formulas.distance(q, q_a, level.tilde), band)
    log_sb, log_b = formulas.log_p_one_sided(distance, r_a)
    return log_sb - (log_b if level.cls else 0.0) - level.log_alpha


@hosted
def _excess_and_slopes(lane: Array, mu: Scalar, q: Scalar, q_a: Scalar, level: Level) -> tuple[Scalar, Scalar, Scalar]:
    value, slopes = jax.value_and_grad(lambda q, q_a: excess(lane, mu, q, q_a, level), argnums=(0, 1))(q, q_a)
    return value, *slopes


class Height(NamedTuple):
    """The curve at one point."""

    value: Scalar
    slope: Scalar
    r_a: Scalar  # distance from the alternative in standard deviations
    x: Float[Array, "2 n"]
    good: Bool[Array, ""]


def curve_of(problem: LimitProblem, tilde: bool, cls: bool, sides: Sides | None = None) -> Curve:
    """The curve of a problem, with its `sides` where they are known."""
    conditional, asimov = problem.conditional, problem.asimov
    fits = (conditional.free, asimov.free)
    sides = sides_of(problem) if sides is None else sides
    minima = flow.stop_gradient(xp.stack([fit.values for fit in fits]))
    best, error = conditional.free.values[problem.index], flow.stop_gradient(conditional.free.errors[problem.index])
    error = xp.where(error > 0, error, xp.maximum(xp.abs(flow.stop_gradient(best)), 1.0))
    is_negative = (best < 0) & tilde
    rise_at_zero = xp.where(is_negative, conditional.rise[0], 0.0)
    valid = (asimov.status == int(Status.VALID)) & ((conditional.status[0] == int(Status.VALID)) | ~is_negative)
    valid = valid & (conditional.free.valid & asimov.free.valid)
    alternative, log_alpha = problem.alternative[0].astype(best.dtype), xp.log(problem.alpha).astype(best.dtype)
    distances = problem.distances.astype(best.dtype)
    upper = conditional.free.upper[problem.index]
    return Curve(sides, minima, error, best, rise_at_zero, alternative, upper, log_alpha, distances, valid, tilde, cls)
