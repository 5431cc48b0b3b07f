"""The trust-region method that `Newton` and `LevenbergMarquardt` share: steps that minimise a quadratic model."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from jaxtyping import Array, Bool, Float, Int, Scalar

from .._host import flow, xp
from .._util.fields import with_fields
from .._util.typing import PyTree
from .base import (
    CONFIRMS,
    DIVERGED,
    NOT_FINITE,
    SUCCEEDED,
    TINY,
    AbstractEDMSolver,
    AbstractState,
    noise_of,
    scalar_option,
    zeros_like_struct,
)
from .flat import autodiff_mode, flatten
from .metric import Metric

Y = TypeVar("Y")
Out = TypeVar("Out")
Aux = TypeVar("Aux")

# Ratios of the actual to the predicted reduction above which a step is accepted, below which the region shrinks, and
# above which it grows (Nocedal and Wright, Numerical Optimization (2006), algorithm 4.1). The first is large, so that a
# step that is far too long (into another period of a phase) is not accepted because it happens to end a little lower.
ACCEPT, _SHRINK, _GROW = 0.1, 0.25, 0.75
# Newton's method on the secular equation converges quadratically after a few steps; this is more than enough.
_SECULAR_STEPS = 40


class TrustRegionState(AbstractState[Aux]):
    first: Bool[Array, ""]  # nothing has been evaluated yet
    # the last accepted point
    x: Float[Array, " n"]
    f: Scalar
    grad: Float[Array, " n"]
    metric: Metric  # of the model; the region is a sphere in the parameters times its scale
    edm: Scalar
    aux: Aux
    # the step from there to the trial point
    radius: Scalar
    length: Scalar  # in scaled coordinates, as the radius
    predicted: Scalar  # the reduction that the model predicts
    # progress
    terminate: Bool[Array, ""]
    ending: Int[Array, ""]
    num_gradients: Int[Array, ""]
    num_hessians: Int[Array, ""]


class AbstractTrustRegion(AbstractEDMSolver[Y, Out, Aux, TrustRegionState[Any]]):
    """A trust-region solver. Each step evaluates the trial point, accepts or rejects it, adapts the radius, and chooses
    the next trial point within it."""

    @abc.abstractmethod
    def expand(
        self, fn: Callable, y: Y, args: PyTree, options: dict[str, Any]
    ) -> tuple[Scalar, Float[Array, " n"], Callable[[], Float[Array, "n n"]], Any]:
        """The value at `y`, its gradient, a function that computes the Hessian of the model, and aux."""

    @abc.abstractmethod
    def decompose(
        self, hessian: Float[Array, "n n"], grad: Float[Array, " n"], previous_scale: Float[Array, " n"]
    ) -> Metric:
        """The decomposed Hessian, scaled; `previous_scale` is the scale at the last accepted point."""

    @abc.abstractmethod
    def first_radius(self, x: Float[Array, " n"], scale: Float[Array, " n"]) -> Scalar:
        """The initial radius at `x`."""

    @abc.abstractmethod
    def believes(self, metric: Metric, confirmed: Bool[Array, ""]) -> Bool[Array, ""]:
        """Whether to terminate where the EDM of the model is small. It is `confirmed` if the EDM of the previous model
        was small as well and the step to that model's minimum removed most of it."""

    def init(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        f_struct: PyTree,
        aux_struct: PyTree,
        tags: frozenset[object],
    ) -> TrustRegionState[Any]:
        autodiff_mode(options)
        x, _ = flatten(y)
        zero = xp.zeros((), x.dtype)
        return TrustRegionState(
            first=xp.array(True),
            x=x,
            f=zero + xp.inf,
            grad=xp.zeros_like(x),
            metric=Metric.unit(x)._replace(scale=xp.zeros_like(x)),
            edm=zero + xp.inf,
            aux=zeros_like_struct(aux_struct),
            radius=zero,
            length=zero,
            predicted=zero,
            terminate=xp.asarray(options.get("idle", False)),
            ending=xp.array(SUCCEEDED),
            num_gradients=xp.array(0),
            num_hessians=xp.array(0),
        )

    def step(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: TrustRegionState[Any],
        tags: frozenset[object],
    ) -> tuple[Y, TrustRegionState[Any], Aux]:
        trial, unravel = flatten(y)
        f_trial, grad_trial, hessian_fn, aux_trial = self.expand(fn, y, args, options)
        finite = xp.isfinite(f_trial) & xp.all(xp.isfinite(grad_trial))
        ratio = xp.where(finite, _reduction_ratio(state, f_trial, grad_trial, noise_of(options, state.f)), -1.0)
        accepted = state.first | (ratio > ACCEPT)
        x, f, grad, aux = flow.select(
            accepted, (trial, f_trial, grad_trial, aux_trial), (state.x, state.f, state.grad, state.aux)
        )
        metric = flow.cond(
            accepted, lambda: self.decompose(hessian_fn(), grad, state.metric.scale), lambda: state.metric
        )
        radius = xp.where(
            state.first, self.first_radius(x, metric.scale), next_radius(state.radius, state.length, ratio)
        )
        plan = plan_step(metric, grad, radius)
        edm = metric.edm(grad)
        goal = scalar_option(options, "goal", self.goal, f.dtype)
        is_negligible = edm <= xp.maximum(TINY * goal, noise_of(options, f))
        confirmed = accepted & (state.edm <= goal) & (state.metric.edm(grad) <= CONFIRMS * state.edm)
        # The EDM is meaningful only if the model is valid up to its minimum.
        done = (edm <= goal) & (plan.inside | is_negligible) & self.believes(metric, is_negligible | confirmed)
        done = done & (self.settled(options, x, f, plan.step, edm))
        # No step is possible: the model predicts no reduction, or the step is below the rounding of x.
        stuck = ~done & (~(plan.predicted > 0) | xp.all(x + plan.step == x))
        nonfinite_start = state.first & ~finite
        ending = xp.where(stuck, DIVERGED, state.ending)
        new = with_fields(
            state,
            first=xp.array(False),
            x=x,
            f=f,
            grad=grad,
            metric=metric,
            edm=edm,
            aux=aux,
            radius=radius,
            length=plan.length,
            predicted=plan.predicted,
            terminate=done | stuck | nonfinite_start,
            ending=xp.where(nonfinite_start, NOT_FINITE, ending),
            num_gradients=state.num_gradients + 1,
            num_hessians=state.num_hessians + accepted.astype(state.num_hessians.dtype),
        )
        return unravel(x + plan.step), new, aux_trial


def _reduction_ratio(state: TrustRegionState[Any], f: Scalar, grad: Float[Array, " n"], noise: Scalar) -> Scalar:
    """The ratio of the actual to the predicted reduction."""
    reduction = state.f - f
    ratio = reduction / xp.where(state.predicted > 0, state.predicted, 1.0)
    # Below the rounding noise of the values the gradient decides: the step is accepted if it has become smaller.
    in_noise = (state.predicted <= noise) & (xp.abs(reduction) <= 2 * noise)
    gradient_shrinks = xp.sum((grad / state.metric.scale) ** 2) < xp.sum((state.grad / state.metric.scale) ** 2)
    return xp.where(in_noise, xp.where(gradient_shrinks, 1.0, 0.0), ratio)


def next_radius(radius: Scalar, length: Scalar, ratio: Scalar) -> Scalar:
    """The radius after a step of this length, with this ratio of the actual to the predicted reduction."""
    shrunk, grown = 0.25 * xp.minimum(length, radius), xp.maximum(radius, 2 * length)
    return xp.where(ratio < _SHRINK, shrunk, xp.where(ratio > _GROW, grown, radius))


class Plan(NamedTuple):
    """A step within the trust region."""

    step: Float[Array, " n"]
    length: Scalar  # in scaled coordinates
    predicted: Scalar  # the reduction of the model
    inside: Bool[Array, ""]  # the minimum of the model lies within the region


def plan_step(metric: Metric, grad: Float[Array, " n"], radius: Scalar) -> Plan:
    """The step to the minimum of the quadratic model within the radius.

    With the eigenvalues known, the secular equation |s(shift)| = radius is solved in one dimension by Newton's method
    on 1/|s|, which converges monotonically from the left (Moré and Sorensen 1983; Nocedal and Wright, algorithm 4.3).
    In the "hard case", no gradient along the lowest eigenvector, a step along that vector reaches the radius.
    """
    g = metric.vectors.T @ (grad / metric.scale)
    eigenvalues, floor = metric.eigenvalues, metric.floor
    tiny = xp.finfo(g.dtype).tiny

    def step_at(shift: Scalar) -> tuple[Float[Array, " n"], Scalar, Float[Array, " n"]]:
        denominator = xp.maximum(eigenvalues + shift, floor)
        s = -g / denominator
        return s, xp.sqrt(xp.sum(s**2)), denominator

    def improve(_: Any, shift: Scalar) -> Scalar:
        s, length, denominator = step_at(shift)
        change = (length**2 / xp.maximum(xp.sum(s**2 / denominator), tiny)) * (length / radius - 1)
        return xp.where(length > radius, shift + change, shift)

    # For a positive-definite model the shift starts at zero, and stays zero if the minimum is inside.
    start = xp.where(metric.positive_definite, 0.0, xp.maximum(floor - eigenvalues[0], 0.0))
    inside = (eigenvalues[0] >= -floor) & (step_at(start)[1] <= radius)
    s, length, _ = step_at(flow.fori_loop(0, _SECULAR_STEPS, improve, start))
    s = s * xp.minimum(1.0, radius / xp.maximum(length, tiny))
    # With a negative eigenvalue the minimum is on the boundary; the rest of the radius is along its eigenvector.
    along = xp.sqrt(xp.maximum(radius**2 - xp.sum(s[1:] ** 2), 0.0))
    s = xp.set_at(s, 0, xp.where(eigenvalues[0] < -floor, xp.where(s[0] < 0, -along, along), s[0]))
    length = xp.sqrt(xp.sum(s**2))
    predicted = -(g @ s + 0.5 * xp.sum(eigenvalues * s**2))
    return Plan((metric.vectors @ s) / metric.scale, length, predicted, inside)
