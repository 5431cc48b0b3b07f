"""Tests of hypotheses: two bins with uncorrelated background errors (pyhf's first example), beside pyhf.

`first`: the first call of a process, imports apart, compilation included. `warm`: the same test and the same upper
limit with its band again, on other data, after some seconds of such calls, in which migrax compiles their program.
`points`: 100 signals of other sizes in one vmapped call, and one after the other. `toys`: 10,000 of each hypothesis for
q̃mu; pyhf's loop is timed on a few and extrapolated.
"""

import importlib.util
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._common import Row, Table, Timing, clock, fresh, main
from ._contestants import mx

SIGNAL, BACKGROUND = np.array([12.0, 11.0]), np.array([50.0, 52.0])
TAU = (BACKGROUND / np.array([3.0, 7.0])) ** 2
OBSERVED, TOYS, PEER_TOYS, POINTS = np.array([51.0, 48.0]), 10_000, 100, 100
_WHILE = 15.0  # seconds
SAME = 2e-3  # of CLs and limits, relative: pyhf's minimizer leaves some 1e-4, its limit's root 1e-4


def model(signal: Any) -> Any:
    counts = mx.PoissonNLL(lambda p: p["mu"] * signal + p["b"] * BACKGROUND)
    return mx.Joint({"n": counts, "b": mx.PoissonConstraint("b", TAU)})


def parameters() -> Any:
    return {"mu": mx.Parameter(1.0, lower=0.0, upper=10.0), "b": mx.Parameter(np.ones(2), lower=1e-10, upper=10.0)}


def data(i: int = 0) -> Any:
    """The example's, and others near it."""
    return {"n": jnp.asarray(OBSERVED + 0.1 * i), "b": jnp.asarray(TAU)}


def ours(what: str) -> Any:
    nll, params = model(SIGNAL), parameters()
    if what == "hypotest":
        return lambda i: mx.hypotest(nll, params, data(i), "mu", 1.0).cls
    return lambda i: jnp.append(*_limits(mx.upper_limit(nll, params, data(i), "mu")))


def _limits(found: Any) -> tuple[Any, Any]:
    return found.observed, found.expected


def theirs(what: str, backend: str) -> Any:
    import pyhf

    pyhf.set_backend(backend, "minuit")
    peer = pyhf.simplemodels.uncorrelated_background(list(SIGNAL), list(BACKGROUND), [3.0, 7.0])
    observed = lambda i: [*(OBSERVED + 0.1 * i), *peer.config.auxdata]  # noqa: E731
    if what == "hypotest":
        return lambda i: pyhf.infer.hypotest(1.0, observed(i), peer, test_stat="qtilde", return_expected_set=True)[0]

    search, test = pyhf.infer.intervals.upper_limits, pyhf.infer.hypotest

    def in_numpy(*args: Any, **options: Any) -> Any:  # SciPy's root search keeps what it was given as keys
        found, expected = test(*args, **options)
        return np.asarray(found), [np.asarray(x) for x in expected]

    search.hypotest = in_numpy

    def limit(i: int) -> Any:
        found, expected = search.toms748_scan(observed(i), peer, 0.0, 10.0)
        return np.array([found, *expected], dtype=float)

    return limit


def asymptotic(who: str, what: str, repeats: int) -> Row:
    """In a fresh process."""
    call = ours(what) if who == "migrax" else theirs(what, who.split(", ")[1])
    start = time.perf_counter()
    first = np.asarray(jax.block_until_ready(call(0)))
    first_s = time.perf_counter() - start
    start = time.perf_counter()
    while time.perf_counter() - start < (_WHILE if who == "migrax" else 0.0):
        call(1)
    call(1)
    timing = Timing.of([clock(lambda i=i: call(i)) for i in range(2, 2 + repeats)])
    return {"name": who, "what": what, "first_s": first_s, "time": timing.record(), "answer": first.tolist()}


def points(repeats: int) -> list[Row]:
    """One vmapped call for all signals, and one call after the other."""
    signals, params = jnp.asarray(SIGNAL * np.linspace(0.5, 2.0, POINTS)[:, None]), parameters()
    one = jax.jit(lambda s: mx.upper_limit(model(s), params, data(), "mu").expected[2])
    many = jax.jit(jax.vmap(lambda s: mx.upper_limit(model(s), params, data(), "mu").expected[2]))
    right = np.asarray(many(signals))
    apart = np.max(np.abs(np.array([float(one(s)) for s in signals[:5]]) / right[:5] - 1))
    failed = None if apart < 1e-6 and np.all(np.isfinite(right)) else f"limits differ by {apart:.2g}"
    together = Timing.of([clock(lambda: many(signals)) for _ in range(repeats)])
    single = Timing.of([clock(lambda s=s: one(s)) for s in signals])
    return [
        {"name": "vmapped, a point", "failed": failed, "time": _over(together, POINTS).record()},
        {"name": "one after the other, a point", "failed": failed, "time": single.record()},
    ]


def _over(timing: Timing, n: int) -> Timing:
    return Timing(timing.median / n, timing.low / n, timing.high / n, timing.repeats)


def toys(n: int, n_peer: int) -> list[Row]:
    nll, params, key = model(SIGNAL), parameters(), jax.random.key(0)
    call = lambda i: mx.hypotest(nll, params, data(), "mu", 1.0, calculator=mx.Toys(n, jax.random.fold_in(key, i)))  # noqa: E731
    first = clock(lambda: call(0))
    found, plain = call(1), mx.hypotest(nll, params, data(), "mu", 1.0)
    off = abs(float(found.cls - plain.cls)) / float(found.cls_error)
    timing = Timing.of([clock(lambda i=i: call(i)) for i in range(2, 5)])
    rows: list[Row] = [
        {"name": "migrax", "first_s": first, "per_second": 2 * n / timing.median, "time": timing.record()}
    ]
    rows[0]["failed"] = None if off < 5 else f"CLs is {off:.2g} errors from the asymptotic one"
    if importlib.util.find_spec("pyhf") is not None:
        seconds = _pyhf_toys(n_peer)
        rows.append({"name": "pyhf", "per_second": 2 * n_peer / seconds, "time": Timing.of([seconds]).record()})
    return rows


def _pyhf_toys(n: int) -> float:
    """Their loop over the statistic of toys of both hypotheses: pyhf's own calculator does not run with NumPy 2.4."""
    import pyhf

    pyhf.set_backend("numpy", "minuit")
    peer = pyhf.simplemodels.uncorrelated_background(list(SIGNAL), list(BACKGROUND), [3.0, 7.0])
    calculator = pyhf.infer.calculators.ToyCalculator(
        [*OBSERVED, *peer.config.auxdata], peer, ntoys=n, test_stat="qtilde", track_progress=False
    )
    start = time.perf_counter()
    calculator.distributions(1.0)
    return time.perf_counter() - start


def measure() -> Row:
    rows = []
    for what in ("hypotest", "upper_limit"):
        each = [fresh(asymptotic, who, what, n) for who, n in (("migrax", 50), ("pyhf, numpy", 10), ("pyhf, jax", 10))]
        for row in each:
            peer = each[1] if row is each[0] else row
            apart = float(np.max(np.abs(np.array(each[0]["answer"]) / np.array(peer["answer"]) - 1)))
            row["failed"] = None if apart < SAME else f"they differ by {apart:.2g}"
            row["faster"] = row["time"]["median_s"] / each[0]["time"]["median_s"]
        rows += each
    many, drawn = fresh(points, 5), fresh(toys, TOYS, PEER_TOYS)
    for row in drawn:
        row["faster"] = row["per_second"] / drawn[-1]["per_second"]
    ours = [row for row in [*rows, *many, *drawn] if not row["name"].startswith("pyhf")]
    return {"asymptotic": rows, "points": many, "toys": drawn, "migrax_failed": any(row["failed"] for row in ours)}


def tables(record: Row) -> list[Table]:
    columns = {"what": "", "name": "by", "time": "warm", "first_s": "first call, s", "faster": "x migrax"}
    toys = {"name": "by", "per_second": "toys/s", "first_s": "first call, s", "faster": "x pyhf"}
    return [
        Table("Two bins, asymptotic", record["asymptotic"], columns | {"failed": "failed"}, chart=("time",)),
        Table(
            f"{POINTS} signals, the expected limit", record["points"], {"name": "", "time": "time", "failed": "failed"}
        ),
        Table("Toys of q̃mu, both hypotheses", record["toys"], toys, chart=("per_second",)),
    ]


def check() -> list[str]:
    rows = [fresh(asymptotic, "migrax", "hypotest", 2), *fresh(toys, 300, 2)]
    return [f"{row['name']}: {row['failed']}" for row in rows if row.get("failed")]


if __name__ == "__main__":
    main("hypotest", measure, tables, check)
