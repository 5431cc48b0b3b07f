"""The minimum of a fit, from which profiles, crossings and conditional fits start."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Scalar

from .._fit.objective import Theta, constant_of, objective
from .._parameters.space import Space
from .fitted import BLUR, Fitted, noise

# A value below that at the minimum by more than this (in units of UP = 1/2) belongs to another minimum.
LOWER = 1e-4

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
        """The decrease of the objective below its minimum that indicates another minimum."""
        return jnp.maximum(LOWER, 10 * self.noise)

    def sees(self, rise: Scalar | float) -> Bool[Array, ""]:
        """Whether a rise of the objective is resolved in spite of its rounding noise."""
        return self.noise <= BLUR * rise

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
        """Whether each parameter is at a bound, so that to first order it cannot move."""
        return jnp.diagonal(self.covariance) == 0

    def near(self, x: Float[Array, " n"], held: Bool[Array, " n"]) -> Bool[Array, ""]:
        """Whether the parameters that are not held are so near to the minimum that its errors set the scale of slopes.

        Far away they do not: where a likelihood levels off, all slopes are small in units of the errors at the minimum.
        """
        reach = _NEAR * jnp.where(self.errors > 0, self.errors, jnp.inf)
        return jnp.all(held | ~(jnp.abs(x - self.x) > reach))


class Hold(NamedTuple):
    """The parameters that are held, and their values."""

    rows: Float[Array, "k n"]  # unit vectors of the parameters
    at: Float[Array, " n"]  # their values; the entries of the other parameters are ignored

    @property
    def which(self) -> Bool[Array, " n"]:
        return jnp.any(self.rows != 0, axis=0)


def at_minimum(fitted: Fitted) -> Minimum:
    """The `Minimum` of the checked inputs of a public function. Call it inside `jit`."""
    nll, result, data = fitted
    fn, theta, x, space = objective(nll, result.params, data, result.up)
    assert result.covariance is not None
    value = lax.stop_gradient((result.nll - constant_of(nll, theta)) / (2 * result.up)).astype(x.dtype)
    # The covariance of an invalid fit is set to zero: all that starts from it fails, and no loop runs on NaN.
    covariance = lax.stop_gradient(jnp.where(result.valid, result.covariance.matrix, 0.0))
    minimum = Minimum(fn, theta, x, value, noise(value), covariance, space, result.valid)
    return minimum._replace(valid=result.valid & minimum.sees(0.5))
