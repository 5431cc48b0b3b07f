"""Studies of toys as text and HTML. Plain strings come in."""

import html
import math
from collections.abc import Sequence

from ._display import draw_table

_WIDTH = 10


def with_error(value: float, error: float) -> str:
    """A number and its error with two digits of the error: `0.013 ± 0.010`."""
    if not math.isfinite(value):
        return "—"
    if not math.isfinite(error) or error <= 0:
        return f"{value:.4g}"
    places = 1 - math.floor(math.log10(error))
    if abs(value) >= 1e7 or places > 9:
        return f"{value:.4g} ± {error:.2g}"
    places = max(places, 0)
    return f"{value:.{places}f} ± {error:.{places}f}"


def study_text(title: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A title above a table whose first column are names."""
    rows = [list(head), *[list(row) for row in body]]
    widths = [max(len(row[k]) for row in rows) + 2 for k in range(len(head))]
    widths = [widths[0], *(max(_WIDTH, w) for w in widths[1:])]
    return "\n".join([title, *draw_table(widths, rows[0], rows[1:], left=1)])


def study_html(title: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = ["<table>", "  <tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + "</tr>"]
    for row in body:
        first, *others = (html.escape(cell) for cell in row)
        rest = "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f'  <tr><td style="text-align:left">{first}</td>{rest}</tr>')
    return "\n".join([f"<p>{html.escape(title)}</p>", *lines, "</table>"])
