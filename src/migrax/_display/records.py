"""Plain records of a fit and the contents of their cells, shared by text and HTML."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, SupportsFloat

import numpy as np
from numpy.typing import ArrayLike

from .rounding import fits, pdg_round

# Matrices with more parameters are shown in part; as text they must fit into a terminal, too.
MAX_MATRIX = 30

# Maximum number of characters of a covariance.
_LONG = 12

# Estimated relative accuracy of the errors from which on a warning is shown.
_COARSE = 1e-2

# Maximum number of constants shown beside the parameters.
_MAX_CONSTANTS = 8
BATCH_COLUMNS = ("Mean", "Std. dev.", "Mean error", "At a limit")


class Row(NamedTuple):
    """One parameter of a fit. `error` is `None` if it is not known; the MINOS errors are signed (lower, upper)."""

    name: str
    value: float
    error: float | None
    minos: tuple[float, float] | None
    lower: float | None
    upper: float | None
    fixed: bool
    at_limit: bool


class Minimum(NamedTuple):
    """The outcome of a fit.

    `status` is a short phrase, `message` one or two sentences that are shown if the fit is not valid. `covariance` is
    `"exact"`, `"elsewhere"` (positive definite, but not at a minimum), `"not positive definite"` or `"not computed"`.
    """

    algorithm: str
    nll: float
    chi2_ndof: float | None
    edm: float
    edm_goal: float
    valid: bool
    status: str
    message: str
    at_limit: bool
    at_call_limit: bool
    edm_above: bool
    num_values: int
    num_gradients: int
    num_hessians: int
    covariance: str
    chi2: float | None = None  # if it differs from the FCN
    accuracy: float | None = None  # relative accuracy of the errors, if they are not from all exact second derivatives
    some: bool = False  # the errors are those of some parameters


class Batch(NamedTuple):
    """A summary of many fits. `statuses` holds (phrase, number of fits); `rows` holds, over the valid fits, (name, mean
    of the values, their standard deviation, mean of the errors that are not 0, number of fits at a limit)."""

    size: int
    valid: int
    statuses: list[tuple[str, int]]
    rows: list[tuple[str, float, float, float, int]]


def verdicts(minimum: Minimum) -> list[tuple[str, str]]:
    """Returns the six cells of the box that grade the fit: their text, and `"good"`, `"warn"` or `"bad"`.

    **Raises:** `ValueError` for an unknown `minimum.covariance`.
    """

    def choose(is_bad: bool, good: str, otherwise: str, grade: str = "bad") -> tuple[str, str]:
        return (otherwise, grade) if is_bad else (good, "good")

    match minimum.covariance:
        case "exact" if minimum.accuracy is not None:
            is_coarse = not minimum.accuracy < _COARSE
            kind = "Hesse of some" if minimum.some else "Hesse by differences"
            hesse = [(kind, "good"), choose(is_coarse, *_to(minimum.accuracy), "warn")]
        case "exact":
            hesse = [("Hesse ok", "good"), ("Covariance accurate", "good")]
        case "not positive definite":
            hesse = [("Hesse FAILED", "bad"), ("Covariance NOT pos. def.", "bad")]
        case "elsewhere":
            hesse = [("Hesse ok", "good"), ("NOT at a minimum", "warn")]
        case "not computed":
            hesse = [("Hesse not run", "warn"), ("NO covariance", "warn")]
        case other:
            raise ValueError(
                f'covariance is "exact", "elsewhere", "not positive definite" or "not computed"; got {other!r}'
            )
    return [
        choose(not minimum.valid, "Valid Minimum", "INVALID Minimum"),
        choose(minimum.edm_above, "Below EDM threshold", "ABOVE EDM threshold"),
        choose(minimum.at_limit, "No parameters at limit", "SOME parameters at limit", "warn"),
        choose(minimum.at_call_limit, "Below call limit", "ABOVE call limit"),
        *hesse,
    ]


def _to(accuracy: float) -> tuple[str, str]:
    """Returns the text for errors with a relative accuracy, if it is good and if it is bad."""
    return f"Errors accurate to {accuracy:.0e}", f"Errors accurate to {accuracy:.0e} ONLY"


def numbers(minimum: Minimum) -> tuple[str, str, str]:
    """Returns the cells of the box that hold numbers: the function value, the EDM, and the calls.

    Counts of zero are left out, except for `Nfcn` if nothing was called.
    """
    value = f"FCN = {minimum.nll:.4g}"
    parts = [] if minimum.chi2 is None else [f"χ² = {minimum.chi2:.4g}"]
    if minimum.chi2_ndof is not None:
        parts.append(f"χ²/ndof = {minimum.chi2_ndof:.1f}")
    if parts:
        value += f" ({', '.join(parts)})"
    edm = f"EDM = {minimum.edm:.3g} (Goal: {minimum.edm_goal:.3g})"
    counts = (("Nfcn", minimum.num_values), ("Ngrad", minimum.num_gradients), ("Nhessian", minimum.num_hessians))
    calls = ", ".join(f"{name} = {count}" for name, count in counts if count)
    return value, edm, calls or "Nfcn = 0"


def trouble(minimum: Minimum) -> str:
    """Returns status and message of a fit that is not valid, in one string; empty for a valid fit."""
    if minimum.valid:
        return ""
    return ". ".join(part for part in (minimum.status.rstrip("."), minimum.message) if part)


def parameter_cells(row: Row) -> list[str]:
    """Returns the cells of a parameter after its name: value, error, MINOS errors, limits, fixed. Empty if unknown."""
    errors = [] if row.error is None else [row.error]
    minos = [] if row.minos is None else list(row.minos)
    value, *rounded = pdg_round(row.value, *errors, *minos)
    error = rounded.pop(0) if errors else ""
    limits = ["" if limit is None else f"{limit:zg}" for limit in (row.lower, row.upper)]
    return [value, error, *(rounded or ["", ""]), *limits, "yes" if row.fixed else ""]


def constants_text(constants: Mapping[str, SupportsFloat]) -> str:
    """Returns the line that lists constants, which look like parameters but do not float; empty if there are none."""
    shown = [f"{name} = {float(value):g}" for name, value in list(constants.items())[:_MAX_CONSTANTS]]
    more = [f"{len(constants) - _MAX_CONSTANTS} more"] if len(constants) > _MAX_CONSTANTS else []
    return f"Constant, as they are no mx.Parameter: {', '.join(shown + more)}" if constants else ""


def checked(names: Sequence[str], matrix: ArrayLike) -> np.ndarray:
    """Returns the matrix as doubles. **Raises:** `ValueError` if its shape is not `(len(names), len(names))`."""
    array = np.asarray(matrix, dtype=float)
    n = len(names)
    if array.shape != (n, n):
        raise ValueError(f"the matrix of {n} parameters has the shape {(n, n)}; got {array.shape}")
    return array


def correlation(matrix: np.ndarray) -> np.ndarray:
    """Returns the correlation matrix: 1 on the diagonal, 0 for a parameter of zero variance, NaN for a negative one."""
    with np.errstate(all="ignore"):
        errors = np.sqrt(np.diagonal(matrix))
        inverse = np.where(errors == 0, 0.0, 1 / errors)
        result = np.where(np.isfinite(matrix), matrix * inverse[:, None] * inverse[None, :], np.nan)
    np.fill_diagonal(result, np.where(np.isfinite(errors), 1.0, np.nan))
    return result


def covariance_cell(matrix: np.ndarray, i: int, j: int) -> str:
    """Returns one entry: a variance has three digits, a covariance those of the smaller of its two variances.

    If that takes more than 12 characters (parameters of very different size), a covariance has three digits, too.
    """
    cell = "" if i == j else pdg_round(matrix[i, j], matrix[i, i], matrix[j, j])[0]
    return cell if 0 < len(cell) <= _LONG else f"{matrix[i, j]:.3g}"


def left_out(total: int, attribute: str, shown: int = MAX_MATRIX) -> str:
    """Returns the note below a matrix that is too large to be shown in full; empty for any other."""
    more = total - shown
    note = f"The first {shown} of {total} parameters, {more} left out: `result.covariance.{attribute}` has them all."
    return note if more > 0 else ""


def batch_cells(batch: Batch) -> list[list[str]]:
    """Returns, for each parameter, the mean, standard deviation, mean error, and number of fits at a limit.

    The error of the mean, `std / sqrt(valid)`, sets the number of digits, so that a bias can be read off.
    """
    cells = []
    for _, mean, std, error, at_limit in batch.rows:
        value, _, *others = pdg_round(mean, std / math.sqrt(batch.valid) if batch.valid else math.nan, std, error)
        cells.append([value, others[0], "" if math.isnan(error) else others[1], str(at_limit) if at_limit else ""])
    return cells


def batch_note(batch: Batch) -> str:
    """Returns the note that says which fits the averages include."""
    note = f"Mean and standard deviation over the {fits(batch.valid, 'valid fit')}."
    if any(row[4] for row in batch.rows):
        note += " The mean error leaves out those on a bound, which have none."
    return note
