"""Where a likelihood that does not say so has kinks: the places of a parameter at which `jnp.where`, `jnp.abs`,
`jnp.maximum`, `jnp.clip` and their like change branches, read from its jaxpr.

A jaxpr is followed as far as its values are parameters times and plus known numbers; what else they are compared with,
and conditions on two parameters, are not seen.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array, Float

from .._parameters.space import Space
from .._util.typing import PyTree

_MOST = 64  # places of one parameter
_LARGE = 100_000  # numbers in an array that is followed

_COMPARISONS = {"abs", "sign", "max", "min", "clamp", "lt", "le", "gt", "ge", "eq", "ne"}
_DECIDED = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}  # as for indices
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
    """An array whose elements are each `scale * x[which] + offset`; `which` is -1, and `scale` 0, for a known number,
    and `offset` NaN for what is not known."""

    which: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    @classmethod
    def known(cls, value: Any) -> "_Line":
        offset = np.asarray(value, float)
        return cls(np.full(offset.shape, -1), np.zeros(offset.shape), offset)


def kinks_in(
    fn: Callable[[Float[Array, " n"], PyTree], Array], x: Float[Array, " n"], theta: PyTree, space: Space
) -> np.ndarray | None:
    """The places where `fn` changes branches along a parameter, of `x` and `theta` that are concrete: shape `(m, n)`,
    NaN for none; `None` if there are none within the bounds."""
    closed, lower, upper = jax.make_jaxpr(fn)(x, theta), np.asarray(space.lower), np.asarray(space.upper)
    start = _Line(np.arange(x.size), np.ones(x.size), np.zeros(x.size))
    places: list[set[float]] = [set() for _ in range(x.size)]
    known = [_known(leaf) for leaf in jax.tree.leaves(theta)]
    try:
        _walk(closed.jaxpr, closed.consts, [start, *known], places)
    except Exception:  # it is only a help: another version of JAX may write its equations otherwise
        return None
    here = np.asarray(x)
    chosen = [
        sorted((p for p in each if low < p < high), key=lambda p: abs(p - at))[:_MOST]
        for each, at, low, high in zip(places, here, lower, upper, strict=True)
    ]
    most = max(map(len, chosen), default=0)
    return np.array([[*each, *[np.nan] * (most - len(each))] for each in chosen]).T if most else None


def _known(value: Any) -> _Line | None:
    try:
        array = np.asarray(value)
    except TypeError:  # such as a key of `jax.random`
        return None
    return _Line.known(array) if array.dtype.kind in "biuf" and array.size <= _LARGE else None


def _is_known(line: _Line | None) -> bool:
    return line is not None and not np.any(line.which >= 0) and not np.any(np.isnan(line.offset))


def _walk(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[_Line | None], places: list[set[float]]
) -> list[_Line | None]:
    env: dict[Any, _Line | None] = dict(zip(jaxpr.constvars, map(_known, consts), strict=True))
    env |= zip(jaxpr.invars, inputs, strict=True)

    def read(atom: Any) -> _Line | None:
        return _known(atom.val) if isinstance(atom, core.Literal) else env.get(atom)

    for eqn in jaxpr.eqns:
        given = [read(atom) for atom in eqn.invars]
        if all(line is None for line in given):
            continue
        env |= zip(eqn.outvars, _equation(eqn, given, places), strict=False)
    return [read(atom) for atom in jaxpr.outvars]


def _equation(eqn: Any, given: list[_Line | None], places: list[set[float]]) -> list[_Line | None]:
    name, params = eqn.primitive.name, eqn.params
    if name in _RESHAPES and len(given) == 1:
        return [_each(given[0], lambda a: _RESHAPES[name](a, params))]
    if name in _COMPARISONS:
        _compare(name, given, places)
        if name in _DECIDED and all(map(_is_known, given)):
            return [_Line.known(_DECIDED[name](*(line.offset for line in given if line is not None)))]
        # what a limit to its range lets through is a line still
        through: list[_Line | None] = [line for line in given if line is not None and np.any(line.which >= 0)]
        return through if name in ("max", "min", "clamp") and len(through) == 1 else []
    if name in ("concatenate", "stack"):
        join = np.concatenate if name == "concatenate" else np.stack
        blank = lambda atom: _Line.known(np.full(atom.aval.shape, np.nan))  # noqa: E731
        parts = [line or blank(atom) for line, atom in zip(given, eqn.invars, strict=True)]
        axis = params["dimension" if name == "concatenate" else "axis"]
        return [_Line(*(join(each, axis) for each in zip(*parts, strict=True)))]
    if name == "select_n":
        return [_selected(given)]
    if name == "split":
        ends, line = np.cumsum(params["sizes"])[:-1], given[0]
        parts = [] if line is None else zip(*(np.split(a, ends, params["axis"]) for a in line), strict=True)
        return [_Line(*part) for part in parts]
    if name in ("gather", "dynamic_slice", "scatter"):
        return [_placed(eqn, given)]
    if name in ("add", "add_any", "sub", "mul", "div", "neg"):
        return [_arithmetic(name, given)]
    return _inside(name, params, given, places)


def _each(line: _Line | None, change: Callable[[np.ndarray], np.ndarray]) -> _Line | None:
    return None if line is None else _Line(*map(change, line))


def _selected(given: list[_Line | None]) -> _Line | None:
    """What a condition that is known selects."""
    condition, *cases = given
    if not _is_known(condition) or any(case is None for case in cases):
        return None
    assert condition is not None
    which = condition.offset.astype(int)
    return _Line(*(np.choose(which, each) for each in zip(*(case for case in cases if case), strict=True)))


def _placed(eqn: Any, given: list[_Line | None]) -> _Line | None:
    """What is taken from known places, or put there."""
    count = 2 if eqn.primitive.name == "scatter" else len(given)
    first, places, rest = given[0], given[1:count], given[count:]
    if not all(map(_is_known, places)) or any(line is None for line in [first, *rest]):
        return None
    types = [atom.aval.dtype for atom in eqn.invars[1:count]]
    at = [np.asarray(line.offset, dtype) for line, dtype in zip(places, types, strict=True) if line]
    moved = [line for line in [first, *rest] if line]
    return _Line(
        *(
            np.asarray(eqn.primitive.bind(*map(jnp.asarray, (each[0], *at, *each[1:])), **eqn.params))
            for each in zip(*moved, strict=True)
        )
    )


def _arithmetic(name: str, given: list[_Line | None]) -> _Line | None:
    if any(line is None for line in given):
        return None
    a, *rest = (line for line in given if line is not None)
    if name == "neg":
        return _Line(a.which, -a.scale, -a.offset)
    b = rest[0]
    if name in ("mul", "div"):
        if name == "mul" and np.all(a.which < 0):
            a, b = b, a
        if np.any(b.which >= 0):
            return None
        with np.errstate(all="ignore"):
            by = b.offset if name == "mul" else 1 / b.offset
            return _Line(np.broadcast_arrays(a.which, by)[0], a.scale * by, a.offset * by)
    sign = -1.0 if name == "sub" else 1.0
    which, others = np.broadcast_arrays(a.which, b.which)
    both = (which >= 0) & (others >= 0)
    offset = np.where(both, np.nan, a.offset + sign * b.offset)
    return _Line(np.maximum(which, others), a.scale + sign * b.scale, offset)


def _compare(name: str, given: list[_Line | None], places: list[set[float]]) -> None:
    lines = [line for line in given if line is not None]
    if name in ("abs", "sign"):
        pairs = [(lines[0], _Line.known(0.0))]
    elif name == "clamp":  # of the lowest, the value and the highest
        pairs = [(given[1], end) for end in (given[0], given[2]) if given[1] is not None and end is not None]
    else:
        pairs = [(given[0], given[1])] if len(lines) == 2 else []
    for a, b in pairs:
        difference = _arithmetic("sub", [a, b])
        assert difference is not None
        there = (difference.which >= 0) & (difference.scale != 0) & np.isfinite(difference.offset)
        with np.errstate(all="ignore"):
            at = -difference.offset[there] / difference.scale[there] + 0.0
        for i, place in zip(difference.which[there].tolist(), at.tolist(), strict=True):
            if np.isfinite(place):
                places[i].add(place)


def _inside(name: str, params: dict[str, Any], given: list[_Line | None], places: list[set[float]]) -> list[Any]:
    """What an equation that holds others gives."""
    if name == "cond":
        for branch in params["branches"]:
            _walk(branch.jaxpr, branch.consts, given[1:], places)
        return []
    if name == "scan":
        body, kept = params["jaxpr"], given[: params["num_consts"]]
        _walk(body.jaxpr, body.consts, [*kept, *[None] * (len(body.jaxpr.invars) - len(kept))], places)
        return []
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        body = params.get(key)
        if body is not None:
            inner, consts = getattr(body, "jaxpr", body), getattr(body, "consts", ())
            return _walk(inner, consts, given, places) if len(inner.invars) == len(given) else []
    return []
