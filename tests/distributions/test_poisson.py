"""The Poisson distribution against its sums in mpmath."""

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Poisson

INF = float("inf")


def log_pdf(k, rate):
    return k * mpmath.log(rate) - rate - mpmath.loggamma(k + 1)


def log_sum(rate, low, high):
    """The log of the sum of the terms with low < k <= high, added from the largest one outwards."""
    rate = mpmath.mpf(rate)
    first, last = (0 if low < 0 else int(np.floor(low)) + 1), high if np.isinf(high) else int(np.floor(high))
    peak = int(min(max(first, mpmath.floor(rate)), last))
    total, term, k = mpmath.mpf(1), mpmath.mpf(1), peak
    while k < last and term > total * mpmath.mpf("1e-40"):
        k += 1
        term *= rate / k
        total += term
    term, k = mpmath.mpf(1), peak
    while k > first and term > total * mpmath.mpf("1e-40"):
        term *= k / rate
        k -= 1
        total += term
    return log_pdf(peak, rate) + mpmath.log(total)


POINTS = [0.0, 0.5, 1.0, 3.0, 15.0, 16.0, 17.5, 100.0, 1000.0, 1001.0, 1e4, 1e6]
CASES = {rate: Case(Poisson, (rate,), log_pdf, POINTS, []) for rate in (1e-9, 3.7, 1000.0, 1.2e6)}
INTERVALS = {
    1e-9: [(-1.0, 0.0), (0.0, 1.0), (0.0, INF), (3.0, INF), (3.0, 30.0)],
    0.8: [(-1.0, 0.0), (0.0, 20.0), (0.0, INF), (100.0, INF), (100.0, 104.0), (-INF, 3.0), (0.2, 1.9)],
    3.7: [(-1.0, 1.0), (2.0, 3.0), (0.0, 20.0), (3.0, INF), (300.0, INF), (-1.0, 40.0), (4.0, 5.5)],
    1000.0: [
        (990.0, 1010.0),
        (-1.0, 0.0),
        (-1.0, 200.0),
        (3000.0, INF),
        (999.0, 1000.0),
        (-1.0, 999.0),
        (500.0, 510.0),
    ],
    1.2e6: [(1.199e6, 1.201e6), (1.2e6, INF), (-1.0, 1.1e6), (1.3e6, INF), (1.2e6, 1.2e6 + 20)],
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestPoisson:
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        """Of log_prob; those of the intervals are below."""
        x = jnp.array(POINTS)
        first = jax.grad(lambda r: Poisson(r).log_prob(x[7]))(case.params[0])
        np.testing.assert_allclose(first, x[7] / case.params[0] - 1, rtol=1e-10)
        second = jax.vmap(jax.grad(jax.grad(lambda r, x: Poisson(r).log_prob(x))), (None, 0))(case.params[0], x)
        np.testing.assert_allclose(second, -x / case.params[0] ** 2, rtol=1e-8)
        in_x = jax.vmap(jax.grad(lambda x: Poisson(case.params[0]).log_prob(x)))(x)
        exact = [float(mpmath.log(case.params[0]) - mpmath.psi(0, k + 1)) for k in POINTS]
        np.testing.assert_allclose(in_x, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.grid
@pytest.mark.parametrize("rate", INTERVALS)
def test_log_integral(rate):
    low, high = jnp.array(INTERVALS[rate]).T

    def f(rate):
        return Poisson(rate).log_integral(low, high)

    got = [jax.jit(g)(rate) for g in (f, jax.jacfwd(f), jax.jacfwd(jax.jacrev(f)))]
    h = mpmath.mpf("1e-7") * rate
    for i, (a, b) in enumerate(INTERVALS[rate]):
        below, exact, above = (log_sum(mpmath.mpf(rate) + step * h, a, b) for step in (-1, 0, 1))
        assert abs(float(got[0][i]) - exact) < 1e-12 * max(1, abs(exact)), (a, b)
        slope, curve = float((above - below) / (2 * h)), float((above - 2 * exact + below) / h**2)
        np.testing.assert_allclose(got[1][i], slope, rtol=1e-8, atol=1e-8 / rate, err_msg=f"{a} {b}")
        np.testing.assert_allclose(got[2][i], curve, rtol=1e-6, atol=1e-6 / rate, err_msg=f"{a} {b}")


def test_scipy():
    k, rate = np.arange(-2.0, 12.0, 0.5), 3.7
    cdf = jax.jit(Poisson(rate).cdf)
    np.testing.assert_allclose(cdf(k), stats.poisson(rate).cdf(k), rtol=1e-13)
    np.testing.assert_allclose(Poisson(rate).log_prob(k[4::2]), stats.poisson(rate).logpmf(k[4::2]), rtol=1e-13)
    assert np.all(np.isneginf(Poisson(rate).log_prob(jnp.array([-1e4, -1.0, -0.5]))))
    edges = jnp.array([-0.5, 0.0, 2.5, 7.0, 7.5, jnp.inf])
    np.testing.assert_allclose(jnp.sum(Poisson(rate).bin_integrals(edges)), 1.0, rtol=1e-14)
    assert Poisson(rate).log_integral(7.0, 7.5) == -jnp.inf


@pytest.mark.slow
def test_nothing_expected():
    """A rate of 0, with the derivatives from its side."""
    k = jnp.array([0.0, 1.0, 30.0])
    np.testing.assert_array_equal(Poisson(0.0).log_prob(k), [0.0, -INF, -INF])
    np.testing.assert_array_equal(
        Poisson(0.0).log_integral(jnp.array([-1.0, -1.0, 0.0]), jnp.array([0.0, 5.0, 9.0])), [0, 0, -INF]
    )
    np.testing.assert_array_equal(jax.jacrev(lambda r: Poisson(r).log_prob(k))(0.0), [-1, 0, 0])
    slope = jax.jacrev(lambda r: Poisson(r).log_integral(-1.0, jnp.array([0.0, 2.0])))(0.0)
    np.testing.assert_array_equal(slope, [-1, 0])
    assert np.isnan(Poisson(-1.0).log_prob(2.0))
    assert np.isnan(Poisson(-1.0).log_prob(20.0))


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASES[3.7], [-1e4, -1.0, 0.0, 0.5, 1.0, 3.0, 16.0, 100.0, 4e4])


@pytest.mark.slow
def test_shapes():
    d = Poisson(jnp.array([[0.5], [1000.0]]))
    assert d.log_prob(jnp.arange(4)).shape == d.log_integral(0.0, jnp.arange(4)).shape == (2, 4)
    assert d.sample(jax.random.key(0), (3,)).shape == (3, 2, 1)
    assert Poisson(jnp.float32(2.0)).log_prob(jnp.float32(1.0)).dtype == jnp.float32
    assert Poisson(3).log_prob(2) == Poisson(3.0).log_prob(2.0)
    together = jax.vmap(lambda r: Poisson(r).cdf(3.0))(d.rate[:, 0])
    np.testing.assert_allclose(together, d.cdf(3.0)[:, 0], rtol=1e-13)


@pytest.mark.slow
def test_samples():
    draws = np.asarray(Poisson(3.7).sample(jax.random.key(2), (20_000,)))
    counts = np.bincount(draws.astype(int), minlength=12)
    expected = 20_000 * np.exp(np.asarray(Poisson(3.7).log_prob(jnp.arange(11.0))))
    expected = np.append(expected, 20_000 - expected.sum())
    assert stats.chisquare(np.append(counts[:11], counts[11:].sum()), expected).pvalue > 1e-3
