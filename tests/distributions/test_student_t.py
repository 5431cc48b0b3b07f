"""Student's t distribution against its closed form in mpmath."""

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Normal, StudentT

INF = float("inf")


def log_pdf(x, mu, sigma, nu):
    half = (nu + 1) / 2
    norm = mpmath.loggamma(half) - mpmath.loggamma(nu / 2) - mpmath.log(nu * mpmath.pi) / 2 - mpmath.log(sigma)
    return norm - half * mpmath.log1p(((x - mu) / sigma) ** 2 / nu)


POINTS = [0.4, 1.3, -60.0, 1e6]
INTERVALS = [(0.4, 0.9), (-80.0, -79.99), (0.0, 3.0), (30.0, INF), (-INF, -1e4), (-INF, INF), (2.0, 1.0)]
CASES = {
    "typical": Case(
        StudentT,
        (0.4, 1.5, 4.0),
        log_pdf,
        POINTS,
        INTERVALS,
        (-mpmath.inf, -1e4, -80, 0, 3, 30, 1e3, mpmath.inf),
        stats.t(4.0, 0.4, 1.5).cdf,
    ),
    "heavy": Case(
        StudentT,
        (0.4, 1.5, 0.1),
        log_pdf,
        POINTS,
        [(0.4, 0.9), (-80.0, -79.99), (0.0, 3.0), (3.0, 1e4)],
        (-mpmath.inf, -3, 0.4, 3, 30, 1000, mpmath.inf),
        stats.t(0.1, 0.4, 1.5).cdf,
    ),
    "nearly normal": Case(
        StudentT,
        (0.4, 1.5, 1e8),
        log_pdf,
        [0.4, 1.3, -60.0, 3e3],
        [(0.4, 0.9), (-60.0, -59.99), (-60.0, -50.0), (0.0, 3.0), (30.0, INF), (-INF, INF)],
        (-mpmath.inf, -55, 0.4, 10, 31, 33, mpmath.inf),
        stats.norm(0.4, 1.5).cdf,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestStudentT:
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    def test_bins(self, case):
        checks.check_bins(case, [-INF, -20.0, -1.0, 0.3, 0.5, 4.0, INF])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASES["typical"], [-1e4, -30.0, -1.0, 0.4, 0.41, 3.0, 5e3, 2e4])


def test_cdf_of_heavy_tails():
    """As far as 1e100, where the tail is still there: SciPy's incomplete beta function, and the power itself."""
    x = np.array([-1e100, -1e20, -1e4, -3.0, 0.0, 0.1, 2.0, 1e4])
    np.testing.assert_allclose(StudentT(0.0, 1.0, 0.1).cdf(x), stats.t.cdf(x, 0.1), rtol=1e-12)
    slope = jax.grad(StudentT(0.0, 1.0, 0.1).log_integral, 1)(-jnp.inf, -1e50)
    np.testing.assert_allclose(slope, 0.1e-50, rtol=1e-11)


def test_normal_at_infinity():
    x, edges = jnp.linspace(-60.0, 60.0, 7), jnp.array([-50.0, -49.0, 0.0, 1.0, 60.0])
    limit, normal = StudentT(0.4, 1.5, jnp.inf), Normal(0.4, 1.5)
    np.testing.assert_allclose(limit.log_prob(x), normal.log_prob(x), rtol=1e-14)
    np.testing.assert_allclose(limit.log_bin_integrals(edges), normal.log_bin_integrals(edges), rtol=1e-13)


@pytest.mark.slow
def test_cauchy_in_its_centre():
    """Between edges at and around the centre, where the pieces of the integral meet."""
    x = np.array([-0.9, -0.7, -0.5, -1e-9, 0.0, 1e-9, 0.5, 0.6, 0.70, 0.72, 1.0])
    exact = np.arctan(x) / np.pi + 0.5
    d = StudentT(0.0, 1.0, 1.0)
    np.testing.assert_allclose(d.cdf(x), exact, rtol=1e-14)
    np.testing.assert_allclose(jax.vmap(jax.grad(d.cdf))(x), 1 / np.pi / (1 + x**2), rtol=1e-12)
    second = jax.vmap(jax.grad(jax.grad(d.cdf)))(x)
    np.testing.assert_allclose(second, -2 * x / np.pi / (1 + x**2) ** 2, rtol=1e-11, atol=1e-12)
