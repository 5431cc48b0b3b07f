"""Conversion to iminuit and back: the same likelihood as a `Minuit`, and its result as a `FitResult`."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike

from .._derivatives.one_mode import differentiable
from .._fit.covariance import Covariance
from .._fit.not_finite import nothing_found
from .._fit.objective import check_scalar, check_up, prepare_data, prepare_params
from .._fit.result import FitResult
from .._fit.status import Status
from .._parameters.names import flatten, mark
from .._parameters.parameter import Parameter, is_parameter
from .._parameters.space import ravel, resolve_at, update
from .._parameters.static import only_arrays
from .._util.typing import PyTree

if TYPE_CHECKING:
    from iminuit import Minuit


def to_iminuit(
    nll: Callable[[Any, Any], ArrayLike], params: PyTree, data: PyTree, *, up: float = 0.5, hessian: bool = True
) -> "Minuit":
    """Returns an `iminuit.Minuit` for the fit `mx.fit(nll, params, data)`, ready for `migrad()`.

    ```python
    m = mx.io.to_iminuit(nll, params, data)
    m.migrad()
    m.draw_mnprofile("mu")
    ```

    It has the names, starts, bounds and fixed parameters of `params`. Value and gradient are compiled programs. With
    `hessian=True` it also has the exact second derivatives, which iminuit uses if its strategy is 1 or more.

    **Arguments:** `nll`, `params`, `data` and `up` as for `mx.fit`; `params` and `data` must not be traced.

    **Raises:** `ImportError` without iminuit; `TypeError`, `ValueError` as `mx.fit`.
    """
    try:
        from iminuit import Minuit
    except ImportError:
        raise ImportError('this needs iminuit: pip install "migrax[iminuit]"') from None
    params, data = prepare_params(params), prepare_data(data)
    params = mark(params)
    leaves, slots, treedef = flatten(params)
    free = [Parameter(x.value, x.lower, x.upper) if is_parameter(x) else x for x in leaves]
    start, space = ravel(jtu.tree_unflatten(treedef, free))
    released = jtu.tree_unflatten(treedef, free)

    def objective(x: Any, _: None) -> Any:
        return check_scalar(nll(resolve_at(released, x), data))

    with_modes = differentiable(objective, start, None, space)
    value = lambda x: with_modes(x, None)  # noqa: E731
    compiled = {"fcn": jax.jit(value), "grad": jax.jit(jax.grad(value))}
    if hessian:  # with a Hessian but no G2, iminuit 2.33 calls None where a second derivative is not positive
        compiled["hessian"] = jax.jit(jax.hessian(value))
        compiled["g2"] = jax.jit(lambda x: jnp.diagonal(jax.hessian(value)(x)))
    functions: dict[str, Any] = {name: _with_numpy(fn, start.dtype) for name, fn in compiled.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "hessian overrides g2")
        minuit = Minuit(functions.pop("fcn"), np.asarray(start), name=space.names, **functions)
    minuit.errordef = float(check_up(up))
    minuit.limits = list(zip(np.asarray(space.lower), np.asarray(space.upper), strict=True))
    minuit.fixed = [bool(x) for slot in slots for x in ~slot.free]
    return minuit


def _with_numpy(fn: Callable[[Any], Any], dtype: Any) -> Callable[[Any], Any]:
    def call(x: Any) -> Any:
        out = np.asarray(fn(jnp.asarray(x, dtype)), dtype=float)
        return float(out) if out.ndim == 0 else out

    return call


def from_iminuit(minuit: "Minuit", params: PyTree) -> FitResult:
    """Converts the result of a `Minuit` from `to_iminuit` to the `FitResult` that `mx.minos`, `mx.profile`, ... accept.

    **Arguments:**

    - `minuit`: the object after `migrad()`; its covariance is used if it has one.
    - `params`: the tree of parameters that it was made from. Which of them are fixed is taken from `minuit`.

    **Returns:** a `FitResult`, valid if `minuit.valid`.

    **Raises:** `ValueError` if it has not minimised yet, or has other parameters than `params`.
    """
    if minuit.fmin is None:
        raise ValueError("this Minuit has not minimised yet: call its migrad() first")
    params = mark(params)
    leaves, slots, treedef = flatten(params)
    names = [name for slot in slots for name in slot.element_names()]
    if list(minuit.parameters) != names:
        raise ValueError(f"the Minuit has the parameters {', '.join(minuit.parameters)}; params {', '.join(names)}")
    flags, position = np.array(minuit.fixed), 0
    values = np.array(minuit.values)
    for slot in slots:
        old, entries = leaves[slot.leaf], slice(position, position + slot.size)
        position += slot.size
        value = jnp.asarray(values[entries].reshape(slot.shape), old.value.dtype)
        leaves[slot.leaf] = Parameter(value, old.lower, old.upper, flags[entries].reshape(slot.shape), old.period)
    params = jtu.tree_unflatten(treedef, leaves)
    x, space = ravel(params)
    n, free = x.size, np.flatnonzero(~flags)
    matrix = np.full((n, n), np.nan)
    if minuit.covariance is not None:
        matrix = np.array(minuit.covariance)[np.ix_(free, free)]
    is_posdef = bool(minuit.fmin.has_posdef_covar)
    covariance = Covariance(jnp.asarray(matrix, x.dtype), jnp.asarray(is_posdef), space.names)
    bad_data, data_paths = nothing_found(None)
    count = lambda number: jnp.asarray(int(number or 0))  # noqa: E731
    return FitResult(
        values=x,
        errors=covariance.errors,
        covariance=covariance,
        nll=jnp.asarray(minuit.fval, x.dtype),
        edm=jnp.asarray(minuit.fmin.edm, x.dtype),
        valid=jnp.asarray(bool(minuit.valid)),
        status=jnp.asarray(int(Status.VALID if minuit.valid else Status.NOT_CONVERGED)),
        at_limit=space.room(x) < 0.5 * covariance.errors,
        on_kink=jnp.zeros_like(x, bool),
        stats={
            "num_steps": count(0),
            "num_values": count(minuit.nfcn),
            "num_gradients": count(minuit.ngrad),
            "num_hessians": count(0),
        },
        direction=jnp.zeros_like(x),
        lower=space.lower,
        upper=space.upper,
        up=jnp.asarray(minuit.errordef, x.dtype),
        chi2=None,
        ndof=None,
        bad_data=bad_data,
        _params=only_arrays(update(params, x)),
        minos=None,
        names=space.names,
        algorithm="iminuit",
        data_paths=data_paths,
    )
