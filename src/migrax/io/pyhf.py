"""HistFactory workspaces in pyhf's JSON format, read without pyhf."""

import difflib
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._parameter import Parameter
from ._json_patch import patched
from ._node import Node, load, shown
from .histfactory import HistFactory
from .histfactory.build import build
from .histfactory.interpolation import codes
from .histfactory.spec import Channel, Config, Modifier, Sample, Spec


def from_pyhf(
    workspace: str | os.PathLike[str] | Mapping[str, Any],
    *,
    patch: Any = None,
    measurement: str | None = None,
    interpolation: Mapping[str, Any] | None = None,
) -> tuple[HistFactory, dict[str, Parameter], dict[str, Any]]:
    """A HistFactory workspace (https://pyhf.readthedocs.io/en/latest/likelihood.html) as a likelihood of migrax.

    ```python
    nll, params, data = mx.io.from_pyhf("workspace.json")
    result = mx.fit(nll, params, data)
    mx.upper_limit(nll, params, data, nll.poi)
    ```

    The value is pyhf's minus log of the likelihood, with its constants. All modifiers are there: normfactor, normsys,
    histosys, shapesys, shapefactor, staterror, lumi. Parameters have pyhf's names, starts, bounds and fixed ones: those
    of bins without an error or without events are fixed, one by one.

    **Arguments:**

    - `workspace`: a path to a JSON file, what was read from one, or a `pyhf.Workspace`.
    - `patch`: a JSON Patch (a path, or its list of operations), such as one signal of a published likelihood; or a pair
        of a patch set and the name (or the values) of one of its patches. Needs `pip install "migrax[pyhf]"`.
    - `measurement`: the name of one; default: the first.
    - `interpolation`: of normsys `"code4"` (default) or `"code1"`, of histosys `"code4p"` (default), `"code0"`,
        `"code2"` or `"code2c"`, as in `{"normsys": "code1", "histosys": "code0"}`; what pyhf takes for
        `modifier_settings` is understood. pyhf's `"code2"` jumps at one standard deviation; `"code2c"` goes on from
        there, as ROOT's.

    **Returns:** `(likelihood, params, data)`: an `mx.io.HistFactory`, whose templates are arrays; a dictionary of
    `mx.Parameter`; and `{"main": {channel: counts}, "aux": {parameter: global observable}}`. The parameter of interest
    is `likelihood.poi`; `None`, with a warning, if no modifier has it, as in a published background without a signal.

    **Raises:** `ValueError` for a workspace that is not right, with the place in the JSON and the reason.
    """
    chosen = codes(interpolation)
    document = Node(patched(load(workspace, "workspace"), patch), "")
    if not document.get("channels").missing and document.get("measurements").missing:
        raise document.error("is the specification of a model: a workspace has observations and measurements too")
    if document.get("channels").missing and not document.get("distributions").missing:
        raise document.error("is a document of HS3: read it by mx.io.from_hs3")
    measured = _measurement(document, measurement)
    channels = _channels(document)
    spec = Spec(channels, _configs(measured), _poi(measured, channels), measured["name"].label())
    return build(spec, _observations(document, channels), chosen)


def _measurement(document: Node, name: str | None) -> Node:
    found = document["measurements"].some()
    document.unique([one["name"] for one in found])
    if name is None:
        return found[0]
    for one in found:
        if one["name"].label() == name:
            return one
    raise ValueError(f"there is no measurement {name!r}; there are {', '.join(repr(m['name'].label()) for m in found)}")


def _poi(measured: Node, channels: tuple[Channel, ...]) -> str | None:
    poi = measured["config"].get("poi")
    if poi.missing or poi.value == "":
        return None
    name = poi.text()
    if any(m.name == name for channel in channels for sample in channel.samples for m in sample.modifiers):
        return name
    every = sorted({m.name for channel in channels for sample in channel.samples for m in sample.modifiers})
    near = difflib.get_close_matches(name, every, 1)
    hint = f"Is {near[0]!r} meant?" if near else "If this is a background whose signals are patches, give patch=..."
    warnings.warn(
        f"{poi.where}: {shown(name)} is the parameter of no modifier, so that likelihood.poi is None. {hint}",
        stacklevel=3,
    )
    return None


def _configs(measured: Node) -> dict[str, Config]:
    configs: dict[str, Config] = {}
    parameters = measured["config"].get("parameters")
    for entry in [] if parameters.missing else parameters.items():
        name = entry["name"].text()
        entry.only(("name", "inits", "bounds", "auxdata", "sigmas", "factors", "fixed"))
        if name in configs:
            raise entry["name"].error(f"{shown(name)} is at {configs[name].where} already")
        lists = {
            key: None if entry.get(key).missing else entry.get(key).numbers().tolist()
            for key in ("inits", "auxdata", "sigmas", "factors")
        }
        bounds, fixed = entry.get("bounds"), entry.get("fixed")
        pairs = None if bounds.missing else [pair.numbers(2, "a pair has").tolist() for pair in bounds.some()]
        configs[name] = Config(entry.where, bounds=pairs, fixed=None if fixed.missing else fixed.flag(), **lists)
    return configs


def _channels(document: Node) -> tuple[Channel, ...]:
    found = document["channels"].some()
    document.unique([channel["name"] for channel in found])
    return tuple(_channel(channel) for channel in found)


def _channel(node: Node) -> Channel:
    samples = node["samples"].some()
    node.unique([sample["name"] for sample in samples])
    bins = samples[0]["data"].numbers().size
    return Channel(node["name"].label(), tuple(_sample(sample, bins) for sample in samples), node.where)


def _sample(node: Node, bins: int) -> Sample:
    nominal = node["data"].numbers(bins, "the first sample of the channel has")
    modifiers = [_modifier(m, bins) for m in node["modifiers"].items()]
    seen: dict[tuple[str, str], str] = {}
    for modifier in modifiers:
        key = (modifier.kind, modifier.name)
        if key in seen:
            raise ValueError(f"{modifier.where}: the {modifier.kind} {shown(modifier.name)} is at {seen[key]} already")
        seen[key] = modifier.where
    return Sample(node["name"].label(), nominal, tuple(modifiers), node.where)


def _modifier(node: Node, bins: int) -> Modifier:
    kind, name = node["type"].text(), node["name"].text()
    of = "the sample has"
    if kind in ("normfactor", "lumi", "shapefactor"):
        return Modifier(kind, name, node.where)
    if kind == "normsys":
        return Modifier(kind, name, node.where, _factor(node["data"]["lo"]), _factor(node["data"]["hi"]))
    if kind == "histosys":
        lo, hi = (node["data"][key].numbers(bins, of) for key in ("lo_data", "hi_data"))
        return Modifier(kind, name, node.where, lo, hi)
    if kind in ("shapesys", "staterror"):
        errors = node["data"].numbers(bins, of)
        if np.any(errors < 0):
            raise node["data"].error(f"errors cannot be negative, and one is {errors[errors < 0][0]:g}")
        return Modifier(kind, name, node.where, errors=errors)
    known = "normfactor, normsys, histosys, shapesys, shapefactor, staterror and lumi"
    raise node["type"].error(f"{shown(kind)} is no modifier; there are {known}")


def _factor(node: Node) -> float:
    found = node.number()
    if found <= 0:
        raise node.error(f"a factor must be positive, as its logarithm is taken; it is {found:g}")
    return found


def _observations(document: Node, channels: tuple[Channel, ...]) -> dict[str, np.ndarray]:
    entries = document["observations"].some()
    document.unique([entry["name"] for entry in entries])
    given = {entry["name"].label(): entry for entry in entries}
    found = {}
    for channel in channels:
        if channel.name not in given:
            raise document["observations"].error(f"there is none of the channel {shown(channel.name)}")
        counts = given[channel.name]["data"]
        found[channel.name] = counts.numbers(channel.bins, "the channel has")
        if np.any(found[channel.name] < 0):
            raise counts.error("a count cannot be negative")
    return found
