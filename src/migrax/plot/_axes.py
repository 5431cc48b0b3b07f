"""The axes that pictures are drawn on, and the colours that they share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# they differ in lightness, too
ONE_SIGMA, TWO_SIGMA, LINE, ACCENT = "#35b779", "#fde725", "#1a1a1a", "#b2182b"
DARK, LIGHT, FAINT = "#2166ac", "#fdae61", "0.6"

RISE = r"$-2\,\Delta\,\ln L$"  # UP is 1/2: what chi2 is compared with


def axes(ax: "Axes | None", size: tuple[float, float] | None = None) -> "Axes":
    """The given axes, or those of a new figure, of that size in inches for text of 10 points.

    **Raises:** `ImportError` without matplotlib.
    """
    return ax if ax is not None else new_figure(size).subplots()


def panels(ax: Any, grid: dict[str, Any], size: tuple[float, float] | None = None) -> "tuple[Axes, Axes | None]":
    """The given pair, one `ax` and `None`, or the two of a new figure, laid out by the arguments of `subplots`.

    **Raises:** `ValueError` for another number of axes; `ImportError` without matplotlib.
    """
    if ax is None:
        ax = new_figure(size).subplots(**grid)
    if not isinstance(ax, Sequence | np.ndarray):
        return ax, None
    flat = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(flat) != 2:
        raise ValueError(f"ax is one or a pair of axes, got {len(flat)}")
    return flat[0], flat[1]


def new_figure(size: tuple[float, float] | None = None) -> "Figure":
    """**Raises:** `ImportError` without matplotlib."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError('pictures need matplotlib: pip install "migrax[plot]"') from None
    if size is not None:
        size = (size[0] * text_scale(), size[1] * text_scale())
    return plt.figure(figsize=size, layout="constrained")


def text_scale() -> float:
    """The size of text in the current style, in units of 10 points."""
    from matplotlib import rcParams

    return float(rcParams["font.size"]) / 10


def shades(n: int, last: float = 0.75) -> list[Any]:
    """Colours of samples or regions, from dark to light (lighter for a larger `last`), each with its own lightness."""
    from matplotlib import colormaps

    return [colormaps["viridis"](x) for x in (np.linspace(0.1, last, n) if n != 1 else [0.45])]


def pale(n: int) -> list[Any]:
    """The same for areas, pale enough for black points on them."""
    return [tuple(0.45 + 0.55 * np.array(colour[:3])) for colour in shades(n, 0.95)]


def limit_y(ax: "Axes", low: float, top: float, smallest: float, room: float) -> None:
    """Set the limits of a picture of positive numbers, whose y axis may be, or become by `set_yscale`, logarithmic.

    **Arguments:**

    - `low`, `top`: the start of a linear axis, and the largest number.
    - `smallest`: the smallest number that is visible on a logarithmic axis.
    - `room`: the end of a linear axis, in units of `top`.
    """
    if not 0 < smallest < top:
        if top > 0 and ax.get_yscale() != "log":
            ax.set_ylim(low, room * top)
        return
    if ax.get_yscale() == "log":
        ax.set_ylim(smallest, top * (top / smallest) ** (room - 1))
        return
    ax.set_ylim(low, room * top, auto=low >= 0)
    if low >= 0:  # matplotlib derives the limits from these when the scale changes
        ax.dataLim.intervaly = (smallest, room * top)  # pyright: ignore[reportAttributeAccessIssue]
        ax.lines[0].sticky_edges.y.append(low)  # and a linear axis still starts there


def smallest_positive(*values: np.ndarray) -> float:
    """The smallest positive one of numbers that may be NaN; 0 if there is none."""
    flat = np.concatenate([np.ravel(x) for x in values])
    positive = flat[np.isfinite(flat) & (flat > 0)]
    return float(np.min(positive)) if positive.size else 0.0


def concrete(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=float)


def check(result: Any, kinds: type | tuple[type, ...], what: str, origin: str) -> None:
    """**Raises:** `TypeError` for any other class; `origin`: what returns the right one."""
    if not isinstance(result, kinds):
        names = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise TypeError(f"{what} takes a {names}, got {type(result).__name__}: {origin}")


def check_single(shape: tuple[int, ...], ndim: int, what: str) -> None:
    """**Raises:** `ValueError` for vmapped results."""
    if len(shape) != ndim:
        raise ValueError(
            f"{what} draws one result, got many along {len(shape) - ndim} axes: take one, "
            "jax.tree.map(lambda x: x[0], results)"
        )
