"""Pulls of the nuisance parameters, and their impacts on the parameter of interest."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._profile.impacts import Impacts
from ._axes import DARK, FAINT, LIGHT, LINE, check, check_single, concrete, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR = 0.72  # of the distance between rows


def impacts(impacts: Impacts, ax: Any = None, *, top: int = 20) -> Any:
    """Draws the nuisance parameters, ranked by their impact.

    Left: their pulls, with error bars that show the errors after the fit in units of those before. Right: the shifts of
    the parameter of interest if a nuisance parameter is moved up or down by its error after the fit; outlines show the
    same for its error before the fit.

    ```python
    mx.plot.impacts(mx.impacts(nll, result, data, "mu", prefit={"alpha": (0.0, 1.0)}))
    ```

    **Arguments:**

    - `impacts`: what `mx.impacts` returned. Failed fits are not drawn; a parameter without an error before the fit has
        no pull.
    - `ax`: a pair of axes, for the pulls and the impacts; or one, for the impacts alone; default: both, in a new
        figure.
    - `top`: the number of impacts shown, largest first.

    **Returns:** the `ax`; for a new figure the pair.

    **Raises:** `TypeError` for any other object; `ValueError` for vmapped impacts, or `top` below 1.
    """
    check(impacts, Impacts, "impacts", "what mx.impacts returned")
    check_single(np.shape(impacts.linear), 1, "impacts")
    if isinstance(top, bool) or int(top) != top or top < 1:
        raise ValueError(f"top must be a whole number of at least 1, got {top!r}")
    size = np.fmax(np.abs(concrete(impacts.postfit_up)), np.abs(concrete(impacts.postfit_down)))
    order = np.argsort(-np.nan_to_num(size, nan=-1.0), kind="stable")[:top]
    grid = {"ncols": 2, "sharey": True, "width_ratios": (2, 3)}
    first, second = panels(ax, grid, (8.0, max(2.6, 1.4 + 0.3 * order.size)))
    left, right = (None, first) if second is None else (first, second)
    if left is not None:
        _draw_pulls(left, impacts, order)
    _draw_impacts(right, impacts, order)
    named = right if left is None else left
    named.set_yticks(range(order.size), [impacts.names[i] for i in order])
    named.set_ylim(order.size - 0.4, -0.6)
    if left is not None:
        right.set_ylim(named.get_ylim())
        right.tick_params(labelleft=False, left=False)
        left.figure.align_xlabels([left, right])
    return (left, right) if ax is None else ax


def _draw_pulls(ax: "Axes", impacts: Impacts, order: np.ndarray) -> None:
    pulls, constraints = concrete(impacts.pulls)[order], concrete(impacts.constraints)[order]
    rows = np.arange(order.size)
    for position, style in ((-1, ":"), (0, "-"), (1, ":")):
        ax.axvline(position, color=FAINT, linewidth=0.8, linestyle=style, zorder=1)
    ax.errorbar(pulls, rows, xerr=constraints, fmt="o", color=LINE, markersize=4, linewidth=1.4, capsize=2, zorder=3)
    reach = (np.abs(pulls) + constraints)[np.isfinite(pulls + constraints)]
    limit = max(1.6, 1.15 * float(np.max(reach, initial=0.0)))
    ax.set(xlabel=r"$(\hat\theta - \theta_0)\,/\,\Delta\theta$", xlim=(-limit, limit))
    ax.grid(axis="y", color="0.92", zorder=0)
    ax.set_axisbelow(True)


def _draw_impacts(ax: "Axes", impacts: Impacts, order: np.ndarray) -> None:
    rows = np.arange(order.size)
    up, down = concrete(impacts.postfit_up)[order], concrete(impacts.postfit_down)[order]
    sides = (
        (r"$+1\sigma$", up, down, concrete(impacts.prefit_up)[order], DARK),
        (r"$-1\sigma$", down, up, concrete(impacts.prefit_down)[order], LIGHT),
    )
    reach = 0.0
    for label, post, other, pre, colour in sides:
        bars = ax.barh(rows, post, _BAR, color=colour, label=label)
        for bar, shorter in zip(bars, np.abs(post) < np.abs(other), strict=True):
            bar.set_zorder(2.5 if shorter else 2)  # visible also where both are on one side
        known = np.isfinite(pre)
        if np.any(known):
            edge: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "linewidth": 1.2}
            ax.barh(rows[known], pre[known], _BAR, label=f"{label} before the fit", zorder=3, **edge)
        reach = max(reach, *(float(np.max(np.abs(v[np.isfinite(v)]), initial=0.0)) for v in (post, pre)))
    ax.axvline(0, color=LINE, linewidth=0.8, zorder=4)
    ax.set(xlabel=f"Impact on {impacts.poi}", xlim=(-1.1 * reach, 1.1 * reach) if reach > 0 else None)
    ax.grid(axis="y", color="0.92", zorder=0)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="small")
