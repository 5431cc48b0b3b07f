"""CLs against the tested value, and limits against a parameter of the signal, with their expected bands."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import numpy as np
from jaxtyping import ArrayLike

from .._hypotest import HypoTest, UpperLimit
from ._axes import ACCENT, LINE, ONE_SIGMA, TWO_SIGMA, axes, concrete, limit_y, smallest_positive

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T", HypoTest, UpperLimit)


def cls_scan(tests: HypoTest | Sequence[HypoTest], ax: "Axes | None" = None, *, cl: float | None = 0.95) -> "Axes":
    """Draws CLs, observed and expected with its bands, against the tested value.

    ```python
    mx.plot.cls_scan([mx.hypotest(nll, result, data, "mu", mu) for mu in np.linspace(0.0, 3.0, 31)])
    ```

    **Arguments:**

    - `tests`: tests of one parameter of interest, a sequence of them or vmapped. Those that are not valid leave gaps.
    - `ax`: where to draw; default: a new figure.
    - `cl`: the confidence level at which a line is drawn, or `None`.

    **Returns:** the `ax`.

    **Raises:** `TypeError` for any other object, `ValueError` for a single test.
    """
    tests = _many(tests, HypoTest, "cls_scan", "[mx.hypotest(nll, result, data, poi, mu) for mu in values]")
    values = concrete(tests.value)
    if values.shape[-1] != 1:
        raise ValueError(f"cls_scan is of one parameter of interest, got {values.shape[-1]}")
    ax = axes(ax)
    order = np.argsort(values[:, 0])
    _bands(ax, values[order, 0], concrete(tests.cls)[order], concrete(tests.expected_cls)[order])
    if cl is not None:
        ax.axhline(1 - cl, color=ACCENT, linewidth=1, zorder=1)
        ax.annotate(
            f"{100 * cl:g} % CL", (1, 1 - cl), (-4, 3), color=ACCENT, ha="right", va="bottom",
            xycoords=("axes fraction", "data"), textcoords="offset points",
        )  # fmt: skip
    ax.set(xlabel=tests.name, ylabel=r"$\mathrm{CL_s}$")
    drawn = (concrete(tests.cls), concrete(tests.expected_cls), *(() if cl is None else (np.array(1 - cl),)))
    limit_y(ax, 0.0, 1.0, max(0.5 * smallest_positive(*drawn), 1e-8), 1.02)
    ax.margins(x=0)
    ax.legend(frameon=False)
    return ax


def limit_band(
    x: ArrayLike, limits: UpperLimit | Sequence[UpperLimit], ax: "Axes | None" = None, *, xlabel: str | None = None
) -> "Axes":
    """Draws upper limits, observed and expected with their bands, against a parameter of the signal such as a mass.

    ```python
    limits = jax.vmap(lambda signal: mx.upper_limit(model(signal), params, data, "mu"))(signals)
    mx.plot.limit_band(masses, limits, xlabel="Mass [GeV]")
    ```

    **Arguments:**

    - `x`: the values of this parameter, shape `(n,)`.
    - `limits`: `n` limits, a sequence of them or vmapped. Those that are not found leave gaps.
    - `ax`: where to draw; default: a new figure. Its axes may be logarithmic, before or after.
    - `xlabel`: what `x` is, with its unit.

    **Returns:** the `ax`.

    **Raises:** `TypeError` for any other object, `ValueError` for a single limit, or if their number differs.
    """
    limits = _many(limits, UpperLimit, "limit_band", "[mx.upper_limit(...) for signal in signals]")
    positions, observed = concrete(x), concrete(limits.observed)
    if positions.shape != observed.shape:
        raise ValueError(f"limit_band got {observed.size} limits, and x of shape {positions.shape}")
    ax = axes(ax)
    order = np.argsort(positions)
    _bands(ax, positions[order], observed[order], concrete(limits.expected)[order])
    kind = "CLs" if limits.cls else "CLs+b"
    ax.set(ylabel=f"Upper limit on {limits.name} at {100 * limits.cl:g} % ({kind})")
    if xlabel is not None:
        ax.set(xlabel=xlabel)
    drawn = np.concatenate([observed, concrete(limits.expected).ravel()])
    highest = float(np.max(drawn[np.isfinite(drawn)], initial=0.0))
    limit_y(ax, 0.0, highest, 0.5 * smallest_positive(drawn), 1.35)  # with room for the legend
    ax.margins(x=0)
    ax.legend(frameon=False, ncols=2, loc="upper right")
    return ax


def _bands(ax: "Axes", x: np.ndarray, observed: np.ndarray, expected: np.ndarray) -> None:
    ax.fill_between(x, expected[:, 0], expected[:, 4], color=TWO_SIGMA, linewidth=0, label=r"$\pm 2\sigma$", zorder=0.5)
    ax.fill_between(x, expected[:, 1], expected[:, 3], color=ONE_SIGMA, linewidth=0, label=r"$\pm 1\sigma$", zorder=0.6)
    ax.plot(x, expected[:, 2], color=LINE, linestyle="--", linewidth=1.2, label="Expected")
    marker = "o" if x.size <= 40 else None
    ax.plot(x, observed, color=LINE, marker=marker, markersize=3.5, linewidth=1.2, label="Observed")


def _many(result: Any, kind: type[T], what: str, origin: str) -> T:
    """Many results as one. **Raises:** `TypeError` for any other object, `ValueError` for a single one."""
    if isinstance(result, Sequence) and result and all(isinstance(one, kind) for one in result):
        shapes = {np.shape(leaf) for one in result for leaf in jax.tree.leaves(one.status)}
        if len({one.name for one in result}) > 1 or len(shapes) > 1:
            raise ValueError(f"{what} takes results of one parameter, of the same shape: {origin}")
        result = jax.tree.map(lambda *leaves: np.stack(leaves), *result)
    if not isinstance(result, kind):
        raise TypeError(f"{what} takes a {kind.__name__}, got {type(result).__name__}: {origin}")
    shape = np.shape(result.cls if isinstance(result, HypoTest) else result.observed)
    if len(shape) != 1:
        raise ValueError(f"{what} takes many results along one axis, got shape {shape}: {origin}")
    return result
