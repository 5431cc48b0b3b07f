"""How a toy ends that was fitted in lockstep: the last Newton step, its errors, and whether to trust it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Bool, Float, Scalar

from .._derivatives.expansion import Expansion, expand
from .._derivatives.kinks import comes_to
from .._fit.fit import result_of
from .._fit.loop import Outcome
from .._fit.minimiser import no_counts
from .._fit.objective import Theta
from .._fit.result import FitResult
from .._fit.status import Status
from .._parameters.space import Space
from .._solvers import Migrad
from .._solvers.metric import Metric

_ACCEPTED = 1.0  # times the goal of the search: the exact EDM after its last step
_LEFT = 1e-6  # EDM by the expected covariance, where a toy ends without a Hessian
_FAMILIAR = 1e4  # ratio of the exact curvature to the expected one, or the other way: beyond it is no toy of this model


class Setting(NamedTuple):
    """What all toys share."""

    fn: Callable[[Float[Array, " n"], Theta], Scalar]
    theta: Theta  # with the data of one toy, whose place the others' take
    x: Float[Array, " n"]
    space: Space
    origin: Float[Array, " n"]
    root: Float[Array, "n n"]
    slope: Float[Array, " n"]  # of the external coordinates, where the root belongs to

    def external(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.space.external(self.origin + self.root @ u)

    def whitened(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.linalg.solve(self.root, self.space.internal(x) - self.origin)


class Found(NamedTuple):
    """Where the search for a toy's minimum ended."""

    u: Float[Array, " n"]  # one step beyond the last evaluation
    value: Scalar  # there, as far as known: the one before less the EDM
    edm: Scalar
    done: Bool[Array, ""]  # the search is content
    evaluations: Array


class End(NamedTuple):
    """How a toy ended."""

    x: Float[Array, " n"]
    at: Expansion
    active: Bool[Array, " n"]
    edm: Scalar
    covariance: Float[Array, "n n"]
    good: Bool[Array, ""]

    def report(self, setting: Setting, theta: Theta, nll: Any, found: Found, hesse: bool) -> FitResult:
        """As `mx.fit` does."""
        counts = no_counts()
        kind = counts["num_steps"].dtype
        evaluations = found.evaluations.astype(kind)
        counts |= {"num_steps": evaluations, "num_gradients": evaluations}
        counts |= {"num_hessians": jnp.asarray(int(hesse), kind)}
        status = jnp.where(self.good, int(Status.VALID), int(Status.NOT_CONVERGED))
        unit, none = Metric.unit(self.x), jnp.zeros_like(self.x)
        outcome = Outcome(self.at, unit, self.active, self.good, self.edm, status, none, counts)
        x, outcome = lax.stop_gradient(setting.space.wrap(self.x)), jax.tree.map(lax.stop_gradient, outcome)
        return result_of(setting.fn, theta, setting.space, x, outcome, hesse, nll, Migrad.__name__, self.covariance)


def with_hessian(setting: Setting, theta: Theta, found: Found, goal: Scalar) -> End:
    """A Newton step within the bounds by the exact Hessian, and whether this is the minimum."""
    x = setting.external(found.u)
    at = expand(setting.fn, x, theta)
    newton = _newton(at, x, setting.space)
    # the exact curvature in units of the expected one
    root = setting.slope[:, None] * setting.root
    whitened = root.T @ at.hessian @ root
    familiar = (jnp.trace(whitened) < _FAMILIAR * x.size) | setting.space.has_bounds
    # an error a hundred times the expected one is a direction that this toy does not determine
    known = jnp.diagonal(newton.inverse) < _FAMILIAR * jnp.sum(root**2, axis=1)
    familiar &= jnp.all(newton.active | known)
    good = found.done & newton.good & (newton.edm <= _ACCEPTED * goal) & familiar
    good &= ~comes_to(setting.space.kinks, x, x + newton.step)  # beyond a kink this Hessian says nothing
    return End(x + newton.step, at, newton.active, newton.edm, newton.inverse, good)


def without_hessian(setting: Setting, theta: Theta, found: Found, goal: Scalar) -> End:
    """As the search left it. Within bounds that is looked at once more: in the coordinates of the search the slope
    vanishes on a bound, also where the minimum is elsewhere. The search never gets quite to a bound: what is nearer
    than a millionth of an error is on it."""
    del goal
    root, space = setting.slope[:, None] * setting.root, setting.space
    covariance = root @ root.T
    x = setting.external(found.u)
    if not space.has_bounds:
        at = Expansion(found.value, jnp.zeros_like(x), jnp.zeros_like(root))
        good = found.done & jnp.isfinite(found.value) & jnp.all(jnp.isfinite(x))
        return End(x, at, jnp.zeros(x.shape, bool), found.edm, covariance, good)
    near = 1e-6 * jnp.sqrt(jnp.diagonal(covariance))
    low, high = x - space.lower < near, space.upper - x < near
    x = jnp.where(low, space.lower, jnp.where(high, space.upper, x))
    value, gradient = jax.value_and_grad(setting.fn)(x, theta)
    active = low | high
    pushed = jnp.all(jnp.where(low, gradient >= 0, True) & jnp.where(high, gradient <= 0, True))
    # an upper bound of the EDM in units of the expected one, as the covariance with some parameters held is smaller
    left = 0.5 * jnp.sum((root.T @ jnp.where(active, 0.0, gradient)) ** 2)
    good = found.done & jnp.isfinite(value) & jnp.all(jnp.isfinite(x)) & pushed & (left < _LEFT)
    return End(x, Expansion(value, jnp.zeros_like(x), jnp.zeros_like(root)), active, found.edm, covariance, good)


class _Newton(NamedTuple):
    step: Float[Array, " n"]
    active: Bool[Array, " n"]
    edm: Scalar
    inverse: Float[Array, "n n"]  # of the Hessian; zero for parameters at a bound
    good: Bool[Array, ""]


def _newton(at: Expansion, x: Float[Array, " n"], space: Space) -> _Newton:
    """The Newton step, with the parameters that are pushed against a bound nearby on this bound; NaN nowhere.

    It is not `good` where the Hessian is not positive definite, the step leads outside of the bounds, or pulls a
    parameter off a bound: then the full fit's active set method must look.
    """
    finite = jnp.isfinite(at.value) & jnp.all(jnp.isfinite(at.gradient)) & jnp.all(jnp.isfinite(at.hessian))
    gradient = jnp.where(finite, at.gradient, 0.0)
    hessian = jnp.where(finite, at.hessian, jnp.eye(x.size, dtype=x.dtype))
    if not space.has_bounds:
        inverse, positive = _inverse(hessian)
        step, active = -inverse @ gradient, jnp.zeros(x.shape, bool)
        return _Newton(step, active, jnp.maximum(-0.5 * (gradient @ step), 0.0), inverse, positive & finite)
    room = jnp.stack([x - space.lower, space.upper - x])
    push = jnp.stack([gradient, -gradient])
    at_bound = (push > 0) & jnp.isfinite(room) & (jnp.diagonal(hessian)[None] * room < push)
    active, sign = jnp.any(at_bound, axis=0), jnp.array([[-1.0], [1.0]], x.dtype)
    to_bound = jnp.sum(jnp.where(at_bound, sign * room, 0.0), axis=0)
    held = active[:, None] | active[None, :]
    inverse, positive = _inverse(jnp.where(held, jnp.eye(x.size, dtype=x.dtype), hessian))
    inverse = jnp.where(held, 0.0, inverse)
    step = jnp.where(active, to_bound, -inverse @ (gradient + hessian @ to_bound))
    slope = gradient + hessian @ step
    stays = jnp.all(jnp.where(at_bound, -sign * slope[None] > 0, True))
    inside = jnp.all(active | ((x + step >= space.lower) & (x + step <= space.upper)))
    edm = -(gradient @ step + 0.5 * step @ hessian @ step)
    # on the bound itself, not beside it by rounding
    step = jnp.where(at_bound[0], space.lower - x, jnp.where(at_bound[1], space.upper - x, step))
    return _Newton(step, active, jnp.maximum(edm, 0.0), inverse, positive & finite & stays & inside)


def _inverse(hessian: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """By Cholesky's decomposition of the matrix scaled to a unit diagonal; and whether that is positive definite beyond
    rounding, else the inverse is some other."""
    diagonal = jnp.diagonal(hessian)
    scale = 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0))
    factor = jnp.linalg.cholesky(scale[:, None] * hessian * scale[None, :])
    pivots, unit = jnp.diagonal(factor), jnp.eye(scale.size, dtype=factor.dtype)
    good = jnp.all(diagonal > 0) & jnp.all(pivots**2 > 64 * pivots.size * jnp.finfo(pivots.dtype).eps)
    return scale[:, None] * cho_solve((jnp.where(good, factor, unit), True), unit) * scale[None, :], good
