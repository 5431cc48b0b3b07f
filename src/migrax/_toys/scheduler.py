"""Runs batches of toys: each is drawn, fitted, refitted where needed and stored, while the next ones are running.

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


def batches(job: Job, batch_plan: Plan, store: Store | None) -> Iterator[FitResult]:
    """Yields the results of each batch, in order, as NumPy arrays."""
    size = batch_plan.size
    firsts = range(0, job.source.n, size)
    stored = np.array([store is not None and store.has(i) for i in range(len(firsts))])
    stored = agreed(job.mesh, stored)  # another process need not see yet what one has just written
    shapes = _shapes_of(job, batch_plan) if np.any(stored) else None
    batch_calls = Calls(job, batch_plan, alone=store is None and job.source.n <= size)
    pending = deque(i for i in range(len(firsts)) if not stored[i])
    with Ahead(batch_calls, batch_plan.workers) as ahead:
        for i, first in enumerate(firsts):
            n = min(size, job.source.n - first)
            if stored[i]:
                assert store is not None
                result = jax.tree.map(lambda a, n=n: a[:n], store.read(i, shapes))
            else:
                while pending and ahead.has_room():
                    ahead.begin(firsts[pending[0]], min(size, job.source.n - firsts[pending.popleft()]))
                result = ahead.next()
                if store is not None:
                    store.write(i, jax.tree.map(lambda a, n=n: _padded(a, size - n), result))
            yield result


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
