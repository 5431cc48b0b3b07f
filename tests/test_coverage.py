"""Coverage of MINOS intervals and of contours, against the exact distribution of the likelihood ratio.

Five normal events, mu and sigma both unknown: a skewed likelihood, whose ratios are known functions of pivots.
- of mu: n log(1 + t²/(n-1)), t of Student's distribution;
- of sigma: n (u - 1 - log u), with n u chi2 of n-1 degrees of freedom;
- of both: n (u - 1 - log u) + v², v standard normal and independent of u.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, stats

import migrax as mx

N, TOYS = 5, 10_000
START = {"mu": mx.Parameter(0.0), "sigma": mx.Parameter(1.0, lower=0.0)}
CL = 0.68

pytestmark = pytest.mark.slow


def nll(p, x):
    return jnp.sum(0.5 * ((x - p["mu"]) / p["sigma"]) ** 2) + x.size * jnp.log(p["sigma"])


def toys(seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(TOYS, N)))


def spread(u):
    return N * (u - 1 - np.log(u))


def between(rise):
    """The chance that the ratio of sigma is at most `rise`."""
    low = optimize.brentq(lambda u: spread(u) - rise, 1e-12, 1)
    high = optimize.brentq(lambda u: spread(u) - rise, 1, 100)
    return np.diff(stats.chi2(N - 1).cdf([N * low, N * high]))[0]


def exact(what, rise):
    if what == "mu":
        t = np.sqrt((N - 1) * np.expm1(rise / N))
        return 2 * stats.t(N - 1).cdf(t) - 1
    if what == "sigma":
        return between(rise)
    return integrate.quad(lambda v: 2 * stats.norm.pdf(v) * between(rise - v**2), 0, np.sqrt(rise))[0]


def binomial_error(p):
    return np.sqrt(p * (1 - p) / TOYS)


def test_minos_intervals():
    @jax.jit
    @jax.vmap
    def errors(x):
        result = mx.fit(nll, START, x)
        minos = mx.minos(nll, result, x)
        return result.values, minos.lower, minos.upper, minos.valid

    values, lower, upper, valid = errors(toys(1))
    assert np.all(valid)
    truth = np.array([0.0, 1.0])
    covers = np.asarray((values + lower <= truth) & (truth <= values + upper)).mean(axis=0)
    for share, what in zip(covers, ("mu", "sigma"), strict=True):
        expected = exact(what, 1.0)
        assert abs(expected - 0.6827) > 0.05  # so few events are far from the asymptotic coverage
        assert abs(share - expected) < 3 * binomial_error(expected), what


def inside(polygon, point):
    """Whether a point is inside of a closed polygon: how often a ray to the right crosses it."""
    x, y = polygon[:, 0] - point[0], polygon[:, 1] - point[1]
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    cut = (y > 0) != (y2 > 0)
    at = x - y * (x2 - x) / np.where(cut, y2 - y, 1.0)
    return np.sum(cut & (at > 0)) % 2 == 1


def test_contours():
    size = 48

    @jax.jit
    @jax.vmap
    def contours(x):
        contour = mx.contour(nll, mx.fit(nll, START, x), x, ("mu", "sigma"), cl=CL, size=size)
        return contour.values, contour.valid

    values, valid = contours(toys(2))
    assert np.all(valid)
    covers = np.mean([inside(polygon, (0.0, 1.0)) for polygon in np.asarray(values)])
    expected = exact("both", -2 * np.log1p(-CL))
    assert abs(expected - CL) > 0.05
    # the polygon's area is short of the contour's by 2 pi²/3 / size²
    assert abs(covers - expected) < 3 * binomial_error(expected) + 0.003
