"""Where pictures are drawn, and the colours that they share."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# told apart by their lightness too
ONE_SIGMA, TWO_SIGMA, LINE, ACCENT = "#35b779", "#fde725", "#1a1a1a", "#b2182b"


def axes(ax: "Axes | None") -> "Axes":
    """The one that is given, or one of a new figure.

    **Raises:** `ImportError` without matplotlib.
    """
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError('pictures need matplotlib: pip install "migrax[plot]"') from None
    return plt.subplots(layout="constrained")[1]


def concrete(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=float)
