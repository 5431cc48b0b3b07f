"""Batches of toys in the workers of a `concurrent.futures.Executor` (`workers.py`)."""

from collections import deque
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._fit.result import FitResult
from .._util.typing import PyTree
from .calls import Calls
from .plan import Job, Plan
from .source import Toys, source
from .workers import MOST_RUNNING, is_finished, pickled, result_of, submit, unpickled


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
        self._executor, self._job, self._payload = executor, job, pickled(problem)
        self._rows = drawn is None
        self.running: deque[Future] = deque()

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *_: Any) -> None:
        for future in self.running:
            future.cancel()

    def has_room(self) -> bool:
        return len(self.running) < MOST_RUNNING

    def begin(self, first: int, n: int) -> None:
        rows = jax.tree.map(np.asarray, self._job.source.batch(first, n)) if self._rows else None
        starts = None if self._job.starts is None else self._job.starts[first : first + n]
        self.running.append(submit(self._executor, fit_batch, self._payload, rows, starts, first, n))

    def next(self) -> FitResult:
        """The fits of the batch that was started first."""
        return result_of(self.running.popleft())

    def finished(self) -> list[FitResult | None]:
        """The fits of all batches that were started and not asked for, as far as they are done."""
        return [future.result() if is_finished(future) else None for future in self.running]


def fit_batch(x64: bool, payload: bytes, rows: PyTree, starts: np.ndarray | None, first: int, n: int) -> FitResult:
    """Called in a worker: fits `n` toys from `first` on, drawn there, or those that are given."""
    with jax.enable_x64(x64):
        problem, lock = unpickled(payload)
        with lock:
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
