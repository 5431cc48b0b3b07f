"""What was measured, as tables: times with their spread, rows of contestants, plain text and Markdown."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

_UNITS = ((1.0, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns"))


@dataclasses.dataclass(frozen=True)
class Timing:
    """Repeated measurements of one time: the median and the quartiles, in seconds."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        if len(seconds) < 2:
            return cls(seconds[0], seconds[0], seconds[0], 1)
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, len(seconds))

    def record(self) -> Row:
        return {"median_s": self.median, "q25_s": self.low, "q75_s": self.high, "repeats": self.repeats}

    def __str__(self) -> str:
        scale, unit = _unit(self.median)
        median, low, high = (shown_number(x * scale) for x in (self.median, self.low, self.high))
        return f"{median} {unit} [{low}, {high}]"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a record. `columns` maps their keys to the headings.

    The report draws the columns `chart`, times or rates or counts, as bars, one for each row; or, with `x`, the
    first of them against that column, one line for each name.
    """

    title: str
    rows: Sequence[Row]
    columns: Mapping[str, str]
    chart: tuple[str, ...] = ()
    x: str | None = None

    def cells(self) -> list[list[str]]:
        """The headings, then the rows. A column that is empty in all rows is left out."""
        keys = [key for key in self.columns if any(row.get(key) is not None for row in self.rows)]
        return [[self.columns[key] for key in keys], *([_cell(row.get(key)) for key in keys] for row in self.rows)]

    def text(self) -> str:
        cells = self.cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        cells.insert(1, ["-" * width for width in widths])
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return f"{self.title}\n\n" + "\n".join(f"  {line}".rstrip() for line in lines)

    def markdown(self) -> str:
        cells = self.cells()
        cells.insert(1, ["---"] * len(cells[0]))
        return f"**{self.title}**\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in cells)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if is_timing(value):
        return str(Timing(value["median_s"], value["q25_s"], value["q75_s"], value["repeats"]))
    return shown_number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def shown_number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 999.5 else f"{value:,.0f}"


def is_timing(value: Any) -> bool:
    """Whether this is the record of a `Timing`."""
    return isinstance(value, Mapping) and "median_s" in value


def shown_rate(value: float) -> str:
    """Three digits, and zeros before the point."""
    return shown_number(float(f"{value:.3g}"))


def shown_time(seconds: float) -> str:
    """A time in its unit."""
    scale, unit = _unit(seconds)
    return f"{shown_number(seconds * scale)} {unit}"


def _unit(seconds: float) -> tuple[float, str]:
    return next((scale, unit) for scale, unit in _UNITS if seconds * scale >= 0.9995 or unit == "ns")
