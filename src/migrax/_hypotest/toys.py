"""p-values as fractions of toys, with standard errors; importance sampling for small p-values."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from .._fit.status import Status, status_counts
from .._host.evaluated import evaluated
from .._host.hosted import hosted
from .._parameters.space import ravel, resolve_at
from .._toys.sample import draw_one
from .._toys.source import Toys
from .._util.arrays import to_jax
from .._util.result import AbstractResult, names_of
from .._util.typing import PyTree
from . import formulas
from .asymptotic import Asymptotic
from .ensemble import Shown, is_traced, logs, traced
from .ratio import Ratio
from .statistics import AbstractStatistic, StatisticValue
from .stored import Hypotheses
from .test import AbstractCalculator, Errors, PValues, Test, alternative_point

_UNLIKELY = 6.0  # limit on the distance of the mean weight from 1, in standard errors, if the likelihood is a density


class ToyStatistics(AbstractResult):
    """The statistic of the toys of one hypothesis.

    **Attributes**, of `n` toys drawn at each of `k` points (one, or three for importance sampling):

    - `values`: shape `(k, n)`, the statistic of each toy; NaN if one of its fits failed: such a toy does not count.
    - `weights`: shape `(k, n)`, the weight of each toy under this hypothesis; 1 without importance sampling.
    - `status`: shape `(k, n)`, an `mx.Status` number for each toy.
    - `total`, `num_failed`: the number of toys, and the number of those that do not count.
    """

    values: Float[Array, "k n"]
    weights: Float[Array, "k n"]
    status: Int[Array, "k n"]

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), "status": names_of(Status, self.status)}

    @property
    def total(self) -> int:
        return self.status.size

    @property
    def num_failed(self) -> Int[Array, ""]:
        return jnp.sum(self.status != int(Status.VALID))

    @property
    def failed(self) -> Int[Array, ""]:
        """An older name of `num_failed`."""
        return self.num_failed

    def told(self) -> str:
        """The number of toys, and how those that do not count failed."""
        status = np.ravel(np.asarray(self.status))
        counts = status_counts(status[status != int(Status.VALID)])
        if not counts:
            return f"{self.total} toys"
        failed = sum(n for _, n in counts)
        return f"{self.total} toys, {failed} failed and left out ({', '.join(f'{n} {what}' for what, n in counts)})"


class ToyTest(AbstractResult):
    """The toys of a test of hypotheses.

    **Attributes:** `tested`, `alternative`: the `ToyStatistics` of both hypotheses.
    """

    tested: ToyStatistics
    alternative: ToyStatistics


class ByToys(AbstractCalculator):
    """p-values as fractions of toys of both hypotheses."""

    toys: Toys

    @property
    def expects(self) -> float | None:
        return self.toys.alternative

    def p_values(self, test: Test) -> tuple[StatisticValue, PValues]:
        q, point, status = _of_data(test.statistic, test.conditional_fits(), test.poi, test.values)
        observed = without_derivative(q.value)
        if not is_traced(status) and int(status) != int(Status.VALID):
            toys = _no_toys(self.toys, status, q.value.dtype)
        else:
            at_free_fit = test._replace(free=test.free._replace(result=q.free))
            toys = toy_test(at_free_fit, (q.conditional, point), self.toys)
        return q, _p_values(toys, observed, status, test.alternative)


def as_calculator(calculator: Asymptotic | Toys) -> AbstractCalculator:
    """Returns the calculator that the user gave as an `AbstractCalculator`."""
    return ByToys(calculator) if isinstance(calculator, Toys) else calculator


@evaluated
def _of_data(
    statistic: AbstractStatistic, conditional: Ratio, index: tuple[int, ...], values: Float[Array, " k"]
) -> tuple[StatisticValue, PyTree, Int[Array, ""]]:
    q = statistic.from_ratio(conditional, index, values)
    point, status = alternative_point(conditional)
    return q, point, jnp.where(q.valid, status, q.status)


@evaluated
def _p_values(
    test: ToyTest, observed: Float[Array, ""], status: Int[Array, ""], alternative: Float[Array, " k"]
) -> PValues:
    (p_sb, sb_error), (p_b, b_error) = (p_value(toys, observed) for toys in (test.tested, test.alternative))
    band = expected(test)
    errors = Errors(sb_error, b_error, ratio_error(test, observed, p_sb, p_b), band.p_sb_error, band.cls_error)
    z, expected_z = (formulas.significance(jnp.where(p > 0, jnp.log(p), jnp.nan)) for p in (p_sb, band.p_sb[2]))
    log_sb, log_b, log_expected_sb, log_expected_b = (jnp.log(p) for p in (p_sb, p_b, band.p_sb, band.p_b))
    return PValues(log_sb, log_b, log_expected_sb, log_expected_b, status, z, expected_z, alternative, errors, test)


def _no_toys(calculator: Toys, status: Int[Array, ""], dtype: Any) -> ToyTest:
    """Returns failed toys, because without valid fits to the data there is no point to draw from."""
    shape = (3 if calculator.importance else 1, calculator.part.n)
    failed = ToyStatistics(jnp.full(shape, jnp.nan, dtype), jnp.ones(shape, dtype), jnp.full(shape, status))
    return ToyTest(failed, failed)


def p_value(toys: ToyStatistics, observed: Float[Array, "..."]) -> tuple[Array, Array]:
    """Returns the fraction of toys at least as extreme as the data and its standard error; NaN if no toy is valid.

    Without weights the error is `formulas.fraction_error`; with weights it is that of the mean of each stratum. The
    weights of all toys have a mean of 1 within fluctuations: for a fraction above one half, one minus the fraction of
    the other toys fluctuates less, and is never above 1.
    """
    beyond = _beyond(toys, observed)
    p, error = _mean(toys, toys.weights * beyond)
    if toys.values.shape[0] > 1:
        p_rest, rest_error = _mean(toys, toys.weights * (1 - beyond))
        smallest = 0.5 * toys.values.shape[0] / toys.total  # that of half a toy with the largest weight
        error = jnp.where(p > p_rest, jnp.maximum(rest_error, smallest), error)
        return jnp.where(p > p_rest, 1 - p_rest, p), error
    return p, formulas.fraction_error(p, jnp.sum(toys.status == int(Status.VALID)))


def ratio_error(test: ToyTest, observed: Float[Array, "..."], p_sb: Array, p_b: Array) -> Array:
    """Returns the standard error of p_sb / p_b, to first order, with the correlation if both use the same toys."""
    p_b = jnp.where(p_b > 0, p_b, jnp.nan)
    cls = p_sb / p_b
    if test.tested.values.shape[0] > 1:
        residual = (test.tested.weights - cls[..., None, None] * test.alternative.weights) * _beyond(
            test.tested, observed
        )
        return _mean(test.tested, residual)[1] / p_b
    _, e_sb = p_value(test.tested, observed)
    _, e_b = p_value(test.alternative, observed)
    return jnp.sqrt(e_sb**2 + (cls * e_b) ** 2) / p_b


class Expected(NamedTuple):
    """p-values for data at the quantiles of -2, -1, 0, 1, 2 standard deviations of the toys of the alternative."""

    p_sb: Float[Array, "5"]
    p_b: Float[Array, "5"]
    p_sb_error: Float[Array, "5"]
    cls_error: Float[Array, "5"]


def expected(test: ToyTest) -> Expected:
    """Returns the expected p-values, the lowest first. The errors combine those of the toys of the tested hypothesis
    and those of the quantiles of the alternative's toys."""
    quantiles, quantiles_low, quantiles_high = (_quantiles(test.alternative, s) for s in (0.0, -1.0, 1.0))
    (p_sb, error), (p_b, _) = (p_value(toys, quantiles) for toys in (test.tested, test.alternative))
    quantile_error = 0.5 * (p_value(test.tested, quantiles_low)[0] - p_value(test.tested, quantiles_high)[0])
    error = jnp.sqrt(error**2 + quantile_error**2)
    return Expected(p_sb, p_b, error, error / jnp.where(p_b > 0, p_b, jnp.nan))


def _quantiles(toys: ToyStatistics, shift: float) -> Float[Array, "5"]:
    """Returns the quantiles of the statistic, shifted by `shift` standard errors. The first is the largest, for the
    lowest p-value."""
    is_valid = jnp.ravel(toys.status == int(Status.VALID))
    values = jnp.where(is_valid, jnp.ravel(toys.values), jnp.nan)
    order = jnp.argsort(values)  # NaN comes last
    weights = jnp.where(is_valid, jnp.ravel(toys.weights), 0.0)[order]
    below = jnp.cumsum(weights) / jnp.sum(weights)
    fractions = jax.scipy.special.ndtr(-jnp.asarray(formulas.BANDS, values.dtype))
    error = jnp.sqrt(fractions * (1 - fractions) * jnp.sum(weights**2)) / jnp.sum(weights)
    positions = jnp.searchsorted(below, jnp.clip(fractions + shift * error, 0.0, 1.0))
    return values[order][jnp.minimum(positions, jnp.maximum(jnp.sum(is_valid) - 1, 0))]


def _beyond(toys: ToyStatistics, observed: Float[Array, "..."]) -> Array:
    # the statistic is accurate to about 1e-10; toys equal to the data must count as beyond
    tolerance = 1e-7 if toys.values.dtype == jnp.float64 else 1e-3
    is_finite = jnp.isfinite(observed)
    safe = jnp.where(is_finite, observed, 0.0)
    threshold = jnp.where(is_finite, safe - tolerance * (1 + safe), observed)
    return (toys.values >= threshold[..., None, None]).astype(toys.values.dtype)  # False for NaN


def _mean(toys: ToyStatistics, x: Float[Array, "... k n"]) -> tuple[Array, Array]:
    """Returns the mean over the valid toys and its standard error, for strata with equal shares."""
    is_valid = toys.status == int(Status.VALID)
    n = jnp.sum(is_valid, axis=-1)
    mean = jnp.sum(jnp.where(is_valid, x, 0.0), axis=-1) / n
    variance = jnp.sum(jnp.where(is_valid, (x - mean[..., None]) ** 2, 0.0), axis=-1) / jnp.maximum(n - 1, 1)
    n_strata = toys.values.shape[0]
    return jnp.mean(mean, axis=-1), jnp.sqrt(jnp.sum(variance / n, axis=-1)) / n_strata


def toy_test(test: Test, points: tuple[PyTree, PyTree], calculator: Toys) -> ToyTest:
    """Returns the statistics of toys drawn at `points`, the parameters of the tested hypothesis and of the alternative.

    **Raises:** `ValueError` if importance sampling shows that the likelihood is not a density.
    """
    statistic, (nll, free, data), index, values, _ = test
    origins = (*points, free.params) if calculator.importance else points
    if is_traced(nll, origins, data, calculator.key, values):
        _refuse_kept(calculator)
        drawn = drawn_at(calculator, origins)
        q, status = traced(nll, drawn, data, statistic, index, values)
    else:
        with Shown(calculator.progress) as progress:
            hypotheses = Hypotheses(nll, data, index, progress, free.errors)
            origins = tuple(hypotheses.settled(calculator, at, is_free=i == 2) for i, at in enumerate(origins))
            drawn = drawn_at(calculator, origins)
            statistics = [hypotheses.ensemble(toys).statistic(statistic, values, origins[0]) for toys in drawn]
            drawn = [toys.part for toys in drawn]
        q, status = to_jax(tuple(np.stack(arrays) for arrays in zip(*statistics, strict=True)))
    if not calculator.importance:
        return _both(q, status)
    weights = _weights(nll, drawn, data)
    statistics = ToyTest(*(ToyStatistics(q, weights[i], status) for i in (0, 1)))
    for toys in (statistics.tested, statistics.alternative):
        _check_density(toys)
    return statistics


def drawn_at(calculator: Toys, origins: tuple[PyTree, ...]) -> list[Toys]:
    """Returns the toys to draw at each point, with a separate key for each."""
    keys = [jax.random.fold_in(calculator.key, i) for i in range(len(origins))]
    how = {name: getattr(calculator, name) for name in ("first", "mesh", "store", "shard", "batch_size", "executor")}
    return [Toys(calculator.n, key, at, **how) for key, at in zip(keys, origins, strict=True)]


def _refuse_kept(calculator: Toys) -> None:
    if calculator.is_kept:
        raise TypeError("mx.Toys(store=, shard=, executor=) are for calls outside of jax.jit, jax.vmap and jax.grad")


@hosted
def _both(values: Float[Array, "2 n"], status: Int[Array, "2 n"]) -> ToyTest:
    return ToyTest(*(unweighted(values[i], status[i]) for i in (0, 1)))


@hosted
def unweighted(values: Float[Array, " n"], status: Int[Array, " n"]) -> ToyStatistics:
    """Returns the statistics of toys drawn at one point, with equal weights."""
    return ToyStatistics(values[None], jnp.ones_like(values)[None], status[None])


def _weights(nll: Any, drawn: list[Toys], data: PyTree) -> Float[Array, "2 k n"]:
    """Returns the weights p(toy | hypothesis) over the mean of p(toy | point) over all points at which toys are drawn
    (the balance heuristic: E. Veach and L. J. Guibas, SIGGRAPH 1995, 419; A. Owen and Y. Zhou, J. Am. Stat. Assoc. 95
    (2000) 135). The hypothesis is one of the points, so that no weight exceeds their number."""
    origins, log_p = tuple(toys.params for toys in drawn), []
    for toys in drawn:
        if is_traced(nll, drawn, data):
            log_p.append(-_traced_logs(nll, origins, data, toys))
        else:
            log_p.append(-jnp.asarray(logs(nll, origins, toys, data, toys.params)))
    log_p_all = jnp.stack(log_p, axis=1)  # hypothesis, stratum, toy
    mixture = jax.scipy.special.logsumexp(log_p_all, axis=0) - jnp.log(len(origins))
    return jnp.exp(log_p_all[:2] - mixture)


def _traced_logs(nll: Any, origins: tuple[PyTree, ...], data: PyTree, toys: Toys) -> Float[Array, "k n"]:
    resolved = [resolve_at(point, ravel(point)[0]) for point in origins]
    origin = resolve_at(toys.params, ravel(toys.params)[0])

    def log_p_of_toy(number: Array) -> Array:
        toy = draw_one(nll, origin, jax.random.fold_in(toys.key, number), data)
        return jnp.stack([jnp.asarray(nll(at, toy)) for at in resolved])

    return lax.map(log_p_of_toy, toys.first + jnp.arange(toys.n), batch_size=min(toys.n, 256)).T


def _check_density(toys: ToyStatistics) -> None:
    if is_traced(toys):
        return
    mean, error = (float(x) for x in _mean(toys, toys.weights))
    if abs(mean - 1) > _UNLIKELY * error + 1e-6:
        raise ValueError(
            f"importance sampling needs a likelihood that is a density of all that is drawn; the mean weight of the "
            f"toys is {mean:.4g} ± {error:.2g} and not 1. Does `sample` draw what `nll` describes, with all factors "
            "that depend on parameters? Without importance=True this is not needed"
        )


@jax.custom_jvp
def without_derivative(x: Array) -> Array:
    """Returns `x`, a fraction of toys. Differentiating it raises an error, because it is a step function."""
    return x


@without_derivative.defjvp
def _refuse(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    raise TypeError(
        "p-values by toys are step functions without a useful derivative: differentiate those of mx.Asymptotic(), or "
        "the statistic itself, such as mx.QTilde()(nll, params, data, poi, value).value"
    )
