"""The parameters that the modifiers of a HistFactory model need: their starts, bounds and measurements."""

from typing import NamedTuple

import numpy as np

from .spec import Channel, Config, Modifier, Spec


class Need(NamedTuple):
    """A parameter.

    - `shape`: `()`, or `(k,)` for one with an entry for each bin.
    - `constraint`: "normal", "poisson" or `None`; `widths`: the standard deviations of the former, the expected counts
        for a parameter of 1 of the latter.
    - `observed`: the measured values; `idle`: how many of them carry no information, as their entries are fixed.
    - `where`: the first modifier that needs it, for messages; `what`: its kind.
    """

    shape: tuple[int, ...]
    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    fixed: np.ndarray
    constraint: str | None
    observed: np.ndarray
    widths: np.ndarray
    idle: int
    where: str
    what: str


class Slices(NamedTuple):
    """The positions, by channel, of the entries of a parameter with one for each bin."""

    size: int
    start: dict[str, int]


def needs(spec: Spec) -> tuple[dict[str, Need], dict[str, Slices]]:
    """All parameters by name, and the positions of each channel's bins in the vectors among them.

    **Raises:** `ValueError` if modifiers of one name need different parameters, or the settings of a parameter do not
    fit.
    """
    uses: dict[str, list[tuple[Channel, int, Modifier]]] = {}
    for channel in spec.channels:
        for i, sample in enumerate(channel.samples):
            for modifier in sample.modifiers:
                uses.setdefault(modifier.name, []).append((channel, i, modifier))
    parameters, slices = {}, {}
    for name in sorted(uses):
        kinds = {_family(m) for _, _, m in uses[name]}
        first = uses[name][0][2]
        if len(kinds) > 1:
            other = next(m for _, _, m in uses[name] if _family(m) != _family(first))
            raise ValueError(
                f"{other.where}: {other.kind} {name!r} has the name of the {first.kind} at {first.where}, which needs "
                "another kind of parameter"
            )
        if first.kind in ("shapefactor", "shapesys", "staterror"):
            slices[name] = _slices(name, uses[name])
        parameters[name] = _configured(_need(name, uses[name], slices.get(name)), spec.configs.get(name), name)
    return parameters, slices


def _family(modifier: Modifier) -> str:
    return "normsys" if modifier.kind == "histosys" else modifier.kind


def _slices(name: str, uses: list[tuple[Channel, int, Modifier]]) -> Slices:
    """The bins of a shapefactor are shared by all its channels; for other kinds each channel has its own."""
    channels = {channel.name: channel.bins for channel, _, _ in uses}
    kind = uses[0][2].kind
    if kind == "shapefactor":
        return Slices(max(channels.values()), dict.fromkeys(channels, 0))
    if kind == "shapesys" and len(uses) > 1:
        raise ValueError(
            f"{uses[1][2].where}: there is a shapesys {name!r} at {uses[0][2].where} already; each is of one sample"
        )
    starts, size = {}, 0
    for channel in sorted(channels):
        starts[channel] = size
        size += channels[channel]
    return Slices(size, starts)


def _need(name: str, uses: list[tuple[Channel, int, Modifier]], slices: Slices | None) -> Need:
    first = uses[0][2]
    size = 1 if slices is None else slices.size
    shape = () if slices is None else (size,)
    start, fixed, ones = np.ones(size), np.zeros(size, bool), np.ones(size)
    lower, upper = np.zeros(size), np.full(size, 10.0)
    constraint, observed, widths = None, ones, ones
    if first.kind in ("normsys", "histosys"):
        constraint, start, observed = "normal", np.zeros(size), np.zeros(size)
        lower, upper = np.full(size, -5.0), np.full(size, 5.0)
    elif first.kind == "lumi":
        constraint = "normal"
    elif slices is not None and first.kind in ("shapesys", "staterror"):
        relative = _relative_errors(uses, slices)
        fixed = relative == 0
        constraint = first.constraint or ("poisson" if first.kind == "shapesys" else "normal")
        lower = np.full(size, 1e-10)
        safe = np.where(fixed, 1.0, relative)
        widths = safe**-2.0 if constraint == "poisson" else safe
        observed = widths if constraint == "poisson" else ones
    return Need(
        *(shape, start, lower, upper, fixed, constraint, observed, widths, int(np.sum(fixed)), first.where, first.kind)
    )


def _relative_errors(uses: list[tuple[Channel, int, Modifier]], slices: Slices) -> np.ndarray:
    """The relative errors of the sum of the samples that share the parameter; 0 where they have no events."""
    errors, nominal = np.zeros(slices.size), np.zeros(slices.size)
    for channel, i, modifier in uses:
        bins = slice(slices.start[channel.name], slices.start[channel.name] + channel.bins)
        assert modifier.errors is not None
        errors[bins] = np.hypot(errors[bins], modifier.errors)
        nominal[bins] += channel.samples[i].nominal
    is_used = (nominal > 0) & (errors > 0)
    with np.errstate(over="ignore"):
        relative = np.where(is_used, errors / np.where(is_used, nominal, 1.0), 0.0)
        is_valid = np.isfinite(relative) & np.isfinite(np.where(is_used, relative, 1.0) ** -2.0)
    if not np.all(is_valid):
        raise ValueError(f"{uses[0][2].where}: errors and yields are too far apart, or too large, to be numbers")
    return relative


def _configured(need: Need, config: Config | None, name: str) -> Need:
    """The parameter with the settings of the file."""
    if config is None:
        if need.what == "lumi":
            raise ValueError(
                f"{need.where}: the luminosity {name!r} needs its value and error: an entry of the measurement's "
                'parameters with "auxdata", "sigmas", "inits" and "bounds"'
            )
        return need
    settings = {
        k: getattr(config, k) for k in ("inits", "bounds", "auxdata", "sigmas", "factors") if getattr(config, k)
    }
    size = need.start.size
    for key, values in settings.items():
        if len(values) != size:
            raise ValueError(f"{config.where}.{key}: {name!r} has {size} entries, and {len(values)} are given")
    allowed = {"lumi": ("auxdata", "sigmas"), "staterror": ("auxdata", "sigmas"), "shapesys": ("auxdata", "factors")}
    usable = ("inits", "bounds", *allowed.get(need.what, ("auxdata",) if need.constraint else ()))
    for key in settings:
        if key not in usable:
            raise ValueError(f"{config.where}.{key}: {name!r} is of a {need.what}, which has no {key}")
    if need.what == "lumi" and not {"auxdata", "sigmas"} <= set(settings):
        raise ValueError(f'{config.where}: the luminosity {name!r} needs "auxdata" and "sigmas"')
    observed = np.array(settings.get("auxdata", need.observed), float)
    start, lower, upper = need.start, need.lower, need.upper
    if need.what == "lumi":
        start, upper = observed, 10 * observed
    if "bounds" in settings:
        lower, upper = np.array(settings["bounds"], float).T
        if np.any(lower >= upper):
            raise ValueError(
                f"{config.where}.bounds: a lower bound must be below the upper one, got {settings['bounds']}"
            )
    start = np.array(settings.get("inits", start), float)
    if np.any((start < lower) | (start > upper)):
        raise ValueError(f"{config.where}: {name!r} starts at {start.tolist()}, outside of {lower} to {upper}")
    widths = np.array(settings.get("sigmas", settings.get("factors", need.widths)), float)
    if np.any(widths <= 0):
        raise ValueError(f"{config.where}: sigmas and factors must be positive, got {widths.tolist()}")
    fixed = need.fixed if config.fixed is None else np.full(size, config.fixed)
    idle = 0 if config.fixed is False else need.idle  # a floating parameter is determined by its own measurement
    return need._replace(
        start=start, lower=lower, upper=upper, fixed=fixed, observed=observed, widths=widths, idle=idle
    )
