"""Fits to 10⁶, 10⁷ and 10⁸ events that stay on disk: peak memory, and time, which should be linear in their number.

The million-event model of `benchmarks.unbinned`, read from a `numpy.memmap` by `mx.OnDisk`. Each size has a process of
its own; its memory is counted from after the first, small fit, with all that Python and JAX hold. At 10⁶ the same fit
with the events in memory stands beside it, and the two must agree.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from . import unbinned
from ._common import Row, Table, fresh, main, peak
from ._contestants import mx

SIZES = (1_000_000, 10_000_000, 100_000_000)
GOAL_MB = 2000.0
_BLOCK = 1_000_000


def write(path: Path, n: int) -> None:
    """The file of n events, a block at a time; each block has its own seed, and so the sizes share events."""
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(n,))
    for i in range(0, n, _BLOCK):
        size = min(_BLOCK, n - i)
        out[i : i + size] = unbinned.events(size, seed=100 + i // _BLOCK)
    out.flush()


def fit(path: str, n: int) -> Row:
    """In a fresh process."""
    nll, params = mx.UnbinnedNLL(distribution=unbinned.mixture), unbinned.params(unbinned.START)
    mx.fit(nll, params, mx.OnDisk(unbinned.events(1000)))  # what one fit needs beside the data
    before = peak()
    data = mx.OnDisk(np.load(path, mmap_mode="r"))
    seconds = []
    for _ in range(2 if n < SIZES[-1] else 1):  # of minutes, the seconds of the compilation are no matter
        start = time.perf_counter()
        result: Any = jax.block_until_ready(mx.fit(nll, params, data))
        seconds.append(time.perf_counter() - start)
    row: Row = {"events": n, "valid": bool(result.valid), "compiled_and_fitted_s": seconds[0]}
    row |= {"seconds": seconds[-1], "peak_mb": peak(), "before_mb": before}
    row |= {"gradients": int(result.stats["num_gradients"]), "hessians": int(result.stats["num_hessians"])}
    pulls = (np.asarray(result.values) - unbinned.TRUTH) / np.asarray(result.errors)
    row |= {"largest_pull": float(np.max(np.abs(pulls))), "values": [float(v) for v in result.values]}
    if n <= SIZES[0]:
        memory: Any = mx.fit(nll, params, np.load(path))
        row["off_in_memory"] = float(np.max(np.abs(memory.values - result.values) / result.errors))
    return row


def _complaint(row: Row) -> str | None:
    if not row["valid"] or row["largest_pull"] > 5:
        return f"valid: {row['valid']}, {row['largest_pull']:.2g} errors from the truth"
    return "not the fit in memory" if row.get("off_in_memory", 0.0) > 1e-4 else None


def _measured(sizes: tuple[int, ...]) -> list[Row]:
    rows = []
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "events.npy"
            write(path, n)
            row = fresh(fit, str(path), n)
        rows.append(row | {"failed": _complaint(row), "ns_an_event": 1e9 * row["seconds"] / n})
    return rows


def measure() -> Row:
    rows = _measured(SIZES)
    for row in rows:
        row["within_goal"] = row["peak_mb"] < GOAL_MB
    return {"rows": rows, "goal_mb": GOAL_MB, "migrax_failed": any(row["failed"] for row in rows)}


def tables(record: Row) -> list[Table]:
    columns = {"events": "events", "seconds": "a fit, s", "ns_an_event": "ns an event", "peak_mb": "peak, MB"}
    columns |= {"before_mb": "of which before, MB", "gradients": "gradients", "hessians": "Hessians"}
    columns |= {"largest_pull": "largest pull", "failed": "failed"}
    return [Table("Events on disk, compiled", record["rows"], columns)]


def check() -> list[str]:
    return [row["failed"] for row in _measured((20_000,)) if row["failed"]]


if __name__ == "__main__":
    main("on_disk", measure, tables, check)
