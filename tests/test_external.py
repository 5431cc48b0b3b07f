"""Likelihoods from outside of JAX, which know their value and gradient: their fits are those of closed forms."""

import ctypes
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

X = np.random.default_rng(0).normal(1.0, 2.0, 200)
MEAN, WIDTH = np.mean(X), np.std(X)
ERRORS = np.array([WIDTH / np.sqrt(X.size), WIDTH / np.sqrt(2 * X.size)])
PARAMS = {"mu": mx.Parameter(0.5), "sigma": mx.Parameter(1.5, lower=1e-3)}


def normal(x, data):
    pull = (data - x[0]) / x[1]
    value = 0.5 * np.sum(pull**2) + data.size * np.log(x[1])
    return value, np.array([-np.sum(pull), data.size - np.sum(pull**2)]) / x[1]


def normal_of_a_tree(p, data):
    value, (by_mu, by_sigma) = normal((p["mu"], p["sigma"]), data)
    return value, {"mu": by_mu, "sigma": by_sigma}


def draw(p, key):
    return p["mu"] + p["sigma"] * jax.random.normal(key, (200,))


NLL = mx.External(normal, where=["mu", "sigma"], sample=draw)


def in_jax(p, data):
    return jnp.sum(0.5 * ((data - p["mu"]) / p["sigma"]) ** 2 + jnp.log(p["sigma"]))


@pytest.mark.grid
@pytest.mark.parametrize("nll", [NLL, mx.External(normal_of_a_tree)], ids=["where", "tree"])
def test_closed_form(nll):
    result = mx.fit(nll, PARAMS, X)
    assert result.valid
    np.testing.assert_allclose(result.values, [MEAN, WIDTH], rtol=1e-7)
    np.testing.assert_allclose(result.errors, ERRORS, rtol=1e-6)
    assert result.covariance.accuracy < 1e-3


def test_direct_call_and_derivative():
    value, gradient = normal((0.3, 1.7), X)
    p = {"mu": jnp.array(0.3), "sigma": jnp.array(1.7)}
    np.testing.assert_allclose(NLL(p, X), value)
    found = jax.grad(lambda p: NLL(p, X))(p)
    np.testing.assert_allclose([found["mu"], found["sigma"]], gradient)


@pytest.mark.slow
def test_hesse_minos_and_toys():
    result = mx.fit(NLL, PARAMS, X)
    np.testing.assert_allclose(mx.hesse(NLL, result.params, X).errors, ERRORS, rtol=1e-6)
    found = mx.minos(NLL, result, X, "mu")
    up = WIDTH * np.sqrt(np.expm1(1 / X.size))
    np.testing.assert_allclose([found.lower[0], found.upper[0]], [-up, up], rtol=1e-5)
    toys = mx.sample(NLL, result.params, jax.random.key(0), 4)
    fits = mx.fit_toys(NLL, result.params, toys)
    assert jnp.all(fits.valid)
    np.testing.assert_allclose(fits.values, np.stack([np.mean(toys, 1), np.std(toys, 1)], axis=1), rtol=1e-6)


@pytest.mark.slow
def test_together_with_a_likelihood_of_jax():
    """A sum of both is the fit of all of the data, with a vector parameter of which External takes one entry."""
    more = np.random.default_rng(3).normal(1.2, 1.5, 100)
    params = {"means": mx.Parameter(jnp.array([0.0, 0.5])), "sigma": mx.Parameter(1.5, lower=1e-3)}
    outside = mx.External(normal, where=["means[1]", "sigma"])

    def inside(p, data):
        return in_jax({"mu": p["means"][1], "sigma": p["sigma"]}, data) + 0.5 * (p["means"][0] - 3.0) ** 2

    result = mx.fit(mx.Likelihood(inside) + outside, params, (more, X))
    every = np.concatenate([more, X])
    assert result.valid
    np.testing.assert_allclose(result.values, [3.0, every.mean(), every.std()], rtol=1e-6)
    errors = [1.0, every.std() / np.sqrt(every.size), every.std() / np.sqrt(2 * every.size)]
    np.testing.assert_allclose(result.errors, errors, rtol=1e-6)


def test_fixed_parameters():
    params = {"mu": mx.Parameter(1.0, fixed=True), "sigma": mx.Parameter(1.5, lower=1e-3)}
    result = mx.fit(NLL, params, X)
    np.testing.assert_allclose(result.values, [np.sqrt(np.mean((X - 1.0) ** 2))], rtol=1e-7)


def test_library_of_c(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, library = tmp_path / "decay.c", tmp_path / "decay.so"
    source.write_text("""
        #include <math.h>
        double decay(const double *tau, const double *t, long n, double *slope) {
            double sum = 0.0;
            for (long i = 0; i < n; i++) sum += t[i];
            slope[0] = n / tau[0] - sum / (tau[0] * tau[0]);
            return n * log(tau[0]) + sum / tau[0];
        }
    """)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-lm"], check=True)
    decay = ctypes.CDLL(str(library)).decay
    pointer = np.ctypeslib.ndpointer(dtype=float, flags="C_CONTIGUOUS")
    decay.argtypes, decay.restype = [pointer, pointer, ctypes.c_long, pointer], ctypes.c_double

    def value_and_gradient(x, t):
        slope = np.empty(1)
        return decay(x, t, t.size, slope), slope

    t = np.random.default_rng(4).exponential(2.2, 1000)
    result = mx.fit(mx.External(value_and_gradient, "tau"), {"tau": mx.Parameter(1.0, lower=0.0)}, t)
    assert result.valid
    np.testing.assert_allclose(result.values, [t.mean()], rtol=1e-7)
    np.testing.assert_allclose(result.errors, [t.mean() / np.sqrt(1000)], rtol=1e-6)


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.9])
def test_a_wrong_gradient_is_told(factor):
    def wrong(x, data):
        value, gradient = normal(x, data)
        return value, gradient * np.array([factor, 1.0])

    nll = mx.External(wrong, where=["mu", "sigma"])
    (said,) = nll.complaints({"mu": mx.Parameter(MEAN), "sigma": mx.Parameter(WIDTH)}, X)
    assert "from mu = " in said
    assert "from sigma = " not in said
    assert NLL.complaints({"mu": mx.Parameter(MEAN), "sigma": mx.Parameter(WIDTH)}, X) == []


def test_fit_warns_of_a_wrong_gradient():
    nll = mx.External(lambda x, data: (normal(x, data)[0], 2 * normal(x, data)[1]), where=["mu", "sigma"])
    with pytest.warns(UserWarning, match="gradient of External is not that of its value"):
        mx.fit(nll, PARAMS, X)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (1.0, "must return \\(value, gradient\\)"),
        ((np.ones(2), np.ones(2)), "must be one number"),
        ((1.0, np.ones(3)), "must have 2 numbers"),
        ((1.0, {"mu": 1.0}), "must have 2 numbers"),
    ],
)
def test_what_it_returns_is_checked(returned, said):
    nll = mx.External(lambda x, data: returned, where=["mu", "sigma"])
    with pytest.raises(Exception, match=said):
        jax.block_until_ready(nll({"mu": 1.0, "sigma": 1.0}, X))


def test_refusals():
    with pytest.raises(TypeError, match="must be callable as value_and_gradient"):
        mx.External(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="differentiated with respect to its data"):
        jax.grad(lambda x: NLL({"mu": 1.0, "sigma": 1.0}, x))(X)
    with pytest.raises(ValueError, match="sigma"):
        mx.External(normal, where=["mu", "sigm"])({"mu": jnp.array(1.0), "sigma": jnp.array(1.0)}, X)


@pytest.mark.float32
def test_float32():
    p = {"mu": jnp.float32(0.3), "sigma": jnp.float32(1.7)}
    value = NLL(p, X.astype(np.float32))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, normal((0.3, 1.7), X)[0], rtol=1e-5)
