"""Toys of one hypothesis: drawn at one point and fitted with the parameters of interest free, and held at values.

The fits are those of `mx.fit_toys`: in batches, never with all toys in memory. All of them take one program, in which
it is an array which parameters are held (`held.py`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from .._fit.fit import fit
from .._fit.objective import check_up, prepare_params
from .._fit.result import FitResult
from .._fit.status import Status
from .._fit.traced import as_numpy
from .._host import xp
from .._host.evaluated import evaluated
from .._host.xp import on_host
from .._likelihoods.base import AbstractLikelihood
from .._parameters.space import ravel, resolve_at, update
from .._profile.fitted import Fitted
from .._toys.expected_covariance import expected_hessian, forced_inverse
from .._toys.fit_toys import run_planned
from .._toys.plan import Job, Plan, plan
from .._toys.sample import draw_one
from .._toys.scheduler import batches
from .._toys.source import Source, Toys, source
from .._util.arrays import to_jax
from .._util.jit import jit
from .._util.progress import bar
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .held import Held
from .ratio import LOWER
from .statistics import AbstractStatistic

_AT_ONCE = 4096  # toys whose likelihood is evaluated together
_MAX_FREE_REFITS = 3  # free refits of a toy whose conditional fit is lower than its free one


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


class Shared:
    """What the batches of the toys of one hypothesis share: how many toys each has, so that all are one program, and
    what must not depend on the batch, so that the last bits of a toy do not, either."""

    def __init__(self, toys: Toys, batch: int):
        self.toys, self.batch = toys, batch
        self._source: Source | None = None
        self._hessians: dict[bytes, np.ndarray] = {}

    def part(self, nll: Any, origin: PyTree, toys: Toys, data: PyTree) -> Source:
        """Returns the source of some neighbouring ones of all toys."""
        if self._source is None:
            self._source = source(nll, origin, Toys(self.toys.n, toys.key, origin, first=self.toys.first), data)
        begin = toys.first - self.toys.first
        return self._source.only(np.arange(begin, begin + toys.n))

    def hessian(self, nll: Any, point: PyTree, x: Float[np.ndarray, " n"], data: PyTree, up: Array) -> np.ndarray:
        """Returns the expected Hessian at the point with the values `x`."""
        assert self._source is not None
        if x.tobytes() not in self._hessians:
            self._hessians[x.tobytes()] = np.asarray(expected_hessian(nll, point, self._source, data, up))
        return self._hessians[x.tobytes()]


class Ensemble:
    """The toys of one hypothesis and their fits. Not available inside `jax.jit`."""

    def __init__(
        self,
        nll: Any,
        origin: PyTree,
        data: PyTree,
        toys: Toys,
        index: tuple[int, ...],
        progress: Shown,
        shared: Shared | None = None,
    ):
        """`shared`: for one batch of the toys of a hypothesis, what it has from the others."""
        self.shared = shared
        self.nll, self.data, self.index, self.progress = nll, data, index, progress
        self.mesh = toys.mesh
        self.toys = Toys(toys.n, toys.key, origin, first=toys.first)
        with on_host():
            x, self.space = ravel(as_numpy(prepare_params(origin)))
        self.x = np.asarray(x)
        self._source: Source | None = None
        self.free = self._fit(None)

    def statistic(
        self, statistic: AbstractStatistic, values: Float[Array, " k"], near: PyTree = None
    ) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
        """Returns the statistic of each toy and its status. `near`: parameters of a fit at `values` (see `_rise`)."""
        # What is found lower here is not kept for other values: a statistic must not depend on which of them were
        # tested before, as by other jobs.
        free = _ToyFits(*map(np.array, self.free))
        rise, status = self._rise(free, values, near)
        best = free.values
        at_zero = np.zeros_like(rise)
        if statistic.tilde and np.any(best[:, 0] < 0):
            at_zero, status_at_zero = self._rise(free, jnp.zeros_like(values))
            status = np.where((best[:, 0] < 0) & (status == 0), status_at_zero, status)
        return _evaluate(statistic, *to_jax((best[:, 0], np.asarray(values)[0], rise, at_zero, status)))

    def _rise(self, free: _ToyFits, values: Float[Array, " k"], near: PyTree = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns -2 log of the likelihood ratio of each toy with the parameters of interest at `values`, and a status.

        `free`: the free fits, some of which are replaced by lower ones.
        `near`: parameters at which the likelihood is finite with those of interest at `values`. Toys start there if
        their likelihood is not finite at the point where they are drawn (a deficit makes an expected count negative).
        """
        at = np.asarray(values, self.x.dtype)
        held = self._evaluated(at) if len(self.index) == self.x.size else self._fit(at)
        if near is not None:
            self._refit_from(held, at, near)
        for _ in range(_MAX_FREE_REFITS):
            # a conditional fit lower than the free one shows that the free one is another local minimum
            both_valid = (held.status == 0) & (free.status == 0)
            missed = np.flatnonzero(both_valid & (held.nll < free.nll - 0.5 * LOWER))
            if missed.size == 0:
                break
            self._refit_free(free, missed, at)
        rise = 2 * (held.nll - free.nll)
        status = np.where(free.status != 0, free.status, held.status)
        status = np.where((status == 0) & ~(rise > -LOWER), int(Status.NOT_CONVERGED), status)
        return np.where(status == 0, np.maximum(rise, 0.0), np.nan), status

    def _refit_from(self, held: _ToyFits, values: Float[np.ndarray, " k"], near: PyTree) -> None:
        """Refits the toys whose likelihood is not finite at the start, from `near`."""
        not_finite = np.flatnonzero(np.isin(held.status, (int(Status.NOT_FINITE_AT_START), int(Status.NOT_FINITE))))
        if not_finite.size == 0 or len(self.index) == self.x.size:
            return
        start = np.array(ravel(near)[0])
        start[list(self.index)] = values
        refits = self._fit(values, not_finite, start)
        for old, new in zip(held, refits, strict=True):
            old[not_finite] = new

    def _refit_free(self, free: _ToyFits, missed: Int[np.ndarray, " m"], values: Float[np.ndarray, " k"]) -> None:
        """Repeats the free fit of these toys from their conditional fit, where the likelihood is lower."""
        x = self._at(values)
        if len(self.index) < self.x.size:
            x = self._fit(values, missed, columns=range(self.x.size)).values
        refits = self._fit(None, missed, np.clip(x, self.space.lower, self.space.upper))
        is_lower = (refits.status == 0) & (refits.nll < free.nll[missed])
        for old, new in zip(free, refits, strict=True):
            old[missed[is_lower]] = new[is_lower]

    def _at(self, values: Float[np.ndarray, " k"] | None) -> Float[np.ndarray, " n"]:
        """The point where the toys are drawn, with the parameters of interest at `values` if these are given."""
        x = self.x.copy()
        if values is not None:
            x[list(self.index)] = values
        return x

    def _evaluated(self, values: Float[np.ndarray, " k"]) -> _ToyFits:
        """The likelihood at `values`, if there are no other parameters to fit."""
        point = moved(self.toys.params, self._at(values))
        nll = logs(self.nll, (point,), self.toys, self.data, self.toys.params)[0]
        # infinite for a toy that is impossible at this value, so that the ratio is infinite, too
        status = np.where(np.isfinite(nll) | (nll == np.inf), int(Status.VALID), int(Status.NOT_FINITE))
        return _ToyFits(nll, np.empty((nll.size, 0)), status)

    def _fit(
        self,
        values: Float[np.ndarray, " k"] | None,
        numbers: Int[np.ndarray, " m"] | None = None,
        start: Float[np.ndarray, "*m n"] | None = None,
        columns: Sequence[int] | None = None,
    ) -> _ToyFits:
        """Fits of all toys, or of those with these `numbers`, with the parameters of interest at `values`, or free.

        All of them take one program: which parameters are held, and where the fits start, are arrays.

        - `start`: of all fits, or of each; default: where the toys are drawn.
        - `columns`: the parameters whose values are returned; default: those of interest.
        """
        columns = self.index if columns is None else columns
        self.progress.expect(self.toys.n if numbers is None else numbers.size)

        def keep(result: FitResult) -> tuple[np.ndarray, ...]:
            self.progress.done(result.nll.shape[0])
            with on_host():
                x = self.space.wrap(result.values)
            # copies of the wanted values only: a view would keep all of them in memory
            return np.array(result.nll), np.asarray(x)[:, list(columns)], np.array(result.status)

        def planned(inputs: tuple[Any, ...], mesh: Mesh | None) -> tuple[Job, Plan, None]:
            nll, origin, toys, data = inputs
            up = check_up(0.5)
            if self._source is None:
                of_batch = source if self.shared is None else self.shared.part
                self._source = of_batch(nll, origin, toys, data)
            toy_source = self._source
            begin = self._at(values) if start is None else start
            x = begin if begin.ndim == 1 else self._at(values)  # that of full fits, and of the metric
            if self.shared is None:
                n, hessian = toy_source.n, np.asarray(expected_hessian(nll, moved(origin, x), toy_source, data, up))
            else:
                n, hessian = self.shared.batch, self.shared.hessian(nll, moved(origin, x), x, data, up)
            held, covariance = hold(nll, origin, hessian, self.index, values)
            params = held.start(x, self.space)
            batch_plan = plan(n, toy_source.toy_bytes, self.x.size, mesh)
            batch_plan = batch_plan.of_size(min(n, batch_plan.size))._replace(reproducible=self.shared is not None)
            toy_source = toy_source if numbers is None else toy_source.only(numbers)
            starts = np.broadcast_to(begin, (toy_source.n, self.x.size))
            return Job(held, params, toy_source, starts, covariance, up, False, None, None, mesh), batch_plan, None

        def fitted(planned: tuple[Job, Plan, None]) -> list[tuple[np.ndarray, ...]]:
            return [keep(result) for result in batches(*planned)]

        inputs = (self.nll, self.toys.params, self.toys, self.data)
        parts = run_planned(planned, fitted, inputs, self.mesh, "a test by toys")
        return _ToyFits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


@evaluated
def _evaluate(
    statistic: AbstractStatistic, best: Array, value: Array, rise: Array, at_zero: Array, status: Array
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    q = statistic.of(best, value, rise, at_zero)
    return jnp.where(status == int(Status.VALID), q, jnp.nan), status


def moved(params: PyTree, x: Float[np.ndarray, " n"]) -> PyTree:
    with on_host():
        moved: Any = update(as_numpy(params), xp.asarray(x))
    return to_jax(moved)


def logs(nll: Any, points: tuple[PyTree, ...], toys: Any, data: PyTree, origin: PyTree) -> np.ndarray:
    """Returns the value of `nll` for each toy at some points, shape `(points, toys)`."""
    toy_source = source(nll, origin, toys, data)
    size = min(_AT_ONCE, toy_source.n)
    parts = [_logs(nll, points, toy_source.batch(first, size)) for first in range(0, toy_source.n, size)]
    return np.concatenate([np.asarray(p) for p in parts], axis=1)[:, : toy_source.n]


def hold(
    nll: Any, params: PyTree, hessian: Float[np.ndarray, "n n"], index: tuple[int, ...], values: Any
) -> tuple[Held, Float[Array, "n n"]]:
    """Returns the likelihood with parameters held at `values`, or with none held, and the expected covariance of its
    fits."""
    n = hessian.shape[0]
    which, at = np.zeros(n, bool), np.zeros(n, hessian.dtype)
    if values is not None:
        which[list(index)], at[list(index)] = True, values
    curvature = np.diagonal(hessian)
    curvature = np.where(curvature > 0, curvature, 1.0)
    hessian = np.where(which[:, None] | which[None, :], np.diag(curvature), hessian)
    held = Held(nll, params, *map(jnp.asarray, (which, at, 1 / np.sqrt(curvature))))
    return held, forced_inverse(jnp.asarray(hessian))


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
    n, first = drawn[0].n, drawn[0].first

    def statistic_of_toy(number: Array) -> tuple[Array, Array]:
        origin = jax.tree.map(lambda a: a[number // n], origins)
        point = resolve_at(origin, ravel(origin)[0])
        toy = draw_one(nll, point, jax.random.fold_in(keys[number // n], first + number % n), data)
        values_and_status = statistic.at(Fitted(nll, fit(nll, origin, toy), toy), index, values)
        return values_and_status.value, values_and_status.status

    numbers = jnp.arange(n * len(drawn))
    values_and_status = jax.lax.map(statistic_of_toy, numbers, batch_size=min(numbers.size, 256))
    return tuple(a.reshape(len(drawn), n) for a in values_and_status)


def is_traced(*trees: Any) -> bool:
    """Returns whether some array has no value yet: inside `jit`, `vmap` or `grad`."""
    return not is_concrete(*[leaf for leaf in jax.tree.leaves(trees) if eqx.is_array(leaf)], jnp.asarray(0.0))
