"""A million toys in a hundred shards, merged, beside one run of all of them.

A peak on an exponential in 100 bins, by `mx.PoissonNLL` of distributions; both with the same batch size, each in a new
process, each with a store on disk. `CPU` is the time of all threads, compilation and writing too; the shards run one
after the other, so that each begins and ends as a job does, but in a process that has compiled. `one job` is what a
process of its own needs besides: the import, tracing and compilation, with one toy a batch of the same size.
"""

import functools
import hashlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ._common import Row, Table, fresh, main
from ._contestants import mx

TOYS, SHARDS, BATCH, BINS = 1_000_000, 100, 2500, 100
D = mx.distributions


@functools.cache
def problem() -> tuple[Any, Any]:
    def model(p: Any) -> Any:
        parts = [D.Normal(p["mean"], p["width"]), D.Exponential(p["slope"], 0.0, 10.0)]
        return D.Mixture(parts, yields=[p["s"], p["b"]])

    nll = mx.PoissonNLL(distribution=model, edges=np.linspace(0.0, 10.0, BINS + 1))
    params = {"s": mx.Parameter(500.0, lower=0.0), "b": mx.Parameter(5000.0, lower=0.0)}
    params |= {"mean": mx.Parameter(4.0), "width": mx.Parameter(0.5, lower=0.1), "slope": mx.Parameter(0.3, lower=0.0)}
    return nll, params


def fitted(n: int, covariance: Any, **options: Any) -> int:
    """Returns the number of valid fits."""
    nll, params = problem()
    toys = mx.Toys(n, jax.random.key(1))
    count = lambda fits: int(np.sum(np.asarray(fits.valid)))  # noqa: E731
    return sum(mx.reduce_toys(count, nll, params, toys, covariance=covariance, batch_size=BATCH, **options))


def expected_covariance() -> Any:
    nll, params = problem()
    return mx.fit(nll, params, mx.asimov(nll, params)).covariance


def jobs(n: int, shards: int) -> Row:
    """In a fresh process: all toys, in so many shards. `shards`: 0 for one run."""
    folder = Path(tempfile.mkdtemp())
    try:
        begun, cpu = time.perf_counter(), time.process_time()
        covariance = expected_covariance()
        if shards:
            stores = [folder / str(i) for i in range(shards)]
            valid = sum(fitted(n, covariance, store=path, shard=(i, shards)) for i, path in enumerate(stores))
            merging = time.process_time()
            merged = mx.merge(stores, folder / "all")
            merging, n_merged = time.process_time() - merging, len(merged)
        else:
            valid, merging, n_merged = fitted(n, covariance, store=folder / "all"), 0.0, n
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
        sums = {str(np.load(path)["checksum"]) for path in (folder / "all").glob("batch-*")}
    finally:
        shutil.rmtree(folder)
    row: Row = {"name": f"{shards} shards" if shards else "one run", "toys": n_merged, "valid": valid}
    return row | {"wall_s": wall, "cpu_s": cpu, "merge_s": merging, "checksums": hash_of(sums)}


def hash_of(sums: set[str]) -> str:
    return hashlib.sha256("".join(sorted(sums)).encode()).hexdigest()[:12]


def one_job() -> Row:
    """In a fresh process."""
    begun, cpu = time.perf_counter(), time.process_time()
    fitted(BATCH, expected_covariance())
    return {
        "name": f"one job of {BATCH} toys",
        "wall_s": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu,
    }


def measure() -> Row:
    rows = [fresh(jobs, TOYS, 0), fresh(jobs, TOYS, SHARDS), fresh(one_job)]
    for row in rows:
        row["ratio"] = row["cpu_s"] / rows[0]["cpu_s"]
    same = rows[0]["checksums"] == rows[1]["checksums"]
    return {"runs": rows, "bit_identical": same, "migrax_failed": not same or rows[1]["toys"] != TOYS}


def tables(record: Row) -> list[Table]:
    columns = {"name": "", "toys": "toys", "valid": "valid", "wall_s": "wall, s", "cpu_s": "CPU, s"}
    columns |= {"merge_s": "of it merging, s", "ratio": "CPU over one run's"}
    said = "bit for bit the same" if record["bit_identical"] else "NOT the same"
    return [Table(f"{TOYS:,} toys in batches of {BATCH:,}: merged, {said}", record["runs"], columns)]


def check() -> list[str]:
    one, many = jobs(4 * BATCH, 0), jobs(4 * BATCH, 4)
    return [] if one["checksums"] == many["checksums"] else ["shards: merged, they are not the single run"]


if __name__ == "__main__":
    main("shards", measure, tables, check)
