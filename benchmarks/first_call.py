"""The first fit of a process, compilation included: the tutorial's histogram, migrax beside iminuit.

Each first fit is timed in a fresh process of its own, after the imports and with the data at hand. iminuit compiles
the value and the gradient, then runs `migrad()` and `hesse()`. Beside it the time that `import migrax` takes once
jax, equinox and optimistix are imported.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _tutorial as tutorial
from ._common import Row, Table, Timing, fresh, main, python
from ._contestants import Contestant, Minimum, iminuit, migrax, newton

PROCESSES = 5
_IMPORT = """import time, jax, equinox, optimistix
start = time.perf_counter()
import migrax
print(time.perf_counter() - start)"""
_STAGES = {"trace": "jaxpr_trace", "lower": "jaxpr_to_mlir_module", "compile": "backend_compile"}


def contestants() -> dict[str, Contestant]:
    vector = tutorial.of_vector(tutorial.nll)
    both = (migrax(tutorial.nll, tutorial.params), iminuit(vector, tutorial.LIMITS))
    return {contestant.name: contestant for contestant in both}


def first_fit(name: str) -> Row:
    """Runs in a fresh process: the seconds of the first fit (wall clock and CPU) and of the second."""
    contestant, data = contestants()[name], jnp.asarray(tutorial.COUNTS, float)
    stages = dict.fromkeys(_STAGES, 0.0)

    def listen(event: str, duration_secs: float, **kwargs: Any) -> None:
        for stage, key in _STAGES.items():
            stages[stage] += duration_secs if f"/{key}" in event else 0.0

    jax.monitoring.register_event_duration_secs_listener(listen)
    wall, cpu = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(contestant.run(tutorial.START, data))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    first_stages = dict(stages)
    start = time.perf_counter()
    jax.block_until_ready(contestant.run(tutorial.START, data))
    second = time.perf_counter() - start
    fit = contestant.read(result)
    minimum = _minimum()
    answer = {"complaint": minimum.complaint(fit, contestant.within), "distance": minimum.distance(fit.values)}
    return {"wall": wall, "cpu": cpu, "second": second, "stages": first_stages} | answer


def _minimum() -> Minimum:
    return newton(tutorial.of_vector(tutorial.nll), tutorial.TRUTH, jnp.asarray(tutorial.COUNTS, float))


def _import_seconds() -> float:
    return float(python("-c", _IMPORT).stdout)


def _row(name: str, runs: list[Row]) -> Row:
    complaints = [run["complaint"] for run in runs if run["complaint"]]
    row: Row = {"name": name, "failed": complaints[0] if complaints else None, "errors_off": runs[0]["distance"]}
    if not complaints:
        for key in ("wall", "cpu", "second"):
            row[key] = Timing.of([run[key] for run in runs]).record()
        for stage in _STAGES:
            row[stage] = float(np.median([run["stages"][stage] for run in runs]))
    return row


def measure() -> Row:
    runs: dict[str, list[Row]] = {name: [] for name in contestants()}
    imports = []
    for _ in range(PROCESSES):
        for name, done in runs.items():
            done.append(fresh(first_fit, name))
        imports.append(_import_seconds())
    rows = [_row(name, done) for name, done in runs.items()]
    if not any(row["failed"] for row in rows):
        for row in rows:
            row["ratio"] = rows[1]["wall"]["median_s"] / row["wall"]["median_s"]
    return {"rows": rows, "import_migrax": Timing.of(imports).record(), "migrax_failed": bool(rows[0]["failed"])}


def tables(record: Row) -> list[Table]:
    columns = {"name": "", "wall": "first fit, wall", "cpu": "CPU time", "ratio": "faster than iminuit"}
    columns |= {"trace": "trace, s", "lower": "lower, s", "compile": "XLA, s", "second": "second fit"}
    columns |= {"errors_off": "errors off", "failed": "failed"}
    title = f"First fit of a process, with compilation ({PROCESSES} processes each)"
    imported = [{"name": "import migrax, after jax, equinox and optimistix", "time": record["import_migrax"]}]
    return [
        Table(title, record["rows"], columns, chart=("wall",)),
        Table("Import", imported, {"name": "", "time": "time"}),
    ]


def check() -> list[str]:
    data, minimum = jnp.asarray(tutorial.COUNTS, float), _minimum()
    fits = {name: contestant.fit(tutorial.START, data) for name, contestant in contestants().items()}
    complaints = {name: minimum.complaint(fit, contestants()[name].within) for name, fit in fits.items()}
    return [f"{name}: {complaint}" for name, complaint in complaints.items() if complaint]


if __name__ == "__main__":
    main("first_call", measure, tables, check)
