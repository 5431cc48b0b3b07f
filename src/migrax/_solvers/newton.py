"""Newton's method with exact Hessians in a trust region, as an Optimistix minimiser."""

from collections.abc import Callable
from typing import Any, TypeVar

import optimistix as optx
from jaxtyping import Array, Bool, Float, Scalar

from .._host import xp
from .._util.typing import PyTree
from .base import check_positive
from .flat import autodiff_mode, flatten_fn, value_grad_and_hessian_fn
from .metric import Metric, decompose
from .trust_region import AbstractTrustRegion, TrustRegionState

Y = TypeVar("Y")
Aux = TypeVar("Aux")


class Newton(  # pyright: ignore[reportIncompatibleVariableOverride]
    AbstractTrustRegion[Y, Scalar, Aux], optx.AbstractMinimiser[Y, Aux, TrustRegionState[Any]]
):
    """Newton's method with the exact Hessian, in a trust region whose coordinates are scaled by the Hessian's diagonal.

    This is the fastest solver for few parameters. It also leaves saddle points: where the Hessian has a negative
    eigenvalue, the step follows its eigenvector. It terminates successfully when the Hessian has no negative (and at
    least one positive) eigenvalue and the estimated vertical distance to the minimum (EDM) is below 0.002 `tol` `up`,
    never because a step was small.

    Each step evaluates the value and the gradient once, and the Hessian if the point is accepted.

    Supports the following `options`:

    - `autodiff_mode`: `"bwd"` (default) or `"fwd"`, for functions without a reverse mode.
    - `goal`: the EDM at which to stop, in place of 0.002 `tol` `up`; it may be traced.
    - `noise`: the rounding noise of the function's values; default 8 eps |f|.
    - `idle`: if true (it may be traced), return at once: for lanes of a vmapped solve that have nothing to do.

    The `stats` of the solution hold `edm`, `metric` (the inverse of the last Hessian, forced positive definite, shape
    `(n, n)`), `num_values` (0), `num_gradients` (each with its value) and `num_hessians`.

    ??? cite "References"

        J. J. Moré and D. C. Sorensen, SIAM J. Sci. Stat. Comput. 4 (1983) 553; J. Nocedal and S. J. Wright,
        Numerical Optimization, 2nd ed. (2006), chapter 4.
    """

    tol: float = 0.1
    up: float = 0.5
    radius: float = 10.0
    rtol: float = 1e-6
    atol: float = 1e-6

    def __check_init__(self) -> None:
        check_positive(self, "radius")

    def expand(
        self, fn: Callable, y: Y, args: PyTree, options: dict[str, Any]
    ) -> tuple[Scalar, Float[Array, " n"], Callable[[], Float[Array, "n n"]], Any]:
        x, _, flat = flatten_fn(fn, y, args)
        return value_grad_and_hessian_fn(flat, x, autodiff_mode(options))

    def decompose(
        self, hessian: Float[Array, "n n"], grad: Float[Array, " n"], previous_scale: Float[Array, " n"]
    ) -> Metric:
        return decompose(hessian, grad)

    def first_radius(self, x: Float[Array, " n"], scale: Float[Array, " n"]) -> Scalar:
        return xp.asarray(self.radius, x.dtype)

    def believes(self, metric: Metric, confirmed: Bool[Array, ""]) -> Bool[Array, ""]:
        # Beside the floor of a narrow curved valley the EDM is small: the curvature of the walls enters along it, too.
        return metric.minimum & confirmed

    def stats(self, state: TrustRegionState[Any]) -> dict[str, Any]:
        return {
            "edm": state.edm,
            "metric": state.metric.inverse(),
            "num_values": xp.array(0),
            "num_gradients": state.num_gradients,
            "num_hessians": state.num_hessians,
        }


Newton.__init__.__doc__ = """**Arguments:**

- `tol`: MINUIT's tolerance. The solver stops at an EDM of 0.002 `tol` `up`.
- `up`: by how much the function rises over one error: 0.5 for minus log L, 1.0 for a chi-squared.
- `radius`: of the first trust region, in coordinates in which the Hessian has a unit diagonal (so in errors, if `up` is
    0.5 and the parameters are not correlated).
- `rtol`: where no option `goal` is given (`mx.fit`, which knows the units, gives it), the step that is left must be
    within `atol + rtol |y|` for each number of `y`, and the EDM within `atol + rtol |f|`, unless it is noise.
- `atol`: see `rtol`.
"""
