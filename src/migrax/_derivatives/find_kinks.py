"""Finds kinks that a likelihood does not declare: the values of a parameter at which `jnp.where`, `jnp.abs`,
`jnp.maximum`, `jnp.clip` and the like change branches, read from its jaxpr.

A jaxpr is followed as long as its values are affine in one parameter, with known coefficients. Comparisons with any
other quantity and conditions on two parameters are not found.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array, Float

from .._parameters.space import Space
from .._util.jaxprs import numbers_of_scan
from .._util.typing import PyTree

_MAX_KINKS = 64  # of one parameter
_MAX_SIZE = 100_000  # of an array that is followed

_COMPARISONS = {"abs", "sign", "max", "min", "clamp", "lt", "le", "gt", "ge", "eq", "ne"}
_ORDERINGS = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}  # for known operands
_RESHAPES: dict[str, Callable[[np.ndarray, dict[str, Any]], np.ndarray]] = {
    "reshape": lambda a, p: np.reshape(a, p["new_sizes"]),
    "squeeze": lambda a, p: np.squeeze(a, p["dimensions"]),
    "transpose": lambda a, p: np.transpose(a, p["permutation"]),
    "rev": lambda a, p: np.flip(a, p["dimensions"]),
    "convert_element_type": lambda a, p: a,
    "copy": lambda a, p: a,
    "copy_p": lambda a, p: a,
    "stop_gradient": lambda a, p: a,
    "slice": lambda a, p: a[
        tuple(map(slice, p["start_indices"], p["limit_indices"], p["strides"] or [1] * a.ndim))
    ],
    "broadcast_in_dim": lambda a, p: np.broadcast_to(
        np.reshape(a, [a.shape[p["broadcast_dimensions"].index(i)] if i in p["broadcast_dimensions"] else 1
                       for i in range(len(p["shape"]))]),
        p["shape"],
    ),
}  # fmt: skip


class _Line(NamedTuple):
    """An array with elements `scale * x[which] + offset`, affine in one parameter each. A constant has `which` = -1 and
    `scale` = 0; an unknown element has `offset` = NaN."""

    which: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    @classmethod
    def constant(cls, value: Any) -> "_Line":
        offset = np.asarray(value, float)
        return cls(np.full(offset.shape, -1), np.zeros(offset.shape), offset)


def kinks_in(
    fn: Callable[[Float[Array, " n"], PyTree], Array], x: Float[Array, " n"], theta: PyTree, space: Space
) -> np.ndarray | None:
    """The values of each parameter at which `fn` changes branches, for concrete `x` and `theta`: shape `(m, n)`, padded
    with NaN; `None` if there are none within the bounds."""
    closed, lower, upper = jax.make_jaxpr(fn)(x, theta), np.asarray(space.lower), np.asarray(space.upper)
    start = _Line(np.arange(x.size), np.ones(x.size), np.zeros(x.size))
    kinks: list[set[float]] = [set() for _ in range(x.size)]
    constants = [_as_constant(leaf) for leaf in jax.tree.leaves(theta)]
    try:
        _walk(closed.jaxpr, closed.consts, [start, *constants], kinks)
    except Exception:  # kinks are optional, and another version of JAX may have other equations
        return None
    point = np.asarray(x)
    chosen = [
        sorted((p for p in values if low < p < high), key=lambda p: abs(p - at))[:_MAX_KINKS]
        for values, at, low, high in zip(kinks, point, lower, upper, strict=True)
    ]
    longest = max(map(len, chosen), default=0)
    return np.array([[*values, *[np.nan] * (longest - len(values))] for values in chosen]).T if longest else None


def _as_constant(value: Any) -> _Line | None:
    try:
        array = np.asarray(value)
    except TypeError:  # such as a key of `jax.random`
        return None
    return _Line.constant(array) if array.dtype.kind in "biuf" and array.size <= _MAX_SIZE else None


def _is_constant(line: _Line | None) -> bool:
    return line is not None and not np.any(line.which >= 0) and not np.any(np.isnan(line.offset))


def _walk(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[_Line | None], kinks: list[set[float]]
) -> list[_Line | None]:
    env: dict[Any, _Line | None] = dict(zip(jaxpr.constvars, map(_as_constant, consts), strict=True))
    env |= zip(jaxpr.invars, inputs, strict=True)

    def read(atom: Any) -> _Line | None:
        return _as_constant(atom.val) if isinstance(atom, core.Literal) else env.get(atom)

    for eqn in jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        if all(line is None for line in operands):
            continue
        env |= zip(eqn.outvars, _outputs_of(eqn, operands, kinks), strict=False)
    return [read(atom) for atom in jaxpr.outvars]


def _outputs_of(eqn: Any, operands: list[_Line | None], kinks: list[set[float]]) -> list[_Line | None]:
    name, params = eqn.primitive.name, eqn.params
    if name in _RESHAPES and len(operands) == 1:
        return [_map_fields(operands[0], lambda a: _RESHAPES[name](a, params))]
    if name in _COMPARISONS:
        _compare(name, operands, kinks)
        if name in _ORDERINGS and all(map(_is_constant, operands)):
            return [_Line.constant(_ORDERINGS[name](*(line.offset for line in operands if line is not None)))]
        # a value that is limited to a range remains affine within it
        affine: list[_Line | None] = [line for line in operands if line is not None and np.any(line.which >= 0)]
        return affine if name in ("max", "min", "clamp") and len(affine) == 1 else []
    if name in ("concatenate", "stack"):
        join = np.concatenate if name == "concatenate" else np.stack
        unknown = lambda atom: _Line.constant(np.full(atom.aval.shape, np.nan))  # noqa: E731
        parts = [line or unknown(atom) for line, atom in zip(operands, eqn.invars, strict=True)]
        axis = params["dimension" if name == "concatenate" else "axis"]
        return [_Line(*(join(each, axis) for each in zip(*parts, strict=True)))]
    if name == "select_n":
        return [_selected(operands)]
    if name == "split":
        boundaries, line = np.cumsum(params["sizes"])[:-1], operands[0]
        parts = [] if line is None else zip(*(np.split(a, boundaries, params["axis"]) for a in line), strict=True)
        return [_Line(*part) for part in parts]
    if name in ("gather", "dynamic_slice", "scatter"):
        return [_indexed(eqn, operands)]
    if name in ("add", "add_any", "sub", "mul", "div", "neg"):
        return [_arithmetic(name, operands)]
    return _outputs_of_inner(name, params, operands, kinks)


def _map_fields(line: _Line | None, change: Callable[[np.ndarray], np.ndarray]) -> _Line | None:
    return None if line is None else _Line(*map(change, line))


def _selected(operands: list[_Line | None]) -> _Line | None:
    """The output of a selection with a known condition."""
    condition, *cases = operands
    if not _is_constant(condition) or any(case is None for case in cases):
        return None
    assert condition is not None
    which = condition.offset.astype(int)
    return _Line(*(np.choose(which, each) for each in zip(*(case for case in cases if case), strict=True)))


def _indexed(eqn: Any, operands: list[_Line | None]) -> _Line | None:
    """The output of a gather, slice or scatter with known indices."""
    count = 2 if eqn.primitive.name == "scatter" else len(operands)
    first, indices, rest = operands[0], operands[1:count], operands[count:]
    if not all(map(_is_constant, indices)) or any(line is None for line in [first, *rest]):
        return None
    types = [atom.aval.dtype for atom in eqn.invars[1:count]]
    index_values = [np.asarray(line.offset, dtype) for line, dtype in zip(indices, types, strict=True) if line]
    lines = [line for line in [first, *rest] if line]
    return _Line(
        *(
            np.asarray(eqn.primitive.bind(*map(jnp.asarray, (each[0], *index_values, *each[1:])), **eqn.params))
            for each in zip(*lines, strict=True)
        )
    )


def _arithmetic(name: str, operands: list[_Line | None]) -> _Line | None:
    if any(line is None for line in operands):
        return None
    a, *rest = (line for line in operands if line is not None)
    if name == "neg":
        return _Line(a.which, -a.scale, -a.offset)
    b = rest[0]
    if name in ("mul", "div"):
        if name == "mul" and np.all(a.which < 0):
            a, b = b, a
        if np.any(b.which >= 0):
            return None
        with np.errstate(all="ignore"):
            factor = b.offset if name == "mul" else 1 / b.offset
            return _Line(np.broadcast_arrays(a.which, factor)[0], a.scale * factor, a.offset * factor)
    sign = -1.0 if name == "sub" else 1.0
    which, others = np.broadcast_arrays(a.which, b.which)
    both = (which >= 0) & (others >= 0)
    offset = np.where(both, np.nan, a.offset + sign * b.offset)
    return _Line(np.maximum(which, others), a.scale + sign * b.scale, offset)


def _compare(name: str, operands: list[_Line | None], kinks: list[set[float]]) -> None:
    lines = [line for line in operands if line is not None]
    if name in ("abs", "sign"):
        pairs = [(lines[0], _Line.constant(0.0))]
    elif name == "clamp":  # operands: lower limit, value, upper limit
        pairs = [
            (operands[1], end) for end in (operands[0], operands[2]) if operands[1] is not None and end is not None
        ]
    else:
        pairs = [(operands[0], operands[1])] if len(lines) == 2 else []
    for a, b in pairs:
        difference = _arithmetic("sub", [a, b])
        assert difference is not None
        has_kink = (difference.which >= 0) & (difference.scale != 0) & np.isfinite(difference.offset)
        with np.errstate(all="ignore"):
            values = -difference.offset[has_kink] / difference.scale[has_kink] + 0.0
        for i, value in zip(difference.which[has_kink].tolist(), values.tolist(), strict=True):
            if np.isfinite(value):
                kinks[i].add(value)


def _outputs_of_inner(
    name: str, params: dict[str, Any], operands: list[_Line | None], kinks: list[set[float]]
) -> list[Any]:
    """The outputs of an equation that contains other jaxprs."""
    if name == "cond":
        for branch in params["branches"]:
            _walk(branch.jaxpr, branch.consts, operands[1:], kinks)
        return []
    if name == "scan":
        body, constants = params["jaxpr"], operands[: numbers_of_scan(params)[0]]
        _walk(body.jaxpr, body.consts, [*constants, *[None] * (len(body.jaxpr.invars) - len(constants))], kinks)
        return []
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        body = params.get(key)
        if body is not None:
            inner, consts = getattr(body, "jaxpr", body), getattr(body, "consts", ())
            return _walk(inner, consts, operands, kinks) if len(inner.invars) == len(operands) else []
    return []
