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
    and the same factors, `fixed`. `varied`: the normsys and histosys of any of them, by kind and parameter."""

    names: list[str]
    fixed: tuple[Modifier, ...]
    varied: dict[tuple[str, str], Modifier]


def stacked(
    specs: Sequence[Spec], observed: Sequence[Mapping[str, np.ndarray]], codes: tuple[int, int], names: Sequence[str]
) -> tuple[Any, dict[str, Parameter], dict[str, Any]]:
    """The models of all points, from the content of each. A sample that a point lacks has no events there, a variation
    that a sample lacks has no effect.

    **Raises:** `ValueError` with the names of points whose structures are too different, and the difference.
    """
    _check(specs, names)
    padded = _padded(specs)
    wanted = [needs(spec) for spec in padded]
    needed = _freed([need for need, _ in wanted], padded, [slices for _, slices in wanted], names)
    likelihoods = [
        likelihood_of(spec, codes, need, slices, is_stacked=True)
        for spec, need, (_, slices) in zip(padded, needed, wanted, strict=True)
    ]
    for name, nll in zip(names, likelihoods, strict=True):
        if jax.tree.structure(nll) != jax.tree.structure(likelihoods[0]):  # a difference not handled here
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
    likelihood = jax.tree.map(lambda *arrays: _stack(arrays), *likelihoods)
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
    """The same models, with the same samples and modifiers in all."""
    channels: list[list[Channel]] = [[] for _ in specs]
    for i in range(len(specs[0].channels)):
        point_channels = [spec.channels[i] for spec in specs]
        roles, filled = _roles(point_channels)
        labels = _labels(roles)
        for channel, samples, out in zip(point_channels, filled, channels, strict=True):
            padded = tuple(
                _sample(label, role, samples.get(j), channel)
                for j, (label, role) in enumerate(zip(labels, roles, strict=True))
            )
            out.append(channel._replace(samples=padded))
    return [spec._replace(channels=tuple(new)) for spec, new in zip(specs, channels, strict=True)]


def _roles(point_channels: list[Channel]) -> tuple[list[Role], list[dict[int, Sample]]]:
    """The roles of a channel, and the sample of each point for them."""
    roles: list[Role] = []
    filled: list[dict[int, Sample]] = []
    for channel in point_channels:
        own_names, by_role = {sample.name for sample in channel.samples}, {}
        for sample in channel.samples:
            fixed = tuple(m for m in sample.modifiers if m.lo is None)
            matching = [
                i for i, role in enumerate(roles) if _signature(role.fixed) == _signature(fixed) and i not in by_role
            ]
            named = [i for i in matching if sample.name in roles[i].names]
            free = [i for i in matching if not own_names & set(roles[i].names)]
            if named or free:
                i = (named or free)[0]
            else:
                i = len(roles)
                roles.append(Role([], fixed, {}))
            if sample.name not in roles[i].names:
                roles[i].names.append(sample.name)
            for m in sample.modifiers:
                if m.lo is not None:
                    roles[i].varied.setdefault((m.kind, m.name), m)
            by_role[i] = sample
        filled.append(by_role)
    return roles, filled


def _signature(modifiers: Sequence[Modifier]) -> list[tuple[str, str]]:
    return sorted((m.kind, m.name) for m in modifiers)


def _labels(roles: list[Role]) -> list[str]:
    """A name for each role; for signals the common beginning of their names, and a star."""
    labels: list[str] = []
    for role in roles:
        label = role.names[0] if len(role.names) == 1 else _common_prefix(role.names) + "*"
        while label in labels:
            label += "*"
        labels.append(label)
    return labels


def _common_prefix(names: list[str]) -> str:
    """The common beginning of all names."""
    first, last = min(names), max(names)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _sample(label: str, role: Role, sample: Sample | None, channel: Channel) -> Sample:
    """The sample of a point for a role, with all its modifiers; without events if the point has none."""
    no_events = np.zeros(channel.bins)
    nominal, where = (no_events, channel.where) if sample is None else (sample.nominal, sample.where)
    own_modifiers = {} if sample is None else {(m.kind, m.name): m for m in sample.modifiers}
    modifiers = [
        own_modifiers.get((m.kind, m.name), m if m.errors is None else m._replace(errors=no_events)) for m in role.fixed
    ]
    for (kind, name), m in sorted(role.varied.items()):
        neutral = (1.0, 1.0) if kind == "normsys" else (nominal, nominal)
        modifiers.append(own_modifiers.get((kind, name), Modifier(kind, name, m.where, *neutral)))
    return Sample(label, nominal, tuple(modifiers), where)


def _freed(
    needed: list[dict[str, Need]], specs: Sequence[Spec], slices: list[Any], names: Sequence[str]
) -> list[dict[str, Need]]:
    """The same parameters, with the same entries fixed in all points. An entry that is fixed in some, as nothing there
    depends on it, floats in all, and is determined by its own measurement.

    **Raises:** `ValueError` for an entry that is fixed for another reason.
    """
    out = [dict(point) for point in needed]
    for name in needed[0]:
        fixed = np.array([point[name].fixed for point in needed])
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
            always_fixed = need.fixed & ~differ
            out[i][name] = need._replace(fixed=always_fixed, idle=int(np.sum(always_fixed)) if need.constraint else 0)
    return out


def _idle(name: str, spec: Spec, slices: dict[str, Any]) -> np.ndarray:
    """Whether no event depends on each entry."""
    if name not in slices:
        return np.zeros(1, bool)
    idle = np.ones(slices[name].size, bool)
    for channel in spec.channels:
        for sample in channel.samples:
            if any(m.name == name for m in sample.modifiers):
                start = slices[name].start[channel.name]
                shapes = [x for m in sample.modifiers if m.kind == "histosys" for x in (m.lo, m.hi)]
                idle[start : start + channel.bins] &= ~np.any([x != 0 for x in (sample.nominal, *shapes)], axis=0)
    return idle
