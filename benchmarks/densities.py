"""What each density costs in bins: time to compile and to run the value, the gradient and the Hessian of a likelihood.

The likelihood is Poisson's, of 100 bins, with the numbers that `log_bin_integrals` returns; batches as in toys, each at
its own point, on one core: of 256, or of 4 for densities that are integrated numerically. Beside it stands the formula
that a user of JAX writes: differences of a cdf. Their values and gradients must agree where the formula has digits. The
column of numba-stats is the value alone: it has no derivatives.
"""

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, gammainc

from ._common import Row, Table, fresh, main
from ._contestants import mx
from ._density_rows import add_times, two_tables

BINS, REPEATS = 100, 21
LANES, FEW = 256, 4
EDGES = np.linspace(1.0, 11.0, BINS + 1)
D = mx.distributions
Formula = Callable[[Any], Any]


class Pair(NamedTuple):
    ours: Formula  # log of the probabilities of the bins, of the parameters
    by_hand: Formula | None
    at: tuple[float, ...]
    numba_stats: Callable[..., Any] | None = None  # the cdf
    lanes: int = LANES


def _by_cdf(cdf: Formula) -> Formula:
    return lambda x: jnp.log(jnp.diff(cdf(x)))


def _between(cdf: Formula) -> Formula:
    """Normalised to the range of the bins."""

    def log_p(x: Any) -> Any:
        values = cdf(x)
        return jnp.log((values[1:] - values[:-1]) / (values[-1] - values[0]))

    return log_p


def _normal_cdf(x: Any) -> Any:
    return 0.5 * (1 + erf((EDGES - x[0]) / (x[1] * np.sqrt(2))))


def _crystal_ball_cdf(x: Any) -> Any:
    """Not normalised: power below -alpha, normal above."""
    mu, sigma, alpha, n = x
    t = (EDGES - mu) / sigma
    tail = jnp.exp(-0.5 * alpha**2) * n / (alpha * (n - 1))
    power = tail * (1 + alpha / n * (jnp.maximum(-t, alpha) - alpha)) ** (1 - n)
    core = np.sqrt(np.pi / 2) * (erf(jnp.maximum(t, -alpha) / np.sqrt(2)) + erf(alpha / np.sqrt(2)))
    return power + core


def _chebyshev(x: Any) -> Any:
    """1 + x0 T1 + x1 T2, integrated."""
    t = 0.2 * (EDGES - 6.0)
    return t + 0.5 * x[0] * t**2 + x[1] * (2 / 3 * t**3 - t)


def _peak_on_slope(x: Any) -> Any:
    parts = jnp.diff(_normal_cdf(x)), jnp.exp(_between(lambda x: -jnp.exp(-x[2] * EDGES))(x))
    return jnp.log((x[3] * parts[0] + x[4] * parts[1]) / (x[3] + x[4]))


def _bins(make: Callable[..., Any]) -> Formula:
    return lambda x: make(*x).log_bin_integrals(EDGES)


def pairs() -> dict[str, Pair]:
    from numba_stats import norm

    low, high = EDGES[0], EDGES[-1]
    return {
        "Normal": Pair(_bins(D.Normal), _by_cdf(_normal_cdf), (5.0, 1.2), norm.cdf),
        "TruncatedNormal": Pair(
            _bins(lambda m, s: D.TruncatedNormal(m, s, low, high)), _between(_normal_cdf), (5.0, 2.5)
        ),
        "Exponential, on a range": Pair(
            _bins(lambda r: D.Exponential(r, low, high)), _between(lambda x: -jnp.exp(-x[0] * EDGES)), (0.3,)
        ),
        "Mixture: Normal, Exponential": Pair(
            _bins(lambda m, s, r, a, b: D.Mixture([D.Normal(m, s), D.Exponential(r, low, high)], yields=[a, b])),
            _peak_on_slope,
            (5.0, 1.2, 0.3, 500.0, 3000.0),
        ),
        "LogNormal": Pair(
            _bins(D.LogNormal), _by_cdf(lambda x: 0.5 * erf((np.log(EDGES) - x[0]) / (x[1] * np.sqrt(2)))), (1.4, 0.4)
        ),
        "Cauchy": Pair(_bins(D.Cauchy), _by_cdf(lambda x: jnp.arctan((EDGES - x[0]) / x[1]) / np.pi), (5.0, 0.7)),
        # JAX has no derivatives of its incomplete beta function in the number of degrees of freedom
        "StudentT": Pair(_bins(D.StudentT), None, (4.0, 5.0, 1.2), lanes=FEW),
        "Gamma": Pair(_bins(D.Gamma), _by_cdf(lambda x: gammainc(x[0], EDGES / x[1])), (5.0, 1.1), lanes=FEW),
        "Chebyshev": Pair(_bins(lambda a, b: D.Chebyshev([a, b], low, high)), _between(_chebyshev), (-0.4, 0.1)),
        "CrystalBall": Pair(
            _bins(lambda m, s, a, n: D.CrystalBall(m, s, a, n, low, high)),
            _between(_crystal_ball_cdf),
            (7.0, 0.9, 1.3, 3.0),
        ),
        "DoubleCrystalBall": Pair(
            _bins(lambda m, s, a, n, b, k: D.DoubleCrystalBall(m, s, a, n, b, k, low, high)),
            None,
            (6.0, 0.9, 1.3, 3.0, 1.5, 4.0),
        ),
        "Voigt": Pair(_bins(D.Voigt), None, (6.0, 0.5, 0.8), lanes=FEW),
        "Argus": Pair(_bins(lambda c, chi: D.Argus(c, chi)), None, (12.0, 1.5), lanes=FEW),
        "Landau": Pair(_bins(D.Landau), None, (4.0, 0.5), lanes=FEW),
    }


def _nll(log_p: Formula) -> Callable[[Any, Any], Any]:
    def nll(x: Any, n: Any) -> Any:
        log_mu = np.log(1e4) + log_p(x)
        return jnp.sum(jnp.exp(log_mu) - n * log_mu)

    return nll


def _wrong(pair: Pair) -> str | None:
    """What is not as by hand: values to 1e-8, gradients to 1e-6 of their size."""
    x = jnp.asarray(pair.at)
    n = 1e4 * jnp.exp(jax.jit(pair.ours)(1.01 * x))
    ours = jax.jit(jax.value_and_grad(_nll(pair.ours)))(x, n)
    if not all(np.all(np.isfinite(a)) for a in ours):
        return "not finite"
    if pair.by_hand is None:
        return None
    hand = jax.jit(jax.value_and_grad(_nll(pair.by_hand)))(x, n)
    size = 1 + np.max(np.abs(hand[1]))
    same = np.allclose(ours[0], hand[0], rtol=1e-8) and np.allclose(ours[1], hand[1], rtol=1e-6, atol=1e-6 * size)
    return None if same else f"{ours} is not {hand}"


def _compiled(log_p: Formula, points: Any, counts: Any) -> dict[str, tuple[float, Callable[[], Any]]]:
    """Seconds to trace and compile, and the call, of the value, value and gradient, and Hessian."""
    nll, out = _nll(log_p), {}
    for what, fn in {"value": nll, "gradient": jax.value_and_grad(nll), "hessian": jax.hessian(nll)}.items():
        start = time.perf_counter()
        try:
            program = jax.jit(jax.vmap(fn)).lower(points, counts).compile()
        except NotImplementedError:  # JAX has no second derivatives of its incomplete gamma function
            continue
        out[what] = (time.perf_counter() - start, lambda program=program: program(points, counts))
    return out


def one(name: str, repeats: int) -> Row:
    """One density, in a fresh process, pinned to one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pair = pairs()[name]
    row: Row = {"name": name, "failed": _wrong(pair)}
    rng = np.random.default_rng(1)
    x, lanes = np.asarray(pair.at), pair.lanes
    points = jnp.asarray(x * (1 + 0.01 * rng.normal(size=(lanes, x.size))))
    counts = jnp.asarray(rng.poisson(1e4 * np.exp(np.asarray(pair.ours(jnp.asarray(x)))), (lanes, BINS)).astype(float))
    calls: dict[str, Callable[[], Any]] = {}
    for who, log_p in {"": pair.ours, "_by_hand": pair.by_hand}.items():
        for what, (seconds, call) in ({} if log_p is None else _compiled(log_p, points, counts)).items():
            row[f"compile_{what}{who}_s"] = seconds
            calls[f"{what}{who}"] = call
    if pair.numba_stats is not None:
        cdf, at = pair.numba_stats, pair.at
        calls["value_numba_stats"] = lambda: [np.log(np.diff(cdf(EDGES, *at))) for _ in range(lanes)]
    return add_times(row, calls, repeats, lanes * BINS)


def measure() -> Row:
    rows = [fresh(one, name, REPEATS) for name in pairs()]
    return {"rows": rows, "migrax_failed": any(row["failed"] for row in rows)}


def tables(record: Row) -> list[Table]:
    return two_tables(f"To run, {BINS} bins, batches of {LANES} or {FEW}, one core", record["rows"], "a bin")


def check() -> list[str]:
    wrong = {name: _wrong(pair) for name, pair in pairs().items()}
    return [f"{name}: {what}" for name, what in wrong.items() if what]


if __name__ == "__main__":
    main("densities", measure, tables, check)
