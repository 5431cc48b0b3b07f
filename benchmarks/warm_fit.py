"""The tutorial's histogram fit when everything is compiled, on new data each time; and 1000 toys at once.

Timed are `mx.fit` called from Python, `mx.fit` inside a `jax.jit` of the user's own, and iminuit with the jitted value
and the jitted gradient (`migrad()`, then `hesse()`), at its own tolerance and at one that ends as near to the minimum
as migrax does. Then 1000 toys: `jax.vmap` of the fit, which takes them in lockstep, and `jax.lax.map`, one by one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _tutorial as tutorial
from ._common import Row, Table, Timing, clock, main, race
from ._contestants import SAME, TIGHT, Contestant, Fit, Minimum, iminuit, migrax, newton

DATASETS = 30
TOYS = 1000
PEER_TOYS = 50

VECTOR = tutorial.of_vector(tutorial.nll)


def contestants() -> list[Contestant]:
    return [
        migrax(tutorial.nll, tutorial.params, name="migrax, from Python"),
        migrax(tutorial.nll, tutorial.params, jit=True, name="migrax, in jax.jit"),
        iminuit(VECTOR, tutorial.LIMITS),
        iminuit(VECTOR, tutorial.LIMITS, tol=TIGHT, name=f"iminuit, tol={TIGHT:g}"),
    ]


def _minima(datasets: np.ndarray) -> list[Minimum]:
    return [newton(VECTOR, tutorial.TRUTH, data) for data in datasets]


def _row(contestant: Contestant, fits: list[Fit], minima: list[Minimum]) -> Row:
    complaints = [minimum.complaint(fit, contestant.within) for fit, minimum in zip(fits, minima, strict=True)]
    wrong = [complaint for complaint in complaints if complaint]
    evaluations = {key: float(np.mean([fit.evaluations[key] for fit in fits])) for key in fits[0].evaluations}
    return {
        "name": contestant.name,
        "fits": len(fits),
        "failed": f"{len(wrong)}: {wrong[0]}" if wrong else None,
        "errors_off": max(minimum.distance(fit.values) for fit, minimum in zip(fits, minima, strict=True)),
        **evaluations,
    }


def _single_fits() -> list[Row]:
    datasets = tutorial.toys(DATASETS)
    minima = _minima(datasets)
    on_device = [jnp.asarray(data) for data in datasets]
    players = contestants()
    rows = [_row(c, [c.fit(tutorial.START, data) for data in on_device], minima) for c in players]
    fit_for_timing = {c.name: c for c, row in zip(players, rows, strict=True) if not row["failed"]}
    calls = {n: lambda i, c=c: c.run(tutorial.START, on_device[i]) for n, c in fit_for_timing.items()}
    times = race(calls, DATASETS)
    peer = times.get("iminuit")
    for row in rows:
        if row["name"] in times:
            row["time"] = times[row["name"]].record()
            row["ratio"] = peer.median / times[row["name"]].median if peer else None
    return rows


@jax.jit
def in_lockstep(start: Any, toys: Any) -> Any:
    """All toys in one call, each operation on all of them."""
    return jax.vmap(lambda data: _fit(start, data))(toys)


@jax.jit
def one_by_one(start: Any, toys: Any) -> Any:
    """All toys in one call, one after the other."""
    return jax.lax.map(lambda data: _fit(start, data), toys)


def _fit(start: Any, data: Any) -> Any:
    return migrax(tutorial.nll, tutorial.params).run(start, data)


def wrong_toys(values: Any, toys: Any, within: float = SAME) -> np.ndarray:
    """Which ends are no minimum, by the exact derivatives there: an EDM above that of `within` errors, or a Hessian
    that is not positive definite."""

    def edm(x: Any, data: Any) -> Any:
        gradient, hessian = jax.grad(VECTOR)(x, data), jax.hessian(VECTOR)(x, data)
        positive = jnp.linalg.eigvalsh(hessian)[0] > 0
        return jnp.where(positive, 0.5 * gradient @ jnp.linalg.solve(hessian, gradient), jnp.inf)

    return ~(np.asarray(jax.jit(jax.vmap(edm))(values, toys)) < 0.5 * within**2)


def _toy_row(name: str, toys: Any, valid: Any, values: Any, seconds: list[float], within: float = SAME) -> Row:
    valid, wrong = np.asarray(valid), wrong_toys(values, toys, within)
    time = Timing.of(seconds)
    return {
        "name": name,
        "toys": len(toys),
        "within": within,
        "not_valid": int(np.sum(~valid)),
        "falsely_valid": int(np.sum(valid & wrong)),
        "time": time.record(),
        "fits_per_second": len(toys) / time.median,
    }


def _many_fits() -> list[Row]:
    toys = jnp.asarray(tutorial.toys(TOYS, seed=8))
    rows = [_together("migrax, jax.vmap", in_lockstep, toys), _together("migrax, jax.lax.map", one_by_one, toys)]
    names = ("iminuit, a loop", f"iminuit, tol={TIGHT:g}, a loop")
    peers = (iminuit(VECTOR, tutorial.LIMITS), iminuit(VECTOR, tutorial.LIMITS, tol=TIGHT))
    return rows + [_loop(name, peer, toys[:PEER_TOYS]) for name, peer in zip(names, peers, strict=True)]


def _together(name: str, fit_toys: Callable[[Any, Any], Any], toys: Any) -> Row:
    start = jnp.asarray(tutorial.START)
    result = fit_toys(start, toys)
    seconds = [clock(lambda: fit_toys(start, toys)) for _ in range(5)]
    return _toy_row(name, toys, result.valid, result.values, seconds)


def _loop(name: str, contestant: Contestant, toys: Any) -> Row:
    fits = [contestant.fit(tutorial.START, data) for data in toys]
    seconds = [clock(lambda: [contestant.run(tutorial.START, data) for data in toys]) for _ in range(3)]
    values = np.stack([fit.values for fit in fits])
    return _toy_row(name, toys, [fit.valid for fit in fits], jnp.asarray(values), seconds, contestant.within)


def measure() -> Row:
    single = _single_fits()
    many = _many_fits()
    failed = any(row["failed"] for row in single[:2]) or any(row["falsely_valid"] for row in many[:2])
    return {"single": single, "toys": many, "migrax_failed": bool(failed)}


def tables(record: Row) -> list[Table]:
    columns = {"name": "", "time": "a fit", "ratio": "faster than iminuit", "gradients": "gradients"}
    columns |= {"values": "values", "hessians": "Hessians", "errors_off": "errors off", "failed": "failed"}
    toys = {"name": "", "toys": "toys", "fits_per_second": "fits/s", "time": "all of them"}
    toys |= {"not_valid": "not valid", "falsely_valid": "falsely valid", "within": "within, errors"}
    return [
        Table(f"Warm fit, new data each time ({DATASETS} data sets)", record["single"], columns, chart=("time",)),
        Table("Toys from the tutorial's start", record["toys"], toys, chart=("fits_per_second",)),
    ]


def check() -> list[str]:
    datasets = tutorial.toys(3)
    minima = _minima(datasets)
    rows = [_row(c, [c.fit(tutorial.START, data) for data in datasets], minima) for c in contestants()]
    complaints = [f"{row['name']}: {row['failed']}" for row in rows if row["failed"]]
    result = in_lockstep(jnp.asarray(tutorial.START), jnp.asarray(datasets))
    lanes = ~np.asarray(result.valid) | wrong_toys(result.values, datasets)
    return complaints + ([f"jax.vmap: {int(np.sum(lanes))} of 3 toys failed"] if np.any(lanes) else [])


if __name__ == "__main__":
    main("warm_fit", measure, tables, check)
