"""The content of a HistFactory model, read and checked, independent of the format of the file."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .response import Response


class Modifier(NamedTuple):
    """One effect on a sample.

    - `kind`: normfactor, lumi, normsys, histosys, shapefactor, shapesys or staterror.
    - `name`: that of its parameter.
    - `lo`, `hi`: two numbers for normsys, two histograms for histosys.
    - `errors`: the absolute errors of the bins, for shapesys and staterror.
    - `constraint`: "normal" or "poisson", if it is not the default of the kind.
    - `where`: its place in the file, for messages.
    - `response`: the interpolation of normsys and histosys, if the file specifies it for this modifier.
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
    """The settings of a parameter in a file; `None` for those left out. Lists have an entry for each number."""

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
