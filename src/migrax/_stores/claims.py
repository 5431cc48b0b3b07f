"""Which of several jobs that share a store fits a batch: the one that has made a file `.claim-000003` beside it.

A claim lasts as long as its job: a thread renews it, and one that was not renewed for two minutes, or whose process is
gone from this machine, may be taken. Two jobs may then fit the same batch, which costs time alone: their numbers are
the same, and each file is complete when it gets its name.
"""

import contextlib
import json
import os
import socket
import threading
from pathlib import Path

RENEWED, EXPIRED = 20.0, 120.0  # seconds between renewals, and without one until a claim may be taken


class Claims:
    """The claims of one job on the batches of a store."""

    def __init__(self, store: Path):
        self._store, self._lock = store, threading.Lock()
        self._mine: set[int] = set()
        self._stop: threading.Event | None = None

    def take(self, i: int) -> bool:
        """Claims a batch, unless another job that is alive has it."""
        path = self._file(i)
        if not self._make(path):
            if not self._is_left(path):
                return False
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            if not self._make(path):
                return False
        with self._lock:
            self._mine.add(i)
            if self._stop is None:
                self._stop = threading.Event()
                threading.Thread(target=self._renew, args=(self._stop,), daemon=True).start()
        return True

    def give_back(self, i: int) -> None:
        """Ends the claim on a batch, which is stored or left to others."""
        with self._lock:
            self._mine.discard(i)
        with contextlib.suppress(OSError):
            self._file(i).unlink()

    def give_back_all(self) -> None:
        for i in tuple(self._mine):
            self.give_back(i)
        with self._lock:
            if self._stop is not None:
                self._stop.set()
                self._stop = None

    def owner(self, i: int) -> str:
        """Who has claimed a batch, in words."""
        try:
            owner = json.loads(self._file(i).read_text())
            return f"which process {owner['process']} of {owner['machine']} fits"
        except (OSError, ValueError, KeyError, TypeError):
            return "which another job fits"

    def _file(self, i: int) -> Path:
        return self._store / f".claim-{i:06d}"

    def _make(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            json.dump({"machine": socket.gethostname(), "process": os.getpid()}, file)
        return True

    def _is_left(self, path: Path) -> bool:
        """Whether the job of a claim is gone."""
        try:
            age = self._now() - path.stat().st_mtime
        except FileNotFoundError:
            return True
        try:
            owner = json.loads(path.read_text())
            is_here = owner["machine"] == socket.gethostname()
            gone = is_here and not _is_running(int(owner["process"]))
        except (OSError, ValueError, KeyError, TypeError):
            gone = False  # it is being written
        return gone or age > EXPIRED

    def _now(self) -> float:
        """The time of the file system, which may be that of another machine."""
        probe = self._store / f".now-{socket.gethostname()}-{os.getpid()}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _renew(self, stop: threading.Event) -> None:
        while not stop.wait(RENEWED):
            for i in tuple(self._mine):
                with contextlib.suppress(OSError):
                    os.utime(self._file(i))


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return True  # where `kill` would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user
    return True
