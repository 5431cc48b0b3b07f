"""Tests of hypotheses and limits of many data sets or values at once: a row each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._display_studies import study_text
from .._status import Status
from .display import band, beyond, with_its_error, words
from .formulas import BANDS
from .limit_status import LimitStatus

if TYPE_CHECKING:
    from .discovery import Discovery
    from .hypotest import HypoTest
    from .interval import Interval
    from .limit import UpperLimit

_SHOWN = 40  # rows; of more, the first ones

_EXPECTED = [band(n) for n in BANDS]


def hypotest_lanes(tests: "HypoTest") -> str:
    """A test a row: its value, CLs (or the p-value, where there is no CLs), and the band that is expected."""
    no_cls = bool(np.all(np.isnan(np.asarray(tests.cls)[np.asarray(tests.valid)])))
    observed, expected = (tests.p_sb, tests.expected_p_sb) if no_cls else (tests.cls, tests.expected_cls)
    off = (None, None)
    if tests.errors is not None:
        kind = tests.errors
        off = (kind.p_sb, kind.expected_p_sb) if no_cls else (kind.cls, kind.expected_cls)
    values = np.shape(tests.value)[-1]
    head = ["Value"] if values == 1 else [f"Value {i}" for i in range(values)]
    rows = _rows(tests.p_sb, (tests.value, None), (observed, off[0]), (expected, off[1]))
    head += ["p-value" if no_cls else "CLs", *_EXPECTED]
    return _table(f"{tests.name}: {_count(tests.p_sb, 'test')}", head, rows, _statuses(tests.status))


def discovery_lanes(found: "Discovery") -> str:
    best = np.where(found.fits.free.valid, found.best, np.nan)
    rows = _rows(
        found.p_value,
        (best, None),
        (found.p_value, found.p_value_error),
        (found.significance, found.significance_error),
        (found.expected_significance, None),
    )
    head = ["Fitted", "p-value", "Significance", "Expected"]
    return _table(f"Discovery of {found.name}: {_count(found.p_value, 'test')}", head, rows, _statuses(found.status))


def limit_lanes(limits: "UpperLimit") -> str:
    rows = _rows(limits.observed, (limits.observed, limits.error), (limits.expected, limits.expected_error))
    size = len(rows)
    each = np.concatenate([np.reshape(limits.status, (size, 1)), np.reshape(limits.expected_status, (size, 5))], axis=1)
    how = "CLs" if limits.cls else "CLs+b"
    title = f"Upper limits on {limits.name} at {100 * limits.cl:.4g} % ({how}): {_count(limits.observed, 'limit')}"
    return _table(title, ["Observed", *_EXPECTED], rows, [_limit_status(row) for row in each], beyond(limits))


def interval_lanes(found: "Interval") -> str:
    best = np.where(found.free.valid, found.best, np.nan)
    rows = _rows(found.lower, (best, None), (found.lower, found.lower_error), (found.upper, found.upper_error))
    each = np.stack([np.ravel(found.lower_status), np.ravel(found.upper_status)], axis=1)
    title = f"Intervals of {found.name} at {100 * found.cl:.4g} %: {_count(found.lower, 'interval')}"
    return _table(title, ["Fitted", "Lower end", "Upper end"], rows, [_limit_status(row) for row in each])


def _rows(lanes: Any, *shown: tuple[Any, Any]) -> list[list[str]]:
    """A row for each lane of all numbers that it has, with their errors where there are some."""
    size = np.size(lanes)
    rows: list[list[str]] = [[] for _ in range(size)]
    for values, errors in shown:
        flat = np.reshape(values, (size, -1))
        off = np.full(flat.shape, np.nan) if errors is None else np.reshape(errors, flat.shape)
        for row, value, error in zip(rows, flat, off, strict=True):
            row += [with_its_error(v, e) for v, e in zip(value, error, strict=True)]
    return rows


def _count(array: Any, what: str) -> str:
    many = " x ".join(str(n) for n in np.shape(array))
    return f"{many} {what}" if np.size(array) == 1 else f"{many} {what}s"


def _table(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    status: Sequence[str],
    notes: Sequence[str] = (),
) -> str:
    missing = sum("—" in row for row in rows)
    if missing:
        title += f", {missing} of them with something missing"
    title = "\n".join([title, *notes])
    told = [["Status"], *([s] for s in status)] if any(status) else [[]] * (1 + len(rows))
    body = [[str(i), *row, *why] for i, (row, why) in enumerate(zip(rows, told[1:], strict=True))]
    text = study_text(title, ["", *head, *told[0]], body[:_SHOWN])
    return text if len(rows) <= _SHOWN else f"{text}\nand {len(rows) - _SHOWN} more"


def _statuses(status: Any) -> list[str]:
    kinds = [Status(int(s)) for s in np.ravel(status)]
    return ["" if kind == Status.VALID else kind.phrase.lower() for kind in kinds]


def _limit_status(row: Any) -> str:
    """What kept limits of one lane from being found, each reason once."""
    kinds = dict.fromkeys(LimitStatus(int(s)) for s in row)
    return ", ".join(words(kind) for kind in kinds if kind != LimitStatus.FOUND)
