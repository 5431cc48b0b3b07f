"""`fit_toys`: the numbers of single fits, whatever the batch; failures of their own; toys at a bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

EDGES = jnp.linspace(-5.0, 5.0, 41)
TRUTH = {"mu": mx.Parameter(0.3), "n": mx.Parameter(500.0, lower=0.0), "sigma": mx.Parameter(1.2, lower=0.01)}
N = 300


def log_expected(p):
    return jnp.log(p["n"]) + mx.distributions.Normal(p["mu"], p["sigma"]).log_bin_integrals(EDGES)


NLL = mx.PoissonNLL(log_expected=log_expected)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def toys():
    return mx.sample(NLL, TRUTH, KEY, N)


@pytest.fixture(scope="module")
def fits(toys):
    return mx.fit_toys(NLL, TRUTH, toys, batch_size=128)


@pytest.fixture(scope="module")
def single(toys):
    return jax.jit(lambda some: jax.lax.map(lambda toy: mx.fit(NLL, TRUTH, toy), some))(toys)


def test_the_numbers_of_single_fits(fits, single):
    assert bool(jnp.all(fits.valid))
    assert fits.names == single.names
    assert np.max(np.abs(fits.values - single.values) / single.errors) < 1e-6
    np.testing.assert_allclose(fits.errors, single.errors, rtol=1e-4)
    np.testing.assert_allclose(fits.covariance.matrix, single.covariance.matrix, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(fits.nll, single.nll, rtol=1e-10)
    assert jax.tree.structure(fits) == jax.tree.structure(single)
    for got, wanted in zip(jax.tree.leaves(fits), jax.tree.leaves(single), strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype


def test_few_evaluations(fits):
    assert float(jnp.mean(fits.stats["num_gradients"])) < 4.5
    assert int(jnp.max(fits.stats["num_hessians"])) == 1


def test_pulls(fits):
    pulls = (fits.values - jnp.array([0.3, 500.0, 1.2])) / fits.errors
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 4 / N**0.5)
    assert np.all(np.abs(np.std(pulls, axis=0) - 1) < 4 / (2 * N) ** 0.5)


def test_drawn_where_they_are_fitted(fits):
    """The same toys, whatever the batches; `reduce` sees them in order."""
    drawn = mx.fit_toys(NLL, TRUTH, mx.Toys(N, KEY), batch_size=128)
    np.testing.assert_array_equal(drawn.values, fits.values)
    parts = mx.fit_toys(NLL, TRUTH, mx.Toys(N, KEY), batch_size=77, reduce=lambda result: result.values)
    assert [len(part) for part in parts] == [77, 77, 77, 69]
    np.testing.assert_allclose(np.concatenate(parts), fits.values, rtol=1e-9, atol=1e-10)


def test_bad_toys_change_no_other(toys, fits):
    bad = np.arange(0, N, 10)
    poisoned = np.array(toys)
    poisoned[bad, 20] = np.nan
    found = mx.fit_toys(NLL, TRUTH, poisoned, batch_size=128)
    rest = np.setdiff1d(np.arange(N), bad)
    assert not np.any(found.valid[bad])
    np.testing.assert_array_equal(found.status[bad], int(mx.Status.NOT_FINITE_AT_START))
    for got, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(fits), strict=True):
        np.testing.assert_array_equal(got[rest], wanted[rest])


def test_without_second_derivatives(toys, single):
    fits = mx.fit_toys(NLL, TRUTH, toys, batch_size=128, hesse=False)
    assert bool(jnp.all(fits.valid))
    assert fits.covariance is None
    assert bool(jnp.all(jnp.isnan(fits.errors)))
    assert np.max(np.abs(fits.values - single.values) / single.errors) < 1e-5
    assert int(jnp.max(fits.stats["num_hessians"])) == 0


def test_at_a_bound():
    """No signal, which may not be negative: half of the toys end at 0, and all converge."""
    shape = jnp.exp(-0.5 * (jnp.arange(20) - 10.0) ** 2)

    def expected(p):
        return p["b"] * jnp.ones(20) + p["s"] * shape

    nll = mx.PoissonNLL(expected)
    params = {"b": mx.Parameter(50.0, lower=0.0), "s": mx.Parameter(0.0, lower=0.0)}
    n = 400
    fits = mx.fit_toys(nll, params, mx.Toys(n, KEY))
    assert bool(jnp.all(fits.valid))
    at_zero = float(jnp.mean(fits.values[:, 1] == 0.0))
    assert abs(at_zero - 0.5) < 4 * 0.5 / n**0.5
    toys = mx.sample(nll, params, KEY, 40)
    single = jax.jit(lambda some: jax.lax.map(lambda toy: mx.fit(nll, params, toy), some))(toys)
    sizes = np.maximum(single.errors, 1e-3)
    assert np.max(np.abs(fits.values[:40] - single.values) / sizes) < 1e-6


def test_weighted_events_have_the_sandwich():
    rng = np.random.default_rng(1)
    x, weight = rng.normal(1.0, 2.0, (30, 200)), rng.uniform(0.2, 2.0, (30, 200))
    nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Normal(p["mu"], p["sigma"]))
    params = {"mu": mx.Parameter(1.0), "sigma": mx.Parameter(2.0, lower=0.1)}
    toys = jax.vmap(mx.Events)(jnp.asarray(x), jnp.asarray(weight))
    fits = mx.fit_toys(nll, params, toys, covariance=np.diag([0.02, 0.01]))
    one = mx.fit(nll, params, mx.Events(x[3], weight[3]))
    assert fits.covariance.kind == "sandwich"
    np.testing.assert_allclose(fits.errors[3], one.errors, rtol=1e-4)


BAD = {
    "no axis": (lambda: mx.fit_toys(NLL, TRUTH, {"a": jnp.zeros(3), "b": 1.0}), ValueError, "one leading axis"),
    "different axes": (lambda: mx.fit_toys(NLL, TRUTH, (jnp.zeros(3), jnp.zeros(4))), ValueError, "one leading axis"),
    "batch size 0": (lambda: mx.fit_toys(NLL, TRUTH, jnp.zeros((3, 40)), batch_size=0), ValueError, "batch_size"),
    "one toy": (lambda: mx.fit_toys(NLL, TRUTH, jnp.zeros(40)), ValueError, "shape"),
    "no key": (lambda: mx.Toys(10, 1), TypeError, "jax.random.key"),
    "no toys": (lambda: mx.Toys(0, KEY), ValueError, "at least 1"),
    "cannot be drawn": (lambda: mx.fit_toys(lambda p, d: p["mu"] ** 2, TRUTH, mx.Toys(3, KEY)), TypeError, "no sample"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
