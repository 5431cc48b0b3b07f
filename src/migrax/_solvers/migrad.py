"""MIGRAD: MINUIT's variable-metric method, with exact gradients, as an Optimistix minimiser."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from .flat import autodiff_mode, flatten_fn, value_and_grad, value_grad_hessian
from .line_search import accept, shorten
from .metric import decompose

Y = TypeVar("Y")
Aux = TypeVar("Aux")


class _MigradState(eqx.Module, Generic[Aux]):
    # the point that is evaluated next
    trial: Float[Array, " n"]
    step: Scalar
    num_refused: Int[Array, ""]
    first: Bool[Array, ""]
    # the last accepted point
    x: Float[Array, " n"]
    f: Scalar
    grad: Float[Array, " n"]
    metric: Float[Array, "n n"]
    dcov: Scalar
    edm: Scalar
    direction: Float[Array, " n"]
    aux: Aux
    # how it goes
    was_reset: Bool[Array, ""]
    terminate: Bool[Array, ""]
    result: optx.RESULTS
    num_gradients: Int[Array, ""]
    num_hessians: Int[Array, ""]


class Migrad(optx.AbstractMinimiser[Y, Aux, _MigradState]):
    """MINUIT's MIGRAD with exact gradients: BFGS on the inverse Hessian, stopped by the estimated vertical distance to
    the minimum (EDM), never by a small step.

    One step is one evaluation of the value and its gradient, so that many fits run in lockstep under `jax.vmap`.

    Supports the following `options`:

    - `metric`: an estimate of the inverse Hessian to start from, as a matrix of shape `(n, n)` in the order in which
        `jax.flatten_util.ravel_pytree` puts the `n` numbers of `y`, or as a `lineax` operator of that matrix. Without
        it the exact Hessian at the start is used (forced positive definite), which costs about `n` gradients.
    - `autodiff_mode`: `"bwd"` (default) or `"fwd"`, for functions without a reverse mode.
    - `goal`: the EDM at which to stop, in place of 0.002 `tol` `up`; it may be traced.
    - `noise`: the rounding noise of the function's values; default 8 eps |f|.
    - `idle`: if true (it may be traced) do nothing, for lanes of a vmapped solve that others wait for.

    ??? cite "References"

        F. James and M. Roos, Comput. Phys. Commun. 10 (1975) 343; F. James, MINUIT Reference Manual, CERN Program
        Library Long Writeup D506 (1994); R. Fletcher, Comput. J. 13 (1970) 317.
    """

    tol: float = 0.1
    up: float = 0.5
    max_refused: int = 12

    @property
    def goal(self) -> float:
        """The EDM at which the minimum is reached, in units of the function (MINUIT's 0.002 tol UP)."""
        return 0.002 * self.tol * self.up

    # Optimistix asks every solver for these three. Here the tolerance is on the function alone.
    @property
    def rtol(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 0.0

    @property
    def atol(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.goal

    @property
    def norm(self) -> Callable[[PyTree], Scalar]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return optx.max_norm

    def init(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        f_struct: jax.ShapeDtypeStruct,
        aux_struct: PyTree[jax.ShapeDtypeStruct],
        tags: frozenset[object],
    ) -> _MigradState:
        del f_struct, tags
        x, _, flat = flatten_fn(fn, y, args)
        mode = autodiff_mode(options)
        metric = options.get("metric")
        if metric is None:
            _, grad, hessian, _ = value_grad_hessian(flat, x, mode)
            metric = decompose(hessian, grad).inverse()
        elif isinstance(metric, lx.AbstractLinearOperator):
            metric = metric.as_matrix()
        if metric.shape != (x.size, x.size):
            raise ValueError(f"options['metric'] must have shape {(x.size, x.size)}, got {metric.shape}")
        zero = jnp.zeros((), x.dtype)
        return _MigradState(
            trial=x,
            step=zero + 1,
            num_refused=jnp.array(0),
            first=jnp.array(True),
            x=x,
            f=zero + jnp.inf,
            grad=jnp.zeros_like(x),
            metric=metric.astype(x.dtype),
            dcov=zero,
            edm=zero + jnp.inf,
            direction=jnp.zeros_like(x),
            aux=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), aux_struct),
            was_reset=jnp.array(False),
            terminate=jnp.asarray(options.get("idle", False)),
            result=optx.RESULTS.successful,
            num_gradients=jnp.array(0),
            num_hessians=jnp.array(0 if "metric" in options else 1),
        )

    def step(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: _MigradState,
        tags: frozenset[object],
    ) -> tuple[Y, _MigradState, Aux]:
        del tags
        _, unravel, flat = flatten_fn(fn, y, args)
        f, grad, aux = value_and_grad(flat, state.trial, autodiff_mode(options))
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(grad))
        grad = jnp.where(finite, grad, jnp.nan)
        slope, slope_trial = state.grad @ state.direction, grad @ state.direction
        noise = options.get("noise", 8 * jnp.finfo(f.dtype).eps * jnp.abs(state.f))
        accepted = state.first | accept(state.f, slope, state.step, f, slope_trial, noise)

        goal = jnp.asarray(options.get("goal", self.goal), f.dtype)
        moved = self._accepted(state, f, grad, goal)
        stayed = self._refused(state, shorten(state.f, slope, state.step, f, slope_trial), goal)
        new = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), moved, stayed)
        aux = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), aux, state.aux)
        lost = state.first & ~finite
        new = eqx.tree_at(
            lambda s: (s.aux, s.terminate, s.result, s.num_gradients),
            new,
            (
                aux,
                new.terminate | lost,
                optx.RESULTS.where(lost, optx.RESULTS.nonfinite, new.result),
                state.num_gradients + 1,
            ),
        )
        return unravel(new.x), new, aux

    def _accepted(
        self, state: _MigradState, f: Scalar, grad: Float[Array, " n"], goal: Scalar
    ) -> _MigradState:
        """Updates the metric, looks at the EDM and plans a full step from here."""
        metric, dcov = _update(state, grad)
        metric = jnp.where(state.first, state.metric, metric)
        dcov = jnp.where(state.first, state.dcov, dcov)
        direction = -metric @ grad
        slope = grad @ direction
        # A metric that lost positive-definiteness by rounding cannot be trusted any more.
        bad = ~(slope < 0) & jnp.any(grad != 0)
        metric, direction = _where_reset(bad, metric, direction, grad)
        edm = -0.5 * (grad @ direction)
        done = edm * (1 + 3 * dcov) <= goal
        return _replace(
            state,
            trial=state.trial + direction,
            step=jnp.ones_like(f),
            num_refused=jnp.array(0),
            first=jnp.array(False),
            x=state.trial,
            f=f,
            grad=grad,
            metric=metric,
            dcov=dcov,
            edm=edm,
            direction=direction,
            was_reset=jnp.array(False),
            terminate=done,
        )

    def _refused(self, state: _MigradState, step: Scalar, goal: Scalar) -> _MigradState:
        """Shortens the step; after `max_refused` starts once from a plain metric, then gives up and says so."""
        exhausted = state.num_refused + 1 >= self.max_refused
        give_up = exhausted & state.was_reset
        metric, direction = _where_reset(exhausted, state.metric, state.direction, state.grad)
        step = jnp.where(exhausted, 1.0, step).astype(step.dtype)
        close = state.edm <= 10 * goal  # MINUIT accepts this too
        result = optx.RESULTS.where(give_up & ~close, optx.RESULTS.nonlinear_divergence, state.result)
        return _replace(
            state,
            trial=state.x + step * direction,
            step=step,
            num_refused=jnp.where(exhausted, 0, state.num_refused + 1),
            metric=metric,
            direction=direction,
            was_reset=state.was_reset | exhausted,
            terminate=give_up,
            result=result,
        )

    def terminate(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: _MigradState,
        tags: frozenset[object],
    ) -> tuple[Bool[Array, ""], optx.RESULTS]:
        return state.terminate, state.result

    def postprocess(
        self,
        fn: Callable,
        y: Y,
        aux: Aux,
        args: PyTree,
        options: dict[str, Any],
        state: _MigradState,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[Y, Aux, dict[str, Any]]:
        stats = {
            "edm": state.edm,
            "metric": state.metric,
            "num_values": jnp.array(0),
            "num_gradients": state.num_gradients,
            "num_hessians": state.num_hessians,
        }
        return y, aux, stats


def _replace(state: _MigradState, **new: Any) -> _MigradState:
    names = tuple(new)
    return eqx.tree_at(lambda s: tuple(getattr(s, n) for n in names), state, tuple(new[n] for n in names))


def _where_reset(
    reset: Bool[Array, ""], metric: Float[Array, "n n"], direction: Float[Array, " n"], grad: Float[Array, " n"]
) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
    """Where asked: keeps of the metric its diagonal alone, which is always a descent."""
    diagonal = jnp.abs(jnp.diagonal(metric))
    diagonal = jnp.where(jnp.isfinite(diagonal) & (diagonal > 0), diagonal, 1.0)
    return jnp.where(reset, jnp.diag(diagonal), metric), jnp.where(reset, -diagonal * grad, direction)


def _update(state: _MigradState, grad: Float[Array, " n"]) -> tuple[Float[Array, "n n"], Scalar]:
    """The BFGS update of the inverse Hessian (Fletcher 1970; MINUIT's DavidonErrorUpdator) and MINUIT's dcov, the
    running estimate of the metric's relative error.

    Where the function curves down along the step no positive metric can follow it: the metric is lengthened along
    the step instead, so that the next step there is three times as long.
    """
    metric = state.metric
    dx = state.trial - state.x
    dg = grad - state.grad
    delta = dx @ dg
    v_dg = metric @ dg
    gvg = dg @ v_dg
    curved = (delta > 0) & (gvg > 0) & jnp.isfinite(delta) & jnp.isfinite(gvg)
    safe_delta, safe_gvg = jnp.where(curved, delta, 1.0), jnp.where(curved, gvg, 1.0)
    u = dx / safe_delta - v_dg / safe_gvg
    updated = metric + jnp.outer(dx, dx) / safe_delta - jnp.outer(v_dg, v_dg) / safe_gvg + safe_gvg * jnp.outer(u, u)
    slope = -(state.grad @ state.direction)
    longer = metric + 2 * jnp.outer(state.direction, state.direction) / jnp.where(slope > 0, slope, 1.0)
    new = jnp.where(curved, 0.5 * (updated + updated.T), longer)
    new = jnp.where(jnp.all(jnp.isfinite(new)), new, metric)
    change = jnp.sum(jnp.abs(new - metric)) / jnp.sum(jnp.abs(new))
    return new, 0.5 * (state.dcov + change)
