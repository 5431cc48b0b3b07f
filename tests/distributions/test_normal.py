"""Distributions against high-precision references, with their derivatives, in both tails."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import stats

import migrax as mx

mpmath.mp.dps = 30
Normal = mx.distributions.Normal
BINS = [
    (-30, -29.9), (20, 20.001), (-1, 1), (-0.05, 0.05), (37, 38), (100, 101), (-200, -199.99), (3, 3.01), (-1e-6, 2e-6),
    (5, 5.0000001), (-12.01, -11.99), (11.9, 12.5), (-8, 40), (-0.1, 0.1), (0.0, 0.3), (-0.3, 0.0), (-1e-3, 25.0),
]  # fmt: skip


def exact(a, b):
    a, b = mpmath.mpf(a), mpmath.mpf(b)
    if a > 0:
        a, b = -b, -a
    return mpmath.log(mpmath.ncdf(b) - mpmath.ncdf(a))


@pytest.mark.grid
@pytest.mark.parametrize(("a", "b"), BINS)
def test_log_bin_integrals(a, b):
    got = float(Normal(0.0, 1.0).log_bin_integrals(jnp.array([a, b], float))[0])
    assert abs(got - exact(float(a), float(b))) < 1e-12 * max(1, abs(got))


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), BINS)
def test_derivatives_of_log_bin_integrals(a, b):
    a, b = float(a), float(b)

    def f(p):
        return Normal(p[0], p[1]).log_bin_integrals(jnp.array([a, b]))[0]

    point = jnp.array([0.0, 1.0])

    def reference(mu, sigma):
        return exact((a - mu) / sigma, (b - mu) / sigma)

    with mpmath.workdps(60):
        first = [mpmath.diff(reference, (0, 1), n) for n in ((1, 0), (0, 1))]
        second = [mpmath.diff(reference, (0, 1), n) for n in ((2, 0), (1, 1), (0, 2))]
    np.testing.assert_allclose(jax.grad(f)(point), np.array(first, float), rtol=1e-8, atol=1e-8)
    hessian = jax.hessian(f)(point)
    got = [hessian[0, 0], hessian[0, 1], hessian[1, 1]]
    np.testing.assert_allclose(got, np.array(second, float), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_infinite_edges():
    edges = jnp.array([-jnp.inf, -1.0, 2.0, jnp.inf])
    p = Normal(0.3, 1.0).bin_integrals(edges)
    np.testing.assert_allclose(p, np.diff(stats.norm(0.3, 1).cdf(edges)), rtol=1e-13)
    np.testing.assert_allclose(jnp.sum(p), 1.0, rtol=1e-14)
    derivative = jax.jacrev(lambda m: Normal(m, 1.0).bin_integrals(edges))(0.3)
    np.testing.assert_allclose(derivative, -np.diff(stats.norm(0.3, 1).pdf(edges)), rtol=1e-10)
    assert np.all(
        np.isfinite(jax.hessian(lambda v: jnp.sum(Normal(v[0], v[1]).log_bin_integrals(edges)))(jnp.array([0.3, 1.0])))
    )
    whole = Normal(0.3, 1.0).log_bin_integrals(jnp.array([-jnp.inf, jnp.inf]))
    np.testing.assert_allclose(whole, [0.0], atol=1e-15)


@pytest.mark.slow
@pytest.mark.float32
def test_float32_tails_have_finite_gradients():
    edges = jnp.linspace(-4.0, 4.0, 101, dtype=jnp.float32)
    for mu in (0.0, 20.0, -60.0):
        f = lambda m: jnp.sum(Normal(m, jnp.float32(0.3)).log_bin_integrals(edges))  # noqa: E731
        value, gradient = jax.value_and_grad(f)(jnp.float32(mu))
        assert value.dtype == jnp.float32
        assert np.isfinite(value)
        assert np.isfinite(gradient)


@pytest.mark.slow
def test_log_prob_cdf_and_sample():
    x = jnp.linspace(-5.0, 5.0, 11)
    n, reference = Normal(0.5, 2.0), stats.norm(0.5, 2.0)
    np.testing.assert_allclose(n.log_prob(x), reference.logpdf(x), rtol=1e-13)
    np.testing.assert_allclose(n.cdf(x), reference.cdf(x), rtol=1e-12)
    draws = np.asarray(n.sample(jax.random.key(1), (20_000,)))
    assert stats.kstest(draws, reference.cdf).pvalue > 1e-3
    assert Normal(jnp.zeros(3), 1.0).sample(jax.random.key(0), (2,)).shape == (2, 3)
