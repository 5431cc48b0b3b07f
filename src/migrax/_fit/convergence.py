"""The test for a minimum that `valid` rests on, from an exact expansion to second order in external coordinates.

It uses the quadratic model within the bounds. The minimum of the model is found by the primal-dual active set method
(M. Hintermüller, K. Ito and K. Kunisch, SIAM J. Optim. 13 (2003) 865), which gives the active bounds, with gradients of
the right sign (KKT), how far below the point the minimum lies (the EDM), and where it lies (a Newton step).
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Scalar

from .._derivatives.expansion import Expansion, expand
from .._derivatives.kinks import Around, around, both_sides, is_step, on_kinks, snapped, with_jumps
from .._host import xp
from .._parameters.space import Space
from .._solvers.metric import Metric
from .._util.typing import PyTree
from .active_set import free_metric, minimum_with_active, minimum_within_bounds

# MINUIT's goal for the EDM, 0.002 tol UP, with tol = 0.1 and the objective in units in which UP = 1/2.
EDM_GOAL = 1e-4


class Verdict(NamedTuple):
    """Properties of a point according to the quadratic model within the bounds, for one fit."""

    newton: Float[Array, " n"]  # the minimum of the model, within the bounds
    active: Bool[Array, " n"]  # the parameters that are at a bound there
    edm: Scalar  # how far below the point it lies, in units of the objective; NaN if the model has no minimum
    positive_definite: Bool[Array, ""]  # over the parameters that are not at a bound
    finite: Bool[Array, ""]
    metric: Metric  # of the free parameters
    kinks: Around | None = None  # the kinks around the point, if the objective has any


def unseen(x: Float[Array, " n"], kinks: Around | None = None) -> Verdict:
    """The verdict on a point that has not been evaluated."""
    false = xp.array(False)
    return Verdict(x, xp.zeros(x.shape, bool), xp.zeros((), x.dtype), false, false, Metric.unit(x), kinks)


def look_at(
    fn: Callable[[Float[Array, " n"], PyTree], Scalar],
    x: Float[Array, " n"],
    theta: PyTree,
    space: Space,
    goal: Scalar,
) -> tuple[Expansion, Verdict]:
    """The expansion of the objective at `x` and its verdict. On a kink both sides are expanded."""
    if space.kinks is None:
        at = expand(fn, x, theta)
        return at, inspect(at, x, space, goal)
    reach = on_kinks(x, space.kinks)
    above, below = both_sides(fn, x, theta, reach)
    at, kinks = around(above, below, x, space.kinks, reach, space.lower, space.upper)
    verdict = inspect(at, x, space.between(kinks.lower, kinks.upper), goal, kinks.held)
    errors = xp.where(verdict.positive_definite, xp.sqrt(xp.sum(verdict.metric.root() ** 2, axis=1)), 0.0)
    edm = xp.where(is_step(above, below, reach), xp.inf, verdict.edm)
    return at, verdict._replace(newton=snapped(verdict.newton, space.kinks, errors), kinks=kinks, edm=edm)


def on_average(
    at: Expansion, verdict: Verdict, active: Bool[Array, " n"]
) -> tuple[Expansion, Metric, Bool[Array, " n"]]:
    """The ingredients of the covariance: the expansion, with second differences for parameters held on a kink, its
    metric, and which parameters are at a bound."""
    kinks = verdict.kinks
    if kinks is None:
        return at, verdict.metric, active
    active = active & ~kinks.held
    full = with_jumps(at, kinks.jump, kinks.held, active)
    return full, free_metric(full.gradient, full.hessian, active), active


def inspect(
    at: Expansion, x: Float[Array, " n"], space: Space, goal: Scalar, held: Bool[Array, " n"] | None = None
) -> Verdict:
    """The verdict on `x` from the expansion `at` of the objective there. The parameters of `held` do not move."""
    finite = xp.isfinite(at.value) & xp.all(xp.isfinite(at.gradient)) & xp.all(xp.isfinite(at.hessian))
    finite = finite & (xp.all(xp.isfinite(x)))
    gradient = xp.where(finite, at.gradient, 0.0)
    hessian = xp.where(finite, at.hessian, xp.eye(x.size, dtype=x.dtype))
    if space.has_bounds:
        model = minimum_within_bounds(gradient, hessian, x, space, goal, held)
    else:
        model = minimum_with_active(gradient, hessian, xp.zeros(x.shape, bool), xp.zeros_like(x))
    metric, active, step = model
    edm = -(gradient @ step + 0.5 * step @ hessian @ step)
    positive_definite = metric.positive_definite & finite
    return Verdict(
        newton=xp.clip(x + step, space.lower, space.upper) if space.has_bounds else x + step,
        active=active,
        edm=xp.where(positive_definite, xp.maximum(edm, 0.0), xp.nan),
        positive_definite=positive_definite,
        finite=finite,
        metric=metric,
    )
