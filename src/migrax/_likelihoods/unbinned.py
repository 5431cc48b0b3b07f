"""Events one by one: a density of each, or a density of their number, too."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Scalar

from .._chunks import chunked_sum
from .._disk import OnDisk
from .._faults import Fault
from .._hints import check_callable
from .._parameter import is_concrete, resolve
from ..distributions import _foreign
from .base import AbstractLikelihood
from .counts import floats
from .poisson import draw_poisson


class Events(eqx.Module):
    """Measured events: `x`, with weights if they have some, and with a mask if the array is padded.

    Toys of different sizes fit into arrays of one size, whose unused rows are masked, so that fits to them can be
    vmapped.
    """

    x: Float[Array, "n *dim"]
    weight: Float[Array, " n"] | None
    mask: Bool[Array, " n"] | None

    def __init__(self, x: ArrayLike, weight: ArrayLike | None = None, mask: ArrayLike | None = None):
        """**Arguments:**

        - `x`: shape `(n,)`, or `(n, dim)` for several observables an event.
        - `weight`: `None`, or shape `(n,)`; negative weights are taken as they are.
        - `mask`: `None`, or shape `(n,)`: `True` for the rows that are events. What stands in the others is not looked
            at. (Where no row is an event, the density is looked at for `x = 0`.)

        **Raises:** `ValueError` for shapes that do not fit together or weights that are not finite; `TypeError` for a
        mask that is not one of booleans.
        """
        self.x = floats(x)
        if self.x.ndim not in (1, 2):
            raise ValueError(f"x must have shape (n,) or (n, dim), got {self.x.shape}")
        self.weight = None if weight is None else floats(weight).astype(self.x.dtype)
        self.mask = None if mask is None else jnp.asarray(mask)
        for name, array in (("weight", self.weight), ("mask", self.mask)):
            if array is not None and array.shape != self.x.shape[:1]:
                raise ValueError(f"{name} must have shape {self.x.shape[:1]}, got {array.shape}")
        if self.mask is not None and self.mask.dtype != bool:
            raise TypeError(f"mask must hold booleans, got {self.mask.dtype}")
        if self.weight is not None and is_concrete(self.weight) and not np.all(np.isfinite(self.weight)):
            raise ValueError(f"weight[{int(np.argmin(np.isfinite(self.weight)))}] is not finite")

    @property
    def size(self) -> int:
        """The number of rows, the masked ones too."""
        return self.x.shape[0]

    @property
    def total(self) -> Scalar:
        """The sum of the weights of the events, which is their number if they have none."""
        weight = jnp.ones(self.size, self.x.dtype) if self.weight is None else self.weight
        return jnp.sum(weight if self.mask is None else jnp.where(self.mask, weight, 0.0))


def as_events(data: Any, what: str) -> Events:
    """The events, their unused rows filled. **Raises:** `TypeError` unless `data` are `Events` or an array of them."""
    if isinstance(data, Events):
        return filled(data)
    if isinstance(data, jax.Array | np.ndarray):
        return Events(data)
    raise TypeError(f"{what} takes an array of events as data, or mx.Events(x, weight), got {type(data).__name__}")


def sum_over(
    terms: Callable[[PyTree, Events], Array], params: PyTree, data: Any, chunk_size: int | None, what: str
) -> Scalar:
    """The sum of the events' terms, of those in memory or on disk."""
    if isinstance(data, OnDisk):
        return chunked_sum(lambda p, x: terms(p, Events(x)), params, data, chunk_size=chunk_size)
    return chunked_sum(terms, params, as_events(data, what), chunk_size=chunk_size)


def kind_for(data: Any, what: str) -> str:
    """The covariance that is right for the events."""
    return "hesse" if isinstance(data, OnDisk) or as_events(data, what).weight is None else "sandwich"


def log_densities(log_density: Callable[[Any, Array], Array], params: PyTree, events: Events) -> Float[Array, " n"]:
    """weight · log density of each event, 0 in the rows that count for nothing, which are `filled` already."""
    x = events.x
    out = jnp.asarray(log_density(params, x))
    if out.shape != x.shape[:1]:
        raise ValueError(
            f"the log density must return one number an event, shape {x.shape[:1]}, got {out.shape}: for x of shape "
            f"{x.shape} as a whole"
        )
    out = out.astype(x.dtype)
    if events.weight is not None:
        out = events.weight * out
    counts = _counts(events)
    return out if counts is None else jnp.where(counts, out, 0.0)


def _counts(events: Events) -> Bool[Array, " n"] | None:
    """Which rows count: events, of another weight than 0. `None`: all."""
    if events.weight is None:
        return events.mask
    return events.weight != 0 if events.mask is None else events.mask & (events.weight != 0)


def filled(events: Events) -> Events:
    """The events with the `x` of one that counts in the rows that do not: what stands there (NaN, or where the density
    is 0) would make NaN of the derivatives, although it is multiplied by 0. Without any event it is 0."""
    counts = _counts(events)
    if counts is None:
        return events
    some = jnp.where(jnp.any(counts), events.x[jnp.argmax(counts)], 0.0)
    x = jnp.where(counts.reshape(-1, *[1] * (events.x.ndim - 1)), events.x, some)
    return eqx.tree_at(lambda e: e.x, events, x)


def event_faults(log_density: Callable[[Any, Array], Array], params: PyTree, data: Any, what: str) -> PyTree:
    """`Fault` numbers for each array of the events: where the density is 0, negative or NaN. What is on disk is not
    looked at again."""
    if isinstance(data, OnDisk):
        return ()
    events = as_events(data, what)
    none = jax.tree.map(lambda a: jnp.full(a.shape, int(Fault.NONE)), events)
    out = log_densities(log_density, params, events)
    code = jnp.where(jnp.isfinite(out), int(Fault.NONE), int(Fault.EXPECTED_NOT_FINITE))
    code = jnp.where(jnp.isneginf(out), int(Fault.NO_DENSITY), code)
    shaped = jnp.broadcast_to(code.reshape(-1, *[1] * (events.x.ndim - 1)), events.x.shape)
    return eqx.tree_at(lambda e: e.x, none, shaped)


class UnbinnedNLL(AbstractLikelihood):
    """Events `x`, each with the density `exp(log_prob(params, x))`, normalised to 1: their number says nothing.

    Its value is -sum(weight log_prob(x)).

    ```python
    nll = mx.UnbinnedNLL(lambda p, x: mx.distributions.Normal(p["mu"], p["sigma"]).log_prob(x))
    nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Normal(p["mu"], p["sigma"]))  # the same, and toys
    mx.fit(nll, {"mu": 0.0, "sigma": mx.Parameter(1.0, lower=0.0)}, x)
    ```

    With weights (`mx.Events(x, weight)`) the errors of `mx.fit` are those of the sandwich (see `mx.fit`), which are
    right for any weights; the inverse Hessian's are not.

    **Arguments:**

    - `log_prob`: `log_prob(params, x) -> (n,)`, the log of the density of each event, or
    - `distribution`: `distribution(params)`, anything with a `log_prob(x)`: of `mx.distributions`, of numpyro, of TFP.
    - `chunk_size`: if given, the sum is streamed over this many events at a time (see `mx.chunked_sum`).

    **Raises:** `TypeError` unless exactly one is given and can be called so.
    """

    log_prob: Callable[[Any, Array], Array] | None = None
    distribution: Callable[[Any], Any] | None = eqx.field(default=None, kw_only=True)
    chunk_size: int | None = eqx.field(static=True, default=None, kw_only=True)

    def __check_init__(self):
        _check_density(self.log_prob, self.distribution, "UnbinnedNLL", "log_prob")

    def __call__(self, params: PyTree, data: Events | Array) -> Scalar:
        """-sum(weight log_prob(x)) of the events `data`: `mx.Events`, an array of shape `(n,)` or `(n, dim)`, or
        `mx.OnDisk`."""
        return sum_over(self._terms, params, data, self.chunk_size, "UnbinnedNLL")

    def terms(self, params: PyTree, data: Events | Array) -> Float[Array, " n"]:
        """-weight log_prob(x) of each event, whose gradients are the scores."""
        return self._terms(params, as_events(data, "UnbinnedNLL"))

    def _terms(self, params: PyTree, events: Events) -> Float[Array, " n"]:
        return -log_densities(self._log_prob, resolve(params), events)

    def _log_prob(self, params: PyTree, x: Array) -> Array:
        if self.log_prob is not None:
            return self.log_prob(params, x)
        return distribution_of(self.distribution, params).log_prob(x)

    def sample(self, params: PyTree, key: Array, data: Events | Array | None = None) -> Events | Array:
        """As many events as `data` has, drawn from the distribution at `params`.

        **Raises:** `TypeError` without a `distribution`, without `data`, or for weighted events.
        """
        events = _events_to_draw(data, "UnbinnedNLL")
        x = draw(self.distribution, resolve(params), key, events, "UnbinnedNLL")
        return x if events.mask is None else Events(x, mask=events.mask)

    def covariance_kind(self, data: Events | Array) -> str:
        """The covariance that is right for these data: see `mx.fit(hesse=...)`."""
        return kind_for(data, "UnbinnedNLL")

    def faults(self, params: PyTree, data: Events | Array) -> PyTree:
        """For each array of `data` what makes the likelihood infinite or NaN there, `Fault` numbers, for messages."""
        return event_faults(self._log_prob, resolve(params), data, "UnbinnedNLL")


class ExtendedUnbinnedNLL(AbstractLikelihood):
    """Events `x` with a density that is scaled to the expected number of events, which is Poisson-distributed.

    Its value is total(params) - sum(weight log_density(x)) (R. J. Barlow, Nucl. Instrum. Meth. A 297 (1990) 496).

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

    - `log_density`: `log_density(params, x) -> (n,)`, the log of the density of each event, whose integral over the
        range of `x` is `total(params)`.
    - `total`: `total(params)`, the expected number of events.
    - `distribution`: in place of `log_density`, `distribution(params)`, anything with a `log_prob(x)` normalised to 1;
        where it has a `total` (`mx.distributions.Mixture` with yields), this is the expected number of events.
    - `chunk_size`: if given, the sum is streamed over this many events at a time (see `mx.chunked_sum`).
    - `max_events`: the rows of the arrays that `sample` returns, of which the unused ones are masked. Default: enough
        for the total, where its value is known, that is outside `jax.jit`.

    **Raises:** `TypeError` if they cannot be called so.
    """

    log_density: Callable[[Any, Array], Array] | None = None
    total: Callable[[Any], ArrayLike] | None = None
    distribution: Callable[[Any], Any] | None = eqx.field(default=None, kw_only=True)
    chunk_size: int | None = eqx.field(static=True, default=None, kw_only=True)
    max_events: int | None = eqx.field(static=True, default=None, kw_only=True)

    def __check_init__(self):
        _check_density(self.log_density, self.distribution, "ExtendedUnbinnedNLL", "log_density")
        if self.total is not None or self.distribution is None:
            check_callable(self.total, "the total of ExtendedUnbinnedNLL", "total(params)")

    def __call__(self, params: PyTree, data: Events | Array) -> Scalar:
        """total - sum(weight log_density(x)) of the events: `mx.Events`, an array of shape `(n,)` or `(n, dim)`, or
        `mx.OnDisk`."""
        total = self._total(resolve(params))
        return total + sum_over(self._terms, params, data, self.chunk_size, "ExtendedUnbinnedNLL")

    def terms(self, params: PyTree, data: Events | Array) -> Float[Array, " n"]:
        """-weight log_density(x) of each event, whose gradients are the scores: the total does not fluctuate."""
        return self._terms(params, as_events(data, "ExtendedUnbinnedNLL"))

    def _terms(self, params: PyTree, events: Events) -> Float[Array, " n"]:
        return -log_densities(self._log_density, resolve(params), events)

    def _log_density(self, params: PyTree, x: Array) -> Array:
        if self.log_density is not None:
            return self.log_density(params, x)
        return distribution_of(self.distribution, params).log_prob(x) + jnp.log(self._total(params))

    def _total(self, params: PyTree) -> Array:
        if self.total is not None:
            total = jnp.asarray(self.total(params))
        else:
            found = distribution_of(self.distribution, params)
            if not hasattr(type(found), "total") or not getattr(found, "extended", True):
                raise TypeError(
                    f"this {type(found).__name__} has no total: give it yields, or ExtendedUnbinnedNLL a total"
                )
            total = jnp.asarray(found.total)
        if total.shape != ():
            raise ValueError(f"total(params) must return one number, got an array of shape {total.shape}")
        return total

    def sample(self, params: PyTree, key: Array, data: Events | Array | None = None) -> Events:
        """A Poisson-distributed number of events, drawn at `params`: `mx.Events` with a mask.

        A toy with more events than rows is NaN throughout, so that no fit to it is valid.

        **Raises:** `TypeError` without a `distribution`, for weighted events, or if the number of rows cannot be known.
        """
        params = resolve(params)
        total, number_key = self._total(params), jax.random.fold_in(key, 1)
        rows = self._rows(total, data)
        x = draw(self.distribution, params, key, rows, "ExtendedUnbinnedNLL")
        n = draw_poisson(number_key, total.astype(x.dtype))
        x = jnp.where(n <= rows, x, jnp.nan)  # a NaN of the number, too
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

    def covariance_kind(self, data: Events | Array) -> str:
        """The covariance that is right for these data: see `mx.fit(hesse=...)`."""
        return kind_for(data, "ExtendedUnbinnedNLL")

    def faults(self, params: PyTree, data: Events | Array) -> PyTree:
        """For each array of `data` what makes the likelihood infinite or NaN there, `Fault` numbers, for messages."""
        return event_faults(self._log_density, resolve(params), data, "ExtendedUnbinnedNLL")


def _check_density(log_density: Any, distribution: Any, what: str, name: str) -> None:
    if (log_density is None) == (distribution is None):
        raise TypeError(f"{what} takes either {name}(params, x) or distribution(params)")
    if log_density is not None:
        check_callable(log_density, f"the density of {what}", f"{name}(params, x)")
    else:
        check_callable(distribution, f"the distribution of {what}", "distribution(params)")


def distribution_of(distribution: Callable[[Any], Any] | None, params: PyTree) -> Any:
    """**Raises:** `TypeError` unless the function returns something with a `log_prob`."""
    assert distribution is not None
    found = distribution(params)
    _foreign.check_density(found, "what distribution(params) returns")
    return found


def _events_to_draw(data: Any, what: str) -> Events:
    if data is None:
        raise TypeError(
            f"{what}.sample needs data, as many events as which it draws: mx.sample(nll, params, key, n, data=events)"
        )
    events = as_events(data, what)
    if events.weight is not None:
        raise TypeError(
            f"{what}.sample does not know how weights fluctuate: draw the weighted events again (bootstrap)"
        )
    return events


def draw(distribution: Callable[[Any], Any] | None, params: PyTree, key: Array, like: Events | int, what: str) -> Array:
    """Events of the distribution, as many as `like` has rows.

    **Raises:** `TypeError` without a distribution, or if it cannot be drawn from.
    """
    if distribution is None:
        raise TypeError(f"{what} cannot sample from a log density: give it distribution(params), or use mx.Likelihood")
    n = like if isinstance(like, int) else like.size
    return _foreign.sample(distribution_of(distribution, params), key, (n,))
