"""Goodness of fit: chi2 and deviance against scipy and closed forms, p-values from toys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import migrax as mx

P = mx.Parameter
COUNTS = np.array([103.0, 121.0, 80.0, 95.0, 110.0, 87.0])
FLAT = mx.PoissonNLL(lambda p: p["mu"] * jnp.ones(6))


def test_deviance_of_counts():
    """The G-test of a flat spectrum."""
    result = mx.fit(FLAT, {"mu": 90.0}, COUNTS)
    goodness = mx.goodness_of_fit(FLAT, result, COUNTS)
    reference = stats.power_divergence(COUNTS, lambda_="log-likelihood")
    np.testing.assert_allclose(goodness.chi2, reference.statistic, rtol=1e-9)
    np.testing.assert_allclose(goodness.p_value, reference.pvalue, rtol=1e-8)
    assert int(goodness.ndof) == 5
    assert str(goodness) == f"χ² = {float(goodness.chi2):.5g}, ndof = 5, p = {float(goodness.p_value):.4g}"
    shape = mx.BinnedNLL(lambda p: 1 + p["slope"] * jnp.linspace(-1, 1, 6))
    sloped = mx.fit(shape, {"slope": P(0.1, lower=-1.0, upper=1.0)}, COUNTS)
    assert int(mx.goodness_of_fit(shape, sloped, COUNTS).ndof) == 4


def test_constraints_are_data_too():
    nll = mx.Joint({"n": FLAT, "mu": mx.NormalConstraint("mu", 2.0)})
    data = {"n": COUNTS, "mu": 97.0}
    result = mx.fit(nll, {"mu": 90.0}, data)
    goodness = mx.goodness_of_fit(nll, result, data)
    np.testing.assert_allclose(goodness.chi2, 2 * result.nll, rtol=1e-8)
    assert int(goodness.ndof) == 6


def test_masked_bins_and_parameters_at_a_bound():
    mask = np.arange(6) < 4
    nll = mx.PoissonNLL(lambda p: p["mu"] * jnp.ones(6) + p["s"], mask=mask)
    result = mx.fit(nll, {"mu": P(90.0), "s": P(0.0, fixed=True)}, COUNTS)
    reference = stats.power_divergence(COUNTS[:4], lambda_="log-likelihood")
    np.testing.assert_allclose(mx.goodness_of_fit(nll, result, COUNTS).p_value, reference.pvalue, rtol=1e-8)
    falling = mx.PoissonNLL(lambda p: p["mu"] + p["s"] * jnp.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
    bound = mx.fit(falling, {"mu": P(90.0), "s": P(3.0, lower=0.0)}, COUNTS)
    assert bool(bound.at_limit[1])
    assert int(mx.goodness_of_fit(falling, bound, COUNTS).ndof) == 5  # it does not float any more


def test_small_counts_need_toys():
    """20 bins of 0.25 on average: the deviance is far from chi2, and the toys' p-value the exact distribution's."""
    nll = mx.PoissonNLL(lambda p: p["mu"] * jnp.ones(20))
    counts = np.zeros(20)
    counts[:4] = [1, 1, 2, 1]
    result = mx.fit(nll, {"mu": P(0.3, lower=0.0)}, counts)
    toys = mx.goodness_of_fit(nll, result, counts, toys=2000, key=jax.random.key(3))
    draws = np.random.default_rng(0).poisson(counts.mean(), size=(20_000, 20))
    mean = draws.mean(axis=1, keepdims=True)
    terms = np.where(draws > 0, draws * np.log(np.maximum(draws, 1) / np.maximum(mean, 1e-9)), 0.0)
    deviance = 2 * terms.sum(axis=1)
    observed = 2 * np.sum(np.where(counts > 0, counts * np.log(np.maximum(counts, 1) / counts.mean()), 0.0))
    np.testing.assert_allclose(toys.chi2, observed, rtol=1e-7)
    exact = np.mean(deviance >= observed - 1e-9)
    # an empty toy has a deviance of 0 at the bound, and counts like any other
    assert abs(float(toys.p_value) - exact) < 4 * float(toys.p_value_error) + 0.01
    asymptotic = float(mx.goodness_of_fit(nll, result, counts).p_value)
    assert abs(asymptotic - exact) > 10 * float(toys.p_value_error)
    assert f"({2000 - int(toys.num_failed)} toys" in str(toys)


@pytest.mark.slow
def test_toys_agree_with_chi2_for_large_counts():
    result = mx.fit(FLAT, {"mu": 90.0}, COUNTS)
    asymptotic = mx.goodness_of_fit(FLAT, result, COUNTS)
    toys = mx.goodness_of_fit(FLAT, result, COUNTS, toys=1000, key=jax.random.key(1))
    assert abs(float(toys.p_value - asymptotic.p_value)) < 4 * float(toys.p_value_error)
    assert int(toys.num_failed) == 0


@pytest.mark.slow
def test_failed_toys_do_not_count():
    """A fifth of the toys is NaN: the p-value is that of the others."""

    def sample(p, key):
        draw, poison = jax.random.split(key)
        n = jax.random.poisson(draw, p["mu"], (6,)).astype(float)
        return jnp.where(jax.random.uniform(poison) < 0.2, jnp.nan, n)

    nll = mx.Likelihood(FLAT, sample=sample)
    joint = mx.Joint({"n": FLAT})
    result = mx.fit(joint, {"mu": 90.0}, {"n": COUNTS})
    clean = mx.goodness_of_fit(joint, result, {"n": COUNTS}, toys=500, key=jax.random.key(1))
    assert int(clean.num_failed) == 0
    toys = mx.sample(nll, result.params, jax.random.key(2), 400)
    poisoned = np.isnan(toys[:, 0])
    from migrax._toys.goodness_of_fit import _toys

    found = _toys(joint, result, {"n": toys})
    np.testing.assert_array_equal(np.isnan(found), poisoned)
    assert 40 < poisoned.sum() < 120


def test_under_jit_and_vmap():
    def p_value(n):
        result = mx.fit(FLAT, {"mu": 90.0}, n)
        return mx.goodness_of_fit(FLAT, result, n).p_value

    values = jax.jit(jax.vmap(p_value))(jnp.stack([COUNTS, np.full(6, 100.0), np.full(6, np.nan)]))
    np.testing.assert_allclose(values[0], stats.power_divergence(COUNTS, lambda_="log-likelihood").pvalue, rtol=1e-8)
    np.testing.assert_allclose(values[1], 1.0, rtol=1e-9)
    assert np.isnan(values[2])  # an invalid fit has none


BAD = {
    "a start": (lambda: mx.goodness_of_fit(FLAT, {"mu": 1.0}, COUNTS), TypeError, "takes the result of mx.fit"),
    "unbinned": (
        lambda: mx.goodness_of_fit(
            mx.UnbinnedNLL(lambda p, x: -0.5 * (x - p["mu"]) ** 2), mx.fit(FLAT, {"mu": 90.0}, COUNTS), COUNTS
        ),
        TypeError,
        "no saturated model",
    ),
    "invalid": (
        lambda: mx.goodness_of_fit(FLAT, mx.fit(FLAT, {"mu": 90.0}, np.full(6, np.nan)), COUNTS),
        ValueError,
        "needs a valid fit",
    ),
    "no key": (
        lambda: mx.goodness_of_fit(FLAT, mx.fit(FLAT, {"mu": 90.0}, COUNTS), COUNTS, toys=9),
        TypeError,
        "a key",
    ),
    "no freedom": (
        lambda: mx.goodness_of_fit(
            mx.PoissonNLL(lambda p: p["mu"]),
            mx.fit(mx.PoissonNLL(lambda p: p["mu"]), {"mu": jnp.ones(6)}, COUNTS),
            COUNTS,
        ),
        ValueError,
        "no degree of freedom left: ndof is 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
