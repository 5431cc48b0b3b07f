"""The ARGUS distribution against its closed form in mpmath, and SciPy's."""

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Argus

INF = float("inf")


def log_pdf(x, endpoint, c, power):
    """The norm is Kummer's function (Abramowitz and Stegun 13.2.1)."""
    w = 1 - (x / endpoint) ** 2
    norm = mpmath.log(mpmath.hyp1f1(power + 1, power + 2, c) / (power + 1))
    return mpmath.log(2 * x / endpoint**2) + power * mpmath.log(w) + c * w - norm


END = 5.25
INTERVALS = [(0.5, 1.0), (3.0, 3.0001), (1.0, 5.0), (5.0, 5.0001), (6.0, 7.0), (2.0, 1.0), (1e-3, 2e-3)]
CASES = {
    "typical": Case(Argus, (END, -20.0, 0.5), log_pdf, [1e-3, 1.0, 4.0, 5.1], INTERVALS, (0, 3, 5, END)),
    "rising": Case(Argus, (END, 300.0, 2.0), log_pdf, [1e-3, 0.1, 1.0, 5.1], INTERVALS, (0, 0.3, 3, END)),
    "infinite at the end": Case(Argus, (END, 0.0, -0.5), log_pdf, [1e-3, 1.0, 4.0, 5.1], INTERVALS, (0, 3, END)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestArgus:
    @pytest.mark.grid
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)
        ends = case._replace(intervals=[(-INF, INF), (-1.0, 3.0), (4.0, 9.0), (5.2499, 6.0)])
        if case.params[2] > 0:
            checks.check_log_integral(ends)
        else:  # exp(c w) is 1, and mpmath has not all digits at the pole
            for low, high in ends.intervals[1:]:
                w = [max(0.0, 1 - max(mpmath.mpf(x), 0) / END) * (1 + max(mpmath.mpf(x), 0) / END) for x in (low, high)]
                exact = float(mpmath.log(mpmath.sqrt(w[0]) - mpmath.sqrt(w[1])))
                np.testing.assert_allclose(Argus(*case.params).log_integral(low, high), exact, rtol=1e-12)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    def test_bins(self, case):
        checks.check_bins(case, [0.0, 0.2, 0.5, 3.0, 5.0, 5.2, END])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASES["typical"], [-1e4, -1.0, 0.0, 1.0, 1.01, 5.0, 5.25, 6.0, 5e4])


@pytest.mark.slow
@pytest.mark.parametrize("c", [-1e3, -2.0, 0.0, 1e3])
@pytest.mark.parametrize("power", [-0.95, 0.0, 30.0])
def test_norm(c, power):
    """With two derivatives, against Kummer's function."""
    f = lambda p: Argus(1.0, p[0], p[1]).log_prob(0.5)  # noqa: E731
    point = jnp.array([c, power])
    with mpmath.workdps(50):
        h = mpmath.mpf("1e-12")
        at = lambda i, j: log_pdf(mpmath.mpf(0.5), 1, c + i * h, power + j * h)  # noqa: E731
        here = at(0, 0)
        first = [(at(1, 0) - at(-1, 0)) / (2 * h), (at(0, 1) - at(0, -1)) / (2 * h)]
        pure = [(at(1, 0) - 2 * here + at(-1, 0)) / h**2, (at(0, 1) - 2 * here + at(0, -1)) / h**2]
    np.testing.assert_allclose(f(point), float(here), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jax.grad(f)(point), np.array(first, float), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(jnp.diag(jax.hessian(f)(point)), np.array(pure, float), rtol=1e-9, atol=1e-9)


def test_as_scipy():
    x = np.linspace(0.1, 5.2, 6)
    for chi in (1e-2, 1.0, 6.0):
        d, reference = Argus(END, -0.5 * chi**2), stats.argus(chi, scale=END)
        np.testing.assert_allclose(d.log_prob(x), reference.logpdf(x), rtol=1e-9)
        np.testing.assert_allclose(d.cdf(x), reference.cdf(x), rtol=1e-6)  # SciPy's is a difference for small x
