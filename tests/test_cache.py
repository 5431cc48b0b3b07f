"""Compiled programs kept on disk: in processes of their own, as JAX has one cache a process."""

import os
import subprocess
import sys

import pytest

import migrax as mx

SCRIPT = """
import jax, jax.numpy as jnp, jax.monitoring, sys, warnings
jax.config.update("jax_enable_x64", True)
jnp.zeros(3).sum()  # JAX has looked for a cache before
import migrax as mx
hits = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    mx.cache(sys.argv[1], min_seconds=float(sys.argv[2]))
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None)
nll = lambda p, d: jnp.sum((d - p["a"]) ** 2)
value = jax.jit(lambda d: mx.fit(nll, {"a": 0.0}, d).values)(jnp.arange(4.0))
print(len(hits), len(caught), float(value[0]), jax.config.jax_persistent_cache_min_compile_time_secs)
"""


def run(folder, seconds="0", **environment):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | environment
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), seconds],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    hits, warned, value, kept = done.stdout.split()
    assert float(value) == pytest.approx(1.5)
    assert float(kept) == float(seconds)
    return int(hits), int(warned)


def test_the_second_process_reads(tmp_path):
    folder = tmp_path / "a" / "b"  # made with its parents
    assert run(folder) == (0, 0)
    hits, warned = run(folder)
    assert hits >= 1
    assert warned == 0


@pytest.mark.slow
def test_short_compilations_are_not_kept(tmp_path):
    run(tmp_path, "1000")
    assert run(tmp_path, "1000") == (0, 0)


@pytest.mark.slow
def test_it_says_if_nothing_can_be_read(tmp_path):
    assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="0") == (0, 1)


def test_wrong_input(tmp_path):
    with pytest.raises(ValueError, match="min_seconds must not be negative"):
        mx.cache(tmp_path, min_seconds=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        mx.cache(tmp_path / "file")
