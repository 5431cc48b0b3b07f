"""The table of impacts. Plain records come in."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from .table import Table

HEAD = ("Name", "Pull", "Constraint", "Postfit-", "Postfit+", "Prefit-", "Prefit+", "Linear")


class Impact(NamedTuple):
    """One nuisance parameter. NaN stands for what there is not; `failed` for a refit that was asked for and failed."""

    name: str
    pull: float
    constraint: float
    postfit: tuple[float, float]
    prefit: tuple[float, float]
    linear: float
    failed: bool

    @property
    def size(self) -> float:
        sizes = [abs(i) for i in self.postfit if math.isfinite(i)]
        return max(sizes, default=0.0)


def by_size(impacts: Sequence[Impact]) -> list[Impact]:
    """The largest impact after the fit first."""
    return sorted(impacts, key=lambda impact: -impact.size)


def cells(impact: Impact, scale: float) -> list[str]:
    """A row of the table; impacts are shown with three digits of the largest, `scale`."""
    places = 3 if scale == 0 else max(0, 2 - math.floor(math.log10(scale)))
    small = f".{places}f" if places <= 6 and scale < 1e5 else ".3g"
    moved = [*impact.postfit, *impact.prefit, impact.linear]
    return [
        impact.name + (" (failed)" if impact.failed else ""),
        *("" if math.isnan(x) else f"{x:.2f}" for x in (impact.pull, impact.constraint)),
        *("" if math.isnan(x) else f"{x:z{small}}" for x in moved),
    ]


def impacts_table(impacts: Sequence[Impact], poi: str) -> Table:
    """The impacts on `poi`, the largest first."""
    scale = max((impact.size for impact in impacts), default=0.0)
    return Table(f"Impacts on {poi}", HEAD, [cells(impact, scale) for impact in by_size(impacts)])
