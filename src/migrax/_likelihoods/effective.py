"""Likelihoods of weighted events, scaled to the effective number of events so that their shape gives the errors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from .._host.evaluated import evaluated
from .._util.chunks import sum_over_chunks
from .._util.typing import PyTree
from .base import AbstractJoint, AbstractLikelihood
from .events import as_chunk, rows_of
from .spread import At
from .unbinned import ExtendedUnbinnedNLL, UnbinnedNLL


class EffectiveNLL(AbstractLikelihood):
    """A likelihood of weighted events times `factor`: see `effective`."""

    part: UnbinnedNLL | ExtendedUnbinnedNLL
    factor: Float[Array, ""]

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """Minus the log of the likelihood, scaled to the effective number of events."""
        value = self.part(params, data)
        return self.factor.astype(value.dtype) * value

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich."""
        return self.factor.astype(x.dtype) ** 2 * self.part.score_covariance(at, x, data)

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Any:
        """Delegate to the unscaled likelihood, which refuses weighted events."""
        return self.part.sample(params, key, data)

    def expected_data(self, params: PyTree, data: Any = None) -> Any:
        """The Asimov data of the unscaled likelihood."""
        return self.part.expected_data(params, data)

    def complaints(self, params: PyTree, data: Any) -> list[str]:
        """The warnings of the unscaled likelihood."""
        return self.part.complaints(params, data)

    def faults(self, params: PyTree, data: Any) -> PyTree:
        """The faults of the unscaled likelihood."""
        return self.part.faults(params, data)


def effective(likelihood: Callable[[Any, Any], Any], data: PyTree) -> Any:
    """Scales the likelihood of weighted events to their effective number, so that its shape gives correct errors.

    Minus log L of an `mx.UnbinnedNLL` or `mx.ExtendedUnbinnedNLL` is multiplied by sum(w) / sum(w²) of its events, so
    that it rises like that of sum(w)² / sum(w²) unweighted events, which is their effective number: MINOS errors,
    profiles, contours and limits can then be derived from it. Each part of an `mx.Joint` has its own factor, so that
    each part contributes according to its information, and the minimum of the sum may move. This is exact if all
    weights of a part are the same. If they differ, it is right only if they are independent of what the parameters
    describe. The sandwich errors are right in either case: compare the two to check this.

    ```python
    scaled = mx.effective(nll, events)
    result = mx.fit(scaled, params, events)
    mx.minos(scaled, result, events)
    ```

    `mx.hypotest`, `mx.discovery`, `mx.upper_limit`, `mx.interval` and the test statistics apply it automatically.

    **Arguments:**

    - `likelihood`: a likelihood of migrax, or a function.
    - `data`: the data that it will be fitted to, which provide the weights.

    **Returns:** a likelihood of the same parameters and data; `likelihood` itself if no events have weights.
    """
    return scaled(likelihood, data)[0]


class Factor(NamedTuple):
    """sum(w) / sum(w²) of weighted events, and the variance of the weights over their squared mean."""

    value: Float[Array, ""]
    spread: Float[Array, ""]


def scaled(likelihood: Any, data: PyTree) -> tuple[Any, dict[str, Factor]]:
    """The effective likelihood, and the factors of its parts by name ("" if it is not a sum of parts)."""
    if isinstance(likelihood, UnbinnedNLL | ExtendedUnbinnedNLL):
        if likelihood.covariance_kind(data) != "sandwich":
            return likelihood, {}
        factor = _factor(data, likelihood.chunk_size, type(likelihood).__name__)
        return EffectiveNLL(likelihood, factor.value), {"": factor}
    if not isinstance(likelihood, AbstractJoint):
        return likelihood, {}
    scaled_parts = {name: scaled(part, part_data) for name, part, part_data in likelihood.items(data)}
    factors = {
        f"{name}.{inner}" if inner else str(name): factor
        for name, (_, part_factors) in scaled_parts.items()
        for inner, factor in part_factors.items()
    }
    if not factors:
        return likelihood, {}
    parts: Any = {name: part for name, (part, _) in scaled_parts.items()}
    parts = parts if isinstance(likelihood.parts, dict) else tuple(parts.values())
    return eqx.tree_at(lambda joint: joint.parts, likelihood, parts), factors


@evaluated
def _factor(data: Any, chunk_size: int | None, what: str) -> Factor:
    """The factor of the events; NaN if their weights do not add up to a positive number."""

    def sums(chunk: Any, counted: Array) -> tuple[Array, Array, Array]:
        events = as_chunk(chunk, what)
        assert events.weight is not None
        used = counted if events.mask is None else counted & events.mask
        weight = jnp.where(used, events.weight, 0.0)
        return jnp.sum(weight), jnp.sum(weight**2), jnp.sum(used)

    total, squares, n = sum_over_chunks(sums, rows_of(data, what), chunk_size)
    total = jnp.where(total > 0, total, jnp.nan)
    return Factor(total / squares, n * squares / total**2 - 1)
