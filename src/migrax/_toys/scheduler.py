"""Batches of toys, one after the other: drawn, fitted, refitted where need be, stored; the next ones are under way
while one is looked at.

On a CPU each core has a batch of its own. A batch that does not fit into memory is fitted in pieces.
"""

import contextvars
import functools
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._fit.result import FitResult
from .._util.typing import PyTree
from .fit_batch import Rows, fit_part, fit_sharded, refit_failed
from .memory import budget
from .plan import Job, Plan
from .sharding import agreed, everywhere, gathered, over_lanes
from .store import Store

# settings of JAX that a `with` statement changes for one thread alone
_OF_A_THREAD = (
    "jax_enable_x64",
    "jax_default_device",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_disable_jit",
    "jax_debug_nans",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_threefry_partitionable",
    "jax_transfer_guard",
)


def batches(job: Job, how: Plan, store: Store | None) -> Iterator[FitResult]:
    """The results of one batch of toys after the other, as arrays of NumPy."""
    size = how.size
    firsts = range(0, job.source.n, size)
    stored = np.array([store is not None and store.has(i) for i in range(len(firsts))])
    stored = agreed(job.mesh, stored)  # what one process has just written another may see or not
    like = like_of(job, how) if np.any(stored) else None
    calls = Calls(job, how)
    todo = deque(i for i in range(len(firsts)) if not stored[i])
    with Ahead(calls, how.workers) as ahead:
        for i, first in enumerate(firsts):
            n = min(size, job.source.n - first)
            if stored[i]:
                assert store is not None
                result = jax.tree.map(lambda a, n=n: a[:n], store.read(i, like))
            else:
                while todo and ahead.has_room():
                    ahead.begin(firsts[todo[0]], min(size, job.source.n - firsts[todo.popleft()]))
                result = ahead.next()
                if store is not None:
                    store.write(i, jax.tree.map(lambda a, n=n: _padded(a, size - n), result))
            yield result


def _padded(a: np.ndarray, missing: int) -> np.ndarray:
    return np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) if missing else a


def like_of(job: Job, how: Plan) -> FitResult:
    """The shapes of a batch's results."""
    lanes, size = how.lanes, how.size
    n = -(-size // lanes) * lanes
    toys = eqx.filter_eval_shape(lambda: job.source.batch(0, n))
    starts = None if job.starts is None else jax.ShapeDtypeStruct((n, job.starts.shape[1]), job.starts.dtype)
    rows = (toys, starts, jax.ShapeDtypeStruct((n,), bool))
    found = eqx.filter_eval_shape(lambda shared, rows: fit_part(shared, rows, job.options, lanes)[0], job.shared, rows)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), found)


class Calls:
    """Fits of some toys by their numbers, in pieces that fit into memory."""

    def __init__(self, job: Job, how: Plan):
        self.job, self.how, self.lanes = job, how, how.lanes
        self.piece = how.rows(how.size)
        self.limit = budget(job.device, max(how.workers, 1)) * how.devices
        self.warned = self.ready = False

    def compile(self) -> None:
        """Compiles the program in the calling thread and looks at the memory that it takes."""
        while not self.ready:
            inputs = self._inputs(0, 0, self.piece)
            if self.job.mesh is None:
                told: int | None = fit_part.memory(  # pyright: ignore[reportFunctionMemberAccess]
                    self.job.shared, inputs, self.job.options, self.lanes
                )
                if told is not None and told > self.limit and self._can_shrink():
                    self._shrink()
                    continue
            self.ready = True

    def _inputs(self, first: int, n: int, piece: int) -> Rows:
        job, numbers = self.job, np.minimum(first + np.arange(piece), self.job.source.n - 1)
        toys = job.source.take(numbers, job.mesh)
        starts = None if job.starts is None else over_lanes(job.mesh, jnp.asarray(job.starts[numbers]))
        return toys, starts, over_lanes(job.mesh, jnp.asarray(np.arange(piece) < n))

    def launch(self, first: int, n: int, piece: int) -> list[tuple[int, PyTree, FitResult, Array]]:
        """The pieces of a batch: how many toys, the toys, their fits and which of them are good.

        `piece` is given, as another thread may make `self.piece` smaller meanwhile.
        """
        out, job = [], self.job
        for start in range(first, first + n, piece):
            some = min(piece, first + n - start)
            inputs = self._inputs(start, some, piece)
            if job.mesh is None:
                found = fit_part(job.shared, inputs, job.options, self.lanes)
            else:
                shared = everywhere(job.mesh, job.shared)
                found = gathered(job.mesh, fit_sharded(shared, inputs, job.options, self.lanes, job.mesh))
            out.append((some, inputs[0], *found))
        return out

    def land(self, pieces: list[tuple[int, PyTree, FitResult, Array]]) -> list[tuple[PyTree, FitResult, np.ndarray]]:
        """The same as arrays of NumPy, without the rows beyond the toys."""
        return [
            (toys, jax.tree.map(lambda a, n=n: np.asarray(a)[:n], result), np.asarray(good)[:n])
            for n, toys, result, good in pieces
        ]

    def finish(self, pieces: list[tuple[PyTree, FitResult, np.ndarray]]) -> FitResult:
        """With the full fit of those that are not good."""
        found = [refit_failed(self.job, *piece) for piece in pieces]
        return found[0] if len(found) == 1 else jax.tree.map(lambda *parts: np.concatenate(parts), *found)

    def _can_shrink(self) -> bool:
        return self.piece > self.lanes * self.how.devices

    def _shrink(self) -> None:
        self.piece = self.how.rows(self.piece // 2)

    def too_large(self, error: Exception, piece: int) -> None:
        """Goes on with half as many toys at once as the `piece` that was tried, or raises the error again where it is
        another one."""
        text = str(error)
        out_of_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "ut of memory" in text
        if out_of_memory and piece > self.piece:
            return  # begun before the pieces were made smaller
        if not out_of_memory or not self._can_shrink():
            raise error
        before = self.piece
        self._shrink()
        if not self.warned:
            warnings.warn(
                f"out of memory with {before} toys at once: going on with {self.piece} (fit_toys(batch_size=...))",
                stacklevel=2,
            )
        self.warned = True


class Ahead:
    """Batches under way: in threads, or begun in turn where there are none."""

    def __init__(self, calls: Calls, workers: int):
        self.calls, self.pool = calls, None
        if workers > 1:
            self.pool = ThreadPoolExecutor(workers)
            if self.pool.submit(_settings).result() != _settings():
                self.pool.shutdown()
                self.pool = None
        self.most = workers + 1 if self.pool is not None else 2
        self.waiting: deque[tuple[int, int, int, Any]] = deque()  # first toy, how many, in what pieces, what has begun

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def has_room(self) -> bool:
        return len(self.waiting) < self.most

    def begin(self, first: int, n: int) -> None:
        self.calls.compile()
        piece = self.calls.piece
        self.waiting.append((first, n, piece, self._begun(first, n, piece)))

    def _begun(self, first: int, n: int, piece: int) -> Any:
        if self.pool is None:
            return self._tried(lambda: self.calls.launch(first, n, piece))
        here = contextvars.copy_context()
        return self.pool.submit(here.run, lambda: self.calls.land(self.calls.launch(first, n, piece)))

    def _tried(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            return error

    def next(self) -> FitResult:
        """The first of those that have begun."""
        first, n, piece, begun = self.waiting.popleft()
        while True:
            if isinstance(begun, Future):
                found = self._tried(begun.result)
            else:
                found = (
                    begun if isinstance(begun, Exception) else self._tried(functools.partial(self.calls.land, begun))
                )
            if not isinstance(found, Exception):
                return self.calls.finish(found)
            self.calls.too_large(found, piece)
            piece = self.calls.piece
            begun = self._tried(functools.partial(self.calls.launch, first, n, piece))


def _settings() -> tuple[Any, ...]:
    return tuple(getattr(jax.config, name, None) for name in _OF_A_THREAD)
