"""Confidence regions of two parameters."""

import math
from typing import TYPE_CHECKING

import numpy as np

from .._profile.contour import Contour
from ._axes import LINE, axes, check, concrete, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def contour(contour: Contour, ax: "Axes | None" = None) -> "Axes":
    """Draws the regions of two parameters at one or several confidence levels, and the minimum.

    ```python
    mx.plot.contour(mx.contour(nll, result, data, ("mu", "sigma"), cl=[0.68, 0.95]))
    ```

    **Arguments:**

    - `contour`: what `mx.contour` returned. Points that were not found are gaps; a region with gaps is not filled.
    - `ax`: where to draw; default: a new figure.

    **Returns:** the `ax`.

    **Raises:** `TypeError` for any other object; `ValueError` for vmapped contours.
    """
    check_contour(contour, "contour")
    ax = axes(ax)
    draw_regions(ax, contour)
    ax.set(xlabel=contour.names[0], ylabel=contour.names[1])
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def check_contour(contour: Contour, what: str) -> None:
    """**Raises:** `TypeError` for any other object, `ValueError` for vmapped contours."""
    check(contour, Contour, what, "what mx.contour returned")
    if np.ndim(contour.result.nll) != 0:
        raise ValueError(f"{what} draws one result, got many: take one, jax.tree.map(lambda x: x[0], contours)")


def draw_regions(ax: "Axes", contour: Contour, *, swapped: bool = False) -> None:
    """Draw all levels, the innermost darkest. `swapped`: the second parameter along x."""
    x, y = (np.atleast_2d(concrete(v)) for v in ((contour.y, contour.x) if swapped else (contour.x, contour.y)))
    levels = np.atleast_1d(concrete(contour.rise))
    order = np.argsort(levels)
    for rank, (k, colour) in enumerate(zip(order, shades(levels.size), strict=True)):
        digits = max(3, 2 + math.ceil(0.5 * levels[k] / math.log(10)))  # enough to distinguish it from 100 %
        label = f"{100 * -math.expm1(-0.5 * levels[k]):.{digits}g} %"
        if np.all(np.isfinite(x[k]) & np.isfinite(y[k])):
            ax.fill(x[k], y[k], color=colour, alpha=0.18, linewidth=0, zorder=1 - 0.01 * rank)
        style = ("-", "--", "-.", ":")[rank % 4]
        ax.plot(x[k], y[k], color=colour, linewidth=1.8, linestyle=style, label=label, zorder=2)
    names = contour.names[::-1] if swapped else contour.names
    minimum = [float(contour.result[name].value) for name in names]
    ax.plot(*([v] for v in minimum), marker="+", color=LINE, markersize=9, markeredgewidth=1.5, linestyle="", zorder=3)
    ax.get_lines()[-1].set_label("Minimum")
