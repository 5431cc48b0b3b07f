"""From the content of a file to the arrays of a `HistFactory` likelihood, its parameters and data."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..._parameters.parameter import Parameter
from ..._util.table import Table
from .auxiliary import Auxiliary
from .block import Block
from .layout import Layout
from .likelihood import HistFactory
from .main import Histograms
from .parameters import Need, Slices, needs
from .response import Response, Stage, Variation, code_of, stages, usual
from .shifts import sparse
from .spec import Channel, Modifier, Sample, Spec

_SCALING = ("normfactor", "lumi")
_BY_BIN = ("shapefactor", "shapesys", "staterror")
_SHARED = 0.25  # of the samples must have a channel's variations, for all to be given them
_Vectors = tuple[tuple[str, int, int], ...]


def build(
    spec: Spec, observed: Mapping[str, np.ndarray], codes: tuple[int, int]
) -> tuple[HistFactory, dict[str, Parameter], dict[str, Any]]:
    """The likelihood, its parameters at their starts, and the data.

    **Raises:** `ValueError` if the modifiers do not fit together, or nothing floats.
    """
    needed, slices = needs(spec)
    likelihood = likelihood_of(spec, codes, needed, slices)
    params = {name: parameter(need) for name, need in needed.items()}
    aux = {name: jnp.asarray(need.observed.reshape(need.shape)) for name, need in needed.items() if need.constraint}
    data = {"main": {name: jnp.asarray(counts) for name, counts in observed.items()}, "aux": aux}
    return likelihood, params, data


def likelihood_of(
    spec: Spec, codes: tuple[int, int], needed: dict[str, Need], slices: dict[str, Slices], is_stacked: bool = False
) -> HistFactory:
    """The likelihood, from the needs of each parameter. `is_stacked`: whether it will be stacked with others, so that
    its arrays keep their zeros. **Raises:** `ValueError` if nothing floats."""
    if not needed:
        raise ValueError("channels: no sample has a modifier, so that there is no parameter")
    numbers = tuple(name for name, need in needed.items() if need.shape == ())
    by_bins: dict[int, list[Channel]] = {}
    for channel in spec.channels:
        by_bins.setdefault(channel.bins, []).append(channel)
    blocks = [_block(channels, numbers, slices, codes, is_stacked) for _, channels in sorted(by_bins.items())]
    layout = Layout(tuple((name, needed[name].shape) for name in sorted(needed)))
    vectors = tuple(_rows(pieces, block.nominal.shape[-1], layout) for block, pieces in blocks)
    main = Histograms(tuple(block for block, _ in blocks), layout, Table(layout.positions(numbers)), vectors)
    return HistFactory(main, _auxiliary(needed, layout), spec.poi, spec.measurement)


def parameter(need: Need) -> Parameter:
    shaped = lambda x: x.reshape(need.shape)  # noqa: E731
    return Parameter(*(shaped(x) for x in (need.start, need.lower, need.upper)), fixed=shaped(need.fixed))


def _rows(pieces: _Vectors, bins: int, layout: Layout) -> Table:
    rows = [layout.positions([name])[start:stop] for name, start, stop in pieces]
    return Table(np.array(rows, int).reshape(len(rows), bins))


def _auxiliary(needed: dict[str, Need], layout: Layout) -> Auxiliary:
    kinds: dict[str, dict[str, Need]] = {"normal": {}, "poisson": {}}
    for name, need in needed.items():
        if need.constraint:
            kinds[need.constraint][name] = need
    arrays = {
        kind: jnp.asarray(np.concatenate([np.zeros(0), *(need.widths.ravel() for need in group.values())]))
        for kind, group in kinds.items()
    }
    return Auxiliary(
        widths=arrays["normal"],
        scales=arrays["poisson"],
        layout=layout,
        normal=tuple(kinds["normal"]),
        poisson=tuple(kinds["poisson"]),
        idle=sum(need.idle for need in needed.values() if need.constraint),
    )


def _block(
    channels: list[Channel],
    numbers: tuple[str, ...],
    slices: dict[str, Slices],
    codes: tuple[int, int],
    is_stacked: bool,
) -> tuple[Block, _Vectors]:
    """A block of channels with the same number of bins, and the pieces of vectors of parameters that act on them."""
    c, s, n = len(channels), max(len(channel.samples) for channel in channels), channels[0].bins
    position = {name: i for i, name in enumerate(numbers)}
    nominal = np.zeros((c, s, n))
    for i, j, sample in _samples(channels):
        nominal[i, j] = sample.nominal
    factors = _table(channels, s, _SCALING, len(numbers), lambda m, channel: position[m.name])
    norm_code, shape_code = (code_of(kind, _responses(channels, kind, codes)) for kind in ("normsys", "histosys"))
    norms, norm_at = _variations(channels, s, "normsys", position, np.ones((c, s, 1, 1)), norm_code)
    shapes, shape_at = _variations(channels, s, "histosys", position, nominal[:, :, None], shape_code)
    shifts = None if is_stacked or shape_code is None else sparse(shapes, nominal, shape_at, shape_code)
    if shifts is not None:
        shapes, shape_at = shapes[:, :, :, :0], shape_at[:, :, :0]
    vectors: dict[tuple[str, int, int], int] = {}
    gammas = _table(
        channels, s, _BY_BIN, -1, lambda m, channel: vectors.setdefault(_piece(m, channel, slices), len(vectors))
    )
    gammas[gammas < 0] = len(vectors)
    block = Block(
        nominal=jnp.asarray(nominal),
        norm_lo=jnp.asarray(norms[0, ..., 0]),
        norm_hi=jnp.asarray(norms[1, ..., 0]),
        shape_lo=jnp.asarray(shapes[0]),
        shape_hi=jnp.asarray(shapes[1]),
        factors=Table(factors),
        norms=Table(norm_at),
        shapes=Table(shape_at),
        gammas=Table(gammas),
        channels=tuple(channel.name for channel in channels),
        samples=tuple(tuple(sample.name for sample in channel.samples) for channel in channels),
        codes=(codes[0] if norm_code is None else norm_code, codes[1] if shape_code is None else shape_code),
        norm_stages=_stages(channels, "normsys", position, np.ones((c, s, 1)), codes) if norm_code is None else (),
        shape_stages=_stages(channels, "histosys", position, nominal, codes) if shape_code is None else (),
        shifts=shifts,
    )
    return block, tuple(vectors)


def _responses(channels: list[Channel], kind: str, codes: tuple[int, int]) -> set[Response]:
    """The responses of all modifiers of a kind; the default if there are none."""
    default = usual(kind, codes)
    responses = {
        m.response or default for _, _, sample in _samples(channels) for m in sample.modifiers if m.kind == kind
    }
    return responses or {default}


def _stages(
    channels: list[Channel], kind: str, position: dict[str, int], nominal: np.ndarray, codes: tuple[int, int]
) -> tuple[Stage, ...]:
    default = usual(kind, codes)
    variations = {
        (i, j): [
            Variation(position[m.name], m.response or default, np.atleast_1d(m.lo), np.atleast_1d(m.hi))
            for m in sample.modifiers
            if m.kind == kind
        ]
        for i, j, sample in _samples(channels)
    }
    return stages(variations, nominal, len(position))


def _samples(channels: list[Channel]) -> Iterator[tuple[int, int, Sample]]:
    return ((i, j, sample) for i, channel in enumerate(channels) for j, sample in enumerate(channel.samples))


def _table(
    channels: list[Channel],
    s: int,
    kinds: tuple[str, ...],
    nothing: int,
    position_of: Callable[[Modifier, Channel], int],
) -> np.ndarray:
    """The position of each modifier of these kinds, of shape `(c, s, most)`; `nothing` where there is none."""
    chosen = {(i, j): [m for m in sample.modifiers if m.kind in kinds] for i, j, sample in _samples(channels)}
    table = np.full((len(channels), s, max(map(len, chosen.values()))), nothing)
    for (i, j), modifiers in chosen.items():
        table[i, j, : len(modifiers)] = [position_of(m, channels[i]) for m in modifiers]
    return table


def _variations(
    channels: list[Channel], s: int, kind: str, position: dict[str, int], neutral: np.ndarray, code: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The lower and upper variations, of shape `(2, c, s, most, n)`, and the positions of their parameters. There are
    none without a common code."""
    chosen = {
        (i, j): [] if code is None else _numbered(m for m in sample.modifiers if m.kind == kind)
        for i, j, sample in _samples(channels)
    }
    channel_keys = [sorted({key for j in range(s) for key, _ in chosen.get((i, j), ())}) for i in range(len(channels))]
    largest, union = max(map(len, chosen.values())), max(map(len, channel_keys))
    entries = sum(map(len, chosen.values()))
    shared = entries >= _SHARED * len(channels) * s * union
    size = union if shared else largest
    positions = np.full((len(channels), 1 if shared else s, size), len(position))
    if shared:
        for i, keys in enumerate(channel_keys):
            positions[i, 0, : len(keys)] = [position[name] for name, _ in keys]
    variations = np.repeat(np.stack([neutral, neutral]), size, axis=3)
    for (i, j), modifiers in chosen.items():
        for k, (key, modifier) in enumerate(modifiers):
            k = channel_keys[i].index(key) if shared else k
            variations[:, i, j, k] = np.stack([np.atleast_1d(modifier.lo), np.atleast_1d(modifier.hi)])
            if not shared:
                positions[i, j, k] = position[modifier.name]
    return variations, positions


def _numbered(modifiers: Iterable[Modifier]) -> list[tuple[tuple[str, int], Modifier]]:
    """Each with its parameter's name, and the number of modifiers of that parameter before it in the sample."""
    counts: Counter[str] = Counter()
    numbered = []
    for modifier in modifiers:
        numbered.append(((modifier.name, counts[modifier.name]), modifier))
        counts[modifier.name] += 1
    return numbered


def _piece(modifier: Modifier, channel: Channel, slices: dict[str, Slices]) -> tuple[str, int, int]:
    start = slices[modifier.name].start[channel.name]
    return modifier.name, start, start + channel.bins
