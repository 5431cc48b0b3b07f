"""Constraints: measurements of the parameters themselves. Their data are the global observables."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Scalar

from .._hints.calls import given
from .._parameters.resolve import resolve
from .._parameters.select import Picked, Where, pick_values
from .._util.poisson_draw import draw_poisson
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .base import AbstractLikelihood
from .counts import Counts, floats, terms_from_mean
from .fault import Fault
from .least_squares import check_covariance
from .spread import At, of_means, of_residuals


def static_where(where: Any) -> Any:
    """Convert lists to tuples, as static fields of what is jitted must be hashable."""
    return tuple(static_where(entry) for entry in where) if isinstance(where, list | tuple) else where


class _AbstractNormal(AbstractLikelihood):
    """A normal measurement of some function of the parameters."""

    where: eqx.AbstractVar[Where]
    width: eqx.AbstractVar[Array]

    @abc.abstractmethod
    def _transformed(self, values: Array) -> Array:
        """Transform to the quantity whose error is normal."""

    @abc.abstractmethod
    def _inverse(self, measured: Array) -> Array:
        """The inverse of `_transformed`."""

    def __call__(self, params: PyTree, data: ArrayLike) -> Scalar:
        """Half the sum of the squares of the residuals."""
        return 0.5 * jnp.sum(self.residuals(params, data) ** 2)

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich: residuals have the variance 1."""
        return of_residuals(self.residuals, at, x, data)

    def residuals(self, params: PyTree, data: ArrayLike) -> Float[Array, " n"]:
        """(measured - parameters) in standard deviations, decorrelated, shape `(n,)`."""
        width, difference = self.width, self._difference(params, data)
        if width.ndim < 2:
            return difference / width.astype(difference.dtype)
        return jax.scipy.linalg.solve_triangular(
            jnp.linalg.cholesky(width.astype(difference.dtype)), difference, lower=True
        )

    def _difference(self, params: PyTree, data: ArrayLike) -> Float[Array, " n"]:
        values = _pick(params, self.where, self.width).values
        return self._transformed(observable(data, values, self.where)) - self._transformed(values)

    @property
    def _errors(self) -> Array:
        return jnp.sqrt(jnp.diagonal(self.width)) if self.width.ndim == 2 else self.width

    def prediction(self, params: PyTree, data: Any = None) -> Float[Array, "..."]:
        """The parameters, in the shape of the data."""
        return _pick(params, self.where, self.width).shaped

    def expected_data(self, params: PyTree, data: Any = None) -> Float[Array, "..."]:
        """The Asimov data: the parameters."""
        return self.prediction(params)

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Float[Array, "..."]:
        """The global observable of one toy: a measurement of these parameters."""
        values, shaped, _ = _pick(params, self.where, self.width)
        return self._measurement(key, values).reshape(shaped.shape)

    def resample(self, key: Array, data: ArrayLike) -> Float[Array, "..."]:
        """A measurement of the observed values, with the same error."""
        observed = floats(data)
        return self._measurement(key, jnp.ravel(observed)).reshape(observed.shape)

    def _measurement(self, key: Array, values: Float[Array, " n"]) -> Float[Array, " n"]:
        noise, width = jax.random.normal(key, values.shape, values.dtype), self.width.astype(values.dtype)
        shift = jnp.linalg.cholesky(width) @ noise if width.ndim == 2 else width * noise
        return self._inverse(self._transformed(values) + shift)

    def deviance(self, params: PyTree, data: ArrayLike) -> Scalar:
        """The sum of the squares of the residuals."""
        return 2 * self(params, data)

    def pulls(self, params: PyTree, data: ArrayLike) -> Float[Array, " n"]:
        """(measured - parameters) / width, where the width of a covariance is the root of its diagonal."""
        return self._difference(params, data) / self._errors

    def ndata(self, data: ArrayLike) -> int:
        """The number of measured values."""
        return floats(data).size

    def faults(self, params: PyTree, data: ArrayLike) -> PyTree:
        """`Fault` codes of invalid measured values."""
        is_valid = jnp.isfinite(self._transformed(jnp.asarray(data)))
        return jnp.where(is_valid, int(Fault.NONE), int(Fault.NOT_POSITIVE))

    def prefit(self, params: PyTree, data: ArrayLike) -> list[tuple[str, Array, Array]]:
        """Name, value and error (to first order) of each constrained number before the fit."""
        values, _, names = _pick(params, self.where, self.width)
        observed = observable(data, values, self.where)
        _, slope = jax.jvp(self._transformed, (observed,), (jnp.ones_like(observed),))
        errors = jnp.broadcast_to(self._errors, values.shape) / slope
        return [(name, observed[i], errors[i]) for i, name in enumerate(names)]


class NormalConstraint(_AbstractNormal):
    """A constraint on parameters that were measured elsewhere, with normal errors, which may be correlated.

    The value is half of (data - parameters)ᵀ C⁻¹ (data - parameters), where `data` are the measured values (the global
    observables). These are data and not part of the constraint, so that each toy draws its own.

    ```python
    nll = mx.Joint({"counts": mx.PoissonNLL(expected), "lumi": mx.NormalConstraint("lumi", 0.017)})
    mx.fit(nll, params, {"counts": observed, "lumi": 1.0})
    ```

    **Arguments:**

    - `where`: the parameter or parameters: a name, a function that picks nodes, or a list of these, as for `mx.minos`.
    - `width`: the standard deviation of the measured values, one number for all or shape `(n,)` for `n` selected
        numbers; or their covariance matrix, of shape `(n, n)`, in the order in which `where` selects them.

    **Raises:** `ValueError` if the width is not positive, or the covariance not symmetric and positive definite;
    `TypeError` for a `where` that picks nothing.
    """

    where: Where = eqx.field(static=True, converter=static_where)
    width: Float[Array, "..."] = eqx.field(converter=floats)
    is_chi2 = True
    is_constraint = True

    def __check_init__(self) -> None:
        _check_where(self.where)
        _check_width(self.width, "the width of NormalConstraint")

    def _transformed(self, values: Array) -> Array:
        return values

    def _inverse(self, measured: Array) -> Array:
        return measured


class LogNormalConstraint(_AbstractNormal):
    """A constraint on positive parameters that were measured elsewhere with a relative error: log(data) is normally
    distributed around log(parameter).

    The value is half the sum of (log(data / parameter) / width)²; NaN for a parameter that is not positive.

    **Arguments:**

    - `where`: the parameter or parameters, as for `mx.NormalConstraint`.
    - `width`: the standard deviation of the log: log(1.1) for an error by a factor of 1.1. One number for all, or shape
        `(n,)` for `n` selected numbers; or the covariance matrix of the logs, of shape `(n, n)`.

    **Raises:** as `mx.NormalConstraint`.
    """

    where: Where = eqx.field(static=True, converter=static_where)
    width: Float[Array, "..."] = eqx.field(converter=floats)
    is_chi2 = True
    is_constraint = True

    def __check_init__(self) -> None:
        _check_where(self.where)
        _check_width(self.width, "the width of LogNormalConstraint")

    def _transformed(self, values: Array) -> Array:
        return jnp.log(values)

    def _inverse(self, measured: Array) -> Array:
        return jnp.exp(measured)


class PoissonConstraint(AbstractLikelihood):
    """A constraint on parameters by Poisson counts `data` with the expectations `scale * parameter` (a control region).

    The value is that of `mx.PoissonNLL`. In HistFactory's shape systematics `scale` is called tau.

    **Arguments:**

    - `where`: the parameter or parameters, as for `mx.NormalConstraint`.
    - `scale`: the count that is expected if the parameter is 1: a positive number for all, or shape `(n,)` for `n`
        selected numbers.

    **Raises:** `ValueError` if the scale is not positive; `TypeError` for a `where` that picks nothing.
    """

    where: Where = eqx.field(static=True, converter=static_where)
    scale: Float[Array, "..."] = eqx.field(converter=floats)
    is_constraint = True

    def __check_init__(self) -> None:
        _check_where(self.where)
        if self.scale.ndim > 1:
            raise ValueError(f"the scale of PoissonConstraint must be one number or (n,), got {self.scale.shape}")
        _check_width(self.scale, "the scale of PoissonConstraint")

    def __call__(self, params: PyTree, data: ArrayLike) -> Scalar:
        """Minus the log of the likelihood of the counts, relative to the saturated model."""
        expected, observed = self._expected_and_observed(params, data)
        return jnp.sum(terms_from_mean(expected, Counts(observed), None))

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich: the variances of the counts."""
        return of_means(
            lambda p: jnp.ravel(self.prediction(p)), at, x, Counts(self._expected_and_observed(at(x), data)[1])
        )

    def _expected_and_observed(self, params: PyTree, data: ArrayLike) -> tuple[Array, Array]:
        expected = self.prediction(params)
        return jnp.ravel(expected), observable(data, expected, self.where)

    def prediction(self, params: PyTree, data: Any = None) -> Float[Array, "..."]:
        """The expected counts, in the shape of the data."""
        values, shaped, _ = _pick(params, self.where, self.scale)
        return (self.scale.astype(values.dtype) * values).reshape(shaped.shape)

    def expected_data(self, params: PyTree, data: Any = None) -> Float[Array, "..."]:
        """The Asimov data: the expected counts."""
        return self.prediction(params)

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Float[Array, "..."]:
        """The counts of one toy."""
        return draw_poisson(key, self.prediction(params))

    def resample(self, key: Array, data: ArrayLike) -> Float[Array, "..."]:
        """A bootstrap sample of the counts."""
        return draw_poisson(key, floats(data))

    def deviance(self, params: PyTree, data: ArrayLike) -> Scalar:
        """Twice the value, which is relative to the saturated model already."""
        return 2 * self(params, data)

    def pulls(self, params: PyTree, data: ArrayLike) -> Float[Array, " n"]:
        """(count - expectation) / sqrt(expectation)."""
        expected, observed = self._expected_and_observed(params, data)
        return (observed - expected) / jnp.sqrt(expected)

    def ndata(self, data: ArrayLike) -> int:
        """The number of counts."""
        return floats(data).size

    def faults(self, params: PyTree, data: ArrayLike) -> PyTree:
        """`Fault` codes of counts that are negative or impossible."""
        expected, observed = self._expected_and_observed(params, data)
        code = jnp.where((observed > 0) & (expected == 0), int(Fault.EXPECTED_ZERO), int(Fault.NONE))
        code = jnp.where(expected < 0, int(Fault.EXPECTED_NEGATIVE), code)
        return jnp.where(observed < 0, int(Fault.NEGATIVE), code).reshape(jnp.shape(data))

    def prefit(self, params: PyTree, data: ArrayLike) -> list[tuple[str, Array, Array]]:
        """Name, value and error (the square root of the count) of each constrained number before the fit."""
        values, _, names = _pick(params, self.where, self.scale)
        observed = observable(data, values, self.where)
        scale = jnp.broadcast_to(self.scale, observed.shape)
        value, error = observed / scale, jnp.sqrt(observed) / scale
        return [(name, value[i], error[i]) for i, name in enumerate(names)]


def _pick(params: PyTree, where: Where, width: Array) -> Picked:
    """**Raises:** `ValueError` unless there is one width, or one per selected number."""
    picked = pick_values(resolve(params), where)
    if width.ndim and width.shape[0] != picked.values.size:
        raise ValueError(
            f"the constraint on {where!r} has widths for {width.shape[0]} numbers, and picks {picked.values.size}"
        )
    return picked


def observable(data: Any, values: Array, where: Where) -> Float[Array, " n"]:
    """The global observables as a vector.

    **Raises:** `TypeError` or `ValueError` unless there are as many as selected numbers.
    """
    if data is None or isinstance(data, dict | str):
        raise TypeError(
            f"the data of a constraint are what was measured of {where!r}, an array of {values.size} numbers, got "
            f"{given(data)}"
        )
    array = jnp.ravel(floats(data))
    if array.size != values.size:
        raise ValueError(
            f"the constraint on {where!r} is one of {values.size} numbers; its data have shape {jnp.shape(data)}"
        )
    return array.astype(values.dtype)


def _check_where(where: Any) -> None:
    for entry in where if isinstance(where, tuple) else (where,):
        if not (isinstance(entry, str) or callable(entry)):
            raise TypeError(f"a parameter is picked by its name, or by a function that picks nodes; got {entry!r}")
    if where == ():
        raise TypeError("the constraint names no parameter")


def _check_width(width: Array, what: str) -> None:
    """**Raises:** `ValueError` unless positive, or a symmetric and positive definite covariance matrix."""
    if width.ndim > 2 or (width.ndim == 2 and width.shape[0] != width.shape[1]):
        raise ValueError(f"{what} must be a number, (n,) numbers or an (n, n) covariance matrix, got {width.shape}")
    if width.ndim == 2:
        check_covariance(width, what)
    elif is_concrete(width) and not np.all((np.asarray(width) > 0) & np.isfinite(width)):
        raise ValueError(f"{what} must be positive, got {width}")
