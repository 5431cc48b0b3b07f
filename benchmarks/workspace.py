"""A published likelihood: ATLAS SUSY-2018-31 (bottom squarks), region A with one signal, 64 parameters, 6 bins.

`mx.io.from_pyhf` beside pyhf (NumPy and JAX, both with iminuit) and, where it is installed (`pip install nextstat`),
NextStat. `first`: from the JSON to the first fit, in a fresh process, imports apart. `fit`, `test`: a fit and an
asymptotic test of mu = 1 again, on other data. `value`, `slope`: a value, and a value with its gradient, one at a time
and a lane of a batch.
`toys`: fits of toys drawn from the fit; `tests`: toys of q̃mu, both hypotheses. pyhf's toys are a few, in turn.
"""

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._common import ROOT, Row, Table, Timing, clock, fresh, main
from ._contestants import mx

FOLDER = ROOT / "tests" / "data" / "sbottom"
LANES, TOYS, PEER_TOYS, TEST_TOYS = 512, 2000, 10, 2000
CLS, SAME = 0.24443627759085326, 1.5e-5  # pyhf's regression test
NLL = 50.68791038  # at the minimum


def document() -> Any:
    import jsonpatch

    read = lambda name: json.loads(Path(FOLDER / name).read_text())  # noqa: E731
    return jsonpatch.apply_patch(read("BkgOnly.json"), read("patch.sbottom_1300_205_60.json"))


def shifted(counts: Any, i: int) -> Any:
    return counts * (1 + 1e-3 * i)


def ours() -> dict[str, Callable[[int], Any]]:
    nll, params, data = mx.io.from_pyhf(document())
    at = lambda i: data | {"main": {name: shifted(n, i) for name, n in data["main"].items()}}  # noqa: E731
    value, slope = jax.jit(lambda p, d: nll(p, d)), jax.jit(jax.value_and_grad(lambda p, d: nll(p, d)))
    resolved = mx.resolve(params)
    return {
        "fit": lambda i: mx.fit(nll, params, at(i)).nll,
        "test": lambda i: mx.hypotest(nll, params, at(i), nll.poi, 1.0).cls,
        "value": lambda i: value(resolved, data),
        "slope": lambda i: slope(resolved, data)[0],
    }


def compiled() -> dict[str, Callable[[int], Any]]:
    """The same inside `jax.jit`, as a part of a larger program is."""
    nll, params, data = mx.io.from_pyhf(document())
    poi = nll.poi
    assert poi is not None
    at = lambda i: data | {"main": {name: shifted(n, i) for name, n in data["main"].items()}}  # noqa: E731
    fit, test = (
        jax.jit(lambda d: mx.fit(nll, params, d).nll),
        jax.jit(lambda d: mx.hypotest(nll, params, d, poi, 1.0).cls),
    )
    return {"fit": lambda i: fit(at(i)), "test": lambda i: test(at(i))}


def pyhf_with(backend: str) -> dict[str, Callable[[int], Any]]:
    import pyhf

    pyhf.set_backend(backend, "minuit")
    work = pyhf.Workspace(document())
    model = work.model()
    counts, aux = work.data(model, include_auxdata=False), model.config.auxdata
    at = lambda i: [*shifted(np.array(counts), i), *aux]  # noqa: E731
    start = pyhf.tensorlib.astensor(model.config.suggested_init())
    calls = {
        "fit": lambda i: 0.5 * pyhf.infer.mle.fit(at(i), model, return_fitted_val=True)[1],
        "test": lambda i: pyhf.infer.hypotest(1.0, at(i), model, test_stat="qtilde"),
        "value": lambda i: -model.logpdf(start, at(0))[0],
    }
    if backend == "jax":
        data = jnp.asarray(at(0))
        value = jax.jit(lambda x: -model.logpdf(x, data)[0])
        slope = jax.jit(jax.value_and_grad(lambda x: -model.logpdf(x, data)[0]))
        calls |= {"value": lambda i: value(start), "slope": lambda i: slope(start)[0]}
    return calls


def nextstat() -> dict[str, Callable[[int], Any]]:
    import nextstat as ns

    work = document()
    model = ns.from_pyhf(json.dumps(work))
    start = model.suggested_init()
    observed = {entry["name"]: np.array(entry["data"]) for entry in work["observations"]}
    counts = np.concatenate([observed[name["channel_name"]] for name in model.observed_main_by_channel()])
    at = lambda i: model.with_observed_main(shifted(counts, i).tolist())  # noqa: E731
    return {
        "fit": lambda i: ns.fit(at(i)).nll,
        "test": lambda i: ns.hypotest(1.0, at(i)),
        "value": lambda i: model.nll(start),
        "slope": lambda i: model.grad_nll(start),
    }


WHO: dict[str, Callable[[], dict[str, Callable[[int], Any]]]] = {
    "migrax": ours,
    "migrax, inside jax.jit": compiled,
    "pyhf, numpy": lambda: pyhf_with("numpy"),
    "pyhf, jax": lambda: pyhf_with("jax"),
    "nextstat": nextstat,
}
REPEATS = {"fit": 8, "test": 5, "value": 300, "slope": 300}


def one(who: str, repeats: dict[str, int]) -> list[Row]:
    """In a fresh process."""
    start = time.perf_counter()
    calls = WHO[who]()
    read = time.perf_counter() - start
    rows = []
    for what, call in calls.items():
        first = clock(lambda call=call: call(0))
        answer = np.ravel(np.asarray(jax.block_until_ready(call(0)))).astype(float)
        row: Row = {"name": who, "what": what, "first_s": first + (read if what == "fit" else 0.0), "failed": None}
        if what == "fit":
            row["failed"] = None if abs(answer[0] - NLL) < 1e-2 else f"the minimum is at {answer[0]:.9g}"
        elif what == "test":
            off = abs(answer[0] / CLS - 1)
            row["failed"] = None if off < (SAME if who.startswith("migrax") else 1e-2) else f"CLs is {off:.2g} off"
        once = 20 if what in ("value", "slope") else 1  # calls between two looks at the clock
        seconds = []
        for i in range(1, 1 + max(repeats[what] // once, 1)):
            seconds.append(clock(lambda i=i, call=call, once=once: [call(i) for _ in range(once)]) / once)
        rows.append(row | {"time": Timing.of(seconds).record()})
    return rows


def lanes(repeats: int) -> list[Row]:
    """A value and gradient in a batch, ours and pyhf's."""
    import pyhf

    pyhf.set_backend("jax", precision="64b")
    work = document()
    nll, params, data = mx.io.from_pyhf(work)
    peer = pyhf.Workspace(work)
    model = peer.model()
    counts = jnp.asarray(peer.data(model))
    start = np.array(model.config.suggested_init())
    x = jnp.asarray(start + 0.1 * np.random.default_rng(0).normal(size=(LANES, start.size)) * (start == 0))
    tree = {name: x[:, model.config.par_slice(name)].reshape(LANES, *p.value.shape) for name, p in params.items()}
    mine = jax.jit(jax.vmap(jax.value_and_grad(lambda p: nll(p, data))))
    theirs = jax.jit(jax.vmap(jax.value_and_grad(lambda x: -model.logpdf(x, counts)[0])))
    apart = float(np.max(np.abs(mine(tree)[0] / theirs(x)[0] - 1)))
    rows = []
    for name, call in (("migrax", lambda: mine(tree)), ("pyhf, jax", lambda: theirs(x))):
        call()
        time = Timing.of([clock(call) for _ in range(repeats)])
        row: Row = {"name": name, "what": "value and gradient, a lane", "failed": None, "first_s": None}
        row["failed"] = None if apart < 1e-11 else f"they differ by {apart:.2g}"
        rows.append(row | {"time": {key: s / LANES if key != "repeats" else s for key, s in time.record().items()}})
    return rows


def toys(n: int, n_peer: int, n_test: int) -> list[Row]:
    nll, params, data = mx.io.from_pyhf(document())
    result = mx.fit(nll, params, data)
    key = jax.random.key(0)
    rows = []
    for name, hesse in (("migrax", True), ("migrax, hesse=False", False)):

        def fit(i: int, hesse: bool = hesse) -> Any:
            study = mx.Toys(n, jax.random.fold_in(key, i))
            return mx.fit_toys(nll, result.params, study, covariance=result.covariance, hesse=hesse)

        first = clock(lambda fit=fit: fit(0).values)
        valid = float(jnp.mean(fit(0).valid))
        seconds = clock(lambda fit=fit: fit(1).values)
        row: Row = {"name": name, "what": "fits of toys", "first_s": first, "per_second": n / seconds}
        rows.append(row | {"failed": None if valid > 0.98 else f"{1 - valid:.2g} of the fits are not valid"})
    test = lambda i: mx.hypotest(  # noqa: E731
        nll, params, data, nll.poi, 1.0, calculator=mx.Toys(n_test, jax.random.fold_in(key, i))
    )
    first = clock(lambda: test(0).cls)
    seconds = clock(lambda: test(1).cls)
    off = abs(float(test(0).cls) - CLS) / float(test(0).cls_error)
    row = {"name": "migrax", "what": "tests by toys", "first_s": first, "per_second": 2 * n_test / seconds}
    rows.append(row | {"failed": None if off < 6 else f"{off:.2g} errors from the asymptotic CLs"})
    return rows + _peers(n_peer)


def _peers(n: int) -> list[Row]:
    rows = []
    if importlib.util.find_spec("pyhf") is not None:
        import pyhf

        pyhf.set_backend("numpy", "minuit")
        work = pyhf.Workspace(document())
        model = work.model()
        best = pyhf.infer.mle.fit(work.data(model), model)
        drawn = model.make_pdf(pyhf.tensorlib.astensor(best)).sample((n,))
        seconds = clock(lambda: [pyhf.infer.mle.fit(toy, model) for toy in drawn])
        rows.append({"name": "pyhf, numpy", "what": "fits of toys", "per_second": n / seconds, "failed": None})
        calculator = pyhf.infer.calculators.ToyCalculator(
            work.data(model), model, ntoys=max(n // 2, 1), test_stat="qtilde", track_progress=False
        )
        seconds = clock(lambda: calculator.distributions(1.0) and None)
        rate = 2 * max(n // 2, 1) / seconds
        rows.append({"name": "pyhf, numpy", "what": "tests by toys", "per_second": rate, "failed": None})
    if importlib.util.find_spec("nextstat") is not None:
        import nextstat as ns

        model = ns.from_pyhf(json.dumps(document()))
        best = list(ns.fit(model).parameters)
        seconds = clock(lambda: ns.fit_toys(model, best, n_toys=10 * n, seed=1) and None)
        rows.append({"name": "nextstat", "what": "fits of toys", "per_second": 10 * n / seconds, "failed": None})
        seconds = clock(lambda: ns.hypotest_toys(1.0, model, n_toys=10 * n, seed=1) and None)
        rows.append({"name": "nextstat", "what": "tests by toys", "per_second": 20 * n / seconds, "failed": None})
    return rows


def measure() -> Row:
    rows = []
    for who in WHO:
        package = who.split(",")[0]
        if package == "migrax" or importlib.util.find_spec(package) is not None:
            rows += fresh(one, who, REPEATS)
    rows += fresh(lanes, 5)
    drawn = fresh(toys, TOYS, PEER_TOYS, TEST_TOYS)
    for row in rows:
        mine = next(r for r in rows if r["name"] == "migrax" and r["what"] == row["what"])
        row["times"] = row["time"]["median_s"] / mine["time"]["median_s"]
    for row in drawn:
        mine = next(r for r in drawn if r["name"] == "migrax" and r["what"] == row["what"])
        row["faster"] = mine["per_second"] / row["per_second"]
    order = ["fit", "test", "value", "slope", rows[-1]["what"]]
    rows.sort(key=lambda row: order.index(row["what"]))
    failed = any(row["failed"] for row in [*rows, *drawn] if row["name"].startswith("migrax"))
    return {"rows": rows, "toys": drawn, "migrax_failed": failed}


def tables(record: Row) -> list[Table]:
    columns = {"what": "", "name": "by", "time": "again", "first_s": "first, s", "times": "x migrax"}
    toys = {"what": "", "name": "by", "per_second": "toys/s", "first_s": "first call, s"}
    toys |= {"faster": "migrax is faster by", "failed": "failed"}
    return [
        Table("ATLAS SUSY-2018-31, region A", record["rows"], columns | {"failed": "failed"}, chart=("time",)),
        Table("Its toys", record["toys"], toys, chart=("per_second",)),
    ]


def check() -> list[str]:
    once = dict.fromkeys(REPEATS, 1)
    rows = [*fresh(one, "migrax", once), *fresh(toys, 100, 1, 200)]
    return [f"{row['name']}, {row['what']}: {row['failed']}" for row in rows if row.get("failed")]


if __name__ == "__main__":
    main("workspace", measure, tables, check)
