"""Convolutions against closed forms, and how they get better with finer grids."""

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import special, stats
from strangers import Numpyro

from migrax.distributions import Convolution, Exponential, HistogramTemplate, Normal

INF = float("inf")
X = jnp.linspace(-4.0, 5.0, 301)


class Cauchy(Numpyro):
    def log_prob(self, x):
        return -jnp.log(jnp.pi * self.scale * (1 + ((x - self.loc) / self.scale) ** 2))


def two(mu, a, b):
    return Convolution(Normal(mu, a), Normal(0.1, b), -8.0, 8.0)


def two_log_pdf(x, mu, a, b):
    s, center = mpmath.sqrt(a**2 + b**2), mu + mpmath.mpf(0.1)
    inside = mpmath.ncdf((8 - center) / s) - mpmath.ncdf((-8 - center) / s)
    return -(((x - center) / s) ** 2) / 2 - mpmath.log(s * mpmath.sqrt(2 * mpmath.pi) * inside)


CASE = Case(
    two, (0.3, 0.9, 0.5), two_log_pdf, [-2.5, 0.0, 0.31, 3.0],
    [(-8.0, 8.0), (-INF, 0.3), (0.5, 0.5001), (1.0, 4.0), (-7.99, 2.01)], (-8, 0, 1, 8),
)  # fmt: skip


@pytest.mark.slow
def test_normals():
    # the accuracy is that of the interpolation and of the rounding of the FFT, here some e-12 and e-14
    got = CASE.make(*CASE.params).log_prob(np.array(CASE.points))
    exact = [float(two_log_pdf(mpmath.mpf(x), *CASE.params)) for x in CASE.points]
    np.testing.assert_allclose(got, exact, atol=1e-10)
    checks.check_log_integral(CASE, 1e-10)
    checks.check_derivatives(CASE, 1e-7)
    checks.check_bins(CASE, [-8.0, -1.0, 0.3, 0.5, 8.0])


@pytest.mark.slow
def test_samples():
    checks.check_samples(CASE._replace(cdf=stats.norm(0.4, np.hypot(0.9, 0.5)).cdf))
    d = Convolution(Exponential(1.0), Normal(0.0, 0.2), -2.0, 20.0)
    k = jax.random.split(jax.random.key(3))
    sums = Exponential(1.0).sample(k[0], (5000,)) + 0.2 * jax.random.normal(k[1], (5000,))
    assert stats.ks_2samp(np.asarray(d.sample(jax.random.key(1), (5000,))), np.asarray(sums)).pvalue > 1e-3


@pytest.mark.slow
def test_finite():
    case = CASE._replace(make=lambda mu, a, b: Convolution(Normal(mu, a), Normal(0.1, b), -8.0, 8.0, 64))
    checks.check_finite(case, [-1e4, -8.0, -5.0, 0.3, 0.5, 7.0, 8.0, 9.0, 1e4])


@pytest.mark.slow
@pytest.mark.parametrize(("n", "tolerance"), [(128, 1e-5), (256, 2e-7), (1024, 1e-9)])
def test_voigt(n, tolerance):
    # a stranger, by its density; of the tails beyond half the range a part is lost, so the width is small
    d = Convolution(Normal(0.2, 0.4), Cauchy(0.0, 0.3), -8.0, 8.0, n)
    exact = np.log(special.voigt_profile(X - 0.2, 0.4, 0.3))
    ratio = d.log_prob(X) + d.log_acceptance - exact
    np.testing.assert_allclose(ratio, 0.0, atol=tolerance)


@pytest.mark.slow
def test_steps_get_better_as_the_square_of_the_cell():
    exact = stats.exponnorm(1 / 0.3, scale=0.3)
    errors = []
    for n in (256, 512, 1024):
        d = Convolution(Exponential(1.0), Normal(0.0, 0.3), -5.013, 15.0, n)
        whole = np.log(exact.cdf(15.0) - exact.cdf(-5.013))
        x = np.linspace(-0.5, 5.0, 100)
        errors.append(np.max(np.abs(d.log_prob(x) - exact.logpdf(x) + whole)))
    assert errors[2] < 1e-3
    assert errors[0] / errors[2] > 4


@pytest.mark.slow
def test_a_signal_narrower_than_a_cell():
    # nothing is lost, but its place is known to half a cell only
    x = np.linspace(-0.7, 1.3, 21)
    line = Convolution(Normal(0.3, 1e-5), Normal(0.0, 0.5), -8.0, 8.0)
    np.testing.assert_allclose(line.log_prob(x), stats.norm(0.3, 0.5).logpdf(x), atol=0.5 * (16 / 1024) * 1 / 0.5**2)


@pytest.mark.slow
def test_tails_stay_finite():
    d = Convolution(Normal(0.0, 0.1), Normal(0.0, 0.1), -8.0, 8.0)
    value, gradient = jax.value_and_grad(
        lambda m: Convolution(Normal(m, 0.1), Normal(0.0, 0.1), -8.0, 8.0).log_prob(6.0)
    )(0.0)
    assert -40 < value < -25
    assert np.isfinite(gradient)
    np.testing.assert_array_equal(d.log_prob(np.array([-8.1, 8.1])), -INF)
    assert np.isnan(d.log_prob(np.nan))


@pytest.mark.slow
def test_the_range():
    # what lies outside is neither in the density nor brought back at the other end
    d = Convolution(HistogramTemplate([1.0], [-3.0, 3.0]), Normal(0.0, 0.5), 0.0, 4.0)
    above = 0.5 / 6 * (stats.norm.pdf(2) - 2 * stats.norm.sf(2))
    np.testing.assert_allclose(jnp.exp(d.log_acceptance), 0.5 - above, rtol=1e-5)
    density = jnp.exp(d.log_prob(np.array([0.0, 4.0])) + d.log_acceptance)
    np.testing.assert_allclose(density, [1 / 6, stats.norm.sf(2) / 6], rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "message", "make"),
    [
        (TypeError, "the signal of the convolution", lambda a: Convolution(1.0, a, 0.0, 1.0)),
        (TypeError, "the resolution of the convolution is the class", lambda a: Convolution(a, Normal, 0.0, 1.0)),
        (ValueError, "must be finite, with low below high", lambda a: Convolution(a, a, 0.0, INF)),
        (ValueError, "must be finite, with low below high", lambda a: Convolution(a, a, 1.0, 0.0)),
        (ValueError, r"must be numbers, got shapes \(2,\)", lambda a: Convolution(a, a, np.zeros(2), 1.0)),
        (ValueError, "n must be even", lambda a: Convolution(a, a, 0.0, 1.0, 33)),
    ],
)
def test_nonsense(kind, message, make):
    with pytest.raises(kind, match=message):
        make(Normal(0.0, 1.0))
