"""`fit`: maximum-likelihood fitting, on the host or as one XLA program."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax import lax
from jaxtyping import Array, ArrayLike, Scalar

from .._derivatives.find_kinks import kinks_in
from .._derivatives.one_mode import differentiable, is_twice_differentiable
from .._hints import other_packages
from .._host.hosted import is_for_host
from .._likelihoods import LeastSquares
from .._likelihoods.base import AbstractLikelihood, as_likelihood
from .._parameters.names import flatten, names
from .._parameters.select import Where, select
from .._parameters.space import Space, ravel, resolve_at, starts_are
from .._solvers import LevenbergMarquardt, Migrad, NewtonCG
from .._solvers.flat import MANY
from .._util.explicit_sharding import without_explicit_types
from .._util.jit import jit
from .._util.packing import unpack
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .covariance import Covariance
from .hesse import scale_of
from .loop import solve, stationarity
from .minimiser import Problem, step_limit
from .not_finite import NOT_FINITE, explain
from .objective import (
    Theta,
    check_up,
    float32_complaint,
    float32_data_complaint,
    objective,
    prepare_data,
    prepare_params,
)
from .on_host import FitInputs, fit_on_host
from .result import FitResult
from .result_of import result_of
from .sandwich import Kind, check_kind, sandwich
from .traced import traced

_MAX_NAMED = 5


class FitError(RuntimeError):
    """Raised by `fit(throw=True)` for a fit that is not valid. The result of the fit is `.result`."""

    result: FitResult

    def __init__(self, result: FitResult):
        super().__init__(result.message)
        self.result = result


@other_packages.keywords(other_packages.FIT, other_packages.STARTS)
def fit(
    nll: Callable[[Any, Any], ArrayLike],
    params: PyTree,
    data: PyTree = None,
    *,
    solver: optx.AbstractMinimiser[Any, Any, Any] | optx.AbstractLeastSquaresSolver[Any, Any, Any, Any] | None = None,
    up: ArrayLike = 0.5,
    hesse: bool | Kind = True,
    covariance: Covariance | ArrayLike | None = None,
    max_steps: int | None = None,
    adjoint: optx.AbstractAdjoint | None = None,
    throw: bool = False,
    errors: Where | None = None,
) -> FitResult:
    """Finds the minimum of `nll(params, data)` and the covariance of its parameters.

    Works under `jax.jit` and `jax.vmap`, and can be differentiated (forward, reverse, nested) with respect to the
    data, the constants of the model and the bounds, by the implicit function theorem.

    ```python
    def nll(params, data):
        return 0.5 * jnp.sum(((data - params["mu"]) / params["sigma"]) ** 2 + 2 * jnp.log(params["sigma"]))


    result = mx.fit(nll, {"mu": mx.Parameter(0.0), "sigma": mx.Parameter(1.0, lower=0.0)}, data)
    result["mu"].value, result["mu"].error
    ```

    **Arguments:**

    - `nll`: the function to minimise, minus the log of the likelihood (or chi2/2), called with the resolved
        parameters and the data. A plain function, an unbound method of an `eqx.Module`, or a likelihood of migrax.
    - `params`: the start values, any pytree. If it contains `mx.Parameter`s, these float and everything else is
        constant; otherwise every floating-point leaf floats.
    - `data`: any pytree, passed to `nll` as it is. Pass the data here, not in a closure of `nll`: new data in a closure
        need a new compilation (and inside your own `jax.jit` they are not noticed at all, by the rules of JAX).
    - `solver`: any `optx.AbstractMinimiser`, default `mx.Migrad()`, and for 256 or more parameters in float64
        `mx.NewtonCG()`. Others are `mx.Newton()`, `mx.Simplex()`, those of Optimistix and your own; all work in
        coordinates in which the Hessian at the start is the identity. For a likelihood with residuals
        (`mx.LeastSquares`) also an `optx.AbstractLeastSquaresSolver`, and the default is `mx.LevenbergMarquardt()`.
    - `up`: the rise of `nll` over one error: 0.5 for minus log L, 1.0 for a chi2 of your own. migrax's likelihoods are
        minus log L, and so is `mx.LeastSquares` (chi2/2): keep the default for them.
    - `hesse`: the kind of covariance. `True` chooses the right one for the likelihood: the sandwich for unbinned
        likelihoods of weighted events, otherwise the inverse Hessian. `"sandwich"` is the robust covariance H⁻¹JH⁻¹,
        for weighted events or a model that is only approximate. migrax's likelihoods provide J: from the squared scores
        of events, and from the known errors of counts, points and constraints. A plain function must be a sum over ten
        or more rows of its data, or have a method `terms(params, data)` that returns one number for each event;
        `mx.Likelihood(nll, events=...)` says what the rows are. With `False`, `covariance` is `None` and `errors` are
        NaN in the result (the second derivatives at the minimum are still computed, because `valid` depends on them).
    - `covariance`: an estimate of the result's covariance, such as that of an earlier fit, of shape `(n_free, n_free)`.
        No Hessian is then computed at the start, which saves time when the start is good. It is only a guess: NaN
        entries are ignored, and impossible correlations are reduced.
    - `max_steps`: the largest number of steps in each run of the solver; default MINUIT's 200 + 100 n + 5 n².
        With fewer than about 15 a fit may not even leave its start.
    - `adjoint`: how to differentiate, default `optx.ImplicitAdjoint()`.
    - `errors`: the parameters whose errors are wanted, as in `mx.minos`: a name, a function that picks a node, or a
        list of these. For thousands of parameters: no second derivatives of all are then computed at the minimum.
        Products of the exact Hessian with vectors find these errors by conjugate gradients (their relative accuracy is
        `result.covariance.accuracy`), and by Lanczos' method whether it is positive definite, on which `valid` then
        rests. `result.covariance` is of these parameters alone, and the other `errors` are NaN.
    - `throw`: if `True`, a fit that is not valid raises `mx.FitError` (under `jax.jit` a runtime error without its
        details).

    **Returns:** a `FitResult`. Check `valid` first. The derivatives of a fit that did not find a minimum are zero. A
    valid minimum is a local one: for a likelihood that may have several, `jax.vmap` the fit over starts and take the
    lowest.

    **Raises:** `ValueError` or `TypeError` for invalid input, with the name of the parameter; `mx.FitError` with
    `throw=True`. Otherwise numerical failures are a status of the result.

    **Warns** if an unbinned density of one or two observables is not normalised over the range of the events (checked
    outside `jax.jit` and `jax.vmap`); if starts are in float32 but data in float64, or 10⁴ or more data in float32 but
    starts in float64; if `up=1` is given for a likelihood of migrax; if a fit (outside `jax.jit`) is valid only with
    kinks that it found and that are not declared; and, for the sandwich, if J of a function without rows is
    approximated by its second derivative.
    """
    likelihood: Any = as_likelihood(nll)
    params, given_data, data = prepare_params(params), data, prepare_data(data)
    if (complaint := float32_complaint(params, given_data)) or (complaint := float32_data_complaint(params, data)):
        warnings.warn(complaint, stacklevel=3)
    if not likelihood.is_plain and isinstance(up, int | float) and up == 1:
        half = " (chi2/2)" if isinstance(likelihood, LeastSquares) else ""
        warnings.warn(
            f"{likelihood.name} is minus log L{half}: with up=1 its errors are sqrt(2) too large. Leave up out",
            stacklevel=3,
        )
    errors_of = None if errors is None else _check_errors(errors, likelihood, params, data, hesse, solver)
    solver = NewtonCG() if errors_of is not None and solver is None else _check_solver(solver, likelihood, params, data)
    adjoint = _check_adjoint(adjoint, params)
    if max_steps is not None and (isinstance(max_steps, bool) or int(max_steps) != max_steps or max_steps < 1):
        raise ValueError(f"max_steps must be a whole number of at least 1, got {max_steps!r}")
    if not isinstance(hesse, bool | np.bool_):
        check_kind(hesse, "hesse")
    matrix = None if covariance is None else check_covariance(covariance, params)
    run = functools.partial(
        _run,
        likelihood,
        params,
        data,
        solver,
        check_up(up),
        bool(hesse),
        matrix,
        max_steps,
        adjoint,
        errors_of=errors_of,
    )
    result = run() if errors_of is not None else _retry_with_kinks(likelihood, run, params, data)
    result = explain(likelihood, result, data)
    if likelihood.complaints is not None and is_concrete(result.values):
        for sentence in without_explicit_types(likelihood.complaints, result.params, data):
            warnings.warn(sentence, stacklevel=3)
    kind = covariance_kind(likelihood, data, hesse)
    if kind == "sandwich":
        result = robust(likelihood, result, data)
    elif kind == "scaled":
        if isinstance(up, int | float) and up != 0.5:
            warnings.warn(f"up={up} is ignored: the errors of the points are unknown", stacklevel=3)
        result = scaled(result)
    if not throw:
        return result
    if is_concrete(result.valid):
        if not np.all(result.valid):
            raise FitError(result)
        return result
    return eqx.error_if(result, ~result.valid, "mx.fit(throw=True): the fit is not valid")


def _retry_with_kinks(
    nll: AbstractLikelihood, run: Callable[..., FitResult], params: PyTree, data: PyTree
) -> FitResult:
    """The result of `run`. If it is not valid, the fit is repeated with the kinks found in the likelihood; that result
    is returned if it is valid."""
    result = run()
    if not is_concrete(result.valid) or np.ndim(result.valid) != 0 or bool(result.valid):
        return result
    if not is_concrete(*jax.tree.leaves(eqx.filter((result, nll, params, data), eqx.is_array))):
        return result
    if int(result.status) in NOT_FINITE:
        return result
    fn, theta, x, space = objective(nll, params, data, result.up)
    if space.kinks is not None or (found_kinks := kinks_in(fn, x, theta, space)) is None:
        return result
    again = run(kinks=jnp.asarray(found_kinks, x.dtype))
    if not bool(again.valid):
        return result
    _, slots, _ = flatten(params)
    owners = [slot.name for slot in slots for _ in slot.free_names()]
    warnings.warn(
        "the slope of the likelihood jumps, and the fit is valid with this known. MINOS, toys, limits and jax.jit have "
        f"to be told: mx.Likelihood(nll, kinks={_declaration_text(found_kinks, owners)})",
        stacklevel=4,
    )
    return again


def _declaration_text(kinks: np.ndarray, owners: list[str]) -> str:
    """The declaration, as text, of `kinks`, shape `(m, n)`, of the parameters named `owners`."""
    values_of: dict[str, set[float]] = {}
    for name, values in zip(owners, kinks.T, strict=True):
        values_of.setdefault(name, set()).update(values[~np.isnan(values)].tolist())
    entries = [f"{name!r}: {_values_text(sorted(values))}" for name, values in values_of.items() if values]
    return f"{{{', '.join(entries[:_MAX_NAMED])}{', ...' if len(entries) > _MAX_NAMED else ''}}}"


def _values_text(values: list[float]) -> str:
    # With all digits, because a kink that is declared at a slightly different value has no effect.
    shown = ", ".join(repr(value).removesuffix(".0") for value in values[:_MAX_NAMED])
    return shown if len(values) == 1 else f"[{shown}{', ...' if len(values) > _MAX_NAMED else ''}]"


def covariance_kind(nll: Any, data: PyTree, hesse: bool | Kind) -> str | None:
    """The requested kind of covariance; for `hesse=True` the one that is right for the likelihood and its data."""
    if isinstance(hesse, str):
        return hesse
    if not hesse:
        return None
    return "hesse" if nll.covariance_kind is None else without_explicit_types(nll.covariance_kind, data)


def robust(nll: AbstractLikelihood, result: FitResult, data: PyTree) -> FitResult:
    """The result with the sandwich as its covariance."""
    assert result.covariance is not None
    covariance = sandwich(nll, result.params, result.values, data, result.covariance, result.up, 5)
    return eqx.tree_at(lambda r: (r.covariance, r.errors), result, (covariance, covariance.errors))


def scaled(result: FitResult) -> FitResult:
    """The result with errors from the scatter: the covariance and the rise over one error are multiplied by chi2/ndof;
    NaN without a degree of freedom."""
    assert result.covariance is not None
    assert result.chi2 is not None
    old, up = result.covariance, 0.5 * scale_of(result.chi2, result.ndof)
    covariance = Covariance(old.matrix * (up / result.up), old.valid & jnp.isfinite(up), old.names, "scaled")
    room = jnp.minimum(result.values - result.lower, result.upper - result.values)
    at_limit = (room <= 0) | (room < 0.5 * lax.stop_gradient(covariance.errors))
    changed = (covariance, covariance.errors, up, at_limit)
    return eqx.tree_at(lambda r: (r.covariance, r.errors, r.up, r.at_limit), result, changed)


def check_covariance(covariance: Covariance | ArrayLike, params: PyTree) -> Array:
    """The matrix of a covariance that the user gave.

    **Raises:** `ValueError` for a matrix of other parameters, or one that cannot be a covariance."""
    free = names(params)
    if isinstance(covariance, Covariance):
        if covariance.names != free:
            raise ValueError(f"covariance is of the parameters {covariance.names}; those of this fit are {free}")
        covariance = covariance.matrix
    matrix = jnp.asarray(covariance)
    n = len(free)
    if matrix.shape != (n, n):
        raise ValueError(f"covariance must have shape {(n, n)} for {n} free parameters, got {matrix.shape}")
    if is_concrete(matrix):
        array = np.asarray(matrix)
        variance = np.diagonal(array)
        if np.any(variance < 0) or np.any((array - array.T) ** 2 > 1e-6 * np.outer(variance, variance)):
            raise ValueError(
                f"covariance must be symmetric, with a diagonal of variances (squared errors), got\n{array}"
            )
    return matrix


def _check_adjoint(adjoint: optx.AbstractAdjoint | None, params: PyTree) -> optx.AbstractAdjoint:
    if adjoint is None:
        return optx.ImplicitAdjoint()
    if isinstance(adjoint, optx.RecursiveCheckpointAdjoint) and ravel(params)[1].has_bounds:
        raise TypeError(
            "within bounds a fit has loops inside its loop, which optx.RecursiveCheckpointAdjoint cannot "
            "differentiate: leave adjoint out (optx.ImplicitAdjoint, the exact derivative of the minimum), also for "
            "derivatives of derivatives"
        )
    if not isinstance(adjoint, optx.AbstractAdjoint):
        raise TypeError(f"adjoint must be an optx.AbstractAdjoint such as optx.ImplicitAdjoint(), got {adjoint!r}")
    return adjoint


def _check_errors(
    errors: Where, nll: AbstractLikelihood, params: PyTree, data: PyTree, hesse: bool | Kind, solver: Any
) -> tuple[int, ...]:
    """Positions of the parameters whose errors are wanted.

    **Raises:** `TypeError`, `ValueError` where errors cannot be those of some parameters alone."""
    which = tuple(dict.fromkeys(select(params, errors)))
    if not which:
        raise ValueError(f"errors={errors!r} names no parameter; leave it out for the errors of all, or hesse=False")
    kind = covariance_kind(nll, data, hesse)
    if kind != "hesse":
        asked = f"hesse={hesse!r}" if kind is None or isinstance(hesse, str) else "this likelihood"
        raise ValueError(f"errors={errors!r}: those of some alone are of the inverse Hessian, and {asked} has others")
    if not (solver is None or isinstance(solver, NewtonCG)):
        raise TypeError(f"errors={errors!r} takes mx.NewtonCG(), the default with it, not {type(solver).__name__}")
    if nll.kinks:
        raise ValueError(f"errors={errors!r}: a likelihood with kinks needs all second derivatives; leave it out")
    return which


def _is_for_products(nll: AbstractLikelihood, params: PyTree, data: PyTree) -> bool:
    """Whether there are many parameters, in float64, and products of the Hessian with vectors cost little."""
    if len(names(params)) < MANY or not starts_are(params, jnp.float64):
        return False
    inputs = (nll, params, data, check_up(0.5))
    if is_for_host(inputs):
        return bool(traced(*inputs, False).is_twice_differentiable)
    return is_twice_differentiable(objective(*inputs)[0])


def _check_solver(solver: Any, nll: Any, params: PyTree, data: PyTree) -> Any:
    if solver is None and nll.residuals is not None:
        return LevenbergMarquardt()
    if solver is None:
        return NewtonCG() if _is_for_products(nll, params, data) else Migrad()
    if isinstance(solver, type):
        raise TypeError(f"solver must be an instance: write {solver.__name__}(...), not {solver.__name__}")
    if isinstance(solver, optx.AbstractLeastSquaresSolver):
        if nll.residuals is None:
            raise TypeError(
                f"{type(solver).__name__} is a least-squares solver; it needs a likelihood with residuals, such as "
                "mx.LeastSquares. Use mx.Migrad() or another optx.AbstractMinimiser"
            )
        return solver
    if not isinstance(solver, optx.AbstractMinimiser):
        raise TypeError(f"solver must be an optx.AbstractMinimiser, got {type(solver).__name__}")
    return solver


def _run(*inputs: Any, kinks: Array | None = None, errors_of: tuple[int, ...] | None = None) -> FitResult:
    """The fit, on the host where it can be."""
    program: Callable[..., FitResult] = _fit
    call = FitInputs._make((*inputs, kinks, errors_of))
    result = fit_on_host(call, program)
    return program(*call) if result is None else result


@jit
def _fit(
    nll: AbstractLikelihood,
    params: PyTree,
    data: PyTree,
    solver: Any,
    up: Scalar,
    hesse: bool,
    covariance: Array | None,
    max_steps: int | None,
    adjoint: optx.AbstractAdjoint,
    kinks: Array | None = None,
    errors_of: tuple[int, ...] | None = None,
) -> FitResult:
    fn, theta, x, space = objective(nll, params, data, up)
    if kinks is not None:
        space = space.with_kinks(kinks)
    if covariance is not None:
        covariance = covariance.astype(x.dtype)
    limit = step_limit(x.size) if max_steps is None else max_steps
    residuals = _residuals(nll, x, theta, space) if isinstance(solver, optx.AbstractLeastSquaresSolver) else None
    start = lax.stop_gradient(x)
    problem = Problem(fn, residuals, theta, start, space, covariance, solver, adjoint, limit, errors_of)
    x, outcome = adjoint.apply(solve, stationarity, (problem,), frozenset())
    return result_of(fn, theta, space, x, outcome, hesse, nll, type(solver).__name__, errors_of=errors_of)


def _residuals(nll: Any, x: Array, theta: Theta, space: Space) -> Callable[[Array, Theta], PyTree]:
    _, static = eqx.partition(nll, eqx.is_array)

    def fn(x: Array, theta: Theta) -> PyTree:
        likelihood = eqx.combine(theta.nll, static)
        tree = resolve_at(unpack(theta.params), x)
        return likelihood.residuals(tree, unpack(theta.data)) / jnp.sqrt(2 * theta.up)

    return differentiable(eqx.filter_closure_convert(fn, x, theta), x, theta, space, orders=1)
