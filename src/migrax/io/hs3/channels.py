"""The HistFactory channels of an HS3 document, in one model whose parameters are names of the document."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Scalar

from ..._likelihoods import AbstractLikelihood
from ..._likelihoods.spread import At
from ..._parameters.resolve import resolve
from ..._util.typing import PyTree
from .._node import Node, shown
from ..histfactory import HistFactory
from ..histfactory.response import Response, usual
from ..histfactory.spec import Channel, Modifier, Sample
from .graph import Graph, Operand, operand
from .interpolation import check_factors, read_interpolation, read_structure
from .keys import check_keys

Bindings = tuple[tuple[str, tuple[Operand, ...] | Operand], ...]

_NONE = "Const"  # ROOT's name for no constraint
AS_FACTOR = " (normfactor)"


class Channels(AbstractLikelihood):
    """A HistFactory model whose parameters are names of a document: parameters, and functions of these.

    The data are `{"main": {channel: counts}, "aux": {parameter: its measured value}}`.

    **Attributes:** `model`: the `HistFactory`; `bindings`: for each of its parameters the name, or the names of its
    entries, in the document.
    """

    model: HistFactory
    graph: Graph = eqx.field(static=True)
    bindings: Bindings = eqx.field(static=True)

    def _model_params(self, params: PyTree) -> dict[str, Array]:
        values = self.graph.values(resolve(params))
        inner = {}
        for name, binding in self.bindings:
            inner[name] = (
                jnp.stack([values(term) for term in binding]) if isinstance(binding, tuple) else values(binding)
            )
        return inner

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """Minus the log of the likelihood."""
        return self.model(self._model_params(params), data)

    def varying(self, params: PyTree, data: Any) -> Scalar:
        """The part of the value that depends on the parameters."""
        return self.model.varying(self._model_params(params), data)

    def constant(self, data: Any) -> Scalar:
        """The part of the value that depends on the data alone."""
        return self.model.constant(data)

    @property
    def kinks(self) -> dict[str, float] | None:
        """The kinks of the model, for those of its parameters that are parameters of the document."""
        functions = self.graph.functions
        names = {inner: name for inner, name in self.bindings if isinstance(name, str) and name not in functions}
        return {names[name]: position for name, position in (self.model.kinks or {}).items() if name in names} or None

    def expected(self, params: PyTree) -> dict[str, dict[str, Array]]:
        """The expected counts of each sample in each channel."""
        return self.model.expected(self._model_params(params))

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Any:
        """Data of one toy: counts and global observables."""
        return self.model.sample(self._model_params(params), key)

    def expected_data(self, params: PyTree, data: Any = None) -> Any:
        """The Asimov data."""
        return self.model.expected_data(self._model_params(params))

    def prediction(self, params: PyTree, data: Any = None) -> Any:
        """The expectations of the counts and of the measurements of parameters."""
        return self.model.prediction(self._model_params(params))

    def pulls(self, params: PyTree, data: Any) -> Any:
        """The pulls of the counts and of the measurements of parameters."""
        return self.model.pulls(self._model_params(params), data)

    def deviance(self, params: PyTree, data: Any) -> Scalar:
        """Twice the likelihood relative to the saturated model."""
        return self.model.deviance(self._model_params(params), data)

    def score_covariance(self, at: At, x: Array, data: Any) -> Array:
        """J of the sandwich: that of the model."""
        return self.model.score_covariance(lambda x: self._model_params(at(x)), x, data)

    def ndata(self, data: Any) -> int:
        """The number of bins and of measurements of parameters."""
        return self.model.ndata(data)

    def faults(self, params: PyTree, data: Any) -> PyTree:
        """`Fault` codes, for messages."""
        return self.model.faults(self._model_params(params), data)

    def prefit(self, params: PyTree, data: Any) -> list[tuple[str, Array, Array]]:
        """Names, values and errors of the constrained parameters before the fit."""
        names = {}
        for inner, binding in self.bindings:
            entries = enumerate(binding) if isinstance(binding, tuple) else [(None, binding)]
            names |= {inner if i is None else f"{inner}[{i}]": term for i, term in entries}
        # a function of parameters has no error of its own
        measured = self.model.prefit(self._model_params(params), data)
        known = _names(params)
        named = ((names.get(n, n), x, e) for n, x, e in measured)  # the default is for entries without a name
        return [(n, x, e) for n, x, e in named if isinstance(n, str) and n.partition("[")[0] in known]


def _names(params: Any) -> set[str]:
    return set(params) if isinstance(params, Mapping) else set()


class Read(NamedTuple):
    """A channel as it is in the document.

    - `bindings`: those of the parameters that it needs.
    - `thresholds`: for staterror, by parameter: those with smaller relative errors are fixed.
    - `response`: the interpolation of modifiers without one of their own.
    """

    channel: Channel
    bindings: dict[str, tuple[Operand, ...] | Operand]
    thresholds: dict[str, float]
    response: Response | None


def apart(reads: list[Read]) -> list[Read]:
    """The same channels, where normfactors that share a parameter with other modifiers have names of their own: in the
    model they are separate parameters, which are bound to the same one of the document."""
    kinds: dict[str, set[str]] = {}
    for read in reads:
        for sample in read.channel.samples:
            for m in sample.modifiers:
                kinds.setdefault(m.name, set()).add(m.kind)
    shared = {name for name, used_as in kinds.items() if "normfactor" in used_as and len(used_as) > 1}
    if not shared:
        return reads
    named = lambda m: m._replace(name=m.name + AS_FACTOR) if m.kind == "normfactor" and m.name in shared else m  # noqa: E731
    renamed = []
    for read in reads:
        samples = tuple(s._replace(modifiers=tuple(map(named, s.modifiers))) for s in read.channel.samples)
        used = {m.name for s in samples for m in s.modifiers}
        bindings = {name + AS_FACTOR: binding for name, binding in read.bindings.items()} | read.bindings
        kept = {name: binding for name, binding in bindings.items() if name in used}
        renamed.append(read._replace(channel=read.channel._replace(samples=samples), bindings=kept))
    return renamed


class ChannelReader:
    """Reads channels. `relative`: whether the errors of shapesys are relative, as ROOT writes them, or absolute, as
    pyhs3 does. `codes`: the default interpolations of normsys and histosys. `known`: all names of parameters in the
    document. `constraints`: all distributions."""

    def __init__(self, relative: bool, codes: tuple[int, int], known: set[str], constraints: Mapping[str, Node]):
        self.relative: bool = relative
        self.known: set[str] = known
        self.constraints: Mapping[str, Node] = constraints
        self.codes: tuple[int, int] = codes

    def read(self, node: Node) -> Read:
        """**Raises:** `ValueError` with the place in the document and the reason."""
        name = check_keys(node, node["type"].text())["name"].text()
        bins = _bins(node)
        if not node.get("staterror").missing:
            check_keys(node["staterror"], "staterror of a channel")
        default = node.get("default_interpolation")
        read = Read(Channel(name, (), node.where), {}, {}, None if default.missing else read_structure(default))
        samples = node["samples"].some()
        node.unique([sample["name"] for sample in samples])
        read_samples = tuple(self._sample(node, sample, bins, read) for sample in samples)
        return read._replace(channel=Channel(name, read_samples, node.where))

    def _sample(self, channel: Node, node: Node, bins: int, read: Read) -> Sample:
        contents = check_keys(node, "sample")["data"]["contents"].numbers(bins, "the axes of the channel have")
        listed = node.get("modifiers")
        modifiers = [] if listed.missing else [self._modifier(channel, node, m, bins, read) for m in listed.items()]
        seen: dict[tuple[str, str], str] = {}
        for m in modifiers:
            if (m.kind, m.name) in seen and m.errors is not None:  # its errors would count twice
                raise ValueError(f"{m.where}: the {m.kind} of {shown(m.name)} is at {seen[m.kind, m.name]} already")
            seen[m.kind, m.name] = m.where
        return Sample(node["name"].text(), contents, tuple(modifiers), node.where)

    def _modifier(self, channel: Node, sample: Node, node: Node, bins: int, read: Read) -> Modifier:
        kind = check_keys(node, "modifier")["type"].text()
        if kind == "normfactor":
            if _constraint_of(node).value not in (None, _NONE):
                raise _constraint_of(node).error(
                    "a constraint of a normfactor is not supported: write it as a distribution"
                )
            return Modifier(kind, self._bound(node, "", read), node.where)
        if kind in ("normsys", "histosys"):
            self._check_constraint(node, ("Gauss",))
            name = self._bound(node, "alpha_", read)
            return self._varied(kind, name, sample, node, bins, read)
        if kind in ("shapefactor", "shapesys", "staterror"):
            return self._by_bin(kind, channel, sample, node, bins, read)
        known = "normfactor, normsys, histosys, shapefactor, shapesys and staterror"
        raise node["type"].error(f"{shown(kind)} is no modifier that is supported; there are {known}")

    def _varied(self, kind: str, name: str, sample: Node, node: Node, bins: int, read: Read) -> Modifier:
        """A normsys or histosys."""
        given = node.get("interpolation")
        given = node["data"].get("interpolation") if given.missing else given
        response = read.response if given.missing else read_interpolation(given, kind)
        used = usual(kind, self.codes) if response is None else response
        if kind == "normsys":
            lo, hi = (_factor(node["data"][key], used) for key in ("lo", "hi"))
            return Modifier(kind, name, node.where, lo, hi, response=response)
        lo, hi = (node["data"][key]["contents"].numbers(bins, "the channel has") for key in ("lo", "hi"))
        if used.multiplies:
            lo, hi = check_factors(node, used, sample["data"]["contents"].numbers(bins), lo, hi)
        return Modifier(kind, name, node.where, lo, hi, response=response)

    def _by_bin(self, kind: str, channel: Node, sample: Node, node: Node, bins: int, read: Read) -> Modifier:
        listed = node.get("parameters")
        if listed.missing:
            name = node["parameter" if not node.get("parameter").missing else "name"].text()
            read.bindings[name] = name
        else:
            names = tuple(operand(p) for p in listed.some())
            if len(names) != bins:
                raise listed.error(f"has {len(names)} entries, the channel {bins} bins")
            name = str(names[0])  # identifies the list: lists that begin alike must be equal
            if read.bindings.setdefault(name, names) != names:
                raise listed.error(f"begins with {shown(name)}, as another list of parameters does that is different")
        if kind == "shapefactor":
            return Modifier(kind, name, node.where)
        given_constraint = _constraint_of(node)
        if kind == "shapesys":
            errors = node["data"]["vals"].numbers(bins, "the channel has")
            if self.relative:
                errors = errors * sample["data"]["contents"].numbers(bins)
        else:
            at_channel = channel.get("staterror")
            if not at_channel.missing:
                given_constraint = given_constraint if not given_constraint.missing else at_channel.get("constraint")
                if not at_channel.get("relThreshold").missing:
                    read.thresholds[name] = at_channel["relThreshold"].number()
            data = node.get("data")
            uncertainties = sample["data"]["errors"] if data.missing else data["uncertainties"]
            errors = uncertainties.numbers(bins, "the channel has")
        if np.any(errors < 0):
            raise node.error("errors cannot be negative")
        constraint = "Poisson" if given_constraint.missing else given_constraint.text()
        if constraint not in ("Poisson", "Gauss"):
            raise given_constraint.error(
                f"{shown(constraint)} is no constraint of a {kind} that is supported: Poisson or Gauss"
            )
        return Modifier(
            kind, name, node.where, errors=errors, constraint={"Poisson": "poisson", "Gauss": "normal"}[constraint]
        )

    def _bound(self, node: Node, prefix: str, read: Read) -> str:
        """The name of a modifier's parameter; if it has none, ROOT derives it from the modifier's name."""
        if node.get("parameter").missing:
            modifier_name = node["name"].text()
            name = prefix + modifier_name if prefix + modifier_name in self.known else modifier_name
        else:
            name = node["parameter"].text()
        if read.bindings.setdefault(name, name) != name:
            raise node.error(f"{shown(name)} is the first one of a list of parameters elsewhere in the channel")
        return name

    def _check_constraint(self, node: Node, supported: tuple[str, ...]) -> None:
        given, name = _constraint_of(node), node.get("constraint_name")
        if not given.missing and given.value not in supported:
            raise given.error(f"{shown(given.value)} is no constraint that is supported here: {' or '.join(supported)}")
        if not name.missing and name.text() in self.constraints:
            other = self.constraints[name.text()]
            is_unit = other["type"].text() in ("gaussian_dist", "normal_dist") and other["sigma"].value in (1, 1.0)
            if not is_unit:
                raise name.error("the constraint of a normsys or histosys must be a Gaussian with a sigma of 1")


def _constraint_of(modifier: Node) -> Node:
    """The constraint of a modifier, under one of two keys."""
    given = modifier.get("constraint")
    return modifier.get("constraint_type") if given.missing else given


def _bins(channel: Node) -> int:
    total = 1
    for axis in channel["axes"].some():
        total *= bins_of(check_keys(axis, "axis"))
    return total


def bins_of(axis: Node) -> int:
    """The number of bins of an axis."""
    return edges_of(axis).size - 1


def edges_of(axis: Node) -> np.ndarray:
    """The edges of an axis of binned data.

    **Raises:** `ValueError` unless they are given, in one of three ways, and increase.
    """
    for key in ("edges", "bounds"):  # "bounds" in older files
        if not axis.get(key).missing:
            edges = axis[key].numbers()
            if edges.size < 2 or np.any(np.diff(edges) <= 0):
                raise axis[key].error("must be at least two numbers that grow")
            return edges
    n = axis["nbins"].number()
    if n != int(n) or not 1 <= n <= 1e7:
        raise axis["nbins"].error(f"must be a number of bins, got {n:g}")
    low, high = axis["min"].number(), axis["max"].number()
    if not high > low:
        raise axis.error(f"max must be above min, got {low:g} and {high:g}")
    return np.linspace(low, high, int(n) + 1)


def _factor(node: Node, response: Response) -> float:
    factor = node.number()
    if response.exponential and factor <= 0:
        raise node.error(f"a factor must be positive, as its logarithm is taken; it is {factor:g}")
    return factor
