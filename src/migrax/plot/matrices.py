"""The correlation matrix."""

from typing import TYPE_CHECKING

import numpy as np

from .._fit.covariance import Covariance
from .._fit.result import FitResult
from ._axes import axes, check, check_single, concrete, text_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_WRITTEN = 12  # parameters whose correlations are written as numbers


def correlation(fit: FitResult | Covariance, ax: "Axes | None" = None, *, numbers: bool | None = None) -> "Axes":
    """Draws the correlations of the fitted parameters, from -1 in blue to 1 in red.

    ```python
    mx.plot.correlation(result)
    ```

    **Arguments:**

    - `fit`: what `mx.fit` returned, or its `covariance`.
    - `ax`: where to draw; default: a new figure, large enough for the names.
    - `numbers`: whether they are also written as numbers; default: for up to 12 parameters.

    **Returns:** the `ax`.

    **Raises:** `TypeError` for any other object; `ValueError` for vmapped fits, for `fit(hesse=False)`, and
        if no parameter is free.
    """
    check(fit, (FitResult, Covariance), "correlation", "what mx.fit returned")
    covariance = fit.covariance if isinstance(fit, FitResult) else fit
    if covariance is None:
        raise ValueError("correlation needs the covariance: fit with hesse=True")
    check_single(np.shape(covariance.matrix), 2, "correlation")
    matrix, names = concrete(covariance.correlation), covariance.names
    n = len(names)
    if n == 0:
        raise ValueError("correlation needs a free parameter, and all are fixed")
    side = float(np.clip(0.55 * n, 4.0, 9.0)) if n <= _MAX_WRITTEN else float(np.clip(2.5 + 0.13 * n, 4.0, 14.0))
    ax = axes(ax, (side + 1.3, side))
    image = ax.imshow(np.ma.masked_invalid(matrix), cmap="RdBu_r", vmin=-1, vmax=1)
    small = float(np.clip(300 / n, 5.0, 10.0)) * text_scale()
    ax.set_xticks(range(n), names, rotation=90 if n > 4 or max(map(len, names), default=0) > 6 else 0, fontsize=small)
    ax.set_yticks(range(n), names, fontsize=small)
    ax.tick_params(length=0)
    ax.figure.colorbar(image, cax=ax.inset_axes((1.03, 0, 0.04, 1)), label="Correlation", ticks=[-1, -0.5, 0, 0.5, 1])
    if n <= _MAX_WRITTEN if numbers is None else numbers:
        for i, j in np.ndindex(n, n):
            if np.isfinite(matrix[i, j]):
                colour = "white" if abs(matrix[i, j]) > 0.6 else "black"
                text = f"{matrix[i, j]:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")
                ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=small * 0.9)
    return ax
