"""The first answers of a process, with all that is traced and compiled for them.

Each session is a fresh process, timed after the imports: read the problem, fit and print, then errors, profiles,
contours, limits. migrax as it is, migrax with each call one XLA program (what a `jit` around it compiles), and iminuit
with the same likelihood, its value and gradient jitted: `migrad`, `hesse`, `minos`, `mnprofile`, `mncontour`. Beside
it the time that `import migrax` takes once jax, equinox and optimistix are imported.
"""

import contextlib
import time

import numpy as np

from migrax._host.ways import forced_to

from ._common import Row, Table, Timing, fresh, main, python
from ._contestants import MINUIT_SAME, SAME
from ._first import BESIDE_IMINUIT, CASES, iminuits, minimum, ours

PROCESSES = 5
WHO = ("migrax", "migrax, one program", "iminuit")
STEPS = ("read", "fit", "MINOS", "profile of 30", "contour of 100", "limit", "impacts")
_IMPORT = """import time, jax, equinox, optimistix
start = time.perf_counter()
import migrax
print(time.perf_counter() - start)"""


def session(who: str, case: str) -> Row:
    """Runs in a fresh process: the seconds of each step, and the values of the fit."""
    way = forced_to("program") if who == WHO[1] else contextlib.nullcontext()
    seconds = {}
    with way:
        steps, values = (iminuits if who == "iminuit" else ours)(case)
        for name, step in steps:
            start = time.perf_counter()
            step()
            seconds[name] = time.perf_counter() - start
        again = {}
        for name, step in steps:
            if name != "read":
                start = time.perf_counter()
                step()
                again[name] = time.perf_counter() - start
    return {"seconds": seconds, "again": again, "values": values().tolist()}


def _import_seconds() -> float:
    return float(python("-c", _IMPORT).stdout)


def _row(case: str, who: str, runs: list[Row], answer: tuple[np.ndarray, np.ndarray], key: str) -> Row:
    values, errors = answer
    units = np.where(errors > 0, errors, 1.0)  # one at its bound has no error
    distance = max(float(np.max(np.abs(np.array(run["values"]) - values) / units)) for run in runs)
    within = MINUIT_SAME if who == "iminuit" else SAME
    row: Row = {"case": case, "name": who, "errors_off": distance}
    row["failed"] = None if distance < within else f"{distance:.2g} errors off"
    if not row["failed"]:
        for step in runs[0][key]:
            row[step] = Timing.of([run[key][step] for run in runs]).record()
    return row


def measure() -> Row:
    first: list[Row] = []
    again: list[Row] = []
    for case in CASES:
        who = [w for w in WHO if w != "iminuit" or case in BESIDE_IMINUIT]
        runs: dict[str, list[Row]] = {w: [] for w in who}
        for i in range(PROCESSES):
            for w in who:
                if i == 0 or w != WHO[1]:  # programs take long, and it is known why
                    runs[w].append(fresh(session, w, case))
        answer = minimum(case)
        rows = {w: _row(case, w, done, answer, "seconds") for w, done in runs.items()}
        for w, row in rows.items():
            if w != WHO[0] and "fit" in row and "fit" in rows[WHO[0]]:
                row["ratio"] = row["fit"]["median_s"] / rows[WHO[0]]["fit"]["median_s"]
        first += rows.values()
        again += [_row(case, w, done, answer, "again") for w, done in runs.items()]
    imports = Timing.of([_import_seconds() for _ in range(PROCESSES)]).record()
    failed = any(row["failed"] for row in first if row["name"] == WHO[0])
    return {"rows": first, "again": again, "import_migrax": imports, "migrax_failed": failed}


def tables(record: Row) -> list[Table]:
    columns = {"case": "likelihood", "name": ""} | {step: step for step in STEPS}
    more = {"ratio": "fit, as long as migrax's", "errors_off": "errors off", "failed": "failed"}
    imported = [{"name": "import migrax, after jax, equinox and optimistix", "time": record["import_migrax"]}]
    title = f"First answers of a process ({PROCESSES} processes each, one of programs)"
    return [
        Table(title, record["rows"], columns | more, chart=("fit",)),
        Table("The same calls again, at once", record["again"], columns),
        Table("Import", imported, {"name": "", "time": "time"}),
    ]


def check() -> list[str]:
    complaints = []
    for case in BESIDE_IMINUIT[:2]:
        values, errors = minimum(case)
        for name, contestant, within in (("migrax", ours, SAME), ("iminuit", iminuits, MINUIT_SAME)):
            steps, found = contestant(case)
            for _, step in steps:
                step()
            distance = float(np.max(np.abs(found() - values) / errors))
            if not distance < within:
                complaints.append(f"{case}, {name}: {distance:.2g} errors off")
    return complaints


if __name__ == "__main__":
    main("first_call", measure, tables, check)
