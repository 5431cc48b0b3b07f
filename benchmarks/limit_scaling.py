"""Upper limits and impacts of workspaces with 51, 301 and 801 parameters, each of one channel of bins whose background
is uncertain (a normfactor and a shapesys of pyhf).

`limit`: the whole of `mx.upper_limit` with its band, on other data each time; `fit`: of it the free fit of the data,
by itself; `minos`: that of the signal's strength; `impacts`: of all parameters. `memory`: the peak of the process, with
JAX and all that was compiled. pyhf (minuit, NumPy) has one test at our limit, of which its search needs some forty.
Right are the limits of the profile in closed form, bin by bin a quadratic equation, with SciPy's root.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy import optimize, stats

from ._common import Row, Table, Timing, clock, fresh, main, peak
from ._contestants import mx

BINS = (50, 300, 800)
PEER = BINS[0]
SAME = 1e-6  # relative, of limits


def yields(bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Signal, background, its error, and what is observed."""
    rng = np.random.default_rng(1)
    background = rng.uniform(20.0, 80.0, bins)
    signal = 60.0 / np.sqrt(bins) * rng.uniform(0.5, 1.5, bins)
    return signal, background, 0.1 * background, rng.poisson(background).astype(float)


def document(bins: int) -> dict[str, Any]:
    signal, background, error, observed = yields(bins)
    normfactor = {"name": "mu", "type": "normfactor", "data": None}
    shapesys = {"name": "rate", "type": "shapesys", "data": error.tolist()}
    samples = [
        {"name": "signal", "data": signal.tolist(), "modifiers": [normfactor]},
        {"name": "background", "data": background.tolist(), "modifiers": [shapesys]},
    ]
    return {
        "channels": [{"name": "SR", "samples": samples}],
        "observations": [{"name": "SR", "data": observed.tolist()}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }


class Profile:
    """The profile likelihood of counts `n` and of the background's `m`, in closed form."""

    def __init__(self, bins: int, n: np.ndarray, m: np.ndarray):
        self.signal, self.background, error, _ = yields(bins)
        self.tau = (self.background / error) ** 2
        self.n, self.m = n, m
        self.best = self._best()

    def gamma(self, mu: float) -> np.ndarray:
        """The background's factors that are best there: the positive root of a quadratic equation."""
        s, b, n, m = mu * self.signal, self.background, self.n, self.m
        a, half, c = (b + self.tau) * b, 0.5 * ((b + self.tau) * s - (n + m) * b), -m * s
        return (np.sqrt(half**2 - a * c) - half) / a

    def nll(self, mu: float) -> float:
        gamma = self.gamma(mu)
        expected, aside = mu * self.signal + gamma * self.background, gamma * self.tau
        return float(np.sum(expected - self.n * np.log(expected) + aside - self.m * np.log(aside)))

    def _slope(self, mu: float) -> float:
        expected = mu * self.signal + self.gamma(mu) * self.background
        return float(np.sum(self.signal * (1 - self.n / expected)))

    def _best(self) -> float:
        if self._slope(0.0) >= 0:
            return 0.0
        return float(optimize.brentq(self._slope, 0.0, 10.0, xtol=1e-14, rtol=1e-14))

    def q(self, mu: float) -> float:
        return 0.0 if mu <= self.best else max(2 * (self.nll(mu) - self.nll(self.best)), 0.0)


def right(bins: int) -> list[float]:
    """The observed and the five expected limits: CLs of q̃mu by the formulas of Cowan, Cranmer, Gross and Vitells."""
    _, background, error, observed = yields(bins)
    tau = (background / error) ** 2
    data = Profile(bins, observed, tau)
    gamma = data.gamma(0.0)
    asimov = Profile(bins, gamma * background, gamma * tau)

    def excess(mu: float) -> float:
        q, far = data.q(mu), asimov.q(mu)
        root = np.sqrt(far)
        t = np.sqrt(q) - root if q <= far else (q - far) / (2 * root)
        return float(stats.norm.logsf(t + root) - stats.norm.logsf(t) - np.log(0.05))

    def expected(mu: float, sigmas: int) -> float:
        root = np.sqrt(asimov.q(mu))
        return float(stats.norm.logsf(root - sigmas) - stats.norm.logsf(-sigmas) - np.log(0.05))

    def crossing(f: Callable[..., float], low: float, *args: int) -> float:
        return float(optimize.brentq(f, low + 1e-3, 9.9, args, xtol=1e-13, rtol=1e-13))

    return [crossing(excess, data.best), *(crossing(expected, 0.0, sigmas) for sigmas in (-2, -1, 0, 1, 2))]


def ours(bins: int, repeats: int) -> Row:
    """In a fresh process."""
    nll, params, data = mx.io.from_pyhf(document(bins))
    at = lambda i: data | {"main": {"SR": data["main"]["SR"] + 0.01 * i}}  # noqa: E731
    limit = lambda i: mx.upper_limit(nll, params, at(i), "mu")  # noqa: E731
    first = clock(lambda: limit(0).observed)
    found = limit(0)
    answer = np.array([found.observed, *found.expected])
    off = float(np.max(np.abs(answer / np.array(right(bins)) - 1)))
    failed = None if off < SAME else f"its limits are off by {off:.2g}"
    fit = mx.fit(nll, params, data)
    calls = {
        "limit": lambda i: limit(i).expected,
        "fit": lambda i: mx.fit(nll, params, at(i)).values,
        "minos": lambda i: mx.minos(nll, fit, data, "mu").upper,
        "impacts": lambda i: mx.impacts(nll, fit, data, "mu").postfit_up,
    }
    row: Row = {"bins": f"{bins + 1}", "name": "migrax", "first_s": first, "off": off, "failed": failed}
    for name, call in calls.items():
        jax.block_until_ready(call(0))
        row[name] = Timing.of([clock(lambda call=call, i=i: call(i)) for i in range(1, 1 + repeats)]).record()
    return row | {"answer": answer.tolist(), "memory": peak()}


def pyhf_test(bins: int, limit: float) -> Row:
    """In a fresh process: pyhf's test at our limit."""
    import pyhf

    pyhf.set_backend("numpy", "minuit")
    work = pyhf.Workspace(document(bins))
    model = work.model()
    data, found = work.data(model), []

    def test() -> None:
        found.append(float(pyhf.infer.hypotest(limit, data, model, test_stat="qtilde")))

    timing = Timing.of([clock(test) for _ in range(3)])
    failed = None if abs(found[0] / 0.05 - 1) < 5e-3 else f"its CLs at our limit is {found[0]:.6g}"
    return {"bins": f"{bins + 1}", "name": "pyhf, one test", "limit": timing.record(), "failed": failed}


def measure() -> Row:
    rows = [fresh(ours, bins, 9 if bins < BINS[-1] else 3) for bins in BINS]
    if importlib.util.find_spec("pyhf") is not None:
        rows.append(fresh(pyhf_test, PEER, rows[0]["answer"][0]))
    return {"rows": rows, "migrax_failed": any(row["failed"] for row in rows if row["name"] == "migrax")}


def tables(record: Row) -> list[Table]:
    columns = {"bins": "parameters", "name": "by", "limit": "limit", "fit": "fit", "minos": "minos"}
    columns |= {"impacts": "impacts", "first_s": "first limit, s", "memory": "memory, MB", "off": "off by"}
    return [Table("Upper limits with their bands", record["rows"], columns | {"failed": "failed"})]


def check() -> list[str]:
    row = fresh(ours, PEER, 1)
    return [row["failed"]] if row["failed"] else []


if __name__ == "__main__":
    main("limit_scaling", measure, tables, check)
