"""Work in the workers of a `concurrent.futures.Executor`: processes, or jobs of dask, executorlib, MPI.

What all calls share is pickled once. A worker unpickles it once, so that what it compiles for it serves all of them.
"""

import hashlib
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import Any, NoReturn

import jax

MOST_RUNNING = 256  # batches that are submitted and not yet stored
_KEPT = 8  # shared objects that a worker keeps


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


def submit(executor: Any, call: Callable[..., Any], *args: Any) -> Future:
    """Calls `call(x64, *args)` in a worker; `x64`: whether JAX computes in double precision here.

    **Raises:** `RuntimeError` for an executor whose workers died.
    """
    enabled = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return executor.submit(call, enabled, *args)
    except BrokenExecutor as error:
        _died(error)


def result_of(future: Future) -> Any:
    """Waits for a call. **Raises:** `RuntimeError` for an executor whose workers died, and what the call raises."""
    try:
        return future.result()
    except BrokenExecutor as error:
        _died(error)


def is_finished(future: Future) -> bool:
    """Whether there is a result to ask for."""
    return future.done() and not future.cancelled() and future.exception() is None


def pickled(shared: Any) -> bytes:
    """**Raises:** `TypeError` for a likelihood that cannot be pickled."""
    try:
        import cloudpickle  # pyright: ignore[reportMissingImports]
    except ImportError:
        cloudpickle = pickle
    try:
        return cloudpickle.dumps(shared)
    except Exception as error:  # pickle raises what it likes
        hint = "" if cloudpickle is not pickle else ", or install cloudpickle"
        raise TypeError(
            f"the likelihood cannot be sent to the workers ({error}): define its functions at the top level of a "
            f"module that they can import{hint}"
        ) from error


_shared: OrderedDict[str, tuple[Any, threading.Lock]] = OrderedDict()
_lock = threading.Lock()


def unpickled(payload: bytes) -> tuple[Any, threading.Lock]:
    """The same object for the same bytes, since JAX traces a new one again; and a lock, with which of the threads of
    one process the first compiles."""
    key = hashlib.sha256(payload).hexdigest()
    with _lock:
        if key not in _shared:
            _shared[key] = pickle.loads(payload), threading.Lock()
            while len(_shared) > _KEPT:
                _shared.popitem(last=False)
        _shared.move_to_end(key)
        return _shared[key]


def _died(error: Exception) -> NoReturn:
    raise RuntimeError(
        f"the executor died ({type(error).__name__}: {error}); with a store, what is fitted is kept, and the same call "
        "with another executor goes on. (Processes that die at once: a script that makes them needs "
        'if __name__ == "__main__":)'
    ) from error
