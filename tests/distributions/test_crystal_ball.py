"""Crystal Ball shapes against their formula in mpmath."""

import functools

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import AsymmetricCrystalBall, CrystalBall, DoubleCrystalBall, Exponential, Normal, Truncated

INF = float("inf")


def log_shape(t, alpha, n):
    """Gaiser's: A (B + |t|)^-n with A = (n / alpha)^n exp(-alpha²/2), B = n / alpha - alpha."""
    t = abs(t)
    if t <= alpha:
        return -(t**2) / 2
    with mpmath.workdps(45):  # n (log A - log B)
        return n * mpmath.log(n / alpha / (n / alpha - alpha + t)) - alpha**2 / 2


@functools.cache
def side(sigma, alpha, n, length):
    """The integral of one side from the peak over a length."""
    core = min(length / sigma, alpha)
    out = mpmath.sqrt(mpmath.pi / 2) * mpmath.erf(core / mpmath.sqrt(2))
    if length / sigma > alpha:
        begin, end = n / alpha, n / alpha - alpha + length / sigma
        scale = mpmath.exp(n * mpmath.log(n / alpha) - alpha**2 / 2)
        if n == 1:
            out += scale * mpmath.log(end / begin)
        else:
            far = 0 if mpmath.isinf(end) else end ** (1 - n)
            out += scale * (begin ** (1 - n) - far) / (n - 1)
    return sigma * out


def asymmetric(x, mu, sigma_low, sigma_high, alpha_low, n_low, alpha_high, n_high, low=-mpmath.inf, high=mpmath.inf):
    sigma, alpha, n = (sigma_low, alpha_low, n_low) if x < mu else (sigma_high, alpha_high, n_high)
    mass = log_mass(mu - low, high - mu, sigma_low, sigma_high, alpha_low, n_low, alpha_high, n_high)
    return log_shape((x - mu) / sigma, alpha, n) - mass


@functools.cache
def log_mass(below, above, sigma_low, sigma_high, alpha_low, n_low, alpha_high, n_high):
    with mpmath.workdps(60):  # the power of a large n cancels
        return mpmath.log(side(sigma_low, alpha_low, n_low, below) + side(sigma_high, alpha_high, n_high, above))


def double(x, mu, sigma, alpha_low, n_low, alpha_high, n_high, *ends):
    return asymmetric(x, mu, sigma, sigma, alpha_low, n_low, alpha_high, n_high, *ends)


def single(x, mu, sigma, alpha, n, *ends):
    return asymmetric(x, mu, sigma, sigma, alpha, n, mpmath.mpf(10) ** 6, mpmath.mpf(2), *ends)


LOW, HIGH = -4.7, 10.3
CASES = {
    "single": Case(
        CrystalBall,
        (0.3, 1.2, 0.8, 2.5),
        single,
        [-1000.0, -40.0, -1.0, 0.0, 2.0, 50.0],
        [(-1.5, 2.0), (-50.0, -40.0), (-40.0, -39.9999), (40.0, 41.0), (-INF, -100.0), (5.0, INF), (0.1, 0.10001)],
        (-mpmath.inf, -10, -0.66, 3, 10, 40, mpmath.inf),
    ),
    "asymmetric": Case(
        AsymmetricCrystalBall,
        (0.3, 1.2, 0.4, 1.5, 2.3, 0.7, 30.0),
        asymmetric,
        [-30.0, -1.0, 0.5, 3.0, 20.0],
        [(-3.0, 0.5), (-INF, -20.0), (0.4, 0.7), (3.0, INF), (20.0, 20.0001)],
        (-mpmath.inf, -10, -1.5, 0.3, 0.58, 3, 10, mpmath.inf),
    ),
    "nearly exponential tails": Case(
        DoubleCrystalBall,
        (0.3, 1.2, 1.1, 1e9, 0.7, 1e5),
        double,
        [-40.0, 0.0, 4.0, 50.0],
        [(-3.0, 0.5), (-40.0, -39.0), (50.0, 50.001), (-INF, -10.0), (40.0, INF)],
        (-mpmath.inf, -40, -10, -1.02, 1.14, 10, 40, 55, mpmath.inf),
        to=[0, 1, 2, 4],
    ),
    "n = 1 and less": Case(
        lambda *p: DoubleCrystalBall(*p, LOW, HIGH),
        (0.3, 0.4, 1.1, 1.0, 0.9, 0.3),
        lambda x, *p: double(x, *p, mpmath.mpf(LOW), mpmath.mpf(HIGH)),
        [-4.5, 0.5, 10.0],
        [(-5.0, 0.5), (-4.0, -3.9999), (-20.0, -4.0), (0.5, 9.0), (9.0, INF), (-INF, INF)],
        (mpmath.mpf(LOW), -0.14, 0.66, mpmath.mpf(HIGH)),
        to=[0, 1, 2, 4, 5],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestCrystalBall:
    @pytest.mark.slow
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    @pytest.mark.grid
    def test_bins(self, case):
        low, high = (float(k) for k in (case.knots[0], case.knots[-1]))
        checks.check_bins(case, [low, -3.0, -0.5, 0.3, 0.5, 5.0, high])


def test_whole_numbers_and_empty_intervals():
    """A power that is an int, as a user writes it; derivatives of empty intervals at infinity are 0."""
    edges = np.linspace(-10.0, 5.0, 16)
    slopes = [jax.jacrev(lambda a, n=n: CrystalBall(0.1, 1.0, a, n).log_bin_integrals(edges))(1.3) for n in (3, 3.0)]
    np.testing.assert_array_equal(*slopes)
    below = jax.jacrev(lambda p: CrystalBall(0.1, 1.0, *p).log_integral(-INF, -INF))(jnp.array([1.2, 3.0]))
    np.testing.assert_array_equal(below, 0.0)
    above = jax.jacrev(lambda p: DoubleCrystalBall(0.1, 1.0, *p).log_integral(INF, INF))(
        jnp.array([1.2, 3.0, 1.0, 2.5])
    )
    np.testing.assert_array_equal(above, 0.0)


@pytest.mark.parametrize("alpha", [1e-9, 1e-6, 1e-4])
def test_a_tail_that_begins_at_the_peak(alpha):
    """Derivatives in alpha near 0, where the tail is flat, by mpmath."""

    def f(alpha):
        return CrystalBall(0.0, 1.0, alpha, 3.0, -5.0, 5.0).log_integral(-2.0, -1.0)

    def exact(alpha):
        part = side(mpmath.mpf(1), alpha, 3, 2) - side(mpmath.mpf(1), alpha, 3, 1)
        return mpmath.log(part) - mpmath.log(side(mpmath.mpf(1), alpha, 3, 5) + side(mpmath.mpf(1), 9, 2, 5))

    with mpmath.workdps(60):
        at, step = mpmath.mpf(alpha), mpmath.mpf(alpha) / 10**6
        first, second = (float(mpmath.diff(exact, at, k, h=step)) for k in (1, 2))
    np.testing.assert_allclose(jax.grad(f)(alpha), first, rtol=1e-9)
    np.testing.assert_allclose(jax.grad(jax.grad(f))(alpha), second, rtol=1e-6)


@pytest.mark.slow
def test_samples():
    checks.check_samples(CASES["n = 1 and less"])


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASES["single"], [-1e4, -40.0, -1.5, 0.0, 0.3, 0.5, 3.0, 1e4])


@pytest.mark.slow
@pytest.mark.parametrize("n", [1 - 1e-9, 1.0, 1 + 1e-9])
def test_smooth_at_n_one(n):
    """Values and derivatives in n at 1, against differences across it."""

    def f(n):
        return CrystalBall(0.0, 1.0, 1.0, n, -30.0, 5.0).log_integral(-10.0, -5.0)

    with mpmath.workdps(40):
        exact = [
            mpmath.log(side(1, 1, n, 10) - side(1, 1, n, 5)) - mpmath.log(side(1, 1, n, 30) + side(1, 9, 2, 5))
            for n in (n - mpmath.mpf("1e-4"), mpmath.mpf(n), n + mpmath.mpf("1e-4"))
        ]
        slope, curve = (exact[2] - exact[0]) / 2e-4, (exact[2] - 2 * exact[1] + exact[0]) / 1e-8
    np.testing.assert_allclose(f(n), float(exact[1]), rtol=1e-13)
    np.testing.assert_allclose(jax.grad(f)(n), float(slope), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(jax.grad(f))(n), float(curve), rtol=1e-4)


def test_slow_tail():
    """Of the power 1.1: too slow for the quadrature that the other tests compare with."""
    for a, b in ((-INF, -20.0), (-1e4, -100.0), (-1e6, -INF), (-1e12, -1e11)):
        with mpmath.workdps(60):
            one, n = mpmath.mpf(1), mpmath.mpf(1.1)
            mass = side(one, one, n, mpmath.mpf(-a)) - side(one, one, n, mpmath.mpf(-b)) if b > a else 0
            whole = side(one, one, n, mpmath.inf) + mpmath.sqrt(mpmath.pi / 2)
            exact = float(mpmath.log(mass / whole)) if b > a else -INF
        np.testing.assert_allclose(CrystalBall(0.0, 1.0, 1.0, 1.1).log_integral(a, b), exact, rtol=1e-13)


def test_no_power_is_an_exponential_tail():
    """n to infinity: exp(alpha²/2 + alpha t) below -alpha."""
    d = CrystalBall(0.0, 1.0, 1.5, 1e300)
    np.testing.assert_allclose(d.log_prob(-40.0) - d.log_prob(-2.0), -1.5 * 38, rtol=1e-13)
    part = d.log_integral(-30.0, -20.0) - d.log_integral(-INF, -20.0)
    np.testing.assert_allclose(part, Exponential(1.5).log_integral(0.0, 10.0), atol=1e-13)


@pytest.mark.slow
def test_no_tail_is_normal():
    x = jnp.linspace(-5.0, 5.0, 11)
    cut = Truncated(Normal(0.3, 1.2), -5.0, 5.0)
    np.testing.assert_allclose(CrystalBall(0.3, 1.2, 5.0, 2.0, -5.0, 5.0).log_prob(x), cut.log_prob(x), rtol=1e-13)
    same = AsymmetricCrystalBall(0.3, 1.2, 1.2, 0.8, 2.5, 50.0, 2.0)
    np.testing.assert_allclose(same.log_prob(x), CrystalBall(0.3, 1.2, 0.8, 2.5).log_prob(x), rtol=1e-13)


@pytest.mark.slow
def test_scipy():
    x = jnp.linspace(-20.0, 5.0, 11)
    np.testing.assert_allclose(
        CrystalBall(0.0, 1.0, 0.8, 2.5).log_prob(x), stats.crystalball.logpdf(x, 0.8, 2.5), 1e-12
    )
    np.testing.assert_allclose(CrystalBall(0.0, 1.0, 0.8, 2.5).cdf(x), stats.crystalball.cdf(x, 0.8, 2.5), 1e-12)


@pytest.mark.slow
def test_edges_where_the_pieces_join():
    """An edge of a bin at the peak, or at the beginning of a tail, has the derivative of both its bins."""
    d = CrystalBall(0.0, 1.0, 1.0, 2.0)
    for edge in (-1.0, 0.0):
        f = lambda e: jnp.exp(d.log_integral(e, 2.0))  # noqa: E731
        np.testing.assert_allclose(jax.grad(f)(edge), -np.exp(d.log_prob(edge)), rtol=1e-13)
        f = lambda e: jnp.exp(d.log_integral(-5.0, e))  # noqa: E731
        np.testing.assert_allclose(jax.grad(f)(edge), np.exp(d.log_prob(edge)), rtol=1e-13)


def test_no_norm():
    """On an infinite range n must be above 1."""
    for n in (1.0, 0.5):
        assert np.isnan(CrystalBall(0.0, 1.0, 1.0, n).log_prob(0.0))
        assert np.isfinite(CrystalBall(0.0, 1.0, 1.0, n, -9.0).log_prob(0.0))
    assert np.isneginf(CrystalBall(0.0, 1.0, 1.0, 2.0, -9.0, 3.0).log_prob(3.1))
    assert np.isneginf(CrystalBall(0.0, 1.0, 1.0, 2.0, -9.0, 3.0).log_integral(3.1, 4.0))


def test_a_tail_at_infinity():
    x = jnp.linspace(0.0, 5.0, 7)
    np.testing.assert_allclose(CrystalBall(2.0, 1.0, INF, 2.0).log_prob(x), Normal(2.0, 1.0).log_prob(x), rtol=1e-14)
