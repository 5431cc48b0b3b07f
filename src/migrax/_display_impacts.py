"""Impacts as text and HTML: the largest first. Plain records come in."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

from ._display import draw_table

HEAD = ("Name", "Pull", "Constraint", "Postfit-", "Postfit+", "Prefit-", "Prefit+", "Linear")
_WIDTH = 10


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


def impacts_text(impacts: Sequence[Impact], poi: str) -> str:
    """A table of the impacts on `poi`."""
    scale = max((impact.size for impact in impacts), default=0.0)
    body = [cells(impact, scale) for impact in by_size(impacts)]
    widths = [max(len(row[0]) for row in [HEAD, *body]) + 2]
    widths += [max(_WIDTH, max(len(row[k]) for row in [HEAD, *body]) + 2) for k in range(1, len(HEAD))]
    return "\n".join([f"Impacts on {poi}", *draw_table(widths, list(HEAD), body, left=1)])


def impacts_html(impacts: Sequence[Impact], poi: str) -> str:
    scale = max((impact.size for impact in impacts), default=0.0)
    lines = ["<table>", "  <tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in HEAD) + "</tr>"]
    for impact in by_size(impacts):
        first, *others = (html.escape(cell) for cell in cells(impact, scale))
        row = "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f'  <tr><td style="text-align:left">{first}</td>{row}</tr>')
    return "\n".join([f"<p>Impacts on {html.escape(poi)}</p>", *lines, "</table>"])
