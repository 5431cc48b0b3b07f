"""Studies of toys: pulls against the standard normal distribution, and coverage."""

import math
from typing import TYPE_CHECKING

import numpy as np

from .._parameters.names import unknown_name
from .._studies import CoverageStudy, PullStudy
from ._axes import ACCENT, DARK, FAINT, LIGHT, LINE, axes, check

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pulls(study: PullStudy, name: str | None = None, ax: "Axes | None" = None, *, bins: int | None = None) -> "Axes":
    """Draws the pulls of one parameter in toys, with the standard normal distribution.

    The pulls follow this distribution if the estimate is unbiased and its errors are right.

    ```python
    fits = mx.fit_toys(nll, result.params, mx.Toys(10_000, jax.random.key(0)))
    mx.plot.pulls(mx.pull_study(fits, result.params), "mu")
    ```

    **Arguments:**

    - `study`: what `mx.pull_study` returned. Toys without a pull are left out.
    - `name`: the parameter; may be omitted if there is only one.
    - `ax`: where to draw; default: a new figure.
    - `bins`: the number of bins, from -4 to 4, or in a larger range if more than one pull in a thousand lies outside;
        the number of pulls outside is written in the corner. Default: chosen from the number of toys.

    **Returns:** the `ax`.

    **Raises:** `TypeError` for any other object; `ValueError` for an unknown or missing name.
    """
    check(study, PullStudy, "pulls", "what mx.pull_study returned")
    if name is None and len(study.names) == 1:
        name = study.names[0]
    if name is None:
        raise ValueError(f"pulls are drawn of one parameter at a time: {', '.join(study.names)}")
    if name not in study.names:
        raise ValueError(unknown_name(name, study.names))
    k = study.names.index(name)
    values = study.pulls[:, k]
    values = values[np.isfinite(values)]
    ax = axes(ax)
    size = np.abs(values)
    quantile = float(np.quantile(size, 0.999)) if size.size else 0.0
    reach = max(4.0, min(1.001 * float(np.max(size, initial=0.0)), 1.2 * quantile))
    beyond = int(np.sum(size > reach))
    n_bins = int(np.clip(2 * np.sqrt(values.size), 16, 60)) if bins is None else bins
    edges = np.linspace(-reach, reach, n_bins + 1)
    counts, _ = np.histogram(values, edges)
    middle = 0.5 * (edges[1:] + edges[:-1])
    ax.errorbar(middle, counts, np.sqrt(counts), fmt="o", color=LINE, markersize=3.5, linewidth=1, label="Toys")
    x = np.linspace(-reach, reach, 400)
    normal = np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi) * values.size * (edges[1] - edges[0])
    ax.plot(x, normal, color=ACCENT, linewidth=1.6, label="Standard normal")
    ax.axvline(0, color=FAINT, linewidth=0.8, zorder=0.5)
    highest = max(float(np.max(counts + np.sqrt(counts))), float(np.max(normal, initial=0.0)), 1.0)
    kind = "MINOS" if study.kind == "minos" else "Hesse"
    ax.set(xlabel=f"Pull of {name}", ylabel="Toys / bin", xlim=(-reach, reach), ylim=(0, 1.3 * highest))
    lines = [
        f"Mean {study.mean[k]:.3f} ± {study.mean_error[k]:.3f}",
        f"Width {study.width[k]:.3f} ± {study.width_error[k]:.3f}",
        f"{study.count[k]} toys, {kind} errors",
        *([f"{beyond} further out"] if beyond else []),
    ]
    ax.text(0.03, 0.97, "\n".join(lines).replace("-", "\N{MINUS SIGN}"), transform=ax.transAxes, ha="left", va="top")
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def coverage(study: CoverageStudy, ax: "Axes | None" = None) -> "Axes":
    """Draws the fraction of the intervals of each parameter that contain the true value, with its error due to the
    finite number of toys, and the nominal coverage.

    ```python
    fits = mx.fit_toys(nll, result.params, mx.Toys(10_000, jax.random.key(0)), minos=True)
    mx.plot.coverage(mx.coverage_study(fits, result.params))
    ```

    **Arguments:**

    - `study`: what `mx.coverage_study` returned.
    - `ax`: where to draw; default: a new figure.

    **Returns:** the `ax`. **Raises:** `TypeError` for any other object.
    """
    check(study, CoverageStudy, "coverage", "what mx.coverage_study returned")
    ax = axes(ax, (6.4, max(2.4, 1.5 + 0.35 * len(study.names))))
    rows = np.arange(len(study.names))
    kinds = [("Hesse", study.hesse, DARK, "o")]
    if study.minos is not None:
        kinds.append(("MINOS", study.minos, LIGHT, "s"))
    for i, (label, measured, colour, marker) in enumerate(kinds):
        shift = 0.0 if len(kinds) == 1 else 0.3 * (i - 0.5)
        middle = 100 * measured.fraction
        sides = [np.maximum(middle - 100 * measured.low, 0.0), np.maximum(100 * measured.high - middle, 0.0)]
        ax.errorbar(
            middle, rows + shift, xerr=sides, fmt=marker, color=colour, markersize=5, markeredgecolor=LINE,
            markeredgewidth=0.6, linewidth=1.6, label=label,
        )  # fmt: skip
    ax.axvline(100 * study.cl, color=LINE, linestyle="--", linewidth=1, label=f"{100 * study.cl:.4g} %", zorder=0.5)
    ax.set_yticks(rows, study.names)
    ax.set(xlabel="Coverage [%]", ylim=(len(rows) - 0.4, -0.6))
    ax.margins(x=0.12)
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax
