"""Levenberg-Marquardt as Moré made it: Gauss-Newton steps in a scaled trust region, as an Optimistix solver."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from .flat import autodiff_mode
from .metric import Metric
from .trust_region import trust_region_step

Y = TypeVar("Y")
Out = TypeVar("Out")
Aux = TypeVar("Aux")


class _State(eqx.Module, Generic[Aux]):
    trial: Float[Array, " n"]
    predicted: Scalar
    length: Scalar
    radius: Scalar
    scale: Float[Array, " n"]  # the largest norm of each column of the Jacobian so far
    first: Bool[Array, ""]
    x: Float[Array, " n"]
    f: Scalar
    grad: Float[Array, " n"]
    gram: Float[Array, "n n"]  # J^T J
    aux: Aux
    terminate: Bool[Array, ""]
    result: optx.RESULTS
    num_gradients: Int[Array, ""]


class LevenbergMarquardt(optx.AbstractLeastSquaresSolver[Y, Out, Aux, _State]):
    """Levenberg-Marquardt with a trust region, scaled by the largest column norms of the Jacobian so far (as MINPACK).

    The default of `mx.fit` for likelihoods with residuals. It stops where the estimated vertical distance to the
    minimum of half the sum of squares (EDM, with J^T J for the Hessian) is below 0.002 `tol` `up`.

    The first trust region is `factor` times the length of the scaled start. MINPACK's 100 lets several of the NIST
    problems jump into a region without a minimum; with 0.3 all 27 are solved from both of their starts.

    Supports the following `options`:

    - `autodiff_mode`: `"fwd"` (default here: a Jacobian has more rows than columns) or `"bwd"`.
    - `goal`: the EDM at which to stop, in place of 0.002 `tol` `up`; it may be traced.

    ??? cite "References"

        J. J. Moré, The Levenberg-Marquardt algorithm: implementation and theory, Lecture Notes in Mathematics 630
        (1978) 105; J. J. Moré, B. S. Garbow and K. E. Hillstrom, User guide for MINPACK-1, ANL-80-74 (1980).
    """

    tol: float = 0.1
    up: float = 0.5
    factor: float = 0.3

    @property
    def goal(self) -> float:
        """The EDM at which the minimum is reached, in units of half the sum of squares."""
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
        f_struct: PyTree[jax.ShapeDtypeStruct],
        aux_struct: PyTree[jax.ShapeDtypeStruct],
        tags: frozenset[object],
    ) -> _State:
        del f_struct, tags
        x, _ = ravel_pytree(y)
        zero = jnp.zeros((), x.dtype)
        return _State(
            trial=x,
            predicted=zero,
            length=zero,
            radius=zero,
            scale=jnp.zeros_like(x),
            first=jnp.array(True),
            x=x,
            f=zero + jnp.inf,
            grad=jnp.zeros_like(x),
            gram=jnp.eye(x.size, dtype=x.dtype),
            aux=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), aux_struct),
            terminate=jnp.array(False),
            result=optx.RESULTS.successful,
            num_gradients=jnp.array(0),
        )

    def step(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: _State,
        tags: frozenset[object],
    ) -> tuple[Y, _State, Aux]:
        del tags
        _, unravel = ravel_pytree(y)
        f, grad, gram, aux = _normal_equations(fn, unravel, state.trial, args, options)
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(grad)) & jnp.all(jnp.isfinite(gram))
        reduction = state.f - f
        ratio = reduction / jnp.where(state.predicted > 0, state.predicted, 1.0)
        ratio = jnp.where(finite, ratio, -1.0)
        accepted = state.first | (ratio > 1e-4)
        x, f, grad, gram, aux = jax.tree.map(
            lambda a, b: jnp.where(accepted, a, b),
            (state.trial, f, grad, gram, aux),
            (state.x, state.f, state.grad, state.gram, state.aux),
        )
        scale = jnp.where(accepted, jnp.maximum(state.scale, jnp.sqrt(jnp.diagonal(gram))), state.scale)
        safe = jnp.where(scale > 0, scale, 1.0)
        first_radius = self.factor * jnp.sqrt(jnp.sum((safe * x) ** 2))
        first_radius = jnp.where(first_radius > 0, first_radius, self.factor)
        radius = jnp.where(ratio < 0.25, 0.25 * jnp.minimum(state.length, state.radius), state.radius)
        radius = jnp.where(ratio > 0.75, jnp.maximum(state.radius, 2 * state.length), radius)
        radius = jnp.where(state.first, first_radius, radius)

        scaled = gram / (safe[:, None] * safe[None, :])
        eigenvalues, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(scaled), scaled, 0.0))
        metric = Metric(safe, vectors, eigenvalues, jnp.array(True))
        step, length, predicted = trust_region_step(metric, grad, radius)
        edm = 0.5 * jnp.sum((metric.root().T @ grad) ** 2)
        done = edm <= jnp.asarray(options.get("goal", self.goal), f.dtype)
        # MINPACK's ftol at the rounding noise of the sum
        stuck = ~done & ((predicted <= 0.1 * jnp.finfo(f.dtype).eps * f) | (radius <= jnp.finfo(f.dtype).tiny))
        lost = state.first & ~finite
        result = optx.RESULTS.where(stuck, optx.RESULTS.nonlinear_divergence, state.result)
        result = optx.RESULTS.where(lost, optx.RESULTS.nonfinite, result)
        new = _State(
            trial=x + step,
            predicted=predicted,
            length=length,
            radius=radius,
            scale=scale,
            first=jnp.array(False),
            x=x,
            f=f,
            grad=grad,
            gram=gram,
            aux=aux,
            terminate=done | stuck | lost,
            result=result,
            num_gradients=state.num_gradients + 1,
        )
        return unravel(x), new, aux

    def terminate(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: _State,
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
        state: _State,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[Y, Aux, dict[str, Any]]:
        zero = jnp.array(0)
        return y, aux, {"num_values": zero, "num_gradients": state.num_gradients, "num_hessians": zero}


def _normal_equations(
    fn: Callable, unravel: Callable, x: Float[Array, " n"], args: PyTree, options: dict[str, Any]
) -> tuple[Scalar, Float[Array, " n"], Float[Array, "n n"], Any]:
    """Half the sum of squares, its gradient J^T r, and J^T J."""
    mode = autodiff_mode({"autodiff_mode": "fwd", **options})

    def residuals(v: Array) -> tuple[Array, Any]:
        out, aux = fn(unravel(v), args)
        return ravel_pytree(out)[0].astype(x.dtype), aux

    r, linear, aux = jax.linearize(residuals, x, has_aux=True)
    if mode == "fwd":
        jacobian = jax.vmap(linear, out_axes=1)(jnp.eye(x.size, dtype=x.dtype))
    else:
        transposed = jax.linear_transpose(linear, x)
        jacobian = jax.vmap(lambda row: transposed(row)[0])(jnp.eye(r.size, dtype=x.dtype))
    return 0.5 * jnp.sum(r**2), jacobian.T @ r, jacobian.T @ jacobian, aux
