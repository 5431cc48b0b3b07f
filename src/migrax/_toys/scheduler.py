"""Runs batches of toys: each is drawn, fitted, refitted where needed and stored, while the next ones are running, here
(`ahead.py`) or in the workers of an executor (`executor.py`).
"""

import functools
import time
from collections import deque
from collections.abc import Generator

import equinox as eqx
import jax
import numpy as np

from .._fit.result import FitResult
from .._stores.kept import LOOK, TELL, tell
from .._stores.shard import batches_of
from .._stores.store import Store
from .ahead import Ahead
from .calls import Calls
from .executor import Remote
from .fit_batch import fit_part
from .plan import Job, Plan
from .sharding import agreed


def batches(job: Job, batch_plan: Plan, store: Store | None, remote: Remote | None = None) -> Generator[FitResult]:
    """Yields the results of each batch of the shard, in order, as NumPy arrays. `remote`: where they run, if not
    here."""
    run = _Run(job, batch_plan, store)
    try:
        with remote or Ahead(run.calls, batch_plan.workers) as run.ahead:
            try:
                yield from map(run.result, run.numbers)
            finally:
                run.keep_finished()
    finally:
        if run.claims is not None:
            run.claims.give_back_all()


class _Run:
    """The batches of one call: which are stored, which run, and which are left to other jobs with the same store."""

    ahead: "Ahead | Remote"

    def __init__(self, job: Job, batch_plan: Plan, store: Store | None):
        self.job, self.size, self.store = job, batch_plan.size, store
        self.numbers = chosen_batches(job, batch_plan)
        self.claims = None if store is None else store.claims
        stored = np.array([store is not None and store.has(i) for i in self.numbers])
        stored = agreed(job.mesh, stored)  # another process need not see yet what one has just written
        self.stored = {i for i, is_stored in zip(self.numbers, stored, strict=True) if is_stored}
        self.pending = deque(i for i in self.numbers if i not in self.stored)
        self.running: deque[int] = deque()
        self.waits = 0  # looks at what other jobs do, with nothing of its own to do
        alone = store is None and job.source.n <= self.size and not batch_plan.reproducible
        self.calls = Calls(job, batch_plan, alone=alone)
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
        self._keep(i, fits)
        return i, fits

    def _keep(self, i: int, fits: FitResult) -> None:
        if self.store is not None:
            n = self._toys(i)
            self.store.write(i, jax.tree.map(lambda a: _padded(a, self.size - n), fits))
            if self.store.writes:
                self.stored.add(i)
        if self.claims is not None:
            self.claims.give_back(i)

    def keep_finished(self) -> None:
        """Stores what workers have finished, when a call ends before its time."""
        if self.store is not None and isinstance(self.ahead, Remote):
            running = list(self.running)[-len(self.ahead.running) :] if self.ahead.running else []
            for i, fits in zip(running, self.ahead.finished(), strict=True):
                if fits is not None:
                    self._keep(i, fits)

    def _wait(self, i: int) -> None:
        """All that is left is claimed by other jobs: looks whether they have stored something, or are gone."""
        assert self.store is not None
        assert self.claims is not None
        self.waits += 1
        if self.waits == TELL / LOOK:
            tell(self.store, i)
        for other in tuple(self.pending):
            if self.store.has(other):
                self.pending.remove(other)
                self.stored.add(other)
        if i not in self.stored:
            time.sleep(LOOK)

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
