"""The lines of a datacard after `rate`: systematics, parameters, groups, edits."""

import fnmatch
import re
from collections.abc import Callable

from .card import At, Card, Effect, McStats, Scalar, Systematic
from .edits import edit
from .header import Lines, real, whole

_BEFORE = {"lnN": 0, "lnU": 0, "trG": 0, "gmN": 1, "unif": 2}  # words before the effects
_REFUSED = {
    "gmM": "its constraint is a gamma distribution: write lnN or gmN",
    "dFD": "it is a flat prior with soft edges: write lnU or unif",
    "dFD2": "it is a flat prior with soft edges: write lnU or unif",
    "constr": "constraints on functions of parameters are not read: add mx.NormalConstraint to the likelihood",
    "discrete": "its index chooses among densities in a RooWorkspace: write these as HS3, and read mx.io.from_hs3",
}
_SIGNED = ("trG",)


def read_nuisances(card: Card, lines: Lines) -> None:
    """Reads all lines after `rate`. **Raises:** `ValueError` with the line."""
    for number, text in lines:
        if text.startswith("--"):
            continue
        text = re.sub(r"(?<=\s)-+(\s|$)", r" 0\1", re.sub(r"\s*#.*", "", text))
        words = text.split()
        if len(words) > 1:
            _line(card, words, number)
    _finish(card)


def _line(card: Card, words: list[str], number: int) -> None:
    name, kind = words[0].removesuffix("[nofloat]"), words[1]
    if re.match("[0-9]", name) and kind not in _LINES:
        name = f"theta{name}"
    if kind in _LINES:
        _LINES[kind](card, name, words, number)
    elif kind in _REFUSED:
        raise card.error(number, f"the kind {kind} of {name} is not supported: {_REFUSED[kind]}")
    elif kind in _BEFORE or kind.startswith("shape"):
        card.systematics.append(_systematic(card, name, kind, words[2:], number))
    else:
        known = ", ".join([*_BEFORE, "shape, shape?, shapeN, shapeU", *_LINES])
        raise card.error(number, f"{kind[:40]!r} is no kind of a systematic; there are {known}")


def _systematic(card: Card, name: str, kind: str, words: list[str], number: int) -> Systematic:
    if kind.startswith("shapeL"):
        raise card.error(number, "shapeL is no longer supported, by Combine neither")
    n = _BEFORE.get(kind, 0)
    args, words = tuple(words[:n]), words[n:]
    if len(words) < len(card.processes):
        raise card.error(
            number, f"{name} has {len(words)} effects, and there are {len(card.processes)} columns of processes"
        )
    for word in args:
        real(card, number, word, f"an argument of {name}")
    effects: dict[At, Effect] = {}
    for process, word in zip(card.processes, words, strict=False):
        effect = _effect(card, name, kind, word, number)
        if effect != 0:
            effects[process.at] = effect
            if kind == "gmN" and card.rates[process.at] == 0:
                card.rates[process.at] = 1e-6  # as in Combine: no events in the control region
    if kind == "gmN":
        _check_gamma(card, name, whole(card, number, args[0], f"the count of {name}"), effects, number)
    if kind == "unif" and not float(args[0]) < float(args[1]):
        raise card.error(number, f"the range of {name} is empty: {args[0]} to {args[1]}")
    return Systematic(name, kind, args, effects, number)


def _effect(card: Card, name: str, kind: str, word: str, number: int) -> Effect:
    what = f"an effect of {name}"
    if "/" not in word:
        value = real(card, number, word, what)
        if value < 0 and kind not in _SIGNED:
            raise card.error(number, f"{what} cannot be negative, got {word}")
        return value
    if kind not in ("lnN", "lnU") and "?" not in kind:
        raise card.error(number, f"only lnN and lnU take two numbers, down/up; {name} is {kind}")
    parts = [real(card, number, part, what) for part in word.split("/")]
    if len(parts) != 2 or min(parts) <= 0:
        raise card.error(number, f"{what} must be two positive numbers, down/up, got {word!r}")
    return parts[0], parts[1]


def _check_gamma(card: Card, name: str, count: int, effects: dict[At, Effect], number: int) -> None:
    if count < 0:
        raise card.error(number, f"the count of {name} cannot be negative")
    for at, alpha in effects.items():
        assert isinstance(alpha, float)
        rate = card.rates[at]
        if rate != -1 and abs(alpha * count - rate) > max(0.05 * max(rate, 1), alpha):
            raise card.error(
                number,
                f"{name} has {count} events times {alpha:g}, which is not the rate {rate:g} of {at[1]} in {at[0]}",
            )


def _param(card: Card, name: str, words: list[str], number: int) -> None:
    args = tuple(words[2:])
    if len(args) < 2:
        raise card.error(number, f"{name}: param takes a mean and a standard deviation")
    real(card, number, args[0], f"the mean of {name}")
    widths = args[1].split("/")
    if len(widths) == 2 and not (widths[0].startswith("-") and widths[1].startswith("+")):
        raise card.error(number, f"two standard deviations of {name} are written -x/+y, got {args[1]!r}")
    for width in widths:
        if len(widths) > 2 or not real(card, number, width.lstrip("+-"), f"the standard deviation of {name}") > 0:
            raise card.error(number, f"the standard deviation of {name} must be positive, got {args[1]!r}")
    if len(args) > 2:
        bounds(card, args[2], number)
    card.systematics.append(Systematic(name, "param", args, {}, number))


def _rate_param(card: Card, name: str, words: list[str], number: int) -> None:
    if not 5 <= len(words) <= 6:
        raise card.error(
            number,
            "a rateParam is written: name rateParam channel process value [range], or with a formula: formula args",
        )
    channel, process, text = words[2:5]
    _refuse_file(card, name, text, number)
    more = words[5] if len(words) > 5 else ""
    is_range = "[" in more and "]" in more
    names = None if not more or is_range else tuple(more.split(","))
    _define(card, Scalar(name, text, names, bounds(card, more, number) if is_range else None, False, number))
    found = [
        p.at for p in card.processes if fnmatch.fnmatchcase(p.name, process) and fnmatch.fnmatchcase(p.channel, channel)
    ]
    if not found:
        raise card.error(number, f"there is no process {process!r} in a channel {channel!r}")
    for at in found:
        card.rate_params.setdefault(at, []).append(name)


def _ext_arg(card: Card, name: str, words: list[str], number: int) -> None:
    if len(words) < 3:
        raise card.error(number, f"{name}: extArg takes a value and a range")
    _refuse_file(card, name, words[2], number)
    is_fixed, limits = "[const]" in words[3:4], None
    if len(words) > 3 and not is_fixed:
        limits = bounds(card, words[3], number)
    _define(card, Scalar(name, words[2], None, limits, is_fixed, number))


def _refuse_file(card: Card, name: str, text: str, number: int) -> None:
    if ".root" in text and ":" in text:
        raise card.error(
            number, f"{name} is in a RooWorkspace, {text}, which is not read: write its value or formula in the card"
        )


def _define(card: Card, scalar: Scalar) -> None:
    old = card.scalars.get(scalar.name)
    if scalar.names is None:
        real(card, scalar.line, scalar.text, f"the value of {scalar.name}")
    if old is not None and (old.names is None) != (scalar.names is None):
        raise card.error(scalar.line, f"{scalar.name} is a formula and a parameter, see line {old.line}")
    card.scalars.setdefault(scalar.name, scalar)  # the first one counts, as in Combine


def _flat_param(card: Card, name: str, words: list[str], number: int) -> None:
    card.flat[name] = number


def _group(card: Card, name: str, words: list[str], number: int) -> None:
    sign = words[2] if len(words) > 2 else ""
    if sign not in ("=", "+="):
        raise card.error(number, f"a group is written: {name} group = nuisances, or += nuisances")
    if (name in card.groups) != (sign == "+="):
        problem = "not defined yet" if sign == "+=" else f"at line {card.group_lines[name]} already"
        raise card.error(number, f"the group {name} is {problem}")
    card.groups.setdefault(name, []).extend(words[3:])
    card.group_lines.setdefault(name, number)


def _mc_stats(card: Card, name: str, words: list[str], number: int) -> None:
    if not 3 <= len(words) <= 5:
        raise card.error(number, "autoMCStats takes a threshold, and whether signals count, and the mode of histograms")
    threshold = real(card, number, words[2], "the threshold of autoMCStats")
    includes = bool(whole(card, number, words[3], "include-signal")) if len(words) > 3 else False
    mode = whole(card, number, words[4], "the mode of histograms") if len(words) > 4 else 1
    if mode not in (1, 2):
        raise card.error(number, f"the mode of histograms is 1 or 2, got {mode}")
    found = [channel for channel in card.channels if fnmatch.fnmatchcase(channel, name)]
    if not found and "*" not in name:
        raise card.error(number, f"there is no channel {name!r}")
    for channel in found:
        card.mc_stats[channel] = McStats(threshold, includes, mode)


def _edit(card: Card, name: str, words: list[str], number: int) -> None:
    if name != "nuisance":
        raise card.error(number, "edits are written: nuisance edit command arguments")
    card.is_edited = True
    edit(card, words[2:], number)


_LINES: dict[str, Callable[[Card, str, list[str], int], None]] = {
    "param": _param,
    "rateParam": _rate_param,
    "extArg": _ext_arg,
    "flatParam": _flat_param,
    "group": _group,
    "autoMCStats": _mc_stats,
    "edit": _edit,
}


def bounds(card: Card, text: str, number: int) -> tuple[float, float]:
    """The range `[low,high]`. **Raises:** `ValueError` for another text."""
    parts = text.strip("[]").split(",")
    if not (text.startswith("[") and text.endswith("]") and len(parts) == 2):
        raise card.error(number, f"a range is written [low,high] without blanks, got {text[:40]!r}")
    low, high = (real(card, number, part, "an end of a range") for part in parts)
    if not low < high:
        raise card.error(number, f"the range {text} is empty")
    return low, high


def _finish(card: Card) -> None:
    """Leaves out systematics without an effect, and checks their number."""
    kept = [s for s in card.systematics if s.kind == "param" or any(s.moves(at) and card.rates[at] for at in s.effects)]
    wanted, number = card.declared.get("kmax", (0, 0))
    wanted -= len(card.systematics) - len(kept)
    card.systematics = kept
    if number and not card.is_edited and wanted != len(kept):
        raise card.error(number, f"kmax declares {wanted} systematics that have an effect, and there are {len(kept)}")
