"""Tables of plain strings, as text and HTML."""

import html
from collections.abc import Sequence
from typing import NamedTuple

_MIN_WIDTH = 10  # minimum width of a column of numbers


class Table(NamedTuple):
    """A title above a table whose first column holds left-aligned names."""

    title: str  # one line or more
    head: Sequence[str]
    body: Sequence[Sequence[str]]
    below: str = ""  # a line below the table

    def text(self) -> str:
        rows = [list(self.head), *[list(row) for row in self.body]]
        first, *others = (max(len(row[k]) for row in rows) + 2 for k in range(len(self.head)))
        widths = [first, *(max(_MIN_WIDTH, w) for w in others)]
        below = [self.below] if self.below else []
        return "\n".join([self.title, *draw_table(widths, rows[0], rows[1:], left=1), *below])

    def html(self) -> str:
        lines = ["<table>", "  <tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in self.head) + "</tr>"]
        for row in self.body:
            first, *others = (html.escape(cell) for cell in row)
            rest = "".join(f"<td>{cell}</td>" for cell in others)
            lines.append(f'  <tr><td style="text-align:left">{first}</td>{rest}</tr>')
        title = html.escape(self.title).replace("\n", "<br>")
        below = [f"<p>{html.escape(self.below)}</p>"] if self.below else []
        return "\n".join([f"<p>{title}</p>", *lines, "</table>", *below])


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
