"""MINOS errors as text and HTML, in the layout of iminuit's table of merrors, and as a plain table, from plain
records."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

from .html import BAD, GOOD, WARN
from .table import Table

_PER_TABLE = 5  # parameters side by side in a terminal
_WIDTH = 11
_LABELS = ("Error", "Valid", "At Limit", "Failed", "New Min")


class Sides(NamedTuple):
    """One parameter: its signed (lower, upper) errors, and the status of each side."""

    name: str
    errors: tuple[float, float]
    valid: tuple[bool, bool]
    at_limit: tuple[bool, bool]
    failed: tuple[bool, bool]
    new_minimum: tuple[bool, bool]


def error_cells(sides: Sides) -> list[str]:
    """Returns both errors with three digits of the smaller one, which show the asymmetry; "nan" for a failed side."""
    magnitudes = [abs(e) for e in sides.errors if math.isfinite(e) and e != 0]
    if not magnitudes or not 1e-5 <= min(magnitudes) <= max(magnitudes) < 1e6:
        return [f"{e:z.3g}" for e in sides.errors]
    places = max(0, 2 - math.floor(math.log10(min(magnitudes))))
    return [f"{e:z.{places}f}" for e in sides.errors]


def _flags(sides: Sides) -> tuple[tuple[bool, bool], ...]:
    return sides.valid, sides.at_limit, sides.failed, sides.new_minimum


def minos_table(rows: Sequence[Sides]) -> Table:
    """A parameter a row; where a side was not found, with the reason."""
    words = [", ".join(_ends(row)) for row in rows]
    head = ["Name", "Lower error", "Upper error", *(["Status"] if any(words) else [])]
    body = [[row.name, *error_cells(row), *([why] if any(words) else [])] for row, why in zip(rows, words, strict=True)]
    return Table("MINOS errors", head, body)


def _ends(row: Sides) -> list[str]:
    kinds = ((row.at_limit, "at limit"), (row.failed, "failed"), (row.new_minimum, "new minimum"))
    return [f"{side} {word}" for k, side in enumerate(("lower", "upper")) for ends, word in kinds if ends[k]]


def minos_text(rows: Sequence[Sides]) -> str:
    """Returns tables of five parameters each."""
    return "\n".join(_table(rows[i : i + _PER_TABLE]) for i in range(0, len(rows), _PER_TABLE))


def _table(rows: Sequence[Sides]) -> str:
    cells = [error_cells(row) for row in rows]
    widths = [
        max(_WIDTH, *(len(c) + 2 for c in pair), math.ceil((len(row.name) + 1) / 2))
        for row, pair in zip(rows, cells, strict=True)
    ]
    label_width = 10
    pair_widths = [2 * w + 1 for w in widths]
    lines = [
        "┌" + "─" * label_width + "".join("┬" + "─" * w for w in pair_widths) + "┐",
        "│" + " " * label_width + "".join(f"│{row.name:^{w}}" for row, w in zip(rows, pair_widths, strict=True)) + "│",
        "├" + "─" * label_width + "".join("┼" + "─" * w + "┬" + "─" * w for w in widths) + "┤",
    ]
    for k, label in enumerate(_LABELS):
        pairs = cells if k == 0 else [[str(flag) for flag in _flags(row)[k - 1]] for row in rows]
        body = "".join(f"│{a:^{w}}│{b:^{w}}" for (a, b), w in zip(pairs, widths, strict=True))
        lines.append(f"│{label:^{label_width}}{body}│")
    lines.append("└" + "─" * label_width + "".join("┴" + "─" * w + "┴" + "─" * w for w in widths) + "┘")
    return "\n".join(lines)


_GRADES = {"Valid": (BAD, GOOD), "At Limit": (GOOD, WARN), "Failed": (GOOD, BAD), "New Min": (GOOD, BAD)}


def minos_html(rows: Sequence[Sides]) -> str:
    """Returns one table, with a pair of columns for each parameter."""
    names = "".join(f'<th colspan="2" style="text-align:center">{html.escape(row.name)}</th>' for row in rows)
    lines = ["<table>", f"  <tr><td></td>{names}</tr>"]
    errors = "".join(f"<td>{cell}</td>" for row in rows for cell in error_cells(row))
    lines.append(f"  <tr><th>Error</th>{errors}</tr>")
    for k, label in enumerate(_LABELS[1:]):
        colors = _GRADES[label]
        flags = [flag for row in rows for flag in _flags(row)[k]]
        body = "".join(f'<td style="background-color:{colors[flag]};color:black">{flag}</td>' for flag in flags)
        lines.append(f"  <tr><th>{label}</th>{body}</tr>")
    return "\n".join([*lines, "</table>"])
