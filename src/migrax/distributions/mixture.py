"""Weighted sums of distributions: by fractions, or by expected numbers of events."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from .._util.tracing import is_concrete
from . import _foreign
from ._base import AbstractDistribution, check_edges
from ._sums import log_mixture


class Mixture(AbstractDistribution):
    """The density sum_k w_k p_k(x) / sum_k w_k of components p_k.

    ```python
    peak, slope = mx.distributions.Normal(3.0, 0.2), mx.distributions.Exponential(0.5)
    model = mx.distributions.Mixture({"peak": peak, "slope": slope}, yields={"peak": 120.0, "slope": 900.0})
    model.log_density(2.9), model.total  # for mx.ExtendedUnbinnedNLL
    model.log_expected([0.0, 1.0, 2.0])  # for mx.PoissonNLL
    ```

    A weight may be exactly 0, where derivatives with respect to it are also right. It may be negative (in the course of
    a fit, or because of interference): the density is right where the sum is positive, and NaN where it is negative.
    """

    components: tuple[Any, ...]
    fractions: tuple[Any, ...] | None
    yields: tuple[Any, ...] | None
    names: tuple[str, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        components: Sequence[Any] | Mapping[str, Any],
        fractions: Sequence[ArrayLike] | ArrayLike | Mapping[str, ArrayLike] | None = None,
        yields: Sequence[ArrayLike] | ArrayLike | Mapping[str, ArrayLike] | None = None,
    ):
        """**Arguments:**

        - `components`: distributions, in a sequence or by name. Objects of other libraries that have a `log_prob` work
            for everything but probabilities of intervals.
        - `fractions`: one per component, which add up to 1 (they are not normalised, and are checked only if they are
            numbers, not traced); or one fewer, and the last component gets the rest. In a dictionary any one may be
            left out, which then gets the rest. In an array the components are the first axis.
        - `yields`: instead of fractions, the expected number of events of each component.

        **Raises:** `TypeError` for components without a `log_prob`, or unless exactly one of `fractions` and `yields`
        is given; `ValueError` for names or numbers of them that do not match, or fractions that do not add up to 1.
        """
        if isinstance(components, Mapping):
            self.names, self.components = tuple(components), tuple(components.values())
        elif isinstance(components, Sequence):
            self.names, self.components = None, tuple(components)
        else:
            raise TypeError(f"the components must be a sequence or a dict, got {type(components).__name__}")
        if not self.components:
            raise ValueError("a mixture needs at least one component")
        for k, component in enumerate(self.components):
            _foreign.check_density(component, self._name(k))
            if _foreign.event_shape(component) != self.event_shape:
                raise ValueError(
                    f"{self._name(k)} has events of shape {_foreign.event_shape(component)}, those before it "
                    f"{self.event_shape}"
                )
        if (fractions is None) == (yields is None):
            raise TypeError("Mixture takes either fractions or yields")
        self.fractions = None if fractions is None else self._in_order(fractions, "fractions")
        self.yields = None if yields is None else self._in_order(yields, "yields")
        if self.fractions is not None and None not in self.fractions and is_concrete(*self.fractions):
            _check_sum(self.fractions)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one event, which is that of the components: `()` for one observable."""
        return _foreign.event_shape(self.components[0])

    @property
    def extended(self) -> bool:
        """Whether it has yields, and therefore an expected number of events."""
        return self.yields is not None

    @property
    def total(self) -> Float[Array, "..."]:
        """The sum of the yields, the expected number of events.

        **Raises:** `ValueError` if it has fractions.
        """
        return jnp.asarray(sum(self._yields()))

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`, normalised to 1."""
        x = jnp.asarray(x)
        return self._log_sum([d.log_prob(x) for d in self.components]) - self._log_norm()

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`.

        **Raises:** `TypeError` if a component (of another library) has no `log_integral`.
        """
        return self._log_sum(self._log_integrals(low, high)) - self._log_norm()

    def log_bin_integrals(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the probabilities of bins: see `AbstractDistribution`."""
        return self._log_sum(self._log_bins(edges)) - self._log_norm()

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameters. NaN where a weight is negative."""
        weights = [jnp.asarray(w) for w in self._weights()]
        lanes = jnp.broadcast_shapes(*(w.shape for w in weights), *map(_foreign.lanes_of, self.components))
        choice_key, *keys = jax.random.split(key, len(self.components) + 1)
        *bounds, total = itertools.accumulate(weights)
        u = total * jax.random.uniform(choice_key, (*shape, *lanes), dtype=jnp.result_type(float, *weights))
        chosen = sum((u >= bound).astype(int) for bound in bounds)
        is_positive = functools.reduce(jnp.logical_and, [w >= 0 for w in weights])

        def over_events(a: ArrayLike) -> Array:
            return jnp.broadcast_to(a, u.shape).reshape(*u.shape, *[1] * len(self.event_shape))

        out = jnp.nan
        for k, (d, key) in enumerate(zip(self.components, keys, strict=True)):
            draws = _foreign.sample_lanes(d, key, shape, lanes)
            out = jnp.where(over_events(is_positive & (chosen == k)), draws, out)
        return jnp.asarray(out)

    def log_density(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the expected number of events per unit of `x`: `log_prob(x) + log(total)`.

        **Raises:** `ValueError` if it has fractions.
        """
        self._yields()
        x = jnp.asarray(x)
        return self._log_sum([d.log_prob(x) for d in self.components])

    def log_expected(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The logs of the expected numbers of events in the bins with these `edges` (shape `(n + 1,)`, or `(n, 2)` with
        gaps), precise in both tails.

        **Raises:** `ValueError` if it has fractions, or unless the edges increase.
        """
        self._yields()
        return self._log_sum(self._log_bins(edges))

    def expected(self, edges: ArrayLike) -> Float[Array, " n"]:
        """The expected numbers of events in the bins with these `edges`; negative where yields make them so.

        **Raises:** as `log_expected`.
        """
        yields, parts = self._yields(), self._log_bins(edges)
        return functools.reduce(jnp.add, [w * jnp.exp(part) for w, part in zip(yields, parts, strict=True)])

    def _log_integrals(self, low: ArrayLike, high: ArrayLike) -> list[Array]:
        return [_foreign.log_integral(d, low, high, self._name(k)) for k, d in enumerate(self.components)]

    def _log_bins(self, edges: ArrayLike) -> list[Array]:
        check_edges(edges, self)
        return [_foreign.log_bin_integrals(d, edges, self._name(k)) for k, d in enumerate(self.components)]

    def _log_sum(self, logs: list[Array]) -> Array:
        return log_mixture(self._weights(), logs)

    def _log_norm(self) -> Array | float:
        if self.yields is None:
            return 0.0
        # Python numbers are kept, so that they adopt the precision of what they are combined with
        total = sum(self.yields)
        positive = total > 0
        return jnp.where(positive, log(jnp.where(positive, total, 1.0)), jnp.nan)

    def _weights(self) -> tuple[Any, ...]:
        if self.yields is not None:
            return self.yields
        assert self.fractions is not None
        rest = 1 - sum(f for f in self.fractions if f is not None)
        return tuple(rest if f is None else f for f in self.fractions)

    def _yields(self) -> tuple[Any, ...]:
        if self.yields is None:
            raise ValueError("a mixture of fractions does not say how many events are expected: give it yields")
        return self.yields

    def _name(self, k: int) -> str:
        return f"component {k if self.names is None else repr(self.names[k])} of the mixture"

    def _in_order(self, weights: Any, what: str) -> tuple[Any, ...]:
        """One weight per component, `None` for the fraction that is the rest."""
        n = len(self.components)
        if isinstance(weights, Mapping):
            return self._by_name(weights, what)
        if not isinstance(weights, Sequence) and jnp.ndim(weights) == 0:
            weights = (weights,)
        given = tuple(weights)
        if what == "fractions" and len(given) == n - 1:
            return (*given, None)
        if len(given) != n:
            allowed = f"{n} or {n - 1} fractions" if what == "fractions" else f"{n} yields"
            raise ValueError(f"{n} components take {allowed}, got {len(given)}")
        return given

    def _by_name(self, weights: Mapping[str, Any], what: str) -> tuple[Any, ...]:
        if self.names is None:
            raise ValueError(f"{what} by name ({', '.join(map(repr, weights))}) need components by name")
        unknown = [name for name in weights if name not in self.names]
        missing = [name for name in self.names if name not in weights]
        if unknown or len(missing) > (what == "fractions"):
            lacking = f"no {what} for {missing}" if missing else ""
            surplus = f"{what} for {unknown}, which are no components" if unknown else ""
            raise ValueError(
                f"{' and '.join(s for s in (lacking, surplus) if s)}; the components are {list(self.names)}"
            )
        return tuple(weights.get(name) for name in self.names)


def _check_sum(fractions: tuple[Any, ...]) -> None:
    total = np.asarray(sum(np.asarray(f) for f in fractions))
    tolerance = 1e-5 if total.dtype == np.float32 else 1e-9
    if not np.all(np.abs(total - 1) <= tolerance):
        raise ValueError(
            f"{len(fractions)} fractions must add up to 1, got {total}; with {len(fractions) - 1} fractions the last "
            "component has the rest, and yields need not add up to anything"
        )
