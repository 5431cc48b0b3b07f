"""Moré's Levenberg-Marquardt method, Gauss-Newton steps in a scaled trust region, as an Optimistix solver."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Scalar

from .._host import xp
from .._util.typing import PyTree
from .base import check_positive
from .flat import WithJacobian, autodiff_mode, flatten
from .metric import Metric, decompose
from .trust_region import AbstractTrustRegion, TrustRegionState

Y = TypeVar("Y")
Out = TypeVar("Out")
Aux = TypeVar("Aux")


class LevenbergMarquardt(  # pyright: ignore[reportIncompatibleVariableOverride]
    AbstractTrustRegion[Y, Out, Aux], optx.AbstractLeastSquaresSolver[Y, Out, Aux, TrustRegionState[Any]]
):
    """Levenberg-Marquardt in a trust region scaled by the largest column norms of the Jacobian so far (as MINPACK).

    The default solver of `mx.fit` for likelihoods with residuals. It stops when the estimated vertical distance to the
    minimum of half the sum of squares (EDM, with J^T J for the Hessian) is below 0.002 `tol` `up`, never because a step
    was small. Each step evaluates the residuals and their Jacobian once.

    Supports the following `options`:

    - `autodiff_mode`: `"fwd"` (default here: a Jacobian has more rows than columns) or `"bwd"`.
    - `goal`: the EDM at which to stop, in place of 0.002 `tol` `up`; it may be traced.
    - `noise`: the rounding noise of half the sum of squares; default 8 eps of it.
    - `idle`: if true (it may be traced), return at once: for lanes of a vmapped solve that have nothing to do.

    The `stats` of the solution hold `edm`, `metric` (the inverse of the last J^T J, forced positive definite, shape
    `(n, n)`), `num_gradients` (Jacobians), `num_values` and `num_hessians` (both 0).

    ??? cite "References"

        J. J. Moré, The Levenberg-Marquardt algorithm: implementation and theory, Lecture Notes in Mathematics 630
        (1978) 105; J. J. Moré, B. S. Garbow and K. E. Hillstrom, User guide for MINPACK-1, ANL-80-74 (1980).
    """

    tol: float = 0.1
    up: float = 0.5
    factor: float = 0.3
    rtol: float = 1e-6
    atol: float = 1e-6

    def __check_init__(self) -> None:
        check_positive(self, "factor")

    def expand(
        self, fn: Callable, y: Y, args: PyTree, options: dict[str, Any]
    ) -> tuple[Scalar, Float[Array, " n"], Callable[[], Float[Array, "n n"]], Any]:
        x, unravel = flatten(y)
        if isinstance(fn, WithJacobian):
            r, jacobian = fn.values_and_jacobian(x)
            return 0.5 * xp.sum(r**2), jacobian.T @ r, lambda: jacobian.T @ jacobian, None

        def residuals(v: Array) -> tuple[Array, Any]:
            out, aux = fn(unravel(v), args)
            return ravel_pytree(out)[0].astype(x.dtype), aux

        r, linear, aux = jax.linearize(residuals, x, has_aux=True)
        if autodiff_mode(options, default="fwd") == "fwd":
            jacobian = jax.vmap(linear, out_axes=1)(xp.eye(x.size, dtype=x.dtype))
        else:
            transposed = jax.linear_transpose(linear, x)
            jacobian = jax.vmap(lambda row: transposed(row)[0])(xp.eye(r.size, dtype=x.dtype))
        return 0.5 * xp.sum(r**2), jacobian.T @ r, lambda: jacobian.T @ jacobian, aux

    def decompose(
        self, hessian: Float[Array, "n n"], grad: Float[Array, " n"], previous_scale: Float[Array, " n"]
    ) -> Metric:
        norms = xp.sqrt(xp.diagonal(hessian))
        largest = xp.where(xp.isfinite(norms) & (norms > previous_scale), norms, previous_scale)
        return decompose(hessian, grad, xp.where(largest > 0, largest, 1.0))

    def first_radius(self, x: Float[Array, " n"], scale: Float[Array, " n"]) -> Scalar:
        length = xp.sqrt(xp.sum((scale * x) ** 2))
        return xp.where(length > 0, self.factor * length, self.factor)

    def believes(self, metric: Metric, confirmed: Bool[Array, ""]) -> Bool[Array, ""]:
        return metric.finite

    def stats(self, state: TrustRegionState[Any]) -> dict[str, Any]:
        zero = xp.array(0)
        return {
            "edm": state.edm,
            "metric": state.metric.inverse(),
            "num_values": zero,
            "num_gradients": state.num_gradients,
            "num_hessians": zero,
        }


LevenbergMarquardt.__init__.__doc__ = """**Arguments:**

- `tol`: MINUIT's tolerance. The solver stops at an EDM of 0.002 `tol` `up`.
- `up`: by how much half the sum of squares rises over one error: 0.5.
- `factor`: the first trust region is this times the length of the scaled start (or this, for a start at zero).
    MINPACK's 100 lets several of the NIST problems jump into a region without a minimum; with 0.3 all 27 are solved
    from both of their starts.
- `rtol`: where no option `goal` is given (`mx.fit`, which knows the units, gives it), the step that is left must be
    within `atol + rtol |y|` for each number of `y`, and the EDM within `atol + rtol |f|`, unless it is noise.
- `atol`: see `rtol`.
"""
