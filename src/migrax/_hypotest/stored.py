"""The statistics of toys in a folder: a store (`_stores/store.py`) for each hypothesis and each tested value,
whose batches hold the statistic of each toy and its status.

A study is known by its likelihood, its data, the key of its toys and the tested value. The point at which the toys are
drawn comes from a fit in each job, whose last bits are those of a machine and of what ran before: here it is rounded to
a small fraction of its errors, so that all jobs draw the same toys to the last bit.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._fit.objective import check_up, prepare_data, prepare_params
from .._fit.traced import as_numpy
from .._host.xp import on_host
from .._parameters.space import ravel, resolve_at
from .._stores.batch_file import digest
from .._stores.fingerprint import program_of
from .._stores.kept import kept
from .._stores.store import MANIFEST, NAME, About, Store, warn_of_others
from .._toys.expected_covariance import forced_inverse, hessian_at
from .._toys.sample import draw_one
from .._toys.sharding import on_one_device
from .._toys.source import Toys, source as source_of
from .._util.typing import PyTree
from .ensemble import Ensemble, Shared, Shown, moved
from .remote import Remote
from .statistics import AbstractStatistic

_SPACE = ("names", "lower", "upper", "period", "origin")
_STEPS = 2.0**-16  # of the power of two below an error: how finely the point is known at which toys are drawn


class Statistics(eqx.Module):
    """A batch: the statistic of each toy and its status."""

    values: Float[np.ndarray, " n"]
    status: Int[np.ndarray, " n"]
    names: tuple[str, ...] = eqx.field(static=True)  # the parameters of interest


class StoredEnsemble:
    """The toys of one hypothesis as an `Ensemble`, in batches, of which a shard has some; they are fitted where their
    statistic is not yet in the store."""

    def __init__(self, of: "Hypotheses", toys: Toys, steps: Float[np.ndarray, " n"], where: str):
        """`steps`: how finely the point is known at which the toys are drawn; `where`: what else tells the hypothesis
        from others, in words."""
        self.of, self.toys, self.origin, self.steps, self.where = of, toys, toys.params, steps, where
        with on_host():
            x, self.space = ravel(as_numpy(self.origin))
        self.x = np.asarray(x)
        self.names = tuple(self.space.names[i] for i in of.poi)
        self.asked = toys.batch_size  # of each study; a store that is there has its own
        self._shared: Shared | None = None
        self._ensembles: dict[int, Ensemble] = {}  # with the free fits, which all tested values share

    def statistic(
        self, statistic: AbstractStatistic, values: Float[Array, " k"], near: PyTree = None
    ) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Returns the statistic of each toy and its status. `near`: parameters of a fit at `values`."""

        def make(i: int) -> Statistics:
            return self._batch(*self._ensemble(i).statistic(statistic, values, near))

        def like(i: int) -> Statistics:
            n = self._numbers(i)[1]
            return Statistics(np.empty(n, self.x.dtype), np.empty(n, np.int64), self.names)

        store = None if self.toys.store is None else self._store(Path(self.toys.store), statistic, values)
        if self.toys.executor is None:
            parts = kept(store, self.toys.batches, make, like)
        else:
            parts = self._remotely(store, like, (statistic, np.asarray(values), near))
        return np.concatenate([part.values for part in parts]), np.concatenate([part.status for part in parts])

    def _batch(self, q: Any, status: Any) -> Statistics:
        return Statistics(np.asarray(q, self.x.dtype), np.asarray(status, np.int64), self.names)

    def _remotely(
        self, store: Store | None, like: Callable[[int], Statistics], args: tuple[Any, ...]
    ) -> list[Statistics]:
        wanted = [i for i in self.toys.batches if store is None or not store.has(i)]
        problem = self.of.nll, self.of.data, self.of.poi
        with Remote(problem, self._with(self.toys.batch_size), args, self.of.progress, wanted) as remote:
            try:
                return kept(store, self.toys.batches, lambda i: self._batch(*remote.result(i)), like)
            finally:
                if store is not None:
                    remote.keep_finished(lambda i, found: store.write(i, self._batch(*found)))

    def _with(self, batch_size: int | None) -> Toys:
        """These toys in batches of another size."""
        toys = self.toys
        how = {"shard": toys.shard, "store": toys.store, "mesh": toys.mesh, "executor": toys.executor}
        return Toys(toys.n, toys.key, self.origin, first=toys.first, batch_size=batch_size, **how)

    def _numbers(self, i: int) -> tuple[int, int]:
        """The first toy of a batch, and how many it has."""
        return i * self.toys.size, min(self.toys.size, self.toys.n - i * self.toys.size)

    def _ensemble(self, i: int) -> Ensemble:
        if i not in self._ensembles:
            first, n = self._numbers(i)
            toys = Toys(n, self.toys.key, first=self.toys.first + first, mesh=self.toys.mesh)
            if self._shared is None:
                self._shared = Shared(self.toys, self.toys.size)
            self._ensembles[i] = self.of.at_once(toys, self.origin, self._shared)
        return self._ensembles[i]

    def _store(self, folder: Path, statistic: AbstractStatistic, values: Float[Array, " k"]) -> Store:
        """**Raises:** `ValueError` for the store of a study of another kind."""
        if (folder / MANIFEST).exists():
            raise ValueError(f"the store {folder} is of mx.fit_toys; tests need another folder")
        toys, tested, at = self.toys, np.asarray(values), self.x[list(self.of.poi)]
        inputs = self._inputs()
        kind = f"{type(statistic).__module__}.{type(statistic).__qualname__} {jax.tree.structure(statistic)}"
        problem = digest(inputs, kind, jax.tree.leaves(statistic), self.of.poi, tested, at)
        what = f"{type(statistic).__name__} of {self._named(tested)}, toys of {self._named(at)}{self.where}"
        about = About(what, self.x.tolist(), self.steps.tolist(), inputs, toys.shard)
        warn_of_others(folder, problem, about)
        writes, is_shared = jax.process_index() == 0, toys.mesh is None and toys.shard is None
        # the size that a shard is made of must be known without the store
        size = self.asked if toys.shard is None else toys.size
        store = Store(folder / problem[:NAME], problem, toys.n, size, toys.size, writes, is_shared, about)
        if store.batch_size != toys.size:
            self.toys = self._with(store.batch_size)
            self._ensembles, self._shared = {}, None
        return store

    def _named(self, values: Float[np.ndarray, " k"]) -> str:
        return ", ".join(f"{name} = {value:.6g}" for name, value in zip(self.names, values, strict=True))

    def _inputs(self) -> dict[str, str]:
        """The fingerprints of the likelihood, of what draws the toys and of all arrays, but not of the point."""
        nowhere = np.clip(np.zeros_like(self.x), np.asarray(self.space.lower), np.asarray(self.space.upper))
        nll, point, data, key = on_one_device(
            (self.of.nll, moved(self.origin, nowhere), prepare_data(self.of.data), self.toys.key)
        )
        drawn = source_of(nll, point, Toys(self.toys.n, key, point, first=self.toys.first), data)
        resolved = resolve_at(point, ravel(point)[0])
        toy = eqx.filter_eval_shape(draw_one, nll, resolved, key, data)
        first, _, draws = drawn.made_of()
        of_nll, of_point, of_data = (
            [a for a in jax.tree.leaves(tree) if eqx.is_array(a)] for tree in (nll, point, data)
        )
        made_of = {
            "likelihood": (program_of(nll, resolved, toy), of_nll),
            "data": of_data,
            "parameters": (of_point, *(getattr(self.space, name) for name in _SPACE)),
            "toys": (key, first, draws),
        }
        return {name: digest(what) for name, what in made_of.items()}


class Hypotheses(NamedTuple):
    """Where the toys of one call come from, and where their statistics are kept."""

    nll: Any
    data: PyTree
    poi: tuple[int, ...]  # the positions of the parameters of interest
    progress: Shown
    errors: Float[Array, " n"] | None = None  # of the free fit to the data

    def ensemble(self, toys: Toys, near: str = "") -> Ensemble | StoredEnsemble:
        """Returns the toys of one hypothesis, which has their `params`. `near`: what else tells it from others."""
        if toys.is_kept:
            return StoredEnsemble(self, toys, self._steps(toys.params), near)
        return self.at_once(toys, toys.params)

    def at_once(self, toys: Toys, origin: PyTree, shared: Shared | None = None) -> Ensemble:
        """Returns toys that are drawn at `origin` and fitted here, all of them or one batch."""
        return Ensemble(self.nll, origin, self.data, toys, self.poi, self.progress, shared)

    def settled(self, toys: Toys, point: PyTree, is_free: bool = False) -> PyTree:
        """Returns the point at which toys are drawn: where they are kept, one of whole steps, within its bounds.
        `is_free`: whether the parameters of interest are rounded, too."""
        if not toys.is_kept:
            return point
        with on_host():
            x, space = ravel(as_numpy(point))
        x, steps = np.asarray(x), self._steps(point)
        units = np.where(steps > 0, steps, 1.0)
        rounded = np.where(steps > 0, units * np.round(x / units), x)
        rounded = np.clip(rounded, np.asarray(space.lower), np.asarray(space.upper))
        if not is_free:
            rounded[list(self.poi)] = x[list(self.poi)]
        return moved(point, rounded)

    def _steps(self, point: PyTree) -> Float[np.ndarray, " n"]:
        """How finely points are known, for each parameter."""
        with on_host():
            x = np.asarray(ravel(as_numpy(point))[0])
        errors = np.full(x.size, np.nan) if self.errors is None else np.asarray(self.errors)
        known = np.isfinite(errors) & (errors > 0)
        if not np.all(known):  # as of a parameter at its bound
            nll, data = on_one_device((self.nll, prepare_data(self.data)))
            hessian = hessian_at(nll, prepare_params(point), jax.tree.map(jnp.asarray, data), check_up(0.5))
            errors = np.where(known, errors, np.sqrt(np.diagonal(np.asarray(forced_inverse(hessian)))))
        known = np.isfinite(errors) & (errors > 0)
        steps = _STEPS * 2.0 ** np.floor(np.log2(np.where(known, errors, 1.0)))
        return np.where(known, steps, 0.0).astype(x.dtype)  # 0 where nothing is known: it stays as it is
