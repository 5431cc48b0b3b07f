"""Asymptotic p-values by Asimov data, in pyhf's convention: those of the alternative, with the nuisance parameters that
the data prefer there."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._fit.fit import fit
from .._fit.result import FitResult
from .._fit.status import Status
from .._likelihoods.base import AbstractLikelihood
from .._profile.fitted import Fitted
from .._toys.sample import asimov
from .._util.jit import jit
from .._util.typing import PyTree
from . import formulas
from .ratio import Ratio, ratio
from .statistics import AbstractStatistic, StatisticValue, TMu, TMuTilde
from .test import AbstractCalculator, PValues, Test, alternative_point


class Asymptotic(AbstractCalculator):
    """p-values from the asymptotic distributions of the test statistics (G. Cowan, K. Cranmer, E. Gross and O. Vitells,
    Eur. Phys. J. C 71 (2011) 1554).

    **Arguments:**

    - `alternative`: the parameter of interest where the Asimov data are made. Default: 0 for limits, 1 for discovery.
    """

    alternative: float | None = eqx.field(static=True, default=None)

    @property
    def expects(self) -> float | None:
        return self.alternative

    def p_values(self, test: Test) -> tuple[StatisticValue, PValues]:
        """From the statistic of the data and from that of the Asimov data of the alternative."""
        found = test.conditional_fits()
        there = reference(test.free, found)
        at = Fitted(test.free.nll, there.free, there.data)
        return _conclude(test.statistic, found, ratio(at, test.poi, test.lanes), there.status, test.poi, test.lanes)


class Reference(NamedTuple):
    """The Asimov data of the alternative, and the free fit to them. `status`: of the conditional fit to the data."""

    data: PyTree
    free: FitResult
    status: Int[Array, ""]


def reference(free: Fitted, found: Ratio) -> Reference:
    """Asimov data from the conditional fit of the data at the alternative, the last one of `found`."""
    params, expected, status = _asimov(free.nll, found, free.data)
    return Reference(expected, fit(free.nll, params, expected), status)


@jit
def _asimov(nll: AbstractLikelihood, found: Ratio, data: PyTree) -> tuple[PyTree, PyTree, Int[Array, ""]]:
    params, status = alternative_point(found)
    return params, asimov(nll, params, data=data), status


@jit
def _conclude(
    statistic: AbstractStatistic,
    found: Ratio,
    of_asimov: Ratio,
    there: Int[Array, ""],
    index: tuple[int, ...],
    lanes: Float[Array, "m k"],
) -> tuple[StatisticValue, PValues]:
    q, q_a = (statistic.from_ratio(ratio, index, lanes[0]) for ratio in (found, of_asimov))
    status = jnp.where(q.valid, jnp.where(there == int(Status.VALID), q_a.status, there), q.status)
    # what the alternative expects is impossible at the value tested: there is no width to measure distances in
    status = jnp.where(jnp.isinf(q_a.value), int(Status.NOT_FINITE), status)
    r, r_a = formulas.root(q.value), formulas.root(q_a.value)
    if isinstance(statistic, TMu | TMuTilde):
        log_sb, log_b = formulas.log_p_two_sided(q.value, q_a.value, statistic.tilde)
        nothing = jnp.full(5, jnp.nan, log_sb.dtype)
        return q, PValues(log_sb, log_b, nothing, nothing, status, r, r_a, lanes[-1])
    far = formulas.distance(q.value, q_a.value, statistic.tilde)
    log_sb, log_b = formulas.log_p_one_sided(far, r_a)
    return q, PValues(log_sb, log_b, *formulas.expected_log_p(r_a), status, r, r_a, lanes[-1])
