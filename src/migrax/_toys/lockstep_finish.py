"""The end of a fit in lockstep: the last Newton step, the errors, and whether the minimum is trusted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Bool, Float, Scalar

from .._derivatives.expansion import Expansion, expand
from .._derivatives.kinks import comes_to
from .._fit.loop import Outcome
from .._fit.minimiser import no_counts
from .._fit.objective import Theta
from .._fit.result import FitResult
from .._fit.result_of import result_of
from .._fit.status import Status
from .._parameters.space import Space
from .._solvers import Migrad
from .._solvers.metric import Metric

_MAX_EDM_RATIO = 1.0  # limit on the exact EDM after the last step, in units of the goal of the search
_MAX_EDM = 1e-6  # limit on the EDM by the expected covariance, for a toy without a Hessian
# Limit on the ratio of exact and expected curvature, either way; beyond it the data are no toy of this model.
_MAX_CURVATURE_RATIO = 1e4


class LockstepSetting(NamedTuple):
    """The parts of the problem that all toys share."""

    fn: Callable[[Float[Array, " n"], Theta], Scalar]
    theta: Theta  # with the data of one toy, to be replaced by those of the others
    x: Float[Array, " n"]
    space: Space
    origin: Float[Array, " n"]
    root: Float[Array, "n n"]
    slope: Float[Array, " n"]  # of the external coordinates by the internal ones, at the point where `root` was made

    def external(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.space.external(self.origin + self.root @ u)

    def whitened(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.linalg.solve(self.root, self.space.internal(x) - self.origin)


class SearchEnd(NamedTuple):
    """The point at which the search for a toy's minimum ended."""

    u: Float[Array, " n"]  # one step beyond the last evaluation
    value: Scalar  # of the last evaluation; that at `u` is lower by the EDM
    edm: Scalar
    converged: Bool[Array, ""]  # by the EDM of the search
    evaluations: Array


class FinishedToy(NamedTuple):
    """The minimum of a toy and whether it is trusted."""

    x: Float[Array, " n"]
    expansion: Expansion
    active: Bool[Array, " n"]
    edm: Scalar
    covariance: Float[Array, "n n"]
    good: Bool[Array, ""]

    def report(self, setting: LockstepSetting, theta: Theta, nll: Any, end: SearchEnd, hesse: bool) -> FitResult:
        """Returns the result that `mx.fit` would return."""
        counts = no_counts()
        dtype = counts["num_steps"].dtype
        evaluations = end.evaluations.astype(dtype)
        counts |= {"num_steps": evaluations, "num_gradients": evaluations}
        counts |= {"num_hessians": jnp.asarray(int(hesse), dtype)}
        status = jnp.where(self.good, int(Status.VALID), int(Status.NOT_CONVERGED))
        unit, zeros = Metric.unit(self.x), jnp.zeros_like(self.x)
        outcome = Outcome(self.expansion, unit, self.active, self.good, self.edm, status, zeros, counts)
        x, outcome = lax.stop_gradient(setting.space.wrap(self.x)), jax.tree.map(lax.stop_gradient, outcome)
        return result_of(setting.fn, theta, setting.space, x, outcome, hesse, nll, Migrad.__name__, self.covariance)


def with_hessian(setting: LockstepSetting, theta: Theta, end: SearchEnd, goal: Scalar) -> FinishedToy:
    """Takes a Newton step within the bounds with the exact Hessian, and checks that it leads to a minimum."""
    x = setting.external(end.u)
    expansion = expand(setting.fn, x, theta)
    newton = _newton(expansion, x, setting.space)
    # exact curvature in units of the expected one
    root = setting.slope[:, None] * setting.root
    whitened = root.T @ expansion.hessian @ root
    is_familiar = (jnp.trace(whitened) < _MAX_CURVATURE_RATIO * x.size) | setting.space.has_bounds
    # an error a hundred times the expected one means that the toy does not determine this direction
    is_determined = jnp.diagonal(newton.inverse) < _MAX_CURVATURE_RATIO * jnp.sum(root**2, axis=1)
    is_familiar &= jnp.all(newton.active | is_determined)
    good = end.converged & newton.good & (newton.edm <= _MAX_EDM_RATIO * goal) & is_familiar
    good &= ~comes_to(setting.space.kinks, x, x + newton.step)  # the Hessian does not hold beyond a kink
    return FinishedToy(x + newton.step, expansion, newton.active, newton.edm, newton.inverse, good)


def without_hessian(setting: LockstepSetting, theta: Theta, end: SearchEnd, goal: Scalar) -> FinishedToy:
    """Accepts the end of the search. With bounds, the gradient is checked once more in external coordinates, because
    that of the search vanishes on a bound even where the minimum is elsewhere. The search never reaches a bound
    exactly: a parameter nearer than a millionth of an error counts as on it."""
    del goal
    root, space = setting.slope[:, None] * setting.root, setting.space
    covariance = root @ root.T
    x = setting.external(end.u)
    if not space.has_bounds:
        expansion = Expansion(end.value, jnp.zeros_like(x), jnp.zeros_like(root))
        good = end.converged & jnp.isfinite(end.value) & jnp.all(jnp.isfinite(x))
        return FinishedToy(x, expansion, jnp.zeros(x.shape, bool), end.edm, covariance, good)
    distance = 1e-6 * jnp.sqrt(jnp.diagonal(covariance))
    at_lower, at_upper = x - space.lower < distance, space.upper - x < distance
    x = jnp.where(at_lower, space.lower, jnp.where(at_upper, space.upper, x))
    value, gradient = jax.value_and_grad(setting.fn)(x, theta)
    active = at_lower | at_upper
    is_pushed = jnp.all(jnp.where(at_lower, gradient >= 0, True) & jnp.where(at_upper, gradient <= 0, True))
    # an upper bound on the EDM by the expected covariance, because holding parameters makes the covariance smaller
    edm_bound = 0.5 * jnp.sum((root.T @ jnp.where(active, 0.0, gradient)) ** 2)
    good = end.converged & jnp.isfinite(value) & jnp.all(jnp.isfinite(x)) & is_pushed & (edm_bound < _MAX_EDM)
    return FinishedToy(x, Expansion(value, jnp.zeros_like(x), jnp.zeros_like(root)), active, end.edm, covariance, good)


class _Newton(NamedTuple):
    step: Float[Array, " n"]
    active: Bool[Array, " n"]
    edm: Scalar
    inverse: Float[Array, "n n"]  # of the Hessian; zero for parameters at a bound
    good: Bool[Array, ""]


def _newton(at: Expansion, x: Float[Array, " n"], space: Space) -> _Newton:
    """Returns the Newton step that puts parameters pushed against a nearby bound onto it. It is never NaN.

    It is not `good` if the Hessian is not positive definite, or if the step leaves the bounds or pulls a parameter off
    a bound; the active-set method of the full fit handles these cases.
    """
    is_finite = jnp.isfinite(at.value) & jnp.all(jnp.isfinite(at.gradient)) & jnp.all(jnp.isfinite(at.hessian))
    gradient = jnp.where(is_finite, at.gradient, 0.0)
    hessian = jnp.where(is_finite, at.hessian, jnp.eye(x.size, dtype=x.dtype))
    if not space.has_bounds:
        inverse, is_positive = _inverse(hessian)
        step, active = -inverse @ gradient, jnp.zeros(x.shape, bool)
        return _Newton(step, active, jnp.maximum(-0.5 * (gradient @ step), 0.0), inverse, is_positive & is_finite)
    distance = jnp.stack([x - space.lower, space.upper - x])
    push = jnp.stack([gradient, -gradient])
    at_bound = (push > 0) & jnp.isfinite(distance) & (jnp.diagonal(hessian)[None] * distance < push)
    active, sign = jnp.any(at_bound, axis=0), jnp.array([[-1.0], [1.0]], x.dtype)
    to_bound = jnp.sum(jnp.where(at_bound, sign * distance, 0.0), axis=0)
    held = active[:, None] | active[None, :]
    inverse, is_positive = _inverse(jnp.where(held, jnp.eye(x.size, dtype=x.dtype), hessian))
    inverse = jnp.where(held, 0.0, inverse)
    step = jnp.where(active, to_bound, -inverse @ (gradient + hessian @ to_bound))
    slope = gradient + hessian @ step
    stays_on_bound = jnp.all(jnp.where(at_bound, -sign * slope[None] > 0, True))
    stays_inside = jnp.all(active | ((x + step >= space.lower) & (x + step <= space.upper)))
    edm = -(gradient @ step + 0.5 * step @ hessian @ step)
    # exactly on the bound, without rounding
    step = jnp.where(at_bound[0], space.lower - x, jnp.where(at_bound[1], space.upper - x, step))
    return _Newton(
        step, active, jnp.maximum(edm, 0.0), inverse, is_positive & is_finite & stays_on_bound & stays_inside
    )


def _inverse(hessian: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """Returns the inverse, by a Cholesky decomposition of the matrix scaled to a unit diagonal, and whether the matrix
    is positive definite beyond rounding. If it is not, the inverse is meaningless."""
    diagonal = jnp.diagonal(hessian)
    scale = 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0))
    factor = jnp.linalg.cholesky(scale[:, None] * hessian * scale[None, :])
    pivots, unit = jnp.diagonal(factor), jnp.eye(scale.size, dtype=factor.dtype)
    is_positive = jnp.all(diagonal > 0) & jnp.all(pivots**2 > 64 * pivots.size * jnp.finfo(pivots.dtype).eps)
    return scale[:, None] * cho_solve((jnp.where(is_positive, factor, unit), True), unit) * scale[None, :], is_positive
