"""Documents in which one value after the other becomes something else."""

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

OTHERS: list[Any] = [None, "x", -1.0, 0, [], {}, [None], {"a": 1}, True, float("nan"), 1e308, "y" * 10_000_000, [[[]]]]
LONG = 600  # characters, which no message has


def errors(read: Callable[[Any], Any], spec: Any, *, places: int, each: int) -> int:
    """How many of the changed documents `read` refuses. The others it reads; nothing but a `ValueError` with a short
    message may come of any."""
    every = list(_places(spec, ()))
    rng = np.random.default_rng(0)
    found = 0
    for k in rng.permutation(len(every))[:places]:
        for other in (OTHERS[i] for i in rng.permutation(len(OTHERS))[:each]):
            bad = copy.deepcopy(spec)
            node = bad
            for key in every[k][:-1]:
                node = node[key]
            node[every[k][-1]] = other
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # of a parameter of interest that is none
                    read(bad)
            except ValueError as error:
                found += 1
                assert len(str(error)) < LONG  # noqa: PT017
    return found


def _places(node: Any, way: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*way, key)
        yield from _places(value, (*way, key))
