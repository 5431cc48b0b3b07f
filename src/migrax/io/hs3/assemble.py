"""From the analysis of a document to a likelihood, its parameters and its data."""

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..._likelihoods import BinnedNLL, Events, ExtendedUnbinnedNLL, PoissonNLL, UnbinnedNLL
from ..._parameters.parameter import Parameter
from .._node import Node, shown
from ..histfactory.build import build
from ..histfactory.spec import Spec
from .channels import AS_FACTOR, ChannelReader, Channels, Read, apart, edges_of
from .constraints import constraint
from .densities import KINDS, Density, Reader
from .document import Analysis, Document, Point, range_of
from .graph import Function, Graph, Operand, read_functions
from .keys import check_keys
from .likelihood import HS3, AtCentres, Counts, Model
from .parameters import entry, fixed_below, parameter

_CHANNELS = "channels"


class _Pair(NamedTuple):
    """A distribution and its data."""

    distribution: Node  # its name
    data: Node  # its name, or a number


class Assembly:
    """Collects the parts of a likelihood, and what they depend on."""

    def __init__(self, document: Document, analysis: Analysis, relative: bool, codes: tuple[int, int], centres: bool):
        self.document: Document = document
        self.analysis: Analysis = analysis
        self.codes: tuple[int, int] = codes
        self.centres: bool = centres
        self.ranges: dict[str, tuple[float, float]] = document.ranges(analysis)
        self.values: dict[str, Point] = document.values(analysis)
        self.graph: Graph
        self.unknown: dict[str, ValueError]
        self.graph, self.unknown = _graph(document)
        known = {*self.values, *self.ranges}
        self.channel_reader: ChannelReader = ChannelReader(relative, codes, known, document.distributions)
        self.channels: list[tuple[Read, np.ndarray]] = []
        self.parts: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.constraints: dict[str, Node] = {}
        self.inputs: list[tuple[Operand, str]] = []  # operands, and the parts that need them
        self.measured: set[str] = set()  # global observables, which are not parameters
        self.defaults: dict[str, Parameter] = {}  # the parameters of channels

    def built(self) -> tuple[HS3, dict[str, Parameter], dict[str, Any]]:
        """**Raises:** `ValueError` with the place in the document and the reason."""
        for pair in self._pairs():
            self._add(pair)
        auxiliary = self.analysis.likelihood.get("aux_distributions")
        for name in [] if auxiliary.missing else auxiliary.items():
            self._add_constraint(name)
        if self.channels:
            self._add_channels()
        for name, node in self.constraints.items():
            self._read_constraint(name, node)
        params = self._params()
        pois = tuple(name for name in self.analysis.parameters_of_interest if name in params)
        for name in self.analysis.parameters_of_interest:
            if name not in params:
                warnings.warn(
                    f"the parameter of interest {shown(name)} occurs nowhere in the likelihood, and is left out",
                    stacklevel=4,
                )
        return HS3(self.parts, pois, self.analysis.name), params, self.data

    def _pairs(self) -> list[_Pair]:
        node = check_keys(self.analysis.likelihood, "likelihood")
        distributions, data = node["distributions"].some(), list(node["data"].items())
        if len(distributions) != len(data):
            raise node.error(f"has {len(distributions)} distributions and {len(data)} data")
        return [_Pair(d, x) for d, x in zip(distributions, data, strict=True)]

    def _node(self, name: Node) -> Node:
        if name.text() not in self.document.distributions:
            raise name.error(f"there is no distribution {shown(name.value)}")
        return self.document.distributions[name.text()]

    def _add(self, pair: _Pair) -> None:
        node = self._node(pair.distribution)
        channel, factors = self._channel_in(node)
        if channel is not None:
            for factor in factors:
                self._add_constraint(factor)
            counts = check_keys(self._data_node(pair.data), "binned")["contents"]
            read = self.channel_reader.read(channel)
            self.channels.append((read, _counts(counts, read.channel.bins)))
            return
        variables, ranges, columns = self._variables(pair, node)
        density = Reader(self.document.distributions, self.graph, variables, ranges).read(pair.distribution)
        density = self._without_constraints(density)
        if not density.observables:
            raise pair.distribution.error(
                f"the distribution {shown(density.name)} depends on none of the variables of its data, "
                f"{', '.join(variables) or 'which have none'}"
            )
        order = tuple(v for v in variables if v in density.observables)
        used = tuple((v, *ranges[v]) for v in order if v in ranges)
        model = Model(density, self.graph, used, order)
        if isinstance(columns, dict):
            columns = np.stack([columns[v] for v in order], axis=-1)
        self._add_part(density.name, *self._likelihood(pair, model, columns))
        self.inputs += [(leaf, density.name) for leaf in self.graph.leaves(density.inputs) if leaf not in variables]

    def _add_part(self, name: str, part: Any, data: Any) -> None:
        if name in self.parts:
            raise self.analysis.likelihood.error(f"the distribution {shown(name)} is in it twice")
        self.parts[name], self.data[name] = part, data

    def _channel_in(self, node: Node) -> tuple[Node | None, list[Node]]:
        """The HistFactory channel that a distribution is, or is a product of with constraints, and these factors."""
        kind = node["type"].text()
        if kind in ("histfactory_dist", "histfactory_yield"):
            return node, []
        if kind != "product_dist":
            return None, []
        factors = node["factors"].some()
        channels = [f for f in factors if self._node(f)["type"].text() == "histfactory_dist"]
        if not channels:
            return None, []
        if len(channels) > 1:
            raise node["factors"].error("more than one histfactory_dist in a product is not supported")
        return self._node(channels[0]), [f for f in factors if f is not channels[0]]

    def _data_node(self, name: Node) -> Node:
        if name.text() not in self.document.data:
            raise name.error(f"there are no data {shown(name.value)}")
        return self.document.data[name.text()]

    def _variables(self, pair: _Pair, node: Node) -> tuple[tuple[str, ...], dict[str, tuple[float, float]], Any]:
        """The variables of the data, the ranges of all names, and the data: columns by variable, or the node if they
        are binned."""
        ranges = dict(self.ranges)
        if not isinstance(pair.data.value, str):
            return self._one_number(node, pair.data, ranges)
        data = self._data_node(pair.data)
        kind = data["type"].text()
        if kind not in ("point", "unbinned", "binned"):
            raise data["type"].error(
                f"data of the type {shown(kind)} are not supported; there are point, unbinned, binned"
            )
        check_keys(data, "data of the type point" if kind == "point" else kind)
        if kind == "point":
            return self._one_number(node, data["value"], ranges)
        axes = data["axes"].some()
        data.unique([axis["name"] for axis in axes])
        variables = tuple(axis["name"].text() for axis in axes)
        for name, axis in zip(variables, axes, strict=True):
            if not axis.get("categories").missing:
                raise axis["categories"].error("categorical axes are not supported")
            low, high = range_of(check_keys(axis, "axis"))
            domain = ranges.get(name, (-np.inf, np.inf))
            ranges[name] = (low if np.isfinite(low) else domain[0], high if np.isfinite(high) else domain[1])
            if kind == "binned":
                edges = edges_of(axis)
                ranges[name] = (float(edges[0]), float(edges[-1]))
        if kind == "binned":
            return variables, ranges, data
        entries = data["entries"].some()
        rows = np.array([entry.numbers(len(variables), "the axes are") for entry in entries])
        return variables, ranges, dict(zip(variables, rows.T, strict=True))

    def _one_number(
        self, node: Node, number: Node, ranges: dict[str, tuple[float, float]]
    ) -> tuple[tuple[str, ...], dict[str, tuple[float, float]], Any]:
        kind = node["type"].text()
        if kind not in KINDS:
            raise number.error(f"one number is no data of a {kind}")
        x = node[KINDS[kind].x].text()
        return (x,), ranges, {x: np.array([number.number()])}

    def _without_constraints(self, density: Density) -> Density:
        """A product without its factors that have no observable, which are constraints and count once."""
        if density.kind != "product_dist":
            return density
        kept = []
        for part in density.parts:
            if part.observables:
                kept.append(self._without_constraints(part))
            else:
                self._add_constraint(Node(part.name, density.name))
        if len(kept) == 1:  # keeps its expected number of events, if it has one
            return kept[0]._replace(name=density.name)
        if any(part.extended for part in kept):
            raise ValueError(f"{density.name}: an extended factor of a product of several densities is not supported")
        return density._replace(parts=tuple(kept))

    def _likelihood(self, pair: _Pair, model: Model, columns: Any) -> tuple[Any, Any]:
        """The likelihood of a pair, and its data."""
        density = model.density
        if isinstance(columns, Node):
            axes = columns["axes"].some()
            if len(axes) > 1:
                raise columns["axes"].error("binned data of several axes are for a histfactory_dist alone")
            edges = edges_of(axes[0])
            counts = jnp.asarray(_counts(columns["contents"], edges.size - 1))
            if self.centres and density.kind != "bincounts_extended_dist":
                return AtCentres(model, jnp.asarray(edges)), counts
            expected = Counts(model, jnp.asarray(edges))
            return (PoissonNLL(expected) if density.extended else BinnedNLL(expected)), counts
        x = jnp.asarray(columns[:, 0] if len(model.order) == 1 else columns)
        weights = Node(None, "") if not isinstance(pair.data.value, str) else self._data_node(pair.data).get("weights")
        data: Any = x
        if not weights.missing:
            w = weights.numbers(x.shape[0], "the entries are")
            data = x if np.all(w == 1) else Events(x, jnp.asarray(w))
        if density.kind == "bincounts_extended_dist":
            raise pair.data.error(f"{shown(density.name)} is a distribution of counts in bins, its data are unbinned")
        if density.extended:
            return ExtendedUnbinnedNLL(total=model.total, distribution=model), data
        return UnbinnedNLL(distribution=model), data

    def _add_constraint(self, name: Node) -> None:
        """Add it once, even if several channels have it. It is read when all uses of its names are known."""
        node = self._node(name)
        if node["type"].text() == "product_dist":
            for factor in check_keys(node, "product_dist")["factors"].items():
                self._add_constraint(factor)
        else:
            self.constraints[name.text()] = node

    def _read_constraint(self, name: str, node: Node) -> None:
        read = constraint(node, self.document, self.graph, self.values, set(self._needed()))
        self._add_part(name, read.likelihood, read.data)
        self.inputs += [(term, name) for term in read.inputs]
        self.measured |= read.measured

    def _add_channels(self) -> None:
        bindings: dict[str, tuple[Operand, ...] | Operand] = {}
        lists: dict[str, str] = {}
        reads = apart([read for read, _ in self.channels])
        for read in reads:
            for name, binding in read.bindings.items():
                if bindings.setdefault(name, binding) != binding:
                    raise ValueError(
                        f"{read.channel.where}: the parameters of {shown(name)} differ from those elsewhere"
                    )
                if isinstance(binding, tuple) and lists.setdefault(name, read.channel.where) != read.channel.where:
                    self._check_shared(read, name, lists[name])
        spec = Spec(tuple(read.channel for read in reads), {}, None, self.analysis.name)
        names = [channel.name for channel in spec.channels]
        if len(set(names)) < len(names):
            raise self.analysis.likelihood.error("a histfactory_dist is in it twice")
        observed = {read.channel.name: counts for read, counts in self.channels}
        model, params, data = build(spec, observed, self.codes)
        for read, _ in self.channels:
            for name, least in read.thresholds.items():
                errors = {n: float(e) for n, _, e in model.aux.prefit(None, data["aux"])}
                params[name] = fixed_below(params[name], errors, name, least)
        self._add_part(_CHANNELS, Channels(model, self.graph, tuple(sorted(bindings.items()))), data)
        # a parameter with several uses has the start and the bounds of the constrained one
        for name, binding in sorted(bindings.items(), key=lambda item: not item[0].endswith(AS_FACTOR)):
            p = params[name]
            if isinstance(binding, tuple):
                for i, term in enumerate(binding):
                    if isinstance(term, str):
                        self.defaults[term] = entry(p, i)
            elif isinstance(binding, str):
                self.defaults[binding] = p
            self.inputs += [(term, _CHANNELS) for term in (binding if isinstance(binding, tuple) else (binding,))]

    def _check_shared(self, read: Read, name: str, where: str) -> None:
        for sample in read.channel.samples:
            for m in sample.modifiers:
                if m.name == name and m.kind != "shapefactor":
                    raise ValueError(f"{m.where}: a {m.kind} cannot share its parameters with the channel at {where}")

    def _needed(self) -> dict[str, str]:
        """The names that are not functions, and a part that depends on each."""
        names: dict[str, str] = {}
        for term, part in self.inputs:
            for leaf in self.graph.leaves([term]):
                if leaf in self.unknown:
                    raise self.unknown[leaf]
                names.setdefault(leaf, part)
        return names

    def _params(self) -> dict[str, Parameter]:
        names, params, without_value = self._needed(), {}, []
        for name in sorted(names):
            if name not in self.measured:
                part = names[name]
                where = self.document.distributions[part].where if part in self.document.distributions else shown(part)
                params[name] = parameter(name, self.values, self.ranges, where, self.defaults.get(name))
                if name not in self.values and name in self.ranges:
                    without_value.append(f"{name} at {float(params[name].value):g}")
        if without_value:
            listed = ", ".join(without_value[:10]) + (
                f" and {len(without_value) - 10} more" if len(without_value) > 10 else ""
            )
            warnings.warn(
                "parameters with a domain and without a value in a parameter point start at their default, or in the "
                f"middle of their domain: {listed}",
                stacklevel=4,
            )
        if not params:
            raise self.analysis.likelihood.error("nothing in it depends on a parameter")
        return params


def _counts(node: Node, bins: int) -> np.ndarray:
    counts = node.numbers(bins, "the axes of the distribution have")
    if np.any(counts < 0):
        raise node.error("a count cannot be negative")
    return counts


def _graph(document: Document) -> tuple[Graph, dict[str, ValueError]]:
    """The functions that can be read, and the errors of the others, which are raised where these are used."""
    nodes = document.root.get("functions")
    listed: Iterable[Node] = [] if nodes.missing else nodes.items()
    functions: dict[str, Function] = {}
    errors: dict[str, ValueError] = {}
    for name, read in read_functions(listed).items():
        try:
            functions[name] = read()
        except ValueError as error:
            errors[name] = error
    return Graph(functions), errors
