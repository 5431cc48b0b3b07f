"""What a fit shows as text: the box, the parameter table and the matrices in the manner of iminuit.

Plain records come in and strings go out: nothing here knows of JAX or of `FitResult`.
"""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import NamedTuple, SupportsFloat

import numpy as np
from numpy.typing import ArrayLike

# A matrix with more parameters than this is shown in part; as text it must fit into a terminal, too.
MAX_MATRIX = 30
_MAX_TEXT = 120

# More digits than this are not in a double.
_MAX_DIGITS = 17

# A covariance is not shown with more characters than this.
_LONG = 12

# An estimated relative accuracy of the errors from which on they are warned of.
_COARSE = 1e-2

# Constants beside the parameters, of which no more are shown.
_MAX_CONSTANTS = 8

# The geometry of iminuit's box and of its parameter table; a column grows when a cell does not fit.
_BOX = (34, 38)
_COLUMNS = ("Value", "Hesse Err", "Minos Err-", "Minos Err+", "Limit-", "Limit+", "Fixed")
_WIDTHS = (11, 11, 12, 12, 9, 9, 7)
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


def pdg_round(value: float, *errors: float) -> list[str]:
    """Rounds a value and its errors together, by the rule of the Particle Data Group.

    The smallest error that is not zero leads. Of its three leading digits, 100 to 354 keep two digits, 355 to 949
    keep one, and 950 to 999 are rounded up to 1000 and keep two. Every cell is then rounded at the same decimal, has
    the same power of ten, and loses the trailing zeros that all have in common. Without an error that is finite and
    not zero, the value keeps five digits.

    The cells are those of iminuit's tables but for four things:

    - A number is rounded once. iminuit rounds the leading error to three digits first (it prints the equal errors
        0.8503 and 0.8503 as 0.8 and 0.9).
    - No cell reads "-0" or "-0.0": the sign of what is rounded away is no news beside the error.
    - A tie goes to the even digit of the decimal number. iminuit scales in binary first, whose rounding error decides
        (it prints 0.25 ± 1.2 as 0.3, 0.25 ± 0.5 as 0.2).
    - If the cells would need more than 17 digits, which a double does not have, each error is rounded by itself and
        the value is shown in full. iminuit fills them with the digits of a rounding error, or overflows.

    **Arguments:**

    - `value`: any number, infinite and NaN included, which are shown as such.
    - `errors`: any number of them, signed; the sign is kept.

    **Returns:** `1 + len(errors)` cells.

    **Source:** Review of Particle Physics, Phys. Rev. D 98, 030001 (2018), section 5.3.
    """
    numbers = [float(x) for x in (value, *errors)]
    exact = [Decimal(repr(x)) for x in numbers]
    leading = min((abs(x) for x in exact[1:] if x.is_finite() and x), default=None)
    exponent, place = _power_and_place(exact[0], leading)
    top = max((x.adjusted() for x in exact if x.is_finite() and x), default=0)
    if top - place >= _MAX_DIGITS:
        return [repr(numbers[0] + 0.0), *(pdg_round(x, x)[1] for x in numbers[1:])]

    context = Context(prec=_MAX_DIGITS + 5, rounding=ROUND_HALF_EVEN)
    unit = Decimal(1).scaleb(place, context)
    rounded = [x.quantize(unit, context=context) if x.is_finite() else None for x in exact]
    shifted = [None if x is None else x.scaleb(-exponent, context) for x in rounded]
    cells = _strip([None if x is None else f"{x:zf}" for x in shifted], max(exponent - place, 0))
    power = f"e{exponent}" if exponent else ""
    texts = [str(x) if cell is None else cell + power for x, cell in zip(numbers, cells, strict=True)]
    if power and rounded[0] == 0 and "." in texts[0]:
        texts[0] = "0"  # a value that vanishes beside its error, as in iminuit's tables
    return texts


def _power_and_place(value: Decimal, leading: Decimal | None) -> tuple[int, int]:
    """The common power of ten, and the power of ten of the last digit that is kept."""
    has_size = value.is_finite() and bool(value)
    if leading is None:
        exponent = value.adjusted() if has_size else 0
        return exponent, exponent - 4
    digits, power = f"{float(leading):.2e}".split("e")
    place = int(power) - (int(digits.replace(".", "")) <= 354)
    # Powers of a thousand. An error of 0.001 to 99 needs none.
    size = leading.adjusted()
    exponent = 0 if -3 <= size <= 1 else -3 * (-size // 3)
    if has_size:
        exponent = max(exponent, 3 * (value.adjusted() // 3))
    return exponent, place


def _strip(cells: list[str | None], decimals: int) -> list[str | None]:
    """Takes away the trailing zeros that all numbers have in common after the point."""
    present = [cell for cell in cells if cell is not None]
    common = min((len(cell) - len(cell.rstrip("0")) for cell in present), default=0)
    drop = min(common, decimals)
    if drop and drop == decimals:
        drop += 1  # the point too
    return [None if cell is None else cell[: len(cell) - drop] for cell in cells]


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


def minimum_text(minimum: Minimum) -> str:
    """The box that says how a fit ended: 73 characters wide inside, as iminuit's, and wider if a cell needs it.

    It differs from iminuit's in the threshold of the EDM: a valid fit is below the goal itself, not below ten times
    the goal. The message of a fit that is not valid stands below the box.
    """
    value, edm, calls = numbers(minimum)
    cells = [text for text, _ in verdicts(minimum)]
    widths = [max(_BOX[0], len(value) + 2, len(edm) + 2), max(_BOX[1], len(calls) + 2)]
    widths[1] += max(0, len(minimum.algorithm) + 4 - sum(widths))
    lines = [
        *_title(minimum.algorithm, widths),
        _line([f" {value}".ljust(widths[0]), f"{calls:^{widths[1]}}"]),
        _line([f" {edm}".ljust(widths[0]), " " * widths[1]]),
    ]
    for left, right in zip(cells[::2], cells[1::2], strict=True):
        lines += [_rule(widths, "├┼┤"), _line([f"{left:^{widths[0]}}", f"{right:^{widths[1]}}"])]
    lines.append(_rule(widths, "└┴┘"))
    return "\n".join([*lines, *textwrap.wrap(trouble(minimum), sum(widths) + 3, break_long_words=False)])


def parameter_cells(row: Row) -> list[str]:
    """The cells of a parameter after its name: value, error, MINOS errors, limits, fixed. Empty where unknown."""
    errors = [] if row.error is None else [row.error]
    minos = [] if row.minos is None else list(row.minos)
    value, *rounded = pdg_round(row.value, *errors, *minos)
    error = rounded.pop(0) if errors else ""
    limits = ["" if limit is None else f"{limit:zg}" for limit in (row.lower, row.upper)]
    return [value, error, *(rounded or ["", ""]), *limits, "yes" if row.fixed else ""]


def parameters_text(rows: Sequence[Row], kind: str = "Hesse") -> str:
    """The table of the parameters, as iminuit draws it. A line below names the parameters at a limit. `kind` is that of
    the errors."""
    head = ["", "Name", _COLUMNS[0], f"{kind} Err", *_COLUMNS[2:]]
    body = [[str(i), row.name, *parameter_cells(row)] for i, row in enumerate(rows)]
    columns = list(zip(head, *body, strict=True))
    index, name = (max(len(text) for text in column) for column in columns[:2])
    widths = [max(3, index + 1), name + 2]
    widths += [_width(least, column) for least, column in zip(_WIDTHS, columns[2:], strict=True)]
    lines = draw_table(widths, head, body, left=2)
    at_limit = ", ".join(row.name for row in rows if row.at_limit)
    if at_limit:
        lines += textwrap.wrap(f"At a limit: {at_limit}", len(lines[0]), break_long_words=False)
    return "\n".join(lines)


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


def matrix_text(names: Sequence[str], matrix: ArrayLike) -> str:
    """The covariance matrix, shape `(n, n)`, as iminuit draws it.

    Where it is wider than a terminal (120 characters) its columns are headed by numbers, those of the rows; where that
    is still too wide, the first parameters are shown.
    """
    array = checked(names, matrix)
    return _matrix_text(names, lambda i, j: covariance_cell(array, i, j), "matrix")


def correlation_text(names: Sequence[str], matrix: ArrayLike) -> str:
    """The correlations with three decimals, in a table like that of `matrix_text`.

    `matrix` is the covariance, shape `(n, n)`, as for `matrix_text`; a correlation matrix serves too.
    """
    ratio = correlation(checked(names, matrix))
    return _matrix_text(names, lambda i, j: f"{ratio[i, j]:g}" if i == j else f"{ratio[i, j]:z.3f}", "correlation")


def _matrix_text(names: Sequence[str], cell: Callable[[int, int], str], attribute: str) -> str:
    shown = list(names[:MAX_MATRIX])
    cells = [[cell(i, j) for j in range(len(shown))] for i in range(len(shown))]
    longest = max((len(name) for name in shown), default=0)
    first, head = longest, shown
    width = max([longest, *(len(text) for row in cells for text in row)])
    if first + len(shown) * (width + 1) + 6 > _MAX_TEXT:
        head = [str(i) for i in range(len(shown))]
        shown = [f"{name} {i}" for i, name in enumerate(shown)]
        first = max(len(name) for name in shown)
        width = max(len(text) for row in [head, *cells] for text in row)
        fitting = max((_MAX_TEXT - first - 6) // (width + 1), 1)
        head, shown, cells = head[:fitting], shown[:fitting], [row[:fitting] for row in cells[:fitting]]
    widths = [first + 2, max(len(shown) * (width + 1) + 1, 2)]

    def line(name: str, row: Sequence[str]) -> str:
        return _line([f" {name:>{first}} ", "".join(f" {text:>{width}}" for text in row).ljust(widths[1])])

    lines = [_rule(widths, "┌┬┐"), line("", head), _rule(widths, "├┼┤"), *map(line, shown, cells)]
    note = left_out(len(names), attribute, len(shown))
    return "\n".join([*lines, _rule(widths, "└┴┘"), *([note] if note else [])])


def share(count: int, size: int) -> str:
    """`"987 of 1000 (98.7 %)"`; never rounded up to all, nor down to none."""
    if size == 0:
        return "0 of 0"
    percent = 100 * count / size
    if 0 < count < size:
        percent = min(max(percent, 0.1), 99.9)
    return f"{count} of {size} ({percent:.{1 if 0 < count < size else 0}f} %)"


def batch_cells(batch: Batch) -> list[list[str]]:
    """For each parameter: mean, standard deviation, mean error, and how many fits have it at a limit.

    The error of the mean, `std / sqrt(valid)`, gives the digits, so that a bias can be read off.
    """
    cells = []
    for _, mean, std, error, at_limit in batch.rows:
        value, _, *others = pdg_round(mean, std / math.sqrt(batch.valid) if batch.valid else math.nan, std, error)
        cells.append([value, others[0], "" if math.isnan(error) else others[1], str(at_limit) if at_limit else ""])
    return cells


def batch_text(batch: Batch) -> str:
    """A summary of many fits: a box that counts how they ended, and a table over those that are valid."""
    shares = (f"Valid: {share(batch.valid, batch.size)}", f"INVALID: {share(batch.size - batch.valid, batch.size)}")
    digits = max((len(str(count)) for _, count in batch.statuses), default=0)
    entries = [f" {fits(count, width=digits)}: {phrase}" for phrase, count in batch.statuses]
    widths = [max(least, len(text) + 2) for least, text in zip(_BOX, shares, strict=True)]
    widths[1] += max(0, max((len(entry) for entry in entries), default=0) - sum(widths))
    inside = sum(widths) + 1
    box = _line([f"{text:^{width}}" for text, width in zip(shares, widths, strict=True)])
    lines = [*_title(fits(batch.size), widths), box]
    if entries:
        lines += [_rule(widths, "├┴┤"), *(_line([entry.ljust(inside)]) for entry in entries), _rule([inside], "└─┘")]
    else:
        lines.append(_rule(widths, "└┴┘"))
    if batch.rows and batch.valid:
        head = ["Name", *BATCH_COLUMNS]
        body = [[row[0], *cells] for row, cells in zip(batch.rows, batch_cells(batch), strict=True)]
        name, *columns = zip(head, *body, strict=True)
        table = [max(len(text) for text in name) + 2, *(_width(14, column) for column in columns)]
        lines += [*draw_table(table, head, body, left=1), batch_note(batch)]
    return "\n".join(lines)


def fits(count: int, kind: str = "fit", width: int = 0) -> str:
    """`"1 fit"`, `"12 valid fits"`."""
    return f"{count:{width}} {kind}{'' if count == 1 else 's'}"


def batch_note(batch: Batch) -> str:
    """What the averages are taken over."""
    note = f"Mean and standard deviation over the {fits(batch.valid, 'valid fit')}."
    if any(row[4] for row in batch.rows):
        note += " The mean error leaves out those on a bound, which have none."
    return note


def _title(text: str, widths: Sequence[int]) -> list[str]:
    # iminuit's titles stand a little to the left of the middle
    inside = sum(widths) + 1
    return [_rule([inside], "┌─┐"), _line([f"{text:^{inside - 3}}   "]), _rule(widths, "├┬┤")]


def draw_table(widths: Sequence[int], head: list[str], body: list[list[str]], left: int) -> list[str]:
    """The lines of a table: the first `left` columns start at the left, the others are centred."""

    def line(cells: list[str]) -> str:
        pairs = list(zip(cells, widths, strict=True))
        return _line([*(f" {x}".ljust(w) for x, w in pairs[:left]), *(f"{x:^{w}}" for x, w in pairs[left:])])

    return [_rule(widths, "┌┬┐"), line(head), _rule(widths, "├┼┤"), *map(line, body), _rule(widths, "└┴┘")]


def _width(least: int, cells: Sequence[str]) -> int:
    longest = max(len(cell) for cell in cells)
    return least if longest <= least else longest + 2


def _line(cells: Sequence[str]) -> str:
    return "│" + "│".join(cells) + "│"


def _rule(widths: Sequence[int], corners: str) -> str:
    left, cross, right = corners
    return left + cross.join("─" * width for width in widths) + right
