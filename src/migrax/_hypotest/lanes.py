"""Tables of many tests or limits, with one row for each."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._display.table import Table
from .._fit.status import Status
from .cells import band, with_its_error, words
from .formulas import BANDS
from .limit_status import LimitStatus

_MAX_ROWS = 40  # rows shown at most: the first ones

EXPECTED = [band(n) for n in BANDS]
OBSERVED_AND_EXPECTED = ["Observed", *EXPECTED]


def with_expected(observed: Any, expected: Any) -> np.ndarray:
    """What is observed, shape `(...)`, before what is expected, shape `(..., 5)` or a number; shape `(..., 6)`."""
    first = np.asarray(observed)[..., None]
    return np.concatenate([first, np.broadcast_to(np.asarray(expected), (*first.shape[:-1], len(BANDS)))], axis=-1)


def rows_of(lanes: Any, *shown: tuple[Any, Any]) -> list[list[str]]:
    """Returns a row for each lane with all of its numbers, and their errors if there are any."""
    size = np.size(lanes)
    rows: list[list[str]] = [[] for _ in range(size)]
    for values, errors in shown:
        flat = np.reshape(values, (size, -1))
        row_errors = np.full(flat.shape, np.nan) if errors is None else np.reshape(errors, flat.shape)
        for row, value, error in zip(rows, flat, row_errors, strict=True):
            row += [with_its_error(v, e) for v, e in zip(value, error, strict=True)]
    return rows


def counted(array: Any, what: str) -> str:
    shape_text = " x ".join(str(n) for n in np.shape(array))
    return f"{shape_text} {what}" if np.size(array) == 1 else f"{shape_text} {what}s"


def table_of(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    status: Sequence[str],
    notes: Sequence[str] = (),
) -> Table:
    missing = sum("—" in row for row in rows)
    if missing:
        title += f", {missing} of them with something missing"
    title = "\n".join([title, *notes])
    status_cells = [["Status"], *([s] for s in status)] if any(status) else [[]] * (1 + len(rows))
    body = [[str(i), *row, *reasons] for i, (row, reasons) in enumerate(zip(rows, status_cells[1:], strict=True))]
    return Table(title, ["", *head, *status_cells[0]], body, _MAX_ROWS)


def statuses(status: Any) -> list[str]:
    kinds = [Status(int(s)) for s in np.ravel(status)]
    return ["" if kind == Status.VALID else kind.phrase.lower() for kind in kinds]


def limit_words(row: Any) -> str:
    """Returns why limits of one lane were not found, each reason once."""
    kinds = dict.fromkeys(LimitStatus(int(s)) for s in row)
    return ", ".join(words(kind) for kind in kinds if kind != LimitStatus.FOUND)
