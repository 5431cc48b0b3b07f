"""The minimum of a fit, as everything starts from it that looks at the likelihood around it."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Scalar

from .._fit.fit import covariance_kind, fit
from .._fit.objective import Theta, constant_of, objective, prepare
from .._fit.result import FitResult, check_has_covariance
from .._parameters.select import Where, select
from .._parameters.space import Space
from .._util.tracing import is_concrete
from .._util.typing import PyTree

# A value that is lower than at the minimum by more than this (in units of UP = 1/2) is another minimum.
LOWER = 1e-4

# Of a rise: where the values are rounded to more than this part of it, it cannot be seen.
_BLUR = 0.1
_NEAR = 20.0  # errors


class Minimum(NamedTuple):
    """A minimum. The objective is the NLL over 2 UP: one standard deviation is a rise by 1/2."""

    fn: Callable[[Float[Array, " n"], Theta], Scalar]
    theta: Theta
    x: Float[Array, " n"]
    value: Scalar  # of the objective
    noise: Scalar  # the rounding noise of the objective's values
    covariance: Float[Array, "n n"]  # zero rows for the parameters at a bound
    space: Space
    valid: Bool[Array, ""]

    @property
    def lower(self) -> Scalar:
        """By how much the objective must be lower than at the minimum to be another one."""
        return jnp.maximum(LOWER, 10 * self.noise)

    def sees(self, rise: Scalar | float) -> Bool[Array, ""]:
        """Whether a rise of the objective is more than its rounding."""
        return self.noise <= _BLUR * rise

    @property
    def errors(self) -> Float[Array, " n"]:
        variance = jnp.diagonal(self.covariance)
        return jnp.sqrt(jnp.where(variance > 0, variance, 0.0))

    @property
    def sizes(self) -> Float[Array, " n"]:
        """The errors, and 1 for a parameter that has none."""
        return jnp.where(self.errors > 0, self.errors, 1.0)

    @property
    def active(self) -> Bool[Array, " n"]:
        """The parameters at a bound: to first order they cannot move."""
        return jnp.diagonal(self.covariance) == 0

    def near(self, x: Float[Array, " n"], held: Bool[Array, " n"]) -> Bool[Array, ""]:
        """Whether the parameters that are not held are where the covariance may still say how large a slope is.

        Far out it may not: where a likelihood levels off, all its slopes are small beside the errors at the minimum.
        """
        reach = _NEAR * jnp.where(self.errors > 0, self.errors, jnp.inf)
        return jnp.all(held | ~(jnp.abs(x - self.x) > reach))


class Hold(NamedTuple):
    """Which parameters are held, and where."""

    rows: Float[Array, "k n"]  # unit vectors of the parameters
    at: Float[Array, " n"]  # their values; what stands at the other parameters' places is not looked at

    @property
    def which(self) -> Bool[Array, " n"]:
        return jnp.any(self.rows != 0, axis=0)


def at_minimum(nll: Callable, result: FitResult, data: PyTree) -> Minimum:
    """Inside `jit`: the minimum of a fit from what the public functions are given."""
    fn, theta, x, space = objective(nll, result.params, data, result.up)
    assert result.covariance is not None
    value = lax.stop_gradient((result.nll - constant_of(nll, theta)) / (2 * result.up)).astype(x.dtype)
    # an invalid fit gives zeros: everything from it fails, and nothing loops over NaN
    covariance = lax.stop_gradient(jnp.where(result.valid, result.covariance.matrix, 0.0))
    minimum = Minimum(fn, theta, x, value, _noise(value), covariance, space, result.valid)
    return minimum._replace(valid=result.valid & minimum.sees(0.5))


def _noise(value: Any) -> Any:
    """Of the values at the minimum, and of a rise of a few standard deviations."""
    return 8 * jnp.finfo(value.dtype).eps * (abs(value) + 1)


def warn_if_rounded(nll: Callable, result: FitResult, data: PyTree, what: str) -> None:
    """Outside of `jit`, of values that are rounded to more than what a rise by UP shows: nothing that rests on one is
    found."""
    if not is_concrete(result.nll, result.up) or jnp.ndim(result.nll) != 0:
        return
    # by NumPy: an operation of JAX's inside of `jit` would be traced
    nll_value, dtype = np.asarray(result.nll), result.nll.dtype
    blurred = lambda value: _noise((value / (2 * np.asarray(result.up))).astype(dtype)) > 0.5 * _BLUR  # noqa: E731
    if not blurred(nll_value):
        return
    constant = constant_of(nll, Theta(eqx.filter(nll, eqx.is_array), result.params, data, result.up))
    if not is_concrete(constant) or not blurred(nll_value - np.asarray(constant)):
        return
    value = f"{float(nll_value):.2g}, is {dtype}"
    warnings.warn(
        f"{what} needs to see the likelihood rise by UP = {float(result.up):g}, and its value, {value}, with rounding "
        "of nearly that size: nothing is found. Give starts and data in float64",
        stacklevel=4,
    )


def check_result(result: Any, what: str) -> None:
    """**Raises:** `TypeError`, `ValueError` unless `result` is one valid fit with a covariance (or traced)."""
    if not isinstance(result, FitResult):
        raise TypeError(
            f"{what} takes the result of mx.fit, got {type(result).__name__}: mx.{what}(nll, result, data, ...)"
        )
    check_has_covariance(result, what)
    if jnp.ndim(result.nll) != 0:
        raise ValueError(
            f"{what} takes one fit, got {jnp.shape(result.nll)} of them: "
            f"jax.vmap(lambda result, data: mx.{what}(nll, result, data, ...))(results, data)"
        )
    if is_concrete(result.valid) and not bool(result.valid):
        raise ValueError(f"{what} needs a valid fit, and this one is not: {result.message} (refit=True fits again)")


def ready(nll: Callable, result: Any, data: PyTree, what: str, refit: bool) -> FitResult:
    """The result, fitted again if it is not valid and `refit` is asked for. **Raises:** as `check_result`."""
    if refit and isinstance(result, FitResult) and is_concrete(result.valid) and not np.all(result.valid):
        result = fit(nll, result.params, data, up=result.up)
    check_result(result, what)
    weighted = _is_weighted(nll, data)
    if weighted or (result.covariance is not None and result.covariance.kind == "sandwich"):
        way = "; mx.effective(nll, data) is the likelihood scaled to the effective number of events, to fit and look at"
        warnings.warn(
            f"{what} looks at the likelihood as it is, whose shape is not that of the data (weights?): robust errors "
            f"can be trusted (mx.fit has them), not those read off the shape{way if weighted else ''}",
            stacklevel=3,
        )
    if what != "scan":
        warn_if_rounded(nll, result, prepare({}, data)[1], what)
    return result


def _is_weighted(nll: Callable, data: PyTree) -> bool:
    try:
        return covariance_kind(nll, prepare({}, data)[1], True) == "sandwich"
    except (TypeError, ValueError):  # data that it does not know: what comes next says so
        return False


def positions(result: FitResult, where: Where | None, what: str) -> tuple[int, ...]:
    """The positions of the free parameters that are asked for; all, if none is.

    **Raises:** `ValueError` for unknown or fixed names.
    """
    if where is None:
        return tuple(range(len(result.names)))
    picked = select(result.params, where)
    if not picked:
        raise ValueError(f"{what}: no parameter is asked for")
    return picked
