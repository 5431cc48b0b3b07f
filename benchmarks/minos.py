"""MINOS and a profile of a binned fit with many nuisance parameters, beside iminuit with jitted value and gradient.

A signal on a background in 100 bins, whose shape 50 (or 200) constrained nuisance parameters bend. Timed are all
crossings in one call, a profile of the signal strength on 30 points, and, as a measure of the work, one batched value
and gradient of as many lanes. An answer is checked before it is timed: the rise of the likelihood at each crossing.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from iminuit import Minuit

import migrax as mx

from ._common import Row, clock, main, race, table

BINS = 100
REPEATS = 7
POINTS = 30
SIZES = (50, 200)
CLOSE = 1e-9  # of UP: what the rise at a crossing may be off


class Problem:
    def __init__(self, nuisances: int):
        t = np.linspace(0, 1, BINS)
        signal = jnp.asarray(30 * np.exp(-0.5 * ((t - 0.5) / 0.05) ** 2))
        background = jnp.asarray(100 * np.exp(-2 * t) + 5)
        shapes = jnp.asarray(np.array([0.05 * np.sin((k + 1) * np.pi * t / 7 + k) for k in range(nuisances)]))

        def nll(p: Any, d: Any) -> Any:
            mu = p["mu"] * signal + background * jnp.exp(p["nu"] @ shapes)
            ratio = jnp.where(d > 0, d, 1.0) / mu
            poisson = jnp.sum(mu - d + jnp.where(d > 0, d * jnp.log(ratio), 0.0))
            return poisson + 0.5 * jnp.sum(p["nu"] ** 2)

        self.nll, self.size = nll, nuisances + 1
        self.data = jnp.asarray(np.random.default_rng(0).poisson(np.asarray(signal + background)), float)
        self.result = mx.fit(nll, {"mu": 1.0, "nu": jnp.zeros(nuisances)}, self.data)
        self.value = jax.jit(lambda x: nll({"mu": x[0], "nu": x[1:]}, self.data))
        self.gradient = jax.jit(jax.grad(self.value))

    def minuit(self) -> Minuit:
        m = Minuit(self.value, np.asarray(self.result.values), grad=self.gradient)
        m.errordef = Minuit.LIKELIHOOD
        m.migrad()
        m.hesse()
        return m

    def off(self, points: Any) -> float:
        """How far the rise at crossings is off the UP that was asked for."""
        least = float(self.value(self.result.values))
        return max(abs(float(self.value(x)) - least - 0.5) for x in points)


def _crossings(problem: Problem) -> list[Row]:
    minos = mx.minos(problem.nll, problem.result, problem.data)
    off = max(problem.off(minos.lower_points), problem.off(minos.upper_points))
    lanes = jax.jit(jax.vmap(jax.value_and_grad(problem.value)))
    x = jnp.broadcast_to(problem.result.values, (2 * problem.size, problem.size)) + 0.0
    jax.block_until_ready(lanes(x))
    calls = {
        "migrax": lambda i: mx.minos(problem.nll, problem.result, problem.data).lower,
        "one value and gradient a lane": lambda i: lanes(x),
    }
    times = race(calls, REPEATS)
    rows = [
        {"name": name, "time": time.record(), "off": off if name == "migrax" else None} for name, time in times.items()
    ]
    if problem.size <= 60:  # iminuit takes an hour for 200
        m = problem.minuit()
        seconds = clock(lambda: (m.minos(), 0)[1])
        rows.append(
            {"name": "iminuit", "time": {"median_s": seconds, "q25_s": seconds, "q75_s": seconds, "repeats": 1}}
        )
        rows[0]["ratio"] = seconds / rows[0]["time"]["median_s"]
        rows[-1]["off"] = _off_of_iminuit(problem, m)
    return rows


def _off_of_iminuit(problem: Problem, m: Minuit) -> float:
    """The largest relative difference of its errors from those of migrax."""
    minos = mx.minos(problem.nll, problem.result, problem.data)
    theirs = np.array([[m.merrors[i].lower, m.merrors[i].upper] for i in range(problem.size)])
    return float(np.max(np.abs(theirs / np.stack([minos.lower, minos.upper], 1) - 1)))


def _profile(problem: Problem) -> list[Row]:
    profile = mx.profile(problem.nll, problem.result, problem.data, "mu", POINTS)
    times = race({"migrax": lambda i: mx.profile(problem.nll, problem.result, problem.data, "mu", POINTS).nll}, REPEATS)
    m, grid = problem.minuit(), np.asarray(profile.grid[0])
    found: list[Any] = []
    seconds = clock(lambda: (found.append(m.mnprofile("x0", grid=grid)), 0)[1])
    higher = float(np.max(found[0][1] - np.asarray(profile.nll)))
    rows = [{"name": "migrax", "time": times["migrax"].record(), "ratio": seconds / times["migrax"].median}]
    rows.append({"name": "iminuit", "time": {"median_s": seconds, "q25_s": seconds, "q75_s": seconds, "repeats": 1}})
    rows[-1]["off"] = higher
    return rows


def measure() -> Row:
    columns = {"name": "", "time": "time", "ratio": "faster than iminuit", "off": "off"}
    record: Row = {"migrax_failed": False}
    for nuisances in SIZES:
        problem = Problem(nuisances)
        rows = _crossings(problem)
        table(f"All {2 * problem.size} crossings of {problem.size} parameters, {BINS} bins", rows, columns)
        record[f"minos_{nuisances}"] = rows
        record["migrax_failed"] |= rows[0]["off"] > CLOSE
        if nuisances == SIZES[0]:
            rows = _profile(problem)
            table(f"A profile of {POINTS} points with {nuisances} nuisance parameters", rows, columns)
            record[f"profile_{nuisances}"] = rows
    return record


def check() -> list[str]:
    problem = Problem(5)
    minos = mx.minos(problem.nll, problem.result, problem.data)
    off = max(problem.off(minos.lower_points), problem.off(minos.upper_points))
    return [] if off <= CLOSE and bool(jnp.all(minos.valid)) else [f"the rise at a crossing is off by {off:g}"]


if __name__ == "__main__":
    main("minos", measure, check)
