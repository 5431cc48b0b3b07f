"""Rules for single numbers: operators of Python on NumPy's scalars take a fraction of the time of NumPy's functions."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[..., Any]

_OF_FLOATS: dict[str, Function] = {
    "abs": abs, "add": operator.add, "add_any": operator.add, "div": operator.truediv, "eq": operator.eq,
    "ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt, "mul": operator.mul,
    "ne": operator.ne, "neg": operator.neg, "sub": operator.sub,
}  # fmt: skip
_OF_BOOLS: dict[str, Function] = {"and": operator.and_, "or": operator.or_, "not": operator.invert}
_MADE = ("reshape", "squeeze", "slice", "dynamic_slice", "broadcast_in_dim", "convert_element_type", "copy")


def _select(which: Any, no: Any, yes: Any) -> Any:
    return yes if which else no


def rule(equation: Any) -> Function | None:
    """The function of an equation whose operands and result are numbers; `None` if it is another one."""
    inputs, outputs = equation.invars, equation.outvars
    if len(outputs) != 1 or any(v.aval.shape for v in (*inputs, *outputs)):
        return None
    dtypes, name = [np.dtype(v.aval.dtype) for v in inputs], equation.primitive.name
    if name == "select_n":
        return _select if len(inputs) == 3 and dtypes[0].kind == "b" else None
    if len(set(dtypes)) != 1:
        return None
    if name == "integer_pow" and equation.params["y"] == 2 and dtypes[0].kind == "f":
        return _square
    return _OF_FLOATS.get(name) if dtypes[0].kind == "f" else _OF_BOOLS.get(name) if dtypes[0].kind == "b" else None


def _square(x: Any) -> Any:
    return x * x


def as_number(equation: Any, run: Function) -> Function:
    """`run`, whose result is a number of NumPy where it would be an array without axes."""
    if equation.primitive.name not in _MADE or equation.outvars[0].aval.shape:
        return run
    return lambda *operands: run(*operands)[()]
