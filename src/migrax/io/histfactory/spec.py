"""What a HistFactory model says, read and checked, whatever the format of the file that says it."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .response import Response


class Modifier(NamedTuple):
    """One effect on a sample.

    - `kind`: normfactor, lumi, normsys, histosys, shapefactor, shapesys or staterror.
    - `name`: of its parameter.
    - `lo`, `hi`: of normsys two numbers, of histosys two histograms.
    - `errors`: absolute ones of the bins, of shapesys and staterror.
    - `constraint`: "normal" or "poisson", where it is not the one that is usual for the kind.
    - `where`: where in the file it stands, for messages.
    - `response`: how normsys and histosys interpolate, where the file says it of this one.
    """

    kind: str
    name: str
    where: str
    lo: Any = None
    hi: Any = None
    errors: Float[np.ndarray, " n"] | None = None
    constraint: str | None = None
    response: Response | None = None


class Sample(NamedTuple):
    name: str
    nominal: Float[np.ndarray, " n"]
    modifiers: tuple[Modifier, ...]
    where: str


class Channel(NamedTuple):
    name: str
    samples: tuple[Sample, ...]
    where: str

    @property
    def bins(self) -> int:
        return self.samples[0].nominal.size


class Config(NamedTuple):
    """What a file says of a parameter; `None` for what it leaves open. Lists have an entry for each number."""

    where: str
    inits: list[float] | None = None
    bounds: list[list[float]] | None = None
    auxdata: list[float] | None = None
    sigmas: list[float] | None = None
    factors: list[float] | None = None
    fixed: bool | None = None


class Spec(NamedTuple):
    channels: tuple[Channel, ...]
    configs: dict[str, Config]
    poi: str | None
    measurement: str
