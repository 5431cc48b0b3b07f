"""The formulas of RooFit in datacards, as expressions of names."""

import re

from ..hs3.expression import Expression, parse

_ROOT = re.compile(r"TMath::([A-Za-z0-9_]+)(\(\s*\))?")
_NAMES = {
    "Abs": "abs", "Exp": "exp", "Log": "log", "Max": "max", "Min": "min", "Power": "pow", "Sqrt": "sqrt", "Sin": "sin",
    "Cos": "cos", "Tan": "tan", "ASin": "asin", "ACos": "acos", "ATan": "atan",
}  # fmt: skip


def formula(text: str, names: tuple[str, ...]) -> Expression:
    """A formula with its arguments as `@0`, `@1`, ..., or by name.

    **Raises:** `ValueError` for one that is not understood.
    """
    text = text.strip("\"'")
    text = re.sub(r"@(\d+)", lambda match: _argument(int(match[1]), names), text)
    text = _ROOT.sub(_function, text).replace("fabs(", "abs(")
    return parse(text)


def _argument(i: int, names: tuple[str, ...]) -> str:
    if i >= len(names):
        raise ValueError(f"the formula has @{i}, and {len(names)} arguments")
    return names[i]


def _function(match: re.Match[str]) -> str:
    name, brackets = match[1], match[2]
    if name == "Pi" and brackets:
        return "PI"
    if name not in _NAMES:
        raise ValueError(f"the function TMath::{name} is not known; there are {', '.join(_NAMES)}")
    return _NAMES[name] + (brackets or "")
