"""The same toys and the same fits over 8 devices, and over two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import migrax as mx
import sharded

SCRIPT = Path(sharded.__file__)


def start(devices, *arguments, script=SCRIPT):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    try:
        out, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    lines = [line for line in out.splitlines() if line.startswith("RESULT ")]
    assert process.returncode == 0, errors[-2000:]
    assert lines, errors[-2000:]
    return json.loads(lines[-1].removeprefix("RESULT "))


@pytest.fixture(scope="module")
def here():
    return {"drawn": sharded.told(sharded.fits()), "given": sharded.told(sharded.fits(toys=sharded.poisoned()))}


def compare(found, here):
    for kind in ("drawn", "given"):
        assert found[kind]["status"] == here[kind]["status"]
        for name in ("values", "errors"):
            np.testing.assert_allclose(found[kind][name], here[kind][name], rtol=1e-9, atol=1e-9)
    assert sum(status != int(mx.Status.VALID) for status in found["given"]["status"]) == 10


@pytest.mark.slow
def test_eight_devices(here):
    compare(finish(start(8, "devices", 8)), here)


@pytest.mark.slow
def test_two_processes(here, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(2, "process", i, port, tmp_path / "toys") for i in (0, 1)]
    found = [finish(process) for process in processes]
    for one in found:
        compare(one, here)
        assert one["again"] == one["drawn"]
    assert found[0] == found[1]
    assert len(list((tmp_path / "toys").glob("batch-*"))) == 3


def test_one_device_is_a_mesh_too(here):
    found = sharded.told(sharded.fits(jax.make_mesh((1,), ("toys",), devices=jax.devices()[:1])))
    np.testing.assert_allclose(found["values"], here["drawn"]["values"], rtol=1e-9)


def test_no_mesh():
    with pytest.raises(TypeError, match=r"mesh must be a jax\.sharding\.Mesh, such as"):
        sharded.fits(jax.devices())
