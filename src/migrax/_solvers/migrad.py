"""MIGRAD: MINUIT's variable-metric method, with exact gradients, as an Optimistix minimiser."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import lineax as lx
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
    AbstractEDMSolver,
    AbstractState,
    check_positive,
    noise_of,
    scalar_option,
    zeros_like_struct,
)
from .flat import Differentiated, autodiff_mode, flatten_fn, value_and_grad, value_grad_hessian
from .line_search import accept, shorten
from .metric import decompose, seed, updated_inverse

Y = TypeVar("Y")
Aux = TypeVar("Aux")


# How often to continue from the exact Hessian after the search stopped at a point that is no minimum (MINUIT's rounds
# of MIGRAD).
_MAX_ROUNDS = 5


class _HessianCheck(NamedTuple):
    """The results of an exact Hessian at a point."""

    metric: Float[Array, "n n"]  # its inverse, forced positive definite
    push: Float[Array, " n"]  # a step off a saddle, one error long; zero elsewhere
    edm: Scalar
    minimum: Bool[Array, ""]  # no negative curvature
    finite: Bool[Array, ""]


class _MigradState(AbstractState[Aux]):
    first: Bool[Array, ""]  # nothing has been evaluated yet
    # the last accepted point
    x: Float[Array, " n"]
    f: Scalar
    grad: Float[Array, " n"]
    edm: Scalar
    aux: Aux
    # the estimate of the inverse Hessian
    metric: Float[Array, "n n"]
    dcov: Scalar  # its relative error, roughly
    trusted: Bool[Array, ""]  # it comes from a positive curvature, given or observed
    confirming: Bool[Array, ""]  # the exact EDM is small, and a Newton step is to confirm it
    # the trial point, x + step * direction
    direction: Float[Array, " n"]
    step: Scalar
    num_refused: Int[Array, ""]
    was_reset: Bool[Array, ""]
    # progress
    terminate: Bool[Array, ""]
    ending: Int[Array, ""]
    num_gradients: Int[Array, ""]
    num_hessians: Int[Array, ""]


class Migrad(  # pyright: ignore[reportIncompatibleVariableOverride]
    AbstractEDMSolver[Y, Scalar, Aux, _MigradState[Any]], optx.AbstractMinimiser[Y, Aux, _MigradState[Any]]
):
    """MINUIT's MIGRAD with exact gradients: BFGS on the inverse Hessian, stopped by the estimated vertical distance to
    the minimum (EDM), never because a step was small.

    Each step evaluates the value and the gradient once. The exact Hessian is computed for the first metric and where
    the search has converged: it terminates successfully when that Hessian has no negative eigenvalue and gives an EDM
    below 0.002 `tol` `up`, and otherwise continues from there. With the option `metric` no Hessian is computed.

    Supports the following `options`:

    - `metric`: an estimate of the inverse Hessian to start from, as a matrix of shape `(n, n)` in the order in which
        `jax.flatten_util.ravel_pytree` puts the `n` numbers of `y`, or as a `lineax` operator of that matrix. With it
        no Hessian is computed, each of which costs about `n` gradients: suited to many similar fits in lockstep under
        `jax.vmap`. The EDM then uses this estimate, as the search updates it, so its scale matters. If it is not
        positive definite, its diagonal is used.
    - `autodiff_mode`: `"bwd"` (default) or `"fwd"`, for functions without a reverse mode.
    - `goal`: the EDM at which to stop, in place of 0.002 `tol` `up`; it may be traced.
    - `noise`: the rounding noise of the function's values; default 8 eps |f|.
    - `idle`: if true (it may be traced), return at once: for lanes of a vmapped solve that have nothing to do.

    The `stats` of the solution hold `edm`, `metric` (the inverse of the last Hessian or, with the option `metric`, the
    estimate of it; shape `(n, n)`), `num_values` (0), `num_gradients` (each with its value) and `num_hessians`.

    ??? cite "References"

        F. James and M. Roos, Comput. Phys. Commun. 10 (1975) 343; F. James, MINUIT Reference Manual, CERN Program
        Library Long Writeup D506 (1994); R. Fletcher, Comput. J. 13 (1970) 317.
    """

    tol: float = 0.1
    up: float = 0.5
    max_refused: int = 12
    verbose: bool | Callable[..., None] = eqx.field(static=True, default=False)
    rtol: float = 1e-6
    atol: float = 1e-6

    def __check_init__(self) -> None:
        check_positive(self, "max_refused")
        if not (isinstance(self.verbose, bool) or callable(self.verbose)):
            raise TypeError(f"Migrad(verbose=...) must be True, False or a function, got {self.verbose!r}")

    def init(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        f_struct: PyTree,
        aux_struct: PyTree,
        tags: frozenset[object],
    ) -> _MigradState[Any]:
        mode = autodiff_mode(options)
        x, _, flat = flatten_fn(fn, y, args)
        zero = xp.zeros((), x.dtype)
        if options.get("metric") is None:
            num_hessians = 1
            seen = self._check_hessian(flat, x, mode)
            metric, trusted, direction = seen.metric, seen.minimum, seen.push
        else:
            num_hessians = 0
            metric, trusted = _user_metric(options["metric"], x)
            direction = xp.zeros_like(x)
        return _MigradState(
            first=xp.array(True),
            x=x,
            f=zero + xp.inf,
            grad=xp.zeros_like(x),
            edm=zero + xp.inf,
            aux=zeros_like_struct(aux_struct),
            metric=metric,
            dcov=xp.where(trusted, zero, 1.0),
            trusted=trusted,
            confirming=xp.array(False),
            direction=direction,
            step=zero + 1,
            num_refused=xp.array(0),
            was_reset=xp.array(False),
            terminate=xp.asarray(options.get("idle", False)),
            ending=xp.array(SUCCEEDED),
            num_gradients=xp.array(0),
            num_hessians=xp.array(num_hessians),
        )

    def _check_hessian(self, flat: Callable | Differentiated, x: Float[Array, " n"], mode: str) -> _HessianCheck:
        _, grad, hessian, _ = value_grad_hessian(flat, x, mode)
        metric = decompose(hessian, grad)
        # Where the curvature vanishes and sets no scale, the first step has length one.
        root = flow.stop_gradient(metric.root(flat=xp.abs(metric.vectors.T @ (grad / metric.scale))))
        slope = root[:, 0] @ grad
        error = (2 * self.up) ** 0.5
        # MINUIT's seed leaves a saddle by a line search along it.
        saddle = metric.finite & (metric.eigenvalues[0] < -metric.floor) & (xp.abs(slope) < 0.1 * error)
        push = xp.where(slope > 0, -error, error) * root[:, 0]
        return _HessianCheck(
            metric=seed(hessian, root),
            push=xp.where(saddle, push, 0.0),
            edm=metric.edm(grad),
            minimum=metric.minimum,
            finite=metric.finite,
        )

    def step(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: _MigradState[Any],
        tags: frozenset[object],
    ) -> tuple[Y, _MigradState[Any], Aux]:
        mode = autodiff_mode(options)
        x, unravel, flat = flatten_fn(fn, y, args)
        f, grad, aux = value_and_grad(flat, x, mode)
        finite = xp.isfinite(f) & xp.all(xp.isfinite(grad))
        slope, slope_trial = state.grad @ state.direction, grad @ state.direction
        is_acceptable = (
            finite
            & xp.any(x != state.x)
            & accept(state.f, slope, state.step, f, slope_trial, noise_of(options, state.f), _length(state))
        )
        accepted = state.first | is_acceptable
        goal = scalar_option(options, "goal", self.goal, f.dtype)
        # Zeros in place of NaN, which would spoil derivatives even where it is not selected.
        if_accepted = self._accepted(state, x, f, xp.where(finite, grad, 0.0), aux, goal, options)
        if_refused = self._refused(
            state, shorten(state.f, slope, state.step, f, slope_trial, state.num_refused > 0), goal
        )
        new = flow.select(accepted, if_accepted, if_refused)
        nonfinite_start = state.first & ~finite
        new = with_fields(
            new,
            terminate=new.terminate | nonfinite_start,
            ending=xp.where(nonfinite_start, NOT_FINITE, new.ending),
            confirming=xp.array(False),
            num_gradients=state.num_gradients + 1,
        )
        if options.get("metric") is None:
            confirmed = accepted & state.confirming & (new.edm <= CONFIRMS * state.edm)
            # not in lanes of a vmapped solve that had finished before
            needs_check = new.terminate & ~nonfinite_start & ~confirmed & ~state.terminate
            fn, args = jax.tree.map(lambda a: flow.stop_gradient(a) if eqx.is_array(a) else a, (fn, args))
            new = self._verify(needs_check, new, flatten_fn(fn, y, args)[2], mode, goal, options)
        if self.verbose is not False:
            (_print_step if self.verbose is True else self.verbose)(
                num_gradients=("Gradients", new.num_gradients),
                loss_this_step=("loss on this step", f),
                loss_last_accepted_step=("loss on the last accepted step", new.f),
                edm=("EDM", new.edm),
                y=("y", y),
                y_last_accepted_step=("y on the last accepted step", unravel(new.x)),
            )
        return unravel(new.x + new.step * new.direction), new, aux

    def _accepted(
        self,
        state: _MigradState[Any],
        x: Float[Array, " n"],
        f: Scalar,
        grad: Float[Array, " n"],
        aux: Any,
        goal: Scalar,
        options: dict[str, Any],
    ) -> _MigradState[Any]:
        """Updates the metric and the EDM at the accepted point, and plans a full step from it."""
        metric, dcov, trusted = flow.select(
            state.first, (state.metric, state.dcov, state.trusted), _update(state, x - state.x, grad)
        )
        direction = -metric @ grad
        # Reset a metric that is no longer positive definite because of rounding.
        not_descent = ~(grad @ direction < 0) & xp.any(grad != 0)
        metric, direction = _reset_to_diagonal(not_descent, metric, direction, grad)
        edm = -0.5 * (grad @ direction)
        done = trusted & (edm * (1 + 3 * dcov) <= goal) & self.settled(options, x, f, direction, edm)
        direction = xp.where(state.first, direction + state.direction, direction)
        stationary = ~done & xp.all(direction == 0)
        return with_fields(
            state,
            first=xp.array(False),
            x=x,
            f=f,
            grad=grad,
            edm=edm,
            aux=aux,
            metric=metric,
            dcov=dcov,
            trusted=trusted,
            direction=direction,
            step=xp.ones_like(f),
            num_refused=xp.array(0),
            was_reset=xp.array(False),
            terminate=done | stationary,
            ending=xp.where(stationary, DIVERGED, state.ending),
        )

    def _refused(self, state: _MigradState[Any], step: Scalar, goal: Scalar) -> _MigradState[Any]:
        """Shortens the step. After `max_refused` rejections the metric is reset to its diagonal, once; after as many
        more the search fails."""
        exhausted = state.num_refused + 1 >= self.max_refused
        give_up = exhausted & state.was_reset
        metric, direction = _reset_to_diagonal(exhausted, state.metric, state.direction, state.grad)
        is_close = state.trusted & (state.edm <= 10 * goal)  # MINUIT accepts this too
        return with_fields(
            state,
            metric=metric,
            direction=direction,
            step=xp.where(exhausted, 1.0, step),
            num_refused=xp.where(exhausted, 0, state.num_refused + 1),
            was_reset=state.was_reset | exhausted,
            terminate=give_up,
            ending=xp.where(give_up & ~is_close, DIVERGED, state.ending),
        )

    def _verify(
        self,
        needs_check: Bool[Array, ""],
        state: _MigradState[Any],
        flat: Callable | Differentiated,
        mode: str,
        goal: Scalar,
        options: dict[str, Any],
    ) -> _MigradState[Any]:
        """Computes the exact Hessian where the search ended, and accepts the point as the minimum or continues from it.

        Beside the floor of a narrow curved valley even the exact EDM is small, as the curvature of the walls enters
        along the valley, too. A Newton step must therefore confirm it.
        """
        x, noise = flow.stop_gradient(state.x), noise_of(options, state.f)
        false = xp.array(False)
        blank = _HessianCheck(state.metric, xp.zeros_like(x), state.edm, false, false)
        # A loop of at most one iteration: under vmap `flow.cond` would compute the Hessian at every step.
        _, seen = flow.while_loop(
            lambda carry: carry[0],
            lambda carry: (false, self._check_hessian(flat, x, mode)),
            flow.stop_gradient((needs_check, blank)),
        )
        gave_up = state.ending != SUCCEEDED
        # A search that failed to decrease the function may be at the minimum to within the rounding noise.
        reached = seen.minimum & (seen.edm <= xp.where(gave_up, xp.minimum(10 * goal, noise), goal))
        reached = reached & (self.settled(options, x, state.f, seen.metric @ state.grad, seen.edm) | gave_up)
        confirmed = reached & (gave_up | (seen.edm <= xp.maximum(TINY * goal, noise)))
        confirmed = confirmed | (~seen.finite & ~gave_up)
        direction = -seen.metric @ state.grad + seen.push
        again = ~confirmed & (reached | (state.num_hessians <= _MAX_ROUNDS)) & xp.any(direction != 0)
        ending = xp.where(confirmed | again, SUCCEEDED, DIVERGED)
        checked = with_fields(
            state,
            edm=seen.edm,
            metric=seen.metric,
            dcov=xp.where(seen.minimum, xp.zeros_like(seen.edm), 1.0),
            trusted=seen.minimum,
            confirming=reached,
            direction=direction,
            step=xp.ones_like(seen.edm),
            num_refused=xp.array(0),
            was_reset=xp.array(False),
            terminate=~again,
            ending=ending,
            num_hessians=state.num_hessians + 1,
        )
        return flow.select(needs_check, checked, state)

    def stats(self, state: _MigradState[Any]) -> dict[str, Any]:
        return {
            "edm": state.edm,
            "metric": state.metric,
            "num_values": xp.array(0),
            "num_gradients": state.num_gradients,
            "num_hessians": state.num_hessians,
        }


Migrad.__init__.__doc__ = """**Arguments:**

- `tol`: MINUIT's tolerance. The solver stops at an EDM of 0.002 `tol` `up`.
- `up`: by how much the function rises over one error: 0.5 for minus log L, 1.0 for a chi-squared.
- `max_refused`: how often to shorten one step. Then the search starts again with the diagonal of the metric, and after
    as many more it gives up.
- `verbose`: `True` prints each step. A function is called with what there is to say, as those of Optimistix's solvers:
    pairs of a label and a (traced) value, by name: `num_gradients`, `loss_this_step`, `loss_last_accepted_step`, `edm`,
    `y`, `y_last_accepted_step`. Inside `mx.fit` the loss is above the start's, in units of 2 UP, and `y` in the
    coordinates of the search, whose unit is an error.
- `rtol`: where no option `goal` is given (`mx.fit`, which knows the units, gives it), the step that is left must be
    within `atol + rtol |y|` for each number of `y`, and the EDM within `atol + rtol |f|`, unless it is noise.
- `atol`: see `rtol`.
"""


def _length(state: _MigradState[Any]) -> Scalar:
    return xp.sqrt(xp.sum((state.step * state.direction) ** 2))


def _print_step(**info: tuple[str, Any]) -> None:
    jax.debug.print(", ".join(f"{label}: {{}}" for label, _ in info.values()), *(value for _, value in info.values()))


def _user_metric(metric: Any, x: Float[Array, " n"]) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """The user's metric, and whether it is positive definite."""
    metric = metric.as_matrix() if isinstance(metric, lx.AbstractLinearOperator) else xp.asarray(metric)
    if metric.shape != (x.size, x.size):
        raise ValueError(f"options['metric'] must have shape {(x.size, x.size)}, got {metric.shape}")
    metric = metric.astype(x.dtype)
    metric = 0.5 * (metric + metric.T)
    trusted = xp.all(xp.isfinite(xp.cholesky(metric)))
    return xp.where(trusted, metric, xp.diag(_positive_diagonal(metric))), trusted


def _positive_diagonal(metric: Float[Array, "n n"]) -> Float[Array, " n"]:
    """The diagonal of the metric, made positive: as a metric it always gives a descent direction."""
    diagonal = xp.abs(xp.diagonal(metric))
    return xp.where(xp.isfinite(diagonal) & (diagonal > 0), diagonal, 1.0)


def _reset_to_diagonal(
    reset: Bool[Array, ""], metric: Float[Array, "n n"], direction: Float[Array, " n"], grad: Float[Array, " n"]
) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
    diagonal = _positive_diagonal(metric)
    return xp.where(reset, xp.diag(diagonal), metric), xp.where(reset, -diagonal * grad, direction)


def _update(
    state: _MigradState[Any], dx: Float[Array, " n"], grad: Float[Array, " n"]
) -> tuple[Float[Array, "n n"], Scalar, Bool[Array, ""]]:
    """The BFGS update of the inverse Hessian (Fletcher 1970; MINUIT's DavidonErrorUpdator), MINUIT's dcov, the running
    estimate of the metric's relative error, and whether a positive curvature has been given or observed.

    Where the curvature along the step is negative, no positive metric can reproduce it: the metric is instead increased
    along the step, so that the next step in this direction is three times as long.
    """
    metric = state.metric
    dg = grad - state.grad
    delta = dx @ dg
    v_dg = metric @ dg
    gvg = dg @ v_dg
    curves_up = (delta > 0) & (gvg > 0) & xp.isfinite(delta) & xp.isfinite(gvg)
    safe_delta, safe_gvg = xp.where(curves_up, delta, 1.0), xp.where(curves_up, gvg, 1.0)
    updated = updated_inverse(metric, dx, v_dg, safe_delta, safe_gvg)
    # The slope at this end of the step: where the search leaves a saddle, it was zero at the other end.
    slope = -(grad @ state.direction)
    lengthened = metric + 2 * xp.outer(state.direction, state.direction) / xp.where(slope > 0, slope, xp.inf)
    new = xp.where(curves_up, 0.5 * (updated + updated.T), lengthened)
    new = xp.where(xp.all(xp.isfinite(new)), new, metric)
    relative_change = flow.stop_gradient(xp.sum(xp.abs(new - metric)) / xp.sum(xp.abs(new)))
    return new, 0.5 * (state.dcov + relative_change), state.trusted | curves_up
