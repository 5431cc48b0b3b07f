"""Distributions that depend on no variable of the data: constraints, with global observables, and penalties."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._node import Node, shown
from .densities import KINDS, Density, Reader
from .document import Document, Point
from .graph import Graph, Operand, operand
from .likelihood import Measurement, Model, Penalty

_CENTRES = {"gaussian_dist": "mean", "normal_dist": "mean", "poisson_dist": "mean", "lognormal_dist": "mu"}
_SYMMETRIC = ("gaussian_dist", "normal_dist")


class Constraint(NamedTuple):
    """- `inputs`: the operands that it depends on. `measured`: its global observables, which are not parameters."""

    likelihood: Any
    data: Any
    inputs: tuple[Operand, ...]
    measured: set[str]


def constraint(node: Node, document: Document, graph: Graph, values: Mapping[str, Point], used: set[str]) -> Constraint:
    """Read a constraint, of a kind that its variable determines: a number or a constant is a global observable; a
    floating name is a parameter, and the observable is the centre of a Gaussian if that is constant. Names that other
    parts of the likelihood depend on, `used`, are parameters, constant or not.

    **Raises:** `ValueError` for an unsupported distribution.
    """
    kind, name = node["type"].text(), node["name"].text()
    if kind not in KINDS:
        raise node["type"].error(
            f"{shown(kind)}, the constraint {shown(name)}, is not supported; there are {', '.join(KINDS)}"
        )
    key = KINDS[kind].x
    x, entries = operand(node[key]), dict(node.value)
    observed = _constant(x, graph, values, used)
    centre = operand(node[_CENTRES[kind]]) if kind in _CENTRES else None
    if observed is None and kind in _SYMMETRIC and centre is not None:
        observed = _constant(centre, graph, values, used)
        if observed is not None:
            entries["mean"], x, centre = x, centre, x
    if observed is None or kind not in _CENTRES:
        _check_forgotten(node, {x, centre} - used - set(graph.functions))
        return _penalty(node, name, key, x, document, graph)
    variable = f"{name}.{key}"  # not the name of a parameter
    density = _read(Node(entries | {key: variable}, node.where), name, document, graph, (variable,))
    width = operand(node["sigma"]) if kind in _SYMMETRIC else None
    is_parameter = isinstance(centre, str) and centre not in graph.functions
    model = Model(density, graph, (), (variable,))
    part = Measurement(model, _CENTRES[kind], centre if is_parameter else None, width)  # type: ignore[arg-type]
    return Constraint(part, jnp.asarray(observed), density.inputs, {x} if isinstance(x, str) else set())


def _check_forgotten(node: Node, names: set[Any]) -> None:
    """Warn of a floating name that only the constraint depends on: it is probably meant as the global observable."""
    for name in names:
        if isinstance(name, str):
            warnings.warn(
                f"{node.where}: {shown(name)} is a parameter of the constraint {shown(node['name'].value)} alone, "
                "where a constant is usual: toys do not fluctuate a constraint without one. Is its const forgotten?",
                stacklevel=6,
            )


def _penalty(node: Node, name: str, key: str, x: Operand, document: Document, graph: Graph) -> Constraint:
    if not isinstance(x, str):
        raise node.error(f"as a constraint, a {node['type'].value} of a number is not supported")
    variable = f"{name}.{key}"
    density = _read(Node(dict(node.value) | {key: variable}, node.where), name, document, graph, (variable,))
    limits = _range(document, x) if KINDS[density.kind].finite else None
    ranges = () if limits is None else ((variable, *limits),)
    return Constraint(Penalty(Model(density, graph, ranges, (variable,)), x), (), (*density.inputs, x), set())


def _range(document: Document, x: str) -> tuple[float, float] | None:
    from .document import range_of

    for domain in document.domains.values():
        axes = domain.get("axes")
        for axis in [] if axes.missing else axes.items():
            if axis["name"].text() == x:
                return range_of(axis)
    return None


def _read(node: Node, name: str, document: Document, graph: Graph, variables: tuple[str, ...]) -> Density:
    nodes = document.distributions | {name: node}
    ranges = {variables[0]: (-1e300, 1e300)}  # a constraint needs no range
    return Reader(nodes, graph, variables, ranges).read(Node(name, node.where))


def _constant(term: Operand, graph: Graph, values: Mapping[str, Point], used: set[str]) -> float | None:
    """The value of a constant; `None` for what floats."""
    if not isinstance(term, str):
        return term
    if term in used or term in graph.functions or term not in values or not values[term].const:
        return None
    return values[term].value
