"""Runs batches of toys: each is drawn, fitted, refitted where needed and stored, while the next ones are running.

On a CPU each core has a batch of its own. A batch that does not fit into memory is fitted in pieces.
"""

import contextvars
import functools
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator
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
from .shard import batches_of
from .sharding import agreed, everywhere, gathered, over_lanes
from .store import Store

# settings of JAX that a `with` statement changes for the current thread only
_THREAD_SETTINGS = (
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

_LOOK = 0.5  # seconds between looks at a store in which other jobs are at work


def batches(job: Job, batch_plan: Plan, store: Store | None) -> Generator[FitResult]:
    """Yields the results of each batch of the shard, in order, as NumPy arrays."""
    run = _Run(job, batch_plan, store)
    try:
        with Ahead(run.calls, batch_plan.workers) as run.ahead:
            yield from map(run.result, run.numbers)
    finally:
        if run.claims is not None:
            run.claims.give_back_all()


class _Run:
    """The batches of one call: which are stored, which run, and which are left to other jobs with the same store."""

    ahead: "Ahead"

    def __init__(self, job: Job, batch_plan: Plan, store: Store | None):
        self.job, self.size, self.store = job, batch_plan.size, store
        self.numbers = chosen_batches(job, batch_plan)
        self.claims = None if store is None else store.claims
        stored = np.array([store is not None and store.has(i) for i in self.numbers])
        stored = agreed(job.mesh, stored)  # another process need not see yet what one has just written
        self.stored = {i for i, is_stored in zip(self.numbers, stored, strict=True) if is_stored}
        self.pending = deque(i for i in self.numbers if i not in self.stored)
        self.running: deque[int] = deque()
        self.calls = Calls(job, batch_plan, alone=store is None and job.source.n <= self.size)
        self.shapes = functools.cache(lambda: _shapes_of(job, batch_plan))

    def result(self, i: int) -> FitResult:
        """The fits of the `i`-th batch: those on disk, or ours, or what another job stores in the meantime."""
        while True:
            if i in self.stored:
                return self._read(i)
            self._begin()
            if not self.running:
                self._wait(i)
            elif (fits := self._finished())[0] == i:
                return fits[1]

    def _read(self, i: int) -> FitResult:
        assert self.store is not None
        n = self._toys(i)
        return jax.tree.map(lambda a: a[:n], self.store.read(i, self.shapes()))

    def _begin(self) -> None:
        """Starts as many batches as there is room for, leaving out those that another job has claimed."""
        for _ in range(len(self.pending)):
            if not self.ahead.has_room():
                return
            i = self.pending.popleft()
            if self.claims is None or self.claims.take(i):
                if self._is_stored_now(i):
                    continue
                self.ahead.begin(i * self.size, self._toys(i))
                self.running.append(i)
            else:
                self.pending.append(i)

    def _is_stored_now(self, i: int) -> bool:
        """Whether another job has stored a batch since the last look; it is no longer claimed then."""
        if self.claims is None or self.store is None or not self.store.has(i):
            return False
        self.claims.give_back(i)
        self.stored.add(i)
        return True

    def _finished(self) -> tuple[int, FitResult]:
        """The batch that was started first, once it is fitted and stored."""
        i, fits = self.running.popleft(), self.ahead.next()
        if self.store is not None:
            n = self._toys(i)
            self.store.write(i, jax.tree.map(lambda a: _padded(a, self.size - n), fits))
            if self.store.writes:
                self.stored.add(i)
        if self.claims is not None:
            self.claims.give_back(i)
        return i, fits

    def _wait(self, i: int) -> None:
        """All that is left is claimed by other jobs: looks whether they have stored something, or are gone."""
        assert self.store is not None
        for other in tuple(self.pending):
            if self.store.has(other):
                self.pending.remove(other)
                self.stored.add(other)
        if i not in self.stored:
            time.sleep(_LOOK)

    def _toys(self, i: int) -> int:
        return min(self.size, self.job.source.n - i * self.size)


def chosen_batches(job: Job, batch_plan: Plan) -> range:
    """The batches that are fitted: all, or those of a shard. **Raises:** `ValueError` for more shards than batches."""
    return batches_of(batch_plan.shard, -(-job.source.n // batch_plan.size), batch_plan.size)


def _padded(a: np.ndarray, missing: int) -> np.ndarray:
    return np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) if missing else a


def _shapes_of(job: Job, batch_plan: Plan) -> FitResult:
    """Returns the shapes of the results of a batch."""
    lanes, size = batch_plan.lanes, batch_plan.size
    n = -(-size // lanes) * lanes
    toys = eqx.filter_eval_shape(lambda: job.source.batch(0, n))
    starts = None if job.starts is None else jax.ShapeDtypeStruct((n, job.starts.shape[1]), job.starts.dtype)
    rows = (toys, starts, jax.ShapeDtypeStruct((n,), bool))
    shapes = eqx.filter_eval_shape(lambda shared, rows: fit_part(shared, rows, job.options, lanes)[0], job.shared, rows)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), shapes)


class Calls:
    """Fits ranges of toys, in pieces that fit into memory."""

    def __init__(self, job: Job, batch_plan: Plan, alone: bool):
        """`alone`: there is one batch, which is not stored."""
        self.job, self.how, self.lanes, self.alone = job, batch_plan, batch_plan.lanes, alone
        self.piece = batch_plan.rows(batch_plan.size)
        self.limit = budget(job.device, max(batch_plan.workers, 1)) * batch_plan.devices
        self.warned = self.ready = False

    def compile(self) -> None:
        """Compiles the program in the calling thread and shrinks the pieces if it needs too much memory."""
        while not self.ready:
            inputs = self._inputs(0, 0, self.piece)
            if self.job.mesh is None:
                needed: int | None = fit_part.memory(  # pyright: ignore[reportFunctionMemberAccess]
                    self.job.shared, inputs, self.job.options, self.lanes
                )
                if needed is not None and needed > self.limit and self._can_shrink():
                    self._shrink()
                    continue
            self.ready = True

    def _inputs(self, first: int, n: int, piece: int) -> Rows:
        job, numbers = self.job, np.minimum(first + np.arange(piece), self.job.source.n - 1)
        toys = job.source.take(numbers, job.mesh)
        starts = None if job.starts is None else over_lanes(job.mesh, jnp.asarray(job.starts[numbers]))
        return toys, starts, over_lanes(job.mesh, jnp.asarray(np.arange(piece) < n))

    def launch(self, first: int, n: int, piece: int) -> list[tuple[int, PyTree, FitResult, Array]]:
        """Starts the pieces of a batch: for each the number of toys, the toys, their fits, and which to trust.

        `piece` is an argument because another thread may shrink `self.piece` in the meantime.
        """
        pieces, job = [], self.job
        for start in range(first, first + n, piece):
            n_piece = min(piece, first + n - start)
            inputs = self._inputs(start, n_piece, piece)
            if job.mesh is None:
                fits = fit_part(job.shared, inputs, job.options, self.lanes)
            else:
                shared = everywhere(job.mesh, job.shared)
                fits = gathered(job.mesh, fit_sharded(shared, inputs, job.options, self.lanes, job.mesh))
            pieces.append((n_piece, inputs[0], *fits))
        return pieces

    def land(self, pieces: list[tuple[int, PyTree, FitResult, Array]]) -> list[tuple[PyTree, FitResult, np.ndarray]]:
        """Converts the pieces to NumPy arrays, without the padding rows."""
        return [
            (toys, jax.tree.map(lambda a, n=n: np.asarray(a)[:n], result), np.asarray(trusted)[:n])
            for n, toys, result, trusted in pieces
        ]

    def finish(self, pieces: list[tuple[PyTree, FitResult, np.ndarray]]) -> FitResult:
        """Joins the pieces, with the full fit of the toys that are not trusted."""
        alone = self.alone and len(pieces) == 1
        results = [refit_failed(self.job, *piece, alone) for piece in pieces]
        return results[0] if len(results) == 1 else jax.tree.map(lambda *parts: np.concatenate(parts), *results)

    def _can_shrink(self) -> bool:
        return self.piece > self.lanes * self.how.devices

    def _shrink(self) -> None:
        self.piece = self.how.rows(self.piece // 2)

    def too_large(self, error: Exception, piece: int) -> None:
        """Halves the number of toys at once if `error` says that `piece` toys did not fit into memory; else raises the
        error again."""
        text = str(error)
        out_of_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "ut of memory" in text
        if out_of_memory and piece > self.piece:
            return  # started before the pieces were shrunk
        if not out_of_memory or not self._can_shrink():
            raise error
        before = self.piece
        self._shrink()
        if not self.warned:
            warnings.warn(
                f"out of memory with {before} toys at once: continuing with {self.piece} (fit_toys(batch_size=...))",
                stacklevel=2,
            )
        self.warned = True


class Ahead:
    """The queue of batches that run ahead: in threads, or started one after another if there are none."""

    def __init__(self, calls: Calls, workers: int):
        self.calls, self.pool = calls, None
        if workers > 1:
            self.pool = ThreadPoolExecutor(workers)
            if self.pool.submit(_settings).result() != _settings():
                self.pool.shutdown()
                self.pool = None
        self.max_running = workers + 1 if self.pool is not None else 2
        self.running: deque[tuple[int, int, int, Any]] = deque()  # first toy, number of toys, piece size, what runs

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def has_room(self) -> bool:
        return len(self.running) < self.max_running

    def begin(self, first: int, n: int) -> None:
        self.calls.compile()
        piece = self.calls.piece
        self.running.append((first, n, piece, self._start(first, n, piece)))

    def _start(self, first: int, n: int, piece: int) -> Any:
        if self.pool is None:
            return self._caught(lambda: self.calls.launch(first, n, piece))
        context = contextvars.copy_context()
        return self.pool.submit(context.run, lambda: self.calls.land(self.calls.launch(first, n, piece)))

    def _caught(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            return error

    def next(self) -> FitResult:
        """Returns the results of the batch that was started first."""
        first, n, piece, started = self.running.popleft()
        while True:
            if isinstance(started, Future):
                outcome = self._caught(started.result)
            else:
                outcome = (
                    started
                    if isinstance(started, Exception)
                    else self._caught(functools.partial(self.calls.land, started))
                )
            if not isinstance(outcome, Exception):
                return self.calls.finish(outcome)
            self.calls.too_large(outcome, piece)
            piece = self.calls.piece
            started = self._caught(functools.partial(self.calls.launch, first, n, piece))


def _settings() -> tuple[Any, ...]:
    return tuple(getattr(jax.config, name, None) for name in _THREAD_SETTINGS)
