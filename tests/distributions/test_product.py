"""Several independent observables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from strangers import TFP, Numpyro

from migrax.distributions import Exponential, Mixture, Normal, Product


@pytest.mark.slow
def test_log_prob_and_derivatives():
    x = jnp.array([[0.3, 1.0, -2.0], [5.0, 0.1, 60.0]])

    def at(p):
        return Product([Normal(p[0], p[1]), Exponential(p[2]), Normal(0.0, 1.5)]).log_prob(x)

    p = jnp.array([0.4, 1.2, 0.7])
    exact = stats.norm(0.4, 1.2).logpdf(x[:, 0]) + np.log(0.7) - 0.7 * x[:, 1] + stats.norm(0, 1.5).logpdf(x[:, 2])
    np.testing.assert_allclose(at(p), exact, rtol=1e-13)
    np.testing.assert_allclose(jax.jit(jax.jacrev(at))(p)[:, 2], 1 / 0.7 - x[:, 1], rtol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.hessian(at))(p)[:, 2, 2], -1 / 0.7**2, rtol=1e-12)
    value, gradient = jax.value_and_grad(
        lambda r: Product([Normal(0.0, 1.0), Exponential(r)]).log_prob(jnp.array([0.0, -1.0]))
    )(1.0)
    assert (value, gradient) == (-np.inf, 0.0)
    assert Product([Normal(0.0, 1.0)]).log_prob(jnp.zeros((2, 1), jnp.float32)).dtype == jnp.float32


@pytest.mark.slow
def test_log_integral():
    d = Product([Normal(0.0, 1.0), Exponential(1.0)])
    exact = [stats.norm.logcdf(-40.0) - 1.0, np.log(stats.norm.cdf(1) - stats.norm.cdf(-1)) + np.log(1 - np.exp(-2.0))]
    got = d.log_integral(jnp.array([[40.0, 1.0], [-1.0, 0.0]]), jnp.array([[np.inf, np.inf], [1.0, 2.0]]))
    np.testing.assert_allclose(got, exact, rtol=1e-12)
    np.testing.assert_allclose(d.log_integral(-np.inf, np.inf), 0.0, atol=1e-15)
    np.testing.assert_array_equal(d.log_integral(jnp.array([0.0, 2.0]), jnp.array([1.0, 2.0])), -np.inf)


@pytest.mark.parametrize("stranger", [Normal, Numpyro, TFP])
def test_sample(stranger):
    d = Product([stranger(jnp.array([0.0, 9.0]), 1.0), Exponential(0.5)])
    assert d.event_shape == (2,)
    draws = np.asarray(jax.jit(lambda key: d.sample(key, (4000,)))(jax.random.key(0)))
    assert draws.shape == (4000, 2, 2)
    assert stats.kstest(draws[:, 1, 0], stats.norm(9, 1).cdf).pvalue > 1e-3
    assert stats.kstest(draws[:, 0, 1], stats.expon(scale=2).cdf).pvalue > 1e-3
    correlation = np.corrcoef(draws.reshape(4000, 4), rowvar=False)
    np.testing.assert_allclose(correlation, np.eye(4), atol=0.08)


def test_nonsense():
    d = Product([Normal(0.0, 1.0), Numpyro(0.0, 1.0)])
    for ask, kind, message in (
        (lambda: d.log_prob(jnp.zeros(3)), ValueError, r"x must have shape \(..., 2\), got \(3,\)"),
        (lambda: d.log_prob(0.0), ValueError, r"got \(\)"),
        (lambda: d.log_integral(jnp.zeros(3), 1.0), ValueError, "low must have shape"),
        (lambda: d.log_integral(0.0, 1.0), TypeError, "factor 1 of the product is a Numpyro .* no log_integral"),
        (lambda: Mixture([d, d], 0.5).log_bin_integrals([0.0, 1.0]), ValueError, r"events of shape \(2,\)"),
        (lambda: Mixture([d, d], yields=(1, 2)).expected([0.0, 1.0]), ValueError, "bins are along one observable"),
        (lambda: Mixture([d, Normal(0.0, 1.0)], 0.5), ValueError, r"component 1 .* shape \(\), those before it \(2,\)"),
        (lambda: Product([]), ValueError, "at least one"),
        (lambda: Product([1.0]), TypeError, "factor 0 of the product .* got float"),
        (lambda: Product([d]), ValueError, "each has one observable"),
    ):
        with pytest.raises(kind, match=message):
            ask()
