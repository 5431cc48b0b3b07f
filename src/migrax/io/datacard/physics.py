"""What the parameters of interest do to the yields: Combine's physics models."""

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..._parameters.parameter import Parameter
from .card import At, Card
from .formulas import formula
from .scalars import Derived

Scale = str | float | Callable[[dict[str, Any]], Any]
_WITH_RANGE = re.compile(r"([A-Za-z_]\w*)\[([^\]]*)\]")
_NAME = re.compile(r"[A-Za-z_]\w*")


class Physics(NamedTuple):
    """The parameters of interest, the scale of each process by name (`None`: none; "": it is left out), and what is
    derived for that."""

    pois: dict[str, Parameter]
    scales: dict[At, str | None]
    derived: dict[str, Derived]


def physics_of(
    card: Card, pois: Mapping[str, Any] | None, scale: Mapping[str, Scale] | None, known: set[str]
) -> Physics:
    """By default all signals are multiplied by `r`.

    **Raises:** `TypeError`, `ValueError` for a scale that is not understood, or a pattern that matches nothing.
    """
    found: dict[str, Parameter] = {name: _parameter(name, value) for name, value in (pois or {}).items()}
    if scale is None:
        if pois is None:
            found = {"r": Parameter(1.0, lower=0.0)}
        elif len(found) != 1:
            raise ValueError("from_datacard: scale says what the parameters of interest do, scale={'*/ggH': 'r_ggH'}")
        (name,) = found
        return Physics(found, {p.at: name if p.is_signal else None for p in card.processes}, {})
    if not isinstance(scale, Mapping):
        raise TypeError(
            "from_datacard: scale is a dictionary, {'channel/process': parameter, number, formula or function}"
        )
    scales: dict[At, str | None] = {p.at: None for p in card.processes}
    derived: dict[str, Derived] = {}
    for pattern, what in scale.items():
        columns = [p.at for p in card.processes if _matches(pattern, p.at)]
        if not columns:
            raise ValueError(f"from_datacard: scale {pattern!r} matches no channel/process")
        name = _name_of(pattern, what, found, known, derived)
        scales |= dict.fromkeys(columns, name)
    if not found:
        raise ValueError("from_datacard: scale names no parameter of interest")
    return Physics(found, scales, derived)


def _matches(pattern: str, at: At) -> bool:
    if "/" not in pattern:
        raise ValueError(f"from_datacard: scale takes patterns 'channel/process', as '*/ggH'; got {pattern!r}")
    return fnmatch.fnmatchcase("/".join(at), pattern)


def _name_of(
    pattern: str, what: Any, found: dict[str, Parameter], known: set[str], derived: dict[str, Derived]
) -> str | None:
    if isinstance(what, str) and what in ("0", "1"):
        what = int(what)
    if isinstance(what, int | float) and not isinstance(what, bool):
        if what == 1:
            return None
        if what == 0:
            return ""
        what = repr(float(what))
    if callable(what):
        name = f"scale of {pattern}"
        derived[name] = Derived(name, what)
        return name
    if not isinstance(what, str):
        raise TypeError(f"from_datacard: scale {pattern!r} is a name, a number, a formula or a function; got {what!r}")
    if (match := _WITH_RANGE.fullmatch(what)) is not None:
        found.setdefault(match[1], _with_range(what, match[2]))
        return match[1]
    if _NAME.fullmatch(what):
        if what not in found and what not in known:
            found[what] = Parameter(1.0)
        return what
    name = f"scale of {pattern}"
    expression = formula(what, ())
    for other in expression.names:
        if other not in known and other != "MH":
            found.setdefault(other, Parameter(1.0))
    derived[name] = Derived(name, expression)
    return name


def _with_range(text: str, inside: str) -> Parameter:
    """Of `r[1,0,10]`: the start and the bounds."""
    try:
        start, lower, upper = (float(part) for part in inside.split(","))
        return Parameter(start, lower, upper)
    except ValueError as error:
        raise ValueError(
            f"from_datacard: a parameter with a range is written r[start,lower,upper], got {text!r}"
        ) from error


def _parameter(name: str, value: Any) -> Parameter:
    if isinstance(value, Parameter):
        return value
    try:
        return Parameter(float(value))
    except TypeError:
        raise TypeError(f"from_datacard: pois[{name!r}] is an mx.Parameter or a number, got {value!r}") from None
