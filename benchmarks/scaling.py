"""Fits of 2, 10, 50 and 200 parameters: a signal on a background in bins, with constrained systematic uncertainties.

The model is what a measurement looks like: a peak on a falling background, the two normalisations (their logs) and
n - 2 nuisance parameters of unit Gaussian constraints, each of which bends the background over a range of bins of its
own and moves the signal's yield a little. One function, the same for all. Five random starts each; the time of the
first call is that of a fresh process, after the imports.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from ._common import Row, Table, Timing, fresh, main, race
from ._contestants import TIGHT, Contestant, Fit, Minimum, iminuit, migrax, mx, newton, optimistix

SIZES = (2, 10, 50, 200)
STARTS = 5
REPEATS = 3
CONTESTANTS = ("migrax", "mx.Newton", "iminuit", "iminuit, no hesse", "iminuit, tight", "optx.BFGS")

Data = dict[str, Any]


def nll(x: Float[Array, " n"], data: Data) -> Scalar:
    """Minus log L of the counts, relative to the saturated model, and of the constraints' own measurements."""
    theta, n = x[2:], data["counts"]
    signal = jnp.exp(x[0] + theta @ data["on_signal"]) * data["signal"]
    background = jnp.exp(x[1] + theta @ data["on_background"]) * data["background"]
    nu = signal + background
    observed = jnp.where(n > 0, n, 1.0)
    poisson = jnp.where(n > 0, nu - n + n * jnp.log(observed / nu), nu)
    return jnp.sum(poisson) + 0.5 * jnp.sum((theta - data["measured"]) ** 2)


def problem(n: int, seed: int = 5) -> Data:
    """The templates, how the n - 2 nuisance parameters act on them, and one data set drawn at the truth (zeros)."""
    rng = np.random.default_rng(seed)
    bins, nuisances = max(50, 2 * n), n - 2
    x = (np.arange(bins) + 0.5) / bins
    signal = 2000 * np.exp(-0.5 * ((x - 0.4) / 0.05) ** 2) / (0.05 * np.sqrt(2 * np.pi) * bins)
    background = 400 * bins * np.exp(-2 * x) / np.sum(np.exp(-2 * x))
    centres, widths = rng.uniform(0, 1, nuisances), rng.uniform(0.05, 0.4, nuisances)
    shapes = rng.uniform(0.02, 0.1, (nuisances, 1)) * np.exp(-0.5 * ((x - centres[:, None]) / widths[:, None]) ** 2)
    return {
        "signal": signal,
        "background": background,
        "on_signal": rng.normal(0, 0.01, nuisances),
        "on_background": shapes * rng.choice([-1, 1], (nuisances, 1)),
        "counts": rng.poisson(signal + background).astype(float),
        "measured": rng.normal(0, 1, nuisances),
    }


def starts(n: int, count: int = STARTS) -> list[Float[np.ndarray, " n"]]:
    """Normalisations off by factors of up to 3, nuisance parameters spread as their constraints say."""
    rng = np.random.default_rng(11)
    norms = rng.uniform(-np.log(3), np.log(3), (count, 2))
    return list(np.concatenate([norms, rng.normal(0, 1, (count, n - 2))], axis=1))


def contestant(name: str) -> Contestant:
    same = lambda start: start  # noqa: E731 - a vector without bounds is a tree of parameters as it stands
    match name:
        case "migrax":
            return migrax(nll, same, jit=True)
        case "mx.Newton":
            return migrax(nll, same, mx.Newton(), jit=True, name=name)
        case "iminuit":
            return iminuit(nll)
        case "iminuit, no hesse":
            return iminuit(nll, hesse=False, name=name)
        case "iminuit, tight":
            return iminuit(nll, tol=TIGHT, name=name)
        case _:
            return optimistix(nll)


def _device(n: int) -> Data:
    return jax.tree.map(jnp.asarray, problem(n))


def first_call(name: str, n: int) -> float:
    """Runs in a fresh process: the seconds of the first fit."""
    data, start, player = _device(n), starts(n)[0], contestant(name)
    jax.block_until_ready(data)
    begin = time.perf_counter()
    jax.block_until_ready(player.run(start, data))
    return time.perf_counter() - begin


def _success(player: Contestant, fits: list[Fit], minimum: Minimum) -> Row:
    complaints = [minimum.complaint(fit, player.within) for fit in fits]
    good = [fit for fit, complaint in zip(fits, complaints, strict=True) if complaint is None]
    mean = {key: float(np.mean([fit.evaluations[key] for fit in good])) for key in good[0].evaluations} if good else {}
    return {
        "name": player.name,
        "successes": f"{len(good)}/{len(fits)}",
        "falsely_valid": sum("valid" in (c or "") and c != "not valid" for c in complaints),
        "failed": next((complaint for complaint in complaints if complaint), None),
        "errors_off": max((minimum.distance(fit.values) for fit in good), default=None),
        "evaluations": mean,
        **mean,
    }


def _size(n: int) -> list[Row]:
    data, points = _device(n), starts(n)
    minimum = newton(nll, np.zeros(n), data)
    players = [contestant(name) for name in CONTESTANTS]
    rows = []
    for player in players:
        rows.append({"parameters": n} | _success(player, [player.fit(point, data) for point in points], minimum))
    times = _times([p for p, row in zip(players, rows, strict=True) if row["failed"] is None], points, data)
    for row in rows:
        if row["name"] in times:
            row["time"] = times[row["name"]].record()
            row["ratio"] = times["iminuit"].median / times[row["name"]].median if "iminuit" in times else None
            row["first_call"] = fresh(first_call, row["name"], n)
    return rows


def _times(players: list[Contestant], points: list[Any], data: Data) -> dict[str, Timing]:
    """Only of those that came to the minimum from every start."""
    calls = {p.name: lambda i, p=p: p.run(points[i % len(points)], data) for p in players}
    return race(calls, REPEATS * len(points))


def measure() -> Row:
    rows = [row for n in SIZES for row in _size(n)]
    failed = any(row["failed"] for row in rows if row["name"] == "migrax")
    return {"rows": rows, "migrax_failed": failed}


def tables(record: Row) -> list[Table]:
    columns = {"parameters": "parameters", "name": "", "successes": "right", "time": "warm fit"}
    columns |= {"ratio": "faster than iminuit", "first_call": "first call, s", "gradients": "gradients"}
    columns |= {"values": "values", "hessians": "Hessians", "steps": "steps", "errors_off": "errors off"}
    title = f"From {STARTS} random starts"
    return [Table(title, record["rows"], columns | {"failed": "failed"}, chart=("time",), x="parameters")]


def check() -> list[str]:
    wrong = []
    for n in SIZES[:2]:
        data = _device(n)
        minimum = newton(nll, np.zeros(n), data)
        for player in map(contestant, ("migrax", "iminuit")):
            row = _success(player, [player.fit(point, data) for point in starts(n, 2)], minimum)
            wrong += [f"{player.name}, {n} parameters: {row['failed']}"] if row["failed"] else []
    return wrong


if __name__ == "__main__":
    main("scaling", measure, tables, check)
