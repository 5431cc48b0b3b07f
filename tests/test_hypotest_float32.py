"""Tests of hypotheses and limits in float32, with x64 on, and in the job without it: pyhf's first example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import migrax as mx

pytestmark = [pytest.mark.float32, pytest.mark.filterwarnings("ignore:migrax is made for float64")]

SIGNAL, BACKGROUND = (jnp.array(n, jnp.float32) for n in ([12.0, 11.0], [50.0, 52.0]))
TAU = (BACKGROUND / jnp.array([3.0, 7.0], jnp.float32)) ** 2
NLL = mx.Joint(
    {
        "n": mx.PoissonNLL(lambda p: p["mu"] * SIGNAL + p["b"] * BACKGROUND),
        "b": mx.PoissonConstraint("b", TAU),
    }
)
ONES = jnp.ones(2, jnp.float32)
PARAMS = {"mu": mx.Parameter(jnp.float32(1.0), 0.0, 10.0), "b": mx.Parameter(ONES, jnp.float32(1e-10), 10.0)}
DATA = {"n": jnp.array([51.0, 48.0], jnp.float32), "b": TAU}
EXCESS = DATA | {"n": jnp.array([60.0, 55.0], jnp.float32)}


def all_float32(tree):
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return {leaf.dtype for leaf in floats} == {jnp.dtype("float32")}


def test_hypotest():
    found = mx.hypotest(NLL, PARAMS, DATA, "mu", 1.0)
    assert bool(found.valid)
    np.testing.assert_allclose(found.cls, 0.05251496, rtol=2e-4)
    np.testing.assert_allclose(found.expected_cls, [0.0026064, 0.0138206, 0.0644552, 0.235261, 0.573042], rtol=5e-4)
    assert all_float32((found.cls, found.expected_cls, found.p_sb, found.p_b, found.statistic))


def test_upper_limit():
    """Once the search asked for more digits than there are, and gave up."""
    found = mx.upper_limit(NLL, PARAMS, DATA, "mu")
    assert bool(found.valid)
    np.testing.assert_allclose(found.observed, 1.01156939, rtol=1e-4)
    np.testing.assert_allclose(found.expected, [0.55988, 0.75702, 1.06235, 1.50117, 2.05079], rtol=1e-4)
    assert all_float32((found.observed, found.expected))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_upper_limit_at_any_scale(scale):
    nll = mx.PoissonNLL(lambda p: p["x"] / p["scale"] * jnp.array([5.0], jnp.float32) + 20.0)
    params = {"x": mx.Parameter(jnp.float32(scale), lower=0.0), "scale": jnp.float32(scale)}
    found = mx.upper_limit(nll, params, jnp.array([18.0], jnp.float32), "x")

    def log_cls(mu, n=18.0, b=20.0, s=5.0):
        mean = mu * s + b
        q, q_a = (2 * (mean - b - k * np.log(mean / b)) for k in (n, b))  # the estimate is negative: it counts as 0
        return stats.norm.logsf((q + q_a) / (2 * np.sqrt(q_a))) - stats.norm.logcdf((q_a - q) / (2 * np.sqrt(q_a)))

    exact = optimize.brentq(lambda mu: log_cls(mu) - np.log(0.05), 0.5, 5.0)
    np.testing.assert_allclose(found.observed / scale, exact, rtol=2e-4)


def test_a_signal_that_does_nothing():
    nll = mx.PoissonNLL(lambda p: p["b"] * jnp.ones(3, jnp.float32) + 0.0 * p["mu"])
    params = {"mu": mx.Parameter(jnp.float32(1.0), lower=0.0), "b": mx.Parameter(jnp.float32(10.0), lower=0.0)}
    found = mx.upper_limit(nll, params, jnp.array([9.0, 11.0, 10.0], jnp.float32), "mu")
    assert np.isnan(found.observed)
    assert not bool(found.valid)


def test_discovery():
    found = mx.discovery(NLL, PARAMS, EXCESS, "mu")
    np.testing.assert_allclose([found.significance, found.expected_significance], [1.19467, 1.84568], rtol=2e-4)


def test_interval():
    found = mx.interval(NLL, PARAMS, EXCESS, "mu")
    np.testing.assert_allclose([found.lower, found.upper], [0.10186, 1.19287], rtol=1e-3)


@pytest.mark.slow
def test_by_toys():
    plain = mx.hypotest(NLL, PARAMS, DATA, "mu", 1.0)
    found = mx.hypotest(NLL, PARAMS, DATA, "mu", 1.0, calculator=mx.Toys(1000, jax.random.key(0)))
    assert bool(found.valid)
    assert abs(found.cls - plain.cls) < 4 * found.cls_error
    assert int(found.toys.tested.num_failed) == 0
