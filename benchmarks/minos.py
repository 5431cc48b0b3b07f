"""MINOS, a profile, a contour and impacts of a binned fit with many nuisance parameters, beside iminuit with jitted
value and gradient.

A signal on a background in 100 bins, whose shape 50 (or 200) constrained nuisance parameters bend. Timed are all
crossings in one call, a profile of the signal strength on 30 points, a contour of 100 points, the impacts of all
nuisance parameters, and, as a measure of the work, one batched value and gradient of as many lanes. An answer is
checked before it is timed: the rise of the likelihood at each crossing. A peer's call that takes minutes is made once;
of the impacts and of the crossings of 201 parameters iminuit does a few, and the rest is extrapolated.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from iminuit import Minuit

import migrax as mx

from ._common import Row, Table, clock, main, race

BINS = 100
REPEATS = 7
POINTS = 30
CONTOUR = 100
SIZES = (50, 200)
SAMPLE = 4  # parameters of which iminuit does what is extrapolated
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
    rows: list[Row] = [
        {"name": name, "time": time.record(), "off": off if name == "migrax" else None} for name, time in times.items()
    ]
    rows[0]["gradients"] = float(np.mean(minos.stats["num_gradients"]))
    m = problem.minuit()
    which = range(problem.size) if problem.size <= 60 else range(SAMPLE)
    seconds = clock(lambda: (m.minos(*(m.parameters[i] for i in which)), 0)[1])
    rows.append(_peer(rows[0], "iminuit", seconds * problem.size / len(which), len(which) < problem.size))
    theirs = np.array([[m.merrors[i].lower, m.merrors[i].upper] for i in which])
    ours = np.stack([minos.lower, minos.upper], 1)[: len(which)]
    rows[-1]["off"] = float(np.max(np.abs(theirs / ours - 1)))
    return rows


def _peer(ours: Row, name: str, seconds: float, extrapolated: bool = False) -> Row:
    """The record of one call of the peer, and the ratio in that of migrax."""
    ours["ratio"] = seconds / ours["time"]["median_s"]
    time = {"median_s": seconds, "q25_s": seconds, "q75_s": seconds, "repeats": 1}
    return {"name": name + (" (extrapolated)" if extrapolated else ""), "time": time}


def _contour(problem: Problem) -> list[Row]:
    """Two parameters, 68 %."""

    def ours(i: int) -> Any:
        return mx.contour(problem.nll, problem.result, problem.data, ("mu", "nu[0]"), size=CONTOUR)

    contour = ours(0)
    least = float(problem.value(problem.result.values))
    rise = 0.5 * float(contour.rise)
    off = max(abs(float(problem.value(x)) - least - rise) for x in contour.points) / rise
    times = race({"migrax": lambda i: ours(i).points}, REPEATS)
    rows: list[Row] = [{"name": "migrax", "time": times["migrax"].record(), "off": off}]
    m = problem.minuit()
    seconds = clock(lambda: (m.mncontour("x0", "x1", cl=0.68, size=CONTOUR), 0)[1])
    return [*rows, _peer(rows[0], "iminuit", seconds)]


def _impacts(problem: Problem) -> list[Row]:
    """Of all nuisance parameters on the signal strength, before and after the fit: four refits each."""

    def ours(i: int) -> Any:
        return mx.impacts(problem.nll, problem.result, problem.data, "mu", prefit={"nu": (0.0, 1.0)})

    impacts = ours(0)
    times = race({"migrax": lambda i: ours(i).postfit_up}, REPEATS)
    rows: list[Row] = [{"name": "migrax", "time": times["migrax"].record()}]
    m = problem.minuit()
    values, errors = np.array(m.values), np.array(m.errors)
    moved = np.empty((SAMPLE, 2))

    def theirs() -> int:
        for k in range(SAMPLE):
            for column, shift in enumerate((errors[k + 1], -errors[k + 1], 1.0, -1.0)):
                m.values[:] = values
                m.values[k + 1] = values[k + 1] + shift
                m.fixed[k + 1] = True
                m.migrad()
                if column < 2:
                    moved[k, column] = m.values[0] - values[0]
                m.fixed[k + 1] = False
        return 0

    seconds = clock(theirs) * (problem.size - 1) / SAMPLE
    rows.append(_peer(rows[0], "iminuit", seconds, extrapolated=True))
    both = np.stack([impacts.postfit_up, impacts.postfit_down], axis=1)[:SAMPLE]
    rows[-1]["off"] = float(np.max(np.abs(moved - both)) / problem.result.errors[0])
    return rows


def _profile(problem: Problem) -> list[Row]:
    profile = mx.profile(problem.nll, problem.result, problem.data, "mu", POINTS)
    times = race({"migrax": lambda i: mx.profile(problem.nll, problem.result, problem.data, "mu", POINTS).nll}, REPEATS)
    m, grid = problem.minuit(), np.asarray(profile.grid[0])
    found: list[Any] = []
    seconds = clock(lambda: (found.append(m.mnprofile("x0", grid=grid)), 0)[1])
    higher = float(np.max(found[0][1] - np.asarray(profile.nll)))
    rows: list[Row] = [{"name": "migrax", "time": times["migrax"].record()}]
    rows.append(_peer(rows[0], "iminuit", seconds))
    rows[-1]["off"] = higher
    return rows


def measure() -> Row:
    record: Row = {"migrax_failed": False}

    def keep(key: str, rows: list[Row]) -> None:
        record[key] = rows
        record["migrax_failed"] |= (rows[0].get("off") or 0.0) > CLOSE

    for nuisances in SIZES:
        problem = Problem(nuisances)
        keep(f"minos_{nuisances}", _crossings(problem))
        if nuisances == SIZES[0]:
            keep(f"profile_{nuisances}", _profile(problem))
            keep(f"contour_{nuisances}", _contour(problem))
        keep(f"impacts_{nuisances}", _impacts(problem))
    return record


def tables(record: Row) -> list[Table]:
    columns = {
        "name": "",
        "time": "time",
        "ratio": "faster than iminuit",
        "gradients": "gradients a side",
        "off": "off",
    }
    return [Table(title, record[key], columns, chart=("time",)) for key, title in _titles().items()]


def _titles() -> dict[str, str]:
    titles = {}
    for nuisances in SIZES:
        sides = 2 * (nuisances + 1)
        titles[f"minos_{nuisances}"] = f"All {sides} crossings of {nuisances + 1} parameters, {BINS} bins"
        if nuisances == SIZES[0]:
            titles[f"profile_{nuisances}"] = f"A profile of {POINTS} points with {nuisances} nuisance parameters"
            titles[f"contour_{nuisances}"] = f"A contour of {CONTOUR} points with {nuisances - 1} nuisance parameters"
        titles[f"impacts_{nuisances}"] = f"Impacts of {nuisances} nuisance parameters"
    return titles


def check() -> list[str]:
    problem = Problem(5)
    minos = mx.minos(problem.nll, problem.result, problem.data)
    off = max(problem.off(minos.lower_points), problem.off(minos.upper_points))
    return [] if off <= CLOSE and bool(jnp.all(minos.valid)) else [f"the rise at a crossing is off by {off:g}"]


if __name__ == "__main__":
    main("minos", measure, tables, check)
