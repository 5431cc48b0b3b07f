"""Bernstein and Chebyshev polynomials against their formulas in mpmath."""

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import Bernstein, Chebyshev, Truncated, Uniform

INF = float("inf")
LOW, HIGH = -1.5, 4.0
KNOTS = (mpmath.mpf(LOW), mpmath.mpf(HIGH))


def bernstein(*c):
    return Bernstein(jnp.stack([jnp.asarray(value) for value in c], -1), LOW, HIGH)


def log_bernstein(x, *c):
    t, m = (x - KNOTS[0]) / (KNOTS[1] - KNOTS[0]), len(c) - 1
    value = sum(c[k] * mpmath.binomial(m, k) * t**k * (1 - t) ** (m - k) for k in range(m + 1))
    return mpmath.log(value) - mpmath.log((KNOTS[1] - KNOTS[0]) * sum(c) / (m + 1))


def chebyshev(*c):
    return Chebyshev(jnp.stack([jnp.asarray(value) for value in c], -1), LOW, HIGH)


def log_chebyshev(x, *c):
    width = KNOTS[1] - KNOTS[0]
    value = lambda t: 1 + sum(c[k - 1] * mpmath.cos(k * mpmath.acos(t)) for k in range(1, len(c) + 1))  # noqa: E731
    mean = 1 + sum(c[k - 1] / (1 - k**2) for k in range(2, len(c) + 1, 2))
    return mpmath.log(value(2 * (x - KNOTS[0]) / width - 1)) - mpmath.log(width * mean)


INTERVALS = [(-1.0, 2.0), (0.1, 0.10001), (-1.49, -1.48), (3.0, INF), (-INF, 0.0), (-INF, INF), (5.0, 6.0)]
CASES = {
    "bernstein": Case(bernstein, (1.0, 0.2, 3.0, 0.5), log_bernstein, [-1.4, 0.0, 3.9], INTERVALS[:-1], KNOTS),
    "bernstein, empty ends": Case(
        bernstein,
        (0.0, 0.0, 2.0, 1.0, 0.0),
        log_bernstein,
        [-1.5 + 2**-40, 0.0, 4.0 - 2**-40],
        [(-1.5, -1.5 + 2**-40), (4.0 - 2**-40, 5.0), (-1.0, 2.0), (5.0, 6.0)],
        KNOTS,
        to=[],
    ),
    "chebyshev": Case(chebyshev, (0.3, -0.4, 0.2), log_chebyshev, [-1.4, 0.0, 3.9], INTERVALS[:-1], KNOTS),
    "chebyshev, one": Case(chebyshev, (-0.9,), log_chebyshev, [-1.4, 0.0, 3.9], INTERVALS[:-1], KNOTS),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestPolynomials:
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        if case.moving:
            checks.check_derivatives(case)

    def test_bins(self, case):
        checks.check_bins(case, [LOW, -1.0, -0.5, 2.0, 3.0, HIGH])

    @pytest.mark.slow
    def test_samples(self, case):
        checks.check_samples(case)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bernstein", "chebyshev"])
def test_finite(name):
    checks.check_finite(CASES[name], [-1e4, -2.0, -1.5, -1.0, 0.1, 3.9, 4.0, 4.1, 1e4])


@pytest.mark.slow
def test_beta():
    """One basis polynomial is the density of a beta distribution; where it is 0, there are no derivatives."""
    x, c = jnp.linspace(0.1, 0.9, 5), jnp.array([0.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(Bernstein(c, 0.0, 1.0).log_prob(x), stats.beta(3, 2).logpdf(x), rtol=1e-13)
    np.testing.assert_allclose(Bernstein(c, 0.0, 1.0).cdf(x), stats.beta(3, 2).cdf(x), rtol=1e-13)
    np.testing.assert_array_equal(Bernstein(c, 0.0, 1.0).log_prob(jnp.array([0.0, 1.0])), -INF)
    gradient = jax.grad(lambda c, x: Bernstein(c, 0.0, 1.0).log_prob(x), (0, 1))(c, 0.0)
    assert not np.any(gradient[0])
    assert gradient[1] == 0


def test_constants():
    x = jnp.linspace(-2.0, 5.0, 8)
    for d in (
        Bernstein(jnp.array([2.0]), LOW, HIGH),
        Bernstein(jnp.full(6, 0.3), LOW, HIGH),
        Chebyshev([0.0], LOW, HIGH),
    ):
        np.testing.assert_allclose(d.log_prob(x), Uniform(LOW, HIGH).log_prob(x), rtol=1e-14)
        np.testing.assert_allclose(d.cdf(x), Uniform(LOW, HIGH).cdf(x), rtol=1e-14)


@pytest.mark.slow
def test_axes():
    """The coefficients' last axis is theirs, those before it are the distribution's."""
    c = jnp.array([[1.0, 2.0, 0.5], [0.3, 0.1, 0.7]])
    for kind in (Bernstein, Chebyshev):
        d = kind(c, LOW, jnp.array([HIGH, 5.0]))
        x = jnp.array([[0.1], [1.0], [2.0]])
        np.testing.assert_allclose(d.log_prob(x)[:, 1], kind(c[1], LOW, 5.0).log_prob(x[:, 0]), rtol=1e-14)
        assert d.log_integral(0.0, 1.0).shape == (2,)
        assert d.sample(jax.random.key(0), (4,)).shape == (4, 2)


def test_no_density():
    assert np.isnan(Chebyshev(jnp.array([2.0]), -1.0, 1.0).log_prob(-0.9))
    assert np.isneginf(Chebyshev(jnp.array([1.0]), -1.0, 1.0).log_prob(-1.0))
    assert np.isnan(Bernstein(jnp.array([-1.0, 2.0]), -1.0, 1.0).log_prob(-0.9))
    for kind in (Bernstein, Chebyshev):
        for c in (1.0, jnp.zeros((3, 0))):
            with pytest.raises(ValueError, match="must have shape"):
                kind(c, 0.0, 1.0)


@pytest.mark.parametrize(("whole", "broken"), [(Bernstein([1, 2, 3], 0, 4), Bernstein([1.0, 2.0, 3.0], 0.0, 4.0)),
                                               (Chebyshev([0], 0, 4), Chebyshev([0.0], 0.0, 4.0))])  # fmt: skip
def test_whole_numbers(whole, broken):
    wanted = broken.log_integral(1.0, 2.0)
    for value in (whole.log_integral(1, 2), jax.jit(lambda a: whole.log_integral(a, 2))(1)):
        np.testing.assert_allclose(value, wanted, rtol=1e-14)
    np.testing.assert_allclose(
        whole.log_bin_integrals([0, 1, 3]), broken.log_bin_integrals([0.0, 1.0, 3.0]), rtol=1e-14
    )
    key, x = jax.random.key(0), jnp.array([1.5, 2.0])
    np.testing.assert_allclose(whole.sample(key, (3,)), broken.sample(key, (3,)), rtol=1e-12)
    truncated = [Truncated(d, 1, 3).log_prob(x) for d in (whole, broken)]
    np.testing.assert_allclose(*truncated, rtol=1e-14)


def test_ends_of_other_kinds():
    d = Bernstein(jnp.array([1.0, 2.0]), 0.0, 4.0)
    wanted = d.log_integral(jnp.array([0.0, 1.0]), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(d.log_integral([0.0, 1.0], [1.0, 2.0]), wanted, rtol=1e-14)
    np.testing.assert_allclose(
        jax.jit(lambda e: d.log_bin_integrals(e))(jnp.array([0.0, 1.0, 2.0])), wanted, rtol=1e-14
    )
    np.testing.assert_allclose(jax.jit(lambda: d.log_bin_integrals([0.0, 1.0, 2.0]))(), wanted, rtol=1e-14)
    assert not np.isfinite(Bernstein(jnp.ones(3), 1.0, 1.0).log_integral(0.0, 2.0))  # a range without width
