"""What a fit shows, as plain records and the words of their cells: what text and HTML have in common."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, SupportsFloat

import numpy as np
from numpy.typing import ArrayLike

from .rounding import fits, pdg_round

# A matrix with more parameters than this is shown in part; as text it must fit into a terminal, too.
MAX_MATRIX = 30

# A covariance is not shown with more characters than this.
_LONG = 12

# An estimated relative accuracy of the errors from which on they are warned of.
_COARSE = 1e-2

# Constants beside the parameters, of which no more are shown.
_MAX_CONSTANTS = 8
BATCH_COLUMNS = ("Mean", "Std. dev.", "Mean error", "At a limit")


class Row(NamedTuple):
    """One parameter of a fit. `error` is `None` where it is not known, the MINOS errors are signed (lower, upper)."""

    name: str
    value: float
    error: float | None
    minos: tuple[float, float] | None
    lower: float | None
    upper: float | None
    fixed: bool
    at_limit: bool


class Minimum(NamedTuple):
    """How a fit ended.

    `status` is a short phrase, `message` one or two sentences that are shown when the fit is not valid.
    `covariance` is `"exact"`, `"elsewhere"` (positive definite, but this is no minimum), `"not positive definite"` or
    `"not computed"`.
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
    chi2: float | None = None  # where it is not the FCN itself
    accuracy: float | None = None  # of the errors, relative, where the second derivatives are differences


class Batch(NamedTuple):
    """Many fits at once. `statuses` holds (phrase, how many fits); `rows` holds, over the valid fits, (name, mean of
    the values, their standard deviation, mean of the errors that are not 0, how many are at a limit)."""

    size: int
    valid: int
    statuses: list[tuple[str, int]]
    rows: list[tuple[str, float, float, float, int]]


def verdicts(minimum: Minimum) -> list[tuple[str, str]]:
    """The six cells of the box that say whether the fit can be trusted: words, and `"good"`, `"warn"` or `"bad"`.

    **Raises:** `ValueError` if `minimum.covariance` is none of these words.
    """

    def choose(bad: bool, good: str, otherwise: str, grade: str = "bad") -> tuple[str, str]:
        return (otherwise, grade) if bad else (good, "good")

    match minimum.covariance:
        case "exact" if minimum.accuracy is not None:
            coarse = not minimum.accuracy < _COARSE
            hesse = [("Hesse by differences", "good"), choose(coarse, *_to(minimum.accuracy), "warn")]
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
    """A covariance whose errors are good to a relative accuracy; the same where that is bad."""
    return f"Errors accurate to {accuracy:.0e}", f"Errors accurate to {accuracy:.0e} ONLY"


def numbers(minimum: Minimum) -> tuple[str, str, str]:
    """The cells of the box with numbers in them: the function, the EDM, and the calls.

    A count of zero is left out, but for `Nfcn` when nothing was called.
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
    """What a fit that is not valid has to say, in one string; empty for a valid fit."""
    if minimum.valid:
        return ""
    return ". ".join(part for part in (minimum.status.rstrip("."), minimum.message) if part)


def parameter_cells(row: Row) -> list[str]:
    """The cells of a parameter after its name: value, error, MINOS errors, limits, fixed. Empty where unknown."""
    errors = [] if row.error is None else [row.error]
    minos = [] if row.minos is None else list(row.minos)
    value, *rounded = pdg_round(row.value, *errors, *minos)
    error = rounded.pop(0) if errors else ""
    limits = ["" if limit is None else f"{limit:zg}" for limit in (row.lower, row.upper)]
    return [value, error, *(rounded or ["", ""]), *limits, "yes" if row.fixed else ""]


def constants_text(constants: Mapping[str, SupportsFloat]) -> str:
    """The line that names what looks like a parameter and does not float; empty if there is nothing."""
    shown = [f"{name} = {float(value):g}" for name, value in list(constants.items())[:_MAX_CONSTANTS]]
    more = [f"{len(constants) - _MAX_CONSTANTS} more"] if len(constants) > _MAX_CONSTANTS else []
    return f"Constant, as they are no mx.Parameter: {', '.join(shown + more)}" if constants else ""


def checked(names: Sequence[str], matrix: ArrayLike) -> np.ndarray:
    """The matrix as doubles. **Raises:** `ValueError` if its shape is not `(len(names), len(names))`."""
    array = np.asarray(matrix, dtype=float)
    n = len(names)
    if array.shape != (n, n):
        raise ValueError(f"the matrix of {n} parameters has the shape {(n, n)}; got {array.shape}")
    return array


def correlation(matrix: np.ndarray) -> np.ndarray:
    """The correlation matrix: 1 on the diagonal, 0 beside a parameter without a variance, NaN beside a negative one."""
    with np.errstate(all="ignore"):
        errors = np.sqrt(np.diagonal(matrix))
        inverse = np.where(errors == 0, 0.0, 1 / errors)
        result = np.where(np.isfinite(matrix), matrix * inverse[:, None] * inverse[None, :], np.nan)
    np.fill_diagonal(result, np.where(np.isfinite(errors), 1.0, np.nan))
    return result


def covariance_cell(matrix: np.ndarray, i: int, j: int) -> str:
    """One entry: a variance has three digits, a covariance those of the smaller of its two variances.

    Where that takes more than 12 characters (parameters of very different size), a covariance has three digits too.
    """
    cell = "" if i == j else pdg_round(matrix[i, j], matrix[i, i], matrix[j, j])[0]
    return cell if 0 < len(cell) <= _LONG else f"{matrix[i, j]:.3g}"


def left_out(total: int, attribute: str, shown: int = MAX_MATRIX) -> str:
    """What is said below a matrix that is too large to be shown; empty for one that is not."""
    more = total - shown
    note = f"The first {shown} of {total} parameters, {more} left out: `result.covariance.{attribute}` has them all."
    return note if more > 0 else ""


def batch_cells(batch: Batch) -> list[list[str]]:
    """For each parameter: mean, standard deviation, mean error, and how many fits have it at a limit.

    The error of the mean, `std / sqrt(valid)`, gives the digits, so that a bias can be read off.
    """
    cells = []
    for _, mean, std, error, at_limit in batch.rows:
        value, _, *others = pdg_round(mean, std / math.sqrt(batch.valid) if batch.valid else math.nan, std, error)
        cells.append([value, others[0], "" if math.isnan(error) else others[1], str(at_limit) if at_limit else ""])
    return cells


def batch_note(batch: Batch) -> str:
    """What the averages are taken over."""
    note = f"Mean and standard deviation over the {fits(batch.valid, 'valid fit')}."
    if any(row[4] for row in batch.rows):
        note += " The mean error leaves out those on a bound, which have none."
    return note
