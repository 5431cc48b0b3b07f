"""The interpolation of a normsys or histosys in an HS3 document.

It is a structure of `type` ("add" or "mult"), `in` (the function within one standard deviation) and `out` (the one
beyond, or null for the same one), of a modifier or as the `default_interpolation` of its channel (the standard's
section on HistFactory, version 0.3); or, of a modifier, one of ROOT's integer codes or a name of older versions of the
standard.
"""

import numpy as np

from .._node import Node, shown
from ..histfactory.response import EXPONENTIAL, LINEAR, POLYNOMIAL, POLYNOMIAL_EXPONENTIAL, QUADRATIC, Response

_ADDED = {("poly1", None): LINEAR, ("poly2", "poly1"): QUADRATIC, ("poly6", "poly1"): POLYNOMIAL}
_FACTORS = _ADDED | {("exp", None): EXPONENTIAL, ("poly6", "exp"): POLYNOMIAL_EXPONENTIAL}
_FUNCTIONS = ("poly1", "poly2", "poly6", "exp")
_NAMES = {
    "normsys": {
        "lin": Response(True, LINEAR),
        **dict.fromkeys(("log", "code1"), Response(True, EXPONENTIAL)),
        "parabolic": Response(True, QUADRATIC),
        **dict.fromkeys(("poly6", "code4"), Response(True, POLYNOMIAL_EXPONENTIAL)),
    },
    "histosys": {
        **dict.fromkeys(("lin", "code0"), Response(False, LINEAR)),
        "log": Response(True, EXPONENTIAL),
        **dict.fromkeys(("parabolic", "code2"), Response(False, QUADRATIC)),
        **dict.fromkeys(("poly6", "code4p"), Response(False, POLYNOMIAL)),
    },
}
# of RooFit's FlexibleInterpVar and PiecewiseInterpolation; 3 is 2 in both
_COMMON = {
    0: Response(False, LINEAR),
    1: Response(True, EXPONENTIAL),
    2: Response(False, QUADRATIC),
    3: Response(False, QUADRATIC),
    5: Response(True, POLYNOMIAL_EXPONENTIAL),
}
_CODES = {
    "normsys": _COMMON | {4: Response(True, POLYNOMIAL_EXPONENTIAL)},
    "histosys": _COMMON | {4: Response(False, POLYNOMIAL), 6: Response(True, POLYNOMIAL)},
}


def read_interpolation(node: Node, kind: str) -> Response:
    """The interpolation of a modifier of this kind.

    **Raises:** `ValueError` for one that is unknown or unsupported, with the place in the document.
    """
    value = node.value
    if hasattr(value, "keys"):
        return read_structure(node)
    if isinstance(value, int | float) and not isinstance(value, bool):
        known = _CODES[kind]
        if value not in known:
            raise node.error(f"{shown(value)} is no code of a {kind}; there are {', '.join(map(str, sorted(known)))}")
        return known[int(value)]
    names = _NAMES[kind]
    if not isinstance(value, str) or value not in names:
        raise node.error(
            f"{shown(value)} is no interpolation of a {kind}; there are {', '.join(names)}, ROOT's codes (integers), "
            'and structures such as {"type": "mult", "in": "poly6", "out": "exp"}'
        )
    return names[value]


def read_structure(node: Node) -> Response:
    """`{"type": ..., "in": ..., "out": ...}`. **Raises:** `ValueError`, as above."""
    node.only(("type", "in", "out"))
    kind, inside = node["type"], node["in"]
    if "out" not in node.keys():  # noqa: SIM118
        raise node.error("has no 'out'; where it is the same function as 'in', it is null")
    outside = node.get("out")
    if kind.value not in ("add", "mult"):
        raise kind.error(f"must be 'add' or 'mult', got {shown(kind.value)}")
    for function in (inside, outside):
        if function.value not in (*_FUNCTIONS, *((None,) if function is outside else ())):
            raise function.error(f"{shown(function.value)} is no function; there are {', '.join(_FUNCTIONS)}")
    supported = _FACTORS if kind.value == "mult" else _ADDED
    last = None if outside.value == inside.value else outside.value  # the same function given twice
    if (inside.value, last) not in supported:
        pairs = ", ".join(f"{a} with {b or 'null'}" for a, b in supported)
        raise node.error(
            f"{inside.value} within and {outside.value or 'the same'} beyond one standard deviation is not supported; "
            f"of the type {kind.value!r} there are {pairs}"
        )
    return Response(kind.value == "mult", supported[inside.value, last])


def check_factors(node: Node, response: Response, nominal: np.ndarray, *variations: np.ndarray) -> list[np.ndarray]:
    """The variations of a histosys that multiplies, checked for their ratios to the nominal histogram. With a
    polynomial, an empty bin is replaced by a rounding error of the nominal events, as in ROOT.

    **Raises:** `ValueError` if a ratio does not exist, or is not positive where it must be.
    """
    histograms = []
    for values in variations:
        if np.any((nominal == 0) & (values != 0)):
            bin_ = int(np.argmax((nominal == 0) & (values != 0)))
            raise node.error(f"the bin {bin_} is empty but for the variation, which is no multiple of it")
        ratio = np.divide(values, nominal, out=np.ones_like(nominal), where=nominal != 0)
        if response.code == POLYNOMIAL_EXPONENTIAL:
            ratio = np.where(ratio == 0, np.finfo(float).eps, ratio)
        if response.exponential and np.any(ratio <= 0):
            raise node.error(
                f"the bin {int(np.argmax(ratio <= 0))} would be multiplied with {ratio[np.argmax(ratio <= 0)]:g}, of "
                "which no exponential can be taken"
            )
        histograms.append(ratio * nominal)
    return histograms
