"""The minimum of a fit, from which profiles, crossings and conditional fits start."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Scalar

from .._derivatives.expansion import Objective
from .._fit.coordinates import Internal
from .._fit.objective import Theta, constant_of, objective, start_and_space
from .._fit.traced import as_numpy
from .._host import flow, xp
from .._parameters.space import Space
from .._solvers.flat import MANY, Differentiated
from .fitted import BLUR, Fitted, noise
from .on_host import OnHost

# A value below that at the minimum by more than this (in units of UP = 1/2) belongs to another minimum.
LOWER = 1e-4

_NEAR = 20.0  # errors


class Minimum(NamedTuple):
    """A minimum. The objective is the NLL over 2 UP: one standard deviation is a rise by 1/2."""

    fn: Objective
    theta: Theta | None  # `None` on the host
    x: Float[Array, " n"]
    value: Scalar  # of the objective
    noise: Scalar  # the rounding noise of the objective's values
    covariance: Float[Array, "n n"]  # zero rows for the parameters at a bound
    space: Space
    valid: Bool[Array, ""]
    constant: Scalar | float  # what the objective leaves out of the NLL

    @property
    def lower(self) -> Scalar:
        """The decrease of the objective below its minimum that indicates another minimum."""
        return xp.maximum(LOWER, 10 * self.noise)

    def sees(self, rise: Scalar | float) -> Bool[Array, ""]:
        """Whether a rise of the objective is resolved in spite of its rounding noise."""
        return self.noise <= BLUR * rise

    @property
    def errors(self) -> Float[Array, " n"]:
        variance = xp.diagonal(self.covariance)
        return xp.sqrt(xp.where(variance > 0, variance, 0.0))

    @property
    def sizes(self) -> Float[Array, " n"]:
        """The errors, and 1 for a parameter that has none."""
        return xp.where(self.errors > 0, self.errors, 1.0)

    @property
    def active(self) -> Bool[Array, " n"]:
        """Whether each parameter is at a bound, so that to first order it cannot move."""
        return xp.diagonal(self.covariance) == 0

    def above(self, space: Space) -> Callable[[Float[Array, " n"]], tuple[Scalar, None]] | Differentiated:
        """The objective above the minimum as a function of the internal coordinates of `space`."""
        if isinstance(self.fn, Differentiated):
            return Internal(self.fn, space, self.value)
        return lambda q: (self.fn(space.external(q), self.theta) - self.value, None)

    def gradient(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """The gradient of the objective."""
        if isinstance(self.fn, Differentiated):
            return self.fn.value_and_gradient(x)[1]
        return jax.grad(self.fn)(x, self.theta)

    def curvature_along(self, direction: Float[Array, " n"]) -> Float[Array, " n"]:
        """The Hessian at the minimum times a vector."""
        fn = self.fn
        if isinstance(fn, Differentiated):
            return fn.product_at(self.x)(direction) if self.x.size >= MANY else fn.expansion(self.x)[2] @ direction
        return jax.jvp(jax.grad(lambda x: fn(x, self.theta)), (self.x,), (direction,))[1]

    def near(self, x: Float[Array, " n"], held: Bool[Array, " n"]) -> Bool[Array, ""]:
        """Whether the parameters that are not held are so near to the minimum that its errors set the scale of slopes.

        Far away they do not: where a likelihood levels off, all slopes are small in units of the errors at the minimum.
        """
        reach = _NEAR * xp.where(self.errors > 0, self.errors, xp.inf)
        return xp.all(held | ~(xp.abs(x - self.x) > reach))


class Hold(NamedTuple):
    """The parameters that are held, and their values."""

    rows: Float[Array, "k n"]  # unit vectors of the parameters
    at: Float[Array, " n"]  # their values; the entries of the other parameters are ignored

    @property
    def which(self) -> Bool[Array, " n"]:
        return xp.any(self.rows != 0, axis=0)


def at_minimum(fitted: Fitted | OnHost) -> Minimum:
    """The `Minimum` of the checked inputs of a public function. Call it inside `jit` or `direct`."""
    nll, result, data = fitted[:3]
    if isinstance(fitted, OnHost):
        fn, theta, constant = fitted.objective, None, fitted.objective.constant or 0.0
        x, space = start_and_space(nll, as_numpy(result.params))
    else:
        fn, theta, x, space = objective(nll, result.params, data, result.up)
        constant = constant_of(nll, theta)
    assert result.covariance is not None
    value = flow.stop_gradient((result.nll - constant) / (2 * result.up)).astype(x.dtype)
    # The covariance of an invalid fit is set to zero: all that starts from it fails, and no loop runs on NaN.
    covariance = flow.stop_gradient(xp.where(result.valid, result.covariance.matrix, 0.0))
    minimum = Minimum(fn, theta, x, value, noise(value), covariance, space, result.valid, constant)
    return minimum._replace(valid=result.valid & minimum.sees(0.5))
