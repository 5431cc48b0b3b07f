"""Batches of toys in the workers of a `concurrent.futures.Executor`: processes, or jobs of dask, executorlib, MPI.

The problem is pickled once. A worker unpickles and compiles it once, whatever number of batches it gets.
"""

import hashlib
import pickle
import threading
from collections import OrderedDict, deque
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._fit.result import FitResult
from .._util.typing import PyTree
from .calls import Calls
from .plan import Job, Plan
from .source import Toys, source

_MOST_RUNNING = 256  # batches that are submitted and not yet stored
_KEPT = 4  # problems that a worker keeps


class _Problem(NamedTuple):
    """What a worker needs beside the toys of a batch."""

    nll: Any
    params: PyTree
    toys: Toys | None  # from which a worker draws its batch; `None`: the rows are sent
    data: PyTree
    covariance: np.ndarray
    up: np.ndarray
    options: tuple[Any, ...]
    lanes: int
    size: int


def check_executor(executor: Any) -> Any:
    """**Raises:** `TypeError` for an object that has no `submit`; `ValueError` for processes made by a fork, in which
    JAX may hang."""
    if executor is None or isinstance(executor, ProcessPoolExecutor):
        start = getattr(getattr(executor, "_mp_context", None), "get_start_method", lambda: "spawn")()
        if start == "fork":
            raise ValueError(
                "JAX may hang in a process that is made by a fork: give "
                'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))'
            )
        return executor
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "executor takes a concurrent.futures.Executor, such as a ProcessPoolExecutor, got "
            f"{type(executor).__name__}"
        )
    return executor


class Remote:
    """Batches that run elsewhere: in the place of `Ahead`."""

    def __init__(self, executor: Any, job: Job, batch_plan: Plan, toys: Any, data: PyTree):
        drawn = toys if isinstance(toys, Toys) else None
        problem = _Problem(
            job.nll,
            job.params,
            drawn,
            data if drawn is not None else None,
            np.asarray(job.covariance),
            np.asarray(job.up),
            job.options,
            batch_plan.lanes,
            batch_plan.size,
        )
        self._executor, self._job, self._payload = executor, job, _pickled(problem)
        self._rows = drawn is None
        self.running: deque[Future] = deque()

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *_: Any) -> None:
        for future in self.running:
            future.cancel()

    def has_room(self) -> bool:
        return len(self.running) < _MOST_RUNNING

    def begin(self, first: int, n: int) -> None:
        rows = jax.tree.map(np.asarray, self._job.source.batch(first, n)) if self._rows else None
        starts = None if self._job.starts is None else self._job.starts[first : first + n]
        enabled = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            self.running.append(self._executor.submit(fit_batch, self._payload, enabled, rows, starts, first, n))
        except BrokenExecutor as error:
            raise _died(error) from error

    def next(self) -> FitResult:
        """The fits of the batch that was started first."""
        future = self.running.popleft()
        try:
            return future.result()
        except BrokenExecutor as error:
            raise _died(error) from error

    def finished(self) -> list[FitResult | None]:
        """The fits of all batches that were started and not asked for, as far as they are done."""
        done = [f.done() and not f.cancelled() and f.exception() is None for f in self.running]
        return [f.result() if is_done else None for f, is_done in zip(self.running, done, strict=True)]


def fit_batch(payload: bytes, x64: bool, rows: PyTree, starts: np.ndarray | None, first: int, n: int) -> FitResult:
    """Called in a worker: fits `n` toys from `first` on, drawn there, or those that are given."""
    with jax.enable_x64(x64):
        problem, lock = _unpickled(payload)
        with lock:  # of the threads of one process the first compiles
            toys = jax.tree.map(jnp.asarray, rows) if problem.toys is None else problem.toys
            toy_source = source(problem.nll, problem.params, toys, problem.data)
            if problem.toys is not None:
                toy_source = toy_source.only(np.arange(first, first + n))
            hesse, kind, minos = problem.options
            metric, up = jnp.asarray(problem.covariance), jnp.asarray(problem.up)
            job = Job(problem.nll, problem.params, toy_source, starts, metric, up, hesse, kind, minos, None)
            calls = Calls(job, Plan(1, 1, problem.lanes, problem.size), alone=False)
            fits = calls.finish(calls.land(calls.launch(0, n, calls.piece)))
        return jax.tree.map(np.asarray, fits)


_problems: OrderedDict[str, tuple[_Problem, threading.Lock]] = OrderedDict()
_lock = threading.Lock()


def _unpickled(payload: bytes) -> tuple[_Problem, threading.Lock]:
    """The same object for the same bytes: JAX traces a new one again."""
    key = hashlib.sha256(payload).hexdigest()
    with _lock:
        if key not in _problems:
            _problems[key] = pickle.loads(payload), threading.Lock()
            while len(_problems) > _KEPT:
                _problems.popitem(last=False)
        _problems.move_to_end(key)
        return _problems[key]


def _pickled(problem: _Problem) -> bytes:
    """**Raises:** `TypeError` for a likelihood that cannot be pickled."""
    try:
        import cloudpickle  # pyright: ignore[reportMissingImports]
    except ImportError:
        cloudpickle = pickle
    try:
        return cloudpickle.dumps(problem)
    except Exception as error:  # pickle raises what it likes
        hint = "" if cloudpickle is not pickle else ", or install cloudpickle"
        raise TypeError(
            f"the likelihood cannot be sent to the workers ({error}): define its functions at the top level of a "
            f"module that they can import{hint}"
        ) from error


def _died(error: Exception) -> RuntimeError:
    return RuntimeError(
        f"the executor died ({type(error).__name__}: {error}); with a store, what is fitted is kept, and the same call "
        "with another executor goes on. (Processes that die at once: a script that makes them needs "
        'if __name__ == "__main__":)'
    )
