"""Toys of one hypothesis: drawn at one point and fitted with the parameters of interest free, and held at values.

The fits are those of `mx.fit_toys`: in batches, never with all toys in memory. A conditional fit is the fit of another
likelihood, a function of the vector of the other parameters, so that any entry of a vector can be held and a new value
does not recompile.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Scalar

from .._fit.fit import fit
from .._fit.result import FitResult
from .._fit.status import Status
from .._likelihoods.base import AbstractLikelihood
from .._parameters.parameter import Parameter
from .._parameters.space import ravel, resolve_at, update
from .._profile.fitted import Fitted
from .._toys.fit_toys import reduce_toys
from .._toys.sample import asimov, draw_one
from .._toys.source import DrawnFrom, Toys, source
from .._util.jit import jit
from .._util.progress import bar
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .ratio import LOWER
from .statistics import AbstractStatistic

_AT_ONCE = 4096  # toys whose likelihood is evaluated together
_MAX_FREE_REFITS = 3  # free refits of a toy whose conditional fit is lower than its free one


class Held(AbstractLikelihood):
    """A likelihood with some parameters held at `values`, as a function of `{"x": vector of the other parameters}`."""

    nll: Any
    params: PyTree
    values: Float[Array, " k"]
    index: tuple[int, ...] = eqx.field(static=True)

    def full(self, others: Float[Array, " m"]) -> Float[Array, " n"]:
        """Returns the vector of all free parameters."""
        n = others.shape[-1] + len(self.index)
        return (
            jnp.zeros(n, others.dtype)
            .at[_others(n, self.index)]
            .set(others)
            .at[jnp.asarray(self.index)]
            .set(self.values)
        )

    def __call__(self, params: PyTree, data: PyTree) -> Scalar:
        return self.nll(resolve_at(self.params, self.full(params["x"])), data)

    def expected_data(self, params: PyTree, data: PyTree = None) -> PyTree:
        del params
        return asimov(self.nll, self.params, data=data)


def _others(n: int, index: tuple[int, ...]) -> Int[np.ndarray, " m"]:
    return np.setdiff1d(np.arange(n), index)


class Shown:
    """A progress bar that counts fits; its total grows as more fits are announced."""

    def __init__(self, enabled: bool):
        self.bar = bar(total=0, unit="fit", unit_scale=True) if enabled else None

    def expect(self, n: int) -> None:
        if self.bar is not None:
            self.bar.total += n
            self.bar.refresh()

    def done(self, n: int) -> None:
        if self.bar is not None:
            self.bar.update(n)

    def __enter__(self) -> "Shown":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()


class _ToyFits(NamedTuple):
    nll: Float[np.ndarray, " toys"]
    values: Float[np.ndarray, "toys k"]
    status: Int[np.ndarray, " toys"]


class Ensemble:
    """The toys of one hypothesis and their fits. Not available inside `jax.jit`."""

    def __init__(self, nll: Any, origin: PyTree, data: PyTree, toys: Toys, index: tuple[int, ...], progress: Shown):
        self.nll, self.origin, self.data, self.index, self.progress = nll, origin, data, index, progress
        self.mesh = toys.mesh
        self.toys = Toys(toys.n, toys.key, origin)
        self.free = self._free(self.toys, None)

    def rise(self, values: Float[Array, " k"], near: PyTree = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns -2 log of the likelihood ratio of each toy with the parameters of interest at `values`, and a status.

        `near`: parameters at which the likelihood is finite with those of interest at `values`. Toys start there if
        their likelihood is not finite at the point where they are drawn (a deficit makes an expected count negative).
        """
        held = self._held(values, self.toys)
        if near is not None:
            self._refit_from(held, values, near)
        for _ in range(_MAX_FREE_REFITS):
            # a conditional fit lower than the free one shows that the free one is another local minimum
            both_valid = (held.status == 0) & (self.free.status == 0)
            missed = np.flatnonzero(both_valid & (held.nll < self.free.nll - 0.5 * LOWER))
            if missed.size == 0:
                break
            self._refit_free(missed, values)
        rise = 2 * (held.nll - self.free.nll)
        status = np.where(self.free.status != 0, self.free.status, held.status)
        status = np.where((status == 0) & ~(rise > -LOWER), int(Status.NOT_CONVERGED), status)
        return np.where(status == 0, np.maximum(rise, 0.0), np.nan), status

    def _free(self, toys: Any, starts: Any) -> _ToyFits:
        return self._fit(self.nll, self.origin, toys, starts, list(self.index))

    def _refit_from(self, held: _ToyFits, values: Float[Array, " k"], near: PyTree) -> None:
        """Refits the toys whose likelihood is not finite at the start, from `near`."""
        not_finite = np.flatnonzero(np.isin(held.status, (int(Status.NOT_FINITE_AT_START), int(Status.NOT_FINITE))))
        if not_finite.size == 0 or held.nll.size == 0:
            return
        indices = _padded(not_finite)
        toys = source(self.nll, self.origin, self.toys, self.data).take(indices, None)
        refits = self._held(values, toys, start=near)
        for old, new in zip(held, refits, strict=True):
            old[indices] = new

    def _held(
        self, values: Float[Array, " k"], toys: Any, keep_all: bool = False, start: PyTree | None = None
    ) -> _ToyFits:
        held, params = hold(self.nll, self.origin if start is None else start, self.index, values)
        if params is None:
            return self._evaluate_only(values, toys)
        n_others = params["x"].value.shape[0]
        return self._fit(held, params, toys, None, list(range(n_others)) if keep_all else [])

    def _evaluate_only(self, values: Float[Array, " k"], toys: Any) -> _ToyFits:
        """Evaluates the likelihood at `values`, if there are no other parameters to fit."""
        point = update(self.origin, jnp.zeros(len(self.index)).at[jnp.asarray(self.index)].set(values))
        nll = logs(self.nll, (point,), toys, self.data, self.origin)[0]
        # infinite for a toy that is impossible at this value, so that the ratio is infinite, too
        status = np.where(np.isfinite(nll) | (nll == np.inf), int(Status.VALID), int(Status.NOT_FINITE))
        return _ToyFits(nll, np.empty((nll.size, 0)), status)

    def _fit(self, nll: Any, params: PyTree, toys: Any, starts: Any, columns: list[int]) -> _ToyFits:
        def keep(result: FitResult) -> tuple[np.ndarray, ...]:
            self.progress.done(result.nll.shape[0])
            # copies of the wanted values only: a view would keep all of them in memory
            return np.array(result.nll), np.asarray(result.values)[:, columns], np.array(result.status)

        drawn = isinstance(toys, Toys)
        self.progress.expect(self.toys.n if drawn else jax.tree.leaves(toys)[0].shape[0])
        data, toys = (self.data, DrawnFrom(toys, self.nll)) if drawn else (None, toys)
        parts = reduce_toys(keep, nll, params, toys, data=data, starts=starts, hesse=False, mesh=self.mesh)
        return _ToyFits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _refit_free(self, missed: Int[np.ndarray, " m"], values: Float[Array, " k"]) -> None:
        """Repeats the free fit of these toys from their conditional fit, where the likelihood is lower."""
        indices = _padded(missed)
        toys = source(self.nll, self.origin, self.toys, self.data).take(indices, None)
        held, _ = hold(self.nll, self.origin, self.index, values)
        x = jax.vmap(held.full)(jnp.asarray(self._held(values, toys, keep_all=True).values))
        space = ravel(self.origin)[1]
        refits = self._free(toys, np.clip(np.asarray(x), np.asarray(space.lower), np.asarray(space.upper)))
        is_lower = (refits.status == 0) & (refits.nll < self.free.nll[indices])
        for old, new in zip(self.free, refits, strict=True):
            old[indices[is_lower]] = new[is_lower]


def _padded(indices: Int[np.ndarray, " m"]) -> Int[np.ndarray, " l"]:
    """Repeats entries up to the next power of two, so that few sizes are ever compiled."""
    return np.resize(indices, 2 ** int(np.ceil(np.log2(indices.size))))


def hold(nll: Any, params: PyTree, index: tuple[int, ...], values: Float[Array, " k"]) -> tuple[Held, PyTree]:
    """Returns the likelihood with parameters held, and its parameters: `None` if there are no others."""
    x, space = ravel(params)
    others = _others(x.size, index)
    held = Held(nll, params, jnp.asarray(values, x.dtype), index)
    if others.size == 0:
        return held, None
    return held, {"x": Parameter(x[others], space.lower[others], space.upper[others])}


def logs(nll: Any, points: tuple[PyTree, ...], toys: Any, data: PyTree, origin: PyTree) -> np.ndarray:
    """Returns the value of `nll` for each toy at some points, shape `(points, toys)`."""
    toy_source = source(nll, origin, toys, data)
    size = min(_AT_ONCE, toy_source.n)
    parts = [_logs(nll, points, toy_source.batch(first, size)) for first in range(0, toy_source.n, size)]
    return np.concatenate([np.asarray(p) for p in parts], axis=1)[:, : toy_source.n]


@jit
def _logs(nll: AbstractLikelihood, points: tuple[PyTree, ...], toys: PyTree) -> Float[Array, "points size"]:
    resolved = [resolve_at(point, ravel(point)[0]) for point in points]
    return jnp.stack([jax.vmap(lambda toy, at=at: jnp.asarray(nll(at, toy)))(toys) for at in resolved])


def traced(
    nll: Any,
    drawn: list[Toys],
    data: PyTree,
    statistic: AbstractStatistic,
    index: tuple[int, ...],
    values: Float[Array, " k"],
) -> tuple[Float[Array, "m toys"], Int[Array, "m toys"]]:
    """Returns the statistic and status of each toy of `m` hypotheses, inside the user's own `jit` or `vmap`: one loop
    over all toys, so that the program holds one fit."""
    origins = jax.tree.map(lambda *a: jnp.stack(a), *(toys.params for toys in drawn))
    keys = jnp.stack([toys.key for toys in drawn])
    n = drawn[0].n

    def statistic_of_toy(number: Array) -> tuple[Array, Array]:
        origin = jax.tree.map(lambda a: a[number // n], origins)
        point = resolve_at(origin, ravel(origin)[0])
        toy = draw_one(nll, point, jax.random.fold_in(keys[number // n], number % n), data)
        values_and_status = statistic.at(Fitted(nll, fit(nll, origin, toy), toy), index, values)
        return values_and_status.value, values_and_status.status

    numbers = jnp.arange(n * len(drawn))
    values_and_status = jax.lax.map(statistic_of_toy, numbers, batch_size=min(numbers.size, 256))
    return tuple(a.reshape(len(drawn), n) for a in values_and_status)


def is_traced(*trees: Any) -> bool:
    """Returns whether some array has no value yet: inside `jit`, `vmap` or `grad`."""
    return not is_concrete(*[leaf for leaf in jax.tree.leaves(trees) if eqx.is_array(leaf)], jnp.asarray(0.0))
