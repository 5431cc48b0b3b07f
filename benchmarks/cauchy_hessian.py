"""The exact Hessian of 9 million pixels: `mx.chunked_sum` with `mx.hesse`, beside plain JAX and numdifftools.

The image has 3000 x 3000 pixels: a Gaussian source of five parameters on a flat background, the sixth, with Cauchy
noise. Each way to get the Hessian runs in a fresh process. Its time is that of a warm call; its memory is the peak of
the process (`getrusage`) less what the process held when the data were loaded, once with the compilation and once in
warm calls alone. numdifftools' time is the number of its calls (counted on a small image) times the time of one.
"""

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numdifftools
import numpy as np
from jaxtyping import Array, Float

import migrax as mx

from ._common import Row, Table, Timing, fresh, main, peak, reset_peak

SIDE = 3000
CHUNK = 10_000
CHUNKS = (1_000, 3_000, CHUNK, 30_000, 100_000)
REPEATS = 5
EQUAL = 1e-9
TRUTH = {"amp": 1.0, "x0": 0.0, "y0": 0.0, "sigma_x": 0.5, "sigma_y": 0.5, "background": 0.1}
NOISE = 0.5

Rows = tuple[Any, Any, Any]


def source(p: Mapping[str, Any], x: Any, y: Any, exp: Callable[[Any], Any]) -> Any:
    shape = exp(-0.5 * ((x - p["x0"]) / p["sigma_x"]) ** 2 - 0.5 * ((y - p["y0"]) / p["sigma_y"]) ** 2)
    return p["amp"] * shape + p["background"]


def image(side: int) -> Rows:
    """x, y and brightness of the pixels, each of shape `(side**2,)`."""
    axis = np.linspace(-5, 5, side)
    x, y = (a.ravel() for a in np.meshgrid(axis, axis))
    noise = NOISE * np.random.default_rng(1).standard_cauchy(side**2)
    return x, y, source(TRUTH, x, y, np.exp) + noise


def terms(p: Mapping[str, Any], rows: Rows) -> Float[Array, " pixels"]:
    """Minus log of the Cauchy density of each pixel, but for a constant."""
    x, y, d = rows
    return jnp.log1p(((d - source(p, x, y, jnp.exp)) / NOISE) ** 2)


def chunked(chunk_size: int) -> Callable[[Any, Any], Any]:
    """`mx.hesse` of a chunked sum; returns the covariance matrix, in the order of `TRUTH`."""

    def nll(p: Mapping[str, Any], rows: Rows) -> Array:
        return mx.chunked_sum(terms, p, rows, chunk_size=chunk_size)

    params = {name: mx.Parameter(value) for name, value in TRUTH.items()}
    order = np.argsort(np.argsort(list(TRUTH)))  # a dict's leaves come in alphabetical order
    return lambda rows, _: mx.hesse(nll, params, rows).matrix[np.ix_(order, order)]


def plain() -> Callable[[Any, Any], Any]:
    """`jax.jit(jax.jacfwd(jax.jacrev(nll)))`, as anybody would write it; returns the Hessian."""

    def nll(x: Float[Array, " 6"], rows: Rows) -> Array:
        return jnp.sum(terms(dict(zip(TRUTH, x, strict=True)), rows))

    hessian = jax.jit(jax.jacfwd(jax.jacrev(nll)))
    return lambda rows, x: hessian(x, rows)


def run(chunk_size: int | None, side: int, repeats: int) -> Row:
    """Runs in a fresh process: seconds, MB and the covariance, of `chunked(chunk_size)` or of `plain()`."""
    rows = jax.block_until_ready(tuple(jnp.asarray(a) for a in image(side)))
    x = jax.block_until_ready(jnp.array(list(TRUTH.values())) + 0.0)
    gc.collect()  # JAX lets go of the NumPy arrays at its next call, which was the line before
    call = plain() if chunk_size is None else chunked(chunk_size)
    loaded = reset_peak()
    first, _, matrix = _clock(lambda: call(rows, x))
    with_compilation = peak() - loaded
    reset_peak()
    times = [_clock(lambda: call(rows, x))[:2] for _ in range(repeats)]
    matrix = np.asarray(matrix)
    return {
        "first_call": first,
        "wall": [wall for wall, _ in times],
        "cpu": [cpu for _, cpu in times],
        "loaded_mb": loaded,
        "peak_mb": with_compilation,
        "warm_peak_mb": peak() - loaded,
        "covariance": (np.linalg.inv(matrix) if chunk_size is None else matrix).tolist(),
    }


def _clock(call: Callable[[], Any]) -> tuple[float, float, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(call())
    return time.perf_counter() - wall, time.process_time() - cpu, result


def _numpy_nll(rows: Rows) -> Callable[[np.ndarray], float]:
    x, y, d = rows
    noise = lambda p: (d - source(p, x, y, np.exp)) / NOISE  # noqa: E731
    return lambda v: float(np.sum(np.log1p(noise(dict(zip(TRUTH, v, strict=True))) ** 2)))


def numeric(side: int) -> Row:
    """Runs in a fresh process: what numdifftools would take, and its covariance of a small image."""
    small, calls = _numpy_nll(image(60)), 0

    def counted(v: np.ndarray) -> float:
        nonlocal calls
        calls += 1
        return small(v)

    at = np.array(list(TRUTH.values()))
    hessian = numdifftools.Hessian(counted)(at)
    large = _numpy_nll(image(side))
    loaded = reset_peak()
    seconds = [_clock(lambda: large(at))[0] for _ in range(3)]
    matrix = np.linalg.inv(np.asarray(hessian, float))
    one = Timing.of(seconds).record()
    return {"calls": calls, "call": one, "peak_mb": peak() - loaded, "covariance": matrix.tolist()}


def difference(a: Any, b: Any) -> float:
    """The largest difference of two covariance matrices, in units of the errors' products."""
    a, b = np.asarray(a), np.asarray(b)
    errors = np.sqrt(np.abs(np.diag(b)))
    return float(np.max(np.abs(a - b) / np.outer(errors, errors)))


def _row(name: str, done: Row, reference: Row) -> Row:
    apart = difference(done["covariance"], reference["covariance"])
    row: Row = {"name": name, "difference": apart, "failed": None if apart < EQUAL else "another matrix"}
    if row["failed"]:
        return row
    kept = ("first_call", "loaded_mb", "peak_mb", "warm_peak_mb")
    row |= {key: done[key] for key in kept} | {key: Timing.of(done[key]).record() for key in ("wall", "cpu")}
    row["faster"] = Timing.of(reference["wall"]).median / row["wall"]["median_s"]
    row["memory"] = row["peak_mb"] / reference["peak_mb"]
    return row


def _numeric_row(reference: Row) -> Row:
    done, small = fresh(numeric, SIDE), fresh(run, None, 60, 1)
    apart = difference(done["covariance"], small["covariance"])
    row: Row = {"name": "numdifftools (extrapolated)", "calls": done["calls"], "difference": apart}
    row["failed"] = None if apart < 1e-4 else "another matrix"
    if not row["failed"]:
        seconds = {k: v * done["calls"] if k.endswith("_s") else v for k, v in done["call"].items()}
        row |= {"wall": seconds, "peak_mb": done["peak_mb"]}
        row["faster"] = Timing.of(reference["wall"]).median / seconds["median_s"]
        row["memory"] = done["peak_mb"] / reference["peak_mb"]
    return row


def measure() -> Row:
    reference = fresh(run, None, SIDE, REPEATS)
    rows = [_row("plain jacfwd(jacrev)", reference, reference)]
    rows += [_row(f"migrax, chunks of {size:,}", fresh(run, size, SIDE, REPEATS), reference) for size in CHUNKS]
    best = min((row for row in rows[1:] if not row["failed"]), key=lambda row: row["wall"]["median_s"], default=None)
    rows.append(_numeric_row(reference))
    failed = any(row["failed"] for row in rows[1:-1])
    return {"rows": rows, "fastest": best["name"] if best else None, "migrax_failed": failed}


def tables(record: Row) -> list[Table]:
    columns = {"name": "", "wall": "warm call", "cpu": "CPU time", "faster": "faster than plain"}
    columns |= {"first_call": "first call, s", "peak_mb": "peak, MB", "warm_peak_mb": "peak, MB, warm"}
    columns |= {"memory": "of plain's memory", "difference": "difference", "calls": "calls", "failed": "failed"}
    title = f"Exact Hessian of {SIDE} x {SIDE} pixels, 6 parameters (fastest: {record['fastest']})"
    return [Table(title, record["rows"], columns, chart=("wall",))]


def check() -> list[str]:
    """On 100 x 100 pixels, in chunks that do and do not divide them."""
    reference = run(None, 100, 1)
    apart = {size: difference(run(size, 100, 1)["covariance"], reference["covariance"]) for size in (1000, 3001)}
    return [f"chunks of {size}: another matrix, by {d:.1g}" for size, d in apart.items() if not d < EQUAL]


if __name__ == "__main__":
    main("cauchy_hessian", measure, tables, check)
