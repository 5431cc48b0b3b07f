"""The range of the events, the gaps in it, and their number, determined on the host, chunk by chunk."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._util.on_disk import OnDisk
from .events import as_chunk

_MAX_KEPT = 100_000  # events that are examined one by one; of larger samples every k-th
_MAX_GAPS = {1: 16, 2: 4}  # per observable
_NEIGHBOURS = 30  # on either side of a gap, which define the usual spacing


class Occupied(NamedTuple):
    """Events with `dim` observables; unused rows are excluded."""

    some: np.ndarray  # (m, dim), every k-th event
    low: np.ndarray  # (dim,)
    high: np.ndarray
    gaps: tuple[np.ndarray, ...]  # (k, 2) per observable: intervals without events, wide for their surroundings
    too_many: bool  # gaps, some of which are left out
    number: float  # of the events, or the effective one of weighted events
    total: float  # the sum of the weights
    positive: bool  # whether all weights are
    rows: int
    flat: bool  # x has one axis


def occupied(data: Any, what: str) -> Occupied:
    """Read the events once; twice if a large sample may have gaps."""
    size = data.size if isinstance(data, OnDisk) else 0
    kept, lows, highs, sums, rows, positive, expected, flat = [], [], [], np.zeros(2), 0, True, False, True
    for x, weight, is_expected, flat in _chunks(data, what):  # noqa: B007
        if x.shape[0] == 0:
            continue
        step = -(-max(size, x.shape[0]) // _MAX_KEPT)
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
    wide_gaps = [_wide_gaps(some[:, i], _MAX_GAPS.get(some.shape[1], 0)) for i in range(some.shape[1])]
    gaps = [gap for gap, _ in wide_gaps]
    if rows > some.shape[0] and any(gap.size for gap in gaps):
        gaps = _refined(gaps, data, what)
    number = total if expected else total**2 / squares
    too_many = any(more for _, more in wide_gaps)
    return Occupied(some, low, high, tuple(gaps), too_many, number, total, positive, rows, flat)


def outside(data: Any, what: str, pieces: list[np.ndarray]) -> int:
    """The number of events that are in none of the `pieces`, of shape (k, 2) for each observable."""
    n = 0
    for x, *_ in _chunks(data, what):
        inside = np.ones(x.shape[0], bool)
        for column, ranges in zip(x.T, pieces, strict=True):
            inside &= np.any((column[:, None] >= ranges[:, 0]) & (column[:, None] <= ranges[:, 1]), axis=1)
        n += int(np.sum(~inside))
    return n


def _chunks(data: Any, what: str) -> Iterator[tuple[np.ndarray, np.ndarray, bool, bool]]:
    """Iterate over `x` of shape (n, dim) and the weights of the used rows, whether these are expected numbers, and
    whether `x` has one axis."""
    indices = range(data.num_chunks) if isinstance(data, OnDisk) else (None,)
    for i in indices:
        rows, chunk_mask = (data, None) if i is None else data.chunk(jnp.array(i))
        events = as_chunk(rows, what)
        x = np.asarray(events.x)
        weight = np.ones(x.shape[0]) if events.weight is None else np.asarray(events.weight, float)
        used = weight != 0
        for mask in (events.mask, chunk_mask):
            used = used if mask is None else used & np.asarray(mask)
        flat, x = x.ndim == 1, x.reshape(x.shape[0], int(np.prod(x.shape[1:])))
        if not np.all(used):
            x, weight = x[used], weight[used]
        yield x, weight, events.expected, flat


def _wide_gaps(column: np.ndarray, max_gaps: int) -> tuple[np.ndarray, bool]:
    """The intervals between neighbours that are wider than chance explains, given the usual spacing nearby, and whether
    there are more than `max_gaps`. Equal values (of a detector that rounds) count once."""
    values = np.unique(column[np.isfinite(column)])
    n = values.size
    if n < 8 or max_gaps == 0:
        return np.zeros((0, 2)), False
    i, reach = np.arange(n - 1), min(_NEIGHBOURS, n // 4)
    first, last = np.maximum(i - reach, 0), np.minimum(i + 1 + reach, n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(i > first, (values[i] - values[first]) / (i - first), np.inf)
        right = np.where(last > i + 1, (values[last] - values[i + 1]) / (last - i - 1), np.inf)
        score = np.diff(values) / np.minimum(left, right)
    wide = np.flatnonzero(score > unusual(n))
    chosen = np.sort(wide[np.argsort(-score[wide], kind="stable")[:max_gaps]])
    return np.stack([values[chosen], values[chosen + 1]], axis=1), wide.size > max_gaps


def unusual(number: float) -> float:
    """The number of events expected in the widest empty interval, exceeded with a probability of less than 1 %:
    spacings are exponentially distributed."""
    return float(np.log(max(number, 1.0))) + 5.0


def _refined(gaps: list[np.ndarray], data: Any, what: str) -> list[np.ndarray]:
    """The widest empty interval in each gap, from all events instead of every k-th."""
    inside: list[list[list[np.ndarray]]] = [[[] for _ in gap] for gap in gaps]
    for x, *_ in _chunks(data, what):
        for column, gap, observed in zip(x.T, gaps, inside, strict=True):
            for (low, high), values in zip(gap, observed, strict=True):
                values.append(np.unique(column[(column > low) & (column < high)]))
    out = []
    for gap, observed in zip(gaps, inside, strict=True):
        ends = np.zeros_like(gap)
        for k, ((low, high), values) in enumerate(zip(gap, observed, strict=True)):
            points = np.unique(np.concatenate([[low, high], *values]))
            widest = int(np.argmax(np.diff(points)))
            ends[k] = points[widest], points[widest + 1]
        out.append(ends)
    return out
