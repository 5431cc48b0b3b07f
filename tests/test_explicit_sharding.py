"""Arrays whose sharding is part of their type (the default of `jax.make_mesh`) are data like any other.

What is right is known on paper for a Gaussian and for a count beside a control region.
"""

import numpy as np
import pytest
from scipy import optimize, stats

import explicit
from test_sharding import finish, start

pytestmark = pytest.mark.slow  # one process of its own, a minute
N = explicit.X.size
MEAN, SIGMA = explicit.X.mean(), explicit.X.std()
OF_LANES = np.stack([explicit.LANES.mean(axis=1), explicit.LANES.std(axis=1)], axis=1)


@pytest.fixture(scope="module")
def found():
    return finish(start(4, script=explicit.__file__))


def of(found, case):
    assert "raised" not in found[case], found[case]["raised"]
    return {key: np.asarray(value) for key, value in found[case].items()}


def test_fit(found):
    got = of(found, "fit")
    assert got["valid"]
    np.testing.assert_allclose(got["values"], [MEAN, SIGMA], rtol=1e-9)
    # the Hessian is that of the point before the last Newton step
    np.testing.assert_allclose(got["errors"], [SIGMA / np.sqrt(N), SIGMA / np.sqrt(2 * N)], rtol=1e-7)
    # the sandwich: of the mean the same, whatever the common weight
    np.testing.assert_allclose(got["weighted"][0], SIGMA / np.sqrt(N), rtol=1e-7)


def test_errors(found):
    got = of(found, "errors")
    np.testing.assert_allclose(got["hesse"], [SIGMA / np.sqrt(N), SIGMA / np.sqrt(2 * N)], rtol=1e-9)
    np.testing.assert_allclose(got["upper"], [SIGMA * np.sqrt(np.expm1(1 / N))], rtol=1e-7)
    away = np.array([0.8, 1.2]) - MEAN
    np.testing.assert_allclose(got["rise"], N * np.log1p((away / SIGMA) ** 2), rtol=1e-6)
    assert got["residuals"] == pytest.approx(0.0, abs=1e-6)
    mu, sigma = got["contour"].T
    twice = N * ((SIGMA**2 + (mu - MEAN) ** 2) / sigma**2 - 1 + 2 * np.log(sigma / SIGMA))
    np.testing.assert_allclose(twice, stats.chi2(2).ppf(0.68), rtol=1e-6)


def test_lanes(found):
    got = of(found, "lanes")
    np.testing.assert_allclose(got["lanes"], OF_LANES, rtol=1e-8)
    np.testing.assert_allclose(got["events"], OF_LANES, rtol=1e-8)
    np.testing.assert_allclose(got["gradient"], np.full((8, 40), 1 / 40), rtol=1e-8)


def test_toys(found):
    for how, values in of(found, "toys").items():
        right = [MEAN, SIGMA] if how.endswith("closed over") else OF_LANES
        np.testing.assert_allclose(values, right, rtol=1e-7, err_msg=how)


def nll_at(s):
    """Twice the negative log of the likelihood of a count and its control region, the background at its best."""
    on, off = explicit.ON, explicit.OFF
    half = (on + off - 2 * s) / 4
    b = half + np.sqrt(half**2 + off * s / 2)
    return 2 * (stats.poisson(s + b).logpmf(on) + stats.poisson(b).logpmf(off)) * -1


def cls_at(s):
    """Of the statistic qtilde (G. Cowan et al., Eur. Phys. J. C 71 (2011) 1554), with the Asimov data of b alone."""
    best = explicit.ON - explicit.OFF
    q = nll_at(s) - nll_at(best)
    b = (explicit.ON + explicit.OFF) / 2
    half = (2 * b - 2 * s) / 4
    at = half + np.sqrt(half**2 + b * s / 2)
    q_a = 2 * ((s + at - b) - b * np.log((s + at) / b) + (at - b) - b * np.log(at / b))
    if q <= q_a:
        return stats.norm.sf(np.sqrt(q)) / stats.norm.sf(np.sqrt(q) - np.sqrt(q_a))
    return stats.norm.sf((q + q_a) / (2 * np.sqrt(q_a))) / stats.norm.sf((q - q_a) / (2 * np.sqrt(q_a)))


def test_hypotheses(found):
    got = of(found, "tests")
    assert got["significance"] == pytest.approx(np.sqrt(nll_at(0.0) - nll_at(40.0)), rel=1e-6)
    assert got["cls"] == pytest.approx(cls_at(80.0), rel=1e-5)
    limit = optimize.brentq(lambda s: cls_at(s) - 0.05, 50.0, 120.0)
    assert got["limit"] == pytest.approx(limit, rel=1e-5)
    # b one error up: s one error of b down, on - off = s
    np.testing.assert_allclose(np.abs(got["impact"]), np.sqrt(explicit.OFF), rtol=0.05)
    np.testing.assert_allclose(got["drawn"], [91.0, 90.0], atol=5 * np.sqrt(91 / 1000))


def test_bootstrap(found):
    got = of(found, "bootstrap")
    np.testing.assert_allclose(got["errors"], [SIGMA / np.sqrt(N), SIGMA / np.sqrt(2 * N)], rtol=0.3)
