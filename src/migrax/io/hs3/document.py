"""An HS3 document: its objects by name, and which of them an analysis uses."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .._node import Node, shown
from .keys import check_keys, check_root

_VERSIONS = ("0.1", "0.2", "0.3")


class Point(NamedTuple):
    """What the document says of a parameter: a value, and whether it is constant."""

    value: float
    const: bool


class Analysis(NamedTuple):
    """What is asked for: the likelihood, and what goes with it."""

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
        """Whether ROOT wrote it, by its own word."""
        packages = self.root.get("metadata")
        packages = Node(None, "") if packages.missing else packages.get("packages")
        if packages.missing:
            return False
        return any(p.get("name").value == "ROOT" for p in packages.items())

    def analysis(self, name: str | None, point: str | None = None) -> Analysis:
        """The one of this name, of an analysis or a likelihood. Default: the first analysis (or, if there is none, the
        first likelihood), but for those of Asimov data where there are others.

        `point` takes the place of the parameter point with which it begins.

        **Raises:** `ValueError` for an unknown name, or a document without a likelihood.
        """
        found = self._found(name)
        if point is not None and point not in self.points:
            raise ValueError(f"there is no parameter point {point!r}; there are {', '.join(map(repr, self.points))}")
        return found if point is None else found._replace(init=point)

    def _found(self, name: str | None) -> Analysis:
        if not self.likelihoods:
            holds = [
                key for key in ("distributions", "functions", "data", "analyses") if not self.root.get(key).missing
            ]
            raise self.root.error(
                f"there is no likelihood in it, so that there is nothing to fit; it holds {', '.join(holds)}"
            )
        if name is None:
            every = list(self.analyses or self.likelihoods)
            name = next((n for n in every if "asimov" not in n.lower()), every[0])
        if name in self.analyses:
            return self._of_analysis(name, self.analyses[name])
        if name in self.likelihoods:
            return Analysis(name, self.likelihoods[name], (), None, ())
        have = ", ".join(map(repr, dict.fromkeys((*self.analyses, *self.likelihoods))))
        raise ValueError(f"there is no analysis or likelihood {name!r}; there are {have}")

    def _of_analysis(self, name: str, node: Node) -> Analysis:
        wanted = check_keys(node, "analysis")["likelihood"]
        if wanted.text() not in self.likelihoods:
            raise wanted.error(f"there is no likelihood {shown(wanted.value)}")
        names = [] if node.get("domains").missing else list(node["domains"].items())
        if not node.get("domain").missing:
            names.append(node["domain"])
        for one in names:
            if one.text() not in self.domains:
                raise one.error(f"there is no domain {shown(one.value)}")
        init, pois = node.get("init"), node.get("parameters_of_interest")
        if not init.missing and init.text() not in self.points:
            raise init.error(f"there is no parameter point {shown(init.value)}")
        return Analysis(
            name,
            self.likelihoods[wanted.text()],
            tuple(self.domains[one.text()] for one in names),
            None if init.missing else init.text(),
            () if pois.missing else tuple(poi.text() for poi in pois.items()),
        )

    def ranges(self, analysis: Analysis) -> dict[str, tuple[float, float]]:
        """Of parameters and variables: those of the analysis' domains, then of the default one, then of the others."""
        found: dict[str, tuple[float, float]] = {}
        first = [self.domains[n] for n in ("default_domain",) if n in self.domains]
        for domain in (*analysis.domains, *first, *self.domains.values()):
            axes = check_keys(domain, "domain").get("axes")
            for axis in [] if axes.missing else axes.items():
                check_keys(axis, "axis")
                found.setdefault(axis["name"].text(), range_of(axis))
        return found

    def values(self, analysis: Analysis) -> dict[str, Point]:
        """Of parameters: those of the point that the analysis begins with, or "default_values", or the first one; then
        those of others, and of the axes of domains, for parameters that it does not have."""
        order = [n for n in (analysis.init, "default_values") if n is not None and n in self.points]
        found: dict[str, Point] = {}
        for name in dict.fromkeys((*order, *self.points)):
            for entry in check_keys(self.points[name], "point")["parameters"].items():
                const = check_keys(entry, "parameter").get("const")
                value = Point(entry["value"].number(), not const.missing and const.flag())
                found.setdefault(entry["name"].text(), value)
        for domain in (*analysis.domains, *self.domains.values()):
            axes = domain.get("axes")
            for axis in [] if axes.missing else axes.items():
                if not axis.get("value").missing:
                    const = axis.get("const")
                    value = Point(axis["value"].number(), not const.missing and const.flag())
                    found.setdefault(axis["name"].text(), value)
        return found


def range_of(axis: Node) -> tuple[float, float]:
    """**Raises:** `ValueError` unless max is above min."""
    low, high = (axis.get(key) for key in ("min", "max"))
    a = -np.inf if low.missing else low.number()
    b = np.inf if high.missing else high.number()
    if not a < b:
        raise axis.error(f"max must be above min, got {a:g} and {b:g}")
    return a, b


def read_document(root: Node) -> Document:
    """**Raises:** `ValueError` for what is no HS3 document."""
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
    each: Iterable[Node] = nodes.items()
    found: dict[str, Node] = {}
    for node in each:
        name = node["name"].text()
        if name in found:
            raise node["name"].error(f"{shown(name)} is the name at {found[name].where} already")
        found[name] = node
    return found
