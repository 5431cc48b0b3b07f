"""Rules for operations on each element: NumPy's functions where XLA has the same, and what differs between the two."""

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[..., Any]

_SAME = {
    "abs": np.abs, "acos": np.arccos, "acosh": np.arccosh, "add": np.add, "add_any": np.add, "asin": np.arcsin,
    "asinh": np.arcsinh, "atan": np.arctan, "atan2": np.arctan2, "atanh": np.arctanh, "ceil": np.ceil, "conj": np.conj,
    "cos": np.cos, "cosh": np.cosh, "eq": np.equal, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "floor": np.floor, "ge": np.greater_equal, "gt": np.greater, "imag": np.imag, "is_finite": np.isfinite,
    "le": np.less_equal, "log": np.log, "log1p": np.log1p, "log2": np.log2, "lt": np.less, "mul": np.multiply,
    "ne": np.not_equal, "neg": np.negative, "nextafter": np.nextafter, "real": np.real, "sign": np.sign, "sin": np.sin,
    "sinh": np.sinh, "sqrt": np.sqrt, "square": np.square, "sub": np.subtract, "tan": np.tan, "tanh": np.tanh,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
}  # fmt: skip


def _same(function: Function) -> Callable[[Any], Function]:
    return lambda equation: function


def _dtype(equation: Any) -> np.dtype:
    return np.dtype(equation.invars[0].aval.dtype)


def _cbrt(equation: Any) -> Function | None:
    return np.cbrt if _dtype(equation).kind == "f" else None


def _polynomial(equation: Any) -> Function:
    def horner(x: Any, *coefficients: Any) -> Any:
        out = coefficients[-1]
        for c in coefficients[-2::-1]:
            out = out * x + c
        return out

    return horner


def _one_minus_square(equation: Any) -> Function:
    one = _dtype(equation).type(1)
    return lambda x: (one - x) * (one + x)


def _complex(equation: Any) -> Function:
    dtype = np.dtype(equation.outvars[0].aval.dtype)

    def join(real: Any, imag: Any) -> Any:
        out = np.empty(np.shape(real), dtype)
        out.real, out.imag = real, imag
        return out

    return join


def _rsqrt(equation: Any) -> Function:
    one = _dtype(equation).type(1)
    return lambda x: one / np.sqrt(x)


def _logistic(equation: Any) -> Function:
    one = _dtype(equation).type(1)
    return lambda x: one / (one + np.exp(-x))


def _extreme(function: Function) -> Callable[[Any], Function | None]:
    return lambda equation: None if _dtype(equation).kind == "c" else function


def _clamp(equation: Any) -> Function:
    return lambda low, x, high: np.minimum(np.maximum(x, low), high)


def _divide(equation: Any) -> Function:
    dtype = _dtype(equation)
    if dtype.kind not in "iu":
        return np.divide
    minus_one = np.array(-1).astype(dtype)  # what XLA gives for a division by zero

    def divide(a: Any, b: Any) -> Any:
        zero = b == 0
        safe = np.where(zero, dtype.type(1), b)
        quotient = np.floor_divide(a, safe)
        # rounded towards zero
        quotient = quotient + ((quotient * safe != a) & ((a < 0) != (safe < 0))).astype(dtype)
        return np.where(zero, minus_one, quotient)

    return divide


def _remainder(equation: Any) -> Function:
    dtype = _dtype(equation)
    if dtype.kind not in "iu":
        return np.fmod
    return lambda a, b: np.where(b == 0, a, np.fmod(a, np.where(b == 0, dtype.type(1), b)))


def _power(equation: Any) -> Function | None:
    x, y = (np.dtype(v.aval.dtype) for v in equation.invars)
    if x.kind not in "fc":
        return None
    return np.power if x == y else lambda a, b: np.power(a, np.asarray(b).astype(x))


def _integer_power(equation: Any) -> Function | None:
    exponent, dtype = equation.params["y"], _dtype(equation)
    if dtype.kind not in "fc" and exponent < 0:
        return None
    one = dtype.type(1)
    if exponent == 0:
        return lambda x: np.ones_like(x)
    if exponent == 2:
        return np.square

    def power(x: Any) -> Any:
        out, rest = None, abs(exponent)
        while rest:
            if rest & 1:
                out = x if out is None else out * x
            rest >>= 1
            if rest:
                x = x * x
        return one / out if exponent < 0 else out

    return power


def _round(equation: Any) -> Function:
    if int(equation.params["rounding_method"]) == 1:  # to the nearest even number
        return np.rint
    zero = _dtype(equation).type(0)

    def away_from_zero(x: Any) -> Any:
        whole = np.trunc(x)
        return whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), zero)

    return away_from_zero


def _shift(function: Function, kind: str) -> Callable[[Any], Function]:
    """The shift of numbers taken as signed or unsigned, by `kind`, "i" or "u"."""

    def rule(equation: Any) -> Function:
        dtype = _dtype(equation)
        bits, work = 8 * dtype.itemsize, np.dtype(f"{kind}{dtype.itemsize}")

        def shift(a: Any, b: Any) -> Any:
            too_far = (b < 0) | (b >= bits)
            amount = np.where(too_far, bits - 1 if kind == "i" else 0, b).astype(work)
            shifted = function(np.asarray(a).astype(work), amount)
            return (shifted if kind == "i" else np.where(too_far, work.type(0), shifted)).astype(dtype)

        return shift

    return rule


def _convert(equation: Any) -> Function | None:
    old, new = _dtype(equation), np.dtype(equation.params["new_dtype"])
    if old == new:
        return lambda x: x
    if old.kind == "c" and new.kind != "c":
        return None
    if old.kind != "f" or new.kind not in "iu":
        return lambda x: np.asarray(x).astype(new)
    low, high = np.iinfo(new).min, np.iinfo(new).max
    above = old.type(2.0 ** (np.iinfo(new).bits - (new.kind == "i")))

    def to_integers(x: Any) -> Any:  # the nearest number that there is, and 0 for NaN
        x = np.asarray(x)
        inside = (x >= low) & (x < above)
        out = np.where(inside, x, old.type(0)).astype(new)
        return out if inside.all() else np.where(x < low, low, np.where(x >= above, high, out)).astype(new)

    return to_integers


def _bitcast(equation: Any) -> Function | None:
    old, new = _dtype(equation), np.dtype(equation.params["new_dtype"])
    if old.itemsize != new.itemsize or "b" in (old.kind, new.kind):
        return None
    return lambda x: np.ascontiguousarray(x).view(new).reshape(np.shape(x))


def _in_total_order(function: Function) -> Callable[[Any], Function | None]:
    """A comparison in the total order of IEEE 754: -NaN, -inf, ..., -0, 0, ..., inf, NaN."""

    def rule(equation: Any) -> Function | None:
        dtype = _dtype(equation)
        if dtype.kind in "biu":
            return function
        if dtype.kind != "f":
            return None
        whole = np.dtype(f"i{dtype.itemsize}")
        but_sign, last = np.iinfo(whole).max, 8 * dtype.itemsize - 1

        def key(x: Any) -> Any:
            bits = np.asarray(x).view(whole)
            return bits ^ ((bits >> last) & but_sign)

        return lambda a, b: function(key(a), key(b))

    return rule


def _select(equation: Any) -> Function:
    def select(which: Any, *cases: Any) -> Any:
        if which.ndim == 0:
            return cases[min(max(int(which), 0), len(cases) - 1)]
        if len(cases) == 2:
            return np.where(which, cases[1], cases[0])
        out = cases[0]
        for i, case in enumerate(cases[1:], 1):
            out = np.where(which >= i, case, out)
        return out

    return select


def _select_if_batched(equation: Any) -> Function:
    return lambda which, x, y: np.where(which, x, y)


RULES: dict[str, Callable[[Any], Function | None]] = {
    **{name: _same(function) for name, function in _SAME.items()},
    "bitcast_convert_type": _bitcast,
    "cbrt": _cbrt,
    "clamp": _clamp,
    "complex": _complex,
    "convert_element_type": _convert,
    "div": _divide,
    "eq_to": _in_total_order(np.equal),
    "le_to": _in_total_order(np.less_equal),
    "lt_to": _in_total_order(np.less),
    "integer_pow": _integer_power,
    "logistic": _logistic,
    "max": _extreme(np.maximum),
    "min": _extreme(np.minimum),
    "one_minus_square": _one_minus_square,
    "polynomial": _polynomial,
    "pow": _power,
    "rem": _remainder,
    "round": _round,
    "rsqrt": _rsqrt,
    "select_if_vmap": _select_if_batched,
    "select_n": _select,
    "shift_left": _shift(np.left_shift, "u"),
    "shift_right_arithmetic": _shift(np.right_shift, "i"),
    "shift_right_logical": _shift(np.right_shift, "u"),
}
