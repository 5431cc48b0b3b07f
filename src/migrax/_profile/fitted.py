"""A fit with its likelihood and its data, checked once on entry to each function that starts from a fit."""

import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._fit.fit import covariance_kind, fit
from .._fit.objective import Theta, constant_of, prepare_data
from .._fit.result import FitResult, check_has_covariance
from .._host.evaluated import evaluated
from .._likelihoods.base import AbstractLikelihood, as_likelihood
from .._parameters.resolve import resolve
from .._parameters.select import Where, select
from .._util.tracing import is_concrete, is_concrete_tree
from .._util.typing import PyTree

# A rise cannot be resolved if the rounding of the values is more than this fraction of it.
BLUR = 0.1

# Values of the NLL that differ by less, in units of UP and beyond rounding, are of the same fit.
_SAME = 1e-4


class Fitted(NamedTuple):
    """A likelihood, a fit of it with a covariance, and the data of that fit, as arrays."""

    nll: AbstractLikelihood
    result: FitResult
    data: PyTree

    def positions(self, where: Where | None, what: str) -> tuple[int, ...]:
        """The positions of the free parameters that `where` picks; all for `None`.

        **Raises:** `ValueError` for unknown or fixed names.
        """
        return positions(self.result, where, what)


def positions(result: FitResult, where: Where | None, what: str) -> tuple[int, ...]:
    """The positions of the free parameters of `result` that `where` picks, as `Fitted.positions`."""
    if where is None:
        return tuple(range(len(result.names)))
    picked = select(result.params, where)
    if not picked:
        raise ValueError(f"{what}: no parameter is selected")
    return picked


def fitted(nll: Any, result: Any, data: PyTree, what: str, refit: bool) -> Fitted:
    """The checked inputs of the public function `what`. If `refit`, a result that is not valid is fitted again.

    **Raises:** `TypeError`, `ValueError` unless `result` is one valid fit with a covariance (or traced).

    **Warns** if the result belongs to other data, which are then fitted first (MINOS, contours and profiles start from
    its point and find this out themselves); if the shape of the likelihood does not describe the data (weighted
    events); and if the rounding of its values hides a rise by UP.
    """
    _check_kind(result, what)
    nll = as_likelihood(nll)
    if refit and is_concrete(result.valid) and not np.all(result.valid):
        result = fit(nll, result.params, data, up=result.up)
    check_result(result, what)
    data = prepare_data(data)
    if what == "impacts" and not is_of(result, nll, data, what):
        result = fit(nll, result.params, data, up=result.up)
        check_result(result, what)
    _warn_of_weights(nll, result, data, what)
    checked = Fitted(nll, result, data)
    if what != "scan":
        warn_if_rounded(checked, what)
    return checked


def check_result(result: Any, what: str) -> None:
    """**Raises:** `TypeError`, `ValueError` unless `result` is one valid fit with a covariance (or traced)."""
    _check_kind(result, what)
    check_has_covariance(result, what)
    if jnp.ndim(result.nll) != 0:
        raise ValueError(
            f"{what} takes one fit, got {jnp.shape(result.nll)} of them: "
            f"jax.vmap(lambda result, data: mx.{what}(nll, result, data, ...))(results, data)"
        )
    if is_concrete(result.valid) and not bool(result.valid):
        raise ValueError(f"{what} needs a valid fit, and this one is not: {result.message} (refit=True fits again)")


def is_of(result: FitResult, nll: AbstractLikelihood, data: PyTree, what: str, stacklevel: int = 4) -> bool:
    """Returns whether the value of the result is that of these data, which is assumed where it is traced.

    **Warns** if not, at `stacklevel`."""
    if not is_concrete_tree((result.nll, result.params, eqx.filter((nll, data), eqx.is_array))):
        return True
    here = _value(nll, result.params, data)
    if not is_concrete(here):  # the likelihood closes over a tracer
        return True
    was, now = float(result.nll), float(here)
    rounding = 64 * float(np.finfo(result.values.dtype).eps) * (abs(was) + 1)
    if np.isnan(was) or abs(now - was) <= _SAME * float(result.up) + float(result.edm) + rounding:
        return True
    warnings.warn(
        f"{what}: the result belongs to another likelihood or other data: the NLL at its parameters is {now:.9g}, and "
        f"{was:.9g} in the result. The given data are fitted first, starting there",
        stacklevel=stacklevel,
    )
    return False


@evaluated
def _value(nll: AbstractLikelihood, params: PyTree, data: PyTree) -> Array:
    return jnp.asarray(nll(resolve(params), data))


def _check_kind(result: Any, what: str) -> None:
    if not isinstance(result, FitResult):
        raise TypeError(
            f"{what} takes the result of mx.fit, got {type(result).__name__}: mx.{what}(nll, result, data, ...)"
        )


def _warn_of_weights(nll: AbstractLikelihood, result: FitResult, data: PyTree, what: str) -> None:
    weighted = _is_weighted(nll, data)
    if not weighted and (result.covariance is None or result.covariance.kind != "sandwich"):
        return
    hint = "; mx.effective(nll, data) is the likelihood scaled to the effective number of events, for fits and MINOS"
    warnings.warn(
        f"{what} uses the shape of the likelihood, which is not right for these data (weighted events?): the robust "
        f"errors of mx.fit can be trusted, not those from the shape{hint if weighted else ''}",
        stacklevel=4,
    )


def _is_weighted(nll: AbstractLikelihood, data: PyTree) -> bool:
    try:
        return covariance_kind(nll, data, True) == "sandwich"
    except (TypeError, ValueError):  # invalid data, for which the next call raises the error
        return False


def noise(value: Any) -> Any:
    """The rounding noise of the objective at the minimum, and up to a rise of a few standard deviations."""
    return 8 * jnp.finfo(value.dtype).eps * (abs(value) + 1)


def warn_if_rounded(fitted: Fitted, what: str) -> None:
    """**Warns**, outside of `jit`, if the rounding of the values hides a rise by UP, so that no crossing is found."""
    nll, result, data = fitted
    if not is_concrete(result.nll, result.up) or jnp.ndim(result.nll) != 0:
        return
    # In NumPy, as operations of JAX would be traced inside of `jit`.
    nll_value, dtype = np.asarray(result.nll), result.nll.dtype
    hides_rise = lambda value: noise((value / (2 * np.asarray(result.up))).astype(dtype)) > 0.5 * BLUR  # noqa: E731
    if not hides_rise(nll_value):
        return
    constant = constant_of(nll, Theta(eqx.filter(nll, eqx.is_array), result.params, data, result.up))
    if not is_concrete(constant) or not hides_rise(nll_value - np.asarray(constant)):
        return
    value = f"{float(nll_value):.2g} in {dtype}"
    warnings.warn(
        f"{what}: the rounding error of the NLL ({value}) is nearly as large as the rise by UP = {float(result.up):g} "
        "that is searched for: nothing is found. Give starts and data in float64",
        stacklevel=4,
    )
