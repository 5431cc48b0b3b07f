"""From a card and its histograms to the arrays of a `Datacard`, its parameters and data."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..._parameters.parameter import Parameter
from ..._util.table import Table
from ..histfactory.layout import Layout
from .card import At, Card, McStats
from .columns import Column, Columns
from .formulas import formula
from .histograms import Histograms
from .likelihood import Datacard
from .main import Block, Templates
from .mc_stats import BinErrors, McErrors, bin_errors, no_errors
from .normalisation import LogNormal, normalisation
from .parameters import Need, auxiliary, measured, needs_of
from .physics import Physics, physics_of
from .scalars import Derived, Scalars, linear_factors, ordered
from .shapes import Morph, Shape, shapes_of

_FLAT = 1e-3  # a change of the normalisation by less, up and down, is none, as in Combine


def build(
    card: Card,
    histograms: Histograms,
    pois: Mapping[str, Any] | None,
    scale: Mapping[str, Any] | None,
    mass: float | None,
    as_parameters: bool,
) -> tuple[Datacard, dict[str, Parameter], dict[str, Any]]:
    """The likelihood, its parameters at their starts, and the data. **Raises:** `ValueError` with the line."""
    needs = needs_of(card)
    formulas = {name: s for name, s in card.scalars.items() if s.names is not None}
    physics = physics_of(card, pois, scale, {*needs, *formulas})
    made = Columns(card, histograms, physics)
    data = made.observed()
    errors = {
        channel: _bin_errors(card, made.of[channel], card.mc_stats.get(channel), physics, needs) for channel in made.of
    }
    for channel, found in errors.items():
        needs |= _of_bins(channel, made.of[channel], found, as_parameters)
    taken = set(physics.pois) & set(needs)
    if taken:
        raise ValueError(f"{sorted(taken)[0]!r} is a nuisance parameter of the card, and cannot be one of interest")
    params = {name: need.parameter() for name, need in needs.items()} | physics.pois
    layout = Layout(tuple((name, np.shape(params[name].value)) for name in sorted(params)))
    templates = _templates(made, needs, physics, formulas, errors, layout, mass)
    nll = Datacard(
        templates, auxiliary(needs, layout), tuple(physics.pois), _groups(card, needs, physics), as_parameters
    )
    aux = measured(needs)
    if not as_parameters:
        aux |= {f"prop_bin{c}": jnp.zeros(bins.size) for c, bins in templates.with_bin_errors.items()}
    main = {channel: jnp.asarray(counts) for channel, counts in data.items()}
    return nll, params, {"main": main, "aux": aux}


def _groups(card: Card, needs: dict[str, Need], physics: Physics) -> tuple[tuple[str, tuple[str, ...]], ...]:
    groups = {}
    for name, members in card.groups.items():
        unknown = [member for member in members if member not in needs and member not in physics.pois]
        if unknown and not any(unknown[0] == line.split("?")[0] for line in card.scalars):
            raise card.error(card.group_lines[name], f"the group {name} names {unknown[0]!r}, which is no parameter")
        groups[name] = tuple(dict.fromkeys(members))
    of_bins = tuple(name for name in needs if name.startswith("prop_bin"))
    if of_bins:
        groups.setdefault("autoMCStats", of_bins)
    return tuple(groups.items())


def _yield_at_start(card: Card, column: Column, physics: Physics, needs: dict[str, Need]) -> float:
    """What multiplies the histogram of a process at the start of all parameters."""
    factor = 1.0
    for name in card.rate_params.get(column.process.at, []):
        scalar = card.scalars[name]
        if scalar.names is None:
            factor *= float(scalar.text)
    name = physics.scales[column.process.at]
    if name in physics.pois:
        factor *= float(np.asarray(physics.pois[name].value))
    return factor


def _bin_errors(
    card: Card, columns: list[Column], settings: McStats | None, physics: Physics, needs: dict[str, Need]
) -> BinErrors | None:
    if settings is None or any(column.histogram is None for column in columns):
        return None
    histograms = [column.histogram for column in columns if column.histogram is not None]
    contents, errors = (np.stack([getattr(h, name) for h in histograms]) for name in ("values", "errors"))
    yields = np.array([_yield_at_start(card, column, physics, needs) for column in columns])
    counts_for = np.array([settings.includes_signal or not column.process.is_signal for column in columns])
    return bin_errors(contents, errors, yields, counts_for, settings.threshold)


def _of_bins(channel: str, columns: list[Column], found: BinErrors | None, as_parameters: bool) -> dict[str, Need]:
    """The parameters of autoMCStats: of processes in single bins, and those of whole bins if wanted."""
    if found is None:
        return {}
    needs = {}
    for single in found.single:
        name = f"prop_bin{channel}_bin{single.bin}_{columns[single.process].process.name}"
        if single.events is None:
            needs[name] = Need(widths=(1.0, 1.0))
        else:
            needs[name] = Need(single.events, 0.0, is_poisson=True, measured=single.events)
    if as_parameters and np.any(found.whole):
        needs[f"prop_bin{channel}"] = Need(widths=(1.0, 1.0), fixed=~found.whole)
    return needs


def _templates(
    made: Columns,
    needs: dict[str, Need],
    physics: Physics,
    formulas: dict[str, Any],
    errors: dict[str, BinErrors | None],
    layout: Layout,
    mass: float | None,
) -> Templates:
    card = made.card
    names = tuple(name for name, shape in layout.entries if shape == ())
    position = {name: i for i, name in enumerate(names)}
    rates, effects, factor_names, linear = _normalisations(made, position)
    constants = () if mass is None else (("MH", float(mass)),)
    derived = {name: _formula(card, s) for name, s in formulas.items()} | physics.derived
    try:
        in_order = ordered(derived, {*names, *(name for name, _ in constants)})
    except ValueError as error:
        raise card.error(None, str(error)) from error
    linear_effects, linear_at = linear_factors(linear)
    scalars = Scalars(linear_effects, linear_at, in_order, names, tuple(physics.pois), constants)
    extended = dict(position) | {d.name: len(names) + len(linear) + i for i, d in enumerate(in_order)}
    factors = [[f if isinstance(f, int) else extended[f] for f in of_process] for of_process in factor_names]
    by_bins: dict[int, list[str]] = {}
    for channel, columns in made.of.items():
        by_bins.setdefault(1 if columns[0].histogram is None else columns[0].histogram.values.size, []).append(channel)
    index = {column.process.at: i for i, column in enumerate(made.all)}
    blocks = tuple(
        _block(made, channels, position, index, errors, len(made.all)) for _, channels in sorted(by_bins.items())
    )
    norms = normalisation(rates, effects, factors, len(names))
    return Templates(scalars, norms, blocks, layout, Table(layout.positions(names)))


def _formula(card: Card, scalar: Any) -> Derived:
    try:
        return Derived(scalar.name, formula(scalar.text, scalar.names))
    except ValueError as error:
        raise card.error(scalar.line, f"the formula of {scalar.name}: {error}") from error


def _normalisations(
    made: Columns, position: dict[str, int]
) -> tuple[np.ndarray, list[LogNormal], list[list[str | int]], list[tuple[int, float]]]:
    """The rate of each process, all log-normals, the factors of each process, and those that are 1 + effect theta,
    whose positions are after the parameters."""
    card, rates, effects = made.card, [], []
    factors: list[list[str | int]] = []
    linear: list[tuple[int, float]] = []
    for i, column in enumerate(made.all):
        at, of_process = column.process.at, list[str | int]()
        scale = made.physics.scales[at]
        if scale is not None:
            of_process.append(scale)
        of_process.extend(card.rate_params.get(at, []))
        is_absolute = column.histogram is not None and at[0] in card.mc_stats
        rate, gamma = (1.0 if is_absolute else card.rates[at]), None
        for systematic in card.systematics:
            if not systematic.moves(at) or systematic.kind == "param":
                continue
            name, kind, effect = systematic.name, systematic.kind, systematic.effects[at]
            if systematic.is_shape:
                shape_name = systematic.shapes.get(at, name)
                if not kind.endswith("?") or (column.histogram is not None and made.histograms.has(*at, shape_name)):
                    continue
                kind = "lnN"
            if kind in ("lnN", "lnU"):
                down, up = effect if isinstance(effect, tuple) else (1 / effect, effect)
                effects.append(LogNormal(position[name], i, down, up))
                continue
            assert isinstance(effect, float)
            if kind in ("trG", "unif"):
                of_process.append(len(position) + len(linear))
                linear.append((position[name], effect))
                continue
            if gamma is not None:
                raise card.error(systematic.line, f"{at[1]} in {at[0]} has two gmN, {gamma} and {name}")
            gamma, count = name, float(systematic.args[0])
            of_process.append(name)
            rate = effect if not is_absolute else 1 / count if count > 0 else 1.0
        rates.append(rate)
        factors.append(of_process)
        effects.extend(_of_shapes(made, column, i, position))
    return np.array(rates, float), effects, factors, linear


def _of_shapes(made: Columns, column: Column, i: int, position: dict[str, int]) -> list[LogNormal]:
    """The changes of the normalisation by variations of the shape."""
    settings = made.card.mc_stats.get(column.process.channel)
    if column.histogram is None or (settings is not None and settings.mode == 2):
        return []
    effects = []
    for name, scale, down, up, _ in column.morphs:
        low, high = down.total / column.histogram.total, up.total / column.histogram.total
        if abs(low - 1) >= _FLAT or abs(high - 1) >= _FLAT:
            effects.append(LogNormal(position[name], i, low**scale, high**scale))
    return effects


def _block(
    made: Columns,
    channels: list[str],
    position: dict[str, int],
    index: dict[At, int],
    errors: dict[str, BinErrors | None],
    nothing: int,
) -> Block:
    shapes = [[_shape(made.card, column, position) for column in made.of[channel]] for channel in channels]
    c, s = len(channels), max(map(len, shapes))
    processes = np.full((c, s), nothing)
    for i, channel in enumerate(channels):
        for j, column in enumerate(made.of[channel]):
            processes[i, j] = index[column.process.at]
    names = tuple(tuple(column.process.name for column in made.of[channel]) for channel in channels)
    return Block(
        shapes_of(shapes),
        _errors(made, channels, position, errors, s, shapes[0][0].nominal.size),
        Table(np.ones(c, bool)),
        Table(processes),
        tuple(channels),
        names,
    )


def _shape(card: Card, column: Column, position: dict[str, int]) -> Shape:
    if column.histogram is None:
        return Shape(np.ones(1), [], False, False, False)
    settings = card.mc_stats.get(column.process.channel)
    nominal = column.histogram
    morphs = []
    for name, scale, down, up, _ in column.morphs:
        ends = [
            h.values * nominal.total / h.total if settings is not None and settings.mode == 1 else h.values
            for h in (down, up)
        ]
        morphs.append(Morph(position[name], scale, *ends))
    is_log = any("N" in morph[-1] for morph in column.morphs)
    return Shape(nominal.values, morphs, is_log, True, settings is None)


def _errors(
    made: Columns,
    channels: list[str],
    position: dict[str, int],
    errors: dict[str, BinErrors | None],
    s: int,
    n: int,
) -> McErrors:
    found = [errors[channel] for channel in channels]
    if all(f is None for f in found):
        return no_errors(len(channels), s, n)
    spread, whole = np.zeros((len(channels), s, n)), np.zeros((len(channels), n), bool)
    bins, at, scales, is_poisson = [], [], [], []
    for i, (channel, of_channel) in enumerate(zip(channels, found, strict=True)):
        if of_channel is None:
            continue
        whole[i] = of_channel.whole
        columns = made.of[channel]
        for j, column in enumerate(columns):
            assert column.histogram is not None
            spread[i, j] = column.histogram.errors
        for single in of_channel.single:
            bins.append((i * s + single.process) * n + single.bin)
            at.append(position[f"prop_bin{channel}_bin{single.bin}_{columns[single.process].process.name}"])
            scales.append(single.error if single.events is None else 1 / single.events)
            is_poisson.append(single.events is not None)
    return McErrors(
        jnp.asarray(spread),
        jnp.asarray(np.array(scales, float)),
        Table(whole),
        Table(np.array([f is not None for f in found])),
        Table(np.array(bins, int)),
        Table(np.array(at, int)),
        Table(np.array(is_poisson, bool)),
    )
