"""The Voigt distribution against the Faddeeva function in mpmath."""

import functools

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case

from migrax.distributions import Normal, Voigt

INF = float("inf")


def log_pdf(x, mu, sigma, gamma):
    """Abramowitz and Stegun 7.1.3: w(z) = exp(-z²) erfc(-iz)."""
    with mpmath.workdps(mpmath.mp.dps + (30 if gamma > 1e3 * sigma else 0)):
        z = mpmath.mpc(x - mu, gamma) / (mpmath.sqrt(2) * sigma)
        w = mpmath.exp(-(z**2)) * mpmath.erfc(mpmath.mpc(0, -1) * z)
        return mpmath.log(mpmath.re(w)) - mpmath.log(sigma * mpmath.sqrt(2 * mpmath.pi))


CASES = {
    "typical": Case(
        Voigt,
        (0.4, 1.5, 0.8),
        log_pdf,
        [0.4, 1.3, -4.0, 13.0, -92.0, 1e6],
        [(0.4, 0.9), (-30.0, -29.99), (2.0, 9.0)],
        (-30, 0.4, 10),
    ),
    "narrow resonance": Case(
        Voigt,
        (0.4, 1.5, 1.5e-6),
        log_pdf,
        [0.4, 1.3, -8.0, 12.0, -60.0],
        [(-8.0, -7.9), (9.0, 14.0)],
        (-8, 9, 10, 14),
        to=[0, 1],
    ),
    "wide resonance": Case(
        Voigt,
        (0.4, 1.5e-6, 1.5),
        log_pdf,
        [0.4, 1.3, -8.0, -60.0],
        [(-8.0, -7.9), (0.1, 14.0)],
        (-8, 0.1, 0.4, 3, 14),
        to=[0, 2],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestVoigt:
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    @pytest.mark.grid
    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    @pytest.mark.grid
    def test_bins(self, case):
        checks.check_bins(case, [-INF, -20.0, -1.0, 0.3, 0.5, 4.0, INF])

    @pytest.mark.slow
    def test_samples(self, case):
        # 20,000 integrals take seconds
        grid = np.sinh(np.linspace(-16.0, 16.0, 2001)) * max(case.params[1:]) / 10
        values = np.asarray(jax.jit(Voigt(*case.params).cdf)(grid))
        checks.check_samples(case._replace(cdf=lambda x: np.interp(x, grid, values)))


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASES["typical"], [-1e4, -30.0, -1.0, 0.4, 0.41, 3.0, 5e3, 2e4])


def standard(p, x):
    return Voigt(0.0, p[0], p[1]).log_prob(x)


SLOPES = jax.jit(jax.vmap(jax.grad(standard), (None, 0)))
CURVATURES = jax.jit(jax.vmap(jax.hessian(standard), (None, 0)))
GAMMAS = [0.0, 1e-12, 1e-6, 1e-3, 0.1, 0.5, 1.0, 3.0, 8.0, 11.0, 12.0, 30.0, 1e3, 1e6]


@pytest.mark.grid
@pytest.mark.parametrize("gamma", GAMMAS)
def test_any_ratio_of_widths(gamma):
    """Values and two derivatives by sigma and gamma, on a grid that crosses where the formulas meet."""
    x = np.array([0.0, 0.1, 0.7, 1.0, 2.0, 3.0, 5.0, 8.0, 10.5, 11.2, 11.4, 15.0, 40.0]) * max(1.0, gamma / 30)
    point = jnp.array([1.0, gamma])
    values, first, second = standard(point, x), SLOPES(point, x), CURVATURES(point, x)
    with mpmath.workdps(60):
        for i, at in enumerate(x):
            exact = functools.partial(log_pdf, mpmath.mpf(at), 0)
            value = exact(1, mpmath.mpf(gamma))
            assert abs(float(values[i]) - value) < 1e-13 * max(1, abs(value)), at
            h = mpmath.mpf("1e-12")
            by_sigma = [exact(1 + k * h, mpmath.mpf(gamma)) for k in (-1, 0, 1)]
            by_gamma = [exact(1, gamma * (1 + k * h)) for k in (-1, 0, 1)]
            for j, v in enumerate((by_sigma, by_gamma)):
                slope, curvature = (v[2] - v[0]) / (2 * h), (v[2] - 2 * v[1] + v[0]) / h**2
                unit = (1.0, gamma)[j]
                assert abs(float(first[i][j]) * unit - slope) < 1e-12 * max(abs(slope), gamma**-2 if gamma > 1 else 1)
                close = 1e-10 * max(abs(curvature), gamma**-2 if gamma > 1 else 1)
                assert abs(float(second[i][j, j]) * unit**2 - curvature) < close


@pytest.mark.slow
def test_half_infinite_intervals():
    """Against the asymptotic series of the tail, and the normal and the Cauchy distribution which it goes over into."""
    sigma, gamma, x = 1.5, 0.8, 1e5
    series = gamma / np.pi * (1 / x + (sigma**2 - gamma**2 / 3) / x**3)
    np.testing.assert_allclose(Voigt(0.0, sigma, gamma).log_integral(x, INF), np.log(series), rtol=1e-14)
    np.testing.assert_allclose(Voigt(0.0, sigma, gamma).log_integral(-INF, -x), np.log(series), rtol=1e-14)
    edges = np.array([-INF, -12.0, -3.0, 0.1, 0.2, 4.0, 5.0, 9.0, 300.0, INF])
    normal = Normal(0.0, sigma).log_bin_integrals(edges[1:-2])
    np.testing.assert_allclose(Voigt(0.0, sigma, 0.0).log_bin_integrals(edges[1:-2]), normal, rtol=1e-12)
    z = edges / 1.5
    cauchy = np.where(z[1:] > 5, np.arctan(1 / z[:-1]) - np.arctan(1 / z[1:]), np.diff(np.arctan(z))) / np.pi
    np.testing.assert_allclose(Voigt(0.0, 1e-9, 1.5).bin_integrals(edges)[1:], cauchy[1:], rtol=1e-13)
