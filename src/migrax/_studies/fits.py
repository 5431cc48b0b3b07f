"""The fits of a study: those of toys, run here or given."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from .._fit.result import FitResult
from .._fit.status import status_counts
from .._parameters.names import flatten
from .._parameters.resolve import value_of
from .._parameters.space import Space, ravel
from .._stores.open_store import ToyStore
from .._toys.fit_toys import reduce_toys
from .._toys.source import Toys
from .._util.typing import PyTree


class Fits(NamedTuple):
    """The values and errors of many fits as NumPy arrays. `lower` and `upper` are the signed MINOS errors."""

    names: tuple[str, ...]
    values: Float[np.ndarray, "toys n"]
    errors: Float[np.ndarray, "toys n"]
    lower: Float[np.ndarray, "toys n"] | None
    upper: Float[np.ndarray, "toys n"] | None
    valid: Bool[np.ndarray, " toys"]
    statuses: tuple[tuple[str, int], ...]  # of the invalid fits: each status with its count
    truth: Float[np.ndarray, " n"]

    @property
    def total(self) -> int:
        return self.valid.size


def fits_of(what: str, source: Any, params: PyTree, toys: PyTree, truth: PyTree, options: Mapping[str, Any]) -> Fits:
    """Returns the fits of `study(nll, params, toys, ...)`, or the existing ones of `study(fits, params)`.

    **Raises:** `TypeError` for other arguments; `ValueError` if the true value of a parameter is not known.
    """
    for name in ("reduce", "hesse"):
        if name in options:
            raise TypeError(f"{what} has no option {name!r}: fit the toys by mx.fit_toys, and give it the fits")
    if isinstance(source, FitResult):
        if toys is not None or options:
            raise TypeError(f"{what} of fits takes them and the true parameters: {what}(fits, params)")
        if np.ndim(source.values) != 2:
            raise ValueError(f"{what} takes the fits of many toys, with values of shape (n, n_free); use mx.fit_toys")
        tree = jax.tree.map(lambda a: a[0], source).params
        return _fits(source.names, [_kept(source)], params if truth is None else truth, ravel(tree)[1])
    if isinstance(source, ToyStore):
        if toys is not None or options:
            raise TypeError(f"{what} of a store takes it and the true parameters: {what}(store, params)")
        if len(source) == 0:
            raise ValueError(f"{what}: the store {source.path} holds no toys yet")
        kept = (source.values, source.errors, source.valid, source.status, *(source.minos or ()))
        return _fits(source.names, [kept], params if truth is None else truth, ravel(params)[1])
    if toys is None:
        raise TypeError(f"{what} takes a likelihood, parameters and toys: {what}(nll, params, mx.Toys(1000, key))")
    names: list[tuple[str, ...]] = []

    def keep(result: FitResult) -> tuple[np.ndarray, ...]:
        names.append(result.names)
        return _kept(result)

    parts = reduce_toys(keep, source, params, toys, **options)
    origin = toys.params if isinstance(toys, Toys) and toys.params is not None else params
    return _fits(names[0], parts, origin if truth is None else truth, ravel(params)[1])


def _kept(result: FitResult) -> tuple[np.ndarray, ...]:
    minos = () if result.minos is None else result.minos
    return tuple(np.asarray(a) for a in (result.values, result.errors, result.valid, result.status, *minos))


def _fits(names: tuple[str, ...], parts: list[tuple[np.ndarray, ...]], truth: PyTree, space: Space) -> Fits:
    values, errors, valid, status, *minos = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    lower, upper = minos if minos else (None, None)
    statuses = tuple(status_counts(status[~valid]))
    true = _true_values(truth, names)
    # the deviation of a phase is the shorter way round
    values = np.asarray(true + space.nearest(jnp.asarray(values - true))) if space.has_period else values
    return Fits(names, values, errors, lower, upper, valid, statuses, true)


def _true_values(truth: PyTree, names: tuple[str, ...]) -> Float[np.ndarray, " n"]:
    leaves, slots, _ = flatten(truth)
    true_values: dict[str, float] = {}
    for slot in slots:
        numbers = np.ravel(np.asarray(value_of(leaves[slot.leaf])))
        true_values |= dict(zip(slot.element_names(), numbers.tolist(), strict=True))
    missing = [name for name in names if name not in true_values]
    if missing:
        raise ValueError(f"the true value of {missing[0]!r} is not known; the tree given has {', '.join(true_values)}")
    return np.array([true_values[name] for name in names])


def told(total: int, statuses: tuple[tuple[str, int], ...]) -> str:
    """Returns the number of toys, and how those that are left out failed."""
    n_failed = sum(n for _, n in statuses)
    if not n_failed:
        return f"{total} toys, all valid"
    return f"{total} toys, {n_failed} failed and left out ({', '.join(f'{n} {phrase}' for phrase, n in statuses)})"


def moments(values: Float[np.ndarray, "toys n"]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the number of values, their mean, standard deviation, and its standard error, ignoring NaN.

    The error holds for any distribution, by its fourth moment: var(s²) = (m₄ - s⁴ (n - 3)/(n - 1)) / n (A. Stuart and
    J. K. Ord, Kendall's Advanced Theory of Statistics 1, 10.5 and 12.3).
    """
    is_finite = np.isfinite(values)
    n = np.sum(is_finite, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.sum(np.where(is_finite, values, 0.0), axis=0) / n
        deviation = np.where(is_finite, values - mean, 0.0)
        variance = np.sum(deviation**2, axis=0) / (n - 1)
        fourth = np.sum(deviation**4, axis=0) / n
        error = np.sqrt(np.maximum(fourth - variance**2 * (n - 3) / (n - 1), 0.0) / n) / (2 * np.sqrt(variance))
    spread = np.sqrt(variance)
    too_few = n < 2
    return n, mean, np.where(too_few, np.nan, spread), np.where(too_few, np.nan, error)


def wilson(count: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the central interval of one standard deviation for a fraction, whose length is positive even at 0 and 1
    (E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = count / n
        centre = (p + 0.5 / n) / (1 + 1 / n)
        half = np.sqrt(p * (1 - p) / n + 0.25 / n**2) / (1 + 1 / n)
    return centre - half, centre + half
