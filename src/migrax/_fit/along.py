"""The verdict on a minimum of many parameters, and the errors of some of them, from products of the exact Hessian with
vectors. The inverse of an earlier Hessian makes them few."""

from typing import Any, NamedTuple

import jax
from jax import lax
from jaxtyping import Array, Bool, Float, Scalar

from .._derivatives.expansion import Expansion, Objective
from .._derivatives.one_mode import accuracy_of
from .._host import flow, xp
from .._host.xp import is_on_host
from .._parameters.space import Space
from .._solvers.conjugate_gradients import Linear, steps_within
from .._solvers.flat import value_grad_and_product_fn
from .._solvers.lanczos import spectrum
from .._solvers.metric import Metric
from .active_set import pushed_against
from .convergence import Verdict

_PRODUCTS = 1000  # at most, for one solution
_LANCZOS = 30
CHANGE = 10  # products: where the Hessian changes along one direction among many that do not, two or three show it
_STEP = 1e-4  # the residual of the Newton step, relative
_ERROR = 1e-6  # that of the solution for an error
_LOWEST = 1e-6  # the lowest eigenvalue, in units of the earlier Hessian, that counts as positive


class Along(NamedTuple):
    """An objective around a point, along the parameters that are free there."""

    value: Scalar
    gradient: Float[Array, " n"]
    product: Linear
    precondition: Linear
    root: Float[Array, "n n"]
    free: Bool[Array, " n"]

    @classmethod
    def of(cls, expanded: tuple[Scalar, Array, Linear], metric: Metric, free: Bool[Array, " n"]) -> "Along":
        value, gradient, product = expanded
        root = flow.stop_gradient(metric.root())

        def within(v: Array) -> Array:
            return xp.where(free, product(xp.where(free, v, 0.0)), 0.0)

        def precondition(v: Array) -> Array:
            return xp.where(free, root @ (root.T @ xp.where(free, v, 0.0)), 0.0)

        return cls(value, gradient, within, precondition, root, free)

    def solved(self, b: Float[Array, " n"], tolerance: float) -> tuple[Float[Array, " n"], Scalar]:
        """H⁻¹ b along the free parameters, and the size of what is left, r P r."""
        tolerance = max(tolerance, 100 * float(xp.finfo(b.dtype).eps))
        small, far = xp.asarray(tolerance, b.dtype), xp.asarray(xp.inf, b.dtype)
        found = steps_within(self.product, -b, self.precondition, far, small, _PRODUCTS)
        rest = xp.where(found.inside & xp.all(xp.isfinite(found.step)), found.rest, xp.inf)
        return found.step, rest

    def lowest(self) -> Scalar:
        """A lower estimate of the lowest eigenvalue of the Hessian along the free parameters, in units of the earlier
        one."""
        diagonal = 1 / xp.sum(self.root**2, axis=1)  # of the held ones, so that they are not the lowest

        def whitened(v: Array) -> Array:
            moved = self.root @ v
            return self.root.T @ (self.product(moved) + xp.where(self.free, 0.0, moved * diagonal))

        ends = spectrum(whitened, self.gradient, _LANCZOS)
        return ends.lowest - ends.below

    def change(self, before: Linear) -> Scalar:
        """The norm of the change of the Hessian, in units of the earlier one, since it had the product `before`."""

        def whitened(v: Array) -> Array:
            moved = xp.where(self.free, self.root @ v, 0.0)
            return self.root.T @ (self.product(moved) - xp.where(self.free, before(moved), 0.0))

        return spectrum(whitened, self.gradient, CHANGE).norm


def _expand(fn: Objective, x: Array, theta: Any) -> tuple[Scalar, Array, Linear]:
    flat: Any = fn if is_on_host() else (lambda v: (fn(v, theta), None))  # pyright: ignore[reportCallIssue]
    return value_grad_and_product_fn(flat, x, "bwd")[:3]


class Look(NamedTuple):
    """What is seen of a point without a Hessian of its own."""

    at: Expansion
    verdict: Verdict
    change: Scalar  # of the Hessian, relative, since the last look


def look_again(
    fn: Objective, x: Float[Array, " n"], theta: Any, space: Space, before: Expansion, verdict: Verdict
) -> Look:
    """Behind a short Newton step to `x`, with the Hessian `before` it."""
    along = Along.of(_expand(fn, x, theta), verdict.metric, ~verdict.active)
    finite = xp.isfinite(along.value) & xp.all(xp.isfinite(along.gradient))
    slope = along.root.T @ xp.where(verdict.active | ~finite, 0.0, along.gradient)
    known = verdict.positive_definite & finite
    again = verdict._replace(
        newton=space.clip(xp.where(verdict.active, x, x - along.root @ slope)),
        edm=xp.where(known, 0.5 * (slope @ slope), xp.nan),
        finite=verdict.finite & finite,
    )
    change = along.change(lambda v: before.hessian @ v)
    return Look(Expansion(along.value, along.gradient, before.hessian), again, xp.where(known, change, xp.inf))


def look_along(
    fn: Objective,
    x: Float[Array, " n"],
    theta: Any,
    space: Space,
    goal: Scalar,
    before: Expansion,
    verdict: Verdict,
    from_x: Float[Array, " n"],
    is_last: Bool[Array, ""],
) -> Look:
    """At any point `x`, in the units of an earlier Hessian, that of `before` and `verdict`; the change is that since
    the point `from_x`.

    The Hessian counts as positive definite if conjugate gradients meet no negative curvature on their way to the Newton
    step and, at what may be the last point (`is_last`), the lowest Ritz value of 30 products of it, in units of the
    earlier one, is positive beyond its residual."""
    expanded = _expand(fn, x, theta)
    active = pushed_against(expanded[1], xp.diagonal(before.hessian), x, space, goal)
    along = Along.of(expanded, verdict.metric, ~active)
    finite = xp.isfinite(along.value) & xp.all(xp.isfinite(along.gradient))
    slope = xp.where(active | ~finite, 0.0, along.gradient)
    step, rest = along.solved(-slope, _STEP)
    edm = -0.5 * (slope @ step) + 0.5 * rest

    def behind_a_step() -> tuple[Scalar, Scalar]:
        lowest = along.lowest()
        return lowest, along.change(_expand(fn, from_x, theta)[2]) / xp.maximum(lowest, _LOWEST)

    unknown = xp.full((), xp.inf, x.dtype)
    lowest, change = flow.cond(is_last, behind_a_step, lambda: (unknown, unknown))
    positive = finite & (lowest > _LOWEST) & xp.isfinite(rest)
    seen = verdict._replace(
        newton=space.clip(xp.where(active, space.nearer_bound(x) if space.has_bounds else x, x + step)),
        active=active,
        edm=xp.where(positive, xp.maximum(edm, 0.0), xp.nan),
        positive_definite=positive,
        finite=finite,
    )
    same = positive & xp.all(active == verdict.active)
    return Look(Expansion(along.value, along.gradient, before.hessian), seen, xp.where(same, change, xp.inf))


def covariance_of(
    fn: Objective,
    x: Float[Array, " n"],
    theta: Any,
    metric: Metric,
    active: Bool[Array, " n"],
    edm: Scalar,
    which: tuple[int, ...],
) -> tuple[Float[Array, "k k"], Scalar]:
    """The covariance of the parameters `which`, and an estimate of the relative accuracy of their errors: by conjugate
    gradients, whose residual estimates what is missing (G. H. Golub and G. Meurant, Matrices, Moments and Quadrature
    (2010), section 12.1, with the lowest eigenvalue by Lanczos); by `edm`, as the Hessian changes by about its part per
    error; by rounding; and, for second derivatives that are differences, by these."""
    along = Along.of(_expand(fn, x, theta), metric, ~active)
    lowest = flow.stop_gradient(xp.maximum(along.lowest(), _LOWEST))
    units = xp.set_at(xp.zeros((len(which), x.size), x.dtype), (xp.arange(len(which)), xp.asarray(which)), 1.0)

    def row(unit: Array) -> tuple[Array, Array]:
        unit = xp.where(active, 0.0, unit)
        if is_on_host():
            solution, rest = along.solved(unit, _ERROR)
        else:
            solution = lax.custom_linear_solve(
                along.product, unit, lambda _, b: along.solved(b, _ERROR)[0], symmetric=True
            )
            rest = flow.stop_gradient(_rest(along, unit, solution))
        variance = solution @ unit
        relative = rest / (lowest * xp.where(variance > 0, variance, 1.0))
        return solution[xp.asarray(which)], xp.where(xp.any(unit != 0), 0.5 * relative, 0.0)

    rows, accuracies = flow.one_by_one(row, units)
    rounding = 100 * xp.finfo(x.dtype).eps
    accuracy = xp.maximum(xp.maximum(xp.max(accuracies), rounding), xp.sqrt(2 * xp.maximum(edm, 0.0)))
    by_differences = accuracy_of(fn, x, theta, along.root)
    accuracy = accuracy if by_differences is None else xp.maximum(accuracy, by_differences)
    return 0.5 * (rows + rows.T), flow.stop_gradient(accuracy)


def _rest(along: Along, b: Array, solution: Array) -> Scalar:
    residual = jax.lax.stop_gradient(b - along.product(solution))
    return residual @ along.precondition(residual)
