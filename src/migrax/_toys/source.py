"""Sources of toys: given arrays, or a random key from which toys are drawn when they are fitted."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from .._fit.objective import prepare_data, prepare_params
from .._parameters.resolve import resolve
from .._stores.shard import STORE_BATCH, batches_of, check_batch_size, check_shard
from .._util.jit import jit
from .._util.typing import PyTree
from .memory import size_of
from .sample import draw_one
from .sharding import everywhere, over_lanes
from .workers import check_executor


def _whole(number: Any) -> Any:
    return int(number) if isinstance(number, np.integer) else number


class Toys(eqx.Module):
    """`n` toys, drawn from a key of `jax.random` batch by batch when they are fitted, and never all in memory.

    The i-th toy is drawn with `jax.random.fold_in(key, i)`, as in `mx.sample(nll, params, key, n)`: it does not depend
    on `n`, the batch size or the number of devices.

    As the `calculator` of a hypothesis test: p-values are fractions of `n` toys of each hypothesis, drawn with the
    nuisance parameters from the conditional fit to the data. Each toy has its own global observables.

    **Arguments:**

    - `n`: the number of toys.
    - `key`: a key of `jax.random`.
    - `params`: the point at which toys are drawn, a tree as for `mx.sample`. Default: the start of their fits. (Not for
        hypothesis tests.)
    - `first`: the number of the first toy: `mx.Toys(500, key, first=1000)` are the toys 1000 to 1499 of the key.

    and, for hypothesis tests only:

    - `alternative`: the value of the parameter of interest in the other hypothesis, as for `mx.Asymptotic`.
    - `importance`: if `True`, use importance sampling, for p-values far below 1 / `n`: `n` toys each are drawn from the
        tested hypothesis, the alternative and the best fit, and all are weighted. The likelihood must be a normalised
        density of everything that is drawn.
    - `progress`: if `True`, show how many fits are done (needs the package tqdm).
    - `mesh`: a `jax.sharding.Mesh` over whose devices the toys are spread, as for `mx.fit_toys`.
    - `store`: a folder in which the statistics of the toys are kept, batch by batch, for each tested value: a test, a
        limit, an interval or a search that was interrupted goes on, several jobs may share it, and `mx.merge` joins
        those of jobs on several machines. See `mx.open_store`.
    - `shard`: `(i, n)`, with i from 0 to n - 1: only the i-th of n parts of the toys.
    - `batch_size`: the number of toys of a batch, in the store, in a shard or in the workers of an executor; default at
        most 4096, and one batch or more for each shard. Results with and without batches, or with batches of another
        size, differ by rounding.
    - `executor`: a `concurrent.futures.Executor` whose workers fit the batches, as for `mx.fit_toys`. Give a
        `batch_size` that makes several batches for each worker.

    **Raises:** `TypeError`, `ValueError` for an invalid number or key, a shard out of range, a batch size below 1, no
    executor, a mesh together with an executor.
    """

    n: int = eqx.field(static=True, converter=_whole)
    key: Array = None  # pyright: ignore[reportAssignmentType]  # without one, the error says where to take it from
    params: PyTree = None
    first: int = eqx.field(static=True, default=0, kw_only=True, converter=_whole)
    alternative: float | None = eqx.field(static=True, default=None, kw_only=True)
    importance: bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)
    mesh: Mesh | None = eqx.field(static=True, default=None, kw_only=True)
    store: str | os.PathLike[str] | None = eqx.field(static=True, default=None, kw_only=True)
    shard: tuple[int, int] | None = eqx.field(static=True, default=None, kw_only=True, converter=check_shard)
    batch_size: int | None = eqx.field(static=True, default=None, kw_only=True, converter=check_batch_size)
    executor: Any = eqx.field(static=True, default=None, kw_only=True, converter=check_executor)

    def __check_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int | np.integer) or self.n < 1:
            hint = f"; write {int(self.n)}" if isinstance(self.n, float) and self.n >= 1 else ""
            raise ValueError(f"the number of toys must be a whole number of at least 1, got {self.n!r}{hint}")
        if isinstance(self.first, bool) or not isinstance(self.first, int | np.integer) or self.first < 0:
            raise ValueError(f"first is the number of the first toy, a whole number of at least 0; got {self.first!r}")
        if not isinstance(self.key, jax.Array):
            given = "none" if self.key is None else type(self.key).__name__
            raise TypeError(f"toys need a key, as in mx.Toys({self.n}, jax.random.key(0)); got {given}")
        typed = jnp.issubdtype(self.key.dtype, jax.dtypes.prng_key)
        if not typed and self.key.dtype != jnp.uint32:
            raise TypeError(f"toys need a key of jax.random, got an array of {self.key.dtype}")
        if self.key.ndim != (0 if typed else 1):
            raise ValueError(f"toys need one key, got keys of shape {self.key.shape}: each toy's is made from it")
        if self.executor is not None and self.mesh is not None:
            raise ValueError("toys run on a mesh of devices or in the workers of an executor, not both")
        _ = self.batches  # refuses more shards than batches

    @property
    def for_tests(self) -> list[str]:
        """The given options that apply to hypothesis tests only."""
        given = {
            "alternative": self.alternative is not None,
            "importance": self.importance,
            "progress": self.progress,
            "mesh": self.mesh is not None,
            "store": self.store is not None,
            "shard": self.shard is not None,
            "batch_size": self.batch_size is not None,
            "executor": self.executor is not None,
        }
        return [name for name, is_given in given.items() if is_given]

    @property
    def is_kept(self) -> bool:
        """Whether they are fitted in batches whose last bits are those of other jobs."""
        return self.store is not None or self.shard is not None or self.executor is not None

    @property
    def size(self) -> int:
        """The number of toys of a stored batch."""
        parts = 1 if self.shard is None else self.shard[1]
        default = max(min(STORE_BATCH, self.n // parts), 1)
        return min(self.n, default if self.batch_size is None else self.batch_size)

    @property
    def batches(self) -> range:
        """The batches of the shard, or all. **Raises:** `ValueError` for more shards than batches."""
        return batches_of(self.shard, -(-self.n // self.size), self.size)

    @property
    def part(self) -> "Toys":
        """The toys of the shard as toys of their own, which are not stored."""
        begin, end = self.batches.start * self.size, min(self.batches.stop * self.size, self.n)
        return Toys(end - begin, self.key, self.params, first=self.first + begin, mesh=self.mesh)


class Resampled(NamedTuple):
    """Samples that are not toys of the model: `draw(nll, params, key, data)` returns one."""

    toys: Toys
    draw: Callable[[Any, PyTree, Array, PyTree], PyTree]


class Source(NamedTuple):
    """Access to toys by their index."""

    n: int
    take: Callable[[Int[np.ndarray, " size"], Mesh | None], PyTree]  # returns the toys with these indices
    made_of: Callable[[], Any]  # returns what identifies these toys: arrays, numbers, and the program that draws
    origin: PyTree  # the point at which they are drawn
    toy_bytes: int  # bytes of one toy

    def batch(self, first: int, size: int, mesh: Mesh | None = None) -> PyTree:
        """Returns `size` toys starting at `first`, spread over the devices; the last toy is repeated beyond the end."""
        return self.take(np.minimum(np.arange(first, first + size), self.n - 1), mesh)

    def only(self, numbers: Int[np.ndarray, " m"]) -> "Source":
        """Returns the source of some of the toys."""
        return self._replace(n=numbers.size, take=lambda rows, mesh: self.take(numbers[rows], mesh))


def source(nll: Any, params: PyTree, toys: PyTree, data: PyTree) -> Source:
    """Returns the source of the toys that the user gave.

    **Raises:** `ValueError` for toys without a common leading axis.
    """
    if isinstance(toys, Resampled):
        return _drawn(nll, params, toys.toys, data, toys.draw)
    if isinstance(toys, Toys) and toys.for_tests:
        raise ValueError(
            f"mx.Toys({toys.for_tests[0]}=...) is for tests of hypotheses; fit_toys has arguments of its own"
        )
    return _drawn(nll, params, toys, data, draw_one) if isinstance(toys, Toys) else _given(params, toys)


def _drawn(
    nll: Any, params: PyTree, toys: Toys, data: PyTree, draw_toy: Callable[[Any, PyTree, Array, PyTree], PyTree]
) -> Source:
    origin = params if toys.params is None else toys.params
    point, observed = prepare_params(origin), prepare_data(data)
    point = resolve(point)

    def draw(numbers: Int[np.ndarray, " size"], mesh: Mesh | None) -> PyTree:
        likelihood, at, key, constant = everywhere(mesh, (nll, point, toys.key, observed))
        return _draw(likelihood, at, key, constant, over_lanes(mesh, jnp.asarray(toys.first + numbers)), draw_toy)

    def made_of() -> Any:
        compiled: Any = eqx.filter_jit(draw_toy)
        arrays = [a for a in jax.tree.leaves((nll, point, toys.key, observed)) if eqx.is_array(a)]
        # not their number: a study may be extended by more toys of the same key
        return toys.first, arrays, compiled.lower(nll, point, toys.key, observed).as_text()

    shapes = eqx.filter_eval_shape(draw_toy, nll, point, toys.key, observed)
    return Source(toys.n, draw, made_of, origin, size_of(shapes))


def _given(params: PyTree, toys: PyTree) -> Source:
    toys = prepare_data(toys)
    shapes = [jnp.shape(a) for a in jax.tree.leaves(toys)]
    if not shapes or any(len(shape) == 0 or shape[0] != shapes[0][0] or shape[0] == 0 for shape in shapes):
        raise ValueError(
            f"toys must be arrays with one leading axis, that of the toys, or mx.Toys(n, key); got shapes {shapes}"
        )

    def pick(numbers: Int[np.ndarray, " size"], mesh: Mesh | None) -> PyTree:
        if mesh is None and numbers[-1] - numbers[0] == numbers.size - 1:
            return _rows(toys, jnp.asarray(numbers[0]), numbers.size)
        return over_lanes(mesh, jax.tree.map(lambda a: a[numbers], toys))

    return Source(shapes[0][0], pick, lambda: toys, params, size_of(toys) // shapes[0][0])


@jit
def _draw(
    nll: Any, params: PyTree, key: Array, data: PyTree, numbers: Int[Array, " size"], draw_toy: Callable[..., PyTree]
) -> PyTree:
    return jax.vmap(lambda i: draw_toy(nll, params, jax.random.fold_in(key, i), data))(numbers)


@jit
def _rows(toys: PyTree, first: Array, size: int) -> PyTree:
    return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, first, size), toys)
