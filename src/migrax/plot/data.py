"""The data and the fitted model, with the pulls below."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike

from .._fit.result import FitResult
from .._util.typing import PyTree
from ._axes import ACCENT, FAINT, LINE, check, check_single, limit_y, pale, panels, smallest_positive
from ._picture import Picture, check_data, picture_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_SEPARATE = 100  # points, before they overlap
_HOW = "what mx.fit(likelihood, params, data) returned"


def data_and_model(
    likelihood: Any,
    result: FitResult,
    data: PyTree,
    ax: Any = None,
    *,
    edges: ArrayLike | int | None = None,
    part: str | int | None = None,
    xlabel: str | None = None,
) -> Any:
    """Draws the data with their errors and the fitted model; below them the pulls, (data - model) / standard deviation.

    Counts are drawn with the model as steps. If the likelihood provides its samples (`mx.TemplateNLL`, the models of
    `mx.io.from_pyhf`), these are filled and stacked, with the largest at the bottom; if there are more than nine, the
    smallest are drawn as one. Up to nine samples have the same colours and order in all channels. Points are drawn with
    the curve, and unbinned events as a histogram with the density, whose integrals over the bins define the pulls. The
    error of a plain count is its square root; pulls have the standard deviation that the likelihood assumes. Masked
    data are not drawn. `set_yscale("log")` may be called before or after.

    ```python
    mx.plot.data_and_model(nll, result, counts, edges=edges, xlabel="Mass [GeV]")
    mx.plot.data_and_model(workspace, fitted, data, part="SR")  # one channel
    ```

    **Arguments:**

    - `likelihood`, `data`: as given to `mx.fit`.
    - `result`: the result of `mx.fit`.
    - `ax`: a pair of axes, for the data and the pulls; or one, for the data alone; default: both, in a new figure.
    - `edges`: those of `n` bins, shape `(n + 1,)`, or `(n, 2)` for bins with gaps between them; default: bins are
        numbered. For unbinned events: those of the histogram, or a number of bins.
    - `part`: the part of an `mx.Joint`, or the channel, if there are several.
    - `xlabel`: the observable, with its unit in brackets, which appears on the other axis, too: "Events / 5 GeV".

    **Returns:** the `ax`; for a new figure the pair.

    **Raises:** `TypeError` for any other likelihood, or an object that is not a fit result; `ValueError` for
    vmapped fits, histograms with several axes, an unknown or missing part, edges that do not fit.
    """
    check(result, FitResult, "data_and_model", _HOW)
    check_single(np.shape(result.nll), 0, "data_and_model")
    check_data(likelihood, data)
    picture = picture_of(likelihood, result.params, data, edges, part)
    grid = {"nrows": 2, "sharex": True, "height_ratios": (3, 1)}
    main, below = panels(ax, grid)
    label = picture.xlabel if xlabel is None else xlabel
    _draw_data(main, picture, label)
    if below is None:
        main.set_xlabel(label)
        return ax
    _draw_pulls(below, picture)
    below.set_xlabel(label)
    return (main, below) if ax is None else ax


def _draw_data(ax: "Axes", picture: Picture, label: str) -> None:
    model_zorder = 2 if picture.x.size <= _MAX_SEPARATE else 4  # so many points would hide the model
    if picture.edges is None:
        ax.plot(picture.at, picture.model, color=ACCENT, linewidth=1.6, label="Model", zorder=model_zorder)
    else:
        base = np.zeros_like(picture.model)
        colours = dict(zip(picture.coloured, pale(len(picture.coloured)), strict=True))
        for name, values in picture.samples.items():
            top, colour = base + values, colours[name]
            ax.stairs(top, picture.edges, baseline=base, fill=True, facecolor=colour, linewidth=0, label=name, zorder=1)
            base = top
        ax.stairs(
            picture.model, picture.edges, color=ACCENT, linewidth=1.6, baseline=None, label="Model", zorder=model_zorder
        )
    line = min(1.0, _size(picture))
    ax.errorbar(
        picture.x, picture.y, picture.error, picture.x_error, fmt="o", color=LINE, markersize=_size(picture),
        linewidth=line, label="Data", zorder=3,
    )  # fmt: skip
    _limits(ax, picture)
    if picture.xlabel == "Bin":
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(ylabel=_per_bin(picture, label))
    handles, labels = ax.get_legend_handles_labels()
    order = [labels.index("Data"), labels.index("Model"), *reversed(range(len(picture.samples)))]
    ax.legend([handles[i] for i in order], [labels[i] for i in order], frameon=False, ncols=2 if len(order) > 4 else 1)


def _per_bin(picture: Picture, label: str) -> str:
    """The y label, with the width of the bins if all are equal; its unit is the one in brackets in `label`."""
    is_numbered = picture.xlabel == "Bin"
    if is_numbered or picture.ylabel != "Events / bin" or picture.x.size < 2:
        return picture.ylabel
    widths = np.diff(picture.x if picture.edges is None else picture.edges)
    if not np.allclose(widths, widths[0]):
        return picture.ylabel
    unit = re.search(r"[\[(]([^\[\]()]+)[\])]\s*$", label)
    return f"Events / {widths[0]:.4g}" + (f" {unit[1].strip()}" if unit else "")


def _size(picture: Picture) -> float:
    """The size of the points, smaller if there are many."""
    return 3.5 * min(1.0, _MAX_SEPARATE / max(picture.x.size, 1)) ** 0.5


def _limits(ax: "Axes", picture: Picture) -> None:
    if picture.edges is not None or picture.ylabel.startswith("Events"):
        tops = np.concatenate([picture.y + picture.error, picture.model])
        top = np.max(tops[np.isfinite(tops)], initial=0.0)
        lows = (picture.y - picture.error)[np.isfinite(picture.y)]
        low = min(float(np.min(lows, initial=0.0)), 0.0)
        smallest = smallest_positive(picture.y) or 1e-3 * smallest_positive(picture.model)
        limit_y(ax, low, float(top), 0.5 * smallest, 1.3 if picture.samples else 1.15)
    edges = picture.at if picture.edges is None else picture.edges
    ax.set_xlim(edges[0], edges[-1])


def _draw_pulls(ax: "Axes", picture: Picture) -> None:
    for height, style in ((-2, ":"), (0, "-"), (2, ":")):
        ax.axhline(height, color=FAINT, linewidth=0.8, linestyle=style, zorder=1)
    ax.plot(picture.x, picture.pulls, "o", color=LINE, markersize=_size(picture), zorder=3)
    if picture.edges is not None:
        ax.stairs(np.nan_to_num(picture.pulls), picture.edges, fill=True, color="0.8", zorder=0.5)
    limit = max(3.2, 1.2 * np.max(np.abs(picture.pulls[np.isfinite(picture.pulls)]), initial=0.0))
    ax.set(ylabel="Pull", ylim=(-limit, limit))
    if limit < 6:
        ax.set_yticks([-2, 0, 2] if limit < 4 else [-4, -2, 0, 2, 4])
