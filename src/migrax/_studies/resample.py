"""Data drawn from the data: each event counts as often as a Poisson number of mean 1 says (B. Efron, Ann. Statist. 7
(1979) 1; with Poisson weights A. J. Canty and A. C. Davison, The Statistician 48 (1999) 379)."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._likelihoods import (
    BinnedNLL,
    Counts,
    Events,
    ExtendedUnbinnedNLL,
    Joint,
    LeastSquares,
    LogNormalConstraint,
    NormalConstraint,
    Points,
    PoissonConstraint,
    PoissonNLL,
    UnbinnedNLL,
)
from .._likelihoods.counts import as_counts, floats
from .._likelihoods.events import as_events
from .._util.poisson_draw import draw_poisson
from .._util.typing import PyTree


def resample(nll: Any, params: PyTree, key: Array, data: PyTree) -> PyTree:
    """One bootstrap sample of the data of a likelihood; the parameters do not matter.

    **Raises:** `TypeError` for a likelihood whose data are neither events, counts, points nor constraints.
    """
    if isinstance(nll, Joint):
        parts = list(nll.items(data))
        keys = jax.random.split(key, len(parts))
        drawn = {name: resample(part, params, k, d) for (name, part, d), k in zip(parts, keys, strict=True)}
        return drawn if isinstance(nll.parts, dict) else tuple(drawn.values())
    for kinds, draw in _HOW:
        if isinstance(nll, kinds):
            return draw(nll, data, key)
    raise TypeError(
        f"bootstrap(kind='poisson') does not know what an event is in the data of {type(nll).__name__}: take "
        "kind='parametric'"
    )


def _counts(nll: Any, data: Any, key: Array) -> Array | Counts:
    """The events in a bin are a Poisson number; weighted ones have the mean weight of their bin."""
    counts = as_counts(data, type(nll).__name__)
    if counts.variance is None:
        return draw_poisson(key, counts.value)
    empty = counts.value == 0
    weight = jnp.where(empty, 0.0, counts.variance / jnp.where(empty, 1.0, counts.value))
    known = weight != 0
    number = jnp.where(known, counts.value / jnp.where(known, weight, 1.0), 0.0)
    drawn = draw_poisson(key, number)
    # an empty bin keeps its variance, which says how large the weights around it are
    return Counts(weight * drawn, jnp.where(known, weight**2 * drawn, counts.variance))


def _events(nll: Any, data: Any, key: Array) -> Events:
    events = as_events(data, type(nll).__name__)
    often = draw_poisson(key, jnp.ones((), events.x.dtype), events.x.shape[:1])
    return Events(events.x, often if events.weight is None else often * events.weight, events.mask)


def _points(nll: LeastSquares, data: Points, key: Array) -> Points:
    """A point that counts `k` times has an error smaller by sqrt(k).

    **Raises:** `TypeError` for points with a covariance or errors of x, which do not count one by one.
    """
    del nll
    if data.covariance is not None or data.xerr is not None:
        raise TypeError("points with a covariance or xerr do not count one by one: bootstrap(kind='parametric')")
    often = draw_poisson(key, jnp.ones((), data.y.dtype), data.y.shape)
    mask = often > 0 if data.mask is None else data.mask & (often > 0)
    error = data.yerr / jnp.sqrt(jnp.maximum(often, 1.0))
    return eqx.tree_at(lambda p: (p.yerr, p.mask), data, (error, mask), is_leaf=lambda x: x is None)


def _normal(nll: Any, data: Any, key: Array) -> Array:
    """A measurement with the same error, of what was measured."""
    observed = floats(data)
    flat = jnp.ravel(observed)
    noise, width = jax.random.normal(key, flat.shape, flat.dtype), nll.width.astype(flat.dtype)
    shift = jnp.linalg.cholesky(width) @ noise if width.ndim == 2 else width * noise
    return nll._undone(nll._measured(flat) + shift).reshape(observed.shape)


_HOW: tuple[tuple[Any, Callable[[Any, Any, Array], Any]], ...] = (
    ((PoissonNLL, BinnedNLL), _counts),
    ((UnbinnedNLL, ExtendedUnbinnedNLL), _events),
    (LeastSquares, _points),
    ((NormalConstraint, LogNormalConstraint), _normal),
    (PoissonConstraint, lambda nll, data, key: draw_poisson(key, floats(data))),
)
