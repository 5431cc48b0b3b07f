"""Resonances against their formulas in mpmath."""

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Cauchy, RelativisticBreitWigner

INF = float("inf")


def cauchy(x, mu, gamma):
    return -mpmath.log(mpmath.pi * gamma * (1 + ((x - mu) / gamma) ** 2))


def relativistic(x, mass, width):
    gamma = mpmath.sqrt(mass**2 * (mass**2 + width**2))
    k = 2 * mpmath.sqrt(2) * mass * width * gamma / (mpmath.pi * mpmath.sqrt(mass**2 + gamma))
    return mpmath.log(k) - mpmath.log((x**2 - mass**2) ** 2 + mass**2 * width**2)


def exact_relativistic(low, high, mass, width):
    """By its complex antiderivative, with the digits that it loses."""
    with mpmath.workdps(80):
        low, high, mass, width = map(mpmath.mpf, (max(low, 0), high, mass, width))
        c = mpmath.sqrt(mass**2 + 1j * mass * width)
        # it ends at the log of -1, from above the cut
        at = lambda e: (1j * mpmath.pi if mpmath.isinf(e) else mpmath.log((c - e) / (c + e))) / (2 * c)  # noqa: E731
        out = mpmath.im(at(high) - at(low)) / (mass * width)
        return relativistic(mass, mass, width) + mpmath.log((mass * width) ** 2) + mpmath.log(out)


Z = (91.1876, 2.4952)
CASES = {
    "cauchy": Case(
        Cauchy,
        (0.3, 1.2),
        cauchy,
        [-1e9, -30.0, 0.0, 0.3, 5.0, 1e6],
        [
            (-1.0, 3.0), (0.5, 0.5000001), (1e6, 1.1e6), (1e9, 1e9 + 1), (-INF, -1e6), (5.0, INF), (-30.0, 1e4),
            (-INF, INF),
        ],
        (-mpmath.inf, -1e6, -1e3, -30, -1, 2, 50, 1e4, 1e6, mpmath.inf),
        stats.cauchy(0.3, 1.2).cdf,
    ),
    "Z": Case(
        RelativisticBreitWigner,
        Z,
        relativistic,
        [1.0, 60.0, 91.0, 91.2, 120.0, 1e5],
        [
            (80.0, 100.0), (91.0, 91.0001), (60.0, 120.0), (200.0, INF), (-INF, 80.0), (1e4, 1e5), (1.0, 1.001),
            (1e5, INF), (92.0, 1e4),
        ],
        (0, 60, 87, 91.2, 95, 120, 500, 1e4, 1e5, mpmath.inf),
    ),
    "broad": Case(
        RelativisticBreitWigner,
        (0.5, 0.6),
        relativistic,
        [0.01, 0.3, 0.5, 3.0, 1e4],
        [(0.2, 0.7), (0.5, 0.500001), (-INF, 0.1), (5.0, INF), (0.0, INF), (100.0, 101.0)],
        (0, 0.3, 0.5, 1, 5, 100, mpmath.inf),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestResonances:
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    def test_bins(self, case):
        checks.check_bins(case, [-INF, -1.0, 0.0, 0.5, 5.0, 91.0, 91.5, 1e4, INF])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cauchy", "Z"])
def test_finite(name):
    checks.check_finite(CASES[name], [-1e4, -1.0, 0.0, 1e-3, 0.3, 80.0, 91.1876, 95.0, 1e4, 1e6])


H = (125.0, 0.0041)  # a Higgs boson: the width is 3e-5 of the mass
INTERVALS = [
    (124.0, 126.0), (125.0, 125.001), (0.0, 124.0), (0.0, 1e-3), (126.0, INF), (1e6, INF), (1e6, 2e6), (500.0, 500.01),
    (124.9959, 125.0041), (125.1, 1e9), (130.0, 400.0), (1.0, 124.99), (200.0, 300.0), (150.0, 1e4), (0.0, INF),
]  # fmt: skip


@pytest.mark.grid
@pytest.mark.parametrize("params", [H, Z, (1.0, 2.0), (1.0, 1e-9)], ids=str)
def test_closed_form(params):
    low, high = (jnp.array(INTERVALS) * params[0] / 125.0).T
    got = RelativisticBreitWigner(*params).log_integral(low, high)
    for a, b, value in zip(low.tolist(), high.tolist(), got.tolist(), strict=True):
        exact = exact_relativistic(a, b, *params)
        assert abs(value - exact) < 1e-12 * max(1, abs(exact)), (a, b, value, float(exact))


def test_closed_form_of_the_test():
    for a, b in ((80.0, 100.0), (200.0, INF), (0.0, 60.0)):
        by_quadrature = checks.exact_integral(CASES["Z"], a, b)
        assert abs(exact_relativistic(a, b, *Z) - by_quadrature) < 1e-15


def test_narrow_is_cauchy():
    """The peak of a narrow resonance is that of a Cauchy distribution with half its width."""
    x = jnp.linspace(124.999, 125.001, 5)
    one, other = RelativisticBreitWigner(125.0, 1e-3), Cauchy(125.0, 5e-4)
    np.testing.assert_allclose(one.log_prob(x), other.log_prob(x), rtol=1e-4)
    np.testing.assert_allclose(one.log_integral(x, x + 1e-3), other.log_integral(x, x + 1e-3), rtol=1e-3)


def test_outside():
    d = RelativisticBreitWigner(*Z)
    assert np.all(np.isneginf(d.log_prob(jnp.array([-1.0, 0.0]))))
    low, high = jnp.array([-2.0, 3.0, -INF, INF]), jnp.array([-1.0, 3.0, 0.0, INF])
    assert np.all(np.isneginf(d.log_integral(low, high)))
    assert np.all(np.isneginf(Cauchy(0.3, 1.2).log_integral(jnp.array([1.0, 2.0]), 1.0)))
    np.testing.assert_allclose(Cauchy(0.3, 1.2).log_integral(-INF, INF), 0.0, atol=1e-15)
    assert np.isnan(d.log_prob(jnp.nan))
    assert np.isnan(Cauchy(0.3, 1.2).log_prob(jnp.nan))


def test_overflow():
    """Where z² is infinite, in float32."""
    with np.errstate(all="ignore"):
        got = jax.value_and_grad(lambda x: Cauchy(jnp.float32(0.3), jnp.float32(1.2)).log_prob(x))(jnp.float32(1e25))
        np.testing.assert_allclose(got, (np.log(1.2 / np.pi) - 50 * np.log(10), -2e-25), rtol=1e-5)


FAR = [
    (1.0, 1e-3, 1.0, 4.0),
    (1.0, 1e-7, -3.0, 1.0),
    (0.0, 1.0, -1e9, 0.5),
    (0.0, 1.0, 0.5, 1e9),
    (91.19, 2.5, -1e6, 91.0),
]


@pytest.mark.parametrize("point", FAR)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_one_end_far_from_the_peak(point, dtype):
    """The densities at the ends differ by many orders of magnitude: first and second derivatives in each argument."""
    point = [float(x) for x in np.asarray(point, dtype)]
    fn = lambda mu, gamma, a, b: Cauchy(mu, gamma).log_integral(a, b)  # noqa: E731

    def exact(mu, gamma, a, b):
        return mpmath.log((mpmath.atan((b - mu) / gamma) - mpmath.atan((a - mu) / gamma)) / mpmath.pi)

    first = jax.grad(fn, (0, 1, 2, 3))(*(dtype(x) for x in point))
    second = jax.hessian(fn, 1)(*(dtype(x) for x in point))
    with mpmath.workdps(60):
        for i in range(4):
            wanted = mpmath.diff(exact, point, tuple(int(i == j) for j in range(4)))
            np.testing.assert_allclose(float(first[i]), float(wanted), rtol=1e-4 if dtype == jnp.float32 else 1e-9)
        wanted = mpmath.diff(exact, point, (0, 2, 0, 0))
    if dtype == jnp.float64:  # in float32 terms cancel that are 10⁴ times as large
        np.testing.assert_allclose(float(second), float(wanted), rtol=2e-7)
