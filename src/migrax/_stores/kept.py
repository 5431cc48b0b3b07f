"""The parts of a long piece of work, each of which is read from a store or made and stored: by this job, or by another
one that shares the store."""

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .claims import EXPIRED
from .store import Store

T = TypeVar("T")

LOOK = 0.5  # seconds between looks at a store in which other jobs are at work
TELL = 10.0  # seconds after which this job says for whom it waits


def kept(store: Store | None, numbers: Iterable[int], make: Callable[[int], T], like: Callable[[int], T]) -> list[T]:
    """Returns the parts with these numbers, in order. `make(i)` makes one, `like(i)` has its structure, shapes and
    types."""
    if store is None:
        return [make(i) for i in numbers]
    found: dict[int, T] = {}
    left, waits = deque(numbers), 0
    order = tuple(left)
    try:
        while left:
            before = len(left)
            for _ in range(before):
                i = left.popleft()
                part = _one(store, i, make, like)
                if part is None:
                    left.append(i)
                else:
                    found[i] = part
            if len(left) == before:  # all that is left is claimed by other jobs
                waits += 1
                if waits == TELL / LOOK:
                    tell(store, left[0])
                time.sleep(LOOK)
    finally:
        if store.claims is not None:
            store.claims.give_back_all()
    return [found[i] for i in order]


def _one(store: Store, i: int, make: Callable[[int], T], like: Callable[[int], T]) -> T | None:
    """One part, or `None` while another job makes it."""
    if store.has(i):
        return store.read(i, like(i))
    if store.claims is None:
        part = make(i)
        store.write(i, part)
        return part
    if not store.claims.take(i):
        return None
    try:
        if store.has(i):  # stored since the last look
            return store.read(i, like(i))
        part: Any = make(i)
        store.write(i, part)
        return part
    finally:
        store.claims.give_back(i)


def tell(store: Store, i: int) -> None:
    """Warns that this job waits for another one."""
    assert store.claims is not None
    warnings.warn(
        f"waiting for batch {i} of {store.path}, {store.claims.owner(i)}: if that job is gone, its claim "
        f"ends after {EXPIRED:.0f} seconds",
        stacklevel=2,
    )
