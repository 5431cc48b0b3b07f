"""Toys that survive: a store is whole or refused by name, and what it holds is not fitted again."""

import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from toy_jobs import same, started

TEMPLATE = jnp.array([3.0, 8.0, 5.0])
PARAMS = {"mu": mx.Parameter(1.0, lower=0.0), "b": mx.Parameter(20.0, lower=0.0)}
KEY = jax.random.key(7)
N, SIZE = 1000, 128


def expected(p):
    return p["mu"] * TEMPLATE + p["b"]


NLL = mx.PoissonNLL(expected)


def run(path=None, nll=NLL, toys=None, params=PARAMS, reduce=None, **options):
    toys = mx.Toys(N, KEY) if toys is None else toys
    fit_toys = mx.fit_toys if reduce is None else functools.partial(mx.reduce_toys, reduce)
    return fit_toys(nll, params, toys, store=path, **({"batch_size": SIZE} | options))


@pytest.fixture(scope="module")
def reference():
    return run()


@pytest.mark.slow
def test_stored_and_read_again(tmp_path, reference):
    same(run(tmp_path / "toys"), reference)
    files = sorted((tmp_path / "toys").glob("batch-*"))
    assert len(files) == 8
    times = [file.stat().st_mtime_ns for file in files]
    same(run(tmp_path / "toys"), reference)
    assert [file.stat().st_mtime_ns for file in files] == times


def test_goes_on_where_it_was(tmp_path, reference):
    run(tmp_path / "toys")
    for i in (0, 3, 7):
        (tmp_path / "toys" / f"batch-{i:06d}.npz").unlink()
    kept = tmp_path / "toys" / "batch-000005.npz"
    before = kept.stat().st_mtime_ns
    same(run(tmp_path / "toys", batch_size=None), reference)  # the store knows the size
    assert kept.stat().st_mtime_ns == before


def test_an_interrupt_loses_the_batch_under_way_only(tmp_path, reference):
    seen = []

    def stop(result):
        seen.append(result)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "toys", reduce=stop)
    assert len(list((tmp_path / "toys").glob("batch-*"))) == 3
    same(run(tmp_path / "toys"), reference)


OTHERS = {
    "another key": lambda path: run(path, toys=mx.Toys(N, jax.random.key(8))),
    "another start": lambda path: run(path, params={**PARAMS, "b": mx.Parameter(21.0, lower=0.0)}),
    "another bound": lambda path: run(path, params={**PARAMS, "b": mx.Parameter(20.0, lower=1.0)}),
    "another constant": lambda path: run(path, nll=mx.PoissonNLL(lambda p: p["mu"] * (TEMPLATE + 1.0) + p["b"])),
    "no errors": lambda path: run(path, hesse=False),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "toys"
    run(path)
    return path


@pytest.mark.grid
@pytest.mark.parametrize("case", OTHERS)
def test_of_another_problem(case, store):
    with pytest.raises(ValueError, match="belongs to another problem"):
        OTHERS[case](store)


def test_the_same_in_other_words(store, reference):
    """A new function object with the same mathematics is the same problem."""
    same(run(store, nll=mx.PoissonNLL(lambda p: p["mu"] * TEMPLATE + p["b"])), reference)


def test_of_other_batches_or_versions(tmp_path):
    run(tmp_path / "toys")
    with pytest.raises(ValueError, match="has batches of 128 toys"):
        run(tmp_path / "toys", batch_size=100)
    manifest = tmp_path / "toys" / "manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(told | {"jax": "0.1.0"}))
    with pytest.raises(ValueError, match=r"was written with jax 0\.1\.0"):
        run(tmp_path / "toys")
    manifest.write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        run(tmp_path / "toys")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged(damage, tmp_path, reference):
    run(tmp_path / "toys")
    path = tmp_path / "toys" / "batch-000002.npz"
    whole = bytearray(path.read_bytes())
    if damage == "flipped":
        whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(whole if damage == "flipped" else whole[: len(whole) // 2 if damage == "cut" else 0]))
    with pytest.raises(ValueError, match=r"batch-000002\.npz is damaged .* delete it"):
        run(tmp_path / "toys")
    path.unlink()
    same(run(tmp_path / "toys"), reference)


def test_something_else_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is no store of"):
        run(tmp_path)
    with pytest.raises(ValueError, match="is no store of"):
        run(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_cannot_be_written(tmp_path, monkeypatch, reference):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be made"):
        run(tmp_path / "file" / "toys")

    def full(file, **arrays):
        if len(list(file_folder.glob("batch-*"))) == 2:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        return savez(file, **arrays)

    savez, file_folder = np.savez, tmp_path / "toys"
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"No space left on device\); the 2 batches in the store are kept"):
        run(tmp_path / "toys")
    assert sorted(file.name for file in file_folder.iterdir()) == [
        "batch-000000.npz",
        "batch-000001.npz",
        "manifest.json",
    ]
    monkeypatch.undo()
    same(run(tmp_path / "toys"), reference)


def test_killed_before_the_manifest_was_whole(tmp_path, reference):
    folder = tmp_path / "toys"
    folder.mkdir()
    (folder / ".manifest.json.4711").write_text('{"format"')
    same(run(folder), reference)
    assert len(list(folder.glob("batch-*"))) == 8


@pytest.mark.slow
def test_killed(tmp_path, reference):
    """kill -9, ten times, at any moment; the last run ends with the same bits, and no stored batch is touched again."""
    script = (
        "import sys, time, test_store\n"
        "print('ready', flush=True)\n"
        "test_store.run(sys.argv[1], reduce=lambda result: time.sleep(0.3))\n"
    )
    rng = np.random.default_rng(11)
    times: dict[str, int] = {}
    for _ in range(10):
        with started(script, tmp_path / "toys") as process:
            time.sleep(rng.uniform(0.5, 6.0))
            process.kill()
        for file in (tmp_path / "toys").glob("batch-*"):
            assert times.setdefault(file.name, file.stat().st_mtime_ns) == file.stat().st_mtime_ns
    same(run(tmp_path / "toys"), reference)
    for name, written in times.items():
        assert (tmp_path / "toys" / name).stat().st_mtime_ns == written
