"""What every benchmark shares: fresh processes, times, peak memory, the record of the machine and JSON."""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

from ._tables import Row as Row, Table as Table, Timing as Timing

ROOT = Path(__file__).resolve().parents[1]
BESIDE = "_python"  # between the name of a benchmark and the version of a second Python
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("jax", "jaxlib", "optimistix", "equinox", "iminuit", "numpy")
PEERS = ("everwillow", "nextstat", "numba-stats", "numdifftools", "pyhf", "pyhs3", "zfit")

_MARK = "@@result@@ "
_CACHE = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")


# Processes


def environment() -> dict[str, str]:
    """The environment of a benchmark: float64, on the CPU unless the caller says otherwise, and no cache of compiled
    programs."""
    clean = {key: value for key, value in os.environ.items() if key not in _CACHE}
    return {"JAX_PLATFORMS": "cpu"} | clean | {"JAX_ENABLE_X64": "1", "JAX_ENABLE_COMPILATION_CACHE": "0"}


def python(*arguments: str, capture: bool = True, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Runs this Python afresh in the root of the repository."""
    command = [sys.executable, *arguments]
    out = subprocess.PIPE if capture else None
    return subprocess.run(
        command, cwd=ROOT, env=environment(), stdout=out, stderr=out, text=True, check=False, timeout=timeout
    )


def fresh(function: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> Any:
    """Calls `function(*arguments)` of a benchmark's module in a fresh process and returns what it returned, as JSON.

    **Raises:** `RuntimeError` with the end of its output if the process fails, or takes more than `timeout` seconds.
    """
    name = function.__module__ if function.__module__ != "__main__" else f"benchmarks.{_stem(function)}"
    try:
        done = python("-m", "benchmarks._common", name, function.__name__, json.dumps(arguments), timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{function.__name__}{arguments}: no answer in {timeout:g} s") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"{name}.{function.__name__} failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return json.loads(lines[-1].removeprefix(_MARK))


def _stem(function: Callable[..., Any]) -> str:
    return Path(function.__code__.co_filename).stem


def _job(module: str, function: str, arguments: str) -> None:
    returned = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    print(_MARK + json.dumps(returned))


# Time


def clock(call: Callable[[], Any]) -> float:
    """Seconds until the result of one call is there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def race(calls: Mapping[str, Callable[[int], Any]], repeats: int, budget: float = 60.0) -> dict[str, Timing]:
    """Times `call(i)` for i = 0, 1, ...: in turn, so that a busy machine slows all of them and not the unlucky one.

    Each has been called before, so that nothing is compiled here. One that has used up its `budget` of seconds stops
    early.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(repeats):
        for name, call in calls.items():
            if sum(seconds[name]) < budget:
                seconds[name].append(clock(lambda call=call, i=i: call(i)))
    return {name: Timing.of(times) for name, times in seconds.items()}


# Memory


def resident() -> float:
    """The memory that this process holds now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak() -> float:
    """The most memory that this process ever held (or since `reset_peak`), in MB."""
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo / 1e6


def reset_peak() -> float:
    """Starts the measurement of the peak anew, where Linux lets us, and returns the memory held now, in MB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return resident()
    except OSError:
        return peak()


# Records


def machine() -> Row:
    """On what the numbers were measured. No names of hosts, users or files."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **versions,
        "backend": jax.default_backend(),
        "date": datetime.date.today().isoformat(),
    }


def peers() -> dict[str, str]:
    """The versions of the peers that this process has imported."""
    return {name: importlib.metadata.version(name) for name in PEERS if name.replace("-", "_") in sys.modules}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def main(
    name: str, measure: Callable[[], Row], tables: Callable[[Row], list[Table]], check: Callable[[], list[str]]
) -> None:
    """The command line of one benchmark: `measure()` returns the record, which is written, and `tables` of it are
    printed; with `--quick`, `check()` returns what is wrong, nothing is timed and nothing is written."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--quick", action="store_true", help="check the answers in seconds; no times, no JSON")
    parser.add_argument("--beside", action="store_true", help="keep it beside that of another Python")
    options = parser.parse_args()
    if options.quick:
        wrong = check()
        print(f"{name}: " + ("; ".join(wrong) if wrong else "the answers are right"))
        sys.exit(bool(wrong))
    begun, measured = machine(), measure()
    record = {"benchmark": name, "machine": begun | peers(), **measured}
    for table in tables(record):
        print(f"\n{table.text()}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    kept = f"{name}{BESIDE}{sys.version_info.major}.{sys.version_info.minor}" if options.beside else name
    (RESULTS / f"{kept}.json").write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(bool(record.get("migrax_failed")))


if __name__ == "__main__":
    _job(*sys.argv[1:])
