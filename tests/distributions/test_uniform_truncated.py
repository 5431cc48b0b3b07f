"""Ranges: the uniform distribution, and others cut to a range."""

import functools

import checks
import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Exponential, Mixture, Normal, Truncated, TruncatedNormal, Uniform

INF = float("inf")


def uniform(x, low, high):
    return -mpmath.log(high - low)


@functools.cache
def log_norm(a, b, sigma):
    # from the side on which nothing cancels
    mass = mpmath.ncdf(-a) - mpmath.ncdf(-b) if a > 0 else mpmath.ncdf(b) - mpmath.ncdf(a)
    return mpmath.log(sigma * mpmath.sqrt(2 * mpmath.pi) * mass)


def normal(x, mu, sigma, low, high):
    return -((x - mu) ** 2) / (2 * sigma**2) - log_norm((low - mu) / sigma, (high - mu) / sigma, sigma)


def exponential(x, rate, low, high):
    return mpmath.log(rate) - rate * (x - low) - mpmath.log(1 - mpmath.exp(-rate * (high - low)))


def cut_exponential(rate, low, high):
    return Truncated(Exponential(rate), low, high)


CASES = {
    "uniform": Case(
        Uniform,
        (-1.5, 4.0),
        uniform,
        [-1.0, 0.0, 3.9],
        [(-1.0, 2.0), (0.1, 0.1000001), (5.0, 6.0), (-INF, 0.0), (3.0, INF), (-INF, INF)],
        (-1.5, 4),
        stats.uniform(-1.5, 5.5).cdf,
        [],
    ),
    "normal around its peak": Case(
        TruncatedNormal,
        (0.3, 1.2, -1.0, 5.0),
        normal,
        [-0.9, 0.3, 4.9],
        [(-0.9, -0.5), (0.2, 0.2001), (-3.0, 1.0), (4.0, INF)],
        (-1, 0.3, 5),
        stats.truncnorm(-1.3 / 1.2, 4.7 / 1.2, 0.3, 1.2).cdf,
        [0, 1],
    ),
    "normal, 30 sigma off": Case(
        TruncatedNormal,
        (0.3, 0.5, 15.3, 16.0),
        normal,
        [15.31, 15.5, 15.99],
        [(15.4, 15.5), (15.5, 15.5001), (15.9, 20.0), (0.0, 15.4)],
        (15.3, 15.5, 16),
        to=[0, 1],
    ),
    "normal, half a line below": Case(
        TruncatedNormal,
        (10.0, 0.5, -INF, -10.0),
        normal,
        [-10.01, -10.5, -15.0],
        [(-10.1, -10.01), (-30.0, -20.0), (-INF, -10.2), (-10.1, 5.0)],
        (-mpmath.inf, -12, -10.1, -10),
        to=[0, 1],
    ),
    "exponential": Case(
        cut_exponential,
        (0.7, 2.0, 60.0),
        exponential,
        [2.1, 20.0, 59.0],
        [(2.0, 3.0), (50.0, 50.001), (59.0, INF), (0.0, 2.5)],
        (2, 60),
        stats.truncexpon(0.7 * 58, 2.0, 1 / 0.7).cdf,
        to=[0],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestRanges:
    @pytest.mark.grid
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        if case.moving:
            checks.check_derivatives(case)

    @pytest.mark.grid
    def test_bins(self, case):
        low, high = (float(k) for k in (case.knots[0], case.knots[-1]))
        checks.check_bins(case, [low, *sorted(case.points), high])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)

    @pytest.mark.grid
    def test_finite(self, case):
        if case is CASES["normal around its peak"]:
            checks.check_finite(case, [-1e4, -11.0, -1.0, 0.3, 2.0, 3.0, 15.3, 15.4, 40.0, 1e4])


def test_outside():
    for d in (Uniform(1.0, 2.0), TruncatedNormal(0.0, 1.0, 1.0, 2.0), Truncated(Exponential(1.0, -1.0), 1.0, 2.0)):
        np.testing.assert_array_equal(np.isneginf(d.log_prob(jnp.array([0.99, 1.0, 2.0, 2.01]))), [1, 0, 0, 1])
        assert np.isnan(d.log_prob(jnp.nan))
        np.testing.assert_allclose(d.log_integral(0.0, 3.0), 0.0, atol=1e-15)
        assert np.isneginf(d.log_integral(2.0, 3.0))
        assert np.isneginf(d.log_integral(1.5, 1.5))


def test_no_density_inside():
    d = Truncated(Exponential(2.0), -1.0, 3.0)
    assert np.isneginf(d.log_prob(-0.5))
    assert jnp.isfinite(jax.grad(lambda r: Truncated(Exponential(r), -1.0, 3.0).log_prob(-0.5))(2.0))
    np.testing.assert_allclose(d.log_prob(1.0), Exponential(2.0, 0.0, 3.0).log_prob(1.0), rtol=1e-14)


def test_no_range_is_the_base():
    x = jnp.linspace(-5.0, 5.0, 5)
    np.testing.assert_allclose(Truncated(Normal(0.3, 2.0)).log_prob(x), Normal(0.3, 2.0).log_prob(x), rtol=1e-15)


@pytest.mark.slow
def test_samples_30_sigma_off():
    draws = jax.jit(lambda k: Truncated(Normal(0.0, 1.0), 30.0, jnp.inf).sample(k, (5000,)))(jax.random.key(3))
    assert float(jnp.min(draws)) > 30
    # P(X > x | X > 30) is uniform, too
    u = jnp.exp(jax.vmap(Truncated(Normal(0.0, 1.0), 30.0, jnp.inf).log_integral, (0, None))(draws, jnp.inf))
    assert stats.kstest(np.asarray(u), stats.uniform.cdf).pvalue > 1e-3
    many = jax.vmap(lambda low, k: TruncatedNormal(0.0, 1.0, low, jnp.inf).sample(k, (10,)))(
        jnp.array([-40.0, 40.0]), jax.random.split(jax.random.key(1), 2)
    )
    assert many.shape == (2, 10)
    assert np.all(np.abs(many[0]) < 6)
    assert np.all((many[1] > 40) & (many[1] < 41))


def test_float32_samples():
    d = TruncatedNormal(jnp.float32(0.3), jnp.float32(1.0), jnp.float32(-1.0), jnp.float32(2.0))
    draws = d.sample(jax.random.key(0), (2000,))
    assert draws.dtype == jnp.float32
    assert stats.kstest(np.asarray(draws, float), stats.truncnorm(-1.3, 1.7, 0.3, 1.0).cdf).pvalue > 1e-3


def test_not_a_distribution():
    with pytest.raises(TypeError, match=r"what Truncated cuts must be a distribution .* got float"):
        Truncated(3.0, 0.0, 1.0)  # pyright: ignore[reportArgumentType]


def test_derivatives_in_the_ends():
    def log_mass(a, b):
        return mpmath.log(mpmath.ncdf(b) - mpmath.ncdf(a))

    ends, x = jnp.array([-1.0, 2.0]), 0.5
    got = jax.grad(lambda e: TruncatedNormal(0.0, 1.0, e[0], e[1]).log_prob(x))(ends)
    exact = [-mpmath.diff(log_mass, (-1, 2), n) for n in ((1, 0), (0, 1))]
    np.testing.assert_allclose(got, np.array(exact, float), rtol=1e-12)
    got = jax.grad(lambda e: TruncatedNormal(0.0, 1.0, e[0], e[1]).log_integral(-3.0, x))(ends)
    exact[0] += mpmath.diff(lambda a: log_mass(a, x), -1)
    np.testing.assert_allclose(got, np.array(exact, float), rtol=1e-12)
    got = jax.grad(lambda e: Uniform(e[0], e[1]).log_integral(-3.0, x))(ends)
    np.testing.assert_allclose(got, [-1 / 1.5 + 1 / 3, -1 / 3], rtol=1e-14)


def test_a_base_without_numbers_outside():
    """Of a base that is infinite or NaN outside of the range nothing is left there."""

    class Base(eqx.Module):
        def log_prob(self, x):
            return -0.5 * jnp.log(x) - 0.5 * jnp.log1p(-x) - jnp.log(jnp.pi)

        def cdf(self, x):
            return 2 / jnp.pi * jnp.arcsin(jnp.sqrt(x))

    x = jnp.array([-1.0, 0.0, 0.05, 0.5, 1.0, 2.0, jnp.inf, 1e200])
    d = Truncated(Base(), 0.1, 0.9)
    np.testing.assert_array_equal(jnp.isneginf(d.log_prob(x)), [1, 1, 1, 0, 1, 1, 1, 1])
    slope = jax.grad(lambda high, x: Truncated(Base(), 0.1, high).log_prob(x))
    assert np.all(np.isfinite(jax.vmap(slope, (None, 0))(0.9, x)))
    mixture = Mixture([d, Uniform(-2.0, 9.0)], fractions=[0.3])
    np.testing.assert_allclose(mixture.log_prob(-1.0), np.log(0.7 / 11), rtol=1e-14)


def test_an_empty_range_has_no_density():
    assert np.isnan(Truncated(Normal(2.0, 1.0), 0.0, 0.0).log_prob(0.0))
    assert np.isneginf(Truncated(Exponential(2.0), -3.0, -1.0).log_prob(-2.0))  # nothing of nothing
