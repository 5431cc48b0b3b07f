"""Newton's method with exact Hessians in a trust region, as an Optimistix minimiser."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from .flat import autodiff_mode, flatten_fn, value_and_grad
from .metric import decompose
from .trust_region import trust_region_step

Y = TypeVar("Y")
Aux = TypeVar("Aux")

# Accept a step that brings this part of the promised reduction; shrink below the second, grow above the third.
# Nocedal and Wright, Numerical Optimization (2006), algorithm 4.1.
_ACCEPT, _SHRINK, _GROW = 1e-4, 0.25, 0.75


class _NewtonState(eqx.Module, Generic[Aux]):
    trial: Float[Array, " n"]
    predicted: Scalar  # the reduction that the quadratic model promises for the trial, >= 0
    length: Scalar  # of the planned step, in scaled coordinates
    radius: Scalar
    first: Bool[Array, ""]
    x: Float[Array, " n"]
    f: Scalar
    grad: Float[Array, " n"]
    hessian: Float[Array, "n n"]
    edm: Scalar
    aux: Aux
    terminate: Bool[Array, ""]
    result: optx.RESULTS
    num_gradients: Int[Array, ""]
    num_hessians: Int[Array, ""]


class Newton(optx.AbstractMinimiser[Y, Aux, _NewtonState]):
    """Newton's method with the exact Hessian, in a trust region whose coordinates are scaled by the Hessian's diagonal.

    The fastest solver for few parameters, and the one that leaves saddles: where the Hessian has a negative
    eigenvalue the step goes along it. It stops where the Hessian is positive definite and the estimated vertical
    distance to the minimum (EDM) is below 0.002 `tol` `up`, never by a small step.

    Supports the following `options`:

    - `autodiff_mode`: `"bwd"` (default) or `"fwd"`, for functions without a reverse mode.
    - `noise`: the rounding noise of the function's values; default 8 eps |f|.

    ??? cite "References"

        J. J. Moré and D. C. Sorensen, SIAM J. Sci. Stat. Comput. 4 (1983) 553; J. Nocedal and S. J. Wright,
        Numerical Optimization, 2nd ed. (2006), chapter 4.
    """

    tol: float = 0.1
    up: float = 0.5
    radius: float = 10.0

    @property
    def goal(self) -> float:
        """The EDM at which the minimum is reached, in units of the function."""
        return 0.002 * self.tol * self.up

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
    ) -> _NewtonState:
        del f_struct, tags
        autodiff_mode(options)
        x, _, _ = flatten_fn(fn, y, args)
        zero = jnp.zeros((), x.dtype)
        return _NewtonState(
            trial=x,
            predicted=zero,
            length=zero,
            radius=zero + self.radius,
            first=jnp.array(True),
            x=x,
            f=zero + jnp.inf,
            grad=jnp.zeros_like(x),
            hessian=jnp.eye(x.size, dtype=x.dtype),
            edm=zero + jnp.inf,
            aux=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), aux_struct),
            terminate=jnp.array(False),
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
        state: _NewtonState,
        tags: frozenset[object],
    ) -> tuple[Y, _NewtonState, Aux]:
        del tags
        _, unravel, flat = flatten_fn(fn, y, args)
        mode = autodiff_mode(options)

        def gradient(v: Array) -> tuple[Array, Any]:
            value, grad, aux = value_and_grad(flat, v, mode)
            return grad, (value, aux)

        grad, linear, (f, aux) = jax.linearize(gradient, state.trial, has_aux=True)
        noise = options.get("noise", 8 * jnp.finfo(f.dtype).eps * jnp.abs(state.f))
        accepted, ratio = self._judge(state, f, grad, noise)
        hessian = lax.cond(
            accepted, lambda: jax.vmap(linear)(jnp.eye(grad.size, dtype=grad.dtype)), lambda: state.hessian
        )
        hessian = 0.5 * (hessian + hessian.T)
        x, f, grad, aux = jax.tree.map(
            lambda a, b: jnp.where(accepted, a, b),
            (state.trial, f, grad, aux),
            (state.x, state.f, state.grad, state.aux),
        )
        shrunk = jnp.maximum(0.25 * jnp.minimum(state.length, state.radius), 0)
        grown = jnp.maximum(state.radius, 3 * state.length)
        radius = jnp.where(ratio < _SHRINK, shrunk, jnp.where(ratio > _GROW, grown, state.radius))
        radius = jnp.where(state.first, state.radius, radius)

        metric = decompose(hessian, grad)
        step, length, predicted = trust_region_step(metric, grad, radius)
        edm = 0.5 * jnp.sum((metric.root().T @ grad) ** 2)
        done = metric.positive_definite & (edm <= self.goal)
        stuck = ~done & ((predicted <= 0) | (radius < jnp.finfo(f.dtype).eps) | ~metric.finite)
        lost = state.first & ~(jnp.isfinite(f) & jnp.all(jnp.isfinite(grad)))
        result = optx.RESULTS.where(stuck, optx.RESULTS.nonlinear_divergence, state.result)
        result = optx.RESULTS.where(lost, optx.RESULTS.nonfinite, result)
        new = _NewtonState(
            trial=x + step,
            predicted=predicted,
            length=length,
            radius=radius,
            first=jnp.array(False),
            x=x,
            f=f,
            grad=grad,
            hessian=hessian,
            edm=edm,
            aux=aux,
            terminate=done | stuck | lost,
            result=result,
            num_gradients=state.num_gradients + 1,
            num_hessians=state.num_hessians + accepted.astype(state.num_hessians.dtype),
        )
        return unravel(x), new, aux

    def _judge(
        self, state: _NewtonState, f: Scalar, grad: Float[Array, " n"], noise: Scalar
    ) -> tuple[Bool[Array, ""], Scalar]:
        """Whether to go to the trial, and the ratio of the actual to the promised reduction."""
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(grad))
        reduction = state.f - f
        # Below the rounding noise of the values only the gradient can tell: the model is trusted if it shrinks.
        in_noise = (state.predicted <= noise) & (jnp.abs(reduction) <= 2 * noise)
        smaller = jnp.sum((grad / _scale(state)) ** 2) <= jnp.sum((state.grad / _scale(state)) ** 2)
        ratio = reduction / jnp.where(state.predicted > 0, state.predicted, 1.0)
        ratio = jnp.where(in_noise, jnp.where(smaller, 1.0, 0.0), ratio)
        ratio = jnp.where(finite, ratio, -1.0)
        return state.first | (ratio > _ACCEPT), ratio

    def terminate(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: _NewtonState,
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
        state: _NewtonState,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[Y, Aux, dict[str, Any]]:
        stats = {
            "edm": state.edm,
            "metric": decompose(state.hessian, state.grad).inverse(),
            "num_values": jnp.array(0),
            "num_gradients": state.num_gradients,
            "num_hessians": state.num_hessians,
        }
        return y, aux, stats


def _scale(state: _NewtonState) -> Float[Array, " n"]:
    diagonal = jnp.abs(jnp.diagonal(state.hessian))
    return jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0))
