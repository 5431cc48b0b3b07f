"""The q-Gaussian distribution against its closed form in mpmath, and numba-stats' convention."""

import functools

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Normal, QGaussian, StudentT

INF = float("inf")


def log_pdf(x, mu, sigma, q):
    """Tsallis: C_q (Prato and Tsallis, Phys. Rev. E 60 (1999) 2398) with beta = 1 / (2 sigma²)."""
    e, pi = q - 1, mpmath.pi
    half = ((x - mu) / sigma) ** 2 / 2
    if e == 0:
        return -half - mpmath.log(2 * pi) / 2 - mpmath.log(sigma)
    if e > 0:
        norm = mpmath.log(pi / e) / 2 + mpmath.loggamma((3 - q) / (2 * e)) - mpmath.loggamma(1 / e)
    else:
        norm = mpmath.log(2) + mpmath.log(pi / -e) / 2 + mpmath.loggamma(-1 / e)
        norm -= mpmath.log(3 - q) + mpmath.loggamma((3 - q) / (-2 * e))
    inside = 1 + e * half
    return -mpmath.log(inside) / e - norm - mpmath.log(2 * sigma**2) / 2 if inside > 0 else -mpmath.inf


INTERVALS = [(0.4, 0.9), (-60.0, -59.99), (-60.0, -50.0), (0.0, 3.0), (30.0, INF), (-INF, INF), (2.0, 1.0)]
NEAR = [(0.4, 0.9), (-5.1, -5.0), (-0.7, 3.0), (8.0, INF), (-INF, INF), (2.0, 1.0)]
KNOTS = (-mpmath.inf, -1e3, -55, 0.4, 10, 31, 100, mpmath.inf)
CASES = {
    "typical": Case(QGaussian, (0.4, 1.5, 1.3), log_pdf, [0.4, 1.3, -60.0, 1e5], INTERVALS, KNOTS),
    "nearly normal": Case(QGaussian, (0.4, 1.5, 1 + 2**-30), log_pdf, [0.4, 1.3, -5.0, 9.0], NEAR, KNOTS),
    "below normal": Case(
        QGaussian, (0.4, 1.5, 1 - 2**-30), log_pdf, [0.4, 1.3, -5.0, 9.0], NEAR, (-1e4, *KNOTS[2:-1], 1e4)
    ),
    "finite support": Case(
        QGaussian,
        (0.0, 1.5, 0.25),
        log_pdf,
        [0.0, 1.3, -2.0, 2.4],
        [(0.4, 0.9), (-2.4, -2.39), (-INF, INF), (3.0, 4.0), (-1.2, 2.1)],
        (-mpmath.mpf(1.5) * mpmath.sqrt(2 / mpmath.mpf(0.75)), 0, mpmath.mpf(1.5) * mpmath.sqrt(2 / mpmath.mpf(0.75))),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestQGaussian:
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    def test_bins(self, case):
        checks.check_bins(case, [-INF, -2.3, -1.0, 0.3, 0.5, 1.4, INF])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASES["finite support"], [-1e4, -30.0, -1.0, 0.0, 0.4, 2.4, 3.0, 2e4])


@pytest.mark.slow
@pytest.mark.parametrize("e", [0.0, 1e-12, -1e-12, 1e-5, -1e-5])
def test_smooth_at_the_normal_distribution(e):
    """Values and two derivatives by q, of both, against the expansion in e = q - 1."""
    x = jnp.array([-6.0, 0.0, 1.0, 9.0])
    z4, z6 = x**4 / 8, x**6 / 24
    # -log(1 + e z²/2) / e = -z²/2 + e z⁴/8 - e² z⁶/24, whose integral over the normal distribution is the norm
    norm = (3 / 8, 2 * (-15 / 24 + 105 / 128) - 9 / 64)
    f = lambda q: QGaussian(0.0, 1.0, q).log_prob(x)  # noqa: E731
    g = lambda q: QGaussian(0.0, 1.0, q).log_integral(x - 1e-7, x + 1e-7)  # noqa: E731
    for fn, rounding in ((f, 1e-12), (g, 1e-8)):
        first, second = jax.jacfwd(fn)(1.0 + e), jax.jacfwd(jax.jacrev(fn))(1.0 + e)
        for got, exact, power in ((first, z4 - norm[0], 6), (second, -2 * z6 - norm[1], 8)):
            np.testing.assert_array_less(jnp.abs(got - exact), (rounding + abs(e)) * (9 + jnp.abs(x) ** power))
    if e == 0:
        np.testing.assert_allclose(f(1.0), Normal(0.0, 1.0).log_prob(x), rtol=1e-15)
        edges = jnp.array([-40.0, -39.0, 0.2, 0.3, 50.0])
        exact = Normal(0.0, 1.0).log_bin_integrals(edges)
        np.testing.assert_allclose(QGaussian(0.0, 1.0, 1.0).log_bin_integrals(edges), exact, rtol=1e-13)


@pytest.mark.slow
def test_up_to_the_end_of_the_support():
    """The tails, which hold 1e-4 and less; mpmath needs an interval that does not move with the parameters."""
    case = CASES["finite support"]

    def tail(x, p):
        inside = checks.exact_integral(case, p[0], x, p)
        return mpmath.log(0.5 - mpmath.exp(inside))

    got = lambda p, x: QGaussian(*p).log_integral(x, INF)  # noqa: E731
    point = jnp.array(case.params)
    for x in (2.3, 2.44):
        exact = functools.partial(tail, mpmath.mpf(x))
        assert abs(float(got(point, x)) - exact([mpmath.mpf(p) for p in case.params])) < 1e-12
        slopes = [checks._differences(exact, case, (i,)) for i in range(3)]
        np.testing.assert_allclose(jax.jacrev(got)(point, x), slopes, rtol=1e-7)
    assert np.isneginf(got(point, 2.5))


def test_relations():
    """To Student's t, and to the semicircle of Wigner (q = -1)."""
    x = np.linspace(-7.0, 7.0, 8)
    q, nu = 1.5, 3.0
    t = StudentT(0.5, 2.0 * np.sqrt(2 / (3 - q)), nu)
    np.testing.assert_allclose(QGaussian(0.5, 2.0, q).log_prob(x), t.log_prob(x), rtol=1e-14)
    np.testing.assert_allclose(QGaussian(0.5, 2.0, q).cdf(x), t.cdf(x), rtol=1e-13)
    wigner = stats.semicircular(0.0, 2.0)
    np.testing.assert_allclose(QGaussian(0.0, 2.0, -1.0).cdf(x), wigner.cdf(x), rtol=1e-13, atol=1e-15)


def test_as_numba_stats():
    """Numbers of numba-stats 1.14, so that it is not needed here: qgaussian.logpdf(x, q, mu, sigma)."""
    for (x, q, mu, sigma), value in NUMBA_STATS.items():
        np.testing.assert_allclose(QGaussian(mu, sigma, q).log_prob(x), value, rtol=1e-9)


NUMBA_STATS = {
    (1.2, 1.0, 0.5, 2.0): -1.6733357137646179,
    (1.2, 1.3, 0.5, 2.0): -1.7979357684319728,
    (-7.0, 2.0, 0.5, 2.0): -4.267790838784811,
    (30.0, 2.7, 0.5, 1.0): -6.506802998744867,
}
