"""What results show as LaTeX: a `tabular` that needs no package. Plain records come in."""

import re
import unicodedata
from collections.abc import Sequence

from numpy.typing import ArrayLike

from .records import BATCH_COLUMNS, Batch, Row, batch_cells, batch_note, checked, covariance_cell
from .rounding import pdg_round

_DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
_SMALL = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lamda mu nu xi pi rho sigma tau upsilon phi chi psi omega"
)
_CAPITAL = "Gamma Delta Theta Lamda Xi Pi Sigma Upsilon Phi Psi Omega"  # the others are those of the Latin alphabet
_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|inf|nan)"
_CELL = re.compile(rf"({_NUMBER})(?: ± ({_NUMBER}))?( %)?( \([a-z ,]+\))?")
_SIGMAS = re.compile(r"([+-]\d) sigma")


def _greek(name: str) -> str:
    return unicodedata.lookup(f"GREEK {'SMALL' if name.islower() else 'CAPITAL'} LETTER {name}")


_ESCAPED = str.maketrans(
    {
        **{c: f"\\{c}" for c in "{}$&#_%"},
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "—": "---",
        "\n": " ",
        **{unicodedata.lookup(f"SUPERSCRIPT {word}"): f"$^{i}$" for i, word in enumerate(_DIGITS)},
        **{unicodedata.lookup(f"SUBSCRIPT {word}"): f"$_{i}$" for i, word in enumerate(_DIGITS)},
        **{_greek(name): f"$\\{name.replace('amda', 'ambda')}$" for name in f"{_SMALL} {_CAPITAL}".split()},
    }
)


def escape(text: str) -> str:
    """Text as LaTeX sets it; Greek letters, superscripts and subscripts too."""
    return text.translate(_ESCAPED)


def tabular(head: Sequence[str], body: Sequence[Sequence[str]], title: str = "") -> str:
    """The lines of a table whose cells are LaTeX; the first column stands at the left."""
    above = [f"% {line}".rstrip() for line in title.splitlines()]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}"
    rows = [_row(head), r"\hline", *map(_row, body)]
    return "\n".join([*above, begin, r"\hline", *rows, r"\hline", r"\end{tabular}"])


def _row(cells: Sequence[str]) -> str:
    # behind a row's \\ a bracket or an asterisk would be an option of it
    guard = "{}" if cells[0][:1] in ("[", "*") else ""
    return f"{guard}{' & '.join(cells)} \\\\"


def cell(text: str) -> str:
    """A cell of a table of text: numbers in math mode, the rest escaped."""
    match = _CELL.fullmatch(text)
    if match is None:
        return _SIGMAS.sub(r"$\1\\sigma$", escape(text))
    value, error, percent, words = match.groups()
    shown = number(value) if error is None else rf"{number(value)} \pm {number(error)}"
    return f"${shown}$" + (r" \%" if percent else "") + escape(words or "")


def number(text: str) -> str:
    """A printed number, as it is in math mode."""
    if text.lstrip("+-") in ("inf", "nan"):
        sign = text[0] if text[0] in "+-" else ""
        return sign + (r"\infty" if text.endswith("inf") else r"\mathrm{nan}")
    digits, _, power = text.partition("e")
    return digits + (rf" \times 10^{{{int(power)}}}" if power else "")


def parameters_latex(rows: Sequence[Row]) -> str:
    """The parameters of a fit with their errors, those of MINOS where there are some, rounded together by the rule of
    the Particle Data Group. Those that are fixed or at a limit say so."""
    body = []
    for row in rows:
        notes = [word for word, holds in (("fixed", row.fixed), ("at limit", row.at_limit)) if holds]
        body.append([escape(row.name), value_cell(row) + "".join(f" ({word})" for word in notes)])
    return tabular(["Name", "Value"], body)


def value_cell(row: Row) -> str:
    """A value with its error: `$1.2 \\pm 0.9$`, or `$1.20^{+0.96}_{-0.88}$` by MINOS."""
    if row.minos is not None:
        value, lower, upper = pdg_round(row.value, *row.minos)
        (value, lower, upper), power = _common([value, lower, upper])
        return _scaled(f"{value}^{{{_signed(upper, '+')}}}_{{{_signed(lower, '-')}}}", power)
    if row.error is None or row.error == 0:
        return f"${number(pdg_round(row.value)[0])}$"
    (value, error), power = _common(pdg_round(row.value, row.error))
    return _scaled(rf"{value} \pm {error}", power)


def _common(cells: list[str]) -> tuple[list[str], str]:
    """The cells without the power of ten that all of them have, and that power."""
    powers = {text.partition("e")[2] for text in cells if not _is_bare(text)}
    if len(powers) == 1 and (power := powers.pop()):
        return [number(text.removesuffix(f"e{power}")) for text in cells], power
    return [number(text) for text in cells], ""


def _is_bare(text: str) -> bool:
    return text in ("0", "nan", "inf", "-inf")


def _signed(text: str, sign: str) -> str:
    """An error with its sign; that of an error of zero is the side's."""
    if "nan" in text:
        return r"\mathrm{n/a}"
    return text if text.startswith("-") else (sign if not text.strip("0.") else "+") + text


def _scaled(shown: str, power: str) -> str:
    return rf"$({shown}) \times 10^{{{int(power)}}}$" if power else f"${shown}$"


def batch_latex(batch: Batch) -> str:
    """Means over many fits."""
    body = [
        [escape(row[0]), *(cell(text) for text in cells)]
        for row, cells in zip(batch.rows, batch_cells(batch), strict=True)
    ]
    return tabular(["Name", *BATCH_COLUMNS], body, batch_note(batch))


def matrix_latex(names: Sequence[str], matrix: ArrayLike) -> str:
    """The covariance matrix, shape `(n, n)`, with the digits that its text has."""
    array = checked(names, matrix)
    n = range(len(names))
    shown = [escape(name) for name in names]
    body = [[shown[i], *(cell(covariance_cell(array, i, j)) for j in n)] for i in n]
    return tabular(["", *shown], body)
