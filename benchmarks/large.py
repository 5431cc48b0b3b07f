"""Thousands of nuisance parameters on 10 processes in 3,000 bins, as in a measurement of the W mass.

`dense`: each parameter has up and down templates of all processes in all bins, log-normal, with a smooth interpolation
between them, as matrices of float64 that a seed makes: 10 x 3,000 x n x 2. `sparse`: each parameter moves one process
in 60 neighbouring bins (`mx.SparseEffects`). All have normal constraints of width 1; the signal strength is free. The
prior uncertainty of a bin is some 4 %, its Poisson error 1 %, so the data pull and constrain the parameters.

`mx.fit` with the error of the signal strength, and with those of all parameters; iminuit's MIGRAD and Optimistix' BFGS
with the same jitted value and gradient, where they finish. Each in a fresh process; `first` has everything after the
data, compilation too, `warm` is the same again. `peak` is the memory of the process above that before the fit, which
holds the templates.

`workspace`: a workspace in pyhf's format of 50, 500 and 2,000 modifiers: reading, the first fit, and what follows it.
`names`: the same likelihood of 100 bins with as many scalar parameters as names, and with one vector; the error of the
signal strength.
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from ._common import Row, Table, clock, fresh, main, peak, reset_peak
from ._contestants import mx
from ._large_workspace import workspace

SAMPLES, BINS = 10, 3000
DENSE, SPARSE = (300, 1000, 4000), (300, 1000, 3000, 5000)
TOUCHED = 60  # bins that a parameter of the sparse model moves
MODIFIERS, NAMES = (50, 500, 2000), (50, 1000, 5000)
LONGEST = 120.0  # seconds given to a peer
POI, ALL, MINUIT, BFGS = "mx.fit, error of the POI", "mx.fit, all errors", "iminuit", "optx.BFGS"
SAME = 1e-3  # of an error: how near two answers are


def interpolated(theta: Any) -> Any:
    """The part of an effect that is even in its parameter: the quintic that joins |theta| smoothly at 1."""
    t = jnp.clip(theta, -1.0, 1.0)
    return jnp.where(jnp.abs(theta) < 1, t * t * (15 - 10 * t * t + 3 * t**4) / 8, jnp.abs(theta))


class Dense(eqx.Module):
    nominal: jax.Array  # (SAMPLES, BINS)
    mean: jax.Array  # (n, SAMPLES * BINS): half the difference of the logs of the up and down templates
    half: jax.Array  # half their sum

    def __call__(self, params: Any) -> Any:
        theta = params["theta"]
        logs = theta @ self.mean + interpolated(theta) @ self.half
        rates = self.nominal * jnp.exp(logs.reshape(SAMPLES, BINS))
        return rates.at[0].multiply(params["mu"]).sum(axis=0)


class Sparse(eqx.Module):
    nominal: jax.Array
    effects: Any  # mx.SparseEffects

    def __call__(self, params: Any) -> Any:
        rates = self.nominal * jnp.exp(self.effects(params["theta"]))
        return rates.at[0].multiply(params["mu"]).sum(axis=0)


def nominal(rng: np.random.Generator) -> np.ndarray:
    x = np.linspace(0.0, 1.0, BINS)
    peaks = np.exp(-0.5 * ((x - rng.uniform(size=(SAMPLES, 1))) / 0.2) ** 2)
    return 2e4 * peaks + 500.0


def dense(n: int) -> Dense:
    rng, x = np.random.default_rng(n), np.linspace(0.0, 1.0, BINS)
    base = nominal(rng)
    mean, half = np.empty((n, SAMPLES * BINS)), np.empty((n, SAMPLES * BINS))
    for k in range(n):
        size = 0.04 / np.sqrt(n) * np.exp(rng.normal(size=(SAMPLES, 1))) * (rng.uniform(size=(SAMPLES, 1)) < 0.5)
        waves = rng.uniform(0.5, 6.0, (SAMPLES, 1)) * 2 * np.pi * x + rng.uniform(0, 2 * np.pi, (SAMPLES, 1))
        mean[k], half[k] = (size * np.sin(waves)).ravel(), (0.1 * size * np.cos(waves)).ravel()
    return Dense(jnp.asarray(base), jnp.asarray(mean), jnp.asarray(half))


def sparse(n: int) -> Sparse:
    rng = np.random.default_rng(n)
    base = nominal(rng)
    sample, first = rng.integers(0, SAMPLES, n), rng.integers(0, BINS - TOUCHED, n)
    bins = first[:, None] + np.arange(TOUCHED)
    shape = np.sin(np.linspace(0.0, np.pi, TOUCHED)) * 0.04 * np.exp(0.5 * rng.normal(size=(n, 1)))
    which, samples = (np.repeat(a, TOUCHED) for a in (np.arange(n), sample))
    effects = mx.SparseEffects(which, (samples, bins.ravel()), shape.ravel(), size=n, shape=(SAMPLES, BINS))
    return Sparse(jnp.asarray(base), effects)


def problem(kind: str, n: int) -> tuple[Any, Any, Any]:
    """The likelihood, its start and its data."""
    model = {"dense": dense, "sparse": sparse}[kind](n)
    rng = np.random.default_rng(1)
    truth = {"mu": jnp.asarray(1.0), "theta": jnp.asarray(0.5 * rng.normal(size=n))}
    nll = mx.Joint({"main": mx.PoissonNLL(model), "prior": mx.NormalConstraint("theta", jnp.ones(n))})
    data = {"main": rng.poisson(np.asarray(model(truth))), "prior": np.asarray(truth["theta"]) + rng.normal(size=n)}
    return nll, {"mu": mx.Parameter(1.0), "theta": mx.Parameter(jnp.zeros(n))}, data


def gradient_time(nll: Any, params: Any, data: Any) -> float:
    """Seconds of one value and gradient."""
    arrays, static = eqx.partition(nll, eqx.is_array)
    run = jax.jit(jax.value_and_grad(lambda p, arrays: eqx.combine(arrays, static)(p, data)))
    at = mx.resolve(params)
    jax.block_until_ready(run(at, arrays))
    return min(clock(lambda: run(at, arrays)) for _ in range(3))


def ours(kind: str, n: int, name: str, repeats: int) -> Row:
    """In a fresh process."""
    nll, params, data = problem(kind, n)
    options = {"errors": "mu"} if name == POI else {}
    before, begun, cpu = reset_peak(), time.perf_counter(), time.process_time()
    result = mx.fit(nll, params, data, **options)
    first, cpu = time.perf_counter() - begun, time.process_time() - cpu
    top = peak()
    warm = [clock(lambda: mx.fit(nll, params, data, **options).values) for _ in range(repeats)]
    row: Row = {"first_s": first, "cpu_s": cpu, "warm_s": min(warm) if warm else None, "peak_gb": (top - before) / 1e3}
    row |= {"mu": float(result["mu"].value), "error": float(result["mu"].error), "nll": float(result.nll)}
    row |= {key: int(result.stats[key]) for key in ("num_gradients", "num_hessians")}
    row["gradients"] = first / gradient_time(nll, params, data)
    return row | {"failed": None if bool(result.valid) else result.message}


def minuit(kind: str, n: int) -> Row:
    """In a fresh process: MIGRAD alone, strategy 0; HESSE is not run."""
    from iminuit import Minuit

    nll, params, data = problem(kind, n)
    arrays, static = eqx.partition(nll, eqx.is_array)
    at = lambda x: {"mu": x[0], "theta": x[1:]}  # noqa: E731
    both = jax.jit(jax.value_and_grad(lambda x, a: eqx.combine(a, static)(at(x), data)))
    begun = time.perf_counter()
    fitted = Minuit(lambda x: float(both(x, arrays)[0]), np.r_[1.0, np.zeros(n)], grad=lambda x: both(x, arrays)[1])
    fitted.errordef, fitted.strategy = Minuit.LIKELIHOOD, 0
    fitted.migrad(ncall=100_000)
    del params
    row: Row = {"first_s": time.perf_counter() - begun, "mu": fitted.values[0], "error": None, "nll": fitted.fval}
    return row | {"num_gradients": fitted.ngrad, "failed": None if fitted.valid else "not valid"}


def bfgs(kind: str, n: int) -> Row:
    """In a fresh process."""
    nll, params, data = problem(kind, n)
    arrays, static = eqx.partition(nll, eqx.is_array)
    fn = lambda x, a: eqx.combine(a, static)({"mu": x[0], "theta": x[1:]}, data)  # noqa: E731
    solver = optx.BFGS(rtol=1e-8, atol=1e-8)
    start = jnp.r_[1.0, jnp.zeros(n)]
    del params
    begun = time.perf_counter()
    found = optx.minimise(fn, solver, start, args=arrays, max_steps=20_000, throw=False)
    row: Row = {"first_s": time.perf_counter() - begun, "mu": float(found.value[0]), "error": None}
    row |= {"nll": float(fn(found.value, arrays)), "num_gradients": int(found.stats["num_steps"])}
    return row | {"failed": None if found.result == optx.RESULTS.successful else "no convergence"}


def of_workspace(n: int) -> Row:
    """In a fresh process."""
    document = workspace(n)
    row: Row = {"n": n}

    def timed(what: str, call: Any) -> Any:
        begun = time.perf_counter()
        out = jax.block_until_ready(call())
        row[what] = time.perf_counter() - begun
        return out

    before = reset_peak()
    nll, params, data = timed("read_s", lambda: mx.io.from_pyhf(document))
    result = timed("first_s", lambda: mx.fit(nll, params, data))
    row["peak_gb"] = (peak() - before) / 1e3
    timed("warm_s", lambda: mx.fit(nll, params, data))
    timed("minos_s", lambda: mx.minos(nll, result, data, "mu"))
    timed("profile_s", lambda: mx.profile(nll, result, data, "mu"))
    timed("test_s", lambda: mx.hypotest(nll, params, data, "mu", 1.0))
    timed("linear_s", lambda: mx.impacts(nll, result, data, "mu", linear=True))
    timed("print_s", lambda: str(result))
    row |= {"mu": float(result["mu"].value), "error": float(result["mu"].error)}
    return row | {"failed": None if bool(result.valid) else result.message}


def of_names(n: int, is_named: bool) -> Row:
    """In a fresh process."""
    rng, bins = np.random.default_rng(0), 100
    table = jnp.asarray(0.02 * rng.normal(size=(n, bins)) / np.sqrt(n))
    names = [f"t{i}" for i in range(n)]
    bounds = {"lower": -5.0, "upper": 5.0}

    def of_each(p: Any) -> Any:
        return p["mu"] * 1000 * jnp.exp(jnp.stack([p[name] for name in names]) @ table)

    def of_vector(p: Any) -> Any:
        return p["mu"] * 1000 * jnp.exp(p["theta"] @ table)

    nuisances = {name: mx.Parameter(0.0, **bounds) for name in names}
    vector = {"theta": mx.Parameter(np.zeros(n), **bounds)}
    params = {"mu": mx.Parameter(1.0, lower=0.0), **(nuisances if is_named else vector)}
    prior = mx.NormalConstraint(names if is_named else "theta", jnp.ones(n))
    nll = mx.Joint({"main": mx.PoissonNLL(of_each if is_named else of_vector), "prior": prior})
    data = {"main": rng.poisson(1000, bins), "prior": np.zeros(n)}
    times = [clock(lambda: mx.fit(nll, params, data, errors="mu").values) for _ in range(2)]
    result = mx.fit(nll, params, data, errors="mu")
    failed = None if bool(result.valid) else result.message
    name = "names" if is_named else "one vector"
    return {"n": n, "name": name, "first_s": times[0], "warm_s": times[1], "failed": failed}


def _peer(run: Any, name: str, kind: str, n: int) -> Row:
    try:
        return fresh(run, kind, n, timeout=LONGEST) | {"name": name}
    except RuntimeError as error:
        reason = f"no answer in {LONGEST:g} s" if "no answer" in str(error) else str(error)[-200:]
        return {"name": name, "failed": reason}


def measure() -> Row:
    rows = []
    for kind, sizes in (("dense", DENSE), ("sparse", SPARSE)):
        for n in sizes:
            some = [fresh(ours, kind, n, name, int(n <= 1000)) | {"name": name} for name in (POI, ALL)]
            if n <= 1000:
                some += [_peer(minuit, MINUIT, kind, n), _peer(bfgs, BFGS, kind, n)]
            best = some[1]
            for row in some[:1]:
                apart = abs(row["mu"] - best["mu"]) / best["error"]
                off = abs(row["error"] / best["error"] - 1)
                row["failed"] = row["failed"] or (None if max(apart, off / 0.1) < SAME else f"{apart:.2g} errors away")
            for row in some:
                row["above"] = None if "nll" not in row else row["nll"] - best["nll"]
            rows += [{"kind": kind, "n": n} | row for row in some]
            print(f"{kind} {n}: " + "; ".join(f"{r['name']} {r.get('first_s', 0):.1f} s" for r in some), flush=True)
    failed = any(row["failed"] for row in rows if row["name"] in (POI, ALL))
    workspaces = [fresh(of_workspace, n) for n in MODIFIERS]
    names = [fresh(of_names, n, is_named) for n in NAMES for is_named in (False, True)]
    failed = failed or any(row["failed"] for row in workspaces + names)
    return {"fits": rows, "workspaces": workspaces, "names": names, "migrax_failed": failed}


def tables(record: Row) -> list[Table]:
    columns = {
        "n": "parameters",
        "name": "",
        "first_s": "first, s",
        "warm_s": "warm, s",
        "cpu_s": "CPU of the first, s",
    }
    columns |= {"peak_gb": "memory, GB", "gradients": "first, in gradients", "num_gradients": "gradients"}
    columns |= {"num_hessians": "Hessians", "mu": "POI", "error": "its error", "above": "NLL above", "failed": "failed"}
    of_workspaces = {"n": "modifiers", "read_s": "read, s", "first_s": "first fit, s", "warm_s": "warm, s"}
    of_workspaces |= {"minos_s": "MINOS of the POI, s", "profile_s": "profile, s", "test_s": "CLs, s"}
    of_workspaces |= {"linear_s": "linear impacts, s", "print_s": "print, s", "peak_gb": "memory, GB"}
    of_workspaces |= {"mu": "POI", "error": "its error", "failed": "failed"}
    of_names = {"n": "parameters", "name": "", "first_s": "first, s", "warm_s": "warm, s", "failed": "failed"}
    return [
        Table(f"{kind} effects, 10 processes, 3,000 bins", [r for r in record["fits"] if r["kind"] == kind], columns)
        for kind in ("dense", "sparse")
    ] + [
        Table("a workspace in pyhf's format, 3,000 bins", record["workspaces"], of_workspaces),
        Table("names, and one vector", record["names"], of_names),
    ]


def check() -> list[str]:
    wrong = []
    for kind in ("dense", "sparse"):
        nll, params, data = problem(kind, 40)
        every = mx.fit(nll, params, data)
        one = mx.fit(nll, params, data, errors="mu", solver=mx.NewtonCG())
        apart = abs(float(one["mu"].value - every["mu"].value)) / float(every["mu"].error)
        off = abs(float(one["mu"].error / every["mu"].error) - 1)
        if not (bool(one.valid) and bool(every.valid) and apart < 1e-6 and off < 1e-4):
            wrong.append(f"{kind}: the error of the POI alone is {off:.2g} away, its value {apart:.2g} errors")
    rows = [of_workspace(30), of_names(40, True), of_names(40, False)]
    return wrong + [str(row["failed"]) for row in rows if row["failed"]]


if __name__ == "__main__":
    main("large", measure, tables, check)
