"""Functions of the fitted parameters and draws from their covariance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

X = jnp.linspace(0.0, 1.0, 12)


def line(p, x):
    return p["c"][0] + p["c"][1] * x + p["k"] * x**2


NLL = mx.LeastSquares(line)
START = {"c": mx.Parameter(jnp.zeros(2)), "k": mx.Parameter(0.5, fixed=True)}


def points(y):
    return mx.Points(X, y, 0.1)


@functools.cache
def fitted():
    y = 1 + 2 * np.asarray(X) + 0.1 * np.random.default_rng(5).normal(size=12)
    return mx.fit(NLL, START, points(y))


def test_the_band_of_a_straight_line():
    value, covariance = mx.propagate(lambda p: line(p, X), fitted())
    design = np.stack([np.ones(12), X], axis=1)
    np.testing.assert_allclose(value, design @ fitted().values + 0.5 * X**2, rtol=1e-12)
    np.testing.assert_allclose(covariance, 0.01 * design @ np.linalg.inv(design.T @ design) @ design.T, rtol=1e-9)


def test_one_number_and_a_tree():
    covariance = fitted().covariance.matrix
    value, variance = mx.propagate(lambda p: p["c"][0] * p["c"][1], fitted())
    gradient = fitted().values[::-1]
    assert value.shape == variance.shape == ()
    np.testing.assert_allclose(variance, gradient @ covariance @ gradient, rtol=1e-12)
    tree, block = mx.propagate(lambda p: {"a": p["c"][1], "b": (p["c"], 2 * p["k"])}, fitted())
    assert set(tree) == {"a", "b"}
    order = jnp.array([1, 0, 1])
    np.testing.assert_allclose(block[:3, :3], covariance[order[:, None], order[None]], rtol=1e-12)
    np.testing.assert_array_equal(block[3], 0.0)  # of the fixed parameter


@pytest.mark.slow
def test_many_fits_and_derivatives():
    data = jnp.stack([1 + 2 * X, 3 - X]) + 0.5 * X**2
    fit = lambda y: mx.fit(NLL, START, points(y))  # noqa: E731
    value, variance = mx.propagate(lambda p: jnp.sum(p["c"] ** 2), jax.vmap(fit)(data))
    assert value.shape == variance.shape == (2,)
    np.testing.assert_allclose(value, [5.0, 10.0], rtol=1e-9)

    @jax.jit
    def error(y):
        return mx.propagate(lambda p: jnp.sum(p["c"] ** 2), fit(y))[1]

    np.testing.assert_allclose(error(data[1]), variance[1], rtol=1e-9)
    h = 1e-5
    differences = [(error(data[0].at[i].add(h)) - error(data[0].at[i].add(-h))) / (2 * h) for i in (0, 7)]
    np.testing.assert_allclose(jax.grad(error)(data[0])[jnp.array([0, 7])], differences, rtol=1e-6)


def test_draws():
    draws = fitted().sample(jax.random.key(1), 40_000)
    assert draws.shape == (40_000, 2)
    error = np.asarray(fitted().errors)
    np.testing.assert_allclose(draws.mean(0), fitted().values, atol=5 * np.max(error) / 200)
    np.testing.assert_allclose(np.cov(draws.T), fitted().covariance.matrix, rtol=0.03)
    assert fitted().sample(jax.random.key(1)).shape == (2,)


def test_draws_of_a_batch_with_a_bad_lane_and_of_a_parameter_at_a_limit():
    def nll(p, d):
        return 0.5 * jnp.sum((d - p["a"]) ** 2) + 0.5 * (p["b"] + 1) ** 2

    start = {"a": mx.Parameter(0.1), "b": mx.Parameter(1.0, lower=0.0)}
    fits = jax.vmap(lambda d: mx.fit(nll, start, d))(jnp.array([[1.0, 2.0], [jnp.nan, 1.0]]))
    draws = fits.sample(jax.random.key(0), 5)
    assert draws.shape == (2, 5, 2)
    assert np.all(np.isfinite(draws[0]))
    assert len(set(np.asarray(draws[0, :, 0]).tolist())) == 5
    np.testing.assert_array_equal(draws[0, :, 1], 0.0)
    assert np.all(np.isnan(draws[1]))


def test_bad_input():
    with pytest.raises(TypeError, match=r"result of mx\.fit, got dict"):
        mx.propagate(lambda p: p["c"], START)
    with pytest.raises(TypeError, match="returns real numbers"):
        mx.propagate(lambda p: 1j * p["k"], fitted())
    without = mx.fit(NLL, START, points(1 + X), hesse=False)
    for call in (lambda: mx.propagate(lambda p: p["c"], without), lambda: without.sample(jax.random.key(0))):
        with pytest.raises(ValueError, match="hesse=True"):
            call()


@pytest.mark.parametrize(("key", "n"), [(0, 2), (100, None), (jax.random.key(0), 0), (jax.random.key(0), 2.5)])
def test_what_sample_takes(key, n):
    with pytest.raises(TypeError, match=r"sample\(jax\.random\.key\(0\), 100\)"):
        fitted().sample(key, n)
