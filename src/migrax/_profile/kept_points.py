"""The points of a profile in a store: each batch holds those of some neighbouring values of the first parameter."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._parameters.space import ravel, resolve_at
from .._stores.batch_file import digest
from .._stores.fingerprint import program_of
from .._stores.kept import kept
from .._stores.shard import batches_of, check_batch_size, check_shard
from .._stores.store import MANIFEST, NAME, About, Store, warn_of_others
from .._util.tracing import is_concrete
from .branches import Points
from .fitted import Fitted

_POINTS = 64  # of a batch


class StoredPoints(eqx.Module):
    """A batch: what `Points` has, for `m` values of the first parameter."""

    values: Float[np.ndarray, "m *l"]
    rise: Float[np.ndarray, "m *l"]
    points: Float[np.ndarray, "m *l n"]
    status: Int[np.ndarray, "m *l"]
    lower: Bool[np.ndarray, "m *l"]
    names: tuple[str, ...] = eqx.field(static=True)


class Keep(NamedTuple):
    """What the user asked for."""

    store: Path | None
    shard: tuple[int, int] | None
    batch_size: int | None

    @staticmethod
    def of(store: str | os.PathLike[str] | None, shard: Any, batch_size: Any) -> "Keep | None":
        """**Raises:** `ValueError` for a shard that is none."""
        shard, batch_size = check_shard(shard), check_batch_size(batch_size)
        return (
            None if store is None and shard is None else Keep(None if store is None else Path(store), shard, batch_size)
        )

    def batches(self, fitted: Fitted, index: tuple[int, ...], grids: tuple[Array, ...]) -> "Batches":
        """**Raises:** `ValueError` for more shards than batches, or another store; `TypeError` inside `jax.jit`."""
        if not is_concrete(*(a for a in jax.tree.leaves((fitted, grids)) if eqx.is_array(a))):
            raise TypeError("profile(store=, shard=) cannot be inside jax.jit, jax.vmap or jax.grad")
        n, per_value = grids[0].size, int(np.prod([grid.size for grid in grids[1:]]))
        parts = 1 if self.shard is None else self.shard[1]
        size = self.batch_size or max(min(n // parts, _POINTS // per_value), 1)
        batches_of(self.shard, -(-n // size), size)  # before anything is written
        store = None if self.store is None else self._opened(self.store, fitted, index, grids, size)
        size = min(n, size) if store is None else store.batch_size
        return Batches(fitted, index, grids, size, batches_of(self.shard, -(-n // size), size), store)

    def _opened(
        self, folder: Path, fitted: Fitted, index: tuple[int, ...], grids: tuple[Array, ...], default: int
    ) -> Store:
        if (folder / MANIFEST).exists():
            raise ValueError(f"the store {folder} is of mx.fit_toys; profiles need another folder")
        nll, result, data = fitted
        of_nll, of_result, of_data = (
            [a for a in jax.tree.leaves(tree) if eqx.is_array(a)] for tree in (nll, result, data)
        )
        made_of = {
            "likelihood": (program_of(nll, resolve_at(result.params, ravel(result.params)[0]), data), of_nll),
            "data": of_data,
            "result": (of_result, result.names),
            "grid": (index, grids),
        }
        inputs = {name: digest(what) for name, what in made_of.items()}
        problem = digest(inputs)
        what = f"profile of {' and '.join(result.names[i] for i in index)}"
        # the size that a shard is made of must be known without the store
        size = self.batch_size if self.shard is None else default
        writes, is_shared = jax.process_index() == 0, self.shard is None
        about, place = About(what, inputs=inputs, shard=self.shard), folder / problem[:NAME]
        warn_of_others(folder, problem, about)
        return Store(place, problem, grids[0].size, size, default, writes, is_shared, about)


class Batches(NamedTuple):
    """The batches of one profile."""

    fitted: Fitted
    along: tuple[int, ...]
    grids: tuple[Array, ...]
    size: int
    numbers: range
    store: Store | None

    @property
    def part(self) -> Array:
        """The values of the first parameter in these batches."""
        return self.grids[0][self.numbers.start * self.size : self.numbers.stop * self.size]

    def points(self, first: Callable[[Array], Points]) -> Points:
        """Returns all points of these batches. `first(values)`: those at some values of the first parameter."""
        others = tuple(grid.size for grid in self.grids[1:])
        names = tuple(self.fitted.result.names[i] for i in self.along)
        x = np.asarray(self.fitted.result.values)

        def values_of(i: int) -> Array:
            return self.grids[0][i * self.size : (i + 1) * self.size]

        def make(i: int) -> StoredPoints:
            values = values_of(i)
            # of one length, so that all batches are one program
            found = first(jnp.asarray(np.pad(np.asarray(values), (0, self.size - values.size), mode="edge")))
            arrays: Any = (np.asarray(a).reshape(self.size, *others, *a.shape[1:])[: values.size] for a in found)
            return StoredPoints(*arrays, names=names)

        def like(i: int) -> StoredPoints:
            shape = (values_of(i).size, *others)
            number, points = np.empty(shape, x.dtype), np.empty((*shape, x.size), x.dtype)
            return StoredPoints(number, number, points, np.empty(shape, status), np.empty(shape, bool), names)

        status = jnp.asarray(0).dtype
        parts = kept(self.store, self.numbers, make, like)
        columns = zip(*(jax.tree.leaves(part) for part in parts), strict=True)
        joined = [np.concatenate(column) for column in columns]
        return Points(*(jnp.asarray(a.reshape(-1, *a.shape[1 + len(others) :])) for a in joined))
