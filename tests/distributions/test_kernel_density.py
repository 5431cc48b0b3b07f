"""Kernel density estimates: against mpmath, SciPy's, and in less memory than events times points."""

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats

from migrax.distributions import KernelDensity

INF = float("inf")
EVENTS = np.array([0.3, 0.5, 1.7, 2.0, 4.0])


def kernels(x, h, events, weights):
    parts = (w * mpmath.exp(-((x - mpmath.mpf(e)) ** 2) / (2 * h**2)) for e, w in zip(events, weights, strict=True))
    return sum(parts) / (h * mpmath.sqrt(2 * mpmath.pi)) / sum(weights)


def log_pdf(x, h, weight=1):
    weights = [mpmath.mpf(1), weight, *[mpmath.mpf(1)] * 3]
    return mpmath.log(kernels(x, h, EVENTS, weights))


def make(h, weight=1.0):
    one = jnp.ones_like(weight)
    return KernelDensity(jnp.asarray(EVENTS, one.dtype), h, jnp.stack([one, jnp.asarray(weight), one, one, one]))


def bounded(h):
    return KernelDensity(jnp.asarray(EVENTS, jnp.asarray(h).dtype), h, low=0.0, high=5.0)


def bounded_pdf(x, h):
    events = np.concatenate([EVENTS, -EVENTS, 10 - EVENTS])
    mass = sum(mpmath.ncdf((5 - mpmath.mpf(e)) / h) - mpmath.ncdf(-mpmath.mpf(e) / h) for e in events)
    return mpmath.log(kernels(x, h, events, [mpmath.mpf(1)] * 15) * 15 / mass)


X = [-20.0, 0.3, 1.0, 4.0, 25.0]
INTERVALS = [(-INF, INF), (0.0, 1.0), (20.0, 21.0), (-INF, -15.0), (1.0, 1.0001), (3.0, INF)]
KNOTS = (-mpmath.inf, -15, 0, 1, 2, 4, 20, mpmath.inf)
CASES = {
    "weighted": Case(make, (0.4, 2.0), log_pdf, X, INTERVALS, KNOTS),
    "weight of 0": Case(make, (0.4, 0.0), log_pdf, X, INTERVALS[1:4], KNOTS),
    "negative weight": Case(make, (0.4, -0.2), log_pdf, [-20.0, 0.0, 1.0, 25.0], INTERVALS[1:4], KNOTS),
    "reflected": Case(
        bounded, (0.7,), bounded_pdf, [0.0, 0.1, 2.0, 5.0], [(-1.0, 0.3), (0.0, 5.0), (2.0, 2.001)], (0, 1, 2, 4, 5)
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestKernelDensity:
    @pytest.mark.grid
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
        low, high = float(case.knots[0]), float(case.knots[-1])
        checks.check_bins(case, [low, 0.5, 1.0, 4.0, high])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weighted", "reflected"])
def test_finite(name):
    checks.check_finite(CASES[name], [-1e4, -50.0, 0.0, 0.5, 3.0, 5.0, 50.0, 1e4])


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_as_scipy(weighted):
    rng = np.random.default_rng(0)
    events, weights = rng.normal(3.0, 2.0, 300), rng.random(300) if weighted else None
    theirs, ours = stats.gaussian_kde(events, weights=weights), KernelDensity(events, weights=weights)
    np.testing.assert_allclose(ours.bandwidth, np.sqrt(theirs.covariance[0, 0]), rtol=1e-13)
    x = np.linspace(-5.0, 10.0, 31)
    np.testing.assert_allclose(ours.log_prob(x), theirs.logpdf(x), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(jnp.exp(ours.log_integral(0.0, 2.0)), theirs.integrate_box_1d(0.0, 2.0), rtol=1e-12)


SAMPLED = {
    "free": lambda: KernelDensity(EVENTS, 0.4, [1.0, 0.0, 2.0, 1.0, 1.0]),
    "reflected": lambda: KernelDensity(EVENTS, 0.7, low=0.0),
    "cut off": lambda: KernelDensity(EVENTS, 0.7, low=0.2, high=4.5, reflect=False),
    "one width each": lambda: KernelDensity(EVENTS, 0.1 + 0.2 * EVENTS),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLED)
def test_samples(name):
    d = SAMPLED[name]()
    draws = d.sample(jax.random.key(1), (4_000,))
    assert draws.shape == (4_000,)
    assert stats.kstest(np.asarray(draws), lambda x: np.asarray(d.cdf(x))).pvalue > 1e-3
    np.testing.assert_allclose(d.log_integral(-INF, INF), 0.0, atol=1e-13)


@pytest.mark.slow
def test_boundaries():
    flat = np.linspace(0.0, 1.0, 2001)
    reflected = KernelDensity(flat, 0.05, low=0.0, high=1.0)
    np.testing.assert_allclose(jnp.exp(reflected.log_prob(np.array([0.0, 0.5, 1.0]))), 1.0, rtol=0.01)
    cut = KernelDensity(flat, 0.05, low=0.0, high=1.0, reflect=False)
    np.testing.assert_allclose(jnp.exp(cut.log_prob(np.array([0.0, 1.0]))), 0.5, rtol=0.06)
    np.testing.assert_array_equal(reflected.log_prob(np.array([-0.1, 1.1])), -INF)
    assert np.isnan(reflected.log_prob(np.nan))
    # a range that is traced, and may be infinite
    at = jax.jit(lambda low, high: KernelDensity(EVENTS, 0.4, low=low, high=high).log_prob(jnp.array([0.3, 2.0])))
    np.testing.assert_allclose(at(-INF, INF), KernelDensity(EVENTS, 0.4).log_prob(jnp.array([0.3, 2.0])), rtol=1e-13)
    np.testing.assert_allclose(at(0.0, INF), KernelDensity(EVENTS, 0.4, low=0.0).log_prob(jnp.array([0.3, 2.0])))


@pytest.mark.slow
def test_chunks():
    # 4000 events times 4000 points are 16 chunks: the same as all at once, with both derivatives
    rng = np.random.default_rng(0)
    events, x = rng.normal(size=4000), jnp.asarray(rng.normal(size=4000))
    d = KernelDensity(events)
    np.testing.assert_allclose(d.log_prob(x)[:3], d.log_prob(x[:3]), rtol=1e-13)
    np.testing.assert_allclose(d.log_prob(x)[-3:], d.log_prob(x[-3:]), rtol=1e-13)

    def total(h):
        return jnp.sum(KernelDensity(events, h).log_prob(x))

    first = jax.jit(jax.grad(total))(0.2)
    np.testing.assert_allclose(first, (total(0.2 + 1e-5) - total(0.2 - 1e-5)) / 2e-5, rtol=1e-6)
    compiled = jax.jit(jax.grad(total)).lower(0.2).compile().memory_analysis()
    if compiled is not None:
        assert compiled.temp_size_in_bytes < 80e6  # and not a few times 128 MB


@pytest.mark.parametrize(
    ("message", "make"),
    [
        (r"events must have shape \(n,\), got \(2, 2\)", lambda: KernelDensity(np.ones((2, 2)))),
        ("needs two", lambda: KernelDensity([1.0])),
        (r"weights must have shape \(5,\)", lambda: KernelDensity(EVENTS, weights=[1.0])),
        (r"bandwidth a number or of shape \(5,\)", lambda: KernelDensity(EVENTS, [1.0, 2.0])),
        (r"2 of 5 events .* the first is events\[0\] = 0.3", lambda: KernelDensity(EVENTS, low=1.0)),
    ],
)
def test_nonsense(message, make):
    with pytest.raises(ValueError, match=message):
        make()
