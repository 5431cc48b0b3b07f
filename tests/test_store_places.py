"""A batch file says which toys of which study it holds, and is taken nowhere else."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

TEMPLATE = jnp.array([3.0, 8.0, 5.0])
PARAMS = {"mu": mx.Parameter(1.0, lower=0.0), "b": mx.Parameter(20.0, lower=0.0)}
N, SIZE = 70, 32  # the last batch is not full


def expected(p):
    return p["mu"] * TEMPLATE + p["b"]


NLL = mx.PoissonNLL(expected)
COVARIANCE = jnp.diag(jnp.array([1.0, 20.0]))


def doubled(p, key):
    return 2.0 * jax.random.poisson(key, expected(p)).astype(float)


def plain(p, key):
    return jax.random.poisson(key, expected(p)).astype(float)


def run(path, key=0, nll=NLL, covariance=COVARIANCE):
    return mx.fit_toys(nll, PARAMS, mx.Toys(N, jax.random.key(key)), covariance=covariance, store=path, batch_size=SIZE)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Two studies that differ in their keys alone, and the fits of the first."""
    folder = tmp_path_factory.mktemp("stores")
    fits = run(folder / "a")
    run(folder / "b", key=1)
    return folder, fits


@pytest.fixture
def store(stored, tmp_path):
    shutil.copytree(stored[0] / "a", tmp_path / "a")
    return tmp_path / "a"


def batch(store, i):
    return store / f"batch-{i:06d}.npz"


def is_mended_by_deleting(store, *numbers, fits):
    for i in numbers:
        batch(store, i).unlink()
    np.testing.assert_array_equal(run(store).values, fits.values)


@pytest.mark.slow
def test_of_a_study_with_another_key(store, stored):
    folder, fits = stored
    shutil.copy(batch(folder / "b", 1), batch(store, 1))
    with pytest.raises(ValueError, match=r"batch-000001\.npz is of another study .* or delete it"):
        run(store)
    is_mended_by_deleting(store, 1, fits=fits)


def test_two_exchanged(store, stored):
    batch(store, 0).rename(store / "aside")
    batch(store, 1).rename(batch(store, 0))
    (store / "aside").rename(batch(store, 1))
    with pytest.raises(ValueError, match=r"batch-000000\.npz holds toys 32 to 63 of this study where toys 0 to 31"):
        run(store)
    is_mended_by_deleting(store, 0, 1, fits=stored[1])


def test_the_last_one_copied_to_the_first(store, stored):
    shutil.copy(batch(store, 2), batch(store, 0))
    with pytest.raises(ValueError, match=r"batch-000000\.npz holds toys 64 to 69 .* where toys 0 to 31"):
        run(store)
    is_mended_by_deleting(store, 0, fits=stored[1])


def rewritten(path, change):
    """The file with the same parts, some of them changed; NumPy's own checksums hold."""
    with np.load(path) as kept:
        parts = {name: kept[name] for name in kept}
    change(parts)
    np.savez(path, **parts)


def other_numbers(parts):
    parts["values"] = parts["values"] + 1e-3


def other_place(parts):
    told = json.loads(str(parts["identity"]))
    parts["identity"] = np.array(json.dumps(told | {"first": 0, "toys": SIZE}))


def fewer_arrays(parts):
    del parts["edm"]


CHANGED = {"numbers": other_numbers, "its place": other_place, "fewer arrays": fewer_arrays}


@pytest.mark.parametrize("what", CHANGED)
def test_changed_inside(what, store, stored):
    if what == "its place":
        shutil.copy(batch(store, 1), batch(store, 0))
    rewritten(batch(store, 0), CHANGED[what])
    with pytest.raises(ValueError, match=r"batch-000000\.npz is damaged \(its checksum .*: delete it"):
        run(store)
    is_mended_by_deleting(store, 0, fits=stored[1])


def without_identity(parts):
    del parts["identity"], parts["checksum"]


def test_a_file_that_does_not_say(store, stored):
    """As older versions wrote them."""
    rewritten(batch(store, 1), without_identity)
    with pytest.raises(ValueError, match=r"batch-000001\.npz does not say which study it is of .* delete it"):
        run(store)
    is_mended_by_deleting(store, 1, fits=stored[1])


@pytest.mark.parametrize(("written", "word"), [(1, "an older"), (99, "a newer")])
def test_of_another_format(written, word, store):
    manifest = store / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": written}))
    with pytest.raises(ValueError, match=rf"is of format {written}, .* {word} version wrote it. Take another folder"):
        run(store)


@pytest.mark.slow
def test_toys_drawn_otherwise(tmp_path):
    """The likelihood, its parameters and the key are the same; what draws the toys is not."""
    run(tmp_path / "toys", nll=mx.Likelihood(NLL, sample=plain))
    with pytest.raises(ValueError, match="belongs to another problem"):
        run(tmp_path / "toys", nll=mx.Likelihood(NLL, sample=doubled))
