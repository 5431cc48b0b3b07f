"""Where events are: their range, the gaps in it, how many they are. Looked at on the host, chunk by chunk."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._util.on_disk import OnDisk
from .events import as_chunk

_KEPT = 100_000  # events, of more of which every k-th is looked at one by one
_MOST_GAPS = {1: 16, 2: 4}  # for each observable
_NEIGHBOURS = 30  # on either side of a gap, between which the spacing is what is usual there


class Occupied(NamedTuple):
    """Events with `dim` observables; rows that count for nothing are left out."""

    some: np.ndarray  # (m, dim), every k-th of them
    low: np.ndarray  # (dim,)
    high: np.ndarray
    gaps: tuple[np.ndarray, ...]  # (k, 2) for each observable: intervals without events, wide for where they are
    too_many: bool  # gaps, of which some are left out
    number: float  # of the events, or the effective one of weighted events
    total: float  # the sum of the weights
    positive: bool  # all weights
    rows: int
    flat: bool  # x has one axis


def occupied(data: Any, what: str) -> Occupied:
    """Reads the events once; where there may be gaps in a large sample, twice."""
    size = data.size if isinstance(data, OnDisk) else 0
    kept, lows, highs, sums, rows, positive, expected, flat = [], [], [], np.zeros(2), 0, True, False, True
    for x, weight, is_expected, flat in _chunks(data, what):  # noqa: B007
        if x.shape[0] == 0:
            continue
        step = -(-max(size, x.shape[0]) // _KEPT)
        kept.append(x[::step])
        lows.append(np.min(x, axis=0))
        highs.append(np.max(x, axis=0))
        sums += (np.sum(weight), np.sum(weight**2))
        rows += x.shape[0]
        positive &= bool(np.all(weight >= 0))
        expected |= is_expected
    if not rows:
        return Occupied(np.zeros((0, 1)), np.zeros(1), np.zeros(1), (), False, 0.0, 0.0, True, 0, flat)
    some, low, high = np.concatenate(kept), np.min(lows, axis=0), np.max(highs, axis=0)
    total, squares = (float(s) for s in sums)
    found = [_wide(some[:, i], _MOST_GAPS.get(some.shape[1], 0)) for i in range(some.shape[1])]
    gaps = [gap for gap, _ in found]
    if rows > some.shape[0] and any(gap.size for gap in gaps):
        gaps = _narrowed(gaps, data, what)
    number = total if expected else total**2 / squares
    too_many = any(more for _, more in found)
    return Occupied(some, low, high, tuple(gaps), too_many, number, total, positive, rows, flat)


def outside(data: Any, what: str, pieces: list[np.ndarray]) -> int:
    """How many events are in none of the `pieces`, of shape (k, 2) for each observable."""
    n = 0
    for x, *_ in _chunks(data, what):
        inside = np.ones(x.shape[0], bool)
        for column, some in zip(x.T, pieces, strict=True):
            inside &= np.any((column[:, None] >= some[:, 0]) & (column[:, None] <= some[:, 1]), axis=1)
        n += int(np.sum(~inside))
    return n


def _chunks(data: Any, what: str) -> Iterator[tuple[np.ndarray, np.ndarray, bool, bool]]:
    """`x` of shape (n, dim) and the weights of the rows that count; whether they are expected numbers, and whether `x`
    has one axis."""
    indices = range(data.num_chunks) if isinstance(data, OnDisk) else (None,)
    for i in indices:
        rows, of_data = (data, None) if i is None else data.chunk(jnp.array(i))
        events = as_chunk(rows, what)
        x = np.asarray(events.x)
        weight = np.ones(x.shape[0]) if events.weight is None else np.asarray(events.weight, float)
        counts = weight != 0
        for mask in (events.mask, of_data):
            counts = counts if mask is None else counts & np.asarray(mask)
        flat, x = x.ndim == 1, x.reshape(x.shape[0], int(np.prod(x.shape[1:])))
        if not np.all(counts):
            x, weight = x[counts], weight[counts]
        yield x, weight, events.expected, flat


def _wide(column: np.ndarray, most: int) -> tuple[np.ndarray, bool]:
    """The intervals between neighbours that chance does not make so wide, were the others' spacings nearby usual, and
    whether there are more than `most`. Equal values (of a detector that rounds) count once."""
    at = np.unique(column[np.isfinite(column)])
    n = at.size
    if n < 8 or most == 0:
        return np.zeros((0, 2)), False
    i, reach = np.arange(n - 1), min(_NEIGHBOURS, n // 4)
    first, last = np.maximum(i - reach, 0), np.minimum(i + 1 + reach, n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(i > first, (at[i] - at[first]) / (i - first), np.inf)
        right = np.where(last > i + 1, (at[last] - at[i + 1]) / (last - i - 1), np.inf)
        score = np.diff(at) / np.minimum(left, right)
    wide = np.flatnonzero(score > unusual(n))
    chosen = np.sort(wide[np.argsort(-score[wide], kind="stable")[:most]])
    return np.stack([at[chosen], at[chosen + 1]], axis=1), wide.size > most


def unusual(number: float) -> float:
    """How many events are expected in the widest interval without one, but for chances of less than 1 %: spacings are
    exponentially distributed."""
    return float(np.log(max(number, 1.0))) + 5.0


def _narrowed(gaps: list[np.ndarray], data: Any, what: str) -> list[np.ndarray]:
    """The widest interval in each gap that no event is in, as not all events had been looked at."""
    inside: list[list[list[np.ndarray]]] = [[[] for _ in gap] for gap in gaps]
    for x, *_ in _chunks(data, what):
        for column, gap, found in zip(x.T, gaps, inside, strict=True):
            for (low, high), values in zip(gap, found, strict=True):
                values.append(np.unique(column[(column > low) & (column < high)]))
    out = []
    for gap, found in zip(gaps, inside, strict=True):
        ends = np.zeros_like(gap)
        for k, ((low, high), values) in enumerate(zip(gap, found, strict=True)):
            at = np.unique(np.concatenate([[low, high], *values]))
            widest = int(np.argmax(np.diff(at)))
            ends[k] = at[widest], at[widest + 1]
        out.append(ends)
    return out
