"""MINOS against closed forms, iminuit and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit
from jax.scipy.special import xlogy
from scipy.optimize import brentq

import migrax as mx

P = mx.Parameter


def poisson(p, n):
    return p["mu"] - xlogy(n, p["mu"])


POISSON = {"mu": P(3.0, lower=0.0)}


@pytest.mark.parametrize("z", [1.0, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("n", [0.0, 1.0, 2.0, 5.0, 10.0, 1000.0])
def test_poisson_to_ten_digits(n, z):
    result = mx.fit(poisson, POISSON, n)
    minos = mx.minos(poisson, result, n, cl=z)

    def above(mu):
        return mu - (n * np.log(mu / n) if n else 0.0) - n - 0.5 * z**2

    upper = brentq(above, n, 10 * n + 100, xtol=1e-14, rtol=1e-14) - n
    np.testing.assert_allclose(minos.upper, [upper], rtol=1e-10)
    assert int(minos.upper_status[0]) == mx.Side.FOUND
    assert bool(minos.valid[0])
    if n == 0:
        assert int(minos.lower_status[0]) == mx.Side.AT_LIMIT
        np.testing.assert_allclose(minos.lower, [0.0], atol=1e-10)
    else:
        assert int(minos.lower_status[0]) == mx.Side.FOUND
        np.testing.assert_allclose(minos.lower, [brentq(above, 1e-13, n, xtol=1e-14, rtol=1e-14) - n], rtol=1e-10)


def test_known_answers():
    """minuit.md's table."""
    ten, thousand = (mx.minos(poisson, mx.fit(poisson, POISSON, n), n) for n in (10.0, 1000.0))
    np.testing.assert_allclose([ten.lower[0], ten.upper[0]], [-2.838105, 3.504033], atol=5e-7)
    np.testing.assert_allclose([thousand.lower[0], thousand.upper[0]], [-31.2903, 31.9570], atol=5e-5)

    def exponential(p, _):
        return (p["x"] - 2) ** 2 / 4 + jnp.exp((p["y"] - 5) ** 2) + 10

    minos = mx.minos(exponential, mx.fit(exponential, {"x": 0.0, "y": 0.0}, up=1.0))
    np.testing.assert_allclose(minos.upper, [2.0, np.sqrt(np.log(2))], rtol=1e-10)
    np.testing.assert_allclose(minos.lower, -minos.upper, rtol=1e-10)

    def rosenbrock(p, _):
        return 100 * (p["y"] - p["x"] ** 2) ** 2 + (1 - p["x"]) ** 2

    minos = mx.minos(rosenbrock, mx.fit(rosenbrock, {"x": -1.2, "y": 1.0}, up=1.0), where="x")
    np.testing.assert_allclose([minos.lower[0], minos.upper[0]], [-1.0, 1.0], rtol=1e-10)


def bounded(p, _):
    return (p["x"] + 1) ** 2 + (p["y"] - 2) ** 2 + 0.5 * (p["x"] + 1) * (p["y"] - 2)


def test_minimum_at_a_bound():
    result = mx.fit(bounded, {"x": P(1.0, lower=0.0), "y": P(0.0)}, up=1.0)
    minos = mx.minos(bounded, result)
    assert minos.names == ("x", "y")
    np.testing.assert_allclose(minos.upper, [0.43759058, 1.0], rtol=1e-7)  # minuit.md; y with x held by its bound
    np.testing.assert_allclose(minos.lower, [0.0, -1.0], atol=1e-9)
    assert minos.lower_status.tolist() == [mx.Side.AT_LIMIT, mx.Side.FOUND]
    assert bool(jnp.all(minos.valid))


def test_limit_on_the_way():
    def nll(p, _):
        return 0.5 * (p["x"] ** 2 + (p["y"] - 0.9 * p["x"]) ** 2)

    result = mx.fit(nll, {"x": P(0.2, -0.5, 5.0), "y": P(0.1, upper=0.3)})
    minos = mx.minos(nll, result)
    assert minos.lower_status.tolist() == [mx.Side.AT_LIMIT, mx.Side.FOUND]
    assert minos.upper_status.tolist() == [mx.Side.FOUND, mx.Side.AT_LIMIT]
    # beyond x = 1/3 the bound holds y at 0.3
    held = brentq(lambda x: 0.5 * (x**2 + (0.3 - 0.9 * x) ** 2) - 0.5, 0.3, 2.0, xtol=1e-14)
    np.testing.assert_allclose([minos.lower[0], minos.upper[0]], [-0.5, held], rtol=1e-8)
    np.testing.assert_allclose(minos.upper[1], 0.3, rtol=1e-8)
    np.testing.assert_allclose(minos.upper_points[0], [held, 0.3], rtol=1e-8)


def test_correlated_quadratic_with_a_vector_parameter():
    covariance = np.array([[4.0, 1.0, 0.5], [1.0, 1.0, -0.2], [0.5, -0.2, 2.0]])
    inverse = jnp.linalg.inv(covariance)

    def nll(p, at):
        d = jnp.concatenate([p["v"], p["w"][None]]) - at
        return 0.5 * d @ inverse @ d

    at = jnp.array([1.0, -2.0, 0.3])
    result = mx.fit(nll, {"v": jnp.zeros(2), "w": 0.0}, at)
    minos = mx.minos(nll, result, at, ["w", "v"], cl=2.0)
    assert minos.names == ("w", "v[0]", "v[1]")
    errors = np.sqrt(np.diagonal(covariance))[[2, 0, 1]]
    np.testing.assert_allclose(minos.upper, 2 * errors, rtol=1e-10)
    np.testing.assert_allclose(minos.lower, -2 * errors, rtol=1e-10)
    # the other parameters move along the regression lines
    shifts = 2 * covariance[[2, 0, 1]] / errors[:, None]
    np.testing.assert_allclose(minos.upper_points, at + shifts, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(mx.minos(nll, result, at, lambda p: p["w"], cl=0.9545).upper, [2 * 2**0.5], rtol=1e-9)
    one = mx.minos(nll, result, at, "w", cl=0.95).upper[0] / 2**0.5
    np.testing.assert_allclose(one, 1.959963984540054, rtol=1e-9)


def counts(p, d):
    mu = p["a"] * jnp.exp(-p["b"] * jnp.arange(5.0))
    return jnp.sum(mu - d * jnp.log(mu))


COUNTS = jnp.array([10.0, 7.0, 5.0, 2.0, 2.0])
START = {"a": 8.0, "b": 0.3}


@jax.jit
def errors_of(data):
    minos = mx.minos(counts, mx.fit(counts, START, data), data)
    return jnp.concatenate([minos.lower, minos.upper])


def test_agrees_with_iminuit():
    """And is nearer to the root than iminuit, which looks for it to a hundredth of UP."""
    m = Minuit(lambda a, b: float(counts({"a": a, "b": b}, COUNTS)), a=8, b=0.3)
    m.errordef = Minuit.LIKELIHOOD
    m.migrad()
    m.minos()
    result = mx.fit(counts, START, COUNTS)
    minos = mx.minos(counts, result, COUNTS)
    theirs = [(m.merrors[x].lower, m.merrors[x].upper) for x in "ab"]
    np.testing.assert_allclose(np.stack([minos.lower, minos.upper], 1), theirs, rtol=5e-3)
    for points in (minos.lower_points, minos.upper_points):
        for x in points:
            assert abs(float(counts({"a": x[0], "b": x[1]}, COUNTS) - result.nll) - 0.5) < 1e-11


@pytest.mark.slow
def test_derivatives():
    h = 1e-4
    differences = [(errors_of(COUNTS.at[i].add(h)) - errors_of(COUNTS.at[i].add(-h))) / (2 * h) for i in range(5)]
    differences = np.stack(differences, axis=1)
    forward = jax.jit(jax.jacfwd(errors_of))(COUNTS)
    np.testing.assert_allclose(forward, differences, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(jax.jit(jax.jacrev(errors_of))(COUNTS), forward, rtol=1e-9)


def test_vmap_and_a_lane_that_fails():
    data = jnp.stack([COUNTS, COUNTS + 1, COUNTS.at[2].set(jnp.nan), COUNTS])
    together = jax.jit(jax.vmap(errors_of))
    batch = together(data)
    assert np.all(np.isnan(batch[2]))
    np.testing.assert_allclose(batch[0], errors_of(COUNTS), rtol=1e-9)
    np.testing.assert_array_equal(batch[0], batch[3])
    np.testing.assert_array_equal(
        batch[jnp.array([0, 1, 3])], together(data.at[2].set(COUNTS + 2))[jnp.array([0, 1, 3])]
    )


def hilly(p, depth):
    """Two minima, x = -1 deeper than x = 1."""
    x = p["x"]
    return 0.3 * (x**2 - 1) ** 2 + depth * x + 0.5 * (p["y"] - x) ** 2


def test_a_new_minimum_is_adopted():
    first = mx.fit(hilly, {"x": 1.2, "y": 1.2}, 0.05)
    assert float(first.values[0]) > 0.9
    with pytest.warns(UserWarning, match=r"a lower minimum along .*The fit was repeated"):
        minos = mx.minos(hilly, first, 0.05)
    assert float(minos.result.values[0]) < -0.9
    assert float(minos.result.nll) < float(first.nll)
    again = mx.minos(hilly, minos.result, 0.05)
    np.testing.assert_allclose(minos.lower, again.lower, rtol=1e-12)
    status = jax.jit(lambda r: mx.minos(hilly, r, 0.05).lower_status)(first)
    assert int(status[0]) == mx.Side.NEW_MINIMUM


def test_no_crossing_is_said():
    """A likelihood that levels off has no upper error at 3 sigma; the other side does not care."""

    def saturating(p, _):
        return jnp.where(p["x"] > 0, 2.0 * -jnp.expm1(-0.25 * p["x"] ** 2), 0.5 * p["x"] ** 2)

    result = mx.fit(saturating, {"x": 0.1})
    one, three = (mx.minos(saturating, result, cl=cl) for cl in (1.0, 3.0))
    np.testing.assert_allclose(one.upper, [np.sqrt(-4 * np.log(0.75))], rtol=1e-10)
    assert int(three.upper_status[0]) == mx.Side.FAILED
    assert np.isnan(three.upper[0])
    assert not bool(three.valid[0])
    np.testing.assert_allclose(three.lower, [-3.0], rtol=1e-10)


def test_printing():
    result = mx.fit(bounded, {"x": P(1.0, lower=0.0), "y": P(0.0)}, up=1.0)
    minos = mx.minos(bounded, result, where="x")
    assert str(minos).splitlines() == [
        "┌──────────┬───────────────────────┐",
        "│          │           x           │",
        "├──────────┼───────────┬───────────┤",
        "│  Error   │   0.000   │   0.438   │",
        "│  Valid   │   True    │   True    │",
        "│ At Limit │   True    │   False   │",
        "│  Failed  │   False   │   False   │",
        "│ New Min  │   False   │   False   │",
        "└──────────┴───────────┴───────────┘",
    ]
    row = next(line for line in str(minos.result).splitlines() if " x " in line and "0.4" in line)
    assert row.split("│")[5:7] == ["    0.0     ", "    0.4     "]
    assert minos._repr_html_().count("True") == 3
    assert "<td>0.438</td>" in minos._repr_html_()


@functools.cache
def fitted():
    return mx.fit(counts, START, COUNTS)


BAD = {
    "unknown": (lambda: mx.minos(counts, fitted(), COUNTS, "c"), ValueError, "no parameter 'c'"),
    "nothing": (lambda: mx.minos(counts, fitted(), COUNTS, []), ValueError, "no parameter is selected"),
    "cl 0": (lambda: mx.minos(counts, fitted(), COUNTS, cl=0), ValueError, "probability between 0 and 1"),
    "cl nan": (lambda: mx.minos(counts, fitted(), COUNTS, cl=np.nan), ValueError, "probability between 0 and 1"),
    "cls": (lambda: mx.minos(counts, fitted(), COUNTS, cl=[0.68, 0.95]), ValueError, "one cl"),
    "percent": (lambda: mx.minos(counts, fitted(), COUNTS, cl=68), ValueError, "give a probability, such as 0.68"),
    "cl text": (lambda: mx.minos(counts, fitted(), COUNTS, cl="68%"), TypeError, "cl must be a number"),
    "position": (lambda: mx.minos(counts, fitted(), COUNTS, 0), TypeError, "picked by its name, or by a function"),
    "case": (lambda: mx.minos(counts, fitted(), COUNTS, "A"), ValueError, "did you mean 'a'"),
    "start": (lambda: mx.minos(counts, START, COUNTS), TypeError, r"the result of mx\.fit, got dict"),
    "other order": (
        lambda: mx.minos(fitted(), counts, COUNTS),
        TypeError,
        r"got function: mx\.minos\(nll, result, data, \.\.\.\)",
    ),
    "no hesse": (
        lambda: mx.minos(counts, mx.fit(counts, START, COUNTS, hesse=False), COUNTS),
        ValueError,
        "hesse=True",
    ),
    "invalid": (
        lambda: mx.minos(counts, mx.fit(counts, START, COUNTS, max_steps=1), COUNTS),
        ValueError,
        "needs a valid fit, and this one is not: The step limit",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        call()


def test_refit():
    invalid = mx.fit(counts, START, COUNTS, max_steps=1)
    np.testing.assert_allclose(
        mx.minos(counts, invalid, COUNTS, refit=True).upper, mx.minos(counts, fitted(), COUNTS).upper, rtol=1e-9
    )


def test_no_retrace():
    traces = 0

    def nll(p, d):
        nonlocal traces
        traces += 1
        return counts(p, d)

    result = mx.fit(nll, START, COUNTS)
    before = traces
    for data, cl in ((COUNTS, 1.0), (COUNTS, 2.0), (COUNTS + 1e-3, 1.5)):
        mx.minos(nll, result, data, cl=cl)
    assert traces == before  # it goes on with the jaxpr of the fit


def test_a_parameter_leaves_its_bound_on_the_way():
    """y is held at 0 by its bound at the minimum, and follows x - 1/2 beyond x = 1/2."""

    def nll(p, _):
        return 0.5 * p["x"] ** 2 + 0.5 * (p["y"] + 0.5 - p["x"]) ** 2

    result = mx.fit(nll, {"x": P(0.1), "y": P(1.0, lower=0.0)})
    np.testing.assert_allclose(result.values, [0.25, 0.0], atol=1e-9)
    minos = mx.minos(nll, result, where="x")
    np.testing.assert_allclose(minos.upper[0] + 0.25, np.sqrt(2 * 0.5625), rtol=1e-9)
    np.testing.assert_allclose(minos.lower[0], -np.sqrt(0.5), rtol=1e-9)  # there the bound holds it
    np.testing.assert_allclose(minos.upper_points[0, 1], np.sqrt(2 * 0.5625) - 0.5, rtol=1e-7)
    profile = mx.profile(nll, result, None, "x", jnp.array([-1.0, 0.2, 0.7, 2.0]))
    assert np.all(profile.valid)
    x = np.array([-1.0, 0.2, 0.7, 2.0])
    y = np.maximum(x - 0.5, 0.0)
    np.testing.assert_allclose(profile.nll, 0.5 * x**2 + 0.5 * (y + 0.5 - x) ** 2, rtol=1e-9)
    np.testing.assert_allclose(profile.points[:, 1], y, atol=1e-7)


def banana(p, d):
    """Symmetric in x for d = 0, where y = 1.01 is reached at x = ±0.995, and x = 0 is a ridge."""
    return 0.5 * ((p["x"] - d) ** 2 + 25 * (p["y"] - p["x"] ** 2) ** 2 + (p["z"] - p["x"]) ** 2)


@pytest.mark.parametrize(("d", "upper"), [(0.0, 1.01), (0.05, 1.1095227769)])
def test_a_crossing_is_no_saddle(d, upper):
    result = mx.fit(banana, {"x": 0.2, "y": 0.0, "z": 0.0}, d)
    error = mx.minos(banana, result, d, "y")["y"]
    np.testing.assert_allclose(error.upper, upper, rtol=1e-8)
    assert int(error.upper_status) == int(mx.Side.FOUND)
    at = {"x": result.values[0], "y": result["y"].value + error.upper, "z": result.values[2]}
    # the other valley, at x = -1, is a minimum, too
    refitted = mx.fit(banana, mx.fix(at | {"x": jnp.array(1.0)}, "y"), d)
    np.testing.assert_allclose(refitted.nll - result.nll, 0.5, rtol=1e-7)


def test_an_error_by_name():
    minos = mx.minos(counts, fitted(), COUNTS)
    assert float(minos["b"].lower) == float(minos.lower[1])
    assert int(minos["a"].upper_status) == int(mx.Side.FOUND)
    with pytest.raises(ValueError, match="did you mean 'b'"):
        minos["B"]


def test_other_data_are_noticed():
    result = mx.fit(quadratic_of, {"a": P(0.0, lower=-5.0, upper=5.0), "b": P(0.0)}, jnp.zeros(2))
    with pytest.warns(UserWarning, match="are nll and data those of the fit"):
        minos = mx.minos(quadratic_of, result, jnp.array([0.0, 1.0]))
    assert not np.any(minos.valid)


def quadratic_of(p, d):
    return 0.5 * (p["a"] - d[0]) ** 2 + 20 * (p["b"] - d[1] + 0.5 * p["a"]) ** 2
