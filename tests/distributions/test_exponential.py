"""The exponential distribution against its closed form in mpmath."""

import checks
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Exponential

INF = float("inf")


def log_pdf(x, rate, low=0, high=mpmath.inf):
    mass = (mpmath.exp(-rate * low) - mpmath.exp(-rate * high)) / rate if rate != 0 else high - low
    return -rate * x - mpmath.log(mass)


HALF = [(0.0, INF), (1.0, 1.0001), (0.0, 1e-9), (0.5, 3.0), (80.0, 90.0), (1000.0, INF), (300.0, 300.01)]
FINITE = [(-1.0, 3.0), (-1.0, -0.99999), (-5.0, 0.0), (2.0, 2.5), (-INF, 1.0), (2.9, 7.0)]
X = [-1.0, 0.3, 3.0]
CASES = {
    "half-infinite": Case(
        Exponential,
        (0.7,),
        log_pdf,
        [0.0, 1.0, 50.0, 2000.0],
        HALF,
        (0, 1, mpmath.inf),
        stats.expon(scale=1 / 0.7).cdf,
    ),
    "falling": Case(Exponential, (2.0, -1.0, 3.0), log_pdf, X, FINITE, (-1, 3), to=[0]),
    "rising": Case(Exponential, (-25.0, -1.0, 3.0), log_pdf, X, FINITE, (-1, 3), to=[0]),
    "nearly flat": Case(Exponential, (1e-9, -1.0, 3.0), log_pdf, X, FINITE, (-1, 3), to=[0]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestExponential:
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    def test_bins(self, case):
        low = float(case.knots[0])
        checks.check_bins(case, [low, low + 0.1, low + 1.0, low + 3.9, float(case.knots[-1])])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)

    @pytest.mark.grid
    def test_finite(self, case):
        checks.check_finite(case, [-50.0, -1.0, -0.5, 0.0, 0.1, 2.0, 3.0, 4.0, 1e4])


def test_flat_is_uniform():
    flat = Exponential(0.0, 1.0, 5.0)
    np.testing.assert_allclose(flat.log_prob(2.0), -np.log(4.0), rtol=1e-15)
    assert np.isnan(flat.log_prob(np.nan))
    np.testing.assert_allclose(flat.cdf(np.array([0.0, 2.0, 9.0])), [0, 0.25, 1], rtol=1e-15)


def test_edges_must_grow():
    for edges, message in (
        ([0.0, 1.0, 1.0], "bin 1 goes from 1.0 to 1.0"),
        ([1.0], r"shape \(n \+ 1,\)"),
        ([0.0, np.nan], "bin 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Exponential(1.0).log_bin_integrals(edges)
