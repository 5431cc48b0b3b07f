"""Asymptotic p-values from Asimov data. As in pyhf, these are the Asimov data of the alternative, with the nuisance
parameters of the conditional fit to the data."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._fit.fit import fit
from .._fit.result import FitResult
from .._fit.status import Status
from .._host.evaluated import evaluated
from .._host.hosted import hosted
from .._likelihoods.base import AbstractLikelihood
from .._profile.fitted import Fitted
from .._toys.sample import asimov
from .._util.typing import PyTree
from . import formulas
from .ratio import Ratio, ratio
from .statistics import AbstractStatistic, StatisticValue, TMu, TMuTilde
from .test import AbstractCalculator, PValues, Test, alternative_point


class Asymptotic(AbstractCalculator):
    """p-values from the asymptotic distributions of the test statistics (G. Cowan, K. Cranmer, E. Gross and O. Vitells,
    Eur. Phys. J. C 71 (2011) 1554).

    **Arguments:**

    - `alternative`: the value of the parameter of interest in the Asimov data, which represent the alternative
        hypothesis. Default: 0 for limits, 1 for discovery.
    """

    alternative: float | None = eqx.field(static=True, default=None)

    @property
    def expects(self) -> float | None:
        return self.alternative

    def p_values(self, test: Test) -> tuple[StatisticValue, PValues]:
        """Returns the statistic and its p-values, from the data and the Asimov data of the alternative."""
        conditional = test.conditional_fits()
        asimov_reference = reference(test.free, conditional)
        asimov_fit = Fitted(test.free.nll, asimov_reference.free, asimov_reference.data)
        return _p_values(
            test.statistic,
            conditional,
            ratio(asimov_fit, test.poi, test.lanes),
            asimov_reference.status,
            test.poi,
            test.lanes,
        )


class Reference(NamedTuple):
    """The Asimov data of the alternative and the free fit to them. `status`: of the conditional fit to the data."""

    data: PyTree
    free: FitResult
    status: Int[Array, ""]


def reference(free: Fitted, conditional: Ratio) -> Reference:
    """Returns the Asimov data of the conditional fit to the data at the alternative, the last lane of `conditional`."""
    params, asimov_data, status = _asimov(free.nll, conditional, free.data)
    return Reference(asimov_data, fit(free.nll, params, asimov_data), status)


@evaluated
def _asimov(nll: AbstractLikelihood, conditional: Ratio, data: PyTree) -> tuple[PyTree, PyTree, Int[Array, ""]]:
    params, status = alternative_point(conditional)
    return params, asimov(nll, params, data=data), status


@hosted
def _p_values(
    statistic: AbstractStatistic,
    of_data: Ratio,
    of_asimov: Ratio,
    reference_status: Int[Array, ""],
    poi: tuple[int, ...],
    lanes: Float[Array, "m k"],
) -> tuple[StatisticValue, PValues]:
    q, q_a = (statistic.from_ratio(ratio, poi, lanes[0]) for ratio in (of_data, of_asimov))
    status = jnp.where(
        q.valid, jnp.where(reference_status == int(Status.VALID), q_a.status, reference_status), q.status
    )
    # the Asimov data are impossible at the tested value, so that no standard deviation of the estimate is defined
    status = jnp.where(jnp.isinf(q_a.value), int(Status.NOT_FINITE), status)
    r, r_a = formulas.root(q.value), formulas.root(q_a.value)
    if isinstance(statistic, TMu | TMuTilde):
        log_sb, log_b = formulas.log_p_two_sided(q.value, q_a.value, statistic.tilde)
        no_band = jnp.full(5, jnp.nan, log_sb.dtype)
        return q, PValues(log_sb, log_b, no_band, no_band, status, r, r_a, lanes[-1])
    distance = formulas.distance(q.value, q_a.value, statistic.tilde)
    log_sb, log_b = formulas.log_p_one_sided(distance, r_a)
    return q, PValues(log_sb, log_b, *formulas.expected_log_p(r_a), status, r, r_a, lanes[-1])
