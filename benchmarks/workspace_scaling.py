"""HistFactory models of many bins and many parameters: minus the log of the likelihood, its gradient, and a fit.

`calls`: one value at a time of models of 2, 64 and 500 parameters, beside pyhf (NumPy, and its jitted JAX likelihood),
pyhs3 (of the same document as HS3, compiled by pytensor, and as a JAX graph) and NextStat, where they are installed.
`called` is from Python; `in a loop` is the time of one of many calls inside one compiled program, which is what a fit
sees. `bins`: 500 parameters and 256, 2000 and 10,000 bins: reading, value and gradient, the exact Hessian, a fit.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ._common import ROOT, Row, Table, Timing, clock, fresh, main
from ._contestants import mx

DATA = ROOT / "tests" / "data"
BINS = (256, 2000, 10_000)
PARAMETERS, SHAPES, LOOP = 500, 9, 1000
PATIENCE = 150.0  # seconds until a peer is given up
MODELS = ("2 parameters, 2 bins", "64 parameters, 6 bins", "500 parameters, 256 bins")
WHO = ("migrax", "pyhf, numpy", "pyhf, jax", "pyhs3, pytensor", "pyhs3, jax", "nextstat")


def synthetic(bins: int) -> dict[str, Any]:
    """A signal of free strength on a background with 490 uncertainties of its norm and 9 of its shape."""
    rng = np.random.default_rng(0)
    nominal = rng.uniform(20.0, 200.0, bins)
    signal = 0.1 * nominal * np.exp(-0.5 * ((np.arange(bins) / bins - 0.5) / 0.1) ** 2)
    norms = [
        {"type": "normsys", "name": f"n{i:03d}", "data": {"hi": 1.01, "lo": 0.99}}
        for i in range(PARAMETERS - SHAPES - 1)
    ]
    tilts = [np.sin(np.pi * (i + 1) * np.arange(bins) / bins) for i in range(SHAPES)]
    shapes = [
        {
            "type": "histosys",
            "name": f"h{i}",
            "data": {"hi_data": list(nominal * (1 + 0.02 * t)), "lo_data": list(nominal * (1 - 0.02 * t))},
        }
        for i, t in enumerate(tilts)
    ]
    mu = {"type": "normfactor", "name": "mu", "data": None}
    samples = [
        {"name": "signal", "data": list(signal), "modifiers": [mu]},
        {"name": "background", "data": list(nominal), "modifiers": norms + shapes},
    ]
    return {
        "channels": [{"name": "SR", "samples": samples}],
        "observations": [{"name": "SR", "data": [float(n) for n in rng.poisson(nominal + signal)]}],
        "measurements": [{"name": "main", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }


def document(model: str) -> Any:
    """As a workspace of pyhf."""
    if model == MODELS[2]:
        return synthetic(BINS[0])
    if model == MODELS[0]:
        return json.loads((DATA / "hs3" / "pairs" / "simplemodel_correlated-background_hifa.json").read_text())
    import jsonpatch

    read = lambda name: json.loads(Path(DATA / "sbottom" / name).read_text())  # noqa: E731
    return jsonpatch.apply_patch(read("BkgOnly.json"), read("patch.sbottom_1300_205_60.json"))


def as_hs3(model: str) -> Any:
    """The same as a document of HS3, of what has normfactor, normsys and histosys alone."""
    if model == MODELS[0]:
        return json.loads((DATA / "hs3" / "pairs" / "simplemodel_correlated-background_hs3.json").read_text())
    work = document(model)
    (channel,) = work["channels"]
    bins = len(channel["samples"][0]["data"])
    axis = {"name": "x", "min": 0, "max": bins, "nbins": bins}
    names: dict[str, float] = {}
    samples = []
    for sample in channel["samples"]:
        modifiers = []
        for m in sample["modifiers"]:
            names[m["name"]] = 1.0 if m["type"] == "normfactor" else 0.0
            new = {"type": m["type"], "name": m["name"], "parameter": m["name"]}
            if m["type"] == "normsys":
                new |= {"data": m["data"], "constraint": "Gauss"}
            elif m["type"] == "histosys":
                ends = {key: {"contents": m["data"][f"{key}_data"]} for key in ("hi", "lo")}
                new |= {"data": ends, "constraint": "Gauss"}
            modifiers.append(new)
        contents = {"contents": sample["data"], "errors": [0.0] * bins}
        samples.append({"name": sample["name"], "data": contents, "modifiers": modifiers})
    return {
        "metadata": {"hs3_version": "0.2"},
        "distributions": [{"name": "SR", "type": "histfactory_dist", "axes": [axis], "samples": samples}],
        "data": [{"name": "seen", "type": "binned", "axes": [axis], "contents": work["observations"][0]["data"]}],
        "likelihoods": [{"name": "all", "distributions": ["SR"], "data": ["seen"]}],
        "analyses": [{"name": "fit", "likelihood": "all", "parameters_of_interest": ["mu"], "domains": ["domain"]}],
        "domains": [
            {"name": "domain", "type": "product_domain", "axes": [{"name": n, "min": -10, "max": 10} for n in names]}
        ],
        "parameter_points": [
            {"name": "default_values", "parameters": [{"name": n, "value": v} for n, v in names.items()]}
        ],
    }


Call = tuple[Callable[[], Any], Callable[[], Any] | None]  # one value; and, inside one program, LOOP of them


def _looped(nll: Callable[[Any], Any], at: Any) -> Callable[[], Any]:
    """Of slightly different parameters, one after the other."""
    steps = jnp.linspace(0.0, 1e-6, LOOP)
    program = jax.jit(lambda tree: jnp.sum(jax.lax.map(lambda s: nll(jax.tree.map(lambda x: x + s, tree)), steps)))
    return lambda: program(at)


def ours(model: str) -> Call:
    nll, params, data = mx.io.from_pyhf(document(model))
    at, value = mx.resolve(params), jax.jit(lambda p: nll(p, data))
    return lambda: value(at), _looped(lambda p: nll(p, data), at)


def by_pyhf(model: str, backend: str) -> Call:
    import pyhf

    pyhf.set_backend(backend, precision="64b")
    work = pyhf.Workspace(document(model))
    peer = work.model()
    data, start = (pyhf.tensorlib.astensor(x) for x in (work.data(peer), peer.config.suggested_init()))
    if backend == "numpy":
        return lambda: -peer.logpdf(start, data)[0], None
    value = jax.jit(lambda x: -peer.logpdf(x, data)[0])
    return lambda: value(start), _looped(lambda x: -peer.logpdf(x, data)[0], start)


def by_pyhs3(model: str, engine: str) -> Call:
    import pyhs3

    work = pyhs3.Workspace(**as_hs3(model))
    target = next(a for a in work.analyses or [] if "asimov" not in a.name)
    points = (work.parameter_points or [])[0]
    peer = work.model(target, parameter_set=points, progress=False)
    at = peer.free_params
    if engine == "pytensor":
        import pytensor

        inputs = [peer.parameters[name] for name in at if name in peer.parameters]
        compiled = pytensor.function(inputs, -peer.log_prob, on_unused_input="ignore")
        values = [np.float64(at[str(v.name)]) for v in inputs]
        return lambda: compiled(*values), None
    graph = pyhs3.jaxify(-peer.log_prob)
    tree = {name: jnp.asarray(at[name]) for name in graph.input_names}
    value = jax.jit(lambda p: graph(**p)[0].squeeze())
    return lambda: value(tree), _looped(lambda p: graph(**p)[0].squeeze(), tree)


def by_nextstat(model: str) -> Call:
    import nextstat

    peer = nextstat.from_pyhf(json.dumps(document(model)))
    start = peer.suggested_init()
    return lambda: peer.nll(start), None


CONTESTANTS: dict[str, Callable[[str], Call]] = {
    "migrax": ours,
    "pyhf, numpy": lambda model: by_pyhf(model, "numpy"),
    "pyhf, jax": lambda model: by_pyhf(model, "jax"),
    "pyhs3, pytensor": lambda model: by_pyhs3(model, "pytensor"),
    "pyhs3, jax": lambda model: by_pyhs3(model, "jax"),
    "nextstat": by_nextstat,
}


def calls(who: str, model: str, repeats: int) -> Row:
    """In a fresh process. The value is checked against pyhf's later."""
    value, loop = CONTESTANTS[who](model)
    found = float(np.ravel(np.asarray(value()))[0])
    once = 20
    seconds = [clock(lambda: [value() for _ in range(once)]) / once for _ in range(repeats)]
    row: Row = {"name": who, "model": model, "value": found, "called": Timing.of(seconds).record(), "loop": None}
    if loop is not None:
        loop()
        row["loop"] = Timing.of([clock(loop) / LOOP for _ in range(max(repeats // 10, 3))]).record()
    return row


def bins(n: int, repeats: int) -> Row:
    """In a fresh process: 500 parameters and `n` bins."""
    work = synthetic(n)
    read = clock(lambda: mx.io.from_pyhf(work)[2])
    nll, params, data = mx.io.from_pyhf(work)
    at, tree = ravel_pytree(mx.resolve(params))  # one vector: 500 arrays to hand over take longer than the rest
    slope = jax.jit(jax.value_and_grad(lambda x: nll(tree(x), data)))
    first = clock(lambda: mx.fit(nll, params, data).nll)
    result = mx.fit(nll, params, data)
    good = bool(result.valid) and bool(np.all(np.isfinite(result.errors))) and bool(np.isfinite(slope(at)[0]))
    hesse = lambda: mx.hesse(nll, result.params, data).matrix  # noqa: E731
    hesse()
    return {
        "bins": n,
        "read_s": read,
        "first_s": first,
        "slope": Timing.of([clock(lambda: slope(at)) for _ in range(repeats)]).record(),
        "hesse": Timing.of([clock(hesse) for _ in range(max(repeats // 5, 2))]).record(),
        "fit": Timing.of([clock(lambda: mx.fit(nll, params, data).nll) for _ in range(max(repeats // 5, 2))]).record(),
        "failed": None if good else "a value is not finite, or the fit not valid",
    }


def _checked(rows: list[Row]) -> list[Row]:
    for row in rows:
        if row.get("failed"):
            continue
        right = next((r.get("value") for r in rows if r["model"] == row["model"] and r["name"] == "pyhf, numpy"), None)
        off = None if right is None else abs(row["value"] / right - 1)
        row["failed"] = None if off is None or off < 1e-10 else f"the value is {off:.2g} off"
        # pyhs3 reads another document, whose constraint terms are those of HS3
        mine = next(r for r in rows if r["model"] == row["model"] and r["name"] == "migrax")
        row["times"] = row["called"]["median_s"] / mine["called"]["median_s"]
    return rows


def measure() -> Row:
    rows = []
    for model in MODELS:
        for who in WHO:
            package = who.split(",")[0]
            if package != "migrax" and importlib.util.find_spec(package) is None:
                continue
            if package == "pyhs3" and model == MODELS[1]:
                continue  # its lumi, staterror and shapesys are other words of HS3
            try:
                rows.append(fresh(calls, who, model, 40, timeout=PATIENCE))
            except RuntimeError as error:
                if package == "migrax":
                    raise
                rows.append({"name": who, "model": model, "failed": str(error).rpartition(": ")[2]})
    rows = _checked(rows)
    sizes = [fresh(bins, n, 20) for n in BINS]
    for row in sizes:
        row["per_bin_ns"] = 1e9 * row["slope"]["median_s"] / row["bins"]
    failed = any(row["failed"] for row in sizes) or any(r["failed"] for r in rows if r["name"] == "migrax")
    return {"rows": rows, "bins": sizes, "migrax_failed": failed}


def tables(record: Row) -> list[Table]:
    columns = {"model": "", "name": "by", "called": "called", "loop": "in a loop", "times": "x migrax"}
    sizes = {"bins": "bins", "slope": "value and gradient", "per_bin_ns": "ns a bin", "hesse": "Hessian", "fit": "fit"}
    sizes |= {"first_s": "first fit, s", "read_s": "read, s", "failed": "failed"}
    title = "Minus the log of the likelihood, one at a time"
    return [
        Table(title, record["rows"], columns | {"failed": "failed"}, chart=("called", "loop")),
        Table("500 parameters", record["bins"], sizes),
    ]


def check() -> list[str]:
    here = [who for who in WHO[:2] if who == "migrax" or importlib.util.find_spec("pyhf") is not None]
    rows = _checked([fresh(calls, who, model, 1) for model in MODELS[:1] for who in here])
    rows.append(fresh(bins, BINS[0], 2))
    return [f"{row.get('name', row.get('bins'))}: {row['failed']}" for row in rows if row["failed"]]


if __name__ == "__main__":
    main("workspace_scaling", measure, tables, check)
