"""Toys: a peak in 100 bins, 3 parameters; everybody on one core, from the generating point with the true errors.

`mx.fit_toys` with exact errors and without second derivatives; `jax.vmap(mx.fit)`, a vmapped `optx.BFGS` and, where it
is installed (`pip install everwillow`), a vmapped `everwillow.fit`, which is BFGS in the parameters as given; iminuit,
one toy after the other, with a numba loop (numerical derivatives, as its users do it) and with jitted JAX value and
gradient. The unit is one value and gradient of a whole batch. The drawing of the toys is timed apart: `mx.sample` of a
`mx.PoissonNLL`, `jax.random.poisson` and NumPy.
"""

import importlib.util
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numba as nb
import numpy as np
import optimistix as optx
from iminuit import Minuit

from ._common import Row, Table, Timing, clock, fresh, main
from ._contestants import MINUIT_SAME, SAME, mx

BINS, BATCH = 100, 4096
TOYS, PEER_TOYS, REPEATS = 40_960, 200, 3
TRUTH = np.array([50.0, 0.3, 1.2])  # counts in the highest bin, mean, width
CENTRES = np.linspace(-4.95, 4.95, BINS)


def nll(x: Any, counts: Any) -> Any:
    """Minus log L above that of the saturated model."""
    z = (CENTRES - x[1]) / x[2]
    log_mu = jnp.log(x[0]) - 0.5 * z**2
    return jnp.sum(jnp.exp(log_mu) - counts * log_mu)


@nb.njit(fastmath=True)
def numba_nll(x: Any, counts: Any) -> float:
    total, log_a = 0.0, math.log(x[0])
    for i in range(counts.size):
        z = (CENTRES[i] - x[1]) / x[2]
        log_mu = log_a - 0.5 * z * z
        total += math.exp(log_mu) - counts[i] * log_mu
    return total


def toys(n: int, seed: int = 1) -> np.ndarray:
    mean = TRUTH[0] * np.exp(-0.5 * ((CENTRES - TRUTH[1]) / TRUTH[2]) ** 2)
    return np.random.default_rng(seed).poisson(mean, (n, BINS)).astype(float)


def _covariance() -> np.ndarray:
    mean = TRUTH[0] * np.exp(-0.5 * ((CENTRES - TRUTH[1]) / TRUTH[2]) ** 2)
    return np.linalg.inv(np.asarray(jax.hessian(nll)(jnp.asarray(TRUTH), mean)))


PARAMS = lambda: {"x": mx.Parameter(TRUTH)}  # noqa: E731


def _likelihood(p: Any, counts: Any) -> Any:
    return nll(p["x"], counts)


def _bfgs(data: Any) -> Any:
    root = np.linalg.cholesky(_covariance())
    solver = optx.BFGS(rtol=1e-6, atol=1e-6)

    def one(counts: Any) -> Any:
        fn = lambda u, args: nll(TRUTH + root @ u, args)  # noqa: E731
        found = optx.minimise(fn, solver, jnp.zeros(3), args=counts, max_steps=256, throw=False)
        return TRUTH + root @ found.value

    return jax.jit(jax.vmap(one))(data)


def _everwillow(data: Any) -> Any:
    import everwillow
    from everwillow import statelib

    start = statelib.State.from_pytree({"x": jnp.asarray(TRUTH)})
    fit = lambda counts: everwillow.fit(_likelihood, start, counts, throw=False).params["x"]  # noqa: E731
    return jax.jit(jax.vmap(fit))(data)


def _minuit(data: np.ndarray, kind: str) -> np.ndarray:
    errors = np.sqrt(np.diag(_covariance()))
    value, gradient = jax.jit(nll), jax.jit(jax.grad(nll))
    out = []

    def of(function: Any, counts: Any) -> Any:
        return lambda x: function(x, counts)

    for counts in data:
        if kind == "numba":
            fitted = Minuit(of(numba_nll, counts), TRUTH)
        else:
            on_device = jnp.asarray(counts)
            fitted = Minuit(of(value, on_device), TRUTH, grad=of(gradient, on_device))
        fitted.errordef = Minuit.LIKELIHOOD
        fitted.errors = errors
        fitted.migrad()
        out.append(np.array(fitted.values))
    return np.array(out)


def one_core(n: int, n_peer: int, repeats: int) -> list[Row]:
    """In a fresh process, pinned to one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    covariance = _covariance()
    data, errors = toys(n), np.sqrt(np.diag(covariance))
    unit = jax.jit(jax.vmap(jax.value_and_grad(nll)))
    batch, points = jnp.asarray(data[: min(BATCH, n)]), jnp.tile(TRUTH, (min(BATCH, n), 1))
    right = np.asarray(mx.fit_toys(_likelihood, PARAMS(), data, covariance=covariance).values)
    fit = jax.jit(jax.vmap(lambda counts: mx.fit(_likelihood, PARAMS(), counts).values))
    few = data[:n_peer]
    calls: dict[str, tuple[int, float, Callable[[], Any]]] = {
        "one batched value and gradient": (len(batch), 0.0, lambda: unit(points, batch)),
        "mx.fit_toys": (n, SAME, lambda: mx.fit_toys(_likelihood, PARAMS(), data, covariance=covariance).values),
        "mx.fit_toys, hesse=False": (
            n,
            SAME,
            lambda: mx.fit_toys(_likelihood, PARAMS(), data, covariance=covariance, hesse=False).values,
        ),
        "jax.vmap(mx.fit)": (len(batch), SAME, lambda: fit(batch)),
        "jax.vmap(optx.BFGS)": (len(batch), MINUIT_SAME, lambda: _bfgs(batch)),
        "iminuit, numba": (n_peer, MINUIT_SAME, lambda: _minuit(few, "numba")),
        "iminuit, jitted JAX": (n_peer, MINUIT_SAME, lambda: _minuit(few, "jax")),
    }
    if importlib.util.find_spec("everwillow") is not None:
        calls["jax.vmap(everwillow.fit)"] = (len(batch), MINUIT_SAME, lambda: _everwillow(batch))
    rows = []
    for name, (size, within, call) in calls.items():
        first = call()
        row: Row = {"name": name, "toys": size, "failed": None}
        if within:
            apart = np.max(np.abs(np.asarray(first) - right[:size]) / errors, axis=1)
            row["within"], row["off"] = float(np.mean(apart < within)), float(np.max(apart))
            row["failed"] = None if row["within"] > 0.99 else f"{1 - row['within']:.2g} of the toys are elsewhere"
        seconds = [clock(call) for _ in range(repeats)]
        row |= {"time": Timing.of(seconds).record(), "per_second": size / Timing.of(seconds).median}
        rows.append(row)
    return rows


def drawing(n: int, repeats: int) -> list[Row]:
    """Time of a Poisson count; in a fresh process, pinned to one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    mean = TRUTH[0] * np.exp(-0.5 * ((CENTRES - TRUTH[1]) / TRUTH[2]) ** 2)
    keys, rng = jax.random.split(jax.random.key(1), n), np.random.default_rng(1)
    likelihood = mx.PoissonNLL(lambda p: jnp.asarray(mean) + 0 * p["x"][0])
    ours = jax.jit(jax.vmap(lambda key: mx.sample(likelihood, PARAMS(), key)))
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
    rows, drawn = fresh(one_core, TOYS, PEER_TOYS, REPEATS), fresh(drawing, TOYS, REPEATS)
    rate = {row["name"]: row["per_second"] for row in rows}
    for row in rows:
        row["units"] = rate["one batched value and gradient"] / row["per_second"]
        row["numba"] = row["per_second"] / rate["iminuit, numba"]
        row["jax"] = row["per_second"] / rate["iminuit, jitted JAX"]
    ours = [*rows[1:3], drawn[0]]
    return {"rows": rows, "drawing": drawn, "migrax_failed": any(row["failed"] for row in ours)}


def tables(record: Row) -> list[Table]:
    columns = {"name": "", "toys": "toys", "per_second": "toys/s", "units": "values and gradients a toy"}
    columns |= {"numba": "x iminuit, numba", "jax": "x iminuit, JAX", "within": "at the minimum", "failed": "failed"}
    drawing = {"name": "", "per_count_ns": "ns a count", "off": "sigma off", "failed": "failed"}
    return [
        Table(f"{BINS} bins, 3 parameters, one core", record["rows"], columns, chart=("per_second",)),
        Table("Drawing them", record["drawing"], drawing, chart=("per_count_ns",)),
    ]


def check() -> list[str]:
    rows = [*fresh(one_core, 300, 20, 1), *fresh(drawing, 300, 1)]
    return [f"{row['name']}: {row['failed']}" for row in rows if row["failed"]]


if __name__ == "__main__":
    main("toys", measure, tables, check)
