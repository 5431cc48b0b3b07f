"""The short table of what was measured, which the README and the top of the page show."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ._tables import Row, is_timing, shown_number, shown_rate, shown_time

Measured = dict[str, Row]
Line = tuple[str, str, str, str]  # what, ours, the peers', how many times faster than the fastest of them

_ABSENT = "not installed"  # a peer that the extra bench does not bring


def table(measured: Measured) -> str:
    """The table in Markdown."""
    lines = ["| | migrax | peers | times faster than the best |", "|---|---|---|---|"]
    for name, rows in _ROWS.items():
        if name in measured:
            found = rows(measured[name])
            lines += [f"| {what} (`{name}`) | {ours} | {peers} | {faster} |" for what, ours, peers, faster in found]
    return "\n".join(lines) + "\n"


def _of(rows: list[Row], name: str, **where: Any) -> Row:
    """The row of a contestant."""
    return next(row for row in rows if row["name"] == name and all(row[key] == where[key] for key in where))


def _time(rows: list[Row], name: str, key: str = "time", **where: Any) -> str:
    if not any(row["name"] == name for row in rows):
        return _ABSENT
    return shown_time(_of(rows, name, **where)[key]["median_s"])


def _rate(rows: list[Row], name: str, key: str = "per_second", **where: Any) -> str:
    if not any(row["name"] == name for row in rows):
        return _ABSENT
    return shown_rate(_of(rows, name, **where)[key])


def _faster(rows: list[Row], ours: str, peers: Iterable[str], key: str = "time", **where: Any) -> str:
    """By how much we are faster than the fastest of the peers: of times, or of rates."""

    def seconds(name: str) -> float:
        value = _of(rows, name, **where)[key]
        return value["median_s"] if is_timing(value) else 1 / value

    there = {row["name"] for row in rows if all(row[k] == where[k] for k in where) and row.get(key) is not None}
    ratio = min(seconds(name) for name in peers if name in there) / seconds(ours)
    return shown_number(float(f"{ratio:.2g}"))


def _robustness(record: Row) -> Iterator[Line]:
    def counts(name: str, **where: Any) -> str:
        row = _of(record["nist" if not where else "histogram"], name, **where)
        return f"{row['right']}, {row['falsely_valid']}"

    starts = {"likelihood": "tutorial"}
    yield (
        "200 random starts of the histogram of iminuit's tutorial: at the minimum, falsely valid",
        counts("migrax", **starts),
        f"iminuit {counts('iminuit', **starts)}; Optimistix BFGS {counts('optx.BFGS', **starts)}",
        "",
    )
    yield (
        "the 54 fits of the NIST StRD: at the certified minimum, falsely valid",
        counts("migrax"),
        f"iminuit {counts('iminuit')}; Optimistix BFGS {counts('optx.BFGS')}",
        "",
    )


def _warm_fit(record: Row) -> Iterator[Line]:
    rows = record["single"]
    yield (
        "that histogram fitted again, compiled: from Python / inside `jax.jit`",
        f"{_time(rows, 'migrax, from Python')} / {_time(rows, 'migrax, in jax.jit')}",
        f"iminuit with jitted gradient {_time(rows, 'iminuit')}",
        " / ".join(_faster(rows, name, ["iminuit"]) for name in ("migrax, from Python", "migrax, in jax.jit")),
    )


def _minos(record: Row) -> Iterator[Line]:
    crossings = record["minos_50"]
    yield (
        "all 102 crossings of MINOS, 51 parameters: time, crossings off by",
        f"{_time(crossings, 'migrax')}, {_of(crossings, 'migrax')['off']:.0e}",
        f"iminuit with jitted gradient {_time(crossings, 'iminuit')}, {_of(crossings, 'iminuit')['off']:.0e}",
        _faster(crossings, "migrax", ["iminuit"]),
    )
    keys = {"profile_50": "iminuit", "contour_50": "iminuit", "impacts_50": "iminuit (extrapolated)"}
    yield (
        "a profile of 30 points, a contour of 100, impacts of 50 nuisance parameters",
        ", ".join(_time(record[key], "migrax") for key in keys),
        "iminuit " + ", ".join(_time(record[key], name) for key, name in keys.items()),
        ", ".join(_faster(record[key], "migrax", [name]) for key, name in keys.items()),
    )


def _scaling(record: Row) -> Iterator[Line]:
    sizes = (10, 50, 200)

    def times(name: str) -> str:
        return ", ".join(_time(record["rows"], name, parameters=n) for n in sizes)

    faster = ", ".join(_faster(record["rows"], "migrax", ["iminuit"], parameters=n) for n in sizes)
    yield "10, 50, 200 parameters, compiled", times("migrax"), f"iminuit {times('iminuit')}", faster


def _cauchy_hessian(record: Row) -> Iterator[Line]:
    rows = record["rows"]
    best, plain = _of(rows, record["fastest"]), "plain jacfwd(jacrev)"
    numeric = _time(rows, "numdifftools (extrapolated)", "wall")
    yield (
        "exact Hessian of 9·10⁶ pixels: time, memory",
        f"{shown_time(best['wall']['median_s'])}, {best['peak_mb']:.0f} MB",
        f"plain JAX {_time(rows, plain, 'wall')}, {_of(rows, plain)['peak_mb']:.0f} MB; numdifftools {numeric}",
        _faster(rows, record["fastest"], [plain], "wall"),
    )


def _unbinned(record: Row) -> Iterator[Line]:
    rows = record["rows"]
    loop, stats = _time(rows, "iminuit, one numba loop"), _time(rows, "iminuit.cost, numba-stats")
    zfit = f"; zfit {_time(rows, 'zfit')}" if any(row["name"] == "zfit" for row in rows) else ""
    yield (
        "a million events, a peak on an exponential, 4 parameters: by `mx.distributions` / density by hand",
        f"{_time(rows, 'migrax, mx.distributions')} / {_time(rows, 'migrax, density by hand')}",
        f"iminuit with numba-stats {stats}, with one parallel numba loop {loop}{zfit}",
        " / ".join(
            _faster(rows, f"migrax, {how}", ["iminuit, one numba loop", "zfit"])
            for how in ("mx.distributions", "density by hand")
        ),
    )


def _densities(record: Row) -> Iterator[Line]:
    names = ("Normal", "Mixture: Normal, Exponential", "CrystalBall", "Gamma")
    ours, theirs = ([_of(record["rows"], name)[f"gradient{key}_ns"] for name in names] for key in ("", "_by_hand"))
    yield (
        "log of the probability of a bin with its gradient, in batches, one core: normal, the same on an exponential, "
        "Crystal Ball, gamma",
        ", ".join(f"{ns:.0f} ns" for ns in ours),
        f"difference of cdfs by hand in JAX {', '.join(f'{ns:.0f} ns' for ns in theirs)}",
        ", ".join(shown_number(float(f"{b / a:.2g}")) for a, b in zip(ours, theirs, strict=True)),
    )


def _template_fit(record: Row) -> Iterator[Line]:
    rows = record["rows"]
    yield (
        "a template fit, full Barlow-Beeston, 3 x 100 bins",
        _time(rows, "migrax, bb"),
        f"iminuit with all 303 parameters and jitted gradient {_time(rows, 'iminuit, bb as 303 parameters')}",
        _faster(rows, "migrax, bb", ["iminuit, bb as 303 parameters"]),
    )


def _toys(record: Row) -> Iterator[Line]:
    rows, drawn = record["rows"], record["drawing"]
    peers = {"iminuit, numba": "iminuit with numba-stats", "iminuit, numba, strategy 0": "with strategy 0"}
    peers |= {"iminuit, jitted JAX": "with jitted JAX"}
    problems = {
        "normal, in bins": "a normal distribution in 100 bins, 3 parameters",
        "normal on an exponential, in bins": "the same on an exponential, 5 parameters",
    }
    ours = ("mx.fit_toys", "mx.fit_toys, hesse=False")
    for problem, shown in problems.items():
        where = {"problem": problem}
        yield (
            f"toys of {shown}, on one core, a second: with exact errors / without second derivatives",
            " / ".join(_rate(rows, name, **where) for name in ours),
            ", ".join(f"{there} {_rate(rows, name, **where)}" for name, there in peers.items()),
            " / ".join(_faster(rows, name, peers, "per_second", **where) for name in ours),
        )
    yield (
        "a Poisson count drawn",
        f"{_of(drawn, 'mx.sample')['per_count_ns']:.0f} ns",
        f"`jax.random.poisson` {_of(drawn, 'jax.random.poisson')['per_count_ns']:.0f} ns, "
        f"NumPy {_of(drawn, 'NumPy')['per_count_ns']:.0f} ns",
        _faster(drawn, "mx.sample", ["jax.random.poisson", "NumPy"]),
    )


def _toys_scaling(record: Row) -> Iterator[Line]:
    rows, sizes, ours, theirs = record["parameters"], (10, 50, 200), "mx.fit_toys, hesse=False", "iminuit, jitted JAX"

    def rates(name: str) -> str:
        return ", ".join(_rate(rows, name, parameters=n) for n in sizes)

    yield (
        "toys of 1000 bins, 10, 50, 200 parameters, without second derivatives, a second",
        rates(ours),
        f"iminuit with jitted JAX {rates(theirs)}",
        ", ".join(_faster(rows, ours, [theirs], "per_second", parameters=n) for n in sizes),
    )
    million = record["number"][-1]
    yield (
        f"{shown_rate(million['toys'])} toys of the 100 bins drawn and fitted with exact errors, two cores, a second",
        shown_rate(million["per_second"]),
        "",
        "",
    )


def _hypotest(record: Row) -> Iterator[Line]:
    rows, drawn = record["asymptotic"], record["toys"]
    peers = {"pyhf, numpy": "NumPy", "pyhf, jax": "JAX"}
    theirs = ", ".join(f"{_time(rows, name, what='upper_limit')} ({short})" for name, short in peers.items())
    yield (
        "upper limit with its band, two bins, warm",
        _time(rows, "migrax", what="upper_limit"),
        f"pyhf with minuit {theirs}",
        _faster(rows, "migrax", peers, what="upper_limit"),
    )
    yield (
        "test by 10,000 + 10,000 toys of q̃mu, two bins, toys a second",
        _rate(drawn, "migrax"),
        f"pyhf {_rate(drawn, drawn[-1]['name'])}",
        _faster(drawn, "migrax", [drawn[-1]["name"]], "per_second"),
    )


def _workspace(record: Row) -> Iterator[Line]:
    rows, toys = record["rows"], record["toys"]
    peers = ("pyhf, numpy", "pyhf, jax", "nextstat")
    published = {"fit": "a published ATLAS likelihood, 64 free parameters: a fit", "test": "its asymptotic test"}
    for what, shown in published.items():
        mine = ("migrax", "migrax, inside jax.jit")
        pyhf = [_time(rows, name, what=what) for name in ("pyhf, numpy", "pyhf, jax")]
        nextstat = _time(rows, "nextstat", what=what)
        yield (
            f"{shown}, from Python / inside `jax.jit`",
            " / ".join(_time(rows, name, what=what) for name in mine),
            f"pyhf with minuit {pyhf[0]} (NumPy), {pyhf[1]} (JAX); NextStat {nextstat}",
            " / ".join(_faster(rows, name, peers, what=what) for name in mine),
        )
    fits, tests = {"what": "fits of toys"}, {"what": "tests by toys"}
    faster = [_faster(toys, name, peers, "per_second", **fits) for name in ("migrax", "migrax, hesse=False")]
    yield (
        "its toys a second: fits with exact errors / without second derivatives, tests",
        f"{_rate(toys, 'migrax', **fits)} / {_rate(toys, 'migrax, hesse=False', **fits)}, "
        f"{_rate(toys, 'migrax', **tests)}",
        f"pyhf {_rate(toys, 'pyhf, numpy', **fits)}, {_rate(toys, 'pyhf, numpy', **tests)}; "
        f"NextStat {_rate(toys, 'nextstat', **fits)}, {_rate(toys, 'nextstat', **tests)}",
        f"{' / '.join(faster)}, {_faster(toys, 'migrax', peers, 'per_second', **tests)}",
    )


def _workspace_limit(record: Row) -> Iterator[Line]:
    rows = record["rows"]
    asked = _of(rows, "pyhf, numpy")["asked"]
    yield (
        "the upper limit on its signal, with its band",
        _time(rows, "migrax"),
        f"pyhf {_time(rows, 'pyhf, numpy')} (NumPy), {_time(rows, 'pyhf, jax')} (JAX), {asked} of its tests; "
        f"NextStat {_time(rows, 'nextstat')}",
        _faster(rows, "migrax", ["pyhf, numpy", "pyhf, jax", "nextstat"]),
    )


def _limit_scaling(record: Row) -> Iterator[Line]:
    rows = record["rows"]
    sizes = [row["bins"] for row in rows if row["name"] == "migrax"]
    yield (
        f"upper limit with its band, {', '.join(sizes)} parameters",
        ", ".join(_time(rows, "migrax", "limit", bins=size) for size in sizes),
        f"pyhf's one test, {sizes[0]} parameters, {_time(rows, 'pyhf, one test', 'limit')}",
        "",
    )


def _workspace_scaling(record: Row) -> Iterator[Line]:
    rows, models = record["rows"], list(dict.fromkeys(row["model"] for row in record["rows"]))

    def times(name: str, key: str) -> str:
        return ", ".join(_time(rows, name, key, model=model) for model in models)

    few, peers = models[0], ("pyhf, jax", "pyhs3, jax", "nextstat")
    yield (
        "one value of minus log L of workspaces with 2, 64, 500 parameters, from Python",
        times("migrax", "called"),
        f"pyhf's jitted JAX {times('pyhf, jax', 'called')}; pyhs3's (2 parameters) "
        f"{_time(rows, 'pyhs3, jax', 'called', model=few)}; NextStat {times('nextstat', 'called')}",
        ", ".join(_faster(rows, "migrax", peers, "called", model=model) for model in models),
    )
    yield (
        "the same in a compiled loop, as a fit sees it",
        times("migrax", "loop"),
        f"pyhf's JAX {times('pyhf, jax', 'loop')}; pyhs3's (2 parameters) "
        f"{_time(rows, 'pyhs3, jax', 'loop', model=few)}",
        ", ".join(_faster(rows, "migrax", peers, "loop", model=model) for model in models),
    )


def _first_call(record: Row) -> Iterator[Line]:
    rows = record["rows"]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    beside = [case for case in cases if any(row["case"] == case and row["name"] == "iminuit" for row in rows)]

    def times(name: str, key: str, cases: Sequence[str]) -> str:
        return ", ".join(_time(rows, name, key, case=case) for case in cases)

    yield (
        "the first fit of a process, with all that it needs: the histogram by a formula, by `mx.distributions`, four "
        "channels of 27 parameters",
        times("migrax", "fit", beside),
        f"iminuit with jitted gradient {times('iminuit', 'fit', beside)}",
        ", ".join(_faster(rows, "migrax", ["iminuit"], "fit", case=case) for case in beside),
    )
    yield (
        "then MINOS of all, a profile, a contour of that histogram",
        ", ".join(_time(rows, "migrax", key, case=beside[0]) for key in ("MINOS", "profile of 30", "contour of 100")),
        "iminuit "
        + ", ".join(
            _time(rows, "iminuit", key, case=beside[0]) for key in ("MINOS", "profile of 30", "contour of 100")
        ),
        "",
    )
    yield (
        "ATLAS sbottom in a new process: fit, MINOS, limit with band, impacts of all",
        ", ".join(_time(rows, "migrax", key, case=cases[3]) for key in ("fit", "MINOS", "limit", "impacts")),
        "migrax, each one program "
        + ", ".join(
            _time(rows, "migrax, one program", key, case=cases[3]) for key in ("fit", "MINOS", "limit", "impacts")
        ),
        "",
    )


_ROWS: dict[str, Callable[[Row], Iterator[Line]]] = {
    "robustness": _robustness,
    "warm_fit": _warm_fit,
    "minos": _minos,
    "scaling": _scaling,
    "cauchy_hessian": _cauchy_hessian,
    "unbinned": _unbinned,
    "densities": _densities,
    "template_fit": _template_fit,
    "toys": _toys,
    "toys_scaling": _toys_scaling,
    "hypotest": _hypotest,
    "workspace": _workspace,
    "workspace_limit": _workspace_limit,
    "limit_scaling": _limit_scaling,
    "workspace_scaling": _workspace_scaling,
    "first_call": _first_call,
}
