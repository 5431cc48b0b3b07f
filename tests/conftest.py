"""Tests run in float64, unless JAX_ENABLE_X64=0 asks for the float32 job."""

import os

import jax
import pytest

if "JAX_ENABLE_X64" not in os.environ:
    jax.config.update("jax_enable_x64", True)


_COUNT = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """The float32 job is not told how to switch float64 on; modules that fit where they are imported would fail."""
    if not jax.config.jax_enable_x64:
        config.addinivalue_line("filterwarnings", "ignore:migrax is made for float64:UserWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests go last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def _free_compiled_programs(request: pytest.FixtureRequest):
    """Frees the compiled programs where they are too many: each holds memory maps, of which a process may have some
    65,000."""
    yield
    count = request.config.stash.get(_COUNT, 0) + 1
    request.config.stash[_COUNT] = count
    if count % 10 == 0 and _memory_maps() > 40_000:
        jax.clear_caches()


def _memory_maps() -> int:
    try:
        with open("/proc/self/maps", "rb") as maps:
            return sum(1 for _ in maps)
    except OSError:  # not Linux, which alone has such a limit
        return 0
