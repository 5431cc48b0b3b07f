"""Batches that run ahead, on a CPU in threads: each core has a batch of its own."""

import contextvars
import functools
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from .._fit.result import FitResult
from .calls import Calls

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
