"""The HistFactory channels of an HS3 document, all in one model whose parameters are names of the document."""

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

_NONE = "Const"  # ROOT's word for no constraint
AS_FACTOR = " (normfactor)"


class Channels(AbstractLikelihood):
    """A HistFactory model whose parameters are names of a document: parameters, and functions of these.

    The data are `{"main": {channel: counts}, "aux": {parameter: what was measured of it}}`.

    **Attributes:** `model`: the `HistFactory`; `bindings`: for each of its parameters the name, or the names of its
    entries, in the document.
    """

    model: HistFactory
    graph: Graph = eqx.field(static=True)
    bindings: Bindings = eqx.field(static=True)

    def _inside(self, params: PyTree) -> dict[str, Array]:
        values = self.graph.values(resolve(params))
        found = {}
        for name, of in self.bindings:
            found[name] = jnp.stack([values(one) for one in of]) if isinstance(of, tuple) else values(of)
        return found

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """Minus the log of the likelihood."""
        return self.model(self._inside(params), data)

    def varying(self, params: PyTree, data: Any) -> Scalar:
        """What of the value depends on the parameters."""
        return self.model.varying(self._inside(params), data)

    def constant(self, data: Any) -> Scalar:
        """The rest."""
        return self.model.constant(data)

    @property
    def kinks(self) -> dict[str, float] | None:
        """Where slopes jump: those of the model, for its parameters that are parameters of the document."""
        functions = self.graph.functions
        of = {inner: name for inner, name in self.bindings if isinstance(name, str) and name not in functions}
        return {of[name]: at for name, at in (self.model.kinks or {}).items() if name in of} or None

    def expected(self, params: PyTree) -> dict[str, dict[str, Array]]:
        """The expected counts of each sample in each channel."""
        return self.model.expected(self._inside(params))

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Any:
        """Data of one toy: counts and global observables."""
        return self.model.sample(self._inside(params), key)

    def expected_data(self, params: PyTree, data: Any = None) -> Any:
        """The Asimov data."""
        return self.model.expected_data(self._inside(params))

    def prediction(self, params: PyTree, data: Any = None) -> Any:
        """What is expected of the counts and of the measurements of parameters."""
        return self.model.prediction(self._inside(params))

    def pulls(self, params: PyTree, data: Any) -> Any:
        """Those of the counts and of the measurements of parameters."""
        return self.model.pulls(self._inside(params), data)

    def deviance(self, params: PyTree, data: Any) -> Scalar:
        """Twice the likelihood above that of the saturated model."""
        return self.model.deviance(self._inside(params), data)

    def score_covariance(self, at: At, x: Array, data: Any) -> Array:
        """J of the sandwich: that of the model."""
        return self.model.score_covariance(lambda x: self._inside(at(x)), x, data)

    def ndata(self, data: Any) -> int:
        """How many bins there are, and measurements of parameters."""
        return self.model.ndata(data)

    def faults(self, params: PyTree, data: Any) -> PyTree:
        """`Fault` numbers, for messages."""
        return self.model.faults(self._inside(params), data)

    def prefit(self, params: PyTree, data: Any) -> list[tuple[str, Array, Array]]:
        """Names, values and errors of the constrained parameters before the fit."""
        names = {}
        for inner, of in self.bindings:
            each = enumerate(of) if isinstance(of, tuple) else [(None, of)]
            names |= {inner if i is None else f"{inner}[{i}]": one for i, one in each}
        # a function of parameters has no error of its own
        found = self.model.prefit(self._inside(params), data)
        known = _leaves(params)
        named = ((names.get(n, n), x, e) for n, x, e in found)  # entries of a vector without names keep theirs
        return [(n, x, e) for n, x, e in named if isinstance(n, str) and n.partition("[")[0] in known]


def _leaves(params: Any) -> set[str]:
    return set(params) if isinstance(params, Mapping) else set()


class Read(NamedTuple):
    """A channel as it stands in the document.

    - `counts`: the observed ones.
    - `bindings`: of the parameters that it needs.
    - `thresholds`: of staterror, by parameter: those of smaller relative errors are fixed.
    - `response`: the interpolation of modifiers that do not say theirs.
    """

    channel: Channel
    bindings: dict[str, tuple[Operand, ...] | Operand]
    thresholds: dict[str, float]
    response: Response | None


def apart(reads: list[Read]) -> list[Read]:
    """The same channels, with normfactors of parameters that other modifiers have, too, under names of their own: in
    the model they are other parameters, which are bound to the same one of the document."""
    kinds: dict[str, set[str]] = {}
    for read in reads:
        for sample in read.channel.samples:
            for m in sample.modifiers:
                kinds.setdefault(m.name, set()).add(m.kind)
    both = {name for name, found in kinds.items() if "normfactor" in found and len(found) > 1}
    if not both:
        return reads
    named = lambda m: m._replace(name=m.name + AS_FACTOR) if m.kind == "normfactor" and m.name in both else m  # noqa: E731
    found = []
    for read in reads:
        samples = tuple(s._replace(modifiers=tuple(map(named, s.modifiers))) for s in read.channel.samples)
        used = {m.name for s in samples for m in s.modifiers}
        bindings = {name + AS_FACTOR: of for name, of in read.bindings.items()} | read.bindings
        kept = {name: of for name, of in bindings.items() if name in used}
        found.append(read._replace(channel=read.channel._replace(samples=samples), bindings=kept))
    return found


class ChannelReader:
    """Reads channels. `relative`: whether the errors of shapesys are relative, as ROOT writes them, or absolute, as
    pyhs3 does. `codes`: the interpolations of normsys and histosys where nothing is said. `known`: all names that
    parameters have somewhere in the document. `constraints`: all distributions."""

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
        each = tuple(self._sample(node, sample, bins, read) for sample in samples)
        return read._replace(channel=Channel(name, each, node.where))

    def _sample(self, channel: Node, node: Node, bins: int, read: Read) -> Sample:
        contents = check_keys(node, "sample")["data"]["contents"].numbers(bins, "the axes of the channel have")
        listed = node.get("modifiers")
        modifiers = [] if listed.missing else [self._modifier(channel, node, m, bins, read) for m in listed.items()]
        seen: dict[tuple[str, str], str] = {}
        for m in modifiers:
            if (m.kind, m.name) in seen and m.errors is not None:  # whose errors would count twice
                raise ValueError(f"{m.where}: the {m.kind} of {shown(m.name)} is at {seen[m.kind, m.name]} already")
            seen[m.kind, m.name] = m.where
        return Sample(node["name"].text(), contents, tuple(modifiers), node.where)

    def _modifier(self, channel: Node, sample: Node, node: Node, bins: int, read: Read) -> Modifier:
        kind = check_keys(node, "modifier")["type"].text()
        if kind == "normfactor":
            if _said(node).value not in (None, _NONE):
                raise _said(node).error("a constraint of a normfactor is not supported: write it as a distribution")
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
        said = node.get("interpolation")
        said = node["data"].get("interpolation") if said.missing else said
        response = read.response if said.missing else read_interpolation(said, kind)
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
            name = str(names[0])  # the list's own name: no two lists may begin alike and differ
            if read.bindings.setdefault(name, names) != names:
                raise listed.error(f"begins with {shown(name)}, as another list of parameters does that is different")
        if kind == "shapefactor":
            return Modifier(kind, name, node.where)
        said = _said(node)
        if kind == "shapesys":
            errors = node["data"]["vals"].numbers(bins, "the channel has")
            if self.relative:
                errors = errors * sample["data"]["contents"].numbers(bins)
        else:
            at_channel = channel.get("staterror")
            if not at_channel.missing:
                said = said if not said.missing else at_channel.get("constraint")
                if not at_channel.get("relThreshold").missing:
                    read.thresholds[name] = at_channel["relThreshold"].number()
            own = node.get("data")
            given = sample["data"]["errors"] if own.missing else own["uncertainties"]
            errors = given.numbers(bins, "the channel has")
        if np.any(errors < 0):
            raise node.error("errors cannot be negative")
        constraint = "Poisson" if said.missing else said.text()
        if constraint not in ("Poisson", "Gauss"):
            raise said.error(f"{shown(constraint)} is no constraint of a {kind} that is supported: Poisson or Gauss")
        return Modifier(
            kind, name, node.where, errors=errors, constraint={"Poisson": "poisson", "Gauss": "normal"}[constraint]
        )

    def _bound(self, node: Node, prefix: str, read: Read) -> str:
        """The name of a modifier's parameter; without one ROOT makes it from the modifier's own."""
        if node.get("parameter").missing:
            own = node["name"].text()
            name = prefix + own if prefix + own in self.known else own
        else:
            name = node["parameter"].text()
        if read.bindings.setdefault(name, name) != name:
            raise node.error(f"{shown(name)} is the first one of a list of parameters elsewhere in the channel")
        return name

    def _check_constraint(self, node: Node, supported: tuple[str, ...]) -> None:
        said, named = _said(node), node.get("constraint_name")
        if not said.missing and said.value not in supported:
            raise said.error(f"{shown(said.value)} is no constraint that is supported here: {' or '.join(supported)}")
        if not named.missing and named.text() in self.constraints:
            other = self.constraints[named.text()]
            unit = other["type"].text() in ("gaussian_dist", "normal_dist") and other["sigma"].value in (1, 1.0)
            if not unit:
                raise named.error("the constraint of a normsys or histosys must be a Gaussian with a sigma of 1")


def _said(modifier: Node) -> Node:
    """Its constraint, under one of two names."""
    said = modifier.get("constraint")
    return modifier.get("constraint_type") if said.missing else said


def _bins(channel: Node) -> int:
    total = 1
    for axis in channel["axes"].some():
        total *= bins_of(check_keys(axis, "axis"))
    return total


def bins_of(axis: Node) -> int:
    """How many bins an axis has."""
    return edges_of(axis).size - 1


def edges_of(axis: Node) -> np.ndarray:
    """The edges of an axis of binned data.

    **Raises:** `ValueError` unless they grow, and there is one way to tell them.
    """
    for key in ("edges", "bounds"):  # the second one in older files
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
    found = node.number()
    if response.exponential and found <= 0:
        raise node.error(f"a factor must be positive, as its logarithm is taken; it is {found:g}")
    return found
