"""Tests of hypotheses and limits as tables."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._display_studies import study_text, with_error
from .._status import Status
from .asymptotic import Errors
from .formulas import BANDS, significance_error
from .limit_status import LimitStatus

if TYPE_CHECKING:
    from .._result import FitResult
    from .discovery import Discovery
    from .hypotest import HypoTest
    from .interval import Interval
    from .limit import UpperLimit
    from .look_elsewhere import LookElsewhere
    from .toys import ToyTest
    from .weights import Scales


def hypotest_text(test: "HypoTest") -> str:
    """The p-values, and the band that is expected of them."""
    at = ", ".join(f"{v:.6g}" for v in np.asarray(test.value).tolist())
    kind = "p-value" if np.isnan(test.cls) and bool(test.valid) else "CLs"
    expected = test.expected_p_sb if kind == "p-value" else test.expected_cls
    observed = test.p_sb if kind == "p-value" else test.cls
    errors = dict.fromkeys(Errors._fields) if test.errors is None else test.errors._asdict()
    told = with_its_error(observed, errors["p_sb" if kind == "p-value" else "cls"])
    rows = [["Observed", told]]
    if not np.all(np.isnan(expected)):
        off = errors["expected_p_sb" if kind == "p-value" else "expected_cls"]
        each = zip(BANDS, np.asarray(expected), [None] * 5 if off is None else np.asarray(off), strict=True)
        rows += [[band(n), with_its_error(x, e)] for n, x, e in each]
    p_sb, p_b = with_its_error(test.p_sb, errors["p_sb"]), with_its_error(test.p_b, errors["p_b"])
    other = ", ".join(f"{v:.6g}" for v in np.asarray(test.alternative).tolist())
    title = f"{test.name} = {at} against {other}: {_status(test.status)}p(s+b) = {p_sb}, p(b) = {p_b}"
    lines = [title, *_reason(test.fits.free), *_toys(test.toys), *said(test.scales)]
    if kind == "CLs" and float(test.statistic) == 0 and test.best[0] > test.value[0]:
        lines.append(f"The fitted {test.name}, {number(test.best[0])}, is above {at}, so nothing speaks against it")
    return study_text("\n".join(lines), ["", kind], rows)


def discovery_text(found: "Discovery") -> str:
    significance = with_its_error(found.significance, found.significance_error)
    rows = [["Significance", significance, number(found.expected_significance)]]
    p_value = with_its_error(found.p_value, found.p_value_error)
    off = None if found.expected_p_value_error is None else found.expected_p_value_error[2]
    rows += [["p-value", p_value, with_its_error(np.asarray(found.expected_p_value)[2], off)]]
    best = number(found.best if bool(found.fits.free.valid) else np.nan)
    title = f"{found.name} = {float(found.fits.tested[0]):.6g}: {_status(found.status)}fitted {best}"
    lines = [title, *_reason(found.fits.free), *_toys(found.toys), *said(found.scales)]
    if found.toys is not None and float(found.p_value) == 0:
        lines.append("No toy is as extreme as the data: take more, or mx.Toys(n, key, importance=True)")
    head = ["", "Observed", f"Expected ({found.name} = {float(found.alternative):.6g})"]
    return study_text("\n".join(lines), head, rows)


def limit_text(limit: "UpperLimit") -> str:
    def cell(value: Any, status: Any, error: Any) -> str:
        kind = LimitStatus(int(status))
        return with_its_error(value, error) if kind == LimitStatus.FOUND else f"— ({words(kind)})"

    rows = [["Observed", cell(limit.observed, limit.status, limit.error)]]
    errors = [None] * 5 if limit.expected_error is None else np.asarray(limit.expected_error)
    each = zip(BANDS, np.asarray(limit.expected), np.asarray(limit.expected_status), errors, strict=True)
    rows += [[band(n), cell(x, s, e)] for n, x, s, e in each]
    how = "CLs" if limit.cls else "CLs+b"
    title = f"Upper limit on {limit.name} at {100 * limit.cl:.4g} % ({how})"
    lines = [title, *_reason(limit.free)]
    if len(lines) == 1 and limit.asimov is not None:
        lines += _reason(limit.asimov, "The fit of the Asimov data")
    lines += said(limit.scales)
    lines += beyond(limit)
    return study_text("\n".join(lines), ["", "Limit"], rows)


def beyond(limit: "UpperLimit") -> list[str]:
    """Which bound is to be raised where a limit, of one lane or many, is beyond it."""
    kinds = [limit.status, *np.moveaxis(np.asarray(limit.expected_status), -1, 0)]
    where = np.any(np.stack([np.asarray(kind) == int(LimitStatus.BEYOND_BOUND) for kind in kinds]), axis=0)
    if not np.any(where):
        return []
    upper = np.asarray(limit.free.upper)[..., limit.free.names.index(limit.name)]
    bounds = np.unique(np.broadcast_to(upper, where.shape)[where])
    at = f"{bounds[0]:.6g}" if bounds.size == 1 else f"{bounds[0]:.6g} to {bounds[-1]:.6g}"
    return [
        f"Beyond the upper bound of {limit.name}, {at}: raise it (upper= of its Parameter, or its bounds in the file)"
    ]


def interval_text(found: "Interval") -> str:
    rows = []
    for name, value, status, error in (
        ("Lower end", found.lower, found.lower_status, found.lower_error),
        ("Upper end", found.upper, found.upper_status, found.upper_error),
    ):
        kind = LimitStatus(int(status))
        told = with_its_error(value, error)
        rows.append([name, told if kind == LimitStatus.FOUND else f"{told} ({words(kind)})"])
    kind = {"central": "Central", "feldman-cousins": "Feldman-Cousins"}[found.kind]
    best = number(found.best if bool(found.free.valid) else np.nan)
    title = f"{kind} interval of {found.name} at {100 * found.cl:.4g} %: fitted {best}"
    return study_text("\n".join([title, *_reason(found.free), *said(found.scales)]), ["", "Value"], rows)


def look_elsewhere_text(found: "LookElsewhere") -> str:
    """The largest excess: its significance where it is, and anywhere."""
    rows = [["Local", f"{float(found.local_p_value):.4g}", number(found.local_significance)]]
    for name, p, error, z in (
        ("Global", found.p_value, found.p_value_error, found.significance),
        ("Global, by toys", found.toy_p_value, found.toy_p_value_error, found.toy_significance),
    ):
        off = float(significance_error(jnp.asarray(z), jnp.asarray(error)))
        rows.append([name, with_its_error(p, error), with_its_error(z, off)])
    crossings = with_its_error(found.crossings, found.crossings_error)
    title = (
        f"Largest excess of {found.name} at {found.where} = {float(found.at):.6g}; "
        f"{crossings} up-crossings of q = {found.level:.4g}"
    )
    lines = [title]
    if found.failed:
        lines.append(f"{found.failed} of {found.total} toys failed and are left out")
    return study_text("\n".join(lines), ["", "p-value", "Significance"], rows)


def _reason(free: "FitResult", what: str = "The fit") -> list[str]:
    """What is wrong with the fit that all rests on."""
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


def _toys(test: "ToyTest | None") -> list[str]:
    if test is None:
        return []
    if test.tested.values.shape[0] > 1:
        return [f"By {test.tested.told()}, weighted"]
    return [f"By {test.tested.told()}; of the alternative {test.alternative.told()}"]


def _status(status: Any) -> str:
    kind = Status(int(status))
    return "" if kind == Status.VALID else f"not valid ({kind.phrase.lower()}); "


def said(scales: "Scales") -> list[str]:
    """A line below the title of a table."""
    if not scales:
        return []
    each = ", ".join((f"{name!r}: " if name else "") + number(value) for name, value in scales.items())
    return [f"Weighted events count by their effective number: the likelihood is scaled by Σw/Σw² ({each})"]
