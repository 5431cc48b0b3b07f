"""Derivatives in closed form: of any order those of mpmath, the same in each way to ask for them, and never NaN."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import migrax as mx
from migrax.distributions._mean_exp import log_mean_exp
from migrax.distributions._normal_interval import log_upper_tail
from migrax.distributions._sums import log_mixture, log_weighted_sum

D = mx.distributions
ENDS = [(-0.3, 0.4), (0.0, 0.15), (-0.2, -0.1), (2.0, 2.001), (5.0, 6.0), (-40.0, -39.0), (30.0, 200.0), (-6.0, 9.0)]


def exact_normal(a, b):
    """The log of the probability of the ends, in standard deviations, as a function of mean and standard deviation."""

    def at(mu, sigma):
        low, high = (mpmath.mpf(a) - mu) / sigma, (mpmath.mpf(b) - mu) / sigma
        if low > 0:
            low, high = -high, -low
        return mpmath.log(mpmath.erfc(-high / mpmath.sqrt(2)) / 2 - mpmath.erfc(-low / mpmath.sqrt(2)) / 2)

    return at


@pytest.mark.grid
@pytest.mark.parametrize("ends", ENDS)
def test_a_normal_interval_to_the_third_derivative(ends):
    orders = [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (1, 2)]
    with mpmath.workdps(400):
        # reference values at 50 digits: the tails of 40 sigma have 350 digits before the first that counts
        exact = [float(mpmath.diff(exact_normal(*ends), (0, 1), n, h=mpmath.mpf(10) ** -30)) for n in orders]
    points = np.array(ends)
    for way in (
        lambda p: D.Normal(p[0], p[1]).log_bin_integrals(points)[0],
        lambda p: D.Normal(p[0], p[1]).log_integral(*ends),
    ):
        first = jax.jacfwd(way)
        second = jax.jacfwd(first)
        third = jax.jacfwd(second)
        one, two, three = (f(jnp.array([0.0, 1.0])) for f in (first, second, third))
        got = [one[0], one[1], two[0, 0], two[0, 1], two[1, 1], three[0, 0, 0], three[0, 1, 1]]
        scale = max(1.0, np.max(np.abs(exact[:2])))
        for value, reference, n in zip(got, exact, orders, strict=True):
            assert abs(value - reference) < 1e-13 * max(abs(reference), scale ** sum(n)), n


def test_bins_are_those_of_single_intervals():
    edges = np.array([-30.0, -3.0, -2.9, -0.5, 0.0, 0.1, 2.0, 50.0])
    for d in (
        D.Normal(0.3, 1.1), D.TruncatedNormal(0.3, 1.1, -30.0, 50.0), D.Exponential(0.2, -30.0, 60.0),
        D.Mixture([D.Normal(0.3, 1.1), D.Normal(1.0, 5.0)], fractions=[0.3]),
        D.Truncated(D.Normal(0.3, 1.1), [(-30.0, 0.0), (1.0, 60.0)]), D.Truncated(D.Normal(0.3, 1.1), -2.0, 3.0),
    ):  # fmt: skip
        single = d.log_integral(edges[:-1], edges[1:])
        np.testing.assert_allclose(d.log_bin_integrals(edges), single, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(jax.jit(d.log_bin_integrals)(edges), single, rtol=1e-13, atol=1e-15)
    # equal but for rounding, far from 0, where the widths have few digits
    many = np.linspace(1000.0, 1001.0, 3001)
    d = D.Exponential(0.7, 1000.0, 1001.0)
    np.testing.assert_allclose(d.log_bin_integrals(many), d.log_integral(many[:-1], many[1:]), rtol=0, atol=1e-13)
    np.testing.assert_allclose(jnp.sum(d.bin_integrals(many)), 1.0, rtol=1e-13)


def test_bins_of_a_range_without_probability():
    nothing = D.Truncated(D.Exponential(0.3, 20.0, 30.0), 0.0, 10.0)
    assert np.all(np.isneginf(nothing.log_bin_integrals(np.array([0.0, 4.0, 10.0]))))

    def part(rate):
        return D.Truncated(D.Exponential(rate, 3.0, 30.0), 0.0, 10.0).log_bin_integrals(np.array([0.0, 2.0, 10.0]))

    assert np.isneginf(part(0.3)[0])
    assert jax.jacfwd(part)(0.3)[0] == 0


@pytest.mark.parametrize("u", [-800.0, -3.0, -0.51, -0.49, -1e-9, 0.0, 1e-3, 0.49, 0.51, 20.0, 900.0])
def test_the_mean_of_an_exponential(u):
    def exact(u):
        return mpmath.log((1 - mpmath.exp(-u)) / u) if u else mpmath.mpf(0)

    with mpmath.workdps(60):
        at = mpmath.mpf(u) + mpmath.mpf(10) ** -25
        reference = [float(mpmath.diff(exact, at, n)) for n in (0, 1, 2)]
    got = [f(u) for f in (log_mean_exp, jax.grad(log_mean_exp), jax.grad(jax.grad(log_mean_exp)))]
    np.testing.assert_allclose(got, reference, rtol=1e-12, atol=1e-13)


def test_a_tail():
    def exact_log(z):
        return mpmath.log(mpmath.erfc(z / mpmath.sqrt(2)) / 2)

    for z in (0.0, 0.4, 3.0, 30.0, 400.0):
        with mpmath.workdps(60):
            # 400 sigma out erfc is 1e-34700, which mpmath has
            exact = [float(mpmath.diff(exact_log, z, n)) for n in (0, 1)]
        np.testing.assert_allclose([log_upper_tail(z), jax.grad(log_upper_tail)(z)], exact, rtol=1e-14)


@pytest.mark.parametrize(
    ("weights", "logs"),
    [
        ([2.0, 3.0], [-1.0, -2.0]), ([0.0, 3.0], [-1.0, -2.0]), ([1e-100, 1.0], [0.0, -300.0]),
        ([2.0, -1.0], [0.0, 0.1]), ([1.0, 1.0], [-jnp.inf, -2.0]), ([0.5, 0.0, 2.0], [-900.0, -700.0, -901.0]),
    ],
)  # fmt: skip
def test_mixtures_have_the_derivatives_of_plain_sums(weights, logs):
    w, a = jnp.array(weights), jnp.array(logs)
    finite = np.isfinite(logs)

    def fast(w, a):
        return log_mixture(list(w), list(a))

    np.testing.assert_allclose(fast(w, a), log_weighted_sum(w, a), rtol=1e-14)
    got, exact = (jax.grad(f, argnums=(0, 1))(w, a) for f in (fast, log_weighted_sum))
    np.testing.assert_allclose(got[0], exact[0], rtol=1e-13)
    np.testing.assert_allclose(np.array(got[1])[finite], np.array(exact[1])[finite], rtol=1e-13)
    scales = 1 + np.max(np.abs(exact[0])), 1.0
    got, exact = (jax.hessian(f, argnums=(0, 1))(w, a) for f in (fast, log_weighted_sum))
    for i in (0, 1):
        for j in (0, 1):
            np.testing.assert_allclose(got[i][j], exact[i][j], rtol=1e-11, atol=1e-12 * scales[i] * scales[j])


def test_mixtures_without_a_log():
    assert np.isneginf(log_mixture([0.0, 0.0], [1.0, 2.0]))
    assert np.isneginf(log_mixture([1.0, 2.0], [-jnp.inf, -jnp.inf]))
    assert np.isnan(log_mixture([1.0, -2.0], [0.0, 0.0]))
    assert np.all(jax.grad(lambda a: log_mixture([1.0], [a]))(-jnp.inf) == 0)


# Edges at the peak, where a formula in two pieces must give the slope to the piece whose end moves.
AT_THE_PEAK = {
    "Gamma": (D.Gamma, (5.0, 1.1)), "LogNormal": (D.LogNormal, (float(np.log(5.5)), 0.5)),
    "Weibull": (D.Weibull, (2.0, 4.0)), "StudentT": (D.StudentT, (4.0, 5.5, 1.0)), "Cauchy": (D.Cauchy, (5.5, 1.0)),
    "CrystalBall": (lambda m, s, a, n: D.CrystalBall(m, s, a, n, 1.0, 11.0), (5.5, 1.0, 2.0, 3.0)),
}  # fmt: skip


@pytest.mark.grid
@pytest.mark.parametrize("name", AT_THE_PEAK)
def test_slopes_of_bins_with_an_edge_at_the_peak(name):
    make, at = AT_THE_PEAK[name]
    edges, x, h = np.linspace(1.0, 11.0, 101), jnp.array(at), 1e-5
    of = jax.jit(lambda x: make(*x).log_bin_integrals(edges))
    slopes = jax.jit(jax.jacfwd(of))(x)
    differences = [(of(x.at[i].add(h)) - of(x.at[i].add(-h))) / (2 * h) for i in range(x.size)]
    np.testing.assert_allclose(slopes, np.stack(differences, 1), rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    mu=st.floats(-1e6, 1e6), sigma=st.floats(1e-6, 1e6), rate=st.floats(-50, 50), weight=st.floats(0, 1e6),
)  # fmt: skip
def test_no_derivative_is_nan(mu, sigma, rate, weight):
    value, gradient, hessian = _ALL(jnp.array([mu, sigma, rate, weight]))
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(gradient))
    assert np.all(np.isfinite(hessian))


def _log_expected(x):
    edges = np.linspace(0.0, 10.0, 21)
    parts = [D.Normal(x[0], x[1]), D.Exponential(x[2], 0.0, 10.0)]
    wide = D.Normal(x[0], x[1]).log_integral(jnp.array([-jnp.inf, -1e9, 3.0]), jnp.array([3.0, 1e9, jnp.inf]))
    return jnp.concatenate([D.Mixture(parts, yields=[x[3], 5.0]).log_expected(edges), wide])


_ALL = jax.jit(lambda x: (_log_expected(x), jax.jacfwd(_log_expected)(x), jax.jacfwd(jax.jacfwd(_log_expected))(x)))
