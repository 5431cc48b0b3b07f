"""The fits of iminuit's tutorial on automatic differentiation, against its printed answers and against iminuit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit

import migrax as mx
from tutorial import COUNTS, MINIMUM, log_expected, points, stable_nll, start, tutorial_nll

DATA = jnp.asarray(COUNTS, float)


@pytest.mark.parametrize("nll", [tutorial_nll, stable_nll], ids=["tutorial", "PoissonNLL"])
def test_histogram(nll):
    result = mx.fit(nll, start(), DATA)
    assert bool(result.valid)
    assert f"{float(result.nll):.4f}" == "496.2134"
    assert [f"{e:.5f}" for e in np.asarray(result.errors)] == ["100.01047", "0.01000", "0.00711"]
    np.testing.assert_allclose(result.values, [10001.04, -0.011051718, 0.999289345], rtol=1e-7)
    assert not np.any(result.at_limit)


def test_histogram_takes_at_most_26_evaluations():
    stats = mx.fit(tutorial_nll, start(), DATA).stats
    total = sum(int(stats[k]) for k in ("num_values", "num_gradients", "num_hessians"))
    assert 3 <= total <= 26


def test_histogram_agrees_with_iminuit():
    fn = jax.jit(lambda x: tutorial_nll(dict(zip(("amp", "mu", "sigma"), x, strict=True)), DATA))
    minuit = Minuit(fn, (15_000.0, 1.0, 2.0), grad=jax.jit(jax.grad(fn)), name=("amp", "mu", "sigma"))
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.limits = ((0, None), (None, None), (0, None))
    minuit.tol = 1e-3
    minuit.migrad()
    minuit.hesse()
    result = mx.fit(tutorial_nll, start(), DATA)
    assert minuit.valid
    distance = (np.asarray(result.values) - np.asarray(minuit.values)) / np.asarray(result.errors)
    assert np.max(np.abs(distance)) < 1e-3
    np.testing.assert_allclose(result.covariance.matrix, np.asarray(minuit.covariance), rtol=2e-3, atol=2e-4)
    assert float(result.nll) <= minuit.fval + 1e-9


def test_points_with_errors_in_x_and_y():
    nll = mx.LeastSquares(lambda p, x: jnp.polyval(p["b"], x))
    result = mx.fit(nll, {"b": jnp.zeros(3)}, points())
    assert bool(result.valid)
    assert f"{float(result.chi2):.2f}" == "23.14"
    assert result.ndof == 27
    np.testing.assert_allclose(float(result.nll), float(result.chi2) / 2)
    shown = str(result)
    for cells in (("b[0]", "1.25", "0.15"), ("b[1]", "1.5", "0.5"), ("b[2]", "1.6", "1.5")):
        assert any(all(cell in line.split() for cell in cells) for line in shown.splitlines())
    expected = [[0.0223, -0.039, -0.150], [-0.039, 0.24, 0.17], [-0.150, 0.17, 2.32]]
    np.testing.assert_allclose(result.covariance.matrix, expected, atol=5e-3, rtol=0.02)


def random_starts():
    rng = np.random.default_rng(42)
    draws = [(10 ** rng.uniform(3, 5), rng.normal(0, 2), 10 ** rng.uniform(-0.5, 1)) for _ in range(200)]
    return np.array(draws)


@pytest.mark.slow
@pytest.mark.parametrize(("nll", "at_least"), [(tutorial_nll, 190), (stable_nll, 200)], ids=["tutorial", "PoissonNLL"])
def test_200_random_starts(nll, at_least):
    """iminuit converges from 178 of them with the tutorial's likelihood, and calls six wrong ends valid."""
    fit = jax.jit(lambda s: mx.fit(nll, start(s[0], s[1], s[2]), DATA))
    ends = [fit(jnp.asarray(s)) for s in random_starts()]
    valid = np.array([bool(r.valid) for r in ends])
    right = np.array([abs(float(r.nll) - MINIMUM) < 1e-6 for r in ends])
    assert not np.any(valid & ~right), "falsely valid"
    assert np.sum(valid) >= at_least


@pytest.mark.slow
def test_expected_data_and_sample():
    result = mx.fit(stable_nll, start(), DATA)
    at = mx.resolve(result.params)
    mean = np.asarray(stable_nll.expected_data(at))
    np.testing.assert_allclose(mean, np.exp(log_expected(at)))
    keys = jax.random.split(jax.random.key(0), 400)
    toys = np.asarray(jax.vmap(lambda k: stable_nll.sample(at, k))(keys))
    big = mean > 5
    pull = (toys.mean(0) - mean)[big] / np.sqrt(mean[big] / 400)
    assert abs(pull.mean()) < 5 / np.sqrt(big.sum())
    assert abs(pull.std() - 1) < 5 / np.sqrt(2 * big.sum())
    asimov = mx.fit(stable_nll, start(), jnp.asarray(mean))
    assert np.all(np.abs(asimov.values - result.values) < 1e-6 * result.errors)
