"""Which way a direct call takes: `"numpy"`, the algorithm and the likelihood by NumPy; `"kernels"`, the algorithm by
NumPy and the likelihood by programs of its own; `"program"`, all in one program. The cost decides, unless it is forced,
for tests and benchmarks."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

Way = Literal["numpy", "kernels", "program"]

_FORCED: ContextVar[Way | None] = ContextVar("forced", default=None)


def forced() -> Way | None:
    """The way that all calls take now; `None` if the cost decides."""
    return _FORCED.get()


@contextlib.contextmanager
def forced_to(way: Way) -> Iterator[None]:
    """Calls within take this way where they can: what has to be a program is one."""
    token = _FORCED.set(way)
    try:
        yield
    finally:
        _FORCED.reset(token)
