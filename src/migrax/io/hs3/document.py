"""An HS3 document: its objects by name, and the selection of those that an analysis uses."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .._node import Node, shown
from .keys import check_keys, check_root

_VERSIONS = ("0.1", "0.2", "0.3")


class Point(NamedTuple):
    """The value of a parameter in the document, and whether it is constant."""

    value: float
    const: bool


class Analysis(NamedTuple):
    """The selected analysis: its likelihood, and what belongs to it."""

    name: str
    likelihood: Node
    domains: tuple[Node, ...]
    init: str | None
    parameters_of_interest: tuple[str, ...]


class Document(NamedTuple):
    root: Node
    distributions: dict[str, Node]
    data: dict[str, Node]
    likelihoods: dict[str, Node]
    analyses: dict[str, Node]
    domains: dict[str, Node]
    points: dict[str, Node]

    @property
    def from_root(self) -> bool:
        """Whether ROOT wrote it, according to its metadata."""
        packages = self.root.get("metadata")
        packages = Node(None, "") if packages.missing else packages.get("packages")
        if packages.missing:
            return False
        return any(p.get("name").value == "ROOT" for p in packages.items())

    def analysis(self, name: str | None, point: str | None = None) -> Analysis:
        """The analysis or the likelihood of this name. Default: the first analysis (or, if there is none, the first
        likelihood), preferably one that is not of Asimov data.

        `point` replaces the parameter point that it starts at.

        **Raises:** `ValueError` for an unknown name, or a document without a likelihood.
        """
        selected = self._select(name)
        if point is not None and point not in self.points:
            raise ValueError(f"there is no parameter point {point!r}; there are {', '.join(map(repr, self.points))}")
        return selected if point is None else selected._replace(init=point)

    def _select(self, name: str | None) -> Analysis:
        if not self.likelihoods:
            holds = [
                key for key in ("distributions", "functions", "data", "analyses") if not self.root.get(key).missing
            ]
            raise self.root.error(
                f"there is no likelihood in it, so that there is nothing to fit; it holds {', '.join(holds)}"
            )
        if name is None:
            names = list(self.analyses or self.likelihoods)
            name = next((n for n in names if "asimov" not in n.lower()), names[0])
        if name in self.analyses:
            return self._of_analysis(name, self.analyses[name])
        if name in self.likelihoods:
            return Analysis(name, self.likelihoods[name], (), None, ())
        listed = ", ".join(map(repr, dict.fromkeys((*self.analyses, *self.likelihoods))))
        raise ValueError(f"there is no analysis or likelihood {name!r}; there are {listed}")

    def _of_analysis(self, name: str, node: Node) -> Analysis:
        likelihood = check_keys(node, "analysis")["likelihood"]
        if likelihood.text() not in self.likelihoods:
            raise likelihood.error(f"there is no likelihood {shown(likelihood.value)}")
        names = [] if node.get("domains").missing else list(node["domains"].items())
        if not node.get("domain").missing:
            names.append(node["domain"])
        for domain in names:
            if domain.text() not in self.domains:
                raise domain.error(f"there is no domain {shown(domain.value)}")
        init, pois = node.get("init"), node.get("parameters_of_interest")
        if not init.missing and init.text() not in self.points:
            raise init.error(f"there is no parameter point {shown(init.value)}")
        return Analysis(
            name,
            self.likelihoods[likelihood.text()],
            tuple(self.domains[domain.text()] for domain in names),
            None if init.missing else init.text(),
            () if pois.missing else tuple(poi.text() for poi in pois.items()),
        )

    def ranges(self, analysis: Analysis) -> dict[str, tuple[float, float]]:
        """The ranges of parameters and variables: from the domains of the analysis, the default one, then others."""
        ranges: dict[str, tuple[float, float]] = {}
        default = [self.domains[n] for n in ("default_domain",) if n in self.domains]
        for domain in (*analysis.domains, *default, *self.domains.values()):
            axes = check_keys(domain, "domain").get("axes")
            for axis in [] if axes.missing else axes.items():
                check_keys(axis, "axis")
                ranges.setdefault(axis["name"].text(), range_of(axis))
        return ranges

    def values(self, analysis: Analysis) -> dict[str, Point]:
        """The values of parameters: from the point that the analysis starts at, or "default_values", or the first one;
        for parameters that it lacks, from the others, and from the axes of domains."""
        order = [n for n in (analysis.init, "default_values") if n is not None and n in self.points]
        values: dict[str, Point] = {}
        for name in dict.fromkeys((*order, *self.points)):
            for entry in check_keys(self.points[name], "point")["parameters"].items():
                const = check_keys(entry, "parameter").get("const")
                value = Point(entry["value"].number(), not const.missing and const.flag())
                values.setdefault(entry["name"].text(), value)
        for domain in (*analysis.domains, *self.domains.values()):
            axes = domain.get("axes")
            for axis in [] if axes.missing else axes.items():
                if not axis.get("value").missing:
                    const = axis.get("const")
                    value = Point(axis["value"].number(), not const.missing and const.flag())
                    values.setdefault(axis["name"].text(), value)
        return values


def range_of(axis: Node) -> tuple[float, float]:
    """**Raises:** `ValueError` unless max is above min."""
    low, high = (axis.get(key) for key in ("min", "max"))
    a = -np.inf if low.missing else low.number()
    b = np.inf if high.missing else high.number()
    if not a < b:
        raise axis.error(f"max must be above min, got {a:g} and {b:g}")
    return a, b


def read_document(root: Node) -> Document:
    """**Raises:** `ValueError` for anything but an HS3 document."""
    if not isinstance(root.value, dict) and not hasattr(root.value, "keys"):
        raise root.error("must be an object")
    if not root.get("channels").missing:
        raise root.error("is a workspace of pyhf: read it by mx.io.from_pyhf")
    check_root(root)
    version = root["metadata"]["hs3_version"].text()
    if not version.startswith(_VERSIONS):
        raise root["metadata"]["hs3_version"].error(
            f"the version {shown(version)} of HS3 is not known here; {', '.join(_VERSIONS)} are"
        )
    keys = ("distributions", "data", "likelihoods", "analyses", "domains", "parameter_points")
    return Document(root, *(_by_name(root.get(key)) for key in keys))


def _by_name(nodes: Node) -> dict[str, Node]:
    if nodes.missing:
        return {}
    entries: Iterable[Node] = nodes.items()
    named: dict[str, Node] = {}
    for node in entries:
        name = node["name"].text()
        if name in named:
            raise node["name"].error(f"{shown(name)} is the name at {named[name].where} already")
        named[name] = node
    return named
