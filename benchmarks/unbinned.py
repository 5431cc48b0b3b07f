"""A million events one by one: a normal peak on an exponential background, cut to a range, four parameters.

Peers: iminuit with the densities of numba-stats, once as its manual writes it (`iminuit.cost.UnbinnedNLL`) and once as
fast as numba makes it (one loop over the events on all cores, `fastmath`); zfit where it is installed. The timed call
is the whole fit: minimum and covariance, everything compiled. And what one value and gradient cost, the unit of all.
"""

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numba as nb
import numpy as np
from iminuit import Minuit, cost
from numba_stats import norm, truncexpon, truncnorm

from ._common import Row, Table, main, race
from ._contestants import MINUIT_SAME, Contestant, Fit, Minimum, migrax, mx, newton, read_minuit

EVENTS = 1_000_000
REPEATS = 5
LOW, HIGH = 0.0, 10.0
TRUTH = np.array([0.3, 4.0, 0.5, 3.0])  # fraction of the peak, its mean and width, the mean of the exponential
START = np.array([0.4, 4.3, 0.7, 2.0])
LIMITS = [(0.0, 1.0), (LOW, HIGH), (0.01, 5.0), (0.1, 50.0)]
NAMES = ("f", "mu", "sigma", "tau")


def events(n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    peak = rng.normal(TRUTH[1], TRUTH[2], rng.binomial(n, TRUTH[0]))
    u = rng.uniform(size=n - peak.size)
    slope = -TRUTH[3] * np.log1p(u * np.expm1(-HIGH / TRUTH[3]))
    return rng.permutation(np.concatenate([peak, slope]))  # 8 sigma of the peak are in the range


def params(start: Any) -> dict[str, mx.Parameter]:
    return {n: mx.Parameter(x, lower=a, upper=b) for n, x, (a, b) in zip(NAMES, start, LIMITS, strict=True)}


def mixture(p: Any) -> Any:
    peak = mx.distributions.TruncatedNormal(p["mu"], p["sigma"], LOW, HIGH)
    slope = mx.distributions.Exponential(1 / p["tau"], LOW, HIGH)
    return mx.distributions.Mixture([peak, slope], fractions=[p["f"]])


def by_hand(x: Any, data: Any) -> Any:
    """What a user of JAX writes: minus log L of the vector of parameters."""
    f, mu, sigma, tau = x
    inside = jax.scipy.stats.norm.cdf(HIGH, mu, sigma) - jax.scipy.stats.norm.cdf(LOW, mu, sigma)
    peak = jnp.exp(-0.5 * ((data - mu) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi) * inside)
    slope = jnp.exp(-data / tau) / (-tau * jnp.expm1(-HIGH / tau))
    return -jnp.sum(jnp.log(f * peak + (1 - f) * slope))


def numba_pdf(x: Any, f: float, mu: float, sigma: float, tau: float) -> Any:
    return f * truncnorm.pdf(x, LOW, HIGH, mu, sigma) + (1 - f) * truncexpon.pdf(x, LOW, HIGH, 0.0, tau)


@nb.njit(parallel=True, fastmath=True)
def numba_nll(x: Any, f: float, mu: float, sigma: float, tau: float, inside: float) -> float:
    a, b = f / (sigma * math.sqrt(2 * math.pi) * inside), (1 - f) / (-tau * math.expm1(-(HIGH - LOW) / tau))
    total = 0.0
    for i in nb.prange(x.size):
        z = (x[i] - mu) / sigma
        total += math.log(a * math.exp(-0.5 * z * z) + b * math.exp(-x[i] / tau))
    return -total


def minuit(fcn_of: Callable[[np.ndarray], Any], name: str) -> Contestant:
    def run(start: np.ndarray, data: np.ndarray) -> Minuit:
        fitted = Minuit(fcn_of(data), *start, name=NAMES)
        fitted.errordef = Minuit.LIKELIHOOD
        fitted.limits = LIMITS
        fitted.migrad()
        fitted.hesse()
        return fitted

    return Contestant(name, run, read_minuit, MINUIT_SAME)


def _fused(data: np.ndarray) -> Callable[..., float]:
    def fcn(f: float, mu: float, sigma: float, tau: float) -> float:
        ends = norm.cdf(np.array([LOW, HIGH]), mu, sigma)
        return numba_nll(data, f, mu, sigma, tau, ends[1] - ends[0])

    return fcn


def _iminuit_cost() -> Contestant:
    def run(start: np.ndarray, data: np.ndarray) -> Minuit:
        fitted = Minuit(cost.UnbinnedNLL(data, numba_pdf), *start, name=NAMES)
        fitted.limits = LIMITS
        fitted.migrad()
        fitted.hesse()
        return fitted

    return Contestant("iminuit.cost, numba-stats", run, read_minuit, MINUIT_SAME)


def _zfit() -> list[Contestant]:
    """zfit with MINUIT and its own gradient, the loss made once; where it is installed."""
    if importlib.util.find_spec("zfit") is None:
        return []
    import zfit  # pyright: ignore[reportMissingImports]

    space = zfit.Space("x", (LOW, HIGH))
    f, mu, sigma = (zfit.Parameter(n, s, *b) for n, s, b in zip(NAMES[:3], START, LIMITS, strict=False))
    slope = zfit.Parameter("slope", -1 / START[3], -10.0, -0.02)
    peak, background = zfit.pdf.Gauss(mu, sigma, space), zfit.pdf.Exponential(slope, space)
    model = zfit.pdf.SumPDF([peak, background], fracs=f)
    losses: dict[int, Any] = {}

    def run(start: np.ndarray, data: np.ndarray) -> Any:
        if id(data) not in losses:
            losses[id(data)] = zfit.loss.UnbinnedNLL(model, zfit.Data.from_numpy(space, np.asarray(data)[:, None]))
        zfit.param.set_values([f, mu, sigma, slope], [*start[:3], -1 / start[3]])
        result = zfit.minimize.Minuit().minimize(losses[id(data)])
        result.hesse(method="minuit_hesse")
        return result

    def read(result: Any) -> Fit:
        x = np.array([result.params[p]["value"] for p in (f, mu, sigma, slope)])
        x[3] = -1 / x[3]
        return Fit(x, float(result.fmin), bool(result.valid), {"values": int(result.info["n_eval"])})

    return [Contestant("zfit", run, read, MINUIT_SAME)]


def contestants() -> list[Contestant]:
    from_library, written = (
        mx.UnbinnedNLL(distribution=mixture),
        mx.Likelihood(lambda p, x: by_hand([p[n] for n in NAMES], x)),
    )
    in_chunks = mx.UnbinnedNLL(distribution=mixture, chunk_size=20_000)
    return [
        migrax(from_library, params, name="migrax, mx.distributions"),
        migrax(in_chunks, params, name="migrax, mx.distributions, chunks"),
        migrax(written, params, name="migrax, density by hand"),
        _iminuit_cost(),
        minuit(_fused, "iminuit, one numba loop"),
        *_zfit(),
    ]


def _rows(players: list[Contestant], n: int) -> tuple[list[Row], np.ndarray, Minimum]:
    data = events(n)
    minimum = newton(by_hand, TRUTH, data)
    rows = []
    for c in players:
        fit = c.fit(START, data)
        row = {"name": c.name, "events": n, "failed": minimum.complaint(fit, c.within)}
        rows.append(row | {"errors_off": minimum.distance(fit.values), **fit.evaluations})
    return rows, data, minimum


def measure() -> Row:
    players = contestants()
    rows, data, _ = _rows(players, EVENTS)
    on_device = jax.device_put(data)
    gradient = jax.jit(jax.value_and_grad(by_hand))
    gradient(jnp.asarray(START), on_device)
    calls: dict[str, Callable[[int], Any]] = {"value and gradient by hand": lambda _: gradient(START, on_device)}
    for c, row in zip(players, rows, strict=True):
        if not row["failed"]:
            takes = on_device if c.name.startswith("migrax") else data
            c.run(START, takes)
            calls[c.name] = lambda _, c=c, takes=takes: c.run(START, takes)
    times = race(calls, REPEATS)
    unit = times["value and gradient by hand"]
    peers = [times[row["name"]].median for row in rows if row["name"] in times and "iminuit" in row["name"]]
    for row in rows:
        if row["name"] in times:
            row["time"] = times[row["name"]].record()
            row["ratio"] = min(peers) / times[row["name"]].median
            row["in_gradients"] = times[row["name"]].median / unit.median
    failed = any(row["failed"] for row in rows[:3])
    return {"rows": rows, "value_and_gradient": unit.record(), "migrax_failed": failed}


def tables(record: Row) -> list[Table]:
    columns = {"name": "", "time": "a fit", "ratio": "faster than the best of iminuit", "in_gradients": "in gradients"}
    columns |= {"gradients": "gradients", "values": "values", "errors_off": "errors off", "failed": "failed"}
    unit = [{"name": "one value and gradient by hand", "time": record["value_and_gradient"], "in_gradients": 1.0}]
    return [Table(f"{EVENTS:,} events, warm", [*record["rows"], *unit], columns, chart=("time",))]


def check() -> list[str]:
    rows, _, _ = _rows(contestants(), 20_000)
    return [f"{row['name']}: {row['failed']}" for row in rows if row["failed"]]


if __name__ == "__main__":
    main("unbinned", measure, tables, check)
