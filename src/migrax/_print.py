"""From results to the records that the tables are drawn from. Runs on the host, never in a traced program."""

import textwrap
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np

from . import _display, _display_html, _display_impacts, _display_minos
from ._display_minos import Sides
from ._faults import Fault
from ._parameter import bounds_of, constants, flatten, is_concrete, value_of
from ._result import Covariance, FitResult, status_counts
from ._search import Side
from ._solve import GOAL
from ._status import Status

if TYPE_CHECKING:
    from ._contour import Contour
    from ._goodness import GoodnessOfFit
    from ._impacts import Impacts
    from ._minos import Minos
    from ._profile import Profile

_SHARE = 0.1  # of a direction's length that a parameter must have to be named


def message(result: FitResult) -> str:
    """The sentence of a status, with what is to blame."""
    if not is_concrete(result.status):
        raise TypeError(
            "message is text, which cannot come out of jit, vmap or grad: return the result, and ask it then"
        )
    if np.ndim(result.status) != 0:
        raise ValueError("message is of one fit; take a lane first: jax.tree.map(lambda x: x[0], results).message")
    status = Status(int(result.status))
    text = status.message
    if status in (Status.FLAT_DIRECTION, Status.NOT_POSITIVE_DEFINITE, Status.FALLS_WITHOUT_LIMIT):
        text = f"Along {_direction(result)}: {text[0].lower()}{text[1:]}"
    entry, fault = (int(i) for i in np.asarray(result.bad_data))
    if status in (Status.NOT_FINITE, Status.NOT_FINITE_AT_START) and entry >= 0:
        where = locate(entry, result.data_paths, of_events=fault == Fault.NO_DENSITY)
        text = f"{Fault(fault).sentence(where)} {text}"
    if status in (Status.NOT_FINITE, Status.NOT_FINITE_AT_START) and result.blame.text:
        text = f"{result.blame.text} {text}"
    return text


def _direction(result: FitResult) -> str:
    """Which parameters a direction is made of, the largest part first."""
    parts = np.asarray(result.direction)
    size = np.abs(parts)
    order = [int(i) for i in np.argsort(-size, kind="stable") if size[i] > _SHARE * size.max()]
    shown = ", ".join(result.names[i] for i in order[:6])
    if len(order) > 6:
        return f"a direction made of {shown} and {len(order) - 6} more"
    return shown if len(order) == 1 else f"a direction made of {shown} together"


def locate(flat_index: int, paths: tuple[tuple[str, tuple[int, ...]], ...], of_events: bool = False) -> str:
    """The words for an entry of the data, counted over all of its arrays: `data['y'][3]`; `of_events`: for its row."""
    for path, shape in paths:
        size = int(np.prod(shape, dtype=int))
        if flat_index < size:
            index = np.unravel_index(flat_index, shape)[: 1 if of_events else None]
            return f"data{path}" + (f"[{', '.join(map(str, index))}]" if shape else "")
        flat_index -= size
    return "data"


def minimum_record(result: FitResult) -> _display.Minimum:
    """What the box of a fit shows."""
    status = Status(int(result.status))
    edm, goal = float(result.edm), GOAL * 2 * float(result.up)
    chi2 = None if result.chi2 is None or _is_scaled(result) else float(result.chi2)
    covariance = "not computed"
    if result.covariance is not None:
        at = "exact" if bool(result.valid) else "elsewhere"
        covariance = at if bool(result.covariance.valid) else "not positive definite"
    return _display.Minimum(
        algorithm=result.algorithm,
        nll=float(result.nll),
        chi2_ndof=chi2 / int(result.ndof) if chi2 is not None and result.ndof is not None and result.ndof > 0 else None,
        edm=edm,
        edm_goal=goal,
        valid=bool(result.valid),
        status=status.phrase,
        message=message(result),
        at_limit=bool(np.any(result.at_limit)),
        at_call_limit=status is Status.MAX_STEPS,
        edm_above=not edm <= goal,
        num_values=int(result.stats["num_values"]),
        num_gradients=int(result.stats["num_gradients"]),
        num_hessians=int(result.stats["num_hessians"]),
        covariance=covariance,
        chi2=chi2,
        accuracy=None if result.covariance is None else _number(result.covariance.accuracy),
    )


def _number(x: Any) -> float | None:
    return None if x is None else float(x)


def _rows(result: FitResult) -> list[_display.Row]:
    """All parameters of the tree, the fixed ones too, in its order."""
    leaves, slots, _ = flatten(result.params)
    rows, position = [], 0
    for slot in slots:
        leaf = leaves[slot.leaf]
        values = np.ravel(np.asarray(value_of(leaf)))
        low, high = ({} if b is None else _bounds(b, slot.shape) for b in bounds_of(leaf))
        for i, name in enumerate(slot.element_names()):
            error, at_limit, minos = None, False, None
            if slot.free[i]:
                at_limit = bool(result.at_limit[position])
                error = float(result.errors[position])
                error = None if np.isnan(error) else error
                minos = _minos_of(result, position)
                position += 1
            rows.append(
                _display.Row(name, float(values[i]), error, minos, low.get(i), high.get(i), not slot.free[i], at_limit)
            )
    return rows


def _is_scaled(result: FitResult) -> bool:
    return result.covariance is not None and result.covariance.kind == "scaled"


def scale_line(result: FitResult) -> str:
    """Below a table of parameters, where their errors come from if not from those of the points; else empty."""
    if not _is_scaled(result):
        return ""
    if int(np.asarray(result.ndof)) < 1:
        return "The errors of the points are unknown, and no degree of freedom is left to take them from scatter."
    scale = float(np.sqrt(2 * np.asarray(result.up)))
    return (
        f"Errors from the scatter: those of the points times sqrt(χ²/ndof) = {scale:.4g} "
        "(1 for points without errors). χ² says nothing about the fit."
    )


def kinks_line(result: FitResult) -> str:
    """Below a table of parameters, those on a kink; empty if there are none."""
    names = [name for name, on in zip(result.names, np.asarray(result.on_kink), strict=True) if on]
    return f"On a kink (the slope jumps there; MINOS gives each side's error): {', '.join(names)}" if names else ""


def constants_line(params: Any) -> str:
    """Below a table of parameters, the numbers that do not float, without being fixed; empty if there are none."""
    found = constants(params).items()
    numbers = {k: x for k, x in found if eqx.is_inexact_array_like(x) and np.ndim(x) == 0 and not np.iscomplexobj(x)}
    return _display.constants_text(numbers)


def constants_lines(params: Any) -> list[str]:
    """The same, in lines of text."""
    return textwrap.wrap(constants_line(params), 100, break_long_words=False)


def _kind(result: FitResult) -> str:
    return "Hesse" if result.covariance is None else result.covariance.kind.capitalize()


def _minos_of(result: FitResult, position: int) -> tuple[float, float] | None:
    if result.minos is None:
        return None
    lower, upper = (float(np.asarray(side)[position]) for side in result.minos)
    return None if np.isnan(lower) and np.isnan(upper) else (lower, upper)


def _bounds(bound: Any, shape: tuple[int, ...]) -> dict[int, float]:
    if bound is None:
        return {}
    spread = np.ravel(np.broadcast_to(np.asarray(bound), shape))
    return {i: float(b) for i, b in enumerate(spread) if np.isfinite(b)}


def _batch(result: FitResult) -> _display.Batch:
    valid = np.ravel(np.asarray(result.valid))
    n = len(result.names)
    arrays = (result.values, result.errors, result.at_limit)
    values, errors, at_limit = (np.reshape(np.asarray(a), (-1, n))[valid] for a in arrays)
    rows = []
    for i, name in enumerate(result.names):
        if values.shape[0]:
            spread = float(np.std(values[:, i], ddof=1)) if values.shape[0] > 1 else float("nan")
            known = errors[errors[:, i] > 0, i]  # one at a limit has none
            error = float(np.mean(known)) if known.size else float("nan")
            rows.append((name, float(np.mean(values[:, i])), spread, error, int(np.sum(at_limit[:, i]))))
    return _display.Batch(valid.size, int(valid.sum()), status_counts(result.status), rows)


def _is_traced(tree: Any) -> bool:
    return not is_concrete(*jax.tree.leaves(tree))


def result_text(result: FitResult) -> str:
    if _is_traced(result):
        return f"FitResult(traced, names={result.names})"
    if np.ndim(result.nll):
        return _display.batch_text(_batch(result))
    parts = [_display.minimum_text(minimum_record(result)), _display.parameters_text(_rows(result), _kind(result))]
    parts += constants_lines(result.params)
    for line in (scale_line(result), kinks_line(result)):
        parts += textwrap.wrap(line, 100)
    if result.covariance is not None and bool(result.covariance.valid):
        parts.append(_display.correlation_text(result.names, np.asarray(result.covariance.matrix)))
    return "\n".join(parts)


def result_html(result: FitResult) -> str:
    if _is_traced(result):
        return f"<pre>FitResult(traced, names={result.names})</pre>"
    if np.ndim(result.nll):
        return _display_html.batch_html(_batch(result))
    lines = [constants_line(result.params), scale_line(result), kinks_line(result)]
    parts = [
        _display_html.minimum_html(minimum_record(result)),
        _display_html.parameters_html(_rows(result), _kind(result)),
        *(_display_html.paragraph(line) for line in lines if line),
    ]
    if result.covariance is not None and bool(result.covariance.valid):
        parts.append(_display_html.matrix_html(result.names, np.asarray(result.covariance.matrix)))
    return "\n".join(parts)


def _sides(minos: "Minos") -> list[Sides]:
    flags = np.stack([np.asarray(minos.lower_status), np.asarray(minos.upper_status)], axis=1)
    errors = np.stack([np.asarray(minos.lower), np.asarray(minos.upper)], axis=1)

    def pair(values: Any) -> tuple[bool, bool]:
        return bool(values[0]), bool(values[1])

    return [
        Sides(
            name,
            (float(e[0]), float(e[1])),
            pair(f <= int(Side.AT_LIMIT)),
            pair(f == int(Side.AT_LIMIT)),
            pair(f == int(Side.FAILED)),
            pair(f == int(Side.NEW_MINIMUM)),
        )
        for name, e, f in zip(minos.names, errors, flags, strict=True)
    ]


def minos_text(minos: "Minos") -> str:
    if _is_traced(minos):
        return f"Minos(traced, names={minos.names})"
    if np.ndim(minos.lower) != 1:
        good = int(np.sum(np.asarray(minos.valid)))
        share = _display.share(good, np.size(minos.valid))
        return f"Minos(names={minos.names}, shape={np.shape(minos.lower)}, valid={share})"
    return _display_minos.minos_text(_sides(minos))


def minos_html(minos: "Minos") -> str:
    if _is_traced(minos) or np.ndim(minos.lower) != 1:
        return f"<pre>{minos_text(minos)}</pre>"
    return _display_minos.minos_html(_sides(minos))


def profile_text(profile: "Profile") -> str:
    shape = np.shape(profile.nll)
    along = " and ".join(profile.names)
    if _is_traced(profile):
        return f"Profile(traced, along {along}, shape={shape})"
    good = int(np.sum(np.asarray(profile.valid)))
    counts = ", ".join(f"{count} {phrase}" for phrase, count in status_counts(profile.status))
    return f"Profile(along {along}, shape={shape}, valid={_display.share(good, np.size(profile.status))}: {counts})"


def contour_text(contour: "Contour") -> str:
    shape = np.shape(contour.status)
    along = " and ".join(contour.names)
    if _is_traced(contour):
        return f"Contour(traced, of {along}, shape={shape})"
    status = np.asarray(contour.status)
    counts = ((side.name.lower().replace("_", " "), int(np.sum(status == int(side)))) for side in Side)
    words = ", ".join(f"{count} {phrase}" for phrase, count in counts if count)
    good = _display.share(int(np.sum(np.asarray(contour.valid))), status.size)
    return f"Contour(of {along}, shape={shape}, valid={good}: {words})"


def _impacts(impacts: "Impacts") -> list[_display_impacts.Impact]:
    columns = (
        impacts.pulls, impacts.constraints, impacts.postfit_down, impacts.postfit_up, impacts.prefit_down,
        impacts.prefit_up, impacts.linear,
    )  # fmt: skip
    rows = np.stack([np.asarray(column, float) for column in columns], axis=1).tolist()
    failed = ~np.asarray(impacts.valid)
    return [
        _display_impacts.Impact(name, row[0], row[1], (row[2], row[3]), (row[4], row[5]), row[6], bool(bad))
        for name, row, bad in zip(impacts.names, rows, failed, strict=True)
    ]


def impacts_text(impacts: "Impacts") -> str:
    if _is_traced(impacts):
        return f"Impacts(traced, on {impacts.poi}, of {len(impacts.names)} parameters)"
    if np.ndim(impacts.linear) != 1:
        good = _display.share(int(np.sum(np.asarray(impacts.valid))), np.size(impacts.valid))
        return f"Impacts(on {impacts.poi}, shape={np.shape(impacts.linear)}, valid={good})"
    return _display_impacts.impacts_text(_impacts(impacts), impacts.poi)


def impacts_html(impacts: "Impacts") -> str:
    if _is_traced(impacts) or np.ndim(impacts.linear) != 1:
        return f"<pre>{impacts_text(impacts)}</pre>"
    return _display_impacts.impacts_html(_impacts(impacts), impacts.poi)


def goodness_text(goodness: "GoodnessOfFit") -> str:
    """One line."""
    if _is_traced(goodness) or np.ndim(goodness.chi2) != 0:
        return f"GoodnessOfFit(shape={np.shape(goodness.chi2)})"
    chi2, ndof, p = float(goodness.chi2), int(goodness.ndof), float(goodness.p_value)
    if goodness.toys is None:
        return f"χ² = {chi2:.5g}, ndof = {ndof}, p = {p:.4g}"
    failed = int(goodness.num_failed)
    from_toys = f"{goodness.toys.size - failed} toys" + (f", {failed} more failed" if failed else "")
    if p == 0:  # 95 % of the time at least one of 3/p toys is worse
        return (
            f"χ² = {chi2:.5g}, ndof = {ndof}, p < {3 / max(goodness.toys.size - failed, 1):.2g} (none of {from_toys})"
        )
    return f"χ² = {chi2:.5g}, ndof = {ndof}, p = {p:.4g} ± {float(goodness.p_value_error):.2g} ({from_toys})"


def covariance_text(covariance: Covariance) -> str:
    if _is_traced(covariance) or np.ndim(covariance.valid):
        return f"Covariance(shape={np.shape(covariance.matrix)}, names={covariance.names})"
    if not bool(covariance.valid):
        return "Covariance: not valid, the second derivatives are not positive definite or not finite"
    return _display.matrix_text(covariance.names, np.asarray(covariance.matrix))


def covariance_html(covariance: Covariance) -> str:
    if _is_traced(covariance) or np.ndim(covariance.valid) or not bool(covariance.valid):
        return f"<pre>{covariance_text(covariance)}</pre>"
    return _display_html.matrix_html(covariance.names, np.asarray(covariance.matrix))
