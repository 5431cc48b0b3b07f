"""Cells and lines of the tables of tests, limits and intervals."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .._display.rounding import with_error
from .._fit.result import FitResult
from .._fit.status import Status
from .limit_status import LimitStatus
from .toys import ToyTest
from .weights import Scales


def beyond_bound(name: str, free: FitResult, statuses: Sequence[Any]) -> list[str]:
    """Returns a line that says which bound to raise if a limit, of one lane or many, is beyond it. `free`: the free fit
    to the data."""
    is_beyond = np.any(np.stack([np.asarray(status) == int(LimitStatus.BEYOND_BOUND) for status in statuses]), axis=0)
    if not np.any(is_beyond):
        return []
    upper = np.asarray(free.upper)[..., free.names.index(name)]
    bounds = np.unique(np.broadcast_to(upper, is_beyond.shape)[is_beyond])
    shown = f"{bounds[0]:.6g}" if bounds.size == 1 else f"{bounds[0]:.6g} to {bounds[-1]:.6g}"
    return [f"Beyond the upper bound of {name}, {shown}: raise it (upper= of its Parameter, or its bounds in the file)"]


def reason(free: FitResult, what: str = "The fit") -> list[str]:
    """Returns a line that says why the free fit is not valid, if it is not."""
    return [] if bool(free.valid) else [f"{what} is not valid: {free.message}"]


def words(kind: LimitStatus) -> str:
    return kind.name.lower().replace("_", " ")


def band(n: int) -> str:
    return "Expected" if n == 0 else f"Expected {n:+d} sigma"


def number(x: Any) -> str:
    value = float(jax.device_get(x))
    return "—" if np.isnan(value) else f"{value:.6g}"


def with_its_error(value: Any, error: Any) -> str:
    if error is None or not np.isfinite(error):
        return number(value)
    return with_error(float(value), float(error))


def toys_line(test: ToyTest | None) -> list[str]:
    if test is None:
        return []
    if test.tested.values.shape[0] > 1:
        return [f"By {test.tested.told()}, weighted"]
    return [f"By {test.tested.told()}; of the alternative {test.alternative.told()}"]


def status_words(status: Any) -> str:
    kind = Status(int(status))
    return "" if kind == Status.VALID else f"not valid ({kind.phrase.lower()}); "


def scales_line(scales: Scales) -> list[str]:
    """Returns the line of a table that lists the scale factors of weighted events."""
    if not scales:
        return []
    factors = ", ".join((f"{name!r}: " if name else "") + number(value) for name, value in scales.items())
    return [f"Weighted events count by their effective number: the likelihood is scaled by Σw/Σw² ({factors})"]
