"""Numerical normalisation: against mpmath and closed forms, and its estimate of its own error."""

import warnings

import checks
import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import special, stats

import migrax as mx
from migrax.distributions import Normalized


def tilted(a, c):
    # not normalised, and e^-2000 in size
    return Normalized(lambda x: -2000.0 - a * x + jnp.log1p(c * x), 0.0, 10.0)


def tilted_log_pdf(x, a, c):
    end = mpmath.exp(-10 * a)
    return -a * x + mpmath.log(1 + c * x) - mpmath.log((1 - end) / a + c * (1 - end * (1 + 10 * a)) / a**2)


def kink(t):
    return Normalized(lambda x: -3.0 * jnp.abs(x - t), -1.0, 2.0, breaks=[t], panels=4)


def kink_log_pdf(x, t):
    return -3 * abs(x - t) - mpmath.log((2 - mpmath.exp(-3 * (t + 1)) - mpmath.exp(-3 * (2 - t))) / 3)


CASES = {
    "tilted": Case(
        tilted, (0.7, 4.0), tilted_log_pdf, [0.0, 1.0, 4.2, 10.0],
        [(0.0, 10.0), (-5.0, 2.0), (3.0, 3.0001), (9.99, 20.0), (-2.0, -1.0)], (0, 4, 10),
    ),
    "steep": Case(
        tilted, (60.0, 4.0), tilted_log_pdf, [0.0, 0.1, 10.0], [(9.0, 9.5), (0.01, 3.0)], (0, 0.2, 1, 10)
    ),
    "kink": Case(kink, (0.4,), kink_log_pdf, [-1.0, 0.3, 1.9], [(-1.0, 0.5), (0.3, 0.5), (1.0, 9.0)], (-1, 0.4, 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestNormalized:
    @pytest.mark.slow
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    def test_bins(self, case):
        low, high = float(case.knots[0]), float(case.knots[-1])
        checks.check_bins(case, [low, low + 0.1, low + 1.0, low + 1.5, high])


@pytest.mark.slow
def test_samples():
    def cdf(x):
        return (1 - np.exp(-0.7 * x) + 4 / 0.7 * (1 - np.exp(-0.7 * x) * (1 + 0.7 * x))) / (1 + 4 / 0.7)

    case = CASES["tilted"]._replace(cdf=lambda x: cdf(x) / cdf(10.0))
    checks.check_samples(case)
    d = kink(0.4)
    draws = np.asarray(d.sample(jax.random.key(2), (2_000,)))
    assert stats.kstest(draws, lambda x: np.asarray(d.cdf(x))).pvalue > 1e-3


def test_finite():
    checks.check_finite(
        CASES["tilted"]._replace(
            make=lambda a, mu: Normalized(lambda x: -a * x - 0.5 * (x - mu) ** 2, 0.0, 10.0, 8, 6)
        ),
        [-1e4, -1.0, 0.0, 0.3, 4.0, 10.0, 11.0, 1e4],
    )


def test_derivatives_in_the_range():
    # d log(integral) / d high is the density at high
    def log_mass(low, high):
        return Normalized(lambda x: -(x**4), low, high).normalization

    exact = lambda a, b: mpmath.log(mpmath.quad(lambda x: mpmath.exp(-(x**4)), [a, 0, b]))  # noqa: E731
    got = jax.jit(jax.hessian(lambda ends: log_mass(*ends)))(jnp.array([-0.5, 0.8]))
    second = [[mpmath.diff(exact, (-0.5, 0.8), n) for n in row] for row in (((2, 0), (1, 1)), ((1, 1), (0, 2)))]
    np.testing.assert_allclose(got, np.array(second, float), rtol=1e-9)


class Slope(eqx.Module):
    slope: jax.Array

    def __call__(self, x):
        return jnp.log(1 + self.slope * x)


@pytest.mark.slow
def test_parameters_in_a_module():
    x = jnp.array([0.2, 1.5])
    at = lambda d: d.log_prob(x)  # noqa: E731
    d = Normalized(Slope(jnp.array(0.5)), 0.0, 2.0)
    np.testing.assert_allclose(at(d), np.log((1 + 0.5 * x) / 3.0), rtol=1e-13)
    gradient = eqx.filter_jit(eqx.filter_jacrev(at))(d).log_density.slope
    np.testing.assert_allclose(gradient, x / (1 + 0.5 * x) - 2.0 / 3.0, rtol=1e-12)
    # the parameters may have any shape beside that of x
    lanes = Normalized(Slope(jnp.array([[0.0], [0.5]])), 0.0, 2.0)
    np.testing.assert_allclose(lanes.log_prob(x)[1], at(d), rtol=1e-13)
    np.testing.assert_allclose(lanes.log_integral(x, 2.0)[1], d.log_integral(x, 2.0), rtol=1e-12)


@pytest.mark.slow
def test_steps():
    d = Normalized(
        lambda x: jnp.where(x < 1, 0.0, jnp.where(x < 2, -jnp.inf, jnp.log(3.0))), 0.0, 4.0, breaks=[2.0, 1.0]
    )
    np.testing.assert_allclose(d.normalization, np.log(7.0), rtol=1e-14)
    assert d.normalization_error < 1e-12
    np.testing.assert_allclose(d.bin_integrals([0.0, 1.0, 2.0, 3.0, 9.0]), np.array([1, 0, 3, 3]) / 7, rtol=1e-13)
    draws = d.sample(jax.random.key(0), (1000,))
    assert not np.any((draws > 1) & (draws < 2))


KINDS = {
    "kink": (lambda x, t, s: jnp.log(jnp.abs(x - t) + s), lambda t, s: s + (t**2 + (1 - t) ** 2) / 2),
    "step": (lambda x, t, s: jnp.where(x < t, 0.0, 1.0), lambda t, s: t + np.e * (1 - t)),
    "normal": (
        lambda x, t, s: -0.5 * ((x - t) / s) ** 2,
        lambda t, s: s * np.sqrt(2 * np.pi) * (special.ndtr((1 - t) / s) - special.ndtr(-t / s)),
    ),
    "Cauchy": (
        lambda x, t, s: -jnp.log((x - t) ** 2 + s**2),
        lambda t, s: (np.arctan((1 - t) / s) + np.arctan(t / s)) / s,
    ),
}


@pytest.mark.grid
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.2, 0.04, 0.01])
def test_the_error_is_honest(kind, scale):
    density, exact = KINDS[kind]
    places = np.random.default_rng(1).random(300)
    run = jax.jit(jax.vmap(lambda t: mx.distributions.integrate(lambda x: density(x, t, scale), 0.0, 1.0, panels=4)))
    value, error = run(places)
    true = np.abs(np.exp(value) / exact(places, scale) - 1)
    assert np.all(true <= error)
    assert np.all(error < np.maximum(1e5 * true, 1e-10) + 0.01 * (kind == "Cauchy") + 1e-4)  # and says something


@pytest.mark.slow
def test_warnings():
    with pytest.warns(UserWarning, match=r"relative error of up to .*more panels than 4"):
        Normalized(lambda x: -1e5 * x**2, -1.0, 1.0, panels=4)
    with pytest.warns(UserWarning, match="is NaN somewhere"):
        d = Normalized(lambda x: jnp.log(x), -1.0, 1.0)
    assert np.isnan(d.log_prob(0.5))
    with pytest.warns(UserWarning, match="0 everywhere"):
        Normalized(lambda x: jnp.full_like(x, -jnp.inf), -1.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.jit(lambda s: Normalized(lambda x: -s * x**2, -1.0, 1.0, panels=4).log_prob(0.1))(1e5)
        jax.grad(lambda s: Normalized(lambda x: -s * x**2, -1.0, 1.0, panels=4).log_prob(0.1))(1e5)
        assert np.isnan(Normalized(lambda x: -x, 0.0, 1.0).log_prob(jnp.nan))


@pytest.mark.slow
def test_two_observables():
    def make(rho):
        def log_density(x):
            a, b = x[..., 0], x[..., 1]
            return -0.5 * (a**2 - 2 * rho * a * b + b**2) / (1 - rho**2)

        return Normalized(log_density, np.array([-9.0, -8.0]), np.array([9.0, 8.0]))

    x = jnp.array([[0.3, -1.0], [2.0, 2.5], [0.0, 8.5]])
    d = make(0.6)
    exact = stats.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]]).logpdf(x)
    np.testing.assert_allclose(d.log_prob(x)[:2], exact[:2], rtol=1e-12)
    assert np.isneginf(d.log_prob(x)[2])
    assert d.normalization_error < 1e-10
    assert d.event_shape == (2,)
    box = d.log_integral(np.array([-np.inf, 0.0]), np.array([0.0, np.inf]))
    np.testing.assert_allclose(box, np.log(0.25 - np.arcsin(0.6) / (2 * np.pi)), rtol=1e-10)
    np.testing.assert_allclose(d.log_integral(-np.inf, np.full((3, 2), np.inf)), np.zeros(3), atol=1e-13)
    hessian = jax.jit(jax.hessian(lambda r: make(r).normalization))(0.6)
    np.testing.assert_allclose(hessian, -(1 + 0.6**2) / (1 - 0.6**2) ** 2, rtol=1e-8)  # of log(1 - rho²) / 2
    with pytest.raises(TypeError, match="one observable only"):
        d.sample(jax.random.key(0))
    with pytest.raises(ValueError, match=r"shape \(..., 2\), got \(3,\)"):
        d.log_prob(np.zeros(3))
    # a step along one axis
    stepped = mx.distributions.integrate(
        lambda x: jnp.where(x[..., 0] < 0.3, 0.0, 1.0), np.zeros(2), np.ones(2), breaks=([0.3], [])
    )
    np.testing.assert_allclose(stepped[0], np.log(0.3 + 0.7 * np.e), rtol=1e-13)


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("must be finite, with low below high", lambda f: Normalized(f, 0.0, np.inf)),
        ("must be finite, with low below high", lambda f: Normalized(f, 1.0, 0.0)),
        (r"got \(3,\) and \(\)", lambda f: Normalized(f, np.zeros(3), 1.0)),
        ("at least 1 and nodes at least 4", lambda f: Normalized(f, 0.0, 1.0, nodes=3)),
        ("pair of sequences", lambda f: Normalized(f, np.zeros(2), np.ones(2), breaks=[0.3, 0.4])),
    ],
)
def test_nonsense(message, make):
    with pytest.raises(ValueError, match=message):
        make(lambda x: -x)
