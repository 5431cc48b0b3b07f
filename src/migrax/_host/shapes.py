"""Rules for operations that make, move and join arrays without computing."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[..., Any]


def _identity(equation: Any) -> Function:
    return (lambda *x: x) if equation.primitive.multiple_results else (lambda x: x)


def _broadcast_in_dim(equation: Any) -> Function | None:
    if len(equation.invars) > 1:  # a shape that depends on values
        return None
    shape, places = tuple(equation.params["shape"]), equation.params["broadcast_dimensions"]
    if shape == tuple(equation.invars[0].aval.shape):
        return lambda x: x
    between = [1] * len(shape)
    for place, size in zip(places, equation.invars[0].aval.shape, strict=True):
        between[place] = size
    if tuple(between) == shape:
        return lambda x: np.reshape(x, shape)
    return lambda x: np.broadcast_to(np.reshape(x, between), shape)


def _iota(equation: Any) -> Function | None:
    shape, dimension = equation.params["shape"], equation.params["dimension"]
    if equation.invars:
        return None
    line = np.arange(shape[dimension]).astype(equation.params["dtype"])
    made = np.broadcast_to(line.reshape([-1 if i == dimension else 1 for i in range(len(shape))]), shape)
    return lambda: made


def _reshape(equation: Any) -> Function | None:
    sizes = equation.params["new_sizes"]
    return None if equation.params.get("dimensions") is not None else lambda x: np.reshape(x, sizes)


def _squeeze(equation: Any) -> Function:
    sizes = tuple(equation.outvars[0].aval.shape)
    return lambda x: np.reshape(x, sizes)


def _transpose(equation: Any) -> Function:
    permutation = equation.params["permutation"]
    return lambda x: np.transpose(x, permutation)


def _concatenate(equation: Any) -> Function:
    axis = equation.params["dimension"]
    return lambda *x: np.concatenate(x, axis)


def _reverse(equation: Any) -> Function:
    axes = tuple(equation.params["dimensions"])
    return lambda x: np.flip(x, axes)


def _split(equation: Any) -> Function:
    ends, axis = list(itertools.accumulate(equation.params["sizes"]))[:-1], equation.params["axis"]
    return lambda x: np.split(x, ends, axis)


def _stack(equation: Any) -> Function:
    axis = equation.params["axis"]
    return lambda *x: np.stack(x, axis)


def _unstack(equation: Any) -> Function:
    axis = equation.params["axis"]
    return lambda x: list(np.moveaxis(x, axis, 0))


def _tile(equation: Any) -> Function:
    repeats = tuple(equation.params["reps"])
    return lambda x: np.tile(x, repeats)


def _pad(equation: Any) -> Function:
    config, shape = equation.params["padding_config"], equation.outvars[0].aval.shape

    def pad(x: Any, value: Any) -> Any:
        out = np.full(shape, value, x.dtype)
        source, target = [], []
        for (low, _, inner), size, end in zip(config, x.shape, shape, strict=True):
            # the elements whose places, low + i * (inner + 1), lie in the result
            places = low + np.arange(size) * (inner + 1)
            kept = np.flatnonzero((places >= 0) & (places < end))
            source.append(slice(kept[0], kept[-1] + 1) if kept.size else slice(0, 0))
            target.append(slice(places[kept[0]], places[kept[-1]] + 1, inner + 1) if kept.size else slice(0, 0))
        out[tuple(target)] = x[tuple(source)]
        return out

    return pad


def _empty(equation: Any) -> Any:
    """Numbers that are written before they are read."""
    aval = equation.outvars[0].aval
    return lambda: np.zeros(aval.shape, aval.dtype)


RULES: dict[str, Callable[[Any], Function | None]] = {
    "empty": _empty,
    "empty2": _empty,
    **{
        name: _identity
        for name in (
            "copy", "copy_p", "name", "nonbatchable", "nondifferentiable", "nondifferentiable_backward",
            "optimization_barrier", "pvary", "stop_gradient",
        )
    },
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "iota": _iota,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
    "unstack": _unstack,
}  # fmt: skip
