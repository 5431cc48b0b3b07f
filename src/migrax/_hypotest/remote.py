"""Batches of the toys of a hypothesis in the workers of an executor."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._toys.source import Toys
from .._toys.workers import MOST_RUNNING, is_finished, pickled, result_of, submit, unpickled
from .._util.typing import PyTree
from .ensemble import Ensemble, Shared, Shown
from .statistics import AbstractStatistic

_KEPT = 64  # batches whose free fits a worker keeps, for other tested values


class _Problem(NamedTuple):
    nll: Any
    data: PyTree
    poi: tuple[int, ...]


class _Hypothesis(NamedTuple):
    """All toys drawn at one point; `size` of them are a batch."""

    origin: PyTree
    n: int
    key: Array
    first: int
    size: int


class Remote:
    """The statistics of batches, which workers compute, some ahead of those that are asked for."""

    def __init__(
        self,
        problem: tuple[Any, PyTree, tuple[int, ...]],
        toys: Toys,
        args: tuple[AbstractStatistic, np.ndarray, PyTree],
        progress: Shown,
        wanted: Iterable[int],
    ):
        """**Arguments:**

        - `problem`: the likelihood, the data and the positions of the parameters of interest.
        - `toys`: all toys of the hypothesis, whose `params` is the point at which they are drawn.
        - `args`: the statistic, the tested values and a fit there.
        - `wanted`: the numbers of the batches, in the order in which they are asked for.
        """
        self._toys, self._progress, self._executor = toys, progress, toys.executor
        hypothesis = _Hypothesis(toys.params, toys.n, toys.key, toys.first, toys.size)
        self._payloads = pickled(_Problem(*problem)), pickled(hypothesis)
        self._args = args
        self._left = deque(wanted)
        self._running: dict[int, Future] = {}
        progress.expect(sum(self._number(i) for i in self._left))

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *_: Any) -> None:
        for future in self._running.values():
            future.cancel()

    def result(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the statistic of each toy of a batch and its status."""
        while self._left and len(self._running) < MOST_RUNNING:
            self._begin(self._left.popleft())
        if i not in self._running:  # another job had it, and is gone
            self._begin(i)
        found = result_of(self._running.pop(i))
        self._progress.done(self._number(i))
        return found

    def keep_finished(self, keep: Callable[[int, tuple[np.ndarray, np.ndarray]], None]) -> None:
        """Calls `keep` for each batch that is done and was not asked for, when a call ends before its time."""
        for i, future in self._running.items():
            if is_finished(future):
                keep(i, future.result())

    def _begin(self, i: int) -> None:
        self._running[i] = submit(self._executor, statistic_of, self._payloads, i, self._number(i), self._args)

    def _number(self, i: int) -> int:
        return min(self._toys.size, self._toys.n - i * self._toys.size)


class _Drawn:
    """The batches of one hypothesis in a worker."""

    def __init__(self, problem: _Problem, hypothesis: _Hypothesis):
        self.problem, self.hypothesis = problem, hypothesis
        toys = Toys(hypothesis.n, hypothesis.key, hypothesis.origin, first=hypothesis.first)
        self.shared = Shared(toys, hypothesis.size)

    def batch(self, i: int, n: int) -> Ensemble:
        first = self.hypothesis.first + i * self.hypothesis.size
        (nll, data, poi), at = self.problem, self.hypothesis
        return Ensemble(nll, at.origin, data, Toys(n, at.key, first=first), poi, Shown(False), self.shared)


_drawn: OrderedDict[tuple[bytes, bytes], _Drawn] = OrderedDict()
_ensembles: OrderedDict[tuple[bytes, bytes, int], Ensemble] = OrderedDict()


def statistic_of(
    x64: bool,
    payloads: tuple[bytes, bytes],
    i: int,
    n: int,
    args: tuple[AbstractStatistic, Float[np.ndarray, " k"], PyTree],
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Called in a worker: the statistic of `n` toys, those of batch `i`."""
    with jax.enable_x64(x64):
        problem, lock = unpickled(payloads[0])
        with lock:
            drawn = _one(_drawn, payloads, lambda: _Drawn(problem, unpickled(payloads[1])[0]))
            ensemble = _one(_ensembles, (*payloads, i), lambda: drawn.batch(i, n))
            statistic, values, near = args
            q, status = ensemble.statistic(statistic, jnp.asarray(values), near)
            return np.asarray(q), np.asarray(status)


def _one(kept: OrderedDict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    if key not in kept:
        kept[key] = make()
    kept.move_to_end(key)
    while len(kept) > _KEPT:
        kept.popitem(last=False)
    return kept[key]
