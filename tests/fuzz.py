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


WORDS = [
    "",
    "-",
    "-1",
    "0",
    "nan",
    "1e400",
    "x",
    "1/2/3",
    "[",
    "@0",
    "*",
    "$MASS",
    "\x00",
    "é",
    "9" * 400,
    "shapes",
    "bin",
]


def broken_lines(text: str, n: int) -> Iterator[str]:
    """A text whose lines are cut, doubled, swapped or left out, and whose words become others."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        lines = text.split("\n")
        for _ in range(rng.integers(1, 3)):
            i, j = rng.integers(len(lines), size=2)
            words = lines[i].split()
            how = rng.integers(6)
            if how == 0:
                del lines[i]
                lines = lines or [""]
            elif how == 1:
                lines[i] = lines[i][: rng.integers(len(lines[i]) + 1)]
            elif how == 2:
                lines[i], lines[j] = lines[j], lines[i]
            elif how == 3:
                lines.insert(i, lines[j])
            elif words:
                words[rng.integers(len(words))] = WORDS[rng.integers(len(WORDS))]
                lines[i] = " ".join(words)
        yield "\n".join(lines)
