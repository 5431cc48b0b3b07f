"""Tables of plain strings, as text, HTML and LaTeX."""

import html
from collections.abc import Sequence
from typing import NamedTuple

from . import latex

_MIN_WIDTH = 10  # minimum width of a column of numbers


class Table(NamedTuple):
    """A title above a table whose first column holds left-aligned names."""

    title: str  # one line or more
    head: Sequence[str]
    body: Sequence[Sequence[str]]
    most: int | None = None  # rows that text and HTML show

    def text(self) -> str:
        rows = [list(self.head), *[list(row) for row in self.body[: self.most]]]
        first, *others = (max(len(row[k]) for row in rows) + 2 for k in range(len(self.head)))
        widths = [first, *(max(_MIN_WIDTH, w) for w in others)]
        below = [self._left_out] if self._left_out else []
        return "\n".join([self.title, *draw_table(widths, rows[0], rows[1:], left=1), *below])

    def html(self) -> str:
        lines = ["<table>", "  <tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in self.head) + "</tr>"]
        for row in self.body[: self.most]:
            first, *others = (html.escape(cell) for cell in row)
            rest = "".join(f"<td>{cell}</td>" for cell in others)
            lines.append(f'  <tr><td style="text-align:left">{first}</td>{rest}</tr>')
        title = html.escape(self.title).replace("\n", "<br>")
        below = [f"<p>{self._left_out}</p>"] if self._left_out else []
        return "\n".join([f"<p>{title}</p>", *lines, "</table>", *below])

    def latex(self) -> str:
        """A `tabular` of all rows, which needs no package, below its title as a comment."""
        body = [[latex.cell(text) for text in row] for row in self.body]
        return latex.tabular([latex.cell(name) for name in self.head], body, self.title)

    @property
    def _left_out(self) -> str:
        more = 0 if self.most is None else len(self.body) - self.most
        return f"and {more} more" if more > 0 else ""


def draw_table(widths: Sequence[int], head: list[str], body: list[list[str]], left: int) -> list[str]:
    """Returns the lines of a table: the first `left` columns are left-aligned, the others centred."""

    def line(cells: list[str]) -> str:
        pairs = list(zip(cells, widths, strict=True))
        return bar([*(f" {x}".ljust(w) for x, w in pairs[:left]), *(f"{x:^{w}}" for x, w in pairs[left:])])

    return [
        rule(widths, "┌┬┐"),
        line(head),
        rule(widths, "├┼┤"),
        *map(line, body),
        rule(widths, "└┴┘"),
    ]


def column_width(least: int, cells: Sequence[str]) -> int:
    content_width = max(len(cell) for cell in cells)
    return least if content_width <= least else content_width + 2


def bar(cells: Sequence[str]) -> str:
    return "│" + "│".join(cells) + "│"


def rule(widths: Sequence[int], corners: str) -> str:
    left, cross, right = corners
    return left + cross.join("─" * width for width in widths) + right
