"""Charts of the tables of what was measured, as SVG."""

from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from ._tables import Row, Table, is_timing, shown_rate, shown_time

# of Okabe and Ito's palette, which the colour-blind can tell apart: ours, the peers', what is a measure for both
_OURS, _PEERS, _UNIT = ("#0072B2", "#56B4E9"), ("#D55E00", "#E69F00"), ("#777777", "#aaaaaa")
_LINES = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#000000", "#999999")
_MARKERS = "os^DvPX*"
_FEWEST = 3  # a table of two rows is its own chart


def draw(table: Table, path: Path) -> bool:
    """Writes the chart of a table, and returns whether it has one."""
    rows = rows_of(table)
    if not rows:
        return False
    style = {"svg.fonttype": "none", "svg.hashsalt": path.stem, "font.size": 9, "font.family": "sans-serif"}
    with plt.rc_context(style):
        figure = _lines(table, rows) if table.x else _bars(table, rows)
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight", transparent=True)
        plt.close(figure)
    return True


def rows_of(table: Table) -> list[Row]:
    """The rows that a chart of the table shows; none where it has no chart."""
    rows = [row for row in table.rows if any(row.get(key) is not None for key in table.chart)]
    return rows if len(rows) >= _FEWEST else []


def _value(cell: Any) -> tuple[float, float, float]:
    """The median and the distances to the quartiles."""
    if is_timing(cell):
        median = cell["median_s"]
        return median, median - cell["q25_s"], cell["q75_s"] - median
    return float("nan") if cell is None else float(cell), 0.0, 0.0


def _heading(table: Table, key: str) -> str:
    timed = any(is_timing(row.get(key)) for row in table.rows)
    return "median, and from quartile to quartile" if timed else table.columns[key]


def _colours(row: Row) -> tuple[str, str]:
    name = str(row.get("name", "migrax"))
    return _UNIT if name.startswith("one ") else _OURS if name.startswith("migrax") or "mx." in name else _PEERS


def _bars(table: Table, rows: list[Row]) -> Figure:
    """Counts as bars; times and rates as points with their spread, for a logarithmic axis has no zero."""
    words = [k for k in table.columns if k not in table.chart and k != "failed" and isinstance(rows[0].get(k), str)]
    figure, ax = plt.subplots(figsize=(7, 0.22 * len(rows) * (1 + 0.4 * (len(table.chart) - 1)) + 0.7))
    counts = all(isinstance(row.get(key), int) for row in rows for key in table.chart)
    alike = all(_colours(row) is _PEERS for row in rows)  # the contestants are the columns
    width = 0.8 / len(table.chart)
    for i, key in enumerate(table.chart):
        for j, row in enumerate(rows):
            median, low, high = _value(row.get(key))
            colour = (_OURS, _PEERS)[i][0] if alike else _colours(row)[i]
            at = j + (i - (len(table.chart) - 1) / 2) * width
            if counts:
                ax.barh(at, median, 0.9 * width, color=colour)
            else:
                ax.errorbar(median, at, xerr=[[low], [high]], color=colour, marker="os"[i], ms=5, lw=1.5)
    ax.set_yticks(range(len(rows)), [", ".join(str(row[k]) for k in words) for row in rows])
    ax.invert_yaxis()
    if counts:
        ax.set_xlabel("fits")
    else:
        ax.set_xlabel(_heading(table, table.chart[0]))
        _decades(ax, "x", is_timing(rows[0].get(table.chart[0])))
    if len(table.chart) > 1:
        first, second = (table.columns[key] for key in table.chart)
        ax.set_title(f"above: {first}; below: {second}", fontsize=9, loc="left")
    _bare(ax)
    return figure


def _decades(ax: Axes, which: Literal["x", "y"], timed: bool) -> None:
    """A logarithmic axis from decade to decade, with times in their units."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    low, high = axis.get_view_interval()
    low, high = np.floor(np.log10(low)), np.ceil(np.log10(high))
    (ax.set_xlim if which == "x" else ax.set_ylim)(10.0**low, 10.0**high)
    every = int(np.ceil((high - low) / 8))
    shown = shown_time if timed else shown_rate
    axis.set_major_locator(FixedLocator(list(10.0 ** np.arange(low, high + 1, every))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    axis.set_minor_formatter(NullFormatter())


def _lines(table: Table, rows: list[Row]) -> Figure:
    assert table.x is not None
    key = table.chart[0]
    figure, ax = plt.subplots(figsize=(7, 3.2))
    names = list(dict.fromkeys(str(row.get("name", "mx.fit_toys")) for row in rows))
    for i, name in enumerate(names):
        mine = [row for row in rows if str(row.get("name", name)) == name]
        found = [_value(row.get(key)) for row in mine]
        spread = [[low for _, low, _ in found], [high for _, _, high in found]]
        x, y = [row[table.x] for row in mine], [median for median, _, _ in found]
        unit = _colours({"name": name}) is _UNIT
        style = {"color": _UNIT[0] if unit else _LINES[i], "ls": ":" if unit else "-"}
        style |= {"marker": _MARKERS[i], "ms": 5, "lw": 1.5}
        ax.errorbar(x, y, yerr=spread, label=name, **style)
    ax.set_xscale("log")
    ax.set_xticks(sorted({row[table.x] for row in rows}), minor=False)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown_rate(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(table.columns[table.x])
    ax.set_ylabel(_heading(table, key).replace(", and", ", and\n"))
    _decades(ax, "y", is_timing(rows[0].get(key)))
    if len(names) > 1:
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _bare(ax)
    return figure


def _bare(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#cccccc", lw=0.5)
    ax.set_axisbelow(True)
