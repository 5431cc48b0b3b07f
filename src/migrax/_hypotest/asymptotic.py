"""Asymptotic p-values by Asimov data, in pyhf's convention: those of the alternative, with the nuisance parameters that
the data prefer there."""

from collections.abc import Callable
from typing import Any, NamedTuple

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


class Errors(NamedTuple):
    """Standard errors of p-values by toys, and of their ratio CLs."""

    p_sb: Float[Array, ""]
    p_b: Float[Array, ""]
    cls: Float[Array, ""]
    expected_p_sb: Float[Array, "5"]
    expected_cls: Float[Array, "5"]


class PValues(NamedTuple):
    """Logs of p-values, and what they rest on. `expected_*`: shape `(5,)`."""

    log_sb: Float[Array, ""]
    log_b: Float[Array, ""]
    expected_log_sb: Float[Array, "5"]
    expected_log_b: Float[Array, "5"]
    status: Int[Array, ""]
    significance: Float[Array, ""]
    expected_significance: Float[Array, ""]
    errors: Errors | None = None
    toys: Any = None


class Asymptotic(eqx.Module):
    """p-values from the asymptotic distributions of the test statistics (G. Cowan, K. Cranmer, E. Gross and O. Vitells,
    Eur. Phys. J. C 71 (2011) 1554).

    **Arguments:**

    - `alternative`: the parameter of interest where the Asimov data are made. Default: 0 for limits, 1 for discovery.
    """

    alternative: float | None = eqx.field(static=True, default=None)


class Reference(NamedTuple):
    """The Asimov data of the alternative, and the free fit to them. `status`: of the conditional fit to the data."""

    data: PyTree
    free: FitResult
    status: Int[Array, ""]


def alternative_of(calculator: Any, statistic: AbstractStatistic) -> float:
    """The parameter of interest of the other hypothesis."""
    if calculator.alternative is not None:
        return calculator.alternative
    return 1.0 if statistic.discovery else 0.0


def alternative_point(
    nll: Callable, free: FitResult, data: PyTree, index: tuple[int, ...], at: float
) -> tuple[PyTree, Int[Array, ""]]:
    """The parameters of the conditional fit to the data at the alternative, and its status."""
    values = jnp.full((1, len(index)), at, free.values.dtype)
    there = ratio(nll, free, data, index, values)
    point = jnp.where(there.status[0] == int(Status.VALID), there.points[0], free.values)  # never NaN
    return update(free.params, point), there.status[0]


def reference(nll: Callable, free: FitResult, data: PyTree, index: tuple[int, ...], at: float) -> Reference:
    """From the conditional fit of the data at the alternative."""
    params, status = alternative_point(nll, free, data, index, at)
    expected = asimov(nll, params, data=data)
    return Reference(expected, fit(nll, params, expected), status)


def asymptotic_p_values(
    statistic: AbstractStatistic,
    nll: Callable[[Any, Any], Any],
    q: StatisticValue,
    data: PyTree,
    index: tuple[int, ...],
    values: Float[Array, " k"],
    calculator: Asymptotic,
) -> PValues:
    """From the statistic of the data and that of the Asimov data of the alternative."""
    there = reference(nll, q.free, data, index, alternative_of(calculator, statistic))
    q_a = statistic.at(nll, there.free, there.data, index, values)
    status = jnp.where(q.valid, jnp.where(there.status == int(Status.VALID), q_a.status, there.status), q.status)
    r, r_a = formulas.root(q.value), formulas.root(q_a.value)
    if isinstance(statistic, TMu | TMuTilde):
        log_sb, log_b = formulas.log_p_two_sided(q.value, q_a.value, statistic.tilde)
        nothing = jnp.full(5, jnp.nan, log_sb.dtype)
        return PValues(log_sb, log_b, nothing, nothing, status, r, r_a)
    far = formulas.distance(q.value, q_a.value, statistic.tilde)
    log_sb, log_b = formulas.log_p_one_sided(far, r_a)
    return PValues(log_sb, log_b, *formulas.expected_log_p(r_a), status, r, r_a)
