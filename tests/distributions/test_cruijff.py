"""The Cruijff distribution against mpmath's quadrature."""

import functools

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Cruijff

INF = float("inf")


def log_kernel(x, mu, sigma_low, sigma_high, alpha_low, alpha_high):
    sigma, alpha = (sigma_low, alpha_low) if x < mu else (sigma_high, alpha_high)
    return -((x - mu) ** 2) / (2 * sigma**2 + alpha * (x - mu) ** 2)


@functools.cache
def log_norm(mu, sigma_low, sigma_high, alpha_low, alpha_high, low, high):
    shape = (mu, sigma_low, sigma_high, alpha_low, alpha_high)
    inner = [mu - 10 * sigma_low, mu - 3 * sigma_low, mu, mu + 3 * sigma_high, mu + 10 * sigma_high]
    ends = [low, *(x for x in inner if low < x < high), high]
    return mpmath.log(mpmath.quad(lambda x: mpmath.exp(log_kernel(x, *shape)), ends))


def log_pdf(x, *params):
    return log_kernel(x, *params[:5]) - log_norm(*params)


INTERVALS = [(0.5, 1.0), (-7.0, -6.9999), (8.0, 9.0), (-INF, INF), (30.0, 40.0), (2.0, 1.0)]
TO = [0, 1, 2, 3, 4]
CASES = {
    "typical": Case(
        Cruijff,
        (0.4, 1.5, 0.8, 0.1, 0.25, -10.0, 20.0),
        log_pdf,
        [0.3, 0.45, -9.5, 3.0, 19.0],
        INTERVALS,
        (-10, -4, 0.4, 4, 9, 20),
        to=TO,
    ),
    "bifurcated": Case(
        Cruijff,
        (0.4, 1.5, 0.8, 0.0, 0.0, -10.0, 20.0),
        log_pdf,
        [0.3, 0.45, -9.5, 3.0, 19.0],
        INTERVALS,
        (-10, -4, 0.4, 4, 9, 20),
        to=[0, 3],
    ),
    "peak outside": Case(
        Cruijff,
        (-12.0, 1.5, 0.8, 0.0, 0.01, -10.0, 20.0),
        log_pdf,
        [-10.0, 0.0, 20.0],
        INTERVALS,
        (-10, -8, 0, 20),
        to=[0, 4],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestCruijff:
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    def test_bins(self, case):
        checks.check_bins(case, [-10.0, -7.0, -1.0, 0.4, 0.5, 5.0, 20.0])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASES["typical"], [-1e4, -11.0, -10.0, -1.0, 0.4, 0.41, 3.0, 20.0, 2e4])


def test_bifurcated_normal():
    """By SciPy's normal distribution; the derivative by mu on both sides of the peak."""
    d = Cruijff(0.0, 2.0, 1.0, 0.0, 0.0, -50.0, 50.0)
    x = np.array([-30.0, -2.0, 0.0, 1.0, 12.0])
    exact = np.where(x < 0, 2 * 2 / 3 * stats.norm.cdf(x / 2), 2 / 3 + 2 / 3 * (stats.norm.cdf(x) - 0.5))
    np.testing.assert_allclose(d.cdf(x), exact, rtol=1e-12)
    slope = jax.vmap(jax.grad(lambda mu, x: Cruijff(mu, 2.0, 1.0, 0.0, 0.0, -50.0, 50.0).log_prob(x)), (None, 0))(
        0.0, x
    )
    np.testing.assert_allclose(slope, np.where(x < 0, x / 4, x), rtol=1e-12, atol=1e-12)


def test_wide_range():
    """A plateau of 1e4 widths holds nearly all."""
    f = lambda alpha: Cruijff(0.0, 1.0, 1.0, alpha, alpha, -1e4, 1e4).log_integral(0.0, 5.0)  # noqa: E731
    with mpmath.workdps(30):
        kernel = lambda x: mpmath.exp(log_kernel(x, 0, 1, 1, mpmath.mpf(0.2), mpmath.mpf(0.2)))  # noqa: E731
        exact = mpmath.log(mpmath.quad(kernel, [0, 1, 3, 5]) / mpmath.quad(kernel, [0, 1, 3, 10, 100, 1e3, 1e4]) / 2)
    np.testing.assert_allclose(f(jnp.float64(0.2)), float(exact), rtol=1e-12)
