"""A hypothesis test and the calculators of its p-values."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._fit.fit import fit
from .._fit.objective import prepare_data
from .._fit.result import FitResult, check_has_covariance
from .._fit.status import Status
from .._likelihoods.base import as_likelihood
from .._likelihoods.effective import Factor, scaled
from .._parameters.space import update
from .._profile.fitted import Fitted, is_of
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .ratio import Ratio, check_value, ratio
from .statistics import AbstractStatistic, StatisticValue


class Test(NamedTuple):
    """A test of parameters of interest at some values against those of an alternative."""

    __test__ = False  # keeps pytest from collecting the class

    statistic: AbstractStatistic
    free: Fitted  # the fit with the parameters of interest free
    poi: tuple[int, ...]  # their positions
    values: Float[Array, " k"]
    alternative: Float[Array, " k"]

    @property
    def lanes(self) -> Float[Array, "m k"]:
        """The values of the conditional fits: the tested ones first, those of the alternative last."""
        return self.statistic.lanes(self.values, self.alternative)

    def conditional_fits(self) -> Ratio:
        """Runs the conditional fits to the data."""
        return ratio(self.free, self.poi, self.lanes)


class Errors(NamedTuple):
    """Standard errors of p-values by toys, and of their ratio CLs."""

    p_sb: Float[Array, ""]
    p_b: Float[Array, ""]
    cls: Float[Array, ""]
    expected_p_sb: Float[Array, "5"]
    expected_cls: Float[Array, "5"]


class PValues(NamedTuple):
    """Logs of p-values, their status and their inputs. `expected_*`: shape `(5,)`."""

    log_sb: Float[Array, ""]
    log_b: Float[Array, ""]
    expected_log_sb: Float[Array, "5"]
    expected_log_b: Float[Array, "5"]
    status: Int[Array, ""]
    significance: Float[Array, ""]
    expected_significance: Float[Array, ""]
    alternative: Float[Array, " k"]  # the parameters of interest of the other hypothesis
    errors: Errors | None = None
    toys: Any = None


class AbstractCalculator(eqx.Module):
    """Computes the p-values of a test."""

    @property
    @abc.abstractmethod
    def expects(self) -> float | None:
        """The alternative that the user gave; `None` for the default."""

    @abc.abstractmethod
    def p_values(self, test: Test) -> tuple[StatisticValue, PValues]:
        """Returns the statistic of the data and its p-values."""

    def alternative_of(
        self, statistic: AbstractStatistic, free: FitResult, index: tuple[int, ...]
    ) -> Float[Array, " k"]:
        """Returns the parameters of interest of the alternative: by default 0 for limits, 1 for discovery.

        **Raises:** `ValueError` where they are outside the bounds.
        """
        alternative = self.expects
        if alternative is None:
            alternative = 1.0 if statistic.discovery else 0.0
        values = (np if is_concrete(alternative) else jnp).broadcast_to(alternative, len(index))
        return check_value(free, index, values, "the alternative hypothesis")


def alternative_point(conditional: Ratio) -> tuple[PyTree, Int[Array, ""]]:
    """Returns the parameters and the status of the last conditional fit, that of the alternative."""
    is_valid = conditional.status[-1] == int(Status.VALID)
    point = jnp.where(is_valid, conditional.points[-1], conditional.free.values)  # never NaN
    return update(conditional.free.params, point), conditional.status[-1]


def free_fit(
    likelihood: Any, params: Any, data: PyTree, what: str, solver: Any, covariance: Any
) -> tuple[Fitted, dict[str, Factor]]:
    """Returns the likelihood and data given to the function `what` with their free fit, and the scale factors of the
    parts of a likelihood of weighted events (see `mx.effective`).

    `params` is a start, or the result of a fit, which replaces the free fit if its covariance is the inverse Hessian of
    the tested likelihood, and its value that of these data.

    **Raises:** `ValueError` for many results, or one without a covariance; else as `mx.fit`.

    **Warns** where the result is one of other data (or of another likelihood): these are fitted then.
    """
    data = prepare_data(data)
    nll, factors = scaled(as_likelihood(likelihood), data)
    if isinstance(params, FitResult):
        check_has_covariance(params, what)
        if jnp.ndim(params.nll) != 0:
            raise ValueError(
                f"{what} takes one fit, got {jnp.shape(params.nll)} of them: "
                f"jax.vmap(lambda result, data: mx.{what}(likelihood, result, data, ...))(results, data)"
            )
        assert params.covariance is not None
        if not factors and params.covariance.kind == "hesse" and is_of(params, nll, data, what):
            return Fitted(nll, params, data), factors
        params = params.params
    return Fitted(nll, fit(nll, params, data, solver=solver, covariance=covariance), data), factors
