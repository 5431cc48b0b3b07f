"""Asymptotic p-values by Asimov data, in pyhf's convention: those of the alternative, with the nuisance parameters that
the data prefer there."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .._fit import fit
from .._result import FitResult
from .._sample import asimov
from .._space import update
from .._status import Status
from . import formulas
from .ratio import ratio
from .statistics import AbstractStatistic, StatisticValue, TMu, TMuTilde


class PValues(NamedTuple):
    """Logs of p-values, and what they rest on. `expected_*`: shape `(5,)`."""

    log_sb: Float[Array, ""]
    log_b: Float[Array, ""]
    expected_log_sb: Float[Array, "5"]
    expected_log_b: Float[Array, "5"]
    status: Int[Array, ""]


class Asymptotic(eqx.Module):
    """p-values from the asymptotic distributions of the test statistics (G. Cowan, K. Cranmer, E. Gross and O. Vitells,
    Eur. Phys. J. C 71 (2011) 1554).

    **Arguments:**

    - `alternative`: where the Asimov data are made: 0 for limits; default: 1 for `mx.Q0`, else 0.
    """

    alternative: float | None = eqx.field(static=True, default=None)

    def at(self, statistic: AbstractStatistic) -> float:
        if self.alternative is not None:
            return self.alternative
        return 1.0 if statistic.discovery else 0.0


class Reference(NamedTuple):
    """The Asimov data of the alternative, and the free fit to them. `status`: of the conditional fit to the data."""

    data: PyTree
    free: FitResult
    status: Int[Array, ""]


def reference(nll: Callable, free: FitResult, data: PyTree, index: tuple[int, ...], at: float) -> Reference:
    """From the conditional fit of the data at the alternative."""
    values = jnp.full((1, len(index)), at, free.values.dtype)
    there = ratio(nll, free, data, index, values)
    point = jnp.where(there.status[0] == int(Status.VALID), there.points[0], free.values)  # never NaN
    params = update(free.params, point)
    expected = asimov(nll, params, data=data)
    return Reference(expected, fit(nll, params, expected), there.status[0])


def p_values(statistic: AbstractStatistic, q: StatisticValue, q_a: StatisticValue, there: Int[Array, ""]) -> PValues:
    """From the statistic of the data and of the Asimov data, which are made by a fit of this status."""
    status = jnp.where(q.valid, jnp.where(there == int(Status.VALID), q_a.status, there), q.status)
    r_a = formulas.root(q_a.value)
    if isinstance(statistic, TMu | TMuTilde):
        log_sb, log_b = formulas.log_p_two_sided(q.value, q_a.value, statistic.tilde)
        nothing = jnp.full(5, jnp.nan, log_sb.dtype)
        return PValues(log_sb, log_b, nothing, nothing, status)
    far = formulas.distance(q.value, q_a.value, statistic.tilde)
    log_sb, log_b = formulas.log_p_one_sided(far, r_a)
    return PValues(log_sb, log_b, *formulas.expected_log_p(r_a), status)
