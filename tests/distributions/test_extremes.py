"""Distributions of extremes and of what exceeds a threshold, against their formulas in mpmath."""

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Exponential, GeneralizedExtremeValue, GeneralizedPareto, Moyal, Weibull

INF = float("inf")


HUGE = mpmath.mpf(10) ** 50  # mpmath would take for ever to reduce the argument of exp(-exp(1e20))


def gev(x, mu, sigma, xi):
    z = (x - mu) / sigma
    if xi == 0:
        return -mpmath.log(sigma) - z - (mpmath.exp(-z) if z > -100 else HUGE)
    if 1 + xi * z <= 0:  # the end moves with the parameters, the knots do not
        return -HUGE
    log_t = -mpmath.log(1 + xi * z) / xi
    return -mpmath.log(sigma) + (xi + 1) * log_t - (mpmath.exp(log_t) if log_t < 100 else HUGE)


def pareto(x, mu, sigma, xi):
    z = (x - mu) / sigma
    if 1 + xi * z <= 0:
        return -HUGE
    return -mpmath.log(sigma) - (z if xi == 0 else (1 + 1 / xi) * mpmath.log(1 + xi * z))


def weibull(x, shape, scale):
    return mpmath.log(shape / scale) + (shape - 1) * mpmath.log(x / scale) - (x / scale) ** shape


def moyal(x, mu, sigma):
    z = (x - mu) / sigma
    return -(z + (mpmath.exp(-z) if z > -100 else HUGE)) / 2 - mpmath.log(sigma * mpmath.sqrt(2 * mpmath.pi))


UP = (0.3, 10, 50, 1000, 1e4, 1e6, mpmath.inf)
CASES = {
    "gumbel": Case(
        GeneralizedExtremeValue,
        (0.3, 1.2, 0.0),
        gev,
        [-8.0, 0.0, 3.0, 50.0, 900.0],
        [(-1.0, 3.0), (-8.0, -7.9), (-INF, -5.0), (0.5, 0.50001), (50.0, 51.0), (900.0, INF)],
        (-mpmath.inf, -8, -7, -5, -3, -1, 0.3, 3, 50, mpmath.inf),
        stats.gumbel_r(0.3, 1.2).cdf,
        to=[0, 1],
    ),
    "gev, long tail": Case(
        GeneralizedExtremeValue,
        (0.3, 1.2, 0.4),
        gev,
        [-2.4, 0.0, 3.0, 1e4, 1e9],
        [(-1.0, 3.0), (-2.5, -2.4), (-INF, -2.0), (0.5, 0.50001), (1e4, 1.1e4), (1e6, INF)],
        (mpmath.mpf(0.3) - mpmath.mpf(1.2) / mpmath.mpf(0.4), -2.4, -1, 3, 1e4, mpmath.inf),
        stats.genextreme(-0.4, 0.3, 1.2).cdf,
    ),
    "gev, finite end": Case(
        GeneralizedExtremeValue,
        (0.3, 1.2, -0.4),
        gev,
        [-20.0, 0.0, 3.0, 3.2],
        [(-1.0, 3.0), (-15.0, -14.0), (-INF, -5.0), (3.2, 3.25), (0.5, 0.50001)],
        (-mpmath.inf, -20, -15, -14, -5, -3, -1, 0.3, 2, 3, 3.2, mpmath.mpf(0.3) - mpmath.mpf(1.2) / mpmath.mpf(-0.4)),
        stats.genextreme(0.4, 0.3, 1.2).cdf,
    ),
    "gev, nearly gumbel": Case(
        GeneralizedExtremeValue,
        (0.3, 1.2, 1e-3),
        gev,
        [-6.0, 0.0, 3.0, 50.0, 900.0],
        [(-1.0, 3.0), (-8.0, -7.9), (50.0, 51.0)],
        (-1199.7, -8, -5, -1, 3, 50, mpmath.inf),
    ),
    "pareto, long tail": Case(
        GeneralizedPareto,
        (0.3, 1.2, 0.4),
        pareto,
        [0.31, 3.0, 1e4, 1e9],
        [(0.5, 3.0), (0.5, 0.50001), (1e4, 1.1e4), (1e6, INF), (-INF, 0.31), (-1.0, 3.0)],
        UP,
        stats.genpareto(0.4, 0.3, 1.2).cdf,
        to=[1, 2],
    ),
    "pareto, finite end": Case(
        GeneralizedPareto,
        (0.3, 1.2, -0.4),
        pareto,
        [0.31, 2.0, 3.2],
        [(0.5, 3.0), (0.5, 0.50001), (3.2, 3.25), (-INF, 0.31), (-1.0, 3.0)],
        (0.3, 2, 3, mpmath.mpf(0.3) - mpmath.mpf(1.2) / mpmath.mpf(-0.4)),
        stats.genpareto(-0.4, 0.3, 1.2).cdf,
        to=[1, 2],
    ),
    "pareto, exponential": Case(
        GeneralizedPareto,
        (0.3, 1.2, 0.0),
        pareto,
        [0.31, 3.0, 900.0],
        [(0.5, 3.0), (0.5, 0.50001), (100.0, 101.0), (900.0, INF), (-INF, 0.31)],
        (0.3, 3, 50, mpmath.inf),
        stats.expon(0.3, 1.2).cdf,
        to=[1],
    ),
    "weibull": Case(
        Weibull,
        (2.3, 1.2),
        weibull,
        [1e-9, 0.1, 1.0, 3.0, 30.0],
        [(0.5, 2.0), (1.0, 1.00001), (1e-9, 1e-8), (-INF, 0.1), (10.0, INF), (30.0, 30.01), (-1.0, 1.0)],
        (0, 1e-9, 1e-3, 0.1, 1, 3, 6, 10, 15, 30, 31, 40, mpmath.inf),
        stats.weibull_min(2.3, 0, 1.2).cdf,
    ),
    "weibull, steep": Case(
        Weibull,
        (0.5, 1.2),
        weibull,
        [1e-9, 0.1, 1.0, 1e4],
        [(0.5, 2.0), (1.0, 1.00001), (1e-9, 1e-8), (10.0, INF), (1e4, 1.1e4)],
        (0, 1e-9, 1e-8, 1e-6, 1e-3, 0.1, 1, 10, 100, 1e3, 1e4, 2e4, mpmath.inf),
        stats.weibull_min(0.5, 0, 1.2).cdf,
    ),
    "moyal": Case(
        Moyal,
        (0.3, 1.2),
        moyal,
        [-8.0, 0.0, 3.0, 50.0, 900.0],
        [(-1.0, 3.0), (-8.0, -7.9), (-INF, -5.0), (0.5, 0.50001), (50.0, 51.0), (900.0, INF)],
        (-mpmath.inf, -8, -7, -5, -3, -1, 0.3, 3, 50, mpmath.inf),
        stats.moyal(0.3, 1.2).cdf,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestExtremes:
    @pytest.mark.grid
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    @pytest.mark.grid
    def test_bins(self, case):
        checks.check_bins(case, [-INF, -2.0, 0.5, 1.0, 3.2, 30.0, INF])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gev, finite end", "pareto, finite end", "weibull", "moyal"])
def test_finite(name):
    checks.check_finite(CASES[name], [-1e4, -40.0, -2.7, -1.0, 0.0, 0.3, 0.31, 3.29, 3.3, 40.0, 1e4])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GeneralizedExtremeValue, GeneralizedPareto])
@pytest.mark.parametrize("xi", [0.0, 1e-9, -1e-9])
def test_smooth_at_zero(kind, xi):
    """Values, first and second derivatives in xi: log(1 + xi z) / xi = z - xi z²/2 + xi² z³/3."""
    reference = gev if kind is GeneralizedExtremeValue else pareto
    for x in (0.4, 1.5, 20.0):
        f = lambda xi, x=x: kind(0.3, 1.2, xi).log_prob(x)  # noqa: E731
        with mpmath.workdps(60):
            g = lambda xi, x=x: reference(mpmath.mpf(x), mpmath.mpf(0.3), mpmath.mpf(1.2), xi)  # noqa: E731
            h = mpmath.mpf("1e-15")
            below, exact, above = (g(mpmath.mpf(xi) + step) for step in (-h, 0, h))
            slope, curve = float((above - below) / (2 * h)), float((above - 2 * exact + below) / h**2)
        np.testing.assert_allclose(f(xi), float(exact), rtol=1e-13)
        np.testing.assert_allclose(jax.grad(f)(xi), slope, rtol=1e-10)
        np.testing.assert_allclose(jax.grad(jax.grad(f))(xi), curve, rtol=1e-9)


def test_outside():
    for d, inside in (
        (GeneralizedExtremeValue(0.0, 1.0, 0.5), [0, 1, 1]),
        (GeneralizedExtremeValue(0.0, 1.0, -0.5), [1, 1, 0]),
        (GeneralizedPareto(0.0, 1.0, -0.5), [0, 1, 0]),
        (Weibull(2.0, 1.0), [0, 1, 1]),
    ):
        x = jnp.array([-2.5, 1.0, 2.5])
        np.testing.assert_array_equal(np.isfinite(d.log_prob(x)), inside)
        np.testing.assert_array_equal(np.isfinite(d.log_integral(x, x + 0.1)), inside)
        assert np.isnan(d.log_prob(jnp.nan))
        assert d.log_integral(1.0, 1.0) == d.log_integral(1.0, 0.5) == -INF


@pytest.mark.slow
def test_exponential():
    x = jnp.array([-1.0, 0.1, 2.0, 30.0])
    for d in (Weibull(1.0, 2.0), GeneralizedPareto(0.0, 2.0, 0.0)):
        np.testing.assert_allclose(d.log_prob(x), Exponential(0.5).log_prob(x), rtol=1e-13)
        np.testing.assert_allclose(
            d.log_integral(x, 50.0), Exponential(0.5).log_integral(x, 50.0), rtol=1e-13, atol=1e-15
        )


def test_uniform():
    """GeneralizedPareto with xi = -1."""
    np.testing.assert_allclose(
        GeneralizedPareto(1.0, 2.0, -1.0).log_prob(jnp.array([1.0, 2.9])), -np.log(2), rtol=1e-14
    )
    np.testing.assert_allclose(GeneralizedPareto(1.0, 2.0, -1.0).cdf(jnp.array([1.5, 4.0])), [0.25, 1.0], rtol=1e-14)
