"""Errors from the likelihood's shape in float32, within float32: with x64 on, and in the job without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

pytestmark = [pytest.mark.float32, pytest.mark.filterwarnings("ignore:migrax is made for float64")]

COVARIANCE = np.array([[4.0, 1.2, 0.5], [1.2, 1.0, -0.2], [0.5, -0.2, 2.0]])
INVERSE = jnp.asarray(np.linalg.inv(COVARIANCE), jnp.float32)
AT = jnp.array([1.0, -2.0, 1.0], jnp.float32)


def skewed(p, at):
    """A quadratic in x, y and exp(z)."""
    d = jnp.stack([p["x"], p["y"], jnp.exp(p["z"]) - 1]) - at
    return 0.5 * d @ INVERSE @ d


def fitted():
    start = jax.tree.map(jnp.float32, {"x": 0.5, "y": -1.0, "z": 0.2})
    return mx.fit(skewed, start, AT)


def test_all_of_them():
    result = fitted()
    assert bool(result.valid)
    minos = mx.minos(skewed, result, AT, ["x", "z"])
    assert np.all(minos.valid)
    low, high = np.log(2 + np.sqrt(2) * np.array([-1, 1])) - np.log(2)
    np.testing.assert_allclose(minos.lower, [-2.0, low], rtol=2e-3)
    np.testing.assert_allclose(minos.upper, [2.0, high], rtol=2e-3)
    profile = mx.profile(skewed, result, AT, "y", 5)
    assert np.all(profile.valid)
    np.testing.assert_allclose(profile.rise, [4, 1, 0, 1, 4], atol=5e-3)
    contour = mx.contour(skewed, result, AT, ("x", "y"), size=12)
    assert np.all(contour.valid)
    np.testing.assert_allclose(np.max(contour.x) - 1, 2 * np.sqrt(contour.rise), rtol=2e-3)
    impacts = mx.impacts(skewed, result, AT, "x", prefit={"y": (0.0, 2.0)})
    assert np.all(impacts.valid)
    np.testing.assert_allclose(impacts.postfit_up[0], 1.2, rtol=2e-3)
    for tree in (minos, profile, contour, impacts):
        floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        assert {leaf.dtype for leaf in floats} <= {jnp.dtype("float32")}, type(tree)


def test_sandwich():
    x = jnp.asarray(np.random.default_rng(0).normal(size=200), jnp.float32)
    nll = lambda p, x: 0.5 * jnp.sum((x - p["mu"]) ** 2)  # noqa: E731
    result = mx.fit(nll, {"mu": jnp.float32(0.3)}, x, hesse="sandwich")
    np.testing.assert_allclose(result.errors[0], np.std(x) / np.sqrt(200), rtol=1e-4)
    assert result.errors.dtype == jnp.float32
