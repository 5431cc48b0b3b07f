"""Unbinned likelihoods: of the density of each event, and in the extended case of their number, too."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Scalar

from .._hints.calls import check_callable
from .._parameters.resolve import resolve
from .._util.logs import log
from .._util.poisson_draw import draw_poisson
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .._util.unavailable import Unavailable
from ..distributions import _foreign
from .base import AbstractLikelihood
from .event_range import EventRange, as_range, check_observables
from .events import (
    Events,
    as_chunk,
    as_events,
    event_faults,
    kind_for,
    log_densities,
    resample_events,
    rows_of,
    scores_of,
    sum_over,
)
from .expected_events import expected_events
from .normalisation import Density, complaints_of
from .spread import At, of_events


class UnbinnedNLL(AbstractLikelihood):
    """The likelihood of events `x`, each with the density `exp(log_prob(params, x))`, which is normalised to 1.

    The value is -sum(weight log_prob(x)). The number of events is not used as information.

    ```python
    nll = mx.UnbinnedNLL(lambda p, x: mx.distributions.Normal(p["mu"], p["sigma"]).log_prob(x))
    nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Normal(p["mu"], p["sigma"]))  # the same, and toys
    mx.fit(nll, {"mu": 0.0, "sigma": mx.Parameter(1.0, lower=0.0)}, x)
    ```

    With weights (`mx.Events(x, weight)`) the errors of `mx.fit` are those of the sandwich (see `mx.fit`), which are
    right for any weights, unlike those of the inverse Hessian.

    **Arguments:**

    - `log_prob`: `log_prob(params, x) -> (n,)`, the log of the density of each event, or
    - `distribution`: `distribution(params)`, any object with a `log_prob(x)`: from `mx.distributions`, numpyro, TFP.
    - `chunk_size`: if given, the sum is streamed over this many events at a time (see `mx.chunked_sum`).
    - `range`: where events are accepted, `(low, high)`, a list of these (sidebands), or for two observables such a list
        for each, `([(0, 4), (6, 10)], [(0, 1)])`. It is only used by `mx.fit` to check whether the density is
        normalised there; without it, the check uses the range of the events.

    **Raises:** `TypeError` unless exactly one of `log_prob` and `distribution` is given, and can be called this way;
    `ValueError` for an invalid range.
    """

    log_prob: Callable[[Any, Array], Array] | None = None
    distribution: Callable[[Any], Any] | None = eqx.field(default=None, kw_only=True)
    chunk_size: int | None = eqx.field(static=True, default=None, kw_only=True)
    range: EventRange | None = eqx.field(default=None, kw_only=True, converter=as_range)

    def __check_init__(self) -> None:
        _check_density(self.log_prob, self.distribution, "UnbinnedNLL", "log_prob")

    def __call__(self, params: PyTree, data: Events | Array) -> Scalar:
        """-sum(weight log_prob(x)) of the events `data`: `mx.Events`, an array of shape `(n,)` or `(n, dim)`, or
        `mx.OnDisk`."""
        check_observables(self.range, data)
        return sum_over(self._terms, params, data, self.chunk_size, "UnbinnedNLL")

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Events | Array) -> Float[Array, "n n"]:
        """J of the sandwich: the sum of the squared scores of the events, including their weights."""
        return of_events(self.terms, at, x, rows_of(data, "UnbinnedNLL"), self.chunk_size)

    def terms(self, params: PyTree, data: Events | Array) -> Float[Array, " n"]:
        """-weight log_prob(x) of each event, whose gradients are the scores."""
        return scores_of(self.log_prob_of, resolve(params), as_chunk(data, "UnbinnedNLL"))

    def _terms(self, params: PyTree, data: Any) -> Float[Array, " n"]:
        return -log_densities(self.log_prob_of, resolve(params), as_chunk(data, "UnbinnedNLL"))

    def log_prob_of(self, params: PyTree, x: Array) -> Array:
        if self.log_prob is not None:
            return self.log_prob(params, x)
        return distribution_of(self.distribution, params).log_prob(x)

    def resample(self, key: Array, data: Events | Array) -> Events:
        """A bootstrap sample of the events."""
        return resample_events(key, data, "UnbinnedNLL")

    def sample(self, params: PyTree, key: Array, data: Events | Array | None = None) -> Events | Array:
        """As many events as `data` has, drawn from the distribution at `params`.

        **Raises:** `TypeError` without a `distribution`, without `data`, or for weighted events.
        """
        events = _events_to_draw(data, "UnbinnedNLL")
        x = draw(self.distribution, resolve(params), key, events, "UnbinnedNLL")
        return x if events.mask is None else Events(x, mask=events.mask)

    def expected_data(self, params: PyTree, data: Events | Array | None = None) -> Events:
        """The Asimov data for as many events as `data` has (the sum of its weights): `mx.Events` at a few thousand `x`,
        with the expected numbers of events as weights.

        **Raises:** `TypeError` without a `distribution`, or for one whose probabilities in intervals are unknown;
        without `data`.
        """
        if data is None:
            raise Unavailable("Asimov data of UnbinnedNLL need a number of events: mx.asimov(nll, params, data=events)")
        total = as_events(data, "UnbinnedNLL").total
        return _expected(self.distribution, resolve(params), total, "UnbinnedNLL")

    def covariance_kind(self, data: Events | Array) -> str:
        """The appropriate covariance for these data: see `mx.fit(hesse=...)`."""
        return kind_for(data, "UnbinnedNLL")

    def complaints(self, params: PyTree, data: Events | Array) -> list[str]:
        """Warn if the density is not normalised, as far as the events show it."""
        density = Density(self.log_prob_of, self.distribution, None, self.range)
        messages = complaints_of(density, resolve(params), data, "UnbinnedNLL")
        if self.distribution is not None and getattr(self.distribution(resolve(params)), "extended", False):
            messages.append(
                "UnbinnedNLL looks at the shape alone, so that the yields of Mixture(yields=...) are determined only "
                "up to a factor: mx.ExtendedUnbinnedNLL(distribution=...) takes their sum for the expected number of "
                "events"
            )
        return messages

    def faults(self, params: PyTree, data: Events | Array) -> PyTree:
        """`Fault` codes for each array of `data`, where the likelihood is infinite or NaN, for messages."""
        return event_faults(self.log_prob_of, resolve(params), data, "UnbinnedNLL")


class ExtendedUnbinnedNLL(AbstractLikelihood):
    """The extended likelihood of events `x`, whose number is Poisson-distributed with the expectation `total(params)`.

    The value is total(params) - sum(weight log_density(x)) (R. J. Barlow, Nucl. Instrum. Meth. A 297 (1990) 496).

    ```python
    def log_density(p, x):
        signal = jnp.log(p["s"]) + mx.distributions.Normal(p["mu"], 1.0).log_prob(x)
        return jnp.logaddexp(signal, jnp.log(p["b"] / 10))


    nll = mx.ExtendedUnbinnedNLL(log_density, lambda p: p["s"] + p["b"])


    def mixture(p):  # the same with a range of 10 for both, and toys
        peak = mx.distributions.TruncatedNormal(p["mu"], 1.0, 0.0, 10.0)
        return mx.distributions.Mixture([peak, mx.distributions.Uniform(0.0, 10.0)], yields=[p["s"], p["b"]])


    nll = mx.ExtendedUnbinnedNLL(distribution=mixture)
    ```

    With weights the errors of `mx.fit` are those of the sandwich, as for `mx.UnbinnedNLL`.

    **Arguments:**

    - `log_density`: `log_density(params, x) -> (n,)`, the log of the density of events at each `x`. The integral of the
        density over the range of `x` must be `total(params)`.
    - `total`: `total(params)`, the expected number of events, a scalar.
    - `distribution`: instead of `log_density`, `distribution(params)`, any object with a `log_prob(x)` normalised to 1;
        if it has a `total` (`mx.distributions.Mixture` with yields), this is the expected number of events.
    - `chunk_size`: if given, the sum is streamed over this many events at a time (see `mx.chunked_sum`).
    - `max_events`: the number of rows of the arrays that `sample` returns; unused rows are masked. Default: enough for
        the expected number, which must be known (so it is needed inside `jax.jit`).
    - `range`: as for `mx.UnbinnedNLL`; the integral of the density over it must be the total.

    **Raises:** `TypeError` if they cannot be called this way; `ValueError` for an invalid range.
    """

    log_density: Callable[[Any, Array], Array] | None = None
    total: Callable[[Any], ArrayLike] | None = None
    distribution: Callable[[Any], Any] | None = eqx.field(default=None, kw_only=True)
    chunk_size: int | None = eqx.field(static=True, default=None, kw_only=True)
    max_events: int | None = eqx.field(static=True, default=None, kw_only=True)
    range: EventRange | None = eqx.field(default=None, kw_only=True, converter=as_range)

    def __check_init__(self) -> None:
        _check_density(self.log_density, self.distribution, "ExtendedUnbinnedNLL", "log_density")
        if self.total is not None or self.distribution is None:
            check_callable(self.total, "the total of ExtendedUnbinnedNLL", "total(params)")

    def __call__(self, params: PyTree, data: Events | Array) -> Scalar:
        """total - sum(weight log_density(x)) of the events: `mx.Events`, an array of shape `(n,)` or `(n, dim)`, or
        `mx.OnDisk`."""
        check_observables(self.range, data)
        total = self.total_of(resolve(params))
        return total + sum_over(self._terms, params, data, self.chunk_size, "ExtendedUnbinnedNLL")

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Events | Array) -> Float[Array, "n n"]:
        """J of the sandwich: the sum of the squared scores of the events, including weights; the total has none."""
        return of_events(self.terms, at, x, rows_of(data, "ExtendedUnbinnedNLL"), self.chunk_size)

    def terms(self, params: PyTree, data: Events | Array) -> Float[Array, " n"]:
        """-weight log_density(x) of each event, whose gradients are the scores; the total does not fluctuate."""
        return scores_of(self.log_density_of, resolve(params), as_chunk(data, "ExtendedUnbinnedNLL"))

    def _terms(self, params: PyTree, data: Any) -> Float[Array, " n"]:
        return -log_densities(self.log_density_of, resolve(params), as_chunk(data, "ExtendedUnbinnedNLL"))

    def log_density_of(self, params: PyTree, x: Array) -> Array:
        if self.log_density is not None:
            return self.log_density(params, x)
        return distribution_of(self.distribution, params).log_prob(x) + log(self.total_of(params))

    def total_of(self, params: PyTree) -> Array:
        if self.total is not None:
            total = jnp.asarray(self.total(params))
        else:
            instance = distribution_of(self.distribution, params)
            if not _foreign.has_total(instance):
                raise TypeError(
                    f"this {type(instance).__name__} has no total: give it yields, or ExtendedUnbinnedNLL a total"
                )
            total = jnp.asarray(instance.total)
        if total.shape != ():
            raise ValueError(f"total(params) must return one number, got an array of shape {total.shape}")
        return total

    def resample(self, key: Array, data: Events | Array) -> Events:
        """A bootstrap sample of the events."""
        return resample_events(key, data, "ExtendedUnbinnedNLL")

    def sample(self, params: PyTree, key: Array, data: Events | Array | None = None) -> Events:
        """A Poisson-distributed number of events, drawn at `params`: `mx.Events` with a mask.

        A toy with more events than rows consists of NaN only, so that a fit to it is not valid.

        **Raises:** `TypeError` without a `distribution`, for weighted events, or if the number of rows is unknown.
        """
        params = resolve(params)
        total, number_key = self.total_of(params), jax.random.fold_in(key, 1)
        rows = self._rows(total, data)
        x = draw(self.distribution, params, key, rows, "ExtendedUnbinnedNLL")
        n = draw_poisson(number_key, total.astype(x.dtype))
        x = jnp.where(n <= rows, x, jnp.nan)  # also if n is NaN
        return Events(x, mask=jnp.arange(rows) < jnp.where(n <= rows, n, rows))

    def _rows(self, total: Array, data: Events | Array | None) -> int:
        if self.max_events is not None:
            return self.max_events
        if data is not None:
            _events_to_draw(data, "ExtendedUnbinnedNLL")
        if is_concrete(total):
            mean = max(float(total), 0.0) if np.isfinite(total) else 0.0
        elif data is not None:
            mean = float(as_events(data, "ExtendedUnbinnedNLL").size)
        else:
            raise TypeError("inside jax.jit the number of events is not known: give ExtendedUnbinnedNLL a max_events")
        return int(np.ceil(mean + 8 * np.sqrt(mean) + 10))

    def expected_data(self, params: PyTree, data: Events | Array | None = None) -> Events:
        """The Asimov data: `mx.Events` at a few thousand `x`, with the expected numbers of events as weights.

        **Raises:** `TypeError` without a `distribution`, or for one whose probabilities in intervals are unknown.
        """
        params = resolve(params)
        return _expected(self.distribution, params, self.total_of(params), "ExtendedUnbinnedNLL")

    def covariance_kind(self, data: Events | Array) -> str:
        """The appropriate covariance for these data: see `mx.fit(hesse=...)`."""
        return kind_for(data, "ExtendedUnbinnedNLL")

    def complaints(self, params: PyTree, data: Events | Array) -> list[str]:
        """Warn if the integral of the density is not the total: see `UnbinnedNLL.complaints`."""
        density = Density(self.log_density_of, self.distribution, self.total_of, self.range)
        return complaints_of(density, resolve(params), data, "ExtendedUnbinnedNLL")

    def faults(self, params: PyTree, data: Events | Array) -> PyTree:
        """`Fault` codes for each array of `data`, where the likelihood is infinite or NaN, for messages."""
        return event_faults(self.log_density_of, resolve(params), data, "ExtendedUnbinnedNLL")


def _check_density(log_density: Any, distribution: Any, what: str, name: str) -> None:
    if (log_density is None) == (distribution is None):
        raise TypeError(f"{what} takes either {name}(params, x) or distribution(params)")
    if log_density is not None:
        check_callable(log_density, f"the density of {what}", f"{name}(params, x)")
    else:
        check_callable(distribution, f"the distribution of {what}", "distribution(params)")


def distribution_of(distribution: Callable[[Any], Any] | None, params: PyTree) -> Any:
    """Call `distribution(params)`. **Raises:** `TypeError` unless it returns an object with a `log_prob`."""
    assert distribution is not None
    instance = distribution(params)
    _foreign.check_density(instance, "what distribution(params) returns")
    return instance


def _events_to_draw(data: Any, what: str) -> Events:
    if data is None:
        raise TypeError(
            f"{what}.sample needs data, to know how many events to draw: mx.sample(nll, params, key, n, data=events)"
        )
    events = as_events(data, what)
    if events.weight is not None:
        raise TypeError(
            f"{what}.sample cannot draw toys with weights: draw the weighted events again, mx.bootstrap(kind='poisson')"
        )
    return events


def draw(distribution: Callable[[Any], Any] | None, params: PyTree, key: Array, like: Events | int, what: str) -> Array:
    """Draw as many events from the distribution as `like` has rows.

    **Raises:** `TypeError` without a distribution, or if it cannot be drawn from.
    """
    if distribution is None:
        raise Unavailable(
            f"{what} cannot sample from a log density: give it distribution(params), or use mx.Likelihood"
        )
    n = like if isinstance(like, int) else like.size
    return _foreign.sample(distribution_of(distribution, params), key, (n,))


def _expected(distribution: Callable[[Any], Any] | None, params: PyTree, total: Array, what: str) -> Events:
    if distribution is None:
        raise Unavailable(f"{what} has no Asimov data of a log density: give it distribution(params)")
    return expected_events(distribution_of(distribution, params), total)
