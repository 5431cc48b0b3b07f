"""The upper limit on the signal of a published likelihood (ATLAS SUSY-2018-31, region A), with its band.

`first`: of a process, from the JSON, imports apart. `again`: the same limit on other data. pyhf's own search
(`toms748_scan`, the default of its `upper_limit`) takes minutes here: it is run with our CLs in the place of its tests,
and what it asks for is counted and multiplied by the time of its test. Right is where pyhf's own test says 5 %.
"""

import importlib.util
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._common import Row, Table, Timing, clock, fresh, main
from ._contestants import mx
from .workspace import document, shifted

SAME = 2e-3  # of pyhf's CLs at our limit, relative: what its minimizer leaves


def ours(repeats: int, compiled: bool) -> Row:
    """In a fresh process."""
    start = time.perf_counter()
    nll, params, data = mx.io.from_pyhf(document())
    poi = nll.poi
    assert poi is not None
    at = lambda i: data | {"main": {name: shifted(n, i) for name, n in data["main"].items()}}  # noqa: E731

    def limits(d: Any) -> Any:
        found = mx.upper_limit(nll, params, d, poi)
        return jnp.append(found.observed, found.expected)

    call = jax.jit(limits) if compiled else limits
    found = np.asarray(call(at(0)))
    first = time.perf_counter() - start
    timing = Timing.of([clock(lambda i=i: call(at(i))) for i in range(1, 1 + repeats)])
    name = "migrax, inside jax.jit" if compiled else "migrax"
    failed = None if np.all(np.isfinite(found)) else "a limit is NaN"
    return {"name": name, "first_s": first, "time": timing.record(), "answer": found.tolist(), "failed": failed}


def pyhf_search() -> Row:
    """How many tests pyhf's search asks for, and what it finds, where the tests are ours."""
    from pyhf.infer.intervals import upper_limits as search

    nll, params, data = mx.io.from_pyhf(document())
    poi, asked = nll.poi, []
    assert poi is not None
    test = jax.jit(lambda mu: mx.hypotest(nll, params, data, poi, mu))

    def stand_in(mu: Any, *_: Any, **__: Any) -> Any:
        asked.append(float(mu))
        found = test(float(mu) if mu else 1e-9)  # CLs of nothing is 1
        return np.asarray(found.cls), [np.asarray(x) for x in found.expected_cls]

    search.hypotest = stand_in
    low, high = 0.0, 10.0  # the bounds of the parameter
    observed, expected = search.toms748_scan(None, None, low, high)
    return {"asked": len(asked), "answer": [float(observed), *map(float, expected)]}


def pyhf_test(backend: str, limit: float, repeats: int) -> Row:
    """In a fresh process: pyhf's test at our limit."""
    import pyhf

    pyhf.set_backend(backend, "minuit")
    work = pyhf.Workspace(document())
    model = work.model()
    counts, aux = work.data(model, include_auxdata=False), model.config.auxdata

    def test(i: int) -> Any:
        data = [*shifted(np.array(counts), i), *aux]
        return pyhf.infer.hypotest(limit, data, model, test_stat="qtilde", return_expected_set=True)[0]

    start = time.perf_counter()
    cls = float(test(0))
    first = time.perf_counter() - start
    timing = Timing.of([clock(lambda i=i: test(i)) for i in range(1, 1 + repeats)])
    failed = None if abs(cls / 0.05 - 1) < SAME else f"its CLs at our limit is {cls:.6g}"
    return {"name": f"pyhf, {backend}", "first_s": first, "time": timing.record(), "failed": failed}


def nextstat(repeats: int) -> Row:
    import nextstat as ns

    start = time.perf_counter()
    model = ns.from_pyhf(json.dumps(document()))
    observed, expected = ns.upper_limit(model, method="root")
    first = time.perf_counter() - start
    timing = Timing.of([clock(lambda: ns.upper_limit(model, method="root") and None) for _ in range(repeats)])
    row: Row = {"name": "nextstat", "first_s": first, "time": timing.record()}
    return row | {"answer": [observed, *expected], "failed": None}


def measure() -> Row:
    rows = [fresh(ours, 10, False), fresh(ours, 20, True)]
    answer = np.array(rows[0]["answer"])
    if importlib.util.find_spec("pyhf") is not None:
        search = fresh(pyhf_search)
        off = np.max(np.abs(np.array(search["answer"]) / answer - 1))
        print(f"pyhf's search asks for {search['asked']} tests, and ends {off:.2g} from our roots")
        for backend, repeats in (("numpy", 2), ("jax", 4)):
            row = fresh(pyhf_test, backend, float(answer[0]), repeats)
            row["first_s"] = None
            row["time"] = {k: v if k == "repeats" else v * search["asked"] for k, v in row["time"].items()}
            rows.append(row | {"asked": search["asked"]})
    if importlib.util.find_spec("nextstat") is not None:
        row = fresh(nextstat, 3)
        off = np.max(np.abs(np.array(row["answer"]) / answer - 1))
        rows.append(row | {"failed": None if off < SAME else f"it differs by {off:.2g}"})
    for row in rows:
        row["times"] = row["time"]["median_s"] / rows[0]["time"]["median_s"]
    return {"rows": rows, "migrax_failed": any(row["failed"] for row in rows if not row["name"].startswith("nextstat"))}


def tables(record: Row) -> list[Table]:
    columns = {"name": "by", "time": "again", "first_s": "first, s", "times": "x migrax", "failed": "failed"}
    title = "Upper limit with its band, ATLAS SUSY-2018-31, region A"
    return [Table(title, record["rows"], columns, chart=("time",))]


def check() -> list[str]:
    row = fresh(ours, 1, False)
    return [row["failed"]] if row["failed"] else []


if __name__ == "__main__":
    main("workspace_limit", measure, tables, check)
