"""Upper limits by toys. The toys of the alternative and their free fits are shared by all values that are tried."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, ArrayLike, Float, Int

from .._fit.hesse import hesse
from .._fit.result import FitResult
from .._fit.status import Status
from .._parameters.space import update
from .._profile.fitted import Fitted
from .._toys.source import Toys
from .._util.arrays import to_jax
from .._util.typing import PyTree
from . import formulas
from .ensemble import Shown, is_traced
from .limit_status import LimitStatus
from .noisy_root import Heights, Root, find_roots, roots_between
from .ratio import Ratio
from .stored import Hypotheses
from .test import Test, alternative_point
from .toys import ToyStatistics, ToyTest, drawn_at, expected, p_value, ratio_error, unweighted

_FEWEST = 5  # toys expected beyond the quantile of the level


def toy_limits(
    alternative: Test,
    conditional: Ratio,
    cl: float,
    cls: bool,
    calculator: Toys,
    given: Float[np.ndarray, " m"] | None = None,
) -> tuple[Float[Array, "6"], Int[Array, "6"], Float[Array, "6"]]:
    """Returns the observed limit and the five expected ones, their statuses and standard errors.

    `alternative`: the test of the alternative; `conditional`: the conditional fit to the data there. `given`: the
    values at which toys are made; default: those of a search.
    """
    statistic, fitted, index, (start,), _ = alternative
    (nll, free, data), origin = fitted, float(start)
    point, status = alternative_point(conditional)
    if not bool(free.valid) or int(status) != int(Status.VALID):
        return jnp.full(6, jnp.nan), jnp.full(6, int(LimitStatus.FIT_FAILED)), jnp.full(6, jnp.nan)
    log_level = float(np.log(1 - cl))
    with Shown(calculator.progress) as progress:
        hypotheses = Hypotheses(nll, data, index, progress, free.errors)
        point = hypotheses.settled(calculator, point)
        of_alternative = hypotheses.ensemble(drawn_at(calculator, (point, point))[1])

        def look_at(value: float) -> Heights:
            values = jnp.asarray([value], free.values.dtype)
            q = statistic.at(fitted, index, values)
            if not bool(q.valid):
                return Heights(np.full(6, np.nan), np.full(6, np.nan))
            near = hypotheses.settled(calculator, q.conditional)
            of_tested = hypotheses.ensemble(drawn_at(calculator, (near,))[0])
            test = ToyTest(
                *(unweighted(*to_jax(e.statistic(statistic, values, near))) for e in (of_tested, of_alternative))
            )
            return _heights(test, q.value, cls, log_level)

        end = float(free.upper[index[0]]) - origin
        look = lambda distance: look_at(origin + distance)  # noqa: E731
        if given is not None:
            roots = roots_between({float(v) - origin: look_at(float(v)) for v in given}, end, 6)
            return _limits(roots, origin)
        guesses = _guesses(fitted, index[0], origin, 1 - cl)
        roots = find_roots(look, guesses if cls else [0.0, *guesses], end, -log_level, 6)
    return _limits(roots, origin)


def _limits(roots: list[Root], origin: float) -> tuple[Float[Array, "6"], Int[Array, "6"], Float[Array, "6"]]:
    limits, errors = (jnp.asarray(a) for a in zip(*((origin + r.distance, r.error) for r in roots), strict=True))
    return limits, jnp.asarray([int(r.status) for r in roots]), errors


def check_values(
    values: ArrayLike | None, calculator: Any, what: str, low: float, high: float
) -> Float[np.ndarray, " m"] | None:
    """Returns the given values at which toys are made, in ascending order.

    **Raises:** `ValueError` for values that are not finite or not between `low` and `high`, without toys, and for a
    shard without values.
    """
    if values is None:
        if isinstance(calculator, Toys) and calculator.shard is not None:
            raise ValueError(
                f"{what} by toys searches among values that depend on all toys, and a shard has some of them: give the "
                f"values at which all jobs make toys, {what}(..., values=[...])"
            )
        return None
    if not isinstance(calculator, Toys):
        raise ValueError(f"{what}: values= are those at which toys are made: calculator=mx.Toys(n, key)")
    try:
        given = np.unique(np.asarray(values, float))
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.size == 0 or np.ndim(values) != 1 or not np.all(np.isfinite(given)):
        raise ValueError(f"{what}: values must be numbers in one axis, got {values!r}")
    inside = np.clip(given, low, high)
    given = np.where(np.abs(given - inside) <= 1e-6 * np.abs(inside), inside, given)  # a bound in float32
    if given[0] < low or given[-1] > high:
        raise ValueError(f"{what}: values must be between {low:.6g} and {high:.6g}, got {given[0]:g} to {given[-1]:g}")
    return given


def check_toys(inputs: PyTree, calculator: Toys, level: float, what: str) -> None:
    """**Raises:** `TypeError` inside `jit` and `vmap`, `ValueError` for importance sampling, and for too few toys to
    measure a p-value of `level`."""
    if is_traced(inputs, calculator.key):
        raise TypeError(
            f"{what} by toys tries one value after the other and cannot be inside jax.jit, jax.vmap or jax.grad; "
            "mx.Asymptotic() can"
        )
    if calculator.importance:
        raise ValueError(f"{what} takes mx.Toys without importance=True, which has no advantage at its p-values")
    if calculator.n * level < _FEWEST:
        raise ValueError(
            f"{what} needs p-values of {level:.3g}, which {calculator.n} toys cannot resolve: take "
            f"{math.ceil(_FEWEST / level - 1e-6)} or more"
        )


def _heights(test: ToyTest, observed: Float[Array, ""], cls: bool, log_level: float) -> Heights:
    p_sb, error = p_value(test.tested, observed)
    p_b, _ = p_value(test.alternative, observed)
    band = expected(test)
    if cls:
        p_bs = jnp.append(p_b, band.p_b)
        values = jnp.append(p_sb, band.p_sb) / p_bs
        errors = jnp.append(ratio_error(test, observed, p_sb, p_b), band.cls_error)
        return heights(values, errors, test.tested, log_level, np.asarray(p_bs))
    return heights(jnp.append(p_sb, band.p_sb), jnp.append(error, band.p_sb_error), test.tested, log_level)


def heights(
    values: Array, errors: Array, toys: ToyStatistics, log_level: float, per: float | np.ndarray = 1.0
) -> Heights:
    """Returns the logs of p-values, or of their ratios to the p-values `per`, over the level, with the upper error of
    the log. A p-value without toys counts as half a toy, or as half the level if that is less, so that curves fall
    below the level where no toy is left."""
    p_values, p_errors = np.array(values), np.asarray(errors)
    half_a_toy = 0.5 / (max(toys.total, 1) * np.where(per > 0, per, 1.0))
    least = np.minimum(half_a_toy, 0.5 * np.exp(log_level))
    p_values = np.where(np.isfinite(p_values), np.maximum(p_values, least), np.nan)
    return Heights(np.log(p_values) - log_level, np.log1p(p_errors / p_values))


def _guesses(fitted: Fitted, i: int, at: float, alpha: float) -> list[float]:
    """Returns the limits for a normal estimate as distances, sigma (Phi^-1(1 - alpha Phi(N)) + N) (CCGV eq. 89)."""
    free, sigma = fitted.result, one_error(fitted, i)
    bands = np.append(np.asarray(formulas.BANDS, float), np.clip((float(free.values[i]) - at) / sigma, -2.0, 6.0))
    return [sigma * float(ndtri(1 - alpha * ndtr(n)) + n) for n in bands]


def one_error(fitted: Fitted, i: int) -> float:
    """Returns the error of a parameter, even if it is at a bound."""
    nll, free, data = fitted
    error = float(free.errors[i])
    if not error > 0:
        shifted = update(free.params, jnp.where(free.at_limit, _inside(free), free.values))
        error = float(hesse(nll, shifted, data, up=free.up).errors[i])
    return error if error > 0 and np.isfinite(error) else max(abs(float(free.values[i])), 1.0)


def _inside(free: FitResult) -> Float[Array, " n"]:
    """Returns the parameters, moved slightly off the bounds."""
    width = jnp.where(jnp.isfinite(free.upper - free.lower), free.upper - free.lower, 1.0)
    return jnp.clip(free.values, free.lower + 1e-3 * width, free.upper - 1e-3 * width)
