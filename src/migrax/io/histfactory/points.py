"""Signals of a published likelihood as one stack: models of the same structure, whose arrays have a leading axis."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..._parameters.parameter import Parameter
from .build import likelihood_of, parameter
from .parameters import Need, needs
from .spec import Channel, Modifier, Sample, Spec


class Role(NamedTuple):
    """Samples of several points that are one in the stack: of one name, or signals with the same modifiers bin by bin
    and the same factors, `fixed`; and the normsys and histosys that any of them has, by kind and parameter."""

    names: list[str]
    fixed: tuple[Modifier, ...]
    varied: dict[tuple[str, str], Modifier]


def stacked(
    specs: Sequence[Spec], observed: Sequence[Mapping[str, np.ndarray]], codes: tuple[int, int], names: Sequence[str]
) -> tuple[Any, dict[str, Parameter], dict[str, Any]]:
    """The models of all points, from what is read of each. Where one lacks a sample it has no events, where a sample
    lacks a variation it does not vary.

    **Raises:** `ValueError` with the names of points whose structures are too different, and what differs.
    """
    _check(specs, names)
    padded = _padded(specs)
    wanted = [needs(spec) for spec in padded]
    needed = _freed([each for each, _ in wanted], padded, [slices for _, slices in wanted], names)
    each = [
        likelihood_of(spec, codes, need, slices) for spec, need, (_, slices) in zip(padded, needed, wanted, strict=True)
    ]
    for name, one in zip(names, each, strict=True):
        if jax.tree.structure(one) != jax.tree.structure(each[0]):  # of what is not thought of here
            raise ValueError(f"the points {names[0]!r} and {name!r} differ in their structure; read them one by one")
    params, aux = {}, {}
    for name, first in needed[0].items():
        start, lower, upper, measured = (
            _stack([getattr(need[name], key).reshape(first.shape) for need in needed])
            for key in ("start", "lower", "upper", "observed")
        )
        params[name] = jax.tree.unflatten(jax.tree.structure(parameter(first)), [start, lower, upper])
        if first.constraint:
            aux[name] = measured
    main = {channel: _stack([counts[channel] for counts in observed]) for channel in observed[0]}
    likelihood = jax.tree.map(lambda *arrays: _stack(arrays), *each)
    return likelihood, params, {"main": main, "aux": aux}


def _stack(arrays: Sequence[Any]) -> Array:
    return jnp.asarray(np.stack([np.asarray(a) for a in arrays]))


def _check(specs: Sequence[Spec], names: Sequence[str]) -> None:
    first = specs[0]
    for name, spec in zip(names, specs, strict=True):
        for what, of in (
            ("channels and numbers of bins", lambda s: [(c.name, c.bins) for c in s.channels]),
            ("parameter of interest", lambda s: s.poi),
        ):
            if of(spec) != of(first):
                raise ValueError(
                    f"the points {names[0]!r} and {name!r} have different {what}, and are no stack: {of(first)} and "
                    f"{of(spec)}. Choose some, patchset=(set, names), or read them one by one, patch="
                )


def _padded(specs: Sequence[Spec]) -> list[Spec]:
    """With the same samples and modifiers in all."""
    channels: list[list[Channel]] = [[] for _ in specs]
    for i in range(len(specs[0].channels)):
        each = [spec.channels[i] for spec in specs]
        roles, filled = _roles(each)
        labels = _labels(roles)
        for channel, samples, out in zip(each, filled, channels, strict=True):
            found = tuple(
                _sample(label, role, samples.get(j), channel)
                for j, (label, role) in enumerate(zip(labels, roles, strict=True))
            )
            out.append(channel._replace(samples=found))
    return [spec._replace(channels=tuple(new)) for spec, new in zip(specs, channels, strict=True)]


def _roles(each: list[Channel]) -> tuple[list[Role], list[dict[int, Sample]]]:
    """Those of a channel, and which sample each point has for them."""
    roles: list[Role] = []
    filled: list[dict[int, Sample]] = []
    for channel in each:
        own, found = {sample.name for sample in channel.samples}, {}
        for sample in channel.samples:
            fixed = tuple(m for m in sample.modifiers if m.lo is None)
            same = [i for i, role in enumerate(roles) if _signature(role.fixed) == _signature(fixed) and i not in found]
            named = [i for i in same if sample.name in roles[i].names]
            others = [i for i in same if not own & set(roles[i].names)]
            if named or others:
                i = (named or others)[0]
            else:
                i = len(roles)
                roles.append(Role([], fixed, {}))
            if sample.name not in roles[i].names:
                roles[i].names.append(sample.name)
            for m in sample.modifiers:
                if m.lo is not None:
                    roles[i].varied.setdefault((m.kind, m.name), m)
            found[i] = sample
        filled.append(found)
    return roles, filled


def _signature(modifiers: Sequence[Modifier]) -> list[tuple[str, str]]:
    return sorted((m.kind, m.name) for m in modifiers)


def _labels(roles: list[Role]) -> list[str]:
    """A name for each; of signals what their names begin with, and a star."""
    found: list[str] = []
    for role in roles:
        label = role.names[0] if len(role.names) == 1 else _beginning(role.names) + "*"
        while label in found:
            label += "*"
        found.append(label)
    return found


def _beginning(names: list[str]) -> str:
    """What all of them begin with."""
    first, last = min(names), max(names)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _sample(label: str, role: Role, sample: Sample | None, channel: Channel) -> Sample:
    """What a point has for a role, with all its modifiers; without events where it has nothing."""
    nothing = np.zeros(channel.bins)
    nominal, where = (nothing, channel.where) if sample is None else (sample.nominal, sample.where)
    own = {} if sample is None else {(m.kind, m.name): m for m in sample.modifiers}
    modifiers = [own.get((m.kind, m.name), m if m.errors is None else m._replace(errors=nothing)) for m in role.fixed]
    for (kind, name), m in sorted(role.varied.items()):
        neutral = (1.0, 1.0) if kind == "normsys" else (nominal, nominal)
        modifiers.append(own.get((kind, name), Modifier(kind, name, m.where, *neutral)))
    return Sample(label, nominal, tuple(modifiers), where)


def _freed(
    needed: list[dict[str, Need]], specs: Sequence[Spec], slices: list[Any], names: Sequence[str]
) -> list[dict[str, Need]]:
    """With the same entries of parameters fixed in all points. One that is fixed in some, as nothing there depends on
    it, floats in all, and is told by its own measurement.

    **Raises:** `ValueError` for one that is fixed for another reason.
    """
    out = [dict(each) for each in needed]
    for name in needed[0]:
        fixed = np.array([each[name].fixed for each in needed])
        differ = np.any(fixed, axis=0) & ~np.all(fixed, axis=0)
        if not np.any(differ):
            continue
        for i, spec in enumerate(specs):
            used = fixed[i] & differ & ~_idle(name, spec, slices[i])
            if np.any(used):
                entry, other = int(np.argmax(used)), names[int(np.argmin(fixed[:, np.argmax(used)]))]
                raise ValueError(
                    f"{name!r}[{entry}] is fixed at the point {names[i]!r}, and floats at {other!r}: these are no "
                    "stack. Choose some, patchset=(set, names), or read them one by one, patch="
                )
            need = needed[i][name]
            both = need.fixed & ~differ
            out[i][name] = need._replace(fixed=both, idle=int(np.sum(both)) if need.constraint else 0)
    return out


def _idle(name: str, spec: Spec, slices: dict[str, Any]) -> np.ndarray:
    """Of which entries no event depends on them."""
    if name not in slices:
        return np.zeros(1, bool)
    found = np.ones(slices[name].size, bool)
    for channel in spec.channels:
        for sample in channel.samples:
            if any(m.name == name for m in sample.modifiers):
                start = slices[name].start[channel.name]
                shapes = [x for m in sample.modifiers if m.kind == "histosys" for x in (m.lo, m.hi)]
                found[start : start + channel.bins] &= ~np.any([x != 0 for x in (sample.nominal, *shapes)], axis=0)
    return found
