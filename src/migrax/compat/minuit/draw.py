"""The part of `Minuit` that draws, by matplotlib, into the current or the given axes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike

from ..._parameters.resolve import resolve
from ..._profile.levels import rise
from ..._profile.minos import minos
from ..._profile.profile import profile
from .around import AbstractAround, Key, contour_of
from .fits import minimum, replace
from .keys import one
from .memory import Memory
from .picture import picture_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_VALUE: dict[str, Any] = {"color": "k", "linestyle": "--", "linewidth": 1}
_MARGIN = 1.2  # times the distance to the highest level


class AbstractDrawing(AbstractAround):
    """The pictures of a `Minuit`."""

    __slots__ = ()

    def draw_profile(
        self,
        vname: Key,
        *,
        band: bool = True,
        text: bool = True,
        size: int = 100,
        bound: float | tuple[float, float] = 2,
        grid: ArrayLike | None = None,
        subtract_min: bool = True,
        ax: "Axes | None" = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw `profile`: the function along one parameter, all others held.

        **Arguments:** as for `profile`, and

        - `band`: whether the interval of the errors is shown, that of MINOS if available.
        - `text`: whether the value and its errors are the title.
        - `ax`: where to draw; default: the current axes.

        **Returns:** as `profile`. **Raises:** as `profile`; `ImportError` without matplotlib.
        """
        x, y = self.profile(vname, size=size, bound=bound, grid=grid, subtract_min=subtract_min)
        _draw_line(self._memory, vname, x, y, band, text, ax)
        return x, y

    def draw_mnprofile(
        self,
        vname: Key,
        *,
        band: bool = True,
        text: bool = True,
        size: int = 30,
        bound: float | tuple[float, float] = 2,
        grid: ArrayLike | None = None,
        subtract_min: bool = True,
        ax: "Axes | None" = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw `mnprofile`: the function along one parameter, minimised over all others.

        **Arguments:** as for `draw_profile`.

        **Returns:** the values of the parameter and those of the function. **Raises:** as `mnprofile`; `ImportError`
        without matplotlib.
        """
        x, y, _ = self.mnprofile(vname, size=size, bound=bound, grid=grid, subtract_min=subtract_min)
        _draw_line(self._memory, vname, x, y, band, text, ax)
        return x, y

    def draw_contour(
        self,
        x: Key,
        y: Key,
        *,
        size: int | tuple[int, int] = 50,
        bound: Any = 2,
        grid: tuple[ArrayLike, ArrayLike] | None = None,
        subtract_min: bool = True,
        ax: "Axes | None" = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw `contour`: lines on which the function, all other parameters held, is 1, 2, 3 and 4 times `errordef`.

        **Arguments:** as for `contour`, and

        - `ax`: where to draw; default: the current axes.

        **Returns:** as `contour`. **Raises:** as `contour`; `ImportError` without matplotlib.
        """
        vx, vy, vz = self.contour(x, y, size=size, bound=bound, grid=grid, subtract_min=subtract_min)
        ax, memory = _current(ax), self._memory
        lines = ax.contour(vx, vy, vz.T, [memory.up * k for k in (1, 2, 3, 4)])
        ax.clabel(lines)
        i, j = (one(key, memory.names, memory.template, "draw_contour") for key in (x, y))
        ax.axvline(memory.now.values[i], **_VALUE)
        ax.axhline(memory.now.values[j], **_VALUE)
        ax.set(xlabel=memory.names[i], ylabel=memory.names[j])
        return vx, vy, vz

    def draw_mncontour(
        self,
        x: Key,
        y: Key,
        *,
        cl: float | Sequence[float] | None = None,
        size: int = 100,
        ax: "Axes | None" = None,
    ) -> "list[Line2D]":
        """Draw `mncontour`: confidence regions of two parameters.

        **Arguments:** as for `mncontour`, but

        - `cl`: one level or several.
        - `ax`: where to draw; default: the current axes.

        **Returns:** a line for each level. **Raises:** as `mncontour`; `ImportError` without matplotlib.
        """
        levels = _levels(cl)
        contours = contour_of(self._memory, x, y, levels, size, "draw_mncontour")
        ax = _current(ax)
        lines = _draw_regions(ax, np.asarray(contours.x), np.asarray(contours.y), levels)
        ax.legend(frameon=False, title="CL")
        ax.set(xlabel=contours.names[0], ylabel=contours.names[1])
        return lines

    def visualize(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the data and the model at the current values, for `mx.LeastSquares` with one coordinate and for
        histograms with one axis, whose bins are numbered.

        **Arguments:**

        - `ax`: where to draw; default: the current axes.

        **Returns:** the axes. **Raises:** `AttributeError` for other likelihoods; `ImportError` without matplotlib.
        """
        memory = self._memory
        picture = picture_of(memory.nll, resolve(memory.tree()), memory.data)
        ax = _current(ax)
        ax.errorbar(picture.x, picture.y, picture.error, picture.x_error, fmt="ok", markersize=4, label="data")
        if picture.edges is None:
            ax.plot(picture.at, picture.model, label="model")
        else:
            ax.stairs(picture.model, picture.edges, linewidth=1.5, label="model")
        ax.set(xlabel=picture.label)
        ax.legend(frameon=False)
        return ax

    def draw_mnmatrix(
        self,
        *,
        cl: float | Sequence[float] | None = None,
        size: int = 100,
        figsize: tuple[float, float] | None = None,
    ) -> "tuple[Figure, np.ndarray]":
        """Draw `mnprofile` of each parameter that is not fixed, on the diagonal, in units of chi2, and `mncontour` of
        each pair.

        **Arguments:**

        - `cl`: one level or several, as for `mncontour`; default 0.68.
        - `size`: the number of points of a contour.
        - `figsize`: width and height of the figure in inches.

        **Returns:** the figure and an array of axes, a row and a column for each parameter.

        **Raises:** `RuntimeError` unless the values are at a valid minimum; `ImportError` without matplotlib.
        """
        memory, levels = self._memory, _levels(cl)
        spans = _spans(memory, levels)
        free = np.flatnonzero(~memory.now.fixed)
        fig, axes = _pyplot().subplots(free.size, free.size, figsize=figsize, layout="constrained", squeeze=False)
        for row, i in enumerate(free):
            _draw_rise(memory, int(i), spans[row], levels, axes[row, row])
            for column, j in enumerate(free[:row]):
                ax = axes[row, column]
                contours = contour_of(memory, int(j), int(i), levels, size, "draw_mnmatrix")
                _draw_regions(ax, np.asarray(contours.x), np.asarray(contours.y), levels)
                ax.plot(memory.now.values[j], memory.now.values[i], "+", color="k")
                axes[column, row].set_visible(False)
        _label(axes, [memory.names[i] for i in free])
        return fig, axes


def _pyplot() -> Any:
    """**Raises:** `ImportError` without matplotlib."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError('pictures need matplotlib: pip install "migrax[plot]"') from None
    return pyplot


def _current(ax: "Axes | None") -> "Axes":
    return _pyplot().gca() if ax is None else ax


def _levels(cl: float | Sequence[float] | None) -> list[float]:
    levels = [0.68] if cl is None else [float(c) for c in np.ravel(np.asarray(cl, dtype=float))]
    if not levels:
        raise ValueError("cl holds no level")
    return levels


def _draw_line(
    memory: Memory, vname: Key, x: np.ndarray, y: np.ndarray, band: bool, text: bool, ax: "Axes | None"
) -> None:
    ax = _current(ax)
    i = one(vname, memory.names, memory.template, "draw_profile")
    name, value, error = memory.names[i], float(memory.now.values[i]), memory.error(i)
    ax.plot(x, y)
    ax.set(xlabel=name, ylabel="FCN")
    ax.axvline(value, **_VALUE)
    merror = memory.merrors.get(name)
    low, high = (-error, error) if merror is None else (merror.lower, merror.upper)
    has_errors = np.isfinite(low) and np.isfinite(high) and high > low
    if band and has_errors:
        ax.axvspan(value + low, value + high, facecolor="0.8", zorder=0)
    if text:
        ax.set_title(f"{name} = {value:.3g}" + (f" - {-low:.3g} + {high:.3g}" if has_errors else ""))


def _draw_regions(ax: "Axes", x: np.ndarray, y: np.ndarray, levels: list[float]) -> "list[Line2D]":
    lines = []
    for k, level in enumerate(levels):
        label = f"{100 * level:.4g} %" if level < 1 else rf"{level:g} $\sigma$"
        lines += ax.plot(x[k], y[k], color=f"C{k}", label=label)
    return lines


def _spans(memory: Memory, levels: list[float]) -> np.ndarray:
    """The range in which a profile rises above all levels: shape `(n_free, 2)`, within the limits."""
    level = max(levels, key=lambda cl: float(rise(cl)))
    errors = minos(memory.nll, minimum(memory, "draw_mnmatrix"), memory.data, cl=level)
    replace(memory, errors.result)
    offsets = np.stack([np.asarray(errors.lower), np.asarray(errors.upper)], axis=-1)
    symmetric = np.outer(np.asarray(errors.result.errors), [-1.0, 1.0]) * float(rise(level)) ** 0.5
    spans = np.asarray(errors.result.values)[:, None] + _MARGIN * np.where(np.isfinite(offsets), offsets, symmetric)
    return np.clip(spans, np.asarray(errors.result.lower)[:, None], np.asarray(errors.result.upper)[:, None])


def _draw_rise(memory: Memory, i: int, span: np.ndarray, levels: list[float], ax: "Axes") -> None:
    """Draw the profile in units of UP."""
    heights = [float(rise(level)) for level in levels]
    for k, height in enumerate(heights):
        ax.axhline(height, color=f"C{k}", linewidth=1)
    ax.set_ylim(0, 1.2 * max(heights))
    low, high = span
    if high > low:
        result = minimum(memory, "draw_mnmatrix")
        points = profile(memory.nll, result, memory.data, memory.names[i], np.linspace(low, high, 30))
        ax.plot(np.asarray(points.grid[0]), np.asarray(points.rise), color="k")


def _label(axes: np.ndarray, names: list[str]) -> None:
    """Label the outer axes, and give each parameter one range in its column and its row."""
    n = len(names)
    for k, name in enumerate(names):
        axes[-1, k].set_xlabel(name)
        axes[k, 0].set_ylabel(name if k else r"$\Delta\chi^2$")
        column = [axes[row, k] for row in range(k + 1, n)]
        line = [axes[k, j] for j in range(k)]
        spans = [ax.get_xlim() for ax in (column or [axes[k, k]])] + [ax.get_ylim() for ax in line]
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        for ax in (*column, axes[k, k]):
            ax.set_xlim(low, high)
        for ax in line:
            ax.set_ylim(low, high)
