"""Tests run in float64, unless JAX_ENABLE_X64=0 asks for the float32 job, and compile as fast as XLA can."""

import gc
import os

import jaxlib

# Most of the tests' time is XLA's, for programs that run once: without LLVM's optimisations, XLA's newer emitters and
# programs cut in pieces it takes a third. Benchmarks and the demo run what users do; XLA_FLAGS (even empty) has the
# tests do so.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    version = tuple(int(n) for n in jaxlib.__version__.split(".")[:2])  # XLA gives up at a flag that it does not know
    if version < (0, 11):
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
    if version < (0, 13):
        os.environ["XLA_FLAGS"] += " --xla_cpu_parallel_codegen_split_count=1"

# Which way answers a call is tested where a test says so, and else does not depend on how quick the machine is.
os.environ.setdefault("MIGRAX_BACKGROUND", "0")

import jax
import pytest

if "JAX_ENABLE_X64" not in os.environ:
    jax.config.update("jax_enable_x64", True)


# Tracing makes many objects that live on: looking for garbage among them took a tenth of the time.
gc.set_threshold(100_000, 20, 100)


_COUNT = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """The float32 job is not told how to switch float64 on; modules that fit where they are imported would fail."""
    if not jax.config.jax_enable_x64:
        config.addinivalue_line("filterwarnings", "ignore:migrax is made for float64:UserWarning")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All cases of a grid but the first are slow; slow tests go last."""
    seen: set[str] = set()
    for item in items:
        function = item.nodeid.partition("[")[0]
        if function in seen and item.get_closest_marker("grid") is not None:
            item.add_marker("slow")
        seen.add(function)
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def _free_compiled_programs(request: pytest.FixtureRequest):
    """Frees the compiled programs where they are too many: each holds memory, and memory maps, of which a process may
    have some 65,000."""
    yield
    count = request.config.stash.get(_COUNT, 0) + 1
    request.config.stash[_COUNT] = count
    if count % 10 == 0 and _too_many():
        jax.clear_caches()


@pytest.fixture
def close_figures():
    """Those that pyplot keeps open."""
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def _too_many() -> bool:
    try:
        with open("/proc/self/statm", "rb") as numbers:
            pages = int(numbers.read().split()[1])
        with open("/proc/self/maps", "rb") as maps:
            return sum(1 for _ in maps) > 30_000 or pages * os.sysconf("SC_PAGE_SIZE") > 4e9
    except OSError:  # not Linux, which alone has such a limit
        return False
