"""Fits to data that stay on disk: the same numbers as in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

X = np.random.default_rng(0).normal(1.0, 2.0, 20_123)
START = {"mu": mx.Parameter(0.0), "sigma": mx.Parameter(1.0, lower=0.1)}
NLL = mx.UnbinnedNLL(lambda p, x: mx.distributions.Normal(p["mu"], p["sigma"]).log_prob(x))
SOURCES = {
    "memmap": lambda mm: mx.OnDisk(mm, 7000),
    "one chunk": lambda mm: mx.OnDisk(mm),
    "fewer than a cache's chunk": lambda mm: mx.OnDisk(mm, 999),
    "iterator": lambda mm: mx.OnDisk(lambda: (mm[i : i + 6000] for i in range(0, X.size, 6000))),
    "uneven iterator": lambda mm: mx.OnDisk(lambda: iter([mm[:10], mm[10:9000], mm[9000:]])),
}


@pytest.fixture
def memmap(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


@pytest.mark.grid
@pytest.mark.parametrize("source", SOURCES)
def test_the_same_fit(source, memmap):
    reference = mx.fit(NLL, START, X)
    result = mx.fit(NLL, START, SOURCES[source](memmap))
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, reference.values, rtol=1e-9)
    np.testing.assert_allclose(result.errors, reference.errors, rtol=1e-9)
    np.testing.assert_allclose(result.nll, reference.nll, rtol=1e-12)


@pytest.mark.slow
def test_minos_and_an_extended_fit(memmap):
    data = mx.OnDisk(memmap, 7000)
    extended = mx.ExtendedUnbinnedNLL(lambda p, x: jnp.log(p["n"]) + NLL.log_prob(p, x), lambda p: p["n"])
    start = {"n": mx.Parameter(19_000.0, lower=0.0), **START}
    result = mx.fit(extended, start, data)
    np.testing.assert_allclose(result["n"].value, X.size, rtol=1e-7)
    minos, reference = mx.minos(extended, result, data), mx.minos(extended, mx.fit(extended, start, X), X)
    np.testing.assert_allclose(minos.upper, reference.upper, rtol=1e-6)


@pytest.mark.slow
def test_weights(memmap):
    """Tuples of x and weight: the sandwich is summed chunk by chunk, too."""
    weight = np.random.default_rng(1).choice([-0.5, 1.0, 3.0], X.size)
    reference = mx.fit(NLL, START, mx.Events(X, weight))
    assert reference.covariance.kind == "sandwich"
    for data in (
        mx.OnDisk((memmap, weight), 7000),
        mx.OnDisk(lambda: iter([(memmap[:9], weight[:9]), (memmap[9:], weight[9:])])),
    ):
        result = mx.fit(NLL, START, data)
        assert bool(result.valid)
        assert result.covariance.kind == "sandwich"
        np.testing.assert_allclose(result.values, reference.values, rtol=1e-8)
        np.testing.assert_allclose(result.errors, reference.errors, rtol=1e-8)
    chunked = mx.fit(mx.UnbinnedNLL(NLL.log_prob, chunk_size=3000), START, mx.Events(X, weight))
    np.testing.assert_allclose(chunked.covariance.matrix, reference.covariance.matrix, rtol=1e-8, atol=1e-12)
    with pytest.raises(TypeError, match="a tuple of 3"):
        mx.fit(NLL, START, mx.OnDisk((memmap, weight, weight), 7000))


def test_several_columns(memmap):
    """Rows that are tuples, and a second derivative."""
    data = mx.OnDisk((memmap, memmap**2), 6000)
    f = lambda a: mx.chunked_sum(lambda a, row: a**2 * row[0] * row[1], a, data, chunk_size=500)  # noqa: E731
    np.testing.assert_allclose(jax.jit(jax.hessian(f))(1.5), 2 * np.sum(X**3), rtol=1e-11)
    pairs = mx.OnDisk(np.stack([X, X], axis=1), 6000)
    total = mx.chunked_sum(lambda a, row: a * row[:, 0] * row[:, 1], 2.0, pairs, chunk_size=None)
    np.testing.assert_allclose(total, 2 * np.sum(X**2), rtol=1e-12)


def test_memory_holds_chunks_only(memmap):
    """No program keeps more than a few chunks: not the gradient, nor the exact Hessian."""
    data = mx.OnDisk(memmap, 2000)
    f = lambda v: NLL({"mu": v[0], "sigma": v[1]}, data)  # noqa: E731
    for fn in (f, jax.value_and_grad(f), jax.hessian(f)):
        analysis = jax.jit(fn).lower(jnp.array([0.0, 1.0])).compile().memory_analysis()
        assert analysis.temp_size_in_bytes < 40 * 2000 * 8


def test_progress(memmap, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    mx.chunked_sum(lambda a, x: a * x, 1.0, mx.OnDisk(memmap, 7000, progress=True), chunk_size=None)
    shown = capsys.readouterr().err
    assert "pass 1" in shown
    assert "3/3" in shown or "0/3" in shown


def test_not_finite(memmap):
    nll = mx.UnbinnedNLL(lambda p, x: jnp.where(x > p["mu"], -jnp.inf, p["sigma"] * x))
    result = mx.fit(nll, START, mx.OnDisk(memmap, 7000))
    assert not bool(result.valid)
    assert "NaN or infinite at the start" in result.message


BAD = {
    "a list": (lambda: mx.OnDisk([1.0, 2.0]), TypeError, "got list"),
    "lengths": (lambda: mx.OnDisk((X, X[:5])), ValueError, "different lengths: 20123, 5"),
    "chunk_size": (lambda: mx.OnDisk(X, 0), ValueError, "at least 1, got 0"),
    "an iterator used up": (lambda: mx.OnDisk(lambda: iter([])), ValueError, "has no chunks"),
    "other shapes": (lambda: mx.OnDisk(lambda: iter([X, np.ones((2, 2))])), ValueError, "chunk 1 has other shapes"),
    "a number": (lambda: mx.OnDisk(np.float64(3.0)), TypeError, "an axis of rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
