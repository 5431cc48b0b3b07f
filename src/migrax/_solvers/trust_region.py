"""Minimising a quadratic model within a trust region, step by step: what `Newton` and `LevenbergMarquardt` share."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._util.typing import PyTree
from .base import CONFIRMS, TINY, AbstractEDMSolver, AbstractState, noise_of, scalar_option, select, zeros_like_struct
from .flat import autodiff_mode, flatten
from .metric import Metric

Y = TypeVar("Y")
Out = TypeVar("Out")
Aux = TypeVar("Aux")

# Accept a step that brings this part of the promised reduction; shrink below the second, grow above the third.
# Nocedal and Wright, Numerical Optimization (2006), algorithm 4.1. The first is large, so that a step which is far too
# long (into another period of a phase) does not count because it happens to end a little lower.
_ACCEPT, _SHRINK, _GROW = 0.1, 0.25, 0.75
# Newton's method on the secular equation gains digits quadratically after a few steps; this is more than enough.
_SECULAR_STEPS = 40


class TrustRegionState(AbstractState[Aux]):
    first: Bool[Array, ""]  # nothing has been evaluated yet
    # the last accepted point
    x: Float[Array, " n"]
    f: Scalar
    grad: Float[Array, " n"]
    metric: Metric  # of the model; the coordinates of the region are the parameters times its scale
    edm: Scalar
    aux: Aux
    # the step from there to the point that is evaluated next
    radius: Scalar
    length: Scalar  # in scaled coordinates, as the radius
    predicted: Scalar  # the reduction that the model promises
    # how it goes
    terminate: Bool[Array, ""]
    result: optx.RESULTS
    num_gradients: Int[Array, ""]
    num_hessians: Int[Array, ""]


class AbstractTrustRegion(AbstractEDMSolver[Y, Out, Aux, TrustRegionState[Any]]):
    """One step is one evaluation: it judges the point that the last step chose, adapts the region, and chooses the next
    point within it."""

    @abc.abstractmethod
    def expand(
        self, fn: Callable, y: Y, args: PyTree, options: dict[str, Any]
    ) -> tuple[Scalar, Float[Array, " n"], Callable[[], Float[Array, "n n"]], Any]:
        """The value at `y`, its gradient, what gives the model's Hessian if it is wanted, and aux."""

    @abc.abstractmethod
    def decompose(self, hessian: Float[Array, "n n"], grad: Float[Array, " n"], before: Float[Array, " n"]) -> Metric:
        """The decomposed Hessian, in the coordinates of the region; `before` is their scale at the last point."""

    @abc.abstractmethod
    def first_radius(self, x: Float[Array, " n"], scale: Float[Array, " n"]) -> Scalar:
        """The radius with which to start at `x`."""

    @abc.abstractmethod
    def believes(self, metric: Metric, confirmed: Bool[Array, ""]) -> Bool[Array, ""]:
        """Whether to believe a model whose EDM is small. It is confirmed if the last one's was, too, and the step to
        its minimum took away most of it."""

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
        zero = jnp.zeros((), x.dtype)
        return TrustRegionState(
            first=jnp.array(True),
            x=x,
            f=zero + jnp.inf,
            grad=jnp.zeros_like(x),
            metric=Metric.unit(x)._replace(scale=jnp.zeros_like(x)),
            edm=zero + jnp.inf,
            aux=zeros_like_struct(aux_struct),
            radius=zero,
            length=zero,
            predicted=zero,
            terminate=jnp.asarray(options.get("idle", False)),
            result=optx.RESULTS.successful,
            num_gradients=jnp.array(0),
            num_hessians=jnp.array(0),
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
        finite = jnp.isfinite(f_trial) & jnp.all(jnp.isfinite(grad_trial))
        ratio = jnp.where(finite, _gain(state, f_trial, grad_trial, noise_of(options, state.f)), -1.0)
        accepted = state.first | (ratio > _ACCEPT)
        x, f, grad, aux = select(
            accepted, (trial, f_trial, grad_trial, aux_trial), (state.x, state.f, state.grad, state.aux)
        )
        metric = lax.cond(
            accepted, lambda: self.decompose(hessian_fn(), grad, state.metric.scale), lambda: state.metric
        )
        radius = jnp.where(state.first, self.first_radius(x, metric.scale), _next_radius(state, ratio))
        plan = plan_step(metric, grad, radius)
        edm = metric.edm(grad)
        goal = scalar_option(options, "goal", self.goal, f.dtype)
        nothing = edm <= jnp.maximum(TINY * goal, noise_of(options, f))
        confirmed = accepted & (state.edm <= goal) & (state.metric.edm(grad) <= CONFIRMS * state.edm)
        # The EDM says something only if the model holds as far as its minimum.
        done = (edm <= goal) & (plan.inside | nothing) & self.believes(metric, nothing | confirmed)
        done &= self.settled(options, x, f, plan.step, edm)
        # Nowhere to go: the model promises nothing, or the step is lost in the rounding of x.
        stuck = ~done & (~(plan.predicted > 0) | jnp.all(x + plan.step == x))
        lost = state.first & ~finite
        result = optx.RESULTS.where(stuck, optx.RESULTS.nonlinear_divergence, state.result)
        new = TrustRegionState(
            first=jnp.array(False),
            x=x,
            f=f,
            grad=grad,
            metric=metric,
            edm=edm,
            aux=aux,
            radius=radius,
            length=plan.length,
            predicted=plan.predicted,
            terminate=done | stuck | lost,
            result=optx.RESULTS.where(lost, optx.RESULTS.nonfinite, result),
            num_gradients=state.num_gradients + 1,
            num_hessians=state.num_hessians + accepted.astype(state.num_hessians.dtype),
        )
        return unravel(x + plan.step), new, aux_trial


def _gain(state: TrustRegionState[Any], f: Scalar, grad: Float[Array, " n"], noise: Scalar) -> Scalar:
    """The ratio of the actual to the promised reduction."""
    reduction = state.f - f
    ratio = reduction / jnp.where(state.predicted > 0, state.predicted, 1.0)
    # Below the rounding noise of the values only the gradient can tell: the model is trusted if it shrinks.
    in_noise = (state.predicted <= noise) & (jnp.abs(reduction) <= 2 * noise)
    smaller = jnp.sum((grad / state.metric.scale) ** 2) < jnp.sum((state.grad / state.metric.scale) ** 2)
    return jnp.where(in_noise, jnp.where(smaller, 1.0, 0.0), ratio)


def _next_radius(state: TrustRegionState[Any], ratio: Scalar) -> Scalar:
    shrunk = 0.25 * jnp.minimum(state.length, state.radius)
    grown = jnp.maximum(state.radius, 2 * state.length)
    return jnp.where(ratio < _SHRINK, shrunk, jnp.where(ratio > _GROW, grown, state.radius))


class Plan(NamedTuple):
    """A step within the trust region."""

    step: Float[Array, " n"]
    length: Scalar  # in scaled coordinates
    predicted: Scalar  # the reduction of the model
    inside: Bool[Array, ""]  # the minimum of the model lies within the region


def plan_step(metric: Metric, grad: Float[Array, " n"], radius: Scalar) -> Plan:
    """The step to the minimum of the quadratic model within the radius.

    The eigenvalues are at hand, so the secular equation |s(shift)| = radius is solved in one dimension by Newton's
    method on 1/|s|, which converges monotonically from the left (Moré and Sorensen 1983; Nocedal and Wright,
    algorithm 4.3). In the "hard case", no gradient along the lowest eigenvector, that vector fills the radius.
    """
    g = metric.vectors.T @ (grad / metric.scale)
    eigenvalues, floor = metric.eigenvalues, metric.floor
    tiny = jnp.finfo(g.dtype).tiny

    def step_at(shift: Scalar) -> tuple[Float[Array, " n"], Scalar, Float[Array, " n"]]:
        denominator = jnp.maximum(eigenvalues + shift, floor)
        s = -g / denominator
        return s, jnp.sqrt(jnp.sum(s**2)), denominator

    def improve(_: Any, shift: Scalar) -> Scalar:
        s, length, denominator = step_at(shift)
        change = (length**2 / jnp.maximum(jnp.sum(s**2 / denominator), tiny)) * (length / radius - 1)
        return jnp.where(length > radius, shift + change, shift)

    # With a positive-definite model the shift starts at zero, and stays there if the minimum is inside.
    start = jnp.where(metric.positive_definite, 0.0, jnp.maximum(floor - eigenvalues[0], 0.0))
    inside = (eigenvalues[0] >= -floor) & (step_at(start)[1] <= radius)
    s, length, _ = step_at(lax.fori_loop(0, _SECULAR_STEPS, improve, start))
    s = s * jnp.minimum(1.0, radius / jnp.maximum(length, tiny))
    # Where the model curves down, its minimum is on the rim; what the shift leaves missing is along that vector.
    along = jnp.sqrt(jnp.maximum(radius**2 - jnp.sum(s[1:] ** 2), 0.0))
    s = s.at[0].set(jnp.where(eigenvalues[0] < -floor, jnp.where(s[0] < 0, -along, along), s[0]))
    length = jnp.sqrt(jnp.sum(s**2))
    predicted = -(g @ s + 0.5 * jnp.sum(eigenvalues * s**2))
    return Plan((metric.vectors @ s) / metric.scale, length, predicted, inside)
