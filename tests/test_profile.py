"""Profiles and scans against closed forms, iminuit and refits by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit

import migrax as mx
from quadratic import AT, COVARIANCE, INVERSE, fitted, quadratic

P = mx.Parameter


def test_profile_of_a_quadratic():
    profile = mx.profile(quadratic, fitted(), AT, "v[1]", 11, sigmas=3.0)
    assert np.all(profile.valid)
    offset = np.linspace(-3, 3, 11)
    np.testing.assert_allclose(profile.grid[0], -2 + offset, rtol=1e-9)
    np.testing.assert_allclose(profile.rise, offset**2, atol=1e-9)
    np.testing.assert_allclose(profile.nll, 0.5 * offset**2, atol=1e-9)
    np.testing.assert_allclose(profile.points, AT + offset[:, None] * COVARIANCE[1], atol=1e-7)


def test_two_parameters():
    grids = (jnp.array([0.0, 1.0, 2.5]), jnp.array([-1.0, 0.3]))
    profile = mx.profile(quadratic, fitted(), AT, ["v[0]", "w"], grids)
    assert profile.nll.shape == (3, 2)
    assert profile.points.shape == (3, 2, 3)
    assert profile.names == ("v[0]", "w")
    block = np.linalg.inv(COVARIANCE[np.ix_([0, 2], [0, 2])])
    for i, a in enumerate(grids[0]):
        for j, b in enumerate(grids[1]):
            d = np.array([a - 1.0, b - 0.3])
            np.testing.assert_allclose(profile.rise[i, j], d @ block @ d, atol=1e-9)


def test_scan():
    one = mx.scan(quadratic, fitted(), AT, "w", jnp.array([-1.0, 0.3, 2.0]))
    np.testing.assert_allclose(one.rise, (np.array([-1.0, 0.3, 2.0]) - 0.3) ** 2 * INVERSE[2, 2], atol=1e-9)
    np.testing.assert_array_equal(one.points[:, 0], fitted().values[0])
    two = mx.scan(quadratic, fitted(), AT, ["v[0]", "v[1]"], 4)
    assert two.nll.shape == (4, 4)
    assert np.all(two.valid)


def counts(p, d):
    mu = p["a"] * jnp.exp(-p["b"] * jnp.arange(5.0))
    return jnp.sum(mu - d * jnp.log(mu))


COUNTS = jnp.array([10.0, 7.0, 5.0, 2.0, 2.0])
START = {"a": P(8.0, lower=0.0), "b": P(0.3)}
GRID = jnp.linspace(5.0, 25.0, 9)


def test_as_iminuit():
    result = mx.fit(counts, START, COUNTS)
    profile = mx.profile(counts, result, COUNTS, "a", GRID)
    m = Minuit(lambda a, b: float(counts({"a": a, "b": b}, COUNTS)), a=8, b=0.3)
    m.errordef = Minuit.LIKELIHOOD
    m.tol = 1e-4
    m.migrad()
    _, theirs, ok = m.mnprofile("a", grid=np.asarray(GRID))
    assert np.all(ok)
    np.testing.assert_allclose(profile.nll, theirs, atol=1e-4)
    assert np.all(profile.nll <= theirs + 1e-9)


@jax.jit
def heights(data):
    return mx.profile(counts, mx.fit(counts, START, data), data, "a", GRID).rise


@pytest.mark.slow
def test_derivatives():
    h = 1e-4
    differences = [(heights(COUNTS.at[i].add(h)) - heights(COUNTS.at[i].add(-h))) / (2 * h) for i in range(5)]
    forward = jax.jit(jax.jacfwd(heights))(COUNTS)
    np.testing.assert_allclose(forward, np.stack(differences, 1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(jax.jit(jax.jacrev(heights))(COUNTS), forward, rtol=1e-9, atol=1e-12)


def test_a_point_that_fails_leaves_the_others_alone():
    """Bit for bit: beyond mu = 3 the likelihood is NaN."""

    def nll(p, _):
        cut = jnp.where(p["mu"] > 3, jnp.nan, 0.0)
        return 0.5 * p["mu"] ** 2 + jnp.cosh(p["nu"] - 0.3 * p["mu"]) + cut

    result = mx.fit(nll, {"mu": 0.5, "nu": 0.1})
    good = mx.profile(nll, result, None, "mu", jnp.array([-1.0, 0.5, 2.0, 1.0]))
    bad = mx.profile(nll, result, None, "mu", jnp.array([-1.0, 0.5, 2.0, 4.0]))
    assert bad.valid.tolist() == [True, True, True, False]
    assert np.isnan(bad.nll[3])
    np.testing.assert_array_equal(bad.nll[:3], good.nll[:3])
    np.testing.assert_array_equal(bad.points[:3], good.points[:3])
    assert "3 of 4" in str(bad)


def test_a_number_of_points_for_each_of_two():
    assert mx.scan(quadratic, fitted(), AT, ["v[0]", "w"], (3, 5)).nll.shape == (3, 5)


def at_its_bound(p, _):
    return p["s"] + 0.5 * (p["s"] + p["t"]) ** 2 + p["t"] ** 2


BAD = {
    "unknown": (lambda: mx.profile(quadratic, fitted(), AT, "u"), ValueError, "no parameter 'u'"),
    "a vector of three": (lambda: mx.profile(quadratic, fitted(), AT, ["v", "w"]), ValueError, "one parameter or two"),
    "twice": (lambda: mx.scan(quadratic, fitted(), AT, ["w", "w"]), ValueError, "two different ones"),
    "empty": (lambda: mx.profile(quadratic, fitted(), AT, "w", []), ValueError, "at least one value"),
    "no points": (lambda: mx.scan(quadratic, fitted(), AT, "w", 0), ValueError, "at least one point"),
    "one grid for two": (lambda: mx.scan(quadratic, fitted(), AT, "v", jnp.ones(3)), ValueError, "a tuple of two"),
    "nan": (lambda: mx.scan(quadratic, fitted(), AT, "w", [0.0, np.nan]), ValueError, "must stay within its bounds"),
    "sigmas": (lambda: mx.scan(quadratic, fitted(), AT, "w", sigmas=-1), ValueError, "sigmas must be a positive"),
    "bounds": (
        lambda: mx.profile(counts, mx.fit(counts, START, COUNTS), COUNTS, "a", [-1.0, 2.0]),
        ValueError,
        r"'a' must stay within its bounds: -1.0 is not in \[0.0, inf\]",
    ),
    "at a bound": (
        lambda: mx.profile(
            at_its_bound, mx.fit(at_its_bound, {"s": mx.Parameter(1.0, lower=0.0), "t": P(0.0)}), None, "s"
        ),
        ValueError,
        r"'s' has no error \(it is at a bound\): give the values of the grid",
    ),
    "a number": (
        lambda: mx.profile(quadratic, fitted(), AT, "w", 10.0),
        ValueError,
        "a whole number of points, or hold",
    ),
    "a matrix": (lambda: mx.profile(quadratic, fitted(), AT, "w", jnp.ones((3, 3))), ValueError, "one axis, got shape"),
    "batch": (
        lambda: mx.profile(quadratic, jax.tree.map(lambda x: x[None], fitted()), AT, "w"),
        ValueError,
        "takes one fit",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        call()
