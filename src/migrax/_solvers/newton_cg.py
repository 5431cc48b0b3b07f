"""Newton's method whose steps are found by conjugate gradients, without a Hessian, as an Optimistix minimiser."""

from collections.abc import Callable
from typing import Any, TypeVar

import optimistix as optx
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
    UNFINISHED,
    AbstractEDMSolver,
    AbstractState,
    check_positive,
    noise_of,
    scalar_option,
    zeros_like_struct,
)
from .conjugate_gradients import Steps, steps_within
from .equilibrate import equilibrated
from .flat import autodiff_mode, flatten_fn, value_grad_and_product_fn
from .trust_region import ACCEPT, next_radius

Y = TypeVar("Y")
Aux = TypeVar("Aux")

_NOISES = 1e3  # the noise of values is at most so many times that of the last digit of their sum
_LOOSEST = 0.5  # the residual of a Newton step far from the minimum, relative


class _State(AbstractState[Aux]):
    first: Bool[Array, ""]  # nothing has been evaluated yet
    # the last accepted point
    x: Float[Array, " n"]
    f: Scalar
    grad: Float[Array, " n"]
    edm: Scalar
    aux: Aux
    metric: Float[Array, "..."]  # an approximate inverse Hessian: a matrix, or the diagonal of one
    # the step from there to the trial point
    plan: Steps
    fraction: Scalar  # of the planned step: shorter after the full one was refused
    radius: Scalar
    # progress
    terminate: Bool[Array, ""]
    ending: Int[Array, ""]
    num_gradients: Int[Array, ""]
    num_products: Int[Array, ""]


class NewtonCG(  # pyright: ignore[reportIncompatibleVariableOverride]
    AbstractEDMSolver[Y, Scalar, Aux, _State[Any]], optx.AbstractMinimiser[Y, Aux, _State[Any]]
):
    """Newton's method for many parameters: each step is found by conjugate gradients in a trust region, from products
    of the exact Hessian with vectors, of which each costs about two gradients. No matrix of `n` by `n` is made.

    The number of products depends on how well the parameters are scaled. `mx.fit` gives coordinates in which the
    Hessian at the start is the identity, so that a step takes about ten; it uses this solver by default where there are
    many parameters. Used alone, the solver estimates a scale for each number of `y` from products with random vectors.

    It terminates successfully when the estimated vertical distance to the minimum (EDM) is below 0.002 `tol` `up`, and
    the last step was that of a quadratic function with a minimum; never because a step was small. Curvature is seen
    along the steps only: at a saddle point, where the gradient vanishes, it stops (`mx.fit` examines the point).

    Supports the following `options`:

    - `metric`: an estimate of the inverse Hessian, with which the products are preconditioned: a matrix of shape
        `(n, n)` in the order in which `jax.flatten_util.ravel_pytree` puts the `n` numbers of `y`, or the diagonal of
        one, shape `(n,)`. It must be positive definite.
    - `autodiff_mode`: `"bwd"` (default) or `"fwd"`, for functions without a reverse mode.
    - `goal`: the EDM at which to stop, in place of 0.002 `tol` `up`; it may be traced.
    - `noise`: the rounding noise of the function's values; default 8 eps |f|.
    - `products`: the number of products, in all, after which to stop as unfinished: where another `metric` would do
        better.
    - `idle`: if true (it may be traced), return at once: for lanes of a vmapped solve that have nothing to do.

    The `stats` of the solution hold `edm`, `num_values` (0), `num_gradients` (each with its value; a product counts as
    two), `num_products` and `num_hessians` (0).

    ??? cite "References"

        T. Steihaug, SIAM J. Numer. Anal. 20 (1983) 626; S. C. Eisenstat and H. F. Walker, SIAM J. Sci. Comput. 17
        (1996) 16; S. Diamond and S. Boyd, J. Optim. Theory Appl. 172 (2017) 436.
    """

    tol: float = 0.1
    up: float = 0.5
    radius: float = 10.0
    max_products: int = 250
    rtol: float = 1e-6
    atol: float = 1e-6

    def __check_init__(self) -> None:
        check_positive(self, "radius")
        check_positive(self, "max_products")

    def init(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        f_struct: PyTree,
        aux_struct: PyTree,
        tags: frozenset[object],
    ) -> _State[Any]:
        mode = autodiff_mode(options)
        x, _, flat = flatten_fn(fn, y, args)
        zero = xp.zeros((), x.dtype)
        metric = options.get("metric")
        if metric is None:
            metric = equilibrated(value_grad_and_product_fn(flat, x, mode)[2], x) ** -2
        elif xp.shape(metric) not in ((x.size,), (x.size, x.size)):
            raise ValueError(f"options['metric'] must have shape {(x.size, x.size)} or {(x.size,)}, got {metric.shape}")
        return _State(
            first=xp.array(True),
            x=x,
            f=zero + xp.inf,
            grad=xp.zeros_like(x),
            edm=zero + xp.inf,
            aux=zeros_like_struct(aux_struct),
            metric=flow.stop_gradient(xp.asarray(metric, x.dtype)),
            plan=Steps.none(x),
            fraction=zero + 1,
            radius=zero + self.radius,
            terminate=xp.asarray(options.get("idle", False)),
            ending=xp.array(SUCCEEDED),
            num_gradients=xp.array(0),
            num_products=xp.array(0),
        )

    def step(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: _State[Any],
        tags: frozenset[object],
    ) -> tuple[Y, _State[Any], Aux]:
        trial, unravel, flat = flatten_fn(fn, y, args)
        f_trial, grad_trial, product, aux_trial = value_grad_and_product_fn(flat, trial, autodiff_mode(options))
        finite = xp.isfinite(f_trial) & xp.all(xp.isfinite(grad_trial))
        ratio = xp.where(finite, _ratio(state, f_trial, grad_trial, noise_of(options, state.f)), -1.0)
        accepted = state.first | (ratio > ACCEPT)
        radius = xp.where(
            state.first, state.radius, next_radius(state.radius, state.fraction * state.plan.length, ratio)
        )
        x, f, grad, aux = flow.select(
            accepted, (trial, f_trial, grad_trial, aux_trial), (state.x, state.f, state.grad, state.aux)
        )
        is_new = accepted & finite & ~state.terminate
        goal = scalar_option(options, "goal", self.goal, f.dtype)

        def from_here() -> tuple[Steps, Scalar]:
            size = xp.sqrt(grad_trial @ applied(state.metric, grad_trial))
            # for quadratic convergence (Eisenstat and Walker), but no nearer than a tenth of the goal
            nearest = xp.sqrt(0.2 * goal) / xp.where(size > 0, size, 1.0)
            tolerance = xp.minimum(_LOOSEST, xp.maximum(size, nearest))
            plan = steps_within(
                product, grad_trial, lambda v: applied(state.metric, v), radius, tolerance, self.max_products
            )
            return plan, xp.ones_like(f)

        def shorter() -> tuple[Steps, Scalar]:
            return state.plan, 0.25 * state.fraction

        plan, fraction = flow.cond(is_new, from_here, shorter)
        step = fraction * plan.step
        edm = xp.where(accepted, plan.predicted + 0.5 * plan.rest, state.edm)
        is_negligible = edm <= xp.maximum(TINY * goal, noise_of(options, f))
        confirmed = accepted & (state.edm <= goal) & (edm <= CONFIRMS * state.edm)
        # `mx.fit`, which gives the goal, confirms the minimum itself.
        confirmed = confirmed | is_negligible | xp.array(options.get("goal") is not None)
        done = accepted & plan.inside & (edm <= goal) & confirmed
        done = done & self.settled(options, x, f, step, edm)
        num_products = state.num_products + xp.where(is_new, plan.num_products, 0)
        unfinished = ~done & (num_products >= scalar_option(options, "products", xp.inf, f.dtype))
        stuck = ~done & ~unfinished & (~(plan.predicted > 0) | xp.all(x + step == x))
        nonfinite_start = state.first & ~finite
        ending = xp.where(stuck, xp.where(edm <= 10 * goal, SUCCEEDED, DIVERGED), state.ending)
        ending = xp.where(unfinished, UNFINISHED, ending)
        new = with_fields(
            state,
            first=xp.array(False),
            x=x,
            f=f,
            grad=grad,
            edm=edm,
            aux=aux,
            plan=plan,
            fraction=fraction,
            radius=radius,
            terminate=done | stuck | unfinished | nonfinite_start,
            ending=xp.where(nonfinite_start, NOT_FINITE, ending),
            num_gradients=state.num_gradients + 1,
            num_products=num_products,
        )
        return unravel(x + step), new, aux_trial

    def stats(self, state: _State[Any]) -> dict[str, Any]:
        return {
            "edm": state.edm,
            "num_values": xp.array(0),
            "num_gradients": state.num_gradients + 2 * state.num_products,
            "num_products": state.num_products,
            "num_hessians": xp.array(0),
        }


def applied(metric: Float[Array, "..."], v: Float[Array, " n"]) -> Float[Array, " n"]:
    """The product of a metric, or of the diagonal of one, with a vector."""
    return metric @ v if metric.ndim == 2 else metric * v


def _predicted(state: _State[Any]) -> Scalar:
    """The reduction that the model predicts for the fraction of the planned step."""
    t = state.fraction
    return -(t * state.plan.slope + 0.5 * t**2 * state.plan.curvature)


def _ratio(state: _State[Any], f: Scalar, grad: Float[Array, " n"], noise: Scalar) -> Scalar:
    """The ratio of the actual to the predicted reduction."""
    predicted, reduction = _predicted(state), state.f - f
    ratio = reduction / xp.where(predicted > 0, predicted, 1.0)
    # Near the rounding noise of the values, which cancel in long sums, the slope along the step decides: at the end of
    # one by conjugate gradients that of the model vanishes.
    in_noise = (predicted <= _NOISES * noise) & (xp.abs(reduction) <= 2 * _NOISES * noise)
    flattens = xp.abs(grad @ state.plan.step) <= 0.5 * xp.abs(state.plan.slope)
    return xp.where(in_noise, xp.where(flattens, 1.0, 0.0), ratio)


NewtonCG.__init__.__doc__ = """**Arguments:**

- `tol`: MINUIT's tolerance. The solver stops at an EDM of 0.002 `tol` `up`.
- `up`: by how much the function rises over one error: 0.5 for minus log L, 1.0 for a chi-squared.
- `radius`: of the first trust region, in units in which the `metric` is the identity (so in errors, if `up` is 0.5).
- `max_products`: the most products of the Hessian with a vector for one step.
- `rtol`: where no option `goal` is given (`mx.fit`, which knows the units, gives it), the step that is left must be
    within `atol + rtol |y|` for each number of `y`, and the EDM within `atol + rtol |f|`, unless it is noise.
- `atol`: see `rtol`.
"""
