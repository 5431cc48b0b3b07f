"""A corner of contours: all pairs of parameters, and each along itself."""

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
    """A triangle: on the diagonal the profile of each parameter, below it the contours of each pair.

    ```python
    names = ["alpha", "mu", "sigma"]
    profiles = [mx.profile(nll, result, data, name) for name in names]
    contours = [mx.contour(nll, result, data, p, cl=[0.68, 0.95]) for p in itertools.combinations(names, 2)]
    mx.plot.corner([*profiles, *contours])
    ```

    **Arguments:**

    - `results`: profiles of one parameter each, contours of the pairs, and `mx.minos` if its crossings are to be shown,
        in any order. The parameters come in the order in which they are met. What is not given stays empty.
    - `ax`: an array of axes of shape `(k, k)` for `k` parameters; default: a new figure.

    **Returns:** the array of axes. Those above the diagonal are hidden.

    **Raises:** `TypeError` for something else; `ValueError` for vmapped results, a profile of two parameters, the same
    twice, nothing to draw, or another number of axes.
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
    each: Any = np.asarray(ax, dtype=object)
    if each.shape != (n, n):
        raise ValueError(f"corner of {n} parameters takes axes of shape {(n, n)}, got {each.shape}")
    for i, j in np.ndindex(n, n):
        here: Any = each[i, j]
        pair = (names[j], names[i])
        if i == j and names[i] in profiles:
            crossed = minos if minos is not None and names[i] in minos.names else None
            draw_one(here, profiles[names[i]], crossed)
        elif j < i and (pair in contours or pair[::-1] in contours):
            swapped = pair not in contours
            draw_regions(here, contours[pair[::-1] if swapped else pair], swapped=swapped)
        else:
            here.set_visible(False)
    _dress(each, names)
    return each


def _sorted(
    results: list[Any],
) -> tuple[dict[str, Profile], dict[tuple[str, str], Contour], Minos | None]:
    profiles: dict[str, Profile] = {}
    contours: dict[tuple[str, str], Contour] = {}
    minos = None
    for found in results:
        check(found, (Profile, Contour, Minos), "corner", _HOW)
        if isinstance(found, Minos):
            minos = found
        elif isinstance(found, Contour):
            check_contour(found, "corner")
            if found.names in contours or found.names[::-1] in contours:
                raise ValueError(f"corner got two contours of {found.names[0]} and {found.names[1]}")
            contours[found.names] = found
        else:
            if len(found.names) != 1:
                raise ValueError(f"the profiles of a corner are of one parameter, got {', '.join(found.names)}")
            check_single(np.shape(found.rise), 1, "corner")
            if found.names[0] in profiles:
                raise ValueError(f"corner got two profiles of {found.names[0]}")
            profiles[found.names[0]] = found
    return profiles, contours, minos


def _dress(each: np.ndarray, names: list[str]) -> None:
    """Names at the edges, and one range for each parameter."""
    n = len(names)
    for k in range(n):
        column = [each[i, k] for i in range(k, n) if each[i, k].get_visible()]
        row = [each[k, j] for j in range(k) if each[k, j].get_visible()]
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
        _label_profile(each[k, k])
    each[0, 0].figure.align_xlabels([ax for ax in each[-1]])
    _legend(each)


def _label_profile(ax: "Axes") -> None:
    if ax.get_visible():
        ax.yaxis.tick_right()
        ax.yaxis.set_label_position("right")
        ax.set_ylabel(RISE)


def _legend(each: np.ndarray) -> None:
    """One for all contours, where the triangle leaves room."""
    for ax in each.ravel():
        handles, labels = ax.get_legend_handles_labels()
        shown = [(h, label) for h, label in zip(handles, labels, strict=True) if not label.startswith("MINOS")]
        if ax.get_visible() and shown:
            ax.figure.legend(*zip(*shown, strict=True), loc="upper right", frameon=False)
            return
