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

_MANY = 100  # points, before they run into each other
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
    """The data with their errors and the fitted model; below them the pulls, (data - model) / standard deviation.

    Counts are drawn with the model as steps, which are filled where the likelihood tells its samples (`mx.TemplateNLL`,
    the models of `mx.io.from_pyhf`), the largest at the bottom, and of more than nine the smallest as one; up to nine
    samples have the same colours and order in all channels; points with the curve; unbinned events as a histogram with
    the density, whose integrals over the bins are what the pulls are taken to. The error of a plain count is its square
    root, that of the pulls the likelihood's own. What a mask leaves out is not drawn. `set_yscale("log")` may come
    before or after.

    ```python
    mx.plot.data_and_model(nll, result, counts, edges=edges, xlabel="Mass [GeV]")
    mx.plot.data_and_model(workspace, fitted, data, part="SR")  # one channel
    ```

    **Arguments:**

    - `likelihood`, `data`: as they were given to `mx.fit`.
    - `result`: what it returned.
    - `ax`: a pair of axes, for the data and the pulls; or one, for the data alone; default: both, in a new figure.
    - `edges`: of `n` bins, shape `(n + 1,)`, or `(n, 2)` for bins with gaps between them; default: bins are numbered.
        Of unbinned events: those of the histogram, or a number of bins.
    - `part`: which part of an `mx.Joint`, or which channel, where there are several.
    - `xlabel`: what is measured, with its unit in brackets, which the other axis has too: "Events / 5 GeV".

    **Returns:** the `ax`; for a new figure the pair.

    **Raises:** `TypeError` for a likelihood that is not one of these, or something else than a fit; `ValueError` for
    vmapped fits, histograms with several axes, an unknown or missing part, edges that do not fit.
    """
    check(result, FitResult, "data_and_model", _HOW)
    check_single(np.shape(result.nll), 0, "data_and_model")
    check_data(likelihood, data)
    shown = picture_of(likelihood, result.params, data, edges, part)
    grid = {"nrows": 2, "sharex": True, "height_ratios": (3, 1)}
    main, below = panels(ax, grid)
    label = shown.xlabel if xlabel is None else xlabel
    _draw_data(main, shown, label)
    if below is None:
        main.set_xlabel(label)
        return ax
    _draw_pulls(below, shown)
    below.set_xlabel(label)
    return (main, below) if ax is None else ax


def _draw_data(ax: "Axes", shown: Picture, label: str) -> None:
    above = 2 if shown.x.size <= _MANY else 4  # so many points would hide the model
    if shown.edges is None:
        ax.plot(shown.at, shown.model, color=ACCENT, linewidth=1.6, label="Model", zorder=above)
    else:
        base = np.zeros_like(shown.model)
        colours = dict(zip(shown.coloured, pale(len(shown.coloured)), strict=True))
        for name, values in shown.samples.items():
            top, colour = base + values, colours[name]
            ax.stairs(top, shown.edges, baseline=base, fill=True, facecolor=colour, linewidth=0, label=name, zorder=1)
            base = top
        ax.stairs(shown.model, shown.edges, color=ACCENT, linewidth=1.6, baseline=None, label="Model", zorder=above)
    line = min(1.0, _size(shown))
    ax.errorbar(
        shown.x, shown.y, shown.error, shown.x_error, fmt="o", color=LINE, markersize=_size(shown), linewidth=line,
        label="Data", zorder=3,
    )  # fmt: skip
    _limits(ax, shown)
    if shown.xlabel == "Bin":
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(ylabel=_per_bin(shown, label))
    handles, labels = ax.get_legend_handles_labels()
    order = [labels.index("Data"), labels.index("Model"), *reversed(range(len(shown.samples)))]
    ax.legend([handles[i] for i in order], [labels[i] for i in order], frameon=False, ncols=2 if len(order) > 4 else 1)


def _per_bin(shown: Picture, label: str) -> str:
    """With the width of bins in place of the bin, where all have the same; its unit is what `label` has in brackets."""
    numbered = shown.xlabel == "Bin"
    if numbered or shown.ylabel != "Events / bin" or shown.x.size < 2:
        return shown.ylabel
    widths = np.diff(shown.x if shown.edges is None else shown.edges)
    if not np.allclose(widths, widths[0]):
        return shown.ylabel
    unit = re.search(r"[\[(]([^\[\]()]+)[\])]\s*$", label)
    return f"Events / {widths[0]:.4g}" + (f" {unit[1].strip()}" if unit else "")


def _size(shown: Picture) -> float:
    """Of the points, which get smaller where there are many."""
    return 3.5 * min(1.0, _MANY / max(shown.x.size, 1)) ** 0.5


def _limits(ax: "Axes", shown: Picture) -> None:
    if shown.edges is not None or shown.ylabel.startswith("Events"):
        tops = np.concatenate([shown.y + shown.error, shown.model])
        top = np.max(tops[np.isfinite(tops)], initial=0.0)
        lows = (shown.y - shown.error)[np.isfinite(shown.y)]
        low = min(float(np.min(lows, initial=0.0)), 0.0)
        smallest = smallest_positive(shown.y) or 1e-3 * smallest_positive(shown.model)
        limit_y(ax, low, float(top), 0.5 * smallest, 1.3 if shown.samples else 1.15)
    edges = shown.at if shown.edges is None else shown.edges
    ax.set_xlim(edges[0], edges[-1])


def _draw_pulls(ax: "Axes", shown: Picture) -> None:
    for height, style in ((-2, ":"), (0, "-"), (2, ":")):
        ax.axhline(height, color=FAINT, linewidth=0.8, linestyle=style, zorder=1)
    ax.plot(shown.x, shown.pulls, "o", color=LINE, markersize=_size(shown), zorder=3)
    if shown.edges is not None:
        ax.stairs(np.nan_to_num(shown.pulls), shown.edges, fill=True, color="0.8", zorder=0.5)
    most = max(3.2, 1.2 * np.max(np.abs(shown.pulls[np.isfinite(shown.pulls)]), initial=0.0))
    ax.set(ylabel="Pull", ylim=(-most, most))
    if most < 6:
        ax.set_yticks([-2, 0, 2] if most < 4 else [-4, -2, 0, 2, 4])
