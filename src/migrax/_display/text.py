"""The representation of a fit as text: the box, the parameter table and the matrices in iminuit's layout.

The functions turn plain records into strings and do not depend on JAX or `FitResult`.
"""

import textwrap
from collections.abc import Callable, Sequence

from numpy.typing import ArrayLike

from .records import (
    BATCH_COLUMNS,
    MAX_MATRIX,
    Batch,
    Minimum,
    Row,
    batch_cells,
    batch_note,
    checked,
    correlation,
    covariance_cell,
    left_out,
    numbers,
    parameter_cells,
    trouble,
    verdicts,
)
from .rounding import fits, share
from .table import bar, column_width, draw_table, rule

_MAX_TEXT = 120

# Column widths of iminuit's box and of its parameter table; a column grows if a cell does not fit.
_BOX = (34, 38)
_COLUMNS = ("Value", "Hesse Err", "Minos Err-", "Minos Err+", "Limit-", "Limit+", "Fixed")
_WIDTHS = (11, 11, 12, 12, 9, 9, 7)


def minimum_text(minimum: Minimum) -> str:
    """Returns the summary box of a fit: 73 characters wide inside, as iminuit's, or wider if a cell needs it.

    It differs from iminuit's in the threshold of the EDM: a valid fit is below the goal itself, not below ten times
    the goal. The message of a fit that is not valid follows below the box.
    """
    value, edm, calls = numbers(minimum)
    cells = [text for text, _ in verdicts(minimum)]
    widths = [max(_BOX[0], len(value) + 2, len(edm) + 2), max(_BOX[1], len(calls) + 2)]
    widths[1] += max(0, len(minimum.algorithm) + 4 - sum(widths))
    lines = [
        *_title(minimum.algorithm, widths),
        bar([f" {value}".ljust(widths[0]), f"{calls:^{widths[1]}}"]),
        bar([f" {edm}".ljust(widths[0]), " " * widths[1]]),
    ]
    for left, right in zip(cells[::2], cells[1::2], strict=True):
        lines += [rule(widths, "├┼┤"), bar([f"{left:^{widths[0]}}", f"{right:^{widths[1]}}"])]
    lines.append(rule(widths, "└┴┘"))
    return "\n".join([*lines, *textwrap.wrap(trouble(minimum), sum(widths) + 3, break_long_words=False)])


def parameters_text(rows: Sequence[Row], kind: str = "Hesse") -> str:
    """Returns the table of the parameters in iminuit's layout. A line below names the parameters at a limit. `kind` is
    that of the errors."""
    head = ["", "Name", _COLUMNS[0], f"{kind} Err", *_COLUMNS[2:]]
    body = [[str(i), row.name, *parameter_cells(row)] for i, row in enumerate(rows)]
    columns = list(zip(head, *body, strict=True))
    index, name = (max(len(text) for text in column) for column in columns[:2])
    widths = [max(3, index + 1), name + 2]
    widths += [column_width(least, column) for least, column in zip(_WIDTHS, columns[2:], strict=True)]
    lines = draw_table(widths, head, body, left=2)
    at_limit = ", ".join(row.name for row in rows if row.at_limit)
    if at_limit:
        lines += textwrap.wrap(f"At a limit: {at_limit}", len(lines[0]), break_long_words=False)
    return "\n".join(lines)


def matrix_text(names: Sequence[str], matrix: ArrayLike) -> str:
    """Returns the covariance matrix, shape `(n, n)`, in iminuit's layout.

    If it is wider than a terminal (120 characters), its columns are headed by the numbers of the rows; if it is still
    too wide, only the first parameters are shown.
    """
    array = checked(names, matrix)
    return _matrix_text(names, lambda i, j: covariance_cell(array, i, j), "matrix")


def correlation_text(names: Sequence[str], matrix: ArrayLike) -> str:
    """Returns the correlations with three decimals, in a table like that of `matrix_text`.

    `matrix` is the covariance, shape `(n, n)`, as for `matrix_text`, or a correlation matrix.
    """
    ratio = correlation(checked(names, matrix))
    return _matrix_text(names, lambda i, j: f"{ratio[i, j]:g}" if i == j else f"{ratio[i, j]:z.3f}", "correlation")


def _matrix_text(names: Sequence[str], cell: Callable[[int, int], str], attribute: str) -> str:
    shown = list(names[:MAX_MATRIX])
    cells = [[cell(i, j) for j in range(len(shown))] for i in range(len(shown))]
    longest_name = max((len(name) for name in shown), default=0)
    name_width, head = longest_name, shown
    width = max([longest_name, *(len(text) for row in cells for text in row)])
    if name_width + len(shown) * (width + 1) + 6 > _MAX_TEXT:
        head = [str(i) for i in range(len(shown))]
        shown = [f"{name} {i}" for i, name in enumerate(shown)]
        name_width = max(len(name) for name in shown)
        width = max(len(text) for row in [head, *cells] for text in row)
        n_columns = max((_MAX_TEXT - name_width - 6) // (width + 1), 1)
        head, shown, cells = head[:n_columns], shown[:n_columns], [row[:n_columns] for row in cells[:n_columns]]
    widths = [name_width + 2, max(len(shown) * (width + 1) + 1, 2)]

    def line(name: str, row: Sequence[str]) -> str:
        return bar([f" {name:>{name_width}} ", "".join(f" {text:>{width}}" for text in row).ljust(widths[1])])

    lines = [rule(widths, "┌┬┐"), line("", head), rule(widths, "├┼┤"), *map(line, shown, cells)]
    note = left_out(len(names), attribute, len(shown))
    return "\n".join([*lines, rule(widths, "└┴┘"), *([note] if note else [])])


def batch_text(batch: Batch) -> str:
    """Returns a summary of many fits: a box that counts their statuses, and a table over the valid ones."""
    shares = (f"Valid: {share(batch.valid, batch.size)}", f"INVALID: {share(batch.size - batch.valid, batch.size)}")
    digits = max((len(str(count)) for _, count in batch.statuses), default=0)
    entries = [f" {fits(count, width=digits)}: {phrase}" for phrase, count in batch.statuses]
    widths = [max(least, len(text) + 2) for least, text in zip(_BOX, shares, strict=True)]
    widths[1] += max(0, max((len(entry) for entry in entries), default=0) - sum(widths))
    inside = sum(widths) + 1
    box = bar([f"{text:^{width}}" for text, width in zip(shares, widths, strict=True)])
    lines = [*_title(fits(batch.size), widths), box]
    if entries:
        lines += [
            rule(widths, "├┴┤"),
            *(bar([entry.ljust(inside)]) for entry in entries),
            rule([inside], "└─┘"),
        ]
    else:
        lines.append(rule(widths, "└┴┘"))
    if batch.rows and batch.valid:
        head = ["Name", *BATCH_COLUMNS]
        body = [[row[0], *cells] for row, cells in zip(batch.rows, batch_cells(batch), strict=True)]
        name, *columns = zip(head, *body, strict=True)
        table = [max(len(text) for text in name) + 2, *(column_width(14, column) for column in columns)]
        lines += [*draw_table(table, head, body, left=1), batch_note(batch)]
    return "\n".join(lines)


def _title(text: str, widths: Sequence[int]) -> list[str]:
    # iminuit's titles are slightly left of the centre
    inside = sum(widths) + 1
    return [rule([inside], "┌─┐"), bar([f"{text:^{inside - 3}}   "]), rule(widths, "├┬┤")]
