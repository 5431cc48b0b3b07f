"""The log-normal distribution against its formula in mpmath."""

import checks
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import LogNormal

INF = float("inf")


def log_pdf(x, mu, sigma):
    return -((mpmath.log(x) - mu) ** 2) / (2 * sigma**2) - mpmath.log(x * sigma * mpmath.sqrt(2 * mpmath.pi))


CASES = {
    "typical": Case(
        LogNormal,
        (0.3, 0.8),
        log_pdf,
        [1e-14, 0.1, 1.3, 50.0, 1e14],
        [(0.5, 2.0), (1.3, 1.30001), (1e-12, 1e-11), (1e12, 1.1e12), (-INF, 0.1), (20.0, INF), (-1.0, 3.0)],
        (0, 1e-13, 1e-12, 0.1, 1, 10, 1e12, 1e14, mpmath.inf),
        stats.lognorm(0.8, 0, np.exp(0.3)).cdf,
    ),
    "narrow": Case(
        LogNormal,
        (5.0, 0.1),
        log_pdf,
        [3.0, 148.0, 8100.0],
        [(140.0, 150.0), (148.0, 148.0001), (3.0, 3.1), (8100.0, INF), (-INF, 100.0)],
        (0, 3, 60, 98, 130, 165, 200, 8100, 8500, 20000, mpmath.inf),
        stats.lognorm(0.1, 0, np.exp(5.0)).cdf,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestLogNormal:
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    def test_bins(self, case):
        checks.check_bins(case, [-INF, 0.0, 1.0, 148.0, 149.0, INF])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASES["typical"], [-1e4, -1.0, 0.0, 1e-30, 0.1, 1.0, 1.3, 50.0, 1e4, 1e20])


def test_nothing_below_zero():
    d = LogNormal(0.3, 0.8)
    np.testing.assert_array_equal(d.log_integral(np.array([-2.0, -INF, 3.0]), np.array([-1.0, 0.0, 2.0])), -INF)
    assert np.isneginf(d.log_prob(0.0))
    assert np.isnan(d.log_prob(np.nan))
