"""The test statistic in toys of both hypotheses, against the asymptotic formulas."""

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from .._hypotest import Q0, Discovery, HypoTest, QMu, QTilde, TMu, TMuTilde, formulas
from .._hypotest.statistics import AbstractStatistic
from .._hypotest.toys import ToyStatistics
from ._axes import ACCENT, DARK, LIGHT, LINE, axes, check, concrete

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Test = HypoTest | Discovery


def toy_distributions(
    test: Test,
    ax: "Axes | None" = None,
    *,
    asymptotic: Test | None = None,
    statistic: AbstractStatistic | None = None,
    bins: int = 40,
) -> "Axes":
    """Draws the distributions of the test statistic in the toys of the tested hypothesis and of the alternative.

    It also shows the observed value, and the asymptotic prediction for each bin (G. Cowan et al., Eur. Phys. J. C 71
    (2011) 1554).

    ```python
    test = mx.hypotest(nll, params, data, "mu", 1.0, calculator=mx.Toys(10_000, jax.random.key(0)))
    mx.plot.toy_distributions(test, asymptotic=mx.hypotest(nll, params, data, "mu", 1.0))
    ```

    **Arguments:**

    - `test`: what `mx.hypotest` or `mx.discovery` returned by toys.
    - `ax`: where to draw; default: a new figure.
    - `asymptotic`: the same test without toys, which provides the statistic of the Asimov data. If it is not given (and
        for two-sided statistics), this is estimated from the median of the toys of the alternative.
    - `statistic`: that of the test, as given to `mx.hypotest`; default: `mx.QTilde()`, for a discovery `mx.Q0()`.
    - `bins`: the number of bins. One toy in a thousand lies beyond the last bin.

    **Returns:** the `ax`.

    **Raises:** `TypeError` for any other object; `ValueError` for tests without toys, many tests, or no valid toy.
    """
    origin = "what mx.hypotest(..., calculator=mx.Toys(n, key)) returned"
    check(test, (HypoTest, Discovery), "toy_distributions", origin)
    statistic = _statistic(test, statistic)
    if test.toys is None:
        raise ValueError(f"this test has no toys: toy_distributions takes {origin}")
    if np.ndim(test.statistic) != 0:
        raise ValueError(f"toy_distributions draws one test, got shape {np.shape(test.statistic)}")
    # with several parameters of interest it is a chi2 with as many degrees of freedom, which is not drawn
    reference = np.nan if np.size(test.fits.tested) > 1 else _asimov(test, asymptotic, statistic)
    observed = float(test.statistic)
    ax = axes(ax)
    kinds = (("tested", test.toys.tested, DARK, "o"), ("alternative", test.toys.alternative, LIGHT, "s"))
    values = np.concatenate([concrete(toys.values).ravel() for _, toys, _, _ in kinds])
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise ValueError("no toy is valid: see test.toys.tested.status")
    top = max(float(np.quantile(values, 0.999)), observed if np.isfinite(observed) else 0.0, 1e-3)
    edges = np.linspace(0.0, 1.05 * top, bins + 1)
    lowest = 1.0
    tails = _tails(statistic, edges, reference)
    for (_, toys, colour, marker), label, tail in zip(kinds, _names(test), tails, strict=True):
        share, error = _shares(toys, edges)
        filled = share > 0
        lowest = min(lowest, float(np.min(share[filled], initial=1.0)))
        middle = 0.5 * (edges[1:] + edges[:-1])
        ax.errorbar(
            middle[filled], share[filled], error[filled], fmt=marker, color=colour, markersize=4, linewidth=1, zorder=3,
            markeredgecolor=LINE, markeredgewidth=0.4, label=f"Toys, {label}",
        )  # fmt: skip
        if tail is not None:
            ax.stairs(
                tail[:-1] - tail[1:], edges, baseline=None, color=colour, linewidth=1.6, label=f"Asymptotic, {label}"
            )
    if np.isfinite(observed):
        ax.axvline(observed, color=ACCENT, linewidth=1.5, linestyle="--", zorder=2, label=f"Observed: {observed:.3g}")
    ax.set_yscale("log")
    ax.set(xlabel=_symbol(statistic), ylabel="Fraction of toys / bin", xlim=(0, edges[-1]), ylim=(0.4 * lowest, 1.5))
    ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="small")
    return ax


def _statistic(test: Test, statistic: AbstractStatistic | None) -> AbstractStatistic:
    if statistic is None:
        return Q0() if isinstance(test, Discovery) else QTilde()
    if not isinstance(statistic, AbstractStatistic):
        raise TypeError(f"statistic must be one such as mx.QTilde(), got {type(statistic).__name__}")
    return statistic


def _names(test: Test) -> tuple[str, str]:
    texts = (", ".join(f"{x:.3g}" for x in np.ravel(concrete(v))) for v in (test.fits.tested, test.alternative))
    first, second = (f"{test.name} = {value}" for value in texts)
    return first, second


def _symbol(statistic: AbstractStatistic) -> str:
    symbols = {TMu: "t_\\mu", TMuTilde: r"\tilde t_\mu", Q0: "q_0", QMu: r"q_\mu", QTilde: r"\tilde q_\mu"}
    return f"Test statistic ${symbols[type(statistic)]}$" if type(statistic) in symbols else "Test statistic"


def _asimov(test: Test, asymptotic: Test | None, statistic: AbstractStatistic) -> float:
    """The statistic of the Asimov data of the alternative: from the expected p-value, or, without one, the one whose
    asymptotic distribution has the median of the toys."""
    if asymptotic is not None:
        check(asymptotic, type(test), "asymptotic=", "the same test without toys")
        if asymptotic.toys is not None:
            raise ValueError("asymptotic= is the same test without toys")
        p = asymptotic.expected_p_value if isinstance(asymptotic, Discovery) else asymptotic.expected_p_sb
        if np.isfinite(p[2]):
            return float(jnp.maximum(formulas.significance(jnp.log(p[2])), 0.0) ** 2)
    assert test.toys is not None
    median = _median(test.toys.alternative)
    if not _two_sided(statistic) or not median > 0:
        return median
    candidates = np.linspace(0.0, median, 1001)[1:]
    _, p = formulas.log_p_two_sided(jnp.full(candidates.size, median), jnp.asarray(candidates), statistic.tilde)
    return float(np.interp(np.log(0.5), np.asarray(p), candidates))


def _median(toys: ToyStatistics) -> float:
    values, weights = (concrete(a).ravel() for a in (toys.values, toys.weights))
    order = np.argsort(values)
    cumulative = np.cumsum(np.where(np.isfinite(values[order]), weights[order], 0.0))
    return float(values[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])]) if cumulative[-1] > 0 else np.nan


def _two_sided(statistic: AbstractStatistic) -> bool:
    return isinstance(statistic, TMu | TMuTilde)


def _tails(
    statistic: AbstractStatistic, edges: np.ndarray, reference: float
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The asymptotic probabilities under both hypotheses that the statistic is at least as large as each edge."""
    if not np.isfinite(reference) or reference <= 0:
        return None, None
    q, q_a = jnp.asarray(edges), jnp.asarray(reference)
    if _two_sided(statistic):
        logs = formulas.log_p_two_sided(q, q_a, statistic.tilde)
    else:
        logs = formulas.log_p_one_sided(formulas.distance(q, q_a, statistic.tilde), formulas.root(q_a))
    first, second = (np.exp(np.asarray(log)) for log in logs)
    first[0] = second[0] = 1.0  # includes those at 0
    return first, second


def _shares(toys: ToyStatistics, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The fraction of toys in each bin, and its standard error."""
    values, weights = (concrete(a).ravel() for a in (toys.values, toys.weights))
    is_valid = np.isfinite(values)
    value, square = (np.histogram(values[is_valid], edges, weights=w[is_valid])[0] for w in (weights, weights**2))
    total = max(int(np.sum(is_valid)), 1)
    return value / total, np.sqrt(square) / total
