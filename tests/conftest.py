"""Tests run in float64, unless JAX_ENABLE_X64=0 asks for the float32 job."""

import os

import jax
import pytest

if "JAX_ENABLE_X64" not in os.environ:
    jax.config.update("jax_enable_x64", True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests go last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
