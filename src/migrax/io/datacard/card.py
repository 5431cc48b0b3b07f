"""The content of a datacard, read and checked, before histograms and physics."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

Effect = float | tuple[float, float]  # of a systematic on a process: one number, or those down and up
At = tuple[str, str]  # a channel and a process in it


class Process(NamedTuple):
    """A column of the card."""

    channel: str
    name: str
    is_signal: bool

    @property
    def at(self) -> At:
        return self.channel, self.name


@dataclasses.dataclass
class Systematic:
    """A line that moves processes, or constrains a parameter (`param`).

    - `args`: what stands before the effects (the count of gmN, the range of unif), or all of a `param`.
    - `effects`: on each process, without those of "-".
    - `shapes`: the name in the histograms, where an edit has renamed it.
    """

    name: str
    kind: str
    args: tuple[str, ...]
    effects: dict[At, Effect]
    line: int
    shapes: dict[At, str] = dataclasses.field(default_factory=dict)

    @property
    def is_shape(self) -> bool:
        return self.kind.startswith("shape")

    def moves(self, at: At) -> bool:
        """Whether it has an effect on a process: 0 is none, and neither is 1 for a log-normal."""
        effect = self.effects.get(at, 0.0)
        return effect != 0 and not (self.kind == "lnN" and effect == 1.0)


class Scalar(NamedTuple):
    """A parameter or a formula of a rateParam or an extArg.

    - `text`: its value, or the formula. `names`: the arguments of the formula; `None` for a parameter.
    - `bounds`: of a parameter.
    """

    name: str
    text: str
    names: tuple[str, ...] | None
    bounds: tuple[float, float] | None
    is_fixed: bool
    line: int


class McStats(NamedTuple):
    """The settings of autoMCStats in a channel: the threshold in events below which each process has a parameter of its
    own, whether signals count for it, and how variations of the normalisation are interpolated (1: as log-normals; 2:
    bin by bin)."""

    threshold: float
    includes_signal: bool
    mode: int


@dataclasses.dataclass
class Card:
    """All lines of a card. `shapes[channel][process]`: the file and the names of the histograms."""

    path: Path | None
    channels: list[str] = dataclasses.field(default_factory=list)
    observed: dict[str, float] = dataclasses.field(default_factory=dict)
    processes: list[Process] = dataclasses.field(default_factory=list)
    rates: dict[At, float] = dataclasses.field(default_factory=dict)
    shapes: dict[str, dict[str, tuple[tuple[str, ...], int]]] = dataclasses.field(default_factory=dict)
    systematics: list[Systematic] = dataclasses.field(default_factory=list)
    scalars: dict[str, Scalar] = dataclasses.field(default_factory=dict)
    rate_params: dict[At, list[str]] = dataclasses.field(default_factory=dict)
    flat: dict[str, int] = dataclasses.field(default_factory=dict)
    groups: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    group_lines: dict[str, int] = dataclasses.field(default_factory=dict)
    mc_stats: dict[str, McStats] = dataclasses.field(default_factory=dict)
    frozen: set[str] = dataclasses.field(default_factory=set)
    declared: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)  # imax, jmax, kmax: number and line
    is_edited: bool = False
    n_lines: int = 0

    def error(self, line: int | None, message: str) -> ValueError:
        """An error with the place in the file."""
        name = "the datacard" if self.path is None else str(self.path)
        return ValueError(f"{name}, line {line}: {message}" if line else f"{name}: {message}")

    def of_channel(self, channel: str) -> list[Process]:
        return [process for process in self.processes if process.channel == channel]
