"""A triangle of the contours of all pairs of parameters, with their profiles on the diagonal."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._profile.contour import Contour
from .._profile.minos import Minos
from .._profile.profile import Profile
from ._axes import RISE, check, check_single, new_figure
from .contours import check_contour, draw_regions
from .profiles import draw_one

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HOW = "corner([*profiles, *contours, minos]), of what mx.profile, mx.contour and mx.minos returned"


def corner(results: Iterable[Profile | Contour | Minos], ax: Any = None) -> np.ndarray:
    """Draws a triangle of pictures: the profile of each parameter on the diagonal, the contours of each pair below it.

    ```python
    names = ["alpha", "mu", "sigma"]
    profiles = [mx.profile(nll, result, data, name) for name in names]
    contours = [mx.contour(nll, result, data, p, cl=[0.68, 0.95]) for p in itertools.combinations(names, 2)]
    mx.plot.corner([*profiles, *contours])
    ```

    **Arguments:**

    - `results`: profiles of one parameter each, contours of the pairs, and a result of `mx.minos` if its crossings are
        to be shown, in any order. Parameters are arranged in the order in which they first occur. Missing results leave
        empty panels.
    - `ax`: an array of axes of shape `(k, k)` for `k` parameters; default: a new figure.

    **Returns:** the array of axes. Those above the diagonal are hidden.

    **Raises:** `TypeError` for any other object; `ValueError` for vmapped results, a profile of two parameters,
    duplicates, nothing to draw, or another number of axes.
    """
    if isinstance(results, Profile | Contour | Minos) or not isinstance(results, Iterable):
        raise TypeError(f"corner takes a sequence of results, got {type(results).__name__}: {_HOW}")
    profiles, contours, minos = _sorted(list(results))
    names = list(dict.fromkeys([*profiles, *(name for pair in contours for name in pair)]))
    n = len(names)
    if n == 0:
        raise ValueError(f"corner has nothing to draw: {_HOW}")
    if ax is None:
        side = max(3.0, 1.2 + 1.9 * n)
        ax = new_figure((side, side)).subplots(n, n, squeeze=False)
    grid: Any = np.asarray(ax, dtype=object)
    if grid.shape != (n, n):
        raise ValueError(f"corner of {n} parameters takes axes of shape {(n, n)}, got {grid.shape}")
    for i, j in np.ndindex(n, n):
        panel: Any = grid[i, j]
        pair = (names[j], names[i])
        if i == j and names[i] in profiles:
            crossings = minos if minos is not None and names[i] in minos.names else None
            draw_one(panel, profiles[names[i]], crossings)
        elif j < i and (pair in contours or pair[::-1] in contours):
            swapped = pair not in contours
            draw_regions(panel, contours[pair[::-1] if swapped else pair], swapped=swapped)
        else:
            panel.set_visible(False)
    _label_axes(grid, names)
    return grid


def _sorted(
    results: list[Any],
) -> tuple[dict[str, Profile], dict[tuple[str, str], Contour], Minos | None]:
    profiles: dict[str, Profile] = {}
    contours: dict[tuple[str, str], Contour] = {}
    minos = None
    for result in results:
        check(result, (Profile, Contour, Minos), "corner", _HOW)
        if isinstance(result, Minos):
            minos = result
        elif isinstance(result, Contour):
            check_contour(result, "corner")
            if result.names in contours or result.names[::-1] in contours:
                raise ValueError(f"corner got two contours of {result.names[0]} and {result.names[1]}")
            contours[result.names] = result
        else:
            if len(result.names) != 1:
                raise ValueError(f"the profiles of a corner are of one parameter, got {', '.join(result.names)}")
            check_single(np.shape(result.rise), 1, "corner")
            if result.names[0] in profiles:
                raise ValueError(f"corner got two profiles of {result.names[0]}")
            profiles[result.names[0]] = result
    return profiles, contours, minos


def _label_axes(grid: np.ndarray, names: list[str]) -> None:
    """Label the outer axes, and give each parameter one range."""
    n = len(names)
    for k in range(n):
        column = [grid[i, k] for i in range(k, n) if grid[i, k].get_visible()]
        row = [grid[k, j] for j in range(k) if grid[k, j].get_visible()]
        spans = [ax.get_xlim() for ax in column] + [ax.get_ylim() for ax in row]
        low, high = min(s[0] for s in spans), max(s[1] for s in spans)
        for ax in column:
            ax.set_xlim(low, high)
            ax.ticklabel_format(axis="x", style="plain", useOffset=False)
            ax.tick_params(axis="x", labelrotation=45, labelbottom=ax is column[-1])
        for ax in row:
            ax.set_ylim(low, high)
            ax.ticklabel_format(axis="y", style="plain", useOffset=False)
            ax.tick_params(axis="y", labelleft=ax is row[0])
        if column:
            column[-1].set_xlabel(names[k])
        if row:
            row[0].set_ylabel(names[k])
        _label_profile(grid[k, k])
    grid[0, 0].figure.align_xlabels([ax for ax in grid[-1]])
    _legend(grid)


def _label_profile(ax: "Axes") -> None:
    if ax.get_visible():
        ax.yaxis.tick_right()
        ax.yaxis.set_label_position("right")
        ax.set_ylabel(RISE)


def _legend(grid: np.ndarray) -> None:
    """One legend for all contours, in the empty corner of the triangle."""
    for ax in grid.ravel():
        handles, labels = ax.get_legend_handles_labels()
        shown = [(h, label) for h, label in zip(handles, labels, strict=True) if not label.startswith("MINOS")]
        if ax.get_visible() and shown:
            ax.figure.legend(*zip(*shown, strict=True), loc="upper right", frameon=False)
            return
