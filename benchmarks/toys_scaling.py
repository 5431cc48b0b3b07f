"""Toys of larger and smaller problems, and many or few of them.

`parameters`: 1000 bins with 10, 50 and 200 constrained parameters, one core: `mx.fit_toys` beside a vmapped `optx.BFGS`
and iminuit with jitted value and gradient, in units of one value and gradient of a batch of 64. `events`: 100 events
without bins, beside iminuit with numba. `number`: 1 to 10⁶ toys of the 100-bin problem of `benchmarks.toys`, drawn and
fitted, all of which `reduce` keeps the values: the time of one call from Python, and the peak memory. `devices`: the
same on one core, on two cores, and over two devices that share the two cores.
"""

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

from . import toys
from ._common import Row, Table, Timing, clock, fresh, main, peak
from ._contestants import MINUIT_SAME, SAME, mx

PARAMETERS = {10: (2048, 20), 50: (1024, 10), 200: (512, 4)}  # toys, of which iminuit fits so many
BINS, BASE, UNIT_LANES = 1000, 100.0, 64
NUMBERS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
EVENTS, EVENT_TOYS = 100, 20_000


def one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _row(name: str, n: int, call: Callable[[], Any], right: np.ndarray, errors: np.ndarray, within: float) -> Row:
    """Time of a call that has been made once, and how many of its answers are right."""
    apart = np.max(np.abs(np.asarray(call()) - right[:n]) / errors, axis=1)
    row: Row = {"name": name, "toys": n, "within": float(np.mean(apart < within)), "off": float(np.max(apart))}
    row["failed"] = None if row["within"] > 0.99 else f"{1 - row['within']:.2g} of the toys are elsewhere"
    time = Timing.of([clock(call) for _ in range(3)])
    return row | {"time": time.record(), "per_second": n / time.median}


def _bfgs(fn: Callable[[Any, Any], Any], root: Any) -> Callable[[Any], Any]:
    solver = optx.BFGS(rtol=1e-6, atol=1e-6)

    def one(toy: Any) -> Any:
        start = jnp.zeros(root.shape[0])
        return optx.minimise(
            lambda u, toy: fn(root @ u, toy), solver, start, args=toy, max_steps=256, throw=False
        ).value

    return jax.jit(jax.vmap(one))


def parameters(n: int, n_toys: int, n_minuit: int) -> list[Row]:
    """Bins whose logarithms move with all parameters, and a normal constraint on each of these; in a fresh process."""
    one_core()
    rng = np.random.default_rng(n)
    slopes = jnp.asarray(rng.normal(0.0, 0.05, (BINS, n)))

    def nll(x: Any, toy: Any) -> Any:
        log_mean = slopes @ x
        counts = BASE * jnp.exp(log_mean) - toy["n"] * log_mean
        return jnp.sum(counts) + 0.5 * jnp.sum((x - toy["a"]) ** 2)

    likelihood = lambda p, toy: nll(p["x"], toy)  # noqa: E731
    data = {"n": rng.poisson(BASE, (n_toys, BINS)) * 1.0, "a": rng.normal(size=(n_toys, n))}
    data = jax.tree.map(jnp.asarray, data)
    expected = {"n": jnp.full(BINS, BASE), "a": jnp.zeros(n)}
    covariance = jnp.linalg.inv(jax.hessian(nll)(jnp.zeros(n), expected))
    errors, root = np.sqrt(np.diag(covariance)), jnp.linalg.cholesky(covariance)
    params = {"x": mx.Parameter(jnp.zeros(n))}
    fit = lambda hesse: mx.fit_toys(likelihood, params, data, covariance=covariance, hesse=hesse)  # noqa: E731
    right = np.asarray(fit(True).values)
    unit = jax.jit(jax.vmap(jax.value_and_grad(nll)))
    few, points = jax.tree.map(lambda a: a[:UNIT_LANES], data), jnp.zeros((UNIT_LANES, n))
    jax.block_until_ready(unit(points, few))
    one = Timing.of([clock(lambda: unit(points, few)) for _ in range(20)])
    rows: list[Row] = [
        {"name": "one batched value and gradient", "toys": UNIT_LANES, "per_second": UNIT_LANES / one.median}
    ]
    rows[0] |= {"time": one.record(), "failed": None}
    some = jax.tree.map(lambda a: a[:64], data)
    rows.append(_row("mx.fit_toys", n_toys, lambda: fit(True).values, right, errors, SAME))
    rows.append(_row("mx.fit_toys, hesse=False", n_toys, lambda: fit(False).values, right, errors, SAME))
    bfgs, minuit = _bfgs(nll, root), _minuit(nll, n, errors)
    one_by_one = [jax.tree.map(lambda a, i=i: a[i], data) for i in range(n_minuit)]
    rows.append(_row("jax.vmap(optx.BFGS)", 64, lambda: bfgs(some) @ root.T, right, errors, MINUIT_SAME))
    rows.append(_row("iminuit, jitted JAX", n_minuit, lambda: minuit(one_by_one), right, errors, MINUIT_SAME))
    return [row | {"parameters": n} for row in rows]


def _of(function: Any, toy: Any) -> Callable[[Any], Any]:
    return lambda x: function(x, toy)


def _minuit(nll: Any, n: int, errors: np.ndarray) -> Callable[[Any], np.ndarray]:
    value, gradient = jax.jit(nll), jax.jit(jax.grad(nll))

    def one(toy: Any) -> np.ndarray:
        fitted = Minuit(_of(value, toy), np.zeros(n), grad=_of(gradient, toy))
        fitted.errordef, fitted.errors = Minuit.LIKELIHOOD, errors
        fitted.migrad()
        return np.array(fitted.values)

    return lambda toys: np.array([one(toy) for toy in toys])


@nb.njit(fastmath=True)
def numba_events(x: Any, events: Any) -> float:
    total, log_sigma = 0.0, math.log(x[1])
    for i in range(events.size):
        z = (events[i] - x[0]) / x[1]
        total += 0.5 * z * z + log_sigma
    return total


def events(n_toys: int, n_minuit: int) -> list[Row]:
    """100 events of a normal distribution, mean and width; in a fresh process."""
    one_core()
    data = np.random.default_rng(1).normal(0.5, 2.0, (n_toys, EVENTS))
    nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Normal(p["x"][0], p["x"][1]))
    params = {"x": mx.Parameter(np.array([0.5, 2.0]))}
    covariance = np.diag([4.0 / EVENTS, 2.0 / EVENTS])
    errors = np.sqrt(np.diag(covariance))
    right = np.stack([data.mean(axis=1), data.std(axis=1)], axis=1)

    def value(x: Any, e: Any) -> Any:
        z = (e - x[0]) / x[1]
        return jnp.sum(0.5 * z**2) + EVENTS * jnp.log(x[1])

    unit = jax.jit(jax.vmap(jax.value_and_grad(value)))
    batch = jnp.asarray(data[:1024])
    points = jnp.tile(jnp.array([0.5, 2.0]), (len(batch), 1))
    jax.block_until_ready(unit(points, batch))
    one = Timing.of([clock(lambda: unit(points, batch)) for _ in range(20)])
    rows: list[Row] = [
        {"name": "one batched value and gradient", "toys": len(batch), "per_second": len(batch) / one.median}
    ]
    rows[0] |= {"time": one.record(), "failed": None}
    for name, hesse in (("mx.fit_toys", True), ("mx.fit_toys, hesse=False", False)):
        call = lambda hesse=hesse: mx.fit_toys(nll, params, data, covariance=covariance, hesse=hesse).values  # noqa: E731
        rows.append(_row(name, n_toys, call, right, errors, SAME))

    def minuit() -> np.ndarray:
        out = []
        for toy in data[:n_minuit]:
            fitted = Minuit(_of(numba_events, toy), np.array([0.5, 2.0]))
            fitted.errordef, fitted.errors = Minuit.LIKELIHOOD, errors
            fitted.migrad()
            out.append(np.array(fitted.values))
        return np.array(out)

    rows.append(_row("iminuit, numba", n_minuit, minuit, right, errors, MINUIT_SAME))
    return rows


def number(n: int, cores: int, devices: int = 1) -> Row:
    """Toys of the 100-bin problem, drawn where they are fitted; in a fresh process."""
    if cores == 1:
        one_core()
    nll = mx.PoissonNLL(_mean)
    mesh = None if devices == 1 else jax.make_mesh((devices,), ("toys",))
    problem = toys.PROBLEMS[toys.CENTRE]
    covariance, params = toys._covariance(problem), toys._params(problem)

    def fit(seed: int) -> list[Any]:
        study = mx.Toys(n, jax.random.key(seed))
        keep = lambda r: (np.asarray(r.values), np.asarray(r.valid))  # noqa: E731
        return mx.reduce_toys(keep, nll, params, study, covariance=covariance, mesh=mesh)

    start = clock(lambda: fit(0))
    before = peak()
    seconds = [clock(lambda i=i: fit(i)) for i in range(1, 2 if n > 100_000 else 4)]
    found = fit(9) if n <= 100_000 else fit(0)
    valid = float(np.mean(np.concatenate([v for _, v in found])))
    time = Timing.of(seconds)
    row: Row = {"toys": n, "cores": cores, "devices": devices, "first_s": start, "time": time.record()}
    row |= {"per_second": n / time.median, "peak_mb": max(peak(), before), "valid": valid}
    return row | {"failed": None if valid > 0.999 else f"{1 - valid:.2g} of the fits are not valid"}


def _mean(p: Any) -> Any:
    return p["x"][0] * jnp.exp(-0.5 * ((toys.CENTRES - p["x"][1]) / p["x"][2]) ** 2)


def over_devices(n: int) -> Row:
    """Two devices of XLA for the two cores, in a process that asks for them."""
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=2"
    try:
        return fresh(number, n, 2, 2)
    finally:
        os.environ["XLA_FLAGS"] = flags


def measure() -> Row:
    many = [row for n, (n_toys, few) in PARAMETERS.items() for row in fresh(parameters, n, n_toys, few)]
    short = fresh(events, EVENT_TOYS, 300)
    for rows in ([r for r in many if r["parameters"] == n] for n in PARAMETERS):
        _ratios(rows, "iminuit, jitted JAX")
    _ratios(short, "iminuit, numba")
    numbers = [fresh(number, n, 2) for n in NUMBERS]
    spread = [fresh(number, 100_000, 1), fresh(number, 100_000, 2), over_devices(100_000)]
    ours = [row for row in [*many, *short] if row["name"].startswith("mx.")] + numbers + spread
    record = {"parameters": many, "events": short, "number": numbers, "devices": spread}
    return record | {"migrax_failed": any(row["failed"] for row in ours)}


def _ratios(rows: list[Row], peer: str) -> None:
    rate = {row["name"]: row["per_second"] for row in rows}
    for row in rows:
        row["units"] = rate["one batched value and gradient"] / row["per_second"]
        row["faster"] = row["per_second"] / rate[peer]


def tables(record: Row) -> list[Table]:
    columns = {"name": "", "toys": "toys", "per_second": "toys/s", "units": "values and gradients a toy"}
    columns |= {"faster": "x iminuit", "within": "at the minimum", "failed": "failed"}
    rate, drawn = ("per_second",), {"toys": "toys", "time": "one call", "per_second": "toys/s"}
    drawn |= {"first_s": "first call, s", "peak_mb": "peak, MB", "failed": "failed"}
    spread = {"cores": "cores", "devices": "devices", "per_second": "toys/s", "failed": "failed"}
    wide = {"parameters": "parameters"} | columns
    return [
        Table("1000 bins, one core", record["parameters"], wide, chart=rate, x="parameters"),
        Table("100 events, 2 parameters, one core", record["events"], columns, chart=rate),
        Table("100 bins, 3 parameters, drawn and fitted", record["number"], drawn, chart=rate, x="toys"),
        Table("The same: 100,000 toys", record["devices"], spread),
    ]


def check() -> list[str]:
    rows = [*fresh(parameters, 10, 64, 2), *fresh(events, 200, 5), fresh(number, 300, 2)]
    return [f"{row.get('name', 'number')}: {row['failed']}" for row in rows if row["failed"]]


if __name__ == "__main__":
    main("toys_scaling", measure, tables, check)
