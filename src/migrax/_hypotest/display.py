"""Tests of hypotheses and limits as tables."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._display_studies import study_text
from .._status import Status
from .formulas import BANDS

if TYPE_CHECKING:
    from .hypotest import Discovery, HypoTest
    from .limit import UpperLimit


def hypotest_text(test: "HypoTest") -> str:
    """The p-values, and the band that is expected of them."""
    at = ", ".join(f"{v:.6g}" for v in np.asarray(test.value).tolist())
    kind = "p-value" if np.isnan(test.cls) and bool(test.valid) else "CLs"
    expected = test.expected_p_sb if kind == "p-value" else test.expected_cls
    observed = test.p_sb if kind == "p-value" else test.cls
    rows = [["Observed", _number(observed)]]
    if not np.all(np.isnan(expected)):
        rows += [[_band(n), _number(x)] for n, x in zip(BANDS, np.asarray(expected), strict=True)]
    title = f"{test.name} = {at}: {_status(test.status)}p(s+b) = {_number(test.p_sb)}, p(b) = {_number(test.p_b)}"
    return study_text(title, ["", kind], rows)


def discovery_text(found: "Discovery") -> str:
    rows = [["Significance", _number(found.significance), _number(found.expected_significance)]]
    rows += [["p-value", _number(found.p_value), _number(np.asarray(found.expected_p_value)[2])]]
    title = f"{found.name} = 0: {_status(found.status)}fitted {float(found.best):.6g}"
    return study_text(title, ["", "Observed", "Expected"], rows)


def limit_text(limit: "UpperLimit") -> str:
    from .limit import LimitStatus

    def cell(value: Any, status: Any) -> str:
        kind = LimitStatus(int(status))
        return _number(value) if kind == LimitStatus.FOUND else f"— ({kind.name.lower().replace('_', ' ')})"

    rows = [["Observed", cell(limit.observed, limit.status)]]
    pairs = zip(BANDS, np.asarray(limit.expected), np.asarray(limit.expected_status), strict=True)
    rows += [[_band(n), cell(x, s)] for n, x, s in pairs]
    how = "CLs" if limit.cls else "CLs+b"
    return study_text(f"Upper limit on {limit.name} at {100 * limit.cl:.4g} % ({how})", ["", "Limit"], rows)


def _band(n: int) -> str:
    return "Expected" if n == 0 else f"Expected {n:+d} sigma"


def _number(x: Any) -> str:
    value = float(jax.device_get(x))
    return "—" if np.isnan(value) else f"{value:.6g}"


def _status(status: Any) -> str:
    kind = Status(int(status))
    return "" if kind == Status.VALID else f"not valid ({kind.phrase.lower()}); "
