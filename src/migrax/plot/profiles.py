"""Profiles and scans of the likelihood, with the crossings of MINOS."""

from typing import TYPE_CHECKING

import numpy as np

from .._display.rounding import pdg_round
from .._profile.levels import rise
from .._profile.minos import Minos
from .._profile.profile import Profile
from ._axes import ACCENT, DARK, FAINT, RISE, axes, check, check_single, concrete

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEVELS = (0.68, 0.95)  # of two parameters


def profile(profile: Profile, ax: "Axes | None" = None, *, minos: Minos | None = None) -> "Axes":
    """Draws the rise above the minimum, -2 Δ ln L (for a chi2: Δ chi2), along one parameter or two.

    For one parameter, lines mark the rise for one, two and three standard deviations, and points whose fit failed are
    gaps. For two parameters, the rise is drawn as filled contours, with lines around their joint 68 % and 95 % regions.

    ```python
    along = mx.profile(nll, result, data, "mu")
    mx.plot.profile(along, minos=mx.minos(nll, result, data, "mu"))
    ```

    **Arguments:**

    - `profile`: what `mx.profile` or `mx.scan` returned.
    - `ax`: where to draw; default: a new figure.
    - `minos`: what `mx.minos` returned for this parameter: its interval is shown, from crossing to crossing.

    **Returns:** the `ax`.

    **Raises:** `TypeError` for any other object; `ValueError` for vmapped profiles, `minos` without this parameter, or
    with two.
    """
    check(profile, Profile, "profile", "what mx.profile or mx.scan returned")
    is_2d = len(profile.names) == 2
    check_single(np.shape(profile.rise), 2 if is_2d else 1, "profile")
    if minos is not None:
        check(minos, Minos, "minos=", "what mx.minos returned")
        check_single(np.shape(minos.lower), 1, "profile(minos=)")
        if is_2d:
            raise ValueError("crossings of MINOS belong to a profile of one parameter")
        minos[profile.names[0]]  # raises for an unknown name
    ax = axes(ax)
    if is_2d:
        _draw_2d(ax, profile)
    else:
        for n in draw_one(ax, profile, minos):
            ax.annotate(
                rf"${n}\sigma$", (1, n**2), (4, 0), color="0.35", ha="left", va="center",
                xycoords=("axes fraction", "data"), textcoords="offset points",
            )  # fmt: skip
        ax.set(xlabel=profile.names[0], ylabel=RISE)
        if minos is not None:
            ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def draw_one(ax: "Axes", profile: Profile, minos: Minos | None) -> list[int]:
    """Draw the curve, the crossings, and lines at standard deviations. Returns these numbers of deviations."""
    order = np.argsort(concrete(profile.grid[0]))
    x, y = concrete(profile.grid[0])[order], concrete(profile.rise)[order]
    known = y[np.isfinite(y)]
    top = 1.12 * max(float(np.max(known, initial=0.0)), 1.05)
    if minos is not None:
        top = max(top, 1.35 * float(minos.rise))
        _crossings(ax, profile.names[0], minos)
    ax.plot(x, y, color=DARK, marker="o" if x.size <= 40 else None, markersize=3, linewidth=1.6, zorder=3)
    lines = [n for n in (1, 2, 3) if n**2 < top / 1.07]
    for n in lines:
        ax.axhline(n**2, color=FAINT, linewidth=1, linestyle="--", zorder=1)
    ax.set_ylim(min(-0.03 * top, float(np.min(known, initial=0.0))), top)
    ax.margins(x=0.02)
    return lines


def _crossings(ax: "Axes", name: str, minos: Minos) -> None:
    """Draw the interval and its ends; a side that was not found is left out."""
    value, errors = float(minos.result[name].value), minos[name]
    ends = [value + float(errors.lower), value + float(errors.upper)]
    ax.axvline(value, color=ACCENT, linewidth=1, zorder=1.5)
    if np.all(np.isfinite(ends)):
        ax.axvspan(ends[0], ends[1], color=ACCENT, alpha=0.1, linewidth=0, zorder=0.5)
    crossings = [end for end in ends if np.isfinite(end)]
    for end in crossings:
        ax.axvline(end, color=ACCENT, linewidth=1, linestyle="--", zorder=1.5)
    label = rf"MINOS: ${_interval(value, float(errors.lower), float(errors.upper))}$"
    ax.plot(crossings, [float(minos.rise)] * len(crossings), "D", color=ACCENT, markersize=5, zorder=4, label=label)


def _interval(value: float, lower: float, upper: float) -> str:
    """The value and the errors that were found, rounded together, as mathtext."""
    offsets = {sign: offset for sign, offset in (("^", upper), ("_", lower)) if np.isfinite(offset)}
    centre, *errors = pdg_round(value, *offsets.values())
    _, _, power = (errors or [centre])[0].partition("e")
    text = centre.partition("e")[0]
    for sign, error in zip(offsets, errors, strict=True):
        digits = error.partition("e")[0]
        text += f"{sign}{{{'' if digits.startswith('-') else '+'}{digits}}}"
    return rf"({text})\times 10^{{{power}}}" if power else text


def _draw_2d(ax: "Axes", profile: Profile) -> None:
    from matplotlib.ticker import MaxNLocator

    (i, j), z = (np.argsort(concrete(g)) for g in profile.grid), concrete(profile.rise)
    x, y = concrete(profile.grid[0])[i], concrete(profile.grid[1])[j]
    if x.size < 2 or y.size < 2:
        raise ValueError(f"filled contours need at least two points of each parameter, got {x.size} and {y.size}")
    shown = np.ma.masked_invalid(z[np.ix_(i, j)].T)
    levels = [float(rise(cl, dof=2)) for cl in _LEVELS]
    highest = max(float(np.ma.max(shown)) if shown.count() else 1.0, 1e-6)
    top = min(highest, 4 * levels[-1])
    # one scale for all, on which white lines are visible
    scale = 4 * levels[-1] if highest > levels[0] else top
    steps = MaxNLocator(12).tick_values(0.0, top)
    filled = ax.contourf(x, y, shown, steps, cmap="viridis", vmin=0, vmax=scale, extend="max")
    for level, cl, style in zip(levels, _LEVELS, ("-", "--"), strict=True):
        if level < highest:
            lines = ax.contour(x, y, shown, [level], colors="white", linewidths=1.4, linestyles=style)
            ax.clabel(lines, fmt={level: f"{100 * cl:g} %"}, fontsize="small")
    ax.figure.colorbar(filled, ax=ax, label=RISE)
    ax.set(xlabel=profile.names[0], ylabel=profile.names[1])
