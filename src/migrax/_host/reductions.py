"""Rules for sums, extremes, running sums, sorting and products of matrices."""

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[..., Any]


def _reduce(function: np.ufunc) -> Callable[[Any], Function | None]:
    def rule(equation: Any) -> Function | None:
        axes, dtype = tuple(equation.params["axes"]), np.dtype(equation.outvars[0].aval.dtype)
        if function in (np.maximum, np.minimum) and (dtype.kind == "c" or 0 in equation.invars[0].aval.shape):
            return None
        return lambda x: function.reduce(x, axis=axes, dtype=dtype)

    return rule


def _position(function: Function) -> Callable[[Any], Function]:
    def rule(equation: Any) -> Function:
        (axis,), dtype = equation.params["axes"], equation.params["index_dtype"]
        return lambda x: function(x, axis=axis).astype(dtype)

    return rule


def _accumulate(function: np.ufunc) -> Callable[[Any], Function | None]:
    def rule(equation: Any) -> Function | None:
        axis, dtype = equation.params["axis"], np.dtype(equation.outvars[0].aval.dtype)
        if dtype.kind == "c" and function not in (np.add, np.multiply):
            return None
        if equation.params["reverse"]:
            return lambda x: np.flip(function.accumulate(np.flip(x, axis), axis, dtype), axis)
        return lambda x: function.accumulate(x, axis, dtype)

    return rule


def _sort(equation: Any) -> Function | None:
    axis, num_keys = equation.params["dimension"], equation.params["num_keys"]
    if any(np.dtype(v.aval.dtype).kind == "c" for v in equation.invars[:num_keys]):
        return None
    if len(equation.invars) == 1:
        return lambda x: (np.sort(x, axis, kind="stable"),)

    def sort(*operands: Any) -> Any:
        order = np.lexsort(operands[num_keys - 1 :: -1], axis)  # the last key is the first to sort by
        return tuple(np.take_along_axis(x, order, axis) for x in operands)

    return sort


def _dot_general(equation: Any) -> Function:
    (contracted_a, contracted_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    a, b = (v.aval for v in equation.invars)
    dtype = np.dtype(equation.outvars[0].aval.dtype)
    convert = a.dtype != dtype or b.dtype != dtype
    # As matrices, with the batch in front: (batch, rows, contracted) by (batch, contracted, columns).
    rows = [i for i in range(a.ndim) if i not in (*contracted_a, *batch_a)]
    columns = [i for i in range(b.ndim) if i not in (*contracted_b, *batch_b)]
    order_a, order_b = (*batch_a, *rows, *contracted_a), (*batch_b, *contracted_b, *columns)
    batch, inner = tuple(a.shape[i] for i in batch_a), int(np.prod([a.shape[i] for i in contracted_a]))
    shape_a = (*batch, int(np.prod([a.shape[i] for i in rows])), inner)
    shape_b = (*batch, inner, int(np.prod([b.shape[i] for i in columns])))
    shape = tuple(equation.outvars[0].aval.shape)
    if not batch and a.ndim <= 2 and b.ndim <= 2 and len(contracted_a) == 1:
        turn_a, turn_b = order_a != tuple(range(a.ndim)), order_b != tuple(range(b.ndim))
        flat = lambda x, y: np.dot(x.T if turn_a else x, y.T if turn_b else y)  # noqa: E731
    else:

        def flat(x: Any, y: Any) -> Any:
            left, right = np.transpose(x, order_a).reshape(shape_a), np.transpose(y, order_b).reshape(shape_b)
            return np.matmul(left, right).reshape(shape)

    if convert:
        return lambda x, y: flat(np.asarray(x).astype(dtype), np.asarray(y).astype(dtype))
    return flat


RULES: dict[str, Callable[[Any], Function | None]] = {
    "argmax": _position(np.argmax),
    "argmin": _position(np.argmin),
    "cumlogsumexp": _accumulate(np.logaddexp),
    "cummax": _accumulate(np.maximum),
    "cummin": _accumulate(np.minimum),
    "cumprod": _accumulate(np.multiply),
    "cumsum": _accumulate(np.add),
    "dot_general": _dot_general,
    "reduce_and": _reduce(np.bitwise_and),
    "reduce_max": _reduce(np.maximum),
    "reduce_min": _reduce(np.minimum),
    "reduce_or": _reduce(np.bitwise_or),
    "reduce_prod": _reduce(np.multiply),
    "reduce_sum": _reduce(np.add),
    "reduce_xor": _reduce(np.bitwise_xor),
    "sort": _sort,
    "unvmap_all": lambda equation: np.all,
    "unvmap_any": lambda equation: np.any,
    "unvmap_max": lambda equation: np.max,
}
