"""hypothesis looks for parameters inside their bounds for which a value or a gradient is NaN: 10,000
examples in all."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import migrax as mx
from migrax import distributions as D

EXAMPLES = 320  # for each of the families
POINTS = 6


def between(low, high):
    """No numbers like 1e-200, which are not what one means by a place or a bin."""
    return st.floats(low, high).map(lambda x: 0.0 if abs(x) < 1e-12 else x)


PLACE, X = between(-1e3, 1e3), between(-1e4, 1e4)
# of any size, and what a fit's search may come to near a bound at 0
SIZE = st.floats(-8.0, 8.0).map(lambda e: 10.0**e) | between(1e-3, 1e3)
PART = between(0.0, 1.0)
SHAPE = between(-0.9, 5.0)
POSITIVE_X = between(0.0, 1e4)

FAMILIES = {
    "Argus": (D.Argus, [SIZE, between(-50.0, 50.0), between(0.01, 5.0)], POSITIVE_X),
    "Bernstein": (lambda *c: D.Bernstein(jnp.stack(c), -2.0, 5.0), [SIZE, *[POSITIVE_X] * 3], between(-3.0, 6.0)),
    "Cauchy": (D.Cauchy, [PLACE, SIZE], X),
    "RelativisticBreitWigner": (D.RelativisticBreitWigner, [SIZE, SIZE], POSITIVE_X),
    # the density is positive where the absolute values add up to less than 1
    "Chebyshev": (lambda *c: D.Chebyshev(jnp.stack(c), -2.0, 5.0), [between(-0.3, 0.3)] * 3, between(-3.0, 6.0)),
    "Cruijff": (
        lambda *p: D.Cruijff(*p, -50.0, 80.0),
        [PLACE, *[SIZE] * 2, *[between(0.0, 5.0)] * 2],
        between(-60.0, 90.0),
    ),
    "CrystalBall": (D.CrystalBall, [PLACE, SIZE, between(0.01, 10.0), between(1.01, 200.0)], X),
    "DoubleCrystalBall": (
        D.DoubleCrystalBall,
        [PLACE, SIZE, between(0.01, 10.0), between(1.01, 200.0), between(0.01, 10.0), between(1.01, 200.0)],
        X,
    ),
    "AsymmetricCrystalBall": (
        D.AsymmetricCrystalBall,
        [PLACE, SIZE, SIZE, between(0.01, 10.0), between(1.01, 200.0), between(0.01, 10.0), between(1.01, 200.0)],
        X,
    ),
    "Exponential": (D.Exponential, [SIZE], X),
    "Exponential, cut": (lambda rate: D.Exponential(rate, -3.0, 9.0), [between(-1e3, 1e3)], between(-5.0, 10.0)),
    "GeneralizedExtremeValue": (D.GeneralizedExtremeValue, [PLACE, SIZE, SHAPE], X),
    "Gamma": (D.Gamma, [between(0.01, 1e4), SIZE], X),
    "HistogramTemplate": (
        lambda *c: D.HistogramTemplate(jnp.stack(c), [-1.0, 0.0, 2.0, 5.0]),
        [SIZE, *[POSITIVE_X] * 2],
        between(-2.0, 6.0),
    ),
    "Interpolated": (lambda *c: D.Interpolated([-1.0, 0.0, 5.0], jnp.stack(c)), [SIZE] * 3, between(-2.0, 6.0)),
    "Landau": (D.Landau, [PLACE, SIZE], X),
    "LogNormal": (D.LogNormal, [between(-50.0, 50.0), between(1e-3, 50.0)], X),
    "Mixture, yields": (
        lambda mu, s, tau, a, b: D.Mixture([D.Normal(mu, s), D.Exponential(tau)], yields=[a, b]),
        [PLACE, SIZE, SIZE, SIZE | st.just(0.0), SIZE],
        X,
    ),
    "Mixture, fractions": (
        lambda mu, s, f, g: D.Mixture(
            [D.Normal(mu, s), D.Cauchy(0.0, 3.0), D.Moyal(mu, s)], fractions=[f, (1 - f) * g]
        ),
        [PLACE, SIZE, PART, PART],
        X,
    ),
    "Morph": (
        lambda at: D.Morph([D.HistogramTemplate(c, [0.0, 1.0, 2.0]) for c in ([1.0, 2.0], [3.0, 1.0])], [0.0, 1.0], at),
        [between(-0.4, 1.2)],
        between(-1.0, 3.0),
    ),
    "Moyal": (D.Moyal, [PLACE, SIZE], X),
    "Normal": (D.Normal, [PLACE, SIZE], X),
    "Normalized": (
        lambda a, b: D.Normalized(lambda x: -a * x**2 + b * jnp.sin(x), -4.0, 4.0),
        [between(-5.0, 50.0), between(-50.0, 50.0)],
        between(-5.0, 5.0),
    ),
    "GeneralizedPareto": (D.GeneralizedPareto, [PLACE, SIZE, SHAPE], X),
    "Poisson": (D.Poisson, [between(0.0, 1e5)], X),
    "QGaussian": (D.QGaussian, [PLACE, SIZE, between(-2.0, 2.8)], X),
    "StudentT": (D.StudentT, [PLACE, SIZE, between(0.1, 1e6)], X),
    "Truncated": (
        lambda mu, s, a, w: D.Truncated(D.Cauchy(mu, s), a, a + w),
        [PLACE, SIZE, PLACE, between(1e-3, 1e3)],
        X,
    ),
    "TruncatedNormal": (
        lambda mu, s, a, w: D.TruncatedNormal(mu, s, a, a + w),
        [between(-100.0, 100.0), between(0.1, 1e3), between(-100.0, 100.0), between(1e-3, 1e3)],
        X,
    ),
    "Uniform": (lambda a, w: D.Uniform(a, a + w), [PLACE, between(1e-3, 1e3)], X),
    "Voigt": (D.Voigt, [PLACE, between(1e-3, 1e3), between(1e-3, 1e3)], X),
    "Weibull": (D.Weibull, [between(0.05, 50.0), SIZE], X),
}


@functools.cache
def derivatives(make):
    """Values and gradients of a density and of the probabilities between neighbouring points."""

    def both(p, x):
        density = lambda p: make(*p).log_prob(x)  # noqa: E731
        bins = lambda p: make(*p).log_integral(x[:-1], x[1:])  # noqa: E731
        return density(p), jax.jacrev(density)(p), bins(p), jax.jacrev(bins)(p)

    return jax.jit(both)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_distributions(family):
    make, strategies, points = FAMILIES[family]

    @hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @hypothesis.given(st.tuples(*strategies), st.lists(points, min_size=POINTS, max_size=POINTS))
    def search(params, x):
        value, slopes, bins, bin_slopes = derivatives(make)(jnp.array(params), jnp.sort(jnp.array(x)))
        for v, s in ((value, slopes), (bins, bin_slopes)):
            assert not np.any(np.isnan(v)), v
            finite = ~np.isposinf(v)  # a density may be infinite at its end
            assert not np.any(np.isnan(s[finite])), (v, s)
        assert not np.any(bins > 1e-9), bins

    search()


EDGES = jnp.linspace(-5.0, 15.0, 21)
COUNTS = jnp.array([0.0, 0, 1, 0, 3, 2, 5, 4, 9, 7, 12, 5, 8, 3, 4, 2, 0, 1, 0, 0])
TEMPLATES = {"s": jnp.abs(COUNTS - 3.0), "b": 1.0 + 0.5 * COUNTS}
LOG_MODEL = lambda p: jnp.log(p[2]) + D.Normal(p[0], p[1]).log_bin_integrals(EDGES)  # noqa: E731
LIKELIHOODS = {
    "PoissonNLL": (mx.PoissonNLL(log_expected=LOG_MODEL), [PLACE, SIZE, SIZE]),
    "BinnedNLL": (mx.BinnedNLL(log_expected=LOG_MODEL), [PLACE, SIZE, SIZE]),
    "UnbinnedNLL": (mx.UnbinnedNLL(distribution=lambda p: D.Cauchy(p[0], p[1])), [PLACE, SIZE]),
    "ExtendedUnbinnedNLL": (
        mx.ExtendedUnbinnedNLL(
            distribution=lambda p: D.Mixture([D.Normal(p[0], p[1]), D.Cauchy(0.0, 3.0)], yields=[p[2], p[3]])
        ),
        [PLACE, SIZE, SIZE | st.just(0.0), SIZE],
    ),
    **{
        f"TemplateNLL, {method}": (
            mx.TemplateNLL(TEMPLATES, yields=lambda p: {"s": p[0], "b": p[1]}, method=method),
            [SIZE | st.just(0.0), SIZE],
        )
        for method in ("da", "jsc", "asy", "bb")
    },
}


@pytest.mark.grid
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods(name):
    nll, strategies = LIKELIHOODS[name]
    fn = jax.jit(jax.value_and_grad(nll))

    @hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @hypothesis.given(st.tuples(*strategies))
    def search(params):
        value, slopes = fn(jnp.array(params), COUNTS)
        assert not np.isnan(value), value
        assert not np.any(np.isnan(slopes)) or np.isinf(value), slopes

    search()


def test_enough_of_them():
    assert EXAMPLES * (len(FAMILIES) + len(LIKELIHOODS)) >= 10_000
