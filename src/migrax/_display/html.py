"""The representation of a fit in a notebook: the tables of `_display` as HTML.

Each coloured cell repeats in words what its colour means, and sets the colour of its text, so that it can be read in a
dark theme, too.
"""

import html
from collections.abc import Sequence

import numpy as np
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

# Light shades of bluish green, yellow and vermilion with different brightness, distinguishable by colour-blind readers.
GOOD = "#9fe0cc"
WARN = "#fff3a0"
BAD = "#f79a78"

# A correlation of +1 and of -1; 0 is white.
POSITIVE = (247, 154, 60)
NEGATIVE = (110, 170, 247)

_PARAMETERS = (
    ("Name", "Name of the parameter"),
    ("Value", "Fitted value"),
    ("Hesse Error", "Error from the second derivatives"),
    ("Minos Error-", "Lower MINOS error"),
    ("Minos Error+", "Upper MINOS error"),
    ("Limit-", "Lower limit"),
    ("Limit+", "Upper limit"),
    ("Fixed", "Whether the parameter is held fixed"),
)


def minimum_html(minimum: Minimum) -> str:
    """Returns the summary box of a fit; its last row holds the message of a fit that is not valid."""
    value, edm, calls = numbers(minimum)
    rows = [
        [_cell(minimum.algorithm, "th", "text-align:center", title="Algorithm", span=2)],
        [
            _cell(value, style="text-align:left", title="Function at the minimum"),
            _cell(calls, style="text-align:center", title="Calls of the function, its gradient and its Hessian"),
        ],
        [
            _cell(edm, style="text-align:left", title="Estimated vertical distance to the minimum, and its goal"),
            _cell(""),
        ],
    ]
    graded = [_cell(words, style=f"text-align:center;{_background(grade)}") for words, grade in verdicts(minimum)]
    rows += [graded[i : i + 2] for i in range(0, len(graded), 2)]
    message = trouble(minimum)
    if message:
        rows.append([_cell(message, style="text-align:left;white-space:normal;max-width:40em", span=2)])
    return _table(rows)


def parameters_html(rows: Sequence[Row], kind: str = "Hesse") -> str:
    """Returns the table of the parameters. The name of a parameter at a limit is coloured and followed by "(at limit)".
    `kind` is that of the errors."""
    columns = list(_PARAMETERS)
    if kind != "Hesse":
        columns[2] = (f"{kind} Error", "Error from the robust covariance H⁻¹JH⁻¹")
    table = [[_cell("", "th"), *(_cell(name, "th", title=title) for name, title in columns)]]
    for i, row in enumerate(rows):
        name = f"{row.name} (at limit)" if row.at_limit else row.name
        style = "text-align:left" + (f";{_background('warn')}" if row.at_limit else "")
        table.append([_cell(str(i), "th"), _cell(name, style=style), *map(_cell, parameter_cells(row))])
    return _table(table)


def matrix_html(names: Sequence[str], matrix: ArrayLike) -> str:
    """Returns the covariance matrix: each covariance with its correlation in bold beside it, and coloured by it.

    If there are more than 30 parameters, the first 30 are shown.

    **Arguments:**

    - `names`: the `n` names.
    - `matrix`: the covariance matrix, shape `(n, n)`.
    """
    array = checked(names, matrix)
    ratio = correlation(array)
    shown = names[:MAX_MATRIX]
    table = [[_cell("", "th"), *(_cell(name, "th") for name in shown)]]
    for i, name in enumerate(shown):
        table.append([_cell(name, "th"), *(_matrix_cell(array, ratio, i, j) for j in range(len(shown)))])
    note = left_out(len(names), "matrix")
    return _table(table) + (f"\n{paragraph(note)}" if note else "")


def paragraph(content: str) -> str:
    """Returns a line of text below a table."""
    return f"<p>{html.escape(content)}</p>"


def batch_html(batch: Batch) -> str:
    """Returns a summary of many fits: how many are valid, their statuses, and a table over the valid ones."""
    grade = "good" if 0 < batch.valid == batch.size else "warn" if batch.valid else "bad"
    style = f"text-align:center;{_background(grade)}"
    rows = [
        [_cell(fits(batch.size), "th", "text-align:center", span=2)],
        [
            _cell(f"Valid: {share(batch.valid, batch.size)}", style=style),
            _cell(f"INVALID: {share(batch.size - batch.valid, batch.size)}", style=style),
        ],
        *([_cell(f"{fits(count)}: {phrase}", style="text-align:left", span=2)] for phrase, count in batch.statuses),
    ]
    if not (batch.rows and batch.valid):
        return _table(rows)
    table = [[_cell(name, "th") for name in ("Name", *BATCH_COLUMNS)]]
    for row, cells in zip(batch.rows, batch_cells(batch), strict=True):
        table.append([_cell(row[0], style="text-align:left"), *map(_cell, cells)])
    return f"{_table(rows)}\n{_table(table)}\n{paragraph(batch_note(batch))}"


def _matrix_cell(matrix: np.ndarray, ratio: np.ndarray, i: int, j: int) -> str:
    value = covariance_cell(matrix, i, j)
    if i == j:
        return _cell(value)
    beside = f" <strong>({ratio[i, j]:z.3f})</strong>"
    return _cell(value, style=_shade(ratio[i, j]), markup=beside)


def _shade(correlation: float) -> str:
    """Returns the style of a correlation: black on a colour from white to that of full correlation; none for NaN."""
    if not np.isfinite(correlation):
        return ""
    strength = min(abs(correlation), 1.0)
    full_color = POSITIVE if correlation > 0 else NEGATIVE
    red, green, blue = (round(255 - strength * (255 - channel)) for channel in full_color)
    return f"background-color:rgb({red},{green},{blue});color:black"


def _background(grade: str) -> str:
    color = {"good": GOOD, "warn": WARN, "bad": BAD}[grade]
    return f"background-color:{color};color:black"


def _cell(content: str, tag: str = "td", style: str = "", *, title: str = "", span: int = 1, markup: str = "") -> str:
    """Returns a cell with escaped content, followed by `markup`, which is not escaped."""
    attributes = [
        f' colspan="{span}"' if span > 1 else "",
        f' style="{style}"' if style else "",
        f' title="{html.escape(title)}"' if title else "",
    ]
    return f"<{tag}{''.join(attributes)}>{html.escape(content)}{markup}</{tag}>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["<table>"]
    for row in rows:
        lines += ["  <tr>", *(f"    {cell}" for cell in row), "  </tr>"]
    return "\n".join([*lines, "</table>"])
