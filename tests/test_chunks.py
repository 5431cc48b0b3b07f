"""Streamed sums: the same numbers, and little memory for value, gradient and Hessian of a long sum."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

ROOT = Path(__file__).parent


def source(p, x, y):
    """A 2-d Gaussian with a background: 6 parameters."""
    r = ((x - p["x0"]) / p["sx"]) ** 2 + ((y - p["y0"]) / p["sy"]) ** 2
    return p["amp"] * jnp.exp(-0.5 * r) + p["b"]


def cauchy(p, rows):
    x, y, d = rows
    return jnp.log1p(((d - source(p, x, y)) / 0.5) ** 2)


def image(n, seed=1):
    axis = np.linspace(-5, 5, n)
    x, y = (a.ravel() for a in np.meshgrid(axis, axis))
    noise = 0.5 * np.random.default_rng(seed).standard_cauchy(n * n)
    return x, y, np.exp(-0.5 * (x**2 + y**2) / 0.25) + noise


TRUE = {"amp": 1.0, "x0": 0.0, "y0": 0.0, "sx": 0.5, "sy": 0.5, "b": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [1, 7, 100, 441, 10_000])
def test_the_same_value_gradient_and_hessian(chunk_size):
    rows = tuple(jnp.asarray(a) for a in image(21))
    start = {k: jnp.asarray(v) for k, v in TRUE.items()}
    plain = lambda p: jnp.sum(cauchy(p, rows))  # noqa: E731
    chunked = lambda p: mx.chunked_sum(cauchy, p, rows, chunk_size=chunk_size)  # noqa: E731
    for derive in (lambda f: f, jax.grad, jax.hessian):
        for a, b in zip(jax.tree.leaves(derive(plain)(start)), jax.tree.leaves(derive(chunked)(start)), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-11, atol=1e-11)


def test_derivatives_with_respect_to_the_rows():
    rows = tuple(jnp.asarray(a) for a in image(5))
    plain = jax.grad(lambda r: jnp.sum(cauchy(TRUE, r)))(rows)
    chunked = jax.grad(lambda r: mx.chunked_sum(cauchy, TRUE, r, chunk_size=7))(rows)
    for a, b in zip(plain, chunked, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-14)


def test_one_copy_of_the_terms():
    calls = 0

    def counted(p, rows):
        nonlocal calls
        calls += 1
        return cauchy(p, rows)

    rows = tuple(jnp.asarray(a) for a in image(21))
    jaxpr = jax.make_jaxpr(lambda p: mx.chunked_sum(counted, p, rows, chunk_size=100))(TRUE)
    assert str(jaxpr).count("log1p") == 1
    assert calls <= 2  # once for the type, once for the program


def test_bad_chunks():
    with pytest.raises(ValueError, match="chunk_size"):
        mx.chunked_sum(cauchy, TRUE, (jnp.ones(3),) * 3, chunk_size=0)
    with pytest.raises(ValueError, match="one leading axis"):
        mx.chunked_sum(cauchy, TRUE, (jnp.ones(3), jnp.ones(4), jnp.ones(3)), chunk_size=2)
    assert mx.chunked_sum(lambda p, x: x, TRUE, jnp.ones(0), chunk_size=2) == 0.0
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(\)"):
        mx.chunked_sum(lambda p, x: jnp.sum(x), TRUE, jnp.ones(5), chunk_size=2)


def test_least_squares_in_chunks():
    x = jnp.linspace(0.0, 1.0, 1003)
    y = 1 + 2 * x + 0.1 * jnp.sin(37 * x)
    fits = [
        mx.fit(
            mx.LeastSquares(lambda p, x: p["a"] + p["b"] * x, chunk_size=c),
            {"a": 0.0, "b": 0.0},
            mx.Points(x, y, 0.1, 0.05),
        )
        for c in (None, 100)
    ]
    assert bool(fits[1].valid)
    np.testing.assert_allclose(fits[1].values, fits[0].values, rtol=1e-9)
    np.testing.assert_allclose(fits[1].covariance.matrix, fits[0].covariance.matrix, rtol=1e-9)


MEASURE = """
import json, resource, sys
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
import migrax as mx
from test_chunks import TRUE, cauchy, image

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
rows = tuple(jnp.asarray(a) for a in image(3000))
jax.block_until_ready(rows)
nll = lambda p, r: mx.chunked_sum(cauchy, p, r, chunk_size=10_000)
before = peak()
jax.block_until_ready(jax.jit(jax.value_and_grad(nll))(TRUE, rows))
after_gradient = peak()
covariance = mx.hesse(nll, TRUE, rows)
after_hessian = peak()
start = {"amp": mx.Parameter(0.7), "x0": mx.Parameter(0.1), "y0": mx.Parameter(-0.1),
         "sx": mx.Parameter(0.6, lower=0.0), "sy": mx.Parameter(0.4, lower=0.0), "b": mx.Parameter(0.01)}
result = mx.fit(nll, start, rows, max_steps=60)
print(json.dumps({"gradient": after_gradient - before, "hessian": after_hessian - before, "fit": peak() - before,
                  "valid": bool(result.valid), "values": result.values.tolist(), "errors": result.errors.tolist(),
                  "names": result.names, "at_truth": covariance.errors.tolist()}))
"""


@pytest.mark.slow
def test_nine_million_pixels():
    """Value, gradient and exact Hessian, and a whole fit, of the 3000 x 3000 image in well under 500 MB."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    got = json.loads(run.stdout.splitlines()[-1])
    assert got["gradient"] < 300e6
    assert got["hessian"] < 300e6
    assert got["fit"] < 400e6
    assert got["valid"]
    for name, value, error in zip(got["names"], got["values"], got["errors"], strict=True):
        assert abs(value - TRUE[name]) < 4 * error, name
    np.testing.assert_allclose(got["errors"], got["at_truth"], rtol=0.1)


@pytest.mark.slow
def test_hessian_equals_jacfwd_of_jacrev():
    """On a smaller image; the large one is compared in benchmarks/cauchy_hessian.py."""
    rows = tuple(jnp.asarray(a) for a in image(101))
    nll = lambda p, r: mx.chunked_sum(cauchy, p, r, chunk_size=1000)  # noqa: E731
    covariance = mx.hesse(nll, TRUE, rows)
    names = list(covariance.names)
    plain = jax.jacfwd(jax.jacrev(lambda v: jnp.sum(cauchy(dict(zip(names, v, strict=True)), rows))))(
        jnp.array([TRUE[n] for n in names])
    )
    np.testing.assert_allclose(np.linalg.inv(covariance.matrix), plain, rtol=1e-9, atol=1e-9 * np.abs(plain).max())
