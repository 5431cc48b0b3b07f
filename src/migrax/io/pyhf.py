"""HistFactory workspaces in pyhf's JSON format, read without pyhf."""

import dataclasses
import difflib
import os
import pickle
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._parameters.parameter import Parameter
from ._json_patch import changed, patched, patches_of
from ._node import Node, load, shown
from .histfactory import HistFactory, SignalPoints
from .histfactory.build import build
from .histfactory.interpolation import codes
from .histfactory.points import stacked
from .histfactory.spec import Channel, Config, Modifier, Sample, Spec


def from_pyhf(
    workspace: str | os.PathLike[str] | Mapping[str, Any],
    *,
    patch: Any = None,
    patchset: Any = None,
    measurement: str | None = None,
    interpolation: Mapping[str, Any] | None = None,
) -> tuple[HistFactory, dict[str, Parameter], dict[str, Any]]:
    """Reads a HistFactory workspace (https://pyhf.readthedocs.io/en/latest/likelihood.html) as a likelihood of migrax.

    ```python
    nll, params, data = mx.io.from_pyhf("workspace.json")
    result = mx.fit(nll, params, data)
    mx.upper_limit(nll, params, data, nll.poi)
    ```

    The value is minus the log of the likelihood as in pyhf, including its constants. All modifiers are supported:
    normfactor, normsys, histosys, shapesys, shapefactor, staterror, lumi. Parameters have pyhf's names, starts and
    bounds, and the same ones are fixed. Entries of vectors for bins without an error or without events are also fixed,
    one by one.

    **Arguments:**

    - `workspace`: a path to a JSON file, what was read from one, or a `pyhf.Workspace`.
    - `patch`: a JSON Patch (a path, or its list of operations), such as one signal of a published likelihood; or a pair
        of a patch set and the name (or the values) of one of its patches. Needs `pip install "migrax[pyhf]"`.
    - `patchset`: a set of patches (a path, its JSON, or a `pyhf.PatchSet`), all of whose signals are read as a stack:
        every returned array has a leading axis of signals, for `jax.vmap`. To read only some of them, give a pair of
        the set and a list of names (or values), or a list of patches (paths, or lists of operations).
    - `measurement`: the name of a measurement; default: the first.
    - `interpolation`: for normsys `"code4"` (default) or `"code1"`, for histosys `"code4p"` (default), `"code0"`,
        `"code2"` or `"code2c"`, as in `{"normsys": "code1", "histosys": "code0"}`; pyhf's `modifier_settings` are
        accepted, too. pyhf's `"code2"` jumps at one standard deviation; `"code2c"` continues from there, as in ROOT.

    **Returns:** `(likelihood, params, data)`: an `mx.io.HistFactory`, whose templates are arrays; a dictionary of
    `mx.Parameter`; and `{"main": {channel: counts}, "aux": {parameter: global observable}}`. The parameter of interest
    is `likelihood.poi`; `None`, with a warning, if no modifier depends on it, as in a published background without a
    signal. Workspaces that differ only in their numbers and the names of samples share all compiled programs.

    For a `patchset`, `likelihood.points` has the names and values of the signals. A test of each is one call:

    ```python
    likelihood, params, data = mx.io.from_pyhf("background.json", patchset="patchset.json")
    tests = jax.vmap(lambda nll, params, data: mx.hypotest(nll, params, data, nll.poi, 1.0))(likelihood, params, data)
    tests.cls, likelihood.points.values
    ```

    The same holds for fits and limits. `jax.tree.map(lambda x: x[i], (likelihood, params, data))` selects one of the
    signals. A sample that is missing for a signal has no events there, and a missing variation has no effect.

    **Raises:** `ValueError` for an invalid workspace, with the place in the JSON and the reason.
    """
    chosen = codes(interpolation)
    source = load(workspace, "workspace")
    if patchset is not None:
        if patch is not None:
            raise ValueError("patch and patchset are two ways to say one thing: give one of them")
        return _stack(source, patchset, measurement, chosen)
    return build(*_read(source if patch is None else patched(source, patch), measurement), chosen)


def _stack(
    source: Any, patchset: Any, measurement: str | None, chosen: tuple[int, int]
) -> tuple[HistFactory, dict[str, Parameter], dict[str, Any]]:
    patches, labels = patches_of(source, patchset)
    specs, observed, known = [], [], {}
    copies = pickle.dumps(dict(source))  # the fastest way to many copies
    for patch in patches:
        try:
            spec, counts = _read(changed(pickle.loads(copies), patch.operations, in_place=True), measurement, known)
        except ValueError as error:
            raise ValueError(f"the patch {patch.name!r}: {error}") from None
        specs.append(spec)
        observed.append(counts)
    names = tuple(patch.name for patch in patches)
    likelihood, params, data = stacked(specs, observed, chosen, names)
    points = SignalPoints(names, labels, tuple(patch.values for patch in patches))
    return dataclasses.replace(likelihood, points=points), params, data


_Known = dict[str, tuple[Any, int, Sample]]


def _read(source: Any, measurement: str | None, known: _Known | None = None) -> tuple[Spec, dict[str, np.ndarray]]:
    """The model and the observed counts. `known`: samples that were read already, by their places: samples that many
    documents have in common are read once."""
    document = Node(source, "")
    if not document.get("channels").missing and document.get("measurements").missing:
        raise document.error("is the specification of a model: a workspace has observations and measurements too")
    if document.get("channels").missing and not document.get("distributions").missing:
        raise document.error("is a document of HS3: read it by mx.io.from_hs3")
    measured = _measurement(document, measurement)
    channels = _channels(document, {} if known is None else known)
    spec = Spec(channels, _configs(measured), _poi(measured, channels), measured["name"].label())
    return spec, _observations(document, channels)


def _measurement(document: Node, name: str | None) -> Node:
    measurements = document["measurements"].some()
    document.unique([entry["name"] for entry in measurements])
    if name is None:
        return measurements[0]
    for entry in measurements:
        if entry["name"].label() == name:
            return entry
    raise ValueError(
        f"there is no measurement {name!r}; there are {', '.join(repr(m['name'].label()) for m in measurements)}"
    )


def _poi(measured: Node, channels: tuple[Channel, ...]) -> str | None:
    poi = measured["config"].get("poi")
    if poi.missing or poi.value == "":
        return None
    name = poi.text()
    if any(m.name == name for channel in channels for sample in channel.samples for m in sample.modifiers):
        return name
    names = sorted({m.name for channel in channels for sample in channel.samples for m in sample.modifiers})
    near = difflib.get_close_matches(name, names, 1)
    hint = f"Is {near[0]!r} meant?" if near else "If this is a background whose signals are patches, give patch=..."
    warnings.warn(
        f"{poi.where}: {shown(name)} is the parameter of no modifier, so that likelihood.poi is None. {hint}",
        stacklevel=4,
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


def _channels(document: Node, known: _Known) -> tuple[Channel, ...]:
    channels = document["channels"].some()
    document.unique([channel["name"] for channel in channels])
    return tuple(_channel(channel, known) for channel in channels)


def _channel(node: Node, known: _Known) -> Channel:
    samples = node["samples"].some()
    node.unique([sample["name"] for sample in samples])
    bins = samples[0]["data"].numbers().size
    return Channel(node["name"].label(), tuple(_read_once(sample, bins, known) for sample in samples), node.where)


def _read_once(node: Node, bins: int, known: _Known) -> Sample:
    if node.where not in known or known[node.where][:2] != (node.value, bins):
        known[node.where] = (node.value, bins, _sample(node, bins))
    return known[node.where][2]


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
    reference = "the sample has"
    if kind in ("normfactor", "lumi", "shapefactor"):
        return Modifier(kind, name, node.where)
    if kind == "normsys":
        return Modifier(kind, name, node.where, _factor(node["data"]["lo"]), _factor(node["data"]["hi"]))
    if kind == "histosys":
        lo, hi = (node["data"][key].numbers(bins, reference) for key in ("lo_data", "hi_data"))
        return Modifier(kind, name, node.where, lo, hi)
    if kind in ("shapesys", "staterror"):
        errors = node["data"].numbers(bins, reference)
        if np.any(errors < 0):
            raise node["data"].error(f"errors cannot be negative, and one is {errors[errors < 0][0]:g}")
        return Modifier(kind, name, node.where, errors=errors)
    known = "normfactor, normsys, histosys, shapesys, shapefactor, staterror and lumi"
    raise node["type"].error(f"{shown(kind)} is no modifier; there are {known}")


def _factor(node: Node) -> float:
    factor = node.number()
    if factor <= 0:
        raise node.error(f"a factor must be positive, as its logarithm is taken; it is {factor:g}")
    return factor


def _observations(document: Node, channels: tuple[Channel, ...]) -> dict[str, np.ndarray]:
    entries = document["observations"].some()
    document.unique([entry["name"] for entry in entries])
    by_name = {entry["name"].label(): entry for entry in entries}
    observed = {}
    for channel in channels:
        if channel.name not in by_name:
            raise document["observations"].error(f"there is none of the channel {shown(channel.name)}")
        counts = by_name[channel.name]["data"]
        observed[channel.name] = counts.numbers(channel.bins, "the channel has")
        if np.any(observed[channel.name] < 0):
            raise counts.error("a count cannot be negative")
    return observed
