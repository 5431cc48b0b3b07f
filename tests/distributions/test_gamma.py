"""The gamma distribution against mpmath."""

import functools

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Exponential, Gamma

INF = float("inf")


def log_pdf(x, shape, scale):
    return (shape - 1) * mpmath.log(x) - x / scale - mpmath.loggamma(shape) - shape * mpmath.log(scale)


SIGMA = 1e3  # of the last case, whose mean is 1e6
CASES = {
    "typical": Case(
        Gamma,
        (3.7, 1.4),
        log_pdf,
        [1e-30, 1.0, 4.0, 300.0],
        [(-1.0, 1.0), (1.0, 1.001), (2.0, 8.0), (1e-6, 1e-5), (100.0, INF), (90.0, 91.0), (-INF, INF), (-3.0, -1.0)],
        (0, 0.01, 1, 5, 20, 95, 200, mpmath.inf),
        stats.gamma(3.7, scale=1.4).cdf,
    ),
    "shape of 1e6": Case(
        Gamma,
        (1e6, 1.0),
        log_pdf,
        [1e6, 1e6 - 40 * SIGMA, 1e6 + 40 * SIGMA],
        [(1.01e6, 1.011e6), (1e6, 1e6 + 1e-3), (1e6 - SIGMA, 1e6 + 2 * SIGMA), (0.0, 1e6 - 30 * SIGMA)],
        (0, *(1e6 + k * SIGMA for k in (-60, -31, -30, -29, -10, -3, 0, 3, 10, 20, 60)), mpmath.inf),
        stats.gamma(1e6).cdf,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestGamma:
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        if case.params[0] < 1e5:  # there the steps of its differences are too wide: see test_derivatives_by_the_shape
            checks.check_derivatives(case)

    def test_bins(self, case):
        mean = case.params[0] * case.params[1]
        sigma = case.params[1] * np.sqrt(case.params[0])
        checks.check_bins(case, [0.0, mean - 1.5 * sigma, mean, mean + sigma, mean + 9 * sigma, INF])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASES["typical"], [-1e4, -30.0, 0.0, 1e-4, 0.4, 4.0, 50.0, 5e3, 1e4])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [0.05, 0.9, 1e6])
def test_derivatives_by_the_shape(shape):
    """Two of them, against mpmath's incomplete gamma functions, and for the large one its quadrature."""
    sigma = np.sqrt(shape)
    low = jnp.array([0.0, 0.0, 0.0, shape, shape + sigma, shape + 20 * sigma])
    high = jnp.array([max(shape - 5 * sigma, 1e-9), shape, shape + sigma, shape + sigma, INF, INF])

    def exact(a, b, k):
        if shape < 10 and (a == 0 or mpmath.isinf(b)):
            return mpmath.log(mpmath.gammainc(k, a, b, regularized=True))
        a, b = max(a, shape - 40 * sigma), min(b, shape + 50 * sigma)
        inner = [shape + n * sigma for n in (-20, -5, -1, 1, 5, 20, 22, 28)] if shape > 10 else []
        top = max(log_pdf(x, k, 1) for x in (a, b))
        density = lambda x: mpmath.exp(log_pdf(x, k, 1) - top)  # noqa: E731
        return top + mpmath.log(mpmath.quad(density, [a, *(x for x in inner if a < x < b), b]))

    f = lambda k: Gamma(k).log_integral(low, high)  # noqa: E731
    got = (f(shape), jax.jacfwd(f)(shape), jax.jacfwd(jax.jacrev(f))(shape))
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        fn = functools.partial(exact, mpmath.mpf(float(a)), mpmath.mpf(float(b)))
        with mpmath.workdps(40):
            h = mpmath.mpf(shape) * mpmath.mpf("1e-10")
            up, here, down = (fn(mpmath.mpf(shape) + n * h) for n in (1, 0, -1))
            reference = [here, (up - down) / (2 * h), (up - 2 * here + down) / h**2]
        for n, rounding in enumerate((1e-12, 1e-11, 1e-10)):
            natural = max(abs(reference[n]), 1 if n == 0 else sigma**-n)
            assert abs(float(got[n][i]) - reference[n]) < rounding * natural, (float(a), float(b), n)


@pytest.mark.slow
def test_special_values():
    """The exponential distribution, and the density at 0, which is outside the support."""
    x, edges = jnp.linspace(0.1, 50.0, 7), jnp.array([0.0, 1.0, 1.0001, 40.0, 1e3])
    exponential = Exponential(0.5)
    np.testing.assert_allclose(Gamma(1.0, 2.0).log_prob(x), exponential.log_prob(x), rtol=1e-14)
    np.testing.assert_allclose(
        Gamma(1.0, 2.0).log_bin_integrals(edges), exponential.log_bin_integrals(edges), rtol=1e-12
    )
    assert np.isneginf(Gamma(0.5).log_prob(0.0))
    np.testing.assert_allclose(Gamma(0.05).cdf(1e-300), stats.gamma.cdf(1e-300, 0.05), rtol=1e-12)
    draws = np.asarray(Gamma(0.05).sample(jax.random.key(0), (5000,)))
    assert stats.kstest(draws, stats.gamma(0.05).cdf).pvalue > 1e-3
