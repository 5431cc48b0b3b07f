"""Toys of one hypothesis: drawn at one point, fitted with the parameters of interest free, and at values of these.

The fits are those of `mx.fit_toys`: a batch at a time, never all toys in memory. Fits with parameters held are fits of
another likelihood, of a vector of the other parameters, so that any entry of a vector can be held, and another value
compiles nothing.
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

_AT_ONCE = 4096  # toys whose likelihood is looked at together
_REPEATED = 3  # searches of the free minimum of a toy that has shown a lower one


class Held(AbstractLikelihood):
    """A likelihood with some parameters held at `values`, as a function of `{"x": vector of the others}`."""

    nll: Any
    params: PyTree
    values: Float[Array, " k"]
    index: tuple[int, ...] = eqx.field(static=True)

    def full(self, others: Float[Array, " m"]) -> Float[Array, " n"]:
        """The vector of all free parameters."""
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
    """A bar that counts fits, more of which may come."""

    def __init__(self, wanted: bool):
        self.bar = bar(total=0, unit="fit", unit_scale=True) if wanted else None

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


class _Fits(NamedTuple):
    nll: Float[np.ndarray, " toys"]
    values: Float[np.ndarray, "toys k"]
    status: Int[np.ndarray, " toys"]


class Ensemble:
    """The toys of one hypothesis and their fits. Not for the inside of `jax.jit`."""

    def __init__(self, nll: Any, origin: PyTree, data: PyTree, toys: Toys, index: tuple[int, ...], shown: Shown):
        self.nll, self.origin, self.data, self.index, self.shown = nll, origin, data, index, shown
        self.mesh = toys.mesh
        self.toys = Toys(toys.n, toys.key, origin)
        self.free = self._free(self.toys, None)

    def rise(self, values: Float[Array, " k"], near: PyTree = None) -> tuple[np.ndarray, np.ndarray]:
        """-2 log of the likelihood ratio of each toy with the parameters of interest at `values`, and a status.

        `near`: parameters at which the likelihood is finite with those of interest at `values`: the start of toys whose
        is not where the toys are drawn (a deficit that makes an expected count negative).
        """
        held = self._held(values, self.toys)
        if near is not None:
            self._from_near(held, values, near)
        for _ in range(_REPEATED):
            # lower than the free fit: that was another minimum
            good = (held.status == 0) & (self.free.status == 0)
            missing = np.flatnonzero(good & (held.nll < self.free.nll - 0.5 * LOWER))
            if missing.size == 0:
                break
            self._again(missing, values)
        rise = 2 * (held.nll - self.free.nll)
        status = np.where(self.free.status != 0, self.free.status, held.status)
        status = np.where((status == 0) & ~(rise > -LOWER), int(Status.NOT_CONVERGED), status)
        return np.where(status == 0, np.maximum(rise, 0.0), np.nan), status

    def _free(self, toys: Any, starts: Any) -> _Fits:
        return self._fit(self.nll, self.origin, toys, starts, list(self.index))

    def _from_near(self, held: _Fits, values: Float[Array, " k"], near: PyTree) -> None:
        """Fits those toys again whose likelihood is not finite at the start."""
        lost = np.flatnonzero(np.isin(held.status, (int(Status.NOT_FINITE_AT_START), int(Status.NOT_FINITE))))
        if lost.size == 0 or held.nll.size == 0:
            return
        padded = _padded(lost)
        drawn = source(self.nll, self.origin, self.toys, self.data).take(padded, None)
        again = self._held(values, drawn, start=near)
        for mine, new in zip(held, again, strict=True):
            mine[padded] = new

    def _held(
        self, values: Float[Array, " k"], toys: Any, keep_all: bool = False, start: PyTree | None = None
    ) -> _Fits:
        held, params = hold(self.nll, self.origin if start is None else start, self.index, values)
        if params is None:
            return self._only_value(values, toys)
        n = params["x"].value.shape[0]
        return self._fit(held, params, toys, None, list(range(n)) if keep_all else [])

    def _only_value(self, values: Float[Array, " k"], toys: Any) -> _Fits:
        """Where there are no other parameters, there is nothing to fit."""
        at = update(self.origin, jnp.zeros(len(self.index)).at[jnp.asarray(self.index)].set(values))
        nll = logs(self.nll, (at,), toys, self.data, self.origin)[0]
        # infinite: a toy that is impossible at this value, which is what the ratio is to say
        status = np.where(np.isfinite(nll) | (nll == np.inf), int(Status.VALID), int(Status.NOT_FINITE))
        return _Fits(nll, np.empty((nll.size, 0)), status)

    def _fit(self, nll: Any, params: PyTree, toys: Any, starts: Any, kept: list[int]) -> _Fits:
        def keep(result: FitResult) -> tuple[np.ndarray, ...]:
            self.shown.done(result.nll.shape[0])
            # of the values only what is wanted: a view would keep them all
            return np.array(result.nll), np.asarray(result.values)[:, kept], np.array(result.status)

        drawn = isinstance(toys, Toys)
        self.shown.expect(self.toys.n if drawn else jax.tree.leaves(toys)[0].shape[0])
        data, toys = (self.data, DrawnFrom(toys, self.nll)) if drawn else (None, toys)
        parts = reduce_toys(keep, nll, params, toys, data=data, starts=starts, hesse=False, mesh=self.mesh)
        return _Fits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _again(self, missing: Int[np.ndarray, " m"], values: Float[Array, " k"]) -> None:
        """Fits these toys freely from where the lower likelihood was seen."""
        padded = _padded(missing)
        drawn = source(self.nll, self.origin, self.toys, self.data).take(padded, None)
        held, _ = hold(self.nll, self.origin, self.index, values)
        x = jax.vmap(held.full)(jnp.asarray(self._held(values, drawn, keep_all=True).values))
        space = ravel(self.origin)[1]
        found = self._free(drawn, np.clip(np.asarray(x), np.asarray(space.lower), np.asarray(space.upper)))
        better = (found.status == 0) & (found.nll < self.free.nll[padded])
        for mine, new in zip(self.free, found, strict=True):
            mine[padded[better]] = new[better]


def _padded(which: Int[np.ndarray, " m"]) -> Int[np.ndarray, " l"]:
    """As many as the next power of two, so that few sizes are ever compiled."""
    return np.resize(which, 2 ** int(np.ceil(np.log2(which.size))))


def hold(nll: Any, params: PyTree, index: tuple[int, ...], values: Float[Array, " k"]) -> tuple[Held, PyTree]:
    """The likelihood with parameters held, and its parameters; `None` for these if there are no others."""
    x, space = ravel(params)
    others = _others(x.size, index)
    held = Held(nll, params, jnp.asarray(values, x.dtype), index)
    if others.size == 0:
        return held, None
    return held, {"x": Parameter(x[others], space.lower[others], space.upper[others])}


def logs(nll: Any, points: tuple[PyTree, ...], toys: Any, data: PyTree, origin: PyTree) -> np.ndarray:
    """The likelihood of each toy at some points, shape `(points, toys)`."""
    where = source(nll, origin, toys, data)
    size = min(_AT_ONCE, where.n)
    parts = [_logs(nll, points, where.batch(first, size)) for first in range(0, where.n, size)]
    return np.concatenate([np.asarray(p) for p in parts], axis=1)[:, : where.n]


@jit
def _logs(nll: AbstractLikelihood, points: tuple[PyTree, ...], toys: PyTree) -> Float[Array, "points size"]:
    at = [resolve_at(point, ravel(point)[0]) for point in points]
    return jnp.stack([jax.vmap(lambda toy, p=p: jnp.asarray(nll(p, toy)))(toys) for p in at])


def traced(
    nll: Any,
    drawn: list[Toys],
    data: PyTree,
    statistic: AbstractStatistic,
    index: tuple[int, ...],
    values: Float[Array, " k"],
) -> tuple[Float[Array, "m toys"], Int[Array, "m toys"]]:
    """The statistic of each toy of `m` hypotheses and its status, inside the user's own `jit` or `vmap`: as one loop
    over all of them, so that the program holds one fit."""
    origins = jax.tree.map(lambda *a: jnp.stack(a), *(toys.params for toys in drawn))
    keys = jnp.stack([toys.key for toys in drawn])
    n = drawn[0].n

    def one(number: Array) -> tuple[Array, Array]:
        origin = jax.tree.map(lambda a: a[number // n], origins)
        at = resolve_at(origin, ravel(origin)[0])
        toy = draw_one(nll, at, jax.random.fold_in(keys[number // n], number % n), data)
        found = statistic.at(Fitted(nll, fit(nll, origin, toy), toy), index, values)
        return found.value, found.status

    numbers = jnp.arange(n * len(drawn))
    found = jax.lax.map(one, numbers, batch_size=min(numbers.size, 256))
    return tuple(a.reshape(len(drawn), n) for a in found)


def is_traced(*trees: Any) -> bool:
    """Whether some array is not known yet: inside `jit`, `vmap` or `grad`."""
    return not is_concrete(*[leaf for leaf in jax.tree.leaves(trees) if eqx.is_array(leaf)], jnp.asarray(0.0))
