"""The names of an HS3 document and what they denote: parameters, variables, and functions of these."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from .._node import Node, shown
from .expression import Expression, parse
from .keys import check_keys

Operand = float | str  # a number, or a name

_MAX_DEPTH = 100  # nested functions
_KINDS = ("sum", "product", "polynomial", "generic_function")


class Function(NamedTuple):
    """- `kind`: sum, product, polynomial or generic_function.
    - `parts`: the summands, factors or coefficients; for a generic function the names in its expression.
    - `x`: the variable of a polynomial.
    """

    kind: str
    parts: tuple[Operand, ...]
    x: Operand | None = None
    expression: Expression | None = None


def operand(node: Node) -> Operand:
    """A number or a name.

    **Raises:** `ValueError` for anything else.
    """
    return node.text() if isinstance(node.value, str) else node.number()


class Graph:
    """The functions of a document by name. It is compared by its content, as it is static to `jax.jit`."""

    def __init__(self, functions: Mapping[str, Function]):
        self.functions: dict[str, Function] = dict(functions)
        self._key = repr(sorted(self.functions.items()))
        self._hash = hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Graph({', '.join(self.functions)})"

    def leaves(self, operands: Iterable[Operand]) -> set[str]:
        """The names of all parameters and variables that these depend on.

        **Raises:** `ValueError` for a function of itself.
        """
        names: set[str] = set()
        for term in operands:
            self._collect(term, names, ())
        return names

    def _collect(self, term: Operand, names: set[str], ancestors: tuple[str, ...]) -> None:
        if not isinstance(term, str):
            return
        if term in ancestors or len(ancestors) > _MAX_DEPTH:
            raise ValueError(f"the function {shown(term)} is one of itself: {' of '.join((*ancestors[-3:], term))}")
        if term not in self.functions:
            names.add(term)
            return
        function = self.functions[term]
        for part in (*function.parts, *([] if function.x is None else [function.x])):
            self._collect(part, names, (*ancestors, term))

    def values(self, known: Mapping[str, Any]) -> "Values":
        """The values of all names, given those that are `known`."""
        return Values(self, known)


class Values:
    """The values of names. Each function is evaluated at most once."""

    def __init__(self, graph: Graph, known: Mapping[str, Any]):
        self.graph: Graph = graph
        self.known: dict[str, Array] = {name: jnp.asarray(value) for name, value in known.items()}

    def __call__(self, term: Operand) -> Array:
        if not isinstance(term, str):
            return jnp.asarray(term, jnp.result_type(float))
        if term not in self.known:
            self.known[term] = self._function(self.graph.functions[term])
        return self.known[term]

    def at(self, more: Mapping[str, Array]) -> "Values":
        """With variables, too. Nothing that was computed without them is kept."""
        plain = {name: value for name, value in self.known.items() if name not in self.graph.functions}
        return Values(self.graph, plain | dict(more))

    def _function(self, function: Function) -> Array:
        if function.expression is not None:
            return function.expression.value(self)
        parts = [self(part) for part in function.parts]
        if function.kind == "polynomial":
            assert function.x is not None
            return polynomial(parts, self(function.x))
        total = parts[0]
        for part in parts[1:]:
            total = total + part if function.kind == "sum" else total * part
        return total


def polynomial(coefficients: list[Array], x: Array) -> Array:
    """a_0 + a_1 x + a_2 x² + ..., by Horner's rule."""
    total = coefficients[-1]
    for a in coefficients[-2::-1]:
        total = a + total * x
    return jnp.asarray(total)


def read_functions(nodes: Iterable[Node]) -> dict[str, Callable[[], Function]]:
    """The functions by name, each read when it is needed: those that a likelihood does not use may be unsupported."""
    return {node["name"].text(): lambda node=node: _function(node) for node in nodes}


def _function(node: Node) -> Function:
    kind = node["type"].text()
    if kind in _KINDS:
        check_keys(node, kind)
    if kind in ("sum", "product"):
        parts = tuple(operand(part) for part in node["summands" if kind == "sum" else "factors"].some())
        return Function(kind, parts)
    if kind == "polynomial":
        return Function(kind, tuple(operand(c) for c in node["coefficients"].some()), operand(node["x"]))
    if kind == "generic_function":
        expression = expression_of(node["expression"])
        return Function(kind, expression.names, expression=expression)
    raise node["type"].error(
        f"{shown(kind)}, the function {shown(node['name'].value)}, is not supported; there are {', '.join(_KINDS)}"
    )


def expression_of(node: Node) -> Expression:
    """**Raises:** `ValueError` with the place in the document."""
    try:
        return parse(node.text())
    except ValueError as error:
        raise node.error(str(error)) from None
