"""One thread that compiles, beside the user's own work, what has been called often.

`MIGRAX_BACKGROUND=0` in the environment switches it off.
"""

import atexit
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any


class _Worker:
    def __init__(self):
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def submit(self, job: Callable[[], Any]) -> None:
        with self._lock:
            if self._stopped:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="migrax-compiles", daemon=True)
                self._thread.start()
                atexit.register(self.stop)
        self._jobs.put(job)

    def stop(self) -> None:
        with self._lock:
            self._stopped, thread = True, self._thread
        self._jobs.put(None)
        if thread is not None:
            thread.join()  # XLA must not be left at work while the process ends: C++ would abort it

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopped:
            with contextlib.suppress(Exception):  # the call that it was for is answered without it
                job()


_WORKER = _Worker()


def is_on() -> bool:
    return os.environ.get("MIGRAX_BACKGROUND", "1").strip().lower() not in ("0", "false", "off", "no")


class Repeats:
    """Counts the time of calls, and has what answers them faster prepared once they have taken as long as it takes."""

    _ENOUGH = 1.0  # seconds, at least: about what tracing costs, during which the user's own thread is slower

    def __init__(self, seconds: float = 0.0):
        """**Arguments:**

        - `seconds`: what preparing takes, roughly.
        """
        self._enough = max(self._ENOUGH, seconds)
        self._seconds: dict[Any, float] = {}
        self._submitted: set[Any] = set()
        self._ready: set[Any] = set()

    def is_ready(self, key: Any) -> bool:
        """Whether the faster way is there."""
        return key in self._ready

    def set_ready(self, key: Any) -> None:
        """The faster way is taken from now on: a call had to prepare it."""
        self._ready.add(key)

    def add(self, key: Any, seconds: float, prepare: Callable[[], Any]) -> None:
        """Counts a call; the first of each `key` is free, as it is the one that traces."""
        total = self._seconds[key] = self._seconds.get(key, -seconds) + seconds
        if total < self._enough or key in self._submitted or not is_on():
            return
        self._submitted.add(key)

        def job() -> None:
            prepare()
            self._ready.add(key)

        _WORKER.submit(job)
