"""Toys of 100 bins; everybody on one core, from the generating point with the true errors.

Three likelihoods: a normal distribution in bins (`mx.PoissonNLL` with `mx.distributions.Normal`), the same on an
exponential background, and the density at the centres of the bins, written by hand, which is the cheapest there is.

`mx.fit_toys` with exact errors and without second derivatives; iminuit, one toy after the other, given these errors,
with numba (numba-stats for the probabilities of bins; numerical derivatives, as its users do it) and with jitted JAX
value and gradient. Of the last likelihood also `jax.vmap(mx.fit)`, a vmapped `optx.BFGS` and, where it is installed
(`pip install everwillow`), a vmapped `everwillow.fit`, which is BFGS in the parameters as given. Nobody compiles while
he is timed. The unit is one value and gradient of a whole batch, each lane at its own point; its arrays do not fit into
the cache, so the same with few lanes at a time stands beside it. The drawing of the toys is
timed apart: `mx.sample` of a `mx.PoissonNLL`, `jax.random.poisson` and NumPy.
"""

import importlib.util
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numba as nb
import numpy as np
import optimistix as optx
from iminuit import Minuit
from numba_stats import norm

from ._common import Row, Table, Timing, clock, fresh, main
from ._contestants import MINUIT_SAME, SAME, mx

BINS, BATCH = 100, 4096
TOYS, PEER_TOYS, REPEATS = 40_960, 200, 3
UNIT = "one batched value and gradient"
SOME = 256
IN_CACHE = f"the same, {SOME} lanes at a time"
EDGES = np.linspace(-5.0, 5.0, BINS + 1)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
LOW, HIGH = EDGES[0], EDGES[-1]
D = mx.distributions


class Problem(NamedTuple):
    truth: np.ndarray
    nll: Callable[[Any, Any], Any]  # of {"x": the vector} and counts
    mean: Callable[[Any], Any]  # of the vector
    numba: Callable[[Any, Any], float]


@nb.njit(fastmath=True)
def _poisson(mean: Any, counts: Any) -> float:
    total = 0.0
    for i in range(counts.size):
        total += mean[i] - counts[i] * math.log(mean[i] + 1e-300)
    return total


@nb.njit
def _normal_by_numba(x: Any, counts: Any) -> float:
    return _poisson(x[0] * np.diff(norm.cdf(EDGES, x[1], x[2])), counts)


@nb.njit
def _peak_by_numba(x: Any, counts: Any) -> float:
    falling = np.exp(-x[4] * (EDGES - LOW))
    background = (falling[:-1] - falling[1:]) / (falling[0] - falling[-1])
    return _poisson(x[0] * np.diff(norm.cdf(EDGES, x[1], x[2])) + x[3] * background, counts)


@nb.njit(fastmath=True)
def _centres_by_numba(x: Any, counts: Any) -> float:
    total, log_a = 0.0, math.log(x[0])
    for i in range(counts.size):
        z = (CENTRES[i] - x[1]) / x[2]
        log_mu = log_a - 0.5 * z * z
        total += math.exp(log_mu) - counts[i] * log_mu
    return total


def _at_centres(p: Any, counts: Any) -> Any:
    """Minus log L above that of the saturated model."""
    x = p["x"]
    z = (CENTRES - x[1]) / x[2]
    log_mu = jnp.log(x[0]) - 0.5 * z**2
    return jnp.sum(jnp.exp(log_mu) - counts * log_mu)


def _normal(p: Any) -> Any:
    return D.Normal(p["x"][1], p["x"][2])


def _peak(p: Any) -> Any:
    yields = [p["x"][0], p["x"][3]]
    return D.Mixture([_normal(p), D.Exponential(p["x"][4], LOW, HIGH)], yields=yields)


def _mean_of(log_bins: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: np.exp(np.asarray(log_bins({"x": jnp.asarray(x)})))


NORMAL, PEAK, CENTRE = "normal, in bins", "normal on an exponential, in bins", "normal, at the centres of bins"
PROBLEMS = {
    NORMAL: Problem(
        np.array([1500.0, 0.3, 1.2]),
        mx.PoissonNLL(distribution=_normal, edges=EDGES, total=lambda p: p["x"][0]),
        _mean_of(lambda p: jnp.log(p["x"][0]) + _normal(p).log_bin_integrals(EDGES)),
        _normal_by_numba,
    ),
    PEAK: Problem(
        np.array([1000.0, 0.3, 0.8, 4000.0, 0.3]),
        mx.PoissonNLL(distribution=_peak, edges=EDGES),
        _mean_of(lambda p: jnp.log(p["x"][0] + p["x"][3]) + _peak(p).log_bin_integrals(EDGES)),
        _peak_by_numba,
    ),
    CENTRE: Problem(
        np.array([50.0, 0.3, 1.2]),  # the first is the number of counts in the highest bin
        _at_centres,
        _mean_of(lambda p: jnp.log(p["x"][0]) - 0.5 * ((CENTRES - p["x"][1]) / p["x"][2]) ** 2),
        _centres_by_numba,
    ),
}


def _of_vector(problem: Problem) -> Callable[[Any, Any], Any]:
    return lambda x, counts: problem.nll({"x": x}, counts)


def toys(problem: Problem, n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).poisson(problem.mean(problem.truth), (n, BINS)).astype(float)


def _covariance(problem: Problem) -> np.ndarray:
    return np.linalg.inv(
        np.asarray(jax.hessian(_of_vector(problem))(jnp.asarray(problem.truth), problem.mean(problem.truth)))
    )


def _params(problem: Problem) -> Any:
    return {"x": mx.Parameter(problem.truth)}


def _bfgs(problem: Problem, covariance: np.ndarray) -> Callable[[Any], Any]:
    root = np.linalg.cholesky(covariance)
    solver, nll, truth = optx.BFGS(rtol=1e-6, atol=1e-6), _of_vector(problem), problem.truth

    def one(counts: Any) -> Any:
        fn = lambda u, args: nll(truth + root @ u, args)  # noqa: E731
        found = optx.minimise(fn, solver, jnp.zeros(truth.size), args=counts, max_steps=256, throw=False)
        return truth + root @ found.value

    return jax.jit(jax.vmap(one))


def _everwillow(problem: Problem) -> Callable[[Any], Any]:
    import everwillow
    from everwillow import statelib

    start = statelib.State.from_pytree({"x": jnp.asarray(problem.truth)})
    return jax.jit(jax.vmap(lambda counts: everwillow.fit(problem.nll, start, counts, throw=False).params["x"]))


def _minuit(
    problem: Problem, errors: np.ndarray, value: Any, gradient: Any = None, strategy: int = 1
) -> Callable[[Any], np.ndarray]:
    """A loop over toys, of a value and, where there is one, a gradient."""

    def one(counts: Any) -> np.ndarray:
        grad = None if gradient is None else lambda x: gradient(x, counts)
        fitted = Minuit(lambda x: value(x, counts), problem.truth, grad=grad)
        fitted.errordef, fitted.errors, fitted.strategy = Minuit.LIKELIHOOD, errors, strategy
        fitted.migrad()
        return np.array(fitted.values)

    return lambda data: np.array([one(counts) for counts in data])


def one_core(name: str, n: int, n_peer: int, repeats: int) -> list[Row]:
    """In a fresh process, pinned to one core. The first call of each, which compiles, is not timed."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    problem = PROBLEMS[name]
    covariance, params, nll, of_vector = _covariance(problem), _params(problem), problem.nll, _of_vector(problem)
    data, errors = toys(problem, n), np.sqrt(np.diag(covariance))
    value, gradient = jax.jit(of_vector), jax.jit(jax.grad(of_vector))
    unit = jax.jit(jax.vmap(jax.value_and_grad(of_vector)))
    batch = jnp.asarray(data[: min(BATCH, n)])
    steps = np.random.default_rng(2).normal(size=(len(batch), problem.truth.size))
    points = jnp.asarray(problem.truth + 0.1 * errors * steps)

    def fitted(**options: Any) -> Any:
        return mx.fit_toys(nll, params, data, covariance=covariance, **options).values

    few_lanes = [(points[i : i + SOME], batch[i : i + SOME]) for i in range(0, len(batch), SOME)]
    few, on_device = data[:n_peer], [jnp.asarray(counts) for counts in data[:n_peer]]
    by_numba = {s: _minuit(problem, errors, problem.numba, strategy=s) for s in (0, 1)}
    by_jax = _minuit(problem, errors, value, gradient)
    calls: dict[str, tuple[int, float, Callable[[], Any]]] = {
        UNIT: (len(batch), 0.0, lambda: unit(points, batch)),
        IN_CACHE: (len(batch), 0.0, lambda: [unit(*some) for some in few_lanes]),
        "mx.fit_toys": (n, SAME, fitted),
        "mx.fit_toys, hesse=False": (n, SAME, lambda: fitted(hesse=False)),
        "iminuit, numba": (n_peer, MINUIT_SAME, lambda: by_numba[1](few)),
        "iminuit, numba, strategy 0": (n_peer, MINUIT_SAME, lambda: by_numba[0](few)),
        "iminuit, jitted JAX": (n_peer, MINUIT_SAME, lambda: by_jax(on_device)),
    }
    if name == CENTRE:
        fit = jax.jit(jax.vmap(lambda counts: mx.fit(nll, params, counts).values))
        bfgs = _bfgs(problem, covariance)
        calls["jax.vmap(mx.fit)"] = (len(batch), SAME, lambda: fit(batch))
        calls["jax.vmap(optx.BFGS)"] = (len(batch), MINUIT_SAME, lambda: bfgs(batch))
        if importlib.util.find_spec("everwillow") is not None:
            everwillow = _everwillow(problem)
            calls["jax.vmap(everwillow.fit)"] = (len(batch), MINUIT_SAME, lambda: everwillow(batch))
    right = _minima(of_vector, np.asarray(fitted()), data)
    return [_row(name, who, *call, right, errors, repeats) for who, call in calls.items()]


def _minima(nll: Callable[[Any, Any], Any], near: np.ndarray, data: np.ndarray) -> np.ndarray:
    """The minima of the toys, by Newton's steps with the derivatives of JAX."""

    def step(x: Any, counts: Any) -> Any:
        return x - jnp.linalg.solve(jax.hessian(nll)(x, counts), jax.grad(nll)(x, counts))

    every = jax.jit(lambda x, data: jax.lax.map(lambda lane: step(*lane), (x, data), batch_size=256))
    for _ in range(2):
        near = every(near, data)
    return np.asarray(near)


def _row(
    problem: str,
    who: str,
    size: int,
    within: float,
    call: Callable[[], Any],
    right: np.ndarray,
    errors: np.ndarray,
    repeats: int,
) -> Row:
    first = call()
    row: Row = {"problem": problem, "name": who, "toys": size, "failed": None}
    if within:
        apart = np.max(np.abs(np.asarray(first) - right[:size]) / errors, axis=1)
        row["within"], row["off"] = float(np.mean(apart < within)), float(np.max(apart))
        row["failed"] = None if row["within"] > 0.99 else f"{1 - row['within']:.2g} of the toys are elsewhere"
    time = Timing.of([clock(call) for _ in range(repeats)])
    return row | {"time": time.record(), "per_second": size / time.median}


def drawing(n: int, repeats: int) -> list[Row]:
    """Time of a Poisson count; in a fresh process, pinned to one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    problem = PROBLEMS[CENTRE]
    mean = problem.mean(problem.truth)
    keys, rng = jax.random.split(jax.random.key(1), n), np.random.default_rng(1)
    likelihood = mx.PoissonNLL(lambda p: jnp.asarray(mean) + 0 * p["x"][0])
    ours = jax.jit(jax.vmap(lambda key: mx.sample(likelihood, _params(problem), key)))
    plain = jax.jit(jax.vmap(lambda key: jax.random.poisson(key, mean).astype(float)))
    calls: dict[str, Callable[[], Any]] = {
        "mx.sample": lambda: ours(keys),
        "jax.random.poisson": lambda: plain(keys),
        "NumPy": lambda: rng.poisson(mean, (n, BINS)),
    }
    rows = []
    for name, call in calls.items():
        drawn = np.asarray(call(), float)
        pulls = (drawn.mean(axis=0) - mean) / np.sqrt(mean / n)
        off = float(np.max(np.abs(pulls)))
        time = Timing.of([clock(call) for _ in range(repeats)])
        per_count = {"per_count_ns": 1e9 * time.median / (n * BINS), "off": off}
        rows.append(
            {"name": name, "toys": n, "time": time.record(), "failed": None if off < 5 else "means"} | per_count
        )
    return rows


def measure() -> Row:
    rows: list[Row] = []
    for problem in PROBLEMS:
        found = fresh(one_core, problem, TOYS, PEER_TOYS, REPEATS)
        rate = {row["name"]: row["per_second"] for row in found}
        for row in found:
            row["units"] = rate[UNIT] / row["per_second"]
            row["numba"] = row["per_second"] / rate["iminuit, numba"]
            row["jax"] = row["per_second"] / rate["iminuit, jitted JAX"]
        rows += found
    drawn = fresh(drawing, TOYS, REPEATS)
    ours = [*(row for row in rows if row["name"].startswith("mx.")), drawn[0]]
    return {"rows": rows, "drawing": drawn, "migrax_failed": any(row["failed"] for row in ours)}


def tables(record: Row) -> list[Table]:
    columns = {"name": "", "toys": "toys", "per_second": "toys/s", "units": "values and gradients a toy"}
    columns |= {"numba": "x iminuit, numba", "jax": "x iminuit, JAX", "within": "at the minimum", "failed": "failed"}
    drawing = {"name": "", "per_count_ns": "ns a count", "off": "sigma off", "failed": "failed"}
    of = {name: [row for row in record["rows"] if row["problem"] == name] for name in PROBLEMS}
    fits = [
        Table(f"{name}: {BINS} bins, {PROBLEMS[name].truth.size} parameters, one core", rows, columns, ("per_second",))
        for name, rows in of.items()
    ]
    return [*fits, Table("Drawing them", record["drawing"], drawing, chart=("per_count_ns",))]


def check() -> list[str]:
    rows = [row for name in PROBLEMS for row in fresh(one_core, name, 300, 20, 1)] + fresh(drawing, 300, 1)
    return [f"{row.get('problem', 'drawing')}, {row['name']}: {row['failed']}" for row in rows if row["failed"]]


if __name__ == "__main__":
    main("toys", measure, tables, check)
