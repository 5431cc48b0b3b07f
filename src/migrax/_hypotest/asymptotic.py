"""Asymptotic p-values by Asimov data, in pyhf's convention: those of the alternative, with the nuisance parameters that
the data prefer there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._fit.fit import fit
from .._fit.result import FitResult
from .._fit.status import Status
from .._parameters.space import update
from .._toys.sample import asimov
from .._util.jit import jit
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from . import formulas
from .ratio import Ratio, check_value, ratio
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
    alternative: Float[Array, " k"]  # the parameters of interest of the other hypothesis
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


def alternative_of(calculator: Any, statistic: AbstractStatistic, free: FitResult, index: tuple[int, ...]) -> Array:
    """The parameters of interest of the other hypothesis, shape `(k,)`.

    **Raises:** `ValueError` where they are outside the bounds.
    """
    at = calculator.alternative
    if at is None:
        at = 1.0 if statistic.discovery else 0.0
    each = (np if is_concrete(at) else jnp).broadcast_to(at, len(index))
    return check_value(free, index, each, "the alternative hypothesis")


def alternative_point(found: Ratio) -> tuple[PyTree, Int[Array, ""]]:
    """The parameters of the last one of the conditional fits, that of the alternative, and its status."""
    good = found.status[-1] == int(Status.VALID)
    point = jnp.where(good, found.points[-1], found.free.values)  # never NaN
    return update(found.free.params, point), found.status[-1]


def reference(nll: Callable, found: Ratio, data: PyTree) -> Reference:
    """Asimov data from the conditional fit of the data at the alternative, the last one of `found`."""
    params, expected, status = _asimov(nll, found, data)
    return Reference(expected, fit(nll, params, expected), status)


@jit
def _asimov(nll: Callable, found: Ratio, data: PyTree) -> tuple[PyTree, PyTree, Int[Array, ""]]:
    params, status = alternative_point(found)
    return params, asimov(nll, params, data=data), status


def asymptotic_p_values(
    statistic: AbstractStatistic,
    nll: Callable[[Any, Any], Any],
    found: Ratio,
    data: PyTree,
    index: tuple[int, ...],
    lanes: Float[Array, "m k"],
) -> tuple[StatisticValue, PValues]:
    """The statistic of the data, from their conditional fits at `lanes`, and p-values from that of the Asimov data of
    the alternative."""
    there = reference(nll, found, data)
    of_asimov = ratio(nll, there.free, there.data, index, lanes)
    return _conclude(statistic, found, of_asimov, there.status, index, lanes)


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
