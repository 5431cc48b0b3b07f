"""The table of impacts, from plain records."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from .table import Table

HEAD = ("Name", "Pull", "Constraint", "Postfit-", "Postfit+", "Prefit-", "Prefit+", "Linear")


class Impact(NamedTuple):
    """The impact of one nuisance parameter. Missing numbers are NaN; `failed` says that a requested refit failed."""

    name: str
    pull: float
    constraint: float
    postfit: tuple[float, float]
    prefit: tuple[float, float]
    linear: float
    failed: bool

    @property
    def size(self) -> float:
        magnitudes = [abs(i) for i in self.postfit if math.isfinite(i)]
        return max(magnitudes, default=0.0)


def by_size(impacts: Sequence[Impact]) -> list[Impact]:
    """Sorts by the postfit impact, the largest first."""
    return sorted(impacts, key=lambda impact: -impact.size)


def cells(impact: Impact, scale: float) -> list[str]:
    """Returns a row of the table; the decimals of impacts are those of three digits of the largest one, `scale`."""
    places = 3 if scale == 0 else max(0, 2 - math.floor(math.log10(scale)))
    number_format = f".{places}f" if places <= 6 and scale < 1e5 else ".3g"
    numbers = [*impact.postfit, *impact.prefit, impact.linear]
    return [
        impact.name + (" (failed)" if impact.failed else ""),
        *("" if math.isnan(x) else f"{x:.2f}" for x in (impact.pull, impact.constraint)),
        *("" if math.isnan(x) else f"{x:z{number_format}}" for x in numbers),
    ]


def impacts_table(impacts: Sequence[Impact], poi: str) -> Table:
    """Returns the table of the impacts on `poi`, the largest first."""
    scale = max((impact.size for impact in impacts), default=0.0)
    return Table(f"Impacts on {poi}", HEAD, [cells(impact, scale) for impact in by_size(impacts)])
