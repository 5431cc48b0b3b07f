"""The Landau distribution against its integrals in mpmath."""

import functools

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats
from scipy.special import digamma, polygamma

from migrax.distributions import Landau, _landau_table as landau_table
from migrax.distributions.landau import _log_phi, _log_tail

INF = float("inf")


def log_phi(x):
    """Above, the integral of exp(-t log t - x t) sin(pi t); below, of exp(s log s + x s) along a vertical line through
    the saddle point s0 = exp(-1 - x)."""
    if x > 0.8:
        scale = 1 / mpmath.mpf(max(x, 2))
        ends = [k * scale for k in (0, 0.3, 1, 3, 10, 30, 100)]
        f = lambda t: mpmath.exp(-t * mpmath.log(t) - x * t) * mpmath.sin(mpmath.pi * t) if t else mpmath.mpf(0)  # noqa: E731
        return mpmath.log(mpmath.quad(f, ends) / mpmath.pi)
    s0 = mpmath.exp(-1 - x)
    width = 1 / mpmath.sqrt(s0)
    ends = [k * width for k in (0, 1, 2, 4, 8, 16, 32, 64)] if x > -3 else [k * width for k in (0, 2, 4, 8, 16)]

    def f(u):
        log = mpmath.log1p(u**2) / 2
        phase = s0 * (u * log + mpmath.atan(u) - u)
        return mpmath.exp(s0 * (log - u * mpmath.atan(u))) * mpmath.cos(phase)

    return mpmath.log(s0 / mpmath.pi * mpmath.quad(f, ends)) - s0


def log_pdf(x, mu, sigma):
    return log_phi((x - mu) / sigma) - mpmath.log(sigma)


CASE = Case(Landau, (0.4, 1.5), log_pdf, [0.4, -3.0, -11.6, 3.0, 25.0, 1e3, 1.5e8], [(0.4, 0.9)], (-3, 3))


def scipy_landau(mu=0.0, sigma=1.0):
    return stats.landau(mu + sigma * np.log(np.pi / 2), sigma * np.pi / 2)


def test_log_prob():
    checks.check_log_prob(CASE)


@pytest.mark.slow
@pytest.mark.parametrize("x", [-8.0, -2.0, 0.0, 1.5, 6.0, 15.0, 40.0, 1e3, 1e8])
def test_derivatives_by_x(x):
    """Two of the density; and the first one of the tail, which is the density, so that all is right that vanishes at
    infinity."""
    with mpmath.workdps(45):
        h = mpmath.mpf("1e-9") * max(1, abs(x))
        below, here, above = (log_phi(mpmath.mpf(x) + k * h) for k in (-1, 0, 1))
        exact = [float(here), float((above - below) / (2 * h)), float((above - 2 * here + below) / h**2)]
    first = jax.grad(_log_phi)
    got = [_log_phi(x), first(x), jax.grad(first)(x)]
    for value, reference, tolerance in zip(got, exact, (1e-14, 1e-12, 1e-11), strict=True):
        np.testing.assert_allclose(value, reference, rtol=tolerance)
    tail, slope = jax.value_and_grad(_log_tail)(x)
    np.testing.assert_allclose(slope, (1 if x < 1.5 else -1) * np.exp(exact[0] - tail), rtol=1e-12)


@pytest.mark.slow
def test_derivatives_by_the_parameters():
    f = lambda p, x: Landau(*p).log_prob(x)  # noqa: E731
    point = jnp.array(CASE.params)
    for x in (-3.0, 0.4, 25.0):
        density = functools.partial(log_pdf, mpmath.mpf(x))
        slopes = [checks._differences(lambda p, f=density: f(*p), CASE, (i,)) for i in range(2)]
        np.testing.assert_allclose(jax.grad(f)(point, x), slopes, rtol=1e-9, atol=1e-9)
        curvatures = [checks._differences(lambda p, f=density: f(*p), CASE, ij) for ij in ((0, 0), (0, 1), (1, 1))]
        hessian = jax.hessian(f)(point, x)
        np.testing.assert_allclose(
            hessian[jnp.array([0, 0, 1]), jnp.array([0, 1, 1])], curvatures, rtol=1e-7, atol=1e-7
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("low", "high"),
    [(-8.0, -7.9999), (-6.0, -5.0), (-0.3, 0.4), (1.0, 1.7), (1.36, 1.37), (20.0, 20.01), (1e4, 1e4 + 1), (5e3, 8e3)],
)
def test_intervals(low, high):
    """Narrow and wide ones, with derivatives by the ends and the parameters."""
    with mpmath.workdps(20):
        inner = [k for k in (-7.9, -5.7, -5.9) if low < k < high]
        top = max(log_phi(mpmath.mpf(low)), log_phi(mpmath.mpf(high)))
        integral = mpmath.quad(lambda x: mpmath.exp(log_phi(x) - top), [low, *sorted(inner), high], maxdegree=5)
        exact = float(top + mpmath.log(integral))
        at_low, at_high = (float(mpmath.exp(log_phi(mpmath.mpf(x)) - exact)) for x in (low, high))

    def f(p):
        return Landau(0.0, 1.0).log_integral(p[0], p[1])

    value, slopes = jax.value_and_grad(f)(jnp.array([low, high]))
    assert abs(value - exact) < 1e-12 * max(1, abs(exact))
    np.testing.assert_allclose(slopes, [-at_low, at_high], rtol=1e-9, atol=1e-11)
    by_parameters = jax.grad(lambda p: Landau(*p).log_integral(low, high))(jnp.array([0.0, 1.0]))
    expected = [at_low - at_high, at_low * low - at_high * high]
    np.testing.assert_allclose(by_parameters, expected, rtol=1e-9, atol=1e-11 * (1 + abs(at_high * high)))


def test_far_tails():
    """1/x with the next two orders, and half-infinite intervals."""
    d = Landau(0.0, 1.0)
    x = 1e8
    first = (np.log(x) + np.euler_gamma - 1) / x
    second = ((digamma(3) - np.log(x)) ** 2 + polygamma(1, 3) - np.pi**2 / 3) / x**2 - first**2 / 2
    np.testing.assert_allclose(d.log_integral(x, INF), -np.log(x) + first + second, rtol=1e-15)
    assert d.log_integral(-INF, -9.0) < -2980
    assert d.log_integral(-INF, INF) == 0
    assert np.isneginf(d.log_integral(3.0, 3.0))
    # beyond the straight line
    value, slope = jax.value_and_grad(d.log_prob)(-1e4)
    assert np.isfinite(value)
    assert value < d.log_prob(-1e3)
    assert slope > 0


@pytest.mark.slow
def test_bins():
    checks.check_bins(CASE, [-INF, -4.0, -1.0, 0.3, 0.5, 4.0, 50.0, INF])


@pytest.mark.slow
def test_samples():
    checks.check_samples(CASE._replace(cdf=scipy_landau(0.4, 1.5).cdf))


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASE, [-1e4, -300.0, -30.0, -1.0, 0.4, 0.41, 3.0, 5e3, 2e4])


@pytest.mark.slow
def test_known_values():
    """The maximum (Landau 1944; CERNLIB G110), the median, and SciPy's distribution in its own unit."""
    d = Landau(0.0, 1.0)
    np.testing.assert_allclose(jax.grad(d.log_prob)(-0.22278298), 0.0, atol=1e-8)
    np.testing.assert_allclose(d.cdf(1.3557804209908013), 0.5, rtol=1e-9)
    x = np.array([-2.5, -1.0, 0.0, 2.0, 10.0, 300.0])
    np.testing.assert_allclose(Landau(0.5, 2.0).log_prob(x), scipy_landau(0.5, 2.0).logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(Landau(0.5, 2.0).cdf(x), scipy_landau(0.5, 2.0).cdf(x), rtol=1e-12)


def test_tables_made_in_float32_have_all_digits():
    landau_table.tables.cache_clear()
    with jax.enable_x64(False):
        made = landau_table.tables()
    landau_table.tables.cache_clear()
    np.testing.assert_array_equal(made, landau_table.tables())


def test_panels_join():
    """The polynomials of two panels agree where one ends, in value and derivatives."""
    ends = [landau_table._points(k, np.array([-1.0, 1.0])) for k in range(1, landau_table.PANELS.all)]
    for k, (low, high) in enumerate(ends[:-1], start=1):
        assert ends[k][0] == pytest.approx(high, rel=1e-14)
        index, _ = landau_table.place(np, np.array([low + 1e-9 * (high - low), high - 1e-9 * (high - low)]))
        np.testing.assert_array_equal(index, k)
        for fn, tolerance in ((_log_phi, 1e-13), (jax.grad(_log_phi), 1e-12), (jax.grad(jax.grad(_log_phi)), 1e-10)):
            np.testing.assert_allclose(fn(high * (1 - 1e-15)), fn(high * (1 + 1e-15)), rtol=tolerance, atol=1e-12)
