"""Poisson counts as they are drawn: against scipy's probabilities, from no events to 10¹² of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import migrax as mx
from migrax._util.poisson_draw import draw_poisson

N = 400_000
MEANS = (1e-3, 0.1, 1.0, 3.3, 10.0, 30.0, 100.0, 163.0, 170.0, 1e3, 1e4, 1e6, 1e8, 1e12)


@jax.jit
def draws(mean):
    return draw_poisson(jax.random.key(3), mean, (N,))


@pytest.mark.grid
@pytest.mark.parametrize("mean", MEANS)
def test_frequencies(mean):
    """Up to 40 classes of equal probability, and the mean and variance, which the classes' ends say little of."""
    drawn = np.asarray(draws(jnp.asarray(mean)))
    assert np.all(drawn == np.floor(drawn))
    assert np.all(drawn >= 0)
    ends = np.unique(stats.poisson.ppf(np.linspace(0, 1, 41)[1:-1], mean))
    ends = np.unique(np.append(ends, stats.poisson.isf([1e-2, 1e-3, 1e-4], mean)))
    observed = np.histogram(drawn, np.concatenate([[-1], ends, [np.inf]]) + 0.5)[0]
    expected = N * np.diff(np.concatenate([[0], stats.poisson.cdf(ends, mean), [1]]))
    counts = expected > 5
    chi2 = np.sum((observed - expected)[counts] ** 2 / expected[counts])
    assert stats.chi2.sf(chi2, np.sum(counts)) > 1e-3
    assert abs(drawn.mean() - mean) < 4 * np.sqrt(mean / N)
    fourth = (3 * mean**2 + mean) - mean**2  # variance of the squared deviation
    assert abs(np.mean((drawn - mean) ** 2) - mean) < 4 * np.sqrt(fourth / N)


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.5, 20.0, 150.0, 1e3, 5e4, 1e7])
def test_distribution_function(mean):
    """Inversion: the count changes where the uniform number crosses scipy's distribution function."""
    from migrax._util.poisson_draw import _invert

    k = stats.poisson.ppf(np.linspace(0.001, 0.999, 400), mean)
    edge = stats.poisson.cdf(k, mean)
    within = 1e-12 if mean < 160 else 1e-5
    low, high = (np.asarray(_invert(jnp.asarray(edge + sign * within)[:, None], jnp.array([mean]))) for sign in (-1, 1))
    assert np.all(low[:, 0] <= k)
    assert np.all(high[:, 0] > k)


@pytest.mark.slow
def test_tails():
    """To the last numbers below 1: eight standard deviations."""
    from migrax._util.poisson_draw import _invert

    for mean in (0.2, 7.0, 120.0):
        for p in (1e-4, 1e-8, 1e-12):
            low, high = (float(_invert(jnp.array([u]), jnp.array([mean]))[0]) for u in (p, 1 - p))
            assert low == stats.poisson.ppf(p, mean)
            assert abs(high - stats.poisson.isf(p, mean)) <= (0 if p > 1e-10 else 1)


def test_nothing_and_nonsense():
    drawn = draw_poisson(jax.random.key(0), jnp.array([0.0, -1.0, jnp.nan, jnp.inf, 5.0]))
    np.testing.assert_array_equal(np.isnan(drawn), [False, True, True, True, False])
    assert drawn[0] == 0


@pytest.mark.slow
def test_the_same_vmapped():
    """Over keys, over means, over both, nested; and whatever stands beside a mean."""
    means = jnp.array([[0.3, 5.0, 90.0, 700.0], [2.0, 2.0, 1e5, 0.0], [40.0, 1.0, 300.0, 9.0]])
    keys = jax.random.split(jax.random.key(1), 3)
    one = np.array([[draw_poisson(k, m) for m in means] for k in keys])
    both = jax.jit(jax.vmap(lambda k: jax.vmap(lambda m: draw_poisson(k, m))(means)))(keys)
    np.testing.assert_array_equal(both, one)
    pairs = jax.vmap(draw_poisson)(keys, means)
    np.testing.assert_array_equal(pairs, one[np.arange(3), np.arange(3)])
    over_keys = jax.vmap(draw_poisson, (0, None))(keys, means[0])
    np.testing.assert_array_equal(over_keys, one[:, 0])


def test_many_bins():
    """More than have a table each."""
    drawn = draw_poisson(jax.random.key(0), jnp.full(20_000, 7.0))
    assert abs(drawn.mean() - 7) < 4 * np.sqrt(7 / 20_000)


@pytest.mark.slow
def test_in_float32():
    drawn = draw_poisson(jax.random.key(0), jnp.full(10_000, 30.0, jnp.float32))
    assert drawn.dtype == jnp.float32
    assert abs(float(drawn.mean()) - 30) < 4 * np.sqrt(30 / 10_000)


@pytest.mark.slow
def test_beside_derivatives():
    """A toy drawn inside of what is differentiated is a constant there."""
    nll = mx.PoissonNLL(lambda p: p["mu"] * jnp.ones(3))

    def value(mu):
        toy = mx.sample(nll, {"mu": mu}, jax.random.key(0))
        return nll({"mu": mu}, jax.lax.stop_gradient(toy))

    toy = mx.sample(nll, {"mu": 9.0}, jax.random.key(0))
    np.testing.assert_allclose(jax.grad(value)(9.0), np.sum(1 - toy / 9.0), rtol=1e-12)
    assert np.isfinite(jax.jvp(value, (9.0,), (1.0,))[1])


def test_strict_promotion():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        drawn = draw_poisson(jax.random.key(0), jnp.array([3.0, 1e4]), (5,))
    assert drawn.shape == (5, 2)
