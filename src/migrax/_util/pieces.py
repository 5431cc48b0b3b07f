"""Jaxprs that cut vectors into pieces and join these again, without the pieces: the join is an indexing.

A model with thousands of named numbers cuts the vector of a fit into as many, looks each up by its name, and joins
them again to compute with them. Each piece is some operations in each derivative that is taken and compiled; an
indexing of the vector is one.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal, jaxpr_as_fun
from jaxtyping import Array

from .jaxprs import called, evaluate, used_inputs
from .packing import FEW, Packing, packing_of
from .typing import PyTree

_LARGEST = 1_000_000  # numbers in what has addresses


def packed(closed: Any, how: Packing) -> Any:
    """The jaxpr of `(x, *arrays)` as one of `(x, *how(arrays))`, and without the pieces that are joined again."""
    flat = _Flat(closed)
    program = _Joined(flat, how)
    x = closed.jaxpr.invars[0].aval
    return jax.make_jaxpr(program)(jax.ShapeDtypeStruct(x.shape, x.dtype), *how.shapes())


class Rejoined(eqx.Module):
    """A function of trees without the pieces that it joins again."""

    hidden: PyTree  # the arrays that the function closes over
    jaxpr: Any = eqx.field(static=True)

    def __call__(self, *trees: PyTree) -> Any:
        leaves = [leaf for leaf in jax.tree.leaves((self.hidden, trees)) if eqx.is_array(leaf)]
        return jaxpr_as_fun(self.jaxpr)(*leaves)[0]


def rejoined(fn: Callable[..., Any], *trees: PyTree) -> Callable[..., Any]:
    """A function that returns one array, as `eqx.filter_closure_convert` makes it, without the pieces that it joins
    again."""
    dynamic, static = eqx.partition((fn, trees), eqx.is_array)
    leaves, treedef = jax.tree.flatten(dynamic)

    def flat(*leaves: Array) -> Any:
        function, given = eqx.combine(jax.tree.unflatten(treedef, leaves), static)
        return function(*given)

    closed: Any = jax.make_jaxpr(flat)(*leaves)
    if closed.effects or not joins_pieces(closed.jaxpr):  # what has an effect must run, needed or not
        return fn
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
    return Rejoined(eqx.filter(fn, eqx.is_array), jax.make_jaxpr(_Joined(_Flat(closed)))(*shapes))


def packing_for(jaxprs: Sequence[Any], arrays: Sequence[Any]) -> Packing | None:
    """The packing of the arrays of jaxprs of `(x, *arrays)`; `None` where they neither take many arrays nor join many
    pieces, so that `packed` gains nothing, and where one has effects, which must run, needed or not."""
    if any(closed.effects for closed in jaxprs):
        return None
    if len(arrays) < 2 * FEW and not any(joins_pieces(closed.jaxpr) for closed in jaxprs):
        return None
    return packing_of(arrays, set(used_inputs(jaxprs)))


def joins_pieces(jaxpr: Any) -> bool:
    """Whether the jaxpr joins many pieces, at once or a few at a time."""
    return _num_joined(jaxpr) >= FEW


def _num_joined(jaxpr: Any) -> int:
    inner = (called(e) if _is_jit(e) else None for e in jaxpr.eqns)
    at_once = sum(len(e.invars) for e in jaxpr.eqns if _joins(e))
    return at_once + sum(_num_joined(call.jaxpr) for call in inner if call is not None)


def _joins(equation: Any) -> bool:
    return equation.primitive.name in ("concatenate", "stack")


def _is_jit(equation: Any) -> bool:
    return equation.primitive.name in ("jit", "pjit")


@dataclasses.dataclass(slots=True)
class _Node:
    """An equation, its inputs (places, or constants) and the places of its outputs."""

    equation: Any
    ins: list[Any]
    outs: list[int]


class _Flat:
    """A jaxpr with the equations of calls in their place, where these move pieces. Values have numbers, their places,
    as one jaxpr may be called more than once."""

    def __init__(self, closed: Any):
        self.avals: list[Any] = []
        self.nodes: list[_Node] = []
        self.constants: dict[int, Any] = {}
        self.inputs = [self._new(v) for v in closed.jaxpr.invars]
        self.outputs = self._add(closed, list(self.inputs))

    def _new(self, var: Any) -> int:
        self.avals.append(var.aval)
        return len(self.avals) - 1

    def _constant(self, literal: Any) -> int:
        place = self._new(literal)
        self.constants[place] = np.asarray(literal.val, literal.aval.dtype)
        return place

    def _add(self, closed: Any, inputs: list[Any]) -> list[Any]:
        jaxpr = closed.jaxpr
        names = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
            names[var] = self._new(var)
            self.constants[names[var]] = value
        read = lambda atom: atom if isinstance(atom, Literal) else names[atom]  # noqa: E731
        for equation in jaxpr.eqns:
            ins = [read(atom) for atom in equation.invars]
            if _joins(equation):
                ins = [self._constant(atom) if isinstance(atom, Literal) else atom for atom in ins]
            inner = called(equation) if _is_jit(equation) else None
            if inner is not None and _moves_pieces(inner.jaxpr):
                outs = self._add(inner, ins)
                names |= dict(zip(equation.outvars, outs, strict=True))
            else:
                outs = [self._new(v) for v in equation.outvars]
                names |= dict(zip(equation.outvars, outs, strict=True))
                self.nodes.append(_Node(equation, ins, outs))
        return [read(atom) for atom in jaxpr.outvars]


def _moves_pieces(jaxpr: Any) -> bool:
    return len(jaxpr.invars) >= FEW or joins_pieces(jaxpr) or all(e.primitive.name in _MOVES for e in jaxpr.eqns)


def _in_more_axes(a: np.ndarray, p: Any) -> np.ndarray | None:
    if a.size == 0 or np.prod(p["shape"], dtype=int) != a.size:
        return None
    shape = [1] * len(p["shape"])
    for axis, size in zip(p["broadcast_dimensions"], a.shape, strict=True):
        shape[axis] = size
    return a.reshape(shape)


def _sliced(a: np.ndarray, p: Any) -> np.ndarray:
    strides = p["strides"] or (1,) * a.ndim
    return a[tuple(map(slice, p["start_indices"], p["limit_indices"], strides))]


# What moves numbers of one array, and nothing else.
_MOVES: dict[str, Callable[[np.ndarray, Any], np.ndarray | None]] = {
    "reshape": lambda a, p: None if p["dimensions"] is not None else a.reshape(p["new_sizes"]),
    "squeeze": lambda a, p: np.squeeze(a, tuple(p["dimensions"])),
    "broadcast_in_dim": _in_more_axes,
    "slice": _sliced,
    "transpose": lambda a, p: np.transpose(a, p["permutation"]),
    "copy": lambda a, p: a,
    "copy_p": lambda a, p: a,
    "convert_element_type": lambda a, p: a,
}


class _Joined:
    """A flat jaxpr as a function of its inputs, or of the first of them and the others packed.

    Numbers that are only moved have addresses: `sources`, which are inputs and vectors that are cut, stand one after
    the other, and a piece is an array of positions. A join of many pieces that come from few sources indexes these.
    """

    def __init__(self, flat: _Flat, how: Packing | None = None):
        self._flat, self._how = flat, how
        self._addresses: dict[int, np.ndarray] = {}
        self._starts: list[int] = [0]
        self._sources: list[int] = []  # places; those of packed vectors are negative
        self._joins: dict[int, np.ndarray] = {}  # the node's number: addresses
        self._num_pieces: dict[int, int] = {}  # that were joined, by place
        if how is not None:
            self._begin(how)
        for i, node in enumerate(flat.nodes):
            self._follow(i, node)
        self._needed = self._find_needed()

    def _begin(self, how: Packing) -> None:
        rest = self._flat.inputs[1:]
        for k, members in enumerate(how.vectors):
            if len(members) > 1:
                sizes = [how.avals[i].size for i in members]
                whole = self._new_addresses(-1 - k, sum(sizes))
                for i, piece in zip(members, np.split(whole, np.cumsum(sizes)[:-1]), strict=True):
                    self._addresses[rest[i]] = piece.reshape(how.avals[i].shape)

    def _new_addresses(self, source: int, size: int) -> np.ndarray:
        self._sources.append(source)
        self._starts.append(self._starts[-1] + size)
        return np.arange(*self._starts[-2:])

    def _add_source(self, place: int) -> np.ndarray:
        aval = self._flat.avals[place]
        self._addresses[place] = self._new_addresses(place, aval.size).reshape(aval.shape)
        return self._addresses[place]

    def _address(self, atom: Any) -> np.ndarray | None:
        return None if isinstance(atom, Literal) else self._addresses.get(atom)

    def _follow(self, number: int, node: _Node) -> None:
        """The addresses of the outputs of a node, if it moves numbers alone."""
        name, params = node.equation.primitive.name, node.equation.params
        if name == "split" and not isinstance(node.ins[0], Literal):
            place = node.ins[0]
            if (addresses := self._address(place)) is None and self._flat.avals[place].size <= _LARGEST:
                addresses = self._add_source(place)
            if addresses is not None:
                pieces = np.split(addresses, np.cumsum(params["sizes"])[:-1], axis=params["axis"])
                self._addresses |= dict(zip(node.outs, pieces, strict=True))
        elif name in _MOVES and (addresses := self._address(node.ins[0])) is not None:
            if name == "convert_element_type" and not self._keeps_dtype(node):
                return
            if (moved := _MOVES[name](addresses, params)) is not None:
                self._addresses[node.outs[0]] = moved
        elif _joins(node.equation):
            self._join(number, node)

    def _keeps_dtype(self, node: _Node) -> bool:
        return self._flat.avals[node.ins[0]].dtype == self._flat.avals[node.outs[0]].dtype

    def _join(self, number: int, node: _Node) -> None:
        count = sum(self._num_pieces.get(place, 1) for place in node.ins)
        strangers = sum(place not in self._addresses for place in node.ins)
        if strangers > count // 4 or sum(self._flat.avals[place].size for place in node.ins) > _LARGEST:
            return
        found = [self._addresses[place] if place in self._addresses else self._add_source(place) for place in node.ins]
        is_stack = node.equation.primitive.name == "stack"
        axis = node.equation.params["axis" if is_stack else "dimension"]
        addresses = (np.stack if is_stack else np.concatenate)(found, axis)
        if addresses.size == 0 or len(self._sources_of(addresses)) > max(1, count // 4):
            return
        (place,) = node.outs
        self._addresses[place], self._num_pieces[place] = addresses, count
        if count >= FEW:
            self._joins[number] = addresses

    def _sources_of(self, addresses: np.ndarray) -> np.ndarray:
        return np.unique(np.searchsorted(self._starts, np.ravel(addresses), side="right") - 1)

    def _find_needed(self) -> set[int]:
        """The places whose values are needed; a join needs its sources, not its pieces."""
        needed = {atom for atom in self._flat.outputs if not isinstance(atom, Literal)}
        for number, node in reversed(list(enumerate(self._flat.nodes))):
            if not needed.intersection(node.outs):
                continue
            if number in self._joins:
                needed.update(self._sources[s] for s in self._sources_of(self._joins[number]))
            else:
                needed.update(atom for atom in node.ins if not isinstance(atom, Literal))
        return needed

    def _inputs(self, arrays: Sequence[Any]) -> dict[int, Any]:
        if self._how is None:
            return dict(zip(self._flat.inputs, arrays, strict=True))
        x, *vectors = arrays
        values: dict[int, Any] = {self._flat.inputs[0]: x}
        for k, (members, vector) in enumerate(zip(self._how.vectors, vectors, strict=True)):
            places = [self._flat.inputs[1 + i] for i in members]
            if len(members) == 1:
                values[places[0]] = vector
                continue
            values[-1 - k] = vector
            values |= self._cut(vector, places, [self._how.avals[i].size for i in members], 0)
        return values

    def __call__(self, *arrays: Any) -> list[Any]:
        values: dict[int, Any] = {**self._flat.constants, **self._inputs(arrays)}
        read = lambda atom: atom.val if isinstance(atom, Literal) else values[atom]  # noqa: E731
        for number, node in enumerate(self._flat.nodes):
            if not self._needed.intersection(node.outs):
                continue
            if number in self._joins:
                values[node.outs[0]] = self._indexed(self._joins[number], values)
            elif node.equation.primitive.name == "split":
                params = node.equation.params
                values |= self._cut(read(node.ins[0]), node.outs, params["sizes"], params["axis"])
            else:
                values |= dict(zip(node.outs, evaluate(node.equation, [*map(read, node.ins)]), strict=True))
        return [read(atom) for atom in self._flat.outputs]

    def _cut(self, a: Any, places: Sequence[int], sizes: Sequence[int], axis: int) -> dict[int, Any]:
        """The needed pieces of an array, those between them as one."""
        merged: list[tuple[int | None, int]] = []
        for place, size in zip(places, sizes, strict=True):
            if place in self._needed:
                merged.append((place, size))
            elif merged and merged[-1][0] is None:
                merged[-1] = None, merged[-1][1] + size
            else:
                merged.append((None, size))
        if all(place is None for place, _ in merged):
            return {}
        parts = lax.split(a, [size for _, size in merged], axis)
        found = {place: part for (place, _), part in zip(merged, parts, strict=True) if place is not None}
        return {place: part.reshape(self._flat.avals[place].shape) for place, part in found.items()}

    def _indexed(self, addresses: np.ndarray, values: dict[int, Any]) -> Any:
        sources = self._sources_of(addresses)
        vectors = [jnp.ravel(values[self._sources[s]]) for s in sources]
        whole = vectors[0] if len(vectors) == 1 else jnp.concatenate(vectors)
        sizes = [v.size for v in vectors]
        of_source = np.searchsorted(sources, np.searchsorted(self._starts, np.ravel(addresses), side="right") - 1)
        shift = np.cumsum([0, *sizes[:-1]]) - np.asarray(self._starts)[sources]
        index = np.ravel(addresses) + shift[of_source]
        if np.array_equal(index, np.arange(index[0], index[0] + index.size)):
            taken = lax.slice(whole, (index[0],), (index[0] + index.size,))
        else:
            unique = bool(np.unique(index).size == index.size)
            taken = whole.at[index].get(mode="promise_in_bounds", unique_indices=unique)
        return taken.reshape(addresses.shape)
