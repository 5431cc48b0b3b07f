"""Equations that are evaluated as JAX evaluates them outside of any program, on arrays of NumPy."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .._util.jaxprs import evaluate

_FLOATS = ("float32", "float64", "complex64", "complex128")


def is_plain(aval: Any) -> bool:
    """Whether NumPy has the dtype, with the arithmetic that XLA has: no keys of random numbers, no short floats."""
    return _is_plain_dtype(getattr(aval, "dtype", None))


@functools.cache
def _is_plain_dtype(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and (dtype.kind in "biu" or dtype.name in _FLOATS)


def bound(equation: Any) -> Callable[..., tuple[Any, ...]]:
    """The equation as a function of NumPy arrays, and of those of JAX for dtypes that NumPy has not."""
    plain = [is_plain(v.aval) for v in equation.outvars]

    def call(*operands: Any) -> tuple[Any, ...]:
        outputs = evaluate(equation, operands)
        return tuple(np.asarray(x) if p else x for x, p in zip(outputs, plain, strict=True))

    return call
