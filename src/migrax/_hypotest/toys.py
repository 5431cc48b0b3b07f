"""p-values as fractions of toys, with errors of their own; importance sampling for small ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from .._fit.status import Status, status_counts
from .._parameters.space import ravel, resolve_at
from .._toys.sample import draw_one
from .._toys.source import Toys
from .._util.jit import jit
from .._util.result import AbstractResult, names_of
from .._util.typing import PyTree
from . import formulas
from .asymptotic import Asymptotic
from .ensemble import Ensemble, Shown, is_traced, logs, traced
from .ratio import Ratio
from .statistics import AbstractStatistic, StatisticValue
from .test import AbstractCalculator, Errors, PValues, Test, alternative_point

_UNLIKELY = 6.0  # standard deviations of the mean weight from 1, for a likelihood that is a density


class ToyStatistics(AbstractResult):
    """The statistic of the toys of one hypothesis.

    **Attributes**, of `n` toys drawn at each of `k` points (one, or three for importance sampling):

    - `values`: shape `(k, n)`; NaN for a toy one of whose fits failed, which does not count.
    - `weights`: shape `(k, n)`, of each toy under this hypothesis; 1 without importance sampling.
    - `status`: shape `(k, n)`, an `mx.Status` for each.
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
    def failed(self) -> Int[Array, ""]:
        return jnp.sum(self.status != int(Status.VALID))

    def told(self) -> str:
        """How many there were, and what became of those that do not count."""
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
            drawn = _no_toys(self.toys, status, q.value.dtype)
        else:
            at = test._replace(free=test.free._replace(result=q.free))
            drawn = toy_test(at, (q.conditional, point), self.toys)
        return q, _conclude(drawn, observed, status, test.alternative)


def as_calculator(calculator: Asymptotic | Toys) -> AbstractCalculator:
    """What the user gave, as one that tells p-values."""
    return ByToys(calculator) if isinstance(calculator, Toys) else calculator


@jit
def _of_data(
    statistic: AbstractStatistic, found: Ratio, index: tuple[int, ...], values: Float[Array, " k"]
) -> tuple[StatisticValue, PyTree, Int[Array, ""]]:
    q = statistic.from_ratio(found, index, values)
    point, status = alternative_point(found)
    return q, point, jnp.where(q.valid, status, q.status)


@jit
def _conclude(
    test: ToyTest, observed: Float[Array, ""], status: Int[Array, ""], alternative: Float[Array, " k"]
) -> PValues:
    (p_sb, sb_error), (p_b, b_error) = (p_value(toys, observed) for toys in (test.tested, test.alternative))
    band = expected(test)
    errors = Errors(sb_error, b_error, ratio_error(test, observed, p_sb, p_b), band.p_sb_error, band.cls_error)
    z, e_z = (formulas.significance(jnp.where(p > 0, jnp.log(p), jnp.nan)) for p in (p_sb, band.p_sb[2]))
    log_sb, log_b, log_e_sb, log_e_b = (jnp.log(p) for p in (p_sb, p_b, band.p_sb, band.p_b))
    return PValues(log_sb, log_b, log_e_sb, log_e_b, status, z, e_z, alternative, errors, test)


def _no_toys(calculator: Toys, status: Int[Array, ""], dtype: Any) -> ToyTest:
    """Where the data's own fits failed there is nothing to draw from."""
    shape = (3 if calculator.importance else 1, calculator.n)
    nothing = ToyStatistics(jnp.full(shape, jnp.nan, dtype), jnp.ones(shape, dtype), jnp.full(shape, status))
    return ToyTest(nothing, nothing)


def p_value(toys: ToyStatistics, observed: Float[Array, "..."]) -> tuple[Array, Array]:
    """The fraction of toys at least as far out as what was observed, and its standard error; NaN if no toy counts.

    Without weights the error is `formulas.fraction_error`; with weights it is that of the mean of each stratum. The
    weights of all toys add up to 1 but for fluctuations: where more are beyond than
    not, one minus the weights of the others fluctuates less, and is never above 1.
    """
    beyond = _beyond(toys, observed)
    p, error = _mean(toys, toys.weights * beyond)
    if toys.values.shape[0] > 1:
        rest, rest_error = _mean(toys, toys.weights * (1 - beyond))
        smallest = 0.5 * toys.values.shape[0] / toys.total  # as half a toy of the largest weight
        error = jnp.where(p > rest, jnp.maximum(rest_error, smallest), error)
        return jnp.where(p > rest, 1 - rest, p), error
    return p, formulas.fraction_error(p, jnp.sum(toys.status == int(Status.VALID)))


def ratio_error(test: ToyTest, observed: Float[Array, "..."], p_sb: Array, p_b: Array) -> Array:
    """The standard error of p_sb / p_b, to first order; where the toys are the same ones, with their correlation."""
    p_b = jnp.where(p_b > 0, p_b, jnp.nan)
    cls = p_sb / p_b
    if test.tested.values.shape[0] > 1:
        off = (test.tested.weights - cls[..., None, None] * test.alternative.weights) * _beyond(test.tested, observed)
        return _mean(test.tested, off)[1] / p_b
    _, e_sb = p_value(test.tested, observed)
    _, e_b = p_value(test.alternative, observed)
    return jnp.sqrt(e_sb**2 + (cls * e_b) ** 2) / p_b


class Expected(NamedTuple):
    """p-values where the data are -2, -1, 0, 1, 2 standard deviations off in the toys of the alternative."""

    p_sb: Float[Array, "5"]
    p_b: Float[Array, "5"]
    p_sb_error: Float[Array, "5"]
    cls_error: Float[Array, "5"]


def expected(test: ToyTest) -> Expected:
    """The first is the lowest. The errors are those of the toys of the hypothesis tested, and of the quantiles of those
    of the alternative."""
    at, low, high = (_quantiles(test.alternative, off) for off in (0.0, -1.0, 1.0))
    (p_sb, error), (p_b, _) = (p_value(toys, at) for toys in (test.tested, test.alternative))
    off = 0.5 * (p_value(test.tested, low)[0] - p_value(test.tested, high)[0])
    error = jnp.sqrt(error**2 + off**2)
    return Expected(p_sb, p_b, error, error / jnp.where(p_b > 0, p_b, jnp.nan))


def _quantiles(toys: ToyStatistics, off: float) -> Float[Array, "5"]:
    """The statistic below which a fraction of toys is, moved by `off` of its standard errors; the first is the largest,
    as its p-value is the lowest."""
    good = jnp.ravel(toys.status == int(Status.VALID))
    values = jnp.where(good, jnp.ravel(toys.values), jnp.nan)
    order = jnp.argsort(values)  # NaN comes last
    weights = jnp.where(good, jnp.ravel(toys.weights), 0.0)[order]
    below = jnp.cumsum(weights) / jnp.sum(weights)
    share = jax.scipy.special.ndtr(-jnp.asarray(formulas.BANDS, values.dtype))
    error = jnp.sqrt(share * (1 - share) * jnp.sum(weights**2)) / jnp.sum(weights)
    at = jnp.searchsorted(below, jnp.clip(share + off * error, 0.0, 1.0))
    return values[order][jnp.minimum(at, jnp.maximum(jnp.sum(good) - 1, 0))]


def _beyond(toys: ToyStatistics, observed: Float[Array, "..."]) -> Array:
    # fits are right to about 1e-10 of the statistic: toys that are the data themselves must count
    same = 1e-7 if toys.values.dtype == jnp.float64 else 1e-3
    finite = jnp.isfinite(observed)
    safe = jnp.where(finite, observed, 0.0)
    edge = jnp.where(finite, safe - same * (1 + safe), observed)
    return (toys.values >= edge[..., None, None]).astype(toys.values.dtype)  # False for NaN


def _mean(toys: ToyStatistics, x: Float[Array, "... k n"]) -> tuple[Array, Array]:
    """The mean over the toys that count, and its standard error: of strata with equal shares."""
    good = toys.status == int(Status.VALID)
    n = jnp.sum(good, axis=-1)
    mean = jnp.sum(jnp.where(good, x, 0.0), axis=-1) / n
    variance = jnp.sum(jnp.where(good, (x - mean[..., None]) ** 2, 0.0), axis=-1) / jnp.maximum(n - 1, 1)
    k = toys.values.shape[0]
    return jnp.mean(mean, axis=-1), jnp.sqrt(jnp.sum(variance / n, axis=-1)) / k


def toy_test(test: Test, points: tuple[PyTree, PyTree], calculator: Toys) -> ToyTest:
    """The statistic of toys drawn at `points`: the parameters of the hypothesis tested and of the alternative.

    **Raises:** `ValueError` where importance sampling shows that the likelihood is not a density.
    """
    statistic, (nll, free, data), index, values, _ = test
    origins = (*points, free.params) if calculator.importance else points
    drawn = drawn_at(calculator, origins)
    if is_traced(nll, origins, data, calculator.key, values):
        q, status = traced(nll, drawn, data, statistic, index, values)
    else:
        with Shown(calculator.progress) as shown:
            ensembles = (Ensemble(nll, toys.params, data, toys, index, shown) for toys in drawn)
            found = [statistic_of(statistic, ensemble, values, points[0]) for ensemble in ensembles]
        q, status = (jnp.stack(arrays) for arrays in zip(*found, strict=True))
    if not calculator.importance:
        return ToyTest(*(unweighted(q[i], status[i]) for i in (0, 1)))
    weights = _weights(nll, drawn, data)
    found = ToyTest(*(ToyStatistics(q, weights[i], status) for i in (0, 1)))
    for toys in (found.tested, found.alternative):
        _check_density(toys)
    return found


def drawn_at(calculator: Toys, origins: tuple[PyTree, ...]) -> list[Toys]:
    """The toys of each point, with a key of its own."""
    keys = [jax.random.fold_in(calculator.key, i) for i in range(len(origins))]
    return [Toys(calculator.n, key, at, mesh=calculator.mesh) for key, at in zip(keys, origins, strict=True)]


def statistic_of(
    statistic: AbstractStatistic, ensemble: Ensemble, values: Float[Array, " k"], near: PyTree = None
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    """The statistic of each toy and its status. `near`: parameters of a fit at `values`, as for `Ensemble.rise`."""
    rise, status = ensemble.rise(values, near)
    best = ensemble.free.values
    at_zero = np.zeros_like(rise)
    if statistic.tilde and np.any(best[:, 0] < 0):
        at_zero, there = ensemble.rise(jnp.zeros_like(values))
        status = np.where((best[:, 0] < 0) & (status == 0), there, status)
    return _of(statistic, *(jnp.asarray(a) for a in (best[:, 0], values[0], rise, at_zero, status)))


@jit
def _of(
    statistic: AbstractStatistic, best: Array, value: Array, rise: Array, at_zero: Array, status: Array
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    q = statistic.of(best, value, rise, at_zero)
    return jnp.where(status == int(Status.VALID), q, jnp.nan), status


def unweighted(values: Float[Array, " n"], status: Int[Array, " n"]) -> ToyStatistics:
    """Of toys drawn at one point, all of one weight."""
    return ToyStatistics(values[None], jnp.ones_like(values)[None], status[None])


def _weights(nll: Any, drawn: list[Toys], data: PyTree) -> Float[Array, "2 k n"]:
    """p(toy | hypothesis) over the mean of p(toy | point) over all points at which toys are drawn (the balance
    heuristic: E. Veach and L. J. Guibas, SIGGRAPH 1995, 419; A. Owen and Y. Zhou, J. Am. Stat. Assoc. 95 (2000) 135).
    As the hypothesis is one of the points, no weight is above their number."""
    origins, log_p = tuple(toys.params for toys in drawn), []
    for toys in drawn:
        if is_traced(nll, drawn, data):
            log_p.append(-_traced_logs(nll, origins, data, toys))
        else:
            log_p.append(-jnp.asarray(logs(nll, origins, toys, data, toys.params)))
    every = jnp.stack(log_p, axis=1)  # hypothesis, stratum, toy
    mixture = jax.scipy.special.logsumexp(every, axis=0) - jnp.log(len(origins))
    return jnp.exp(every[:2] - mixture)


def _traced_logs(nll: Any, origins: tuple[PyTree, ...], data: PyTree, toys: Toys) -> Float[Array, "k n"]:
    at = [resolve_at(point, ravel(point)[0]) for point in origins]
    here = resolve_at(toys.params, ravel(toys.params)[0])

    def one(number: Array) -> Array:
        toy = draw_one(nll, here, jax.random.fold_in(toys.key, number), data)
        return jnp.stack([jnp.asarray(nll(p, toy)) for p in at])

    return lax.map(one, jnp.arange(toys.n), batch_size=min(toys.n, 256)).T


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
    """A fraction of toys: whoever differentiates it is told that this means nothing."""
    return x


@without_derivative.defjvp
def _refuse(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    raise TypeError(
        "p-values by toys are steps, whose derivative is zero or none: differentiate those of mx.Asymptotic(), or the "
        "statistic itself, such as mx.QTilde()(nll, params, data, poi, value).value"
    )
