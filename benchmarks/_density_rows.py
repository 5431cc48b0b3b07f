"""What the two benchmarks of densities have in common: their ratios and their tables."""

from collections.abc import Callable
from typing import Any

from ._common import Row, Table, Timing, clock

DERIVATIVES = ("value", "gradient", "hessian")


def add_times(row: Row, calls: dict[str, Callable[[], Any]], repeats: int, count: int) -> Row:
    """The time of each call divided by the `count` of bins or events, and ratios of ours to those by hand. Each has
    been compiled."""
    for call in calls.values():
        call()
    for what, call in calls.items():
        row[f"{what}_ns"] = 1e9 * Timing.of([clock(call) for _ in range(repeats)]).median / count
    for what in DERIVATIVES:
        if f"{what}_by_hand" in calls:
            row[f"{what}_ratio"] = row[f"{what}_ns"] / row[f"{what}_by_hand_ns"]
            row[f"compile_{what}_ratio"] = row[f"compile_{what}_s"] / row[f"compile_{what}_by_hand_s"]
    return row


def two_tables(title: str, rows: list[Row], unit: str) -> list[Table]:
    run, compilation = {"name": ""}, {"name": ""}
    for what in DERIVATIVES:
        run |= {f"{what}_ns": f"{what}, ns {unit}", f"{what}_by_hand_ns": "by hand", f"{what}_ratio": "ratio"}
        compilation |= {f"compile_{what}_s": f"{what}, s", f"compile_{what}_by_hand_s": "by hand"}
        compilation |= {f"compile_{what}_ratio": "ratio"}
    run |= {"value_numba_stats_ns": "value, numba-stats", "failed": "failed"}
    return [Table(title, rows, run), Table("To trace and compile", rows, compilation)]
