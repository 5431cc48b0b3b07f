"""`mx.Minuit` against iminuit's `Minuit`, on its own examples."""

import copy
import inspect
import pickle
import re
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._likelihoods.base import AbstractLikelihood

iminuit = pytest.importorskip("iminuit")

# the line of iminuit's basic tutorial
X = np.linspace(0, 1, 10)
Y = np.random.default_rng(1).normal(1 + 2 * X, 0.1)
LINE = mx.LeastSquares(lambda p, x: p["a"] + p["b"] * x)
POINTS = mx.Points(X, Y, 0.1)

# a few counts, so that errors are not symmetric, with a vector parameter
SIGNAL, FIRST, SECOND = np.array([1.0, 4.0, 1.0, 0.0]), np.array([2.0, 1.0, 0.5, 0.2]), np.array([0.2, 0.5, 1.0, 2.0])
COUNTS = np.array([18.0, 35.0, 14.0, 12.0])
TRACES = 0


def expected(s, b0, b1):
    return s * SIGNAL + b0 * FIRST + b1 * SECOND


def counts_nll(p, counts):
    global TRACES
    TRACES += 1
    mu = expected(p["s"], p["b"][0], p["b"][1])
    return jnp.sum(mu - counts * jnp.log(mu))


def new(**changes):
    params = {"b": mx.Parameter(jnp.array([3.0, 3.0]), lower=0.01), "s": mx.Parameter(4.0, lower=0.0, upper=50.0)}
    return mx.Minuit(counts_nll, params | changes, COUNTS)


def theirs(**settings):
    def fcn(b0, b1, s):
        mu = expected(s, b0, b1)
        return np.sum(mu - COUNTS * np.log(mu))

    m = iminuit.Minuit(fcn, b0=3.0, b1=3.0, s=4.0)
    m.errordef, m.strategy, m.tol = 0.5, 2, 1e-4
    m.limits = [(0.01, None), (0.01, None), (0, 50)]
    for name, value in settings.items():
        setattr(m, name, value)
    return m


THEIR_NAMES = {"b[0]": "b0", "b[1]": "b1", "s": "s"}


@pytest.fixture(scope="module")
def fitted():
    """Not to be changed by a test: take a copy."""
    return new().migrad().minos()


@pytest.fixture(scope="module")
def peer():
    m = theirs().migrad()
    m.hesse()
    return m.minos()


# --- the same numbers as iminuit


def test_the_same_minimum(fitted, peer):
    assert fitted.valid
    assert fitted.accurate
    assert fitted.parameters == tuple(THEIR_NAMES) == fitted.pos2var
    assert fitted.var2pos == {"b[0]": 0, "b[1]": 1, "s": 2}
    assert (fitted.npar, fitted.nfit) == (3, 3)
    errors = np.array(peer.errors)
    np.testing.assert_allclose((np.array(fitted.values) - peer.values) / errors, 0, atol=1e-3)
    # with limits iminuit's errors are those of transformed parameters, transformed back
    np.testing.assert_allclose(fitted.errors, peer.errors, rtol=5e-3)
    np.testing.assert_allclose(fitted.covariance / np.outer(errors, errors), peer.covariance.correlation(), atol=0.01)
    np.testing.assert_allclose(fitted.fval, peer.fval, atol=1e-8)
    assert fitted.errordef == 0.5
    assert fitted.limits == peer.limits


def test_the_same_errors_of_minos(fitted, peer):
    for name, other in THEIR_NAMES.items():
        ours, reference = fitted.merrors[name], peer.merrors[other]
        np.testing.assert_allclose([ours.lower, ours.upper], [reference.lower, reference.upper], rtol=2e-3)
        assert ours.is_valid
        assert (ours.name, ours.number) == (name, reference.number)
        assert abs(ours.upper + ours.lower) > 0.01 * ours.upper  # else symmetric errors would do
    assert list(fitted.merrors) == list(THEIR_NAMES)
    assert fitted.merrors[-1] is fitted.merrors["s"]
    assert fitted.params["s"].merror == (fitted.merrors["s"].lower, fitted.merrors["s"].upper)


@pytest.mark.parametrize("cl", [0.9, 2])
def test_levels_of_minos(fitted, peer, cl):
    m, reference = copy.copy(fitted), copy.copy(peer)
    m.minos(0, "s", cl=cl)
    reference.minos("s", cl=cl)
    np.testing.assert_allclose(m.merrors["s"].upper, reference.merrors["s"].upper, rtol=2e-3)
    assert m.merrors["b[1]"] == fitted.merrors["b[1]"]  # those from before stay
    assert m.merrors["b[0]"] != fitted.merrors["b[0]"]


def test_the_same_profiles(fitted, peer):
    for size, method in ((30, "mnprofile"), (9, "profile")):
        x, y, *good = getattr(fitted, method)("s", size=size)
        other_x, other_y, *_ = getattr(peer, method)("s", size=size)
        np.testing.assert_allclose(x, other_x, rtol=5e-3)
        np.testing.assert_allclose(y, getattr(peer, method)("s", grid=x)[1], atol=1e-3)
        assert np.max(y) - np.min(y) > 1
        assert np.all(good)
        assert np.shape(y) == np.shape(other_y) == (size,)
    np.testing.assert_allclose(fitted.mnprofile(2, subtract_min=True)[1].min(), 0.0)
    x, _ = fitted.profile("b[0]", bound=(1.0, 4.0), size=4)
    np.testing.assert_allclose(x, [1, 2, 3, 4])


def test_the_same_contour(fitted, peer):
    x, y, z = fitted.contour("b[0]", "s", size=(4, 3))
    assert z.shape == (4, 3)
    np.testing.assert_allclose(
        z, peer.contour("b0", "s", grid=(x, y))[2], atol=1e-3
    )  # the third is where each fit ended
    x, y, z = fitted.contour("b[0]", "s", bound=((1, 2), (3, 5)), size=2, subtract_min=True)
    np.testing.assert_allclose([*x, *y, z.min()], [1, 2, 3, 5, 0])


@pytest.mark.parametrize("cl", [None, 0.9])
def test_the_same_region(fitted, peer, cl):
    points = fitted.mncontour("b[0]", "s", cl=cl)
    reference = peer.mncontour("b0", "s", cl=cl, size=30)
    assert points.shape == (101, 2)
    np.testing.assert_array_equal(points[0], points[-1])
    scale = np.array([peer.errors["b0"], peer.errors["s"]])
    # the distance of each of their points, which are good to a hundredth, to our polygon
    a, b = points[:-1] / scale, points[1:] / scale
    for p in reference / scale:
        part = np.clip(np.sum((p - a) * (b - a), axis=1) / np.sum((b - a) ** 2, axis=1), 0, 1)
        assert np.min(np.linalg.norm(a + part[:, None] * (b - a) - p, axis=1)) < 0.02
    m = theirs()
    m.fixed = [True, False, True]
    for point in points[::33]:
        m.values["b0"], m.values["s"] = point
        rise = m.migrad().fval - fitted.fval
        np.testing.assert_allclose(2 * rise, -2 * np.log(1 - (0.68 if cl is None else cl)), rtol=1e-4)


# --- iminuit's basic tutorial


@pytest.fixture(scope="module")
def line():
    return mx.Minuit(LINE, {"a": 0.0, "b": 0.0}, POINTS).migrad().hesse()


def test_quick_start(line):
    from iminuit.cost import LeastSquares

    other = iminuit.Minuit(LeastSquares(X, Y, 0.1, lambda x, a, b: a + b * x), a=0, b=0).migrad()
    assert line.valid
    np.testing.assert_allclose(line.values, other.values, rtol=1e-5)
    np.testing.assert_allclose(line.errors, other.errors, rtol=1e-4)
    np.testing.assert_allclose(line.covariance, other.covariance, rtol=1e-3)
    np.testing.assert_allclose(line.covariance.correlation(), other.covariance.correlation(), rtol=1e-3)
    np.testing.assert_allclose(2 * line.fval, other.fval, rtol=1e-6)  # chi2/2: likelihoods of migrax are minus log L
    np.testing.assert_allclose(line.fmin.reduced_chi2, other.fmin.reduced_chi2, rtol=1e-6)
    assert line.ndof == other.ndof == 8
    fmin = line.fmin
    assert fmin.is_valid
    for name in ("has_covariance", "has_accurate_covar", "has_posdef_covar"):
        assert getattr(fmin, name) is getattr(other.fmin, name) is True
    for name in ("hesse_failed", "has_reached_call_limit", "is_above_max_edm", "has_parameters_at_limit"):
        assert getattr(fmin, name) is getattr(other.fmin, name) is False
    assert 0 <= fmin.edm < fmin.edm_goal == pytest.approx(1e-4)
    curve = line.values[0] + line.values["b"] * X
    np.testing.assert_allclose(curve, LINE.model({"a": line.values["a"], "b": line.values["b"]}, X))


def test_limits_and_fixing(line):
    m = copy.copy(line)
    free = np.array(m.values)
    m.limits = [(0, None), (0, 10)]
    assert list(m.limits) == [(0.0, np.inf), (0.0, 10.0)]
    m.fixed["a"] = True
    m.values["a"] = 1.5
    m.migrad()
    assert m.nfit == 1
    assert m.ndof == 9
    assert m.values["a"] == 1.5
    assert m.errors["a"] == 0
    assert m.parameters == ("a", "b")  # the fixed one too
    assert m.covariance.shape == (2, 2)
    assert m.covariance["a", "a"] == m.covariance["a", "b"] == 0
    np.testing.assert_allclose(m.covariance["b", "b"], 0.01 / np.sum(X**2))
    np.testing.assert_allclose(m.values["b"], np.sum(X * (Y - 1.5)) / np.sum(X**2))
    m.fixed = False
    m.migrad()
    np.testing.assert_allclose(m.values, free, rtol=1e-6)
    assert m.fixto("b", 3) is m
    assert m.fixed == [False, True]
    assert m.params["b"].is_fixed
    assert m.params["b"].has_limits
    assert (m.params["b"].lower_limit, m.params["b"].upper_limit) == (0, 10)
    assert m.params["a"].upper_limit is None
    m.fixto(..., (1, 2))
    assert m.values == [1, 2]
    assert np.all(m.fixed)
    with pytest.raises(ValueError, match="no free parameter"):
        m.migrad()
    np.testing.assert_allclose(line.values, free)  # that was a copy


def two_minima(p, _):
    return p["x"] ** 4 - p["x"] ** 2 + 1


def test_other_starts_simplex_and_scan():
    m = mx.Minuit(two_minima, {"x": -0.1}, up=1.0)
    assert m.migrad().values["x"] == pytest.approx(-(0.5**0.5))
    m.values["x"] = 0.1
    assert m.migrad().values["x"] == pytest.approx(0.5**0.5)
    m.values["x"] = 10
    assert m.simplex().valid
    assert "Simplex" in repr(m.fmin)
    assert abs(m.values["x"]) == pytest.approx(0.5**0.5)
    assert abs(m.migrad().values[0]) == pytest.approx(0.5**0.5)
    fresh = mx.Minuit(two_minima, {"x": 10.0}, up=1.0)
    with pytest.raises(ValueError, match=re.escape("m.limits['x'] = (low, high)")):
        fresh.scan()
    fresh.limits = (-10, 10)
    other = iminuit.Minuit(lambda x: x**4 - x**2 + 1, x=10)
    other.limits = (-10, 10)
    assert fresh.scan(ncall=50).values["x"] == pytest.approx(other.scan(ncall=50).values["x"])
    assert fresh.fval == pytest.approx(other.fval)
    assert fresh.fmin.algorithm == "Scan"
    assert not fresh.valid
    assert abs(fresh.migrad().values["x"]) == pytest.approx(0.5**0.5)


def test_scan_of_several(fitted):
    m = new()
    m.limits = [(1, 7), (1, 7), (1, 9)]
    m.fixto("b[1]", 3)
    m.scan(ncall=49)
    axes = np.linspace(1, 7, 7), np.linspace(1, 9, 7)
    values = [[counts_nll({"s": s, "b": [b, 3.0]}, COUNTS) for s in axes[1]] for b in axes[0]]
    i, j = np.unravel_index(np.argmin(values), (7, 7))
    assert m.values == [axes[0][i], 3, axes[1][j]]
    assert m.fval == pytest.approx(np.min(values))
    after = copy.copy(fitted).scan(ncall=30)  # between one error where there is no limit
    assert np.all(np.abs(np.array(after.values)[:2] - fitted.values[:2]) <= np.array(fitted.errors)[:2] + 1e-9)
    m.fixed = True
    with pytest.raises(RuntimeError, match="all parameters are fixed"):
        m.scan()
    many = mx.Minuit(lambda p, _: jnp.sum(p**2), mx.Parameter(jnp.zeros(20), -1.0, 1.0))
    with pytest.raises(ValueError, match="fix some"):
        many.scan(10**7)
    with pytest.raises(ValueError, match="scan takes a whole number"):
        many.scan(-3)


def test_scan_never_goes_uphill():
    """The grid of iminuit's scan need not hold the start, and it goes to the grid all the same."""
    other = iminuit.Minuit(lambda x, y: x**2 + y**2, x=0.1, y=0.1)
    other.limits = (-10, 11)
    assert other.scan(ncall=50).fval == pytest.approx(0.5)
    m = mx.Minuit(lambda p, _: p["x"] ** 2 + p["y"] ** 2, {"x": 0.1, "y": 0.1}, up=1.0)
    m.limits = (-10, 11)
    m.scan(ncall=50)
    assert m.values == [0.1, 0.1]
    assert m.fval == pytest.approx(0.02)
    m.values = [9, 9]
    assert m.scan(ncall=50).fval == pytest.approx(0.5)  # else as iminuit's
    hole = mx.Minuit(lambda p, _: jnp.where(jnp.abs(p["x"]) < 0.5, p["x"] ** 2, jnp.nan), {"x": 0.2})
    hole.limits = (-10, 10)
    assert hole.scan(ncall=2).values["x"] == 0.2
    hole.values["x"] = 3.0
    with pytest.raises(RuntimeError, match="nor at the values of now"):
        hole.scan(ncall=2)


@pytest.mark.slow
def test_reduced_chi2_of_counts():
    """As iminuit has it for its binned cost functions: the deviance over the degrees of freedom."""
    from iminuit import cost

    edges, norm = np.linspace(-2.0, 2.0, 5), mx.distributions.Normal
    nll = mx.PoissonNLL(lambda p: p["s"] * jnp.exp(norm(p["mu"], 1.0).log_bin_integrals(edges)))
    m = mx.Minuit(nll, {"mu": 0.0, "s": 50.0}, COUNTS)
    cdf = lambda xe, mu, s: s * np.asarray(norm(mu, 1.0).cdf(xe))  # noqa: E731
    other = iminuit.Minuit(cost.ExtendedBinnedNLL(COUNTS, edges, cdf), mu=0.0, s=50.0).migrad()
    m.migrad()
    assert m.ndof == other.ndof == 2
    assert m.fmin.reduced_chi2 == pytest.approx(other.fmin.reduced_chi2, rel=1e-4)
    goodness = mx.goodness_of_fit(nll, m.result, COUNTS)
    assert m.fmin.reduced_chi2 == pytest.approx(float(goodness.chi2 / goodness.ndof))
    assert f"χ²/ndof = {m.fmin.reduced_chi2:.1f}" in repr(m)
    fitted, m.values["mu"] = m.fmin.reduced_chi2, 0.5
    assert m.hesse().fmin.reduced_chi2 > fitted + 1  # of the values of now
    m.fixto("mu", 0.0).migrad()
    other.fixed["mu"] = True
    other.values["mu"] = 0.0
    assert m.fmin.reduced_chi2 == pytest.approx(other.migrad().fmin.reduced_chi2, rel=1e-4)
    # a part without a saturated model; no model of the whole; and no degree of freedom
    robust = mx.LeastSquares(lambda p, x: p["s"] * x, loss="soft_l1") + nll
    for other_nll, data in (
        (mx.UnbinnedNLL(lambda p, x: norm(p["mu"], p["s"]).log_prob(x)), X),
        (robust, (mx.Points(X, 50 * X, 1.0), COUNTS)),
        (mx.PoissonNLL(lambda p: p["s"] * SIGNAL[:2] + p["mu"] * FIRST[:2]), COUNTS[:2]),
    ):
        assert np.isnan(mx.Minuit(other_nll, {"mu": 0.5, "s": 1.0}, data).hesse().fmin.reduced_chi2)


def test_errordef(fitted):
    m, other = copy.copy(fitted), theirs().migrad().minos("s")
    before = np.array(other.errors)
    m.errordef = mx.Minuit.LEAST_SQUARES
    assert m.errordef == 1.0
    np.testing.assert_allclose(m.errors, np.sqrt(2) * np.array(fitted.errors))
    np.testing.assert_allclose(m.covariance, 2 * fitted.covariance)
    # iminuit keeps errors that are those of the old errordef
    other.errordef = 1.0
    np.testing.assert_allclose(other.errors, np.sqrt(2) * before, rtol=0.01)
    assert other.merrors["s"].upper == pytest.approx(fitted.merrors["s"].upper, rel=2e-3)
    assert not m.merrors
    assert "MINOS" in type(m).errordef.__doc__
    m.minos("s")
    np.testing.assert_allclose(m.errors, np.sqrt(2) * np.array(fitted.errors), rtol=1e-6)
    assert m.merrors["s"].upper > 1.3 * fitted.merrors["s"].upper
    assert mx.Minuit(two_minima, {"x": 1.0}, up=mx.Minuit.LIKELIHOOD).errordef == 0.5
    for bad in (0, -1, np.inf):
        with pytest.raises(ValueError, match="must be positive"):
            m.errordef = bad


def test_a_function_without_minimum():
    m = mx.Minuit(lambda p, _: 0.0 * p["x"], {"x": 1.0}).migrad()  # the tutorial's m_bad
    assert not m.valid
    assert not m.accurate
    assert m.covariance is None
    assert m.fmin.hesse_failed
    assert "Along x" in m.fmin.message
    assert m.fmin.message in repr(m).replace("\n", " ")
    assert np.isnan(m.errors["x"])
    for run in (m.minos, lambda: m.mncontour("x", "x"), m.draw_mnmatrix):
        with pytest.raises((RuntimeError, ValueError), match=r"valid minimum|different"):
            run()


def test_a_step_limit_and_nan():
    m = new()
    assert not m.migrad(ncall=1).valid
    assert m.fmin.has_reached_call_limit
    m.data = np.array([8.0, np.nan, 12.0, 9.0])
    assert not m.migrad().valid
    assert "data[1] is not finite" in m.fmin.message
    with pytest.raises(RuntimeError, match=r"data\[1\] is not finite"):
        m.minos()
    with pytest.raises(ValueError, match="ncall"):
        m.migrad(ncall=0)


# --- views, which are array-like


KEYS = [0, -1, "s", ..., [0, 2], [True, False, True], [], np.int64(1)]
KEYS += [slice(None), slice(1, None), slice(None, None, -1)]


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("name", ["values", "errors", "limits", "fixed"])
def test_views_are_read_as_iminuits(fitted, peer, name, key):
    ours, reference = getattr(fitted, name)[key], getattr(peer, name)[key]
    assert type(ours) is type(reference)
    np.testing.assert_allclose(ours, reference, rtol=5e-3)


def test_names_of_vectors_and_slices(fitted):
    values = list(fitted.values)
    assert fitted.values["b"] == values[:2]
    assert fitted.values["b[1]"] == values[1]
    assert fitted.values["b[1]":] == values[1:]
    assert fitted.values["b[0]":"s"] == values[:2]  # the end is not part of it
    assert fitted.values[["s", "b"]] == [values[2], *values[:2]]
    assert fitted.values[lambda p: p["s"]] == values[2]
    assert fitted.values[lambda p: p["b"]] == values[:2]
    assert fitted.values.to_dict() == dict(zip(("b[0]", "b[1]", "s"), values, strict=True))
    assert [*fitted.values] == values
    assert len(fitted.values) == 3
    np.testing.assert_array_equal(np.asarray(fitted.values), values)
    assert np.asarray(fitted.limits).shape == (3, 2)
    assert fitted.values == tuple(values)
    assert fitted.values != [1, 2, 3]
    assert fitted.values != [1, 2]
    assert fitted.fixed == False  # noqa: E712
    assert ~fitted.fixed == [True, True, True]
    assert repr(fitted.fixed) == "<FixedView b[0]=False b[1]=False s=False>"
    assert repr(fitted.values).startswith("<ValueView b[0]=")


ASSIGNMENTS = {
    "one value": lambda m: m.values.__setitem__(0, 2),
    "all values": lambda m: setattr(m, "values", (1, 2, 3.5)),
    "one value for all": lambda m: m.values.__setitem__(slice(1, None), 2.5),
    "an array": lambda m: m.values.__setitem__([0, 2], np.array([1.0, 2.0])),
    "another view": lambda m: setattr(m, "values", copy.copy(m).values),
    "a mask": lambda m: m.values.__setitem__([False, True, True], [4, 5]),
    "fixed": lambda m: m.fixed.__setitem__("s", True),
    "all fixed": lambda m: setattr(m, "fixed", True),
    "fixed each": lambda m: setattr(m, "fixed", [True, False, True]),
    "fixed and released": lambda m: (setattr(m, "fixed", True), m.fixed.__setitem__(0, False)),
    "an upper limit": lambda m: m.limits.__setitem__("s", (None, 10)),
    "no limit": lambda m: m.limits.__setitem__(0, None),
    "no limit for all": lambda m: setattr(m, "limits", (None, None)),
    "limits each": lambda m: setattr(m, "limits", [(0, None), None, (-np.inf, 7)]),
    "limits for all": lambda m: setattr(m, "limits", (1, 7)),
    "limits of an array": lambda m: setattr(m, "limits", np.array([[0.0, 5], [0, 6], [0, 7]])),
    "limits that move the value": lambda m: m.limits.__setitem__(slice(None, 2), (3.5, 9)),
    "limits from above": lambda m: m.limits.__setitem__("s", (0, 2)),
    "fixto": lambda m: m.fixto("s", 3),
    "fixto several": lambda m: m.fixto([0, 1], (1, 2)),
    "fixto at one value": lambda m: m.fixto(slice(None), 2),
}


@pytest.mark.parametrize("what", ASSIGNMENTS)
def test_views_are_set_as_iminuits(what):
    ours, reference = new(), theirs()
    before = [list(view) for view in (ours.values, ours.fixed, ours.limits)]
    for m in (ours, reference):
        ASSIGNMENTS[what](m)
    assert list(ours.values) == list(reference.values)
    assert list(ours.fixed) == list(reference.fixed)
    assert list(ours.limits) == list(reference.limits)
    changed = before != [list(view) for view in (ours.values, ours.fixed, ours.limits)]
    assert changed == (what != "another view")
    values, limits = ours.params_tree["s"].value, (ours.params_tree["s"].lower, ours.params_tree["s"].upper)
    assert float(values) == reference.values["s"]
    assert [(float(x) if x is not None else s * np.inf) for s, x in zip((-1, 1), limits, strict=True)] == [
        *reference.limits["s"]
    ]


def test_vectors_are_set():
    m = new(c=mx.Parameter(jnp.ones((2, 3))))
    m.values["c"] = np.arange(6.0).reshape(2, 3)
    assert m.values["c"] == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(m.params_tree["c"].value, np.arange(6.0).reshape(2, 3))
    m.limits["c"] = (0, 9)
    assert m.limits["c[1,2]"] == (0, 9)
    m.fixed["c[0,1]"] = True
    assert m.params_tree["c"].fixed == (False, True, False, False, False, False)
    m.fixed["c"] = True
    assert m.params_tree["c"].fixed is True
    assert mx.names(m.params_tree) == ("b[0]", "b[1]", "s")


BAD = {
    "a name": (lambda m: m.values["ss"], ValueError, "there is no parameter 'ss'; did you mean 's'"),
    "a name to be set": (lambda m: m.limits.__setitem__("S", None), ValueError, "did you mean 's'"),
    "a name in a list": (lambda m: m.fixed[["s", "x"]], ValueError, "there is no parameter 'x'"),
    "a position": (lambda m: m.values[3], IndexError, "there are 3 parameters"),
    "a number as key": (lambda m: m.values[1.5], TypeError, "by its name or its position"),
    "a short mask": (lambda m: m.values[[True, False]], IndexError, "a mask needs 3 booleans"),
    "too few values": (lambda m: setattr(m, "values", (1, 2)), ValueError, "2 entries for 3 parameters: b"),
    "values for one": (lambda m: m.values.__setitem__("s", [1, 2]), TypeError, "'s' takes a number"),
    "a word": (lambda m: m.values.__setitem__("s", "3"), TypeError, "'s' takes a number"),
    "none": (lambda m: m.values.__setitem__("s", None), TypeError, "'s' takes a number"),
    "a truth value": (lambda m: m.values.__setitem__("s", True), TypeError, "'s' takes a number"),
    "a complex number": (lambda m: m.values.__setitem__("s", 1j), TypeError, "'s' takes a number"),
    "nan": (lambda m: m.values.__setitem__("s", np.nan), ValueError, "'s' must be finite"),
    "outside": (lambda m: m.values.__setitem__("s", 51), ValueError, "'s' cannot be 51: its limits are 0 and 50"),
    "fixed outside": (lambda m: m.fixto("s", -1), ValueError, "its limits are 0 and 50"),
    "half outside": (lambda m: setattr(m, "values", (1, 2, 51)), ValueError, "'s' cannot be 51"),
    "crossed limits": (lambda m: m.limits.__setitem__("s", (3, 1)), ValueError, "must be below the upper one"),
    "equal limits": (lambda m: m.limits.__setitem__("s", (3, 3)), ValueError, re.escape("m.fixto('s', 3)")),
    "one limit": (lambda m: m.limits.__setitem__("s", 3), ValueError, "None or two numbers"),
    "three limits": (lambda m: m.limits.__setitem__("s", (1, 2, 3)), ValueError, "None or two numbers"),
    "limits that are words": (lambda m: m.limits.__setitem__("s", ("a", "b")), TypeError, "takes a number"),
    "limits that are nan": (lambda m: m.limits.__setitem__("s", (np.nan, 1)), ValueError, "None is for no limit"),
    "too many limits": (lambda m: setattr(m, "limits", [(0, 1)] * 4), ValueError, "4 entries for 3"),
    "fixed by a number": (lambda m: m.fixed.__setitem__("s", 1), TypeError, "give True or False"),
    "inverted values": (lambda m: ~m.values, TypeError, "~ is for fixed"),
    "a step size": (lambda m: m.errors.__setitem__("s", 1), TypeError, "double as step sizes"),
    "step sizes": (lambda m: setattr(m, "errors", 1), AttributeError, "double as step sizes"),
    "a new attribute": (lambda m: setattr(m, "value", 1), AttributeError, "no attribute 'value'"),
    "minos of a name": (lambda m: m.minos("t"), ValueError, "there is no parameter 't'"),
    "merrors": (lambda m: m.merrors["s"], KeyError, "no MINOS errors of 's'"),
    "params": (lambda m: m.params["t"], ValueError, "there is no parameter 't'"),
    "profile of a vector": (lambda m: m.profile("b"), ValueError, re.escape("takes one parameter, 'b' are b[0], b[1]")),
    "profile without errors": (lambda m: m.profile("s"), ValueError, "has no error"),
    "mnprofile outside": (lambda m: m.mnprofile("s", bound=(-1, 3)), ValueError, "-1 is outside of the limits"),
    "a grid outside": (lambda m: m.profile("s", grid=[1.0, 60.0]), ValueError, "60 is outside of the limits"),
    "a grid of two axes": (lambda m: m.profile("s", grid=[[1.0]]), ValueError, "one axis"),
    "no points": (lambda m: m.profile("s", bound=(1, 2), size=0), ValueError, "whole number of points"),
    "a crossed bound": (lambda m: m.profile("s", bound=(2, 1)), ValueError, "low and high"),
    "a negative bound": (lambda m: m.profile("s", bound=-1), ValueError, "positive number of errors"),
    "contour of one": (lambda m: m.contour("s", -1), ValueError, "'s' twice"),
    "data that are parameters": (lambda m: setattr(m, "data", m.params_tree), TypeError, "data holds an mx.Parameter"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(what):
    m = new()
    before = (list(m.values), list(m.fixed), list(m.limits))
    act, error, words = BAD[what]
    with pytest.raises(error, match=words):
        act(m)
    assert (list(m.values), list(m.fixed), list(m.limits)) == before


def test_bad_problems():
    for arguments, error, words in (
        ((counts_nll, {}, COUNTS), ValueError, "holds no parameter"),
        ((counts_nll, {"s": 1}, COUNTS), ValueError, "holds no parameter"),
        ((None, {"s": 1.0}, COUNTS), TypeError, "must be callable"),
        ((lambda p: 0.0, {"s": 1.0}, COUNTS), TypeError, "must be callable as nll"),
        ((counts_nll, {"s": mx.Parameter(3.0, upper=2.0)}, COUNTS), ValueError, "outside its bounds"),
    ):
        with pytest.raises(error, match=words):
            mx.Minuit(*arguments)
    with pytest.raises(ValueError, match="up must be positive"):
        mx.Minuit(counts_nll, {"s": 1.0}, COUNTS, up=0)


def bowl(a, b):
    return (a - 1) ** 2 + (b - 2) ** 2


def line_of_one(par):
    return jnp.sum((par - jnp.array([1.0, 2.0])) ** 2)


def one(a):
    return (a - 1) ** 2


def of_tree(p, data):
    return (p["a"] - 1) ** 2 + (p["b"] - 2) ** 2


WRAPPED = "mx.Minuit(lambda p, data: bowl(p['a'], p['b']), {'a': 0.0, 'b': 0.0})"
AS_IMINUITS = {
    "positions": ((bowl, 0.0, 0.0), {}, WRAPPED),
    "integers": ((bowl, 0, 0), {}, WRAPPED),
    "names": ((bowl,), {"a": 0.0, "b": 0}, WRAPPED),
    "names in another order": ((bowl,), {"b": 0.0, "a": 0.0}, "mx.Minuit(lambda p, data: bowl(p['a'], p['b']), {'b'"),
    "one name": ((one,), {"a": 0.0}, "mx.Minuit(lambda p, data: one(p['a']), {'a': 0.0})"),
    "other names": (
        (bowl, 0.0, 0.0),
        {"name": ("x", "y")},
        "mx.Minuit(lambda p, data: bowl(p['x'], p['y']), {'x': 0.0, 'y': 0.0})",
    ),
    "an array": (
        (line_of_one, np.zeros(2)),
        {"name": ("a", "b")},
        "mx.Minuit(lambda p, data: line_of_one(jnp.stack([p['a'], p['b']])), {'a': 0.0, 'b': 0.0})",
    ),
    "three": (
        (lambda *x: sum((y - 1) ** 2 for y in x), 0.0, 0.0, 0.0),
        {},
        "mx.Minuit(lambda p, data: nll(p['x0'], p['x1'], p['x2']), {'x0': 0.0, 'x1': 0.0, 'x2': 0.0})",
    ),
    "names of a tree": ((of_tree,), {"a": 0.0, "b": 0.0}, "mx.Minuit(of_tree, {'a': 0.0, 'b': 0.0})"),
    "limits": (
        (of_tree, {"a": 0.0, "b": 0.0}, COUNTS),
        {"limits": {"a": (0, 3)}},
        "mx.Minuit(of_tree, {'a': 0.0, 'b': 0.0}, data)",
    ),
    "limits in order": ((bowl, 0.0, 0.0), {"limits": [(0, 3), None]}, WRAPPED),
}


@pytest.mark.parametrize("case", AS_IMINUITS)
def test_calls_as_iminuits_say_how_they_are_written_here(case):
    given, named, example = AS_IMINUITS[case]
    with pytest.raises(TypeError, match=r"takes \(nll, params, data\): one tree of starts") as caught:
        mx.Minuit(*given, **named)
    message = str(caught.value)
    assert example in message
    code = re.search(r"Write (mx\.Minuit\(.*?\}(?:, data)?\))", message)[1]
    names = {"bowl": bowl, "one": one, "line_of_one": line_of_one, "of_tree": of_tree, "nll": given[0]}
    m = eval(code, {"mx": mx, "jnp": jnp, "data": COUNTS, **names})
    for setting in re.findall(r"m\.limits\['\w'\] = (?:\(.*?\)|None)", message):
        exec(setting, {"m": m})
    assert m.migrad().valid
    np.testing.assert_allclose([m.values[0], m.values[-1]], [1, 1 if case in ("three", "one name") else 2])
    assert (m.limits[0] == (0, 3)) == case.startswith("limits")


def test_two_numbers_may_be_a_start_and_data():
    def nll(x, measured):
        return 0.5 * (x - measured) ** 2

    with pytest.raises(TypeError, match=re.escape("mx.Minuit(nll, mx.Parameter(0.0), 3.0)")):
        mx.Minuit(nll, 0.0, 3.0)
    assert mx.Minuit(nll, mx.Parameter(0.0), 3.0).migrad().values == [pytest.approx(3.0)]
    assert mx.Minuit(nll, 0.0, np.array(3.0)).migrad().values == [pytest.approx(3.0)]


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("errordef", 1.0, "write up=1.0"),
        ("print_level", 1, "mx.Minuit has no print_level: a fit is one compiled program"),
        ("grad", True, "mx.Minuit has no grad: derivatives are exact"),
        ("dat", COUNTS, "no argument 'dat': it takes nll, params, data and up; did you mean 'data'?"),
        ("limit_a", (0, 1), "no argument 'limit_a': it takes .* Limits are set later: m.limits"),
    ],
)
def test_keywords_that_are_not_there(keyword, value, words):
    for call in (lambda **k: mx.Minuit(of_tree, {"a": 0.0}, **k), lambda **k: mx.Minuit(bowl, a=0.0, b=0.0, **k)):
        with pytest.raises(TypeError, match=words):
            call(**{keyword: value})


def test_the_signature_is_seen():
    assert list(inspect.signature(mx.Minuit).parameters) == ["nll", "params", "data", "up"]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'params'"):
        mx.Minuit(of_tree)


def test_cost_functions_of_iminuit_name_their_counterparts():
    from iminuit import cost

    least = cost.LeastSquares(X, Y, 0.1, lambda x, a, b: a + b * x)
    for given, named in (((), {"a": 0.0, "b": 0.0}), ((0.0, 0.0), {}), (({"a": 0.0, "b": 0.0},), {})):
        with pytest.raises(TypeError, match=r"iminuit\.cost\.LeastSquares computes with NumPy") as caught:
            mx.Minuit(least, *given, **named)
        code = re.search(r"Write (.*), where model\(params, x\)", str(caught.value))[1]
        m = eval(code, {"mx": mx, "x": X, "y": Y, "yerr": 0.1, "model": lambda p, x: p["a"] + p["b"] * x}).migrad()
        np.testing.assert_allclose(m.values, iminuit.Minuit(least, 0, 0).migrad().values, rtol=1e-5)
    pdf, edges = (lambda x, mu: x * mu), np.linspace(0, 1, 5)
    others = {
        "mx.UnbinnedNLL(log_prob)": cost.UnbinnedNLL(X, pdf),
        "mx.ExtendedUnbinnedNLL(log_density, total)": cost.ExtendedUnbinnedNLL(X, lambda x, mu: (mu, x * mu)),
        "mx.BinnedNLL(log_expected=log_expected)": cost.BinnedNLL(COUNTS, edges, pdf),
        "mx.PoissonNLL(expected)": cost.ExtendedBinnedNLL(COUNTS, edges, pdf),
        "mx.TemplateNLL({'x0'": cost.Template(COUNTS, edges, (COUNTS, COUNTS)),
        "mx.NormalConstraint('x', error)": cost.NormalConstraint("mu", 1.0, 0.1),
        "mx.UnbinnedNLL(log_prob) + mx.": cost.UnbinnedNLL(X, pdf) + cost.NormalConstraint("mu", 1.0, 0.1),
        "a function nll(params, data)": cost.Constant(1.0),
    }
    for words, nll in others.items():
        with pytest.raises(TypeError, match=re.escape(words)):
            mx.Minuit(nll, {"mu": 1.0})


REFUSED = ["tol", "strategy", "precision", "print_level", "throw_nan", "scipy", "interactive"]
REFUSED += ["fcn", "grad", "g2", "hessian", "ng2"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name):
    m = new()
    assert hasattr(iminuit.Minuit, name)
    assert not hasattr(m, name)
    with pytest.raises(AttributeError, match=f"mx.Minuit has no {name}: .{{20}}"):
        getattr(m, name)
    with pytest.raises(AttributeError, match=f"mx.Minuit has no {name}: .{{20}}"):
        setattr(m, name, 1)


def test_all_of_iminuit_is_there_or_refused():
    there = {name for name in dir(iminuit.Minuit) if not name.startswith("_")}
    assert there - set(dir(mx.Minuit)) == set()


# --- what is remembered


def test_reset_goes_back_to_what_was_set_before_the_first_fit():
    for m in (new(), theirs()):
        m.values[0] = 2.0
        m.limits["s"] = (1, 40)
        assert m.init_params[0].value == 2.0
        m.migrad()
        m.fixed[1] = True
        m.limits["s"] = None
        assert m.init_params["s"].lower_limit == 1
        assert m.reset() is m
        assert m.values == [2, 3, 4]
        assert m.limits[2] == (1, 40)
        assert not np.any(m.fixed)
        assert m.fmin is None
        assert m.covariance is None
        assert (m.fval, m.valid, m.accurate, len(m.merrors)) == (None, False, False, 0)
        assert m.nfcn == m.ngrad == 0
        m.values[1] = 1.5  # and so once more
        assert m.init_params[1].value == 1.5
    ours = new()
    assert ours.result is None
    assert np.all(np.isnan(ours.errors))
    assert ours.init_params["b[1]"].value == 3.0


def test_copies_are_independent(fitted):
    for m in (copy.copy(fitted), copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert m.values == fitted.values
        assert m.merrors == fitted.merrors
        assert m.result.names == fitted.result.names
        value = fitted.values["s"]
        m.values["s"] = 1.0
        m.merrors.clear()
        assert fitted.values["s"] == value
        assert len(fitted.merrors) == 3
        np.testing.assert_array_equal(m.migrad().params["s"].value, m.values["s"])
        np.testing.assert_allclose(m.values, fitted.values, rtol=1e-5)
    assert copy.deepcopy(fitted).nll is fitted.nll
    start = new()
    other = copy.copy(start)
    other.values["s"] = 9.0
    assert (start.init_params["s"].value, other.init_params["s"].value) == (4.0, 9.0)


def test_nothing_compiles_when_only_numbers_change(fitted):
    m = copy.copy(fitted)
    m.values["s"] = 5.0
    m.hesse()
    m.profile("s", size=5, bound=(1, 2))
    before = TRACES
    m.values = [2.0, 4, 3]
    m.limits = [(0.05, None), (0.02, None), (0.5, 40)]
    m.data = COUNTS + 1.0
    m.migrad().minos()
    m.values["b"] = 3
    m.hesse()
    m.profile("b[0]", size=5, bound=(2, 4))
    m.errordef = 1.0
    m.reset().migrad()
    assert before == TRACES
    m.limits["s"] = None  # that is structure
    m.migrad()
    assert before < TRACES


def test_new_data(fitted):
    m = copy.copy(fitted)
    m.data = 2 * COUNTS
    assert (m.valid, m.fmin, m.result, m.covariance, len(m.merrors)) == (False, None, None, None, 0)
    assert np.all(np.isnan(m.errors))
    assert m.values == fitted.values
    m.migrad()
    np.testing.assert_allclose(m.values, 2 * np.array(fitted.values), rtol=1e-6)
    np.testing.assert_allclose(m.errors, np.sqrt(2) * np.array(fitted.errors), rtol=1e-6)
    np.testing.assert_array_equal(m.data, 2 * COUNTS)
    np.testing.assert_array_equal(fitted.data, COUNTS)


def test_counts(fitted):
    m = new().migrad()
    stats = m.result.stats
    first = (m.nfcn, m.ngrad, m.nhessian)
    assert first == tuple(int(stats[f"num_{k}"]) for k in ("values", "gradients", "hessians"))
    assert first == (m.fmin.nfcn, m.fmin.ngrad, m.fmin.nhessian)
    assert m.nhess == m.nhessian > 0
    m.migrad()
    assert m.nhessian > first[2] > m.fmin.nhessian - 2
    before = m.ngrad, m.nfcn
    m.minos("s")
    assert m.ngrad > before[0]
    m.profile("s", size=5)
    assert m.nfcn == before[1] + 5


def test_any_tree(fitted):
    class Model(eqx.Module):
        background: mx.Parameter
        signal: mx.Parameter
        shape: jax.Array
        name: str = "search"

        def nll(self, counts):
            mu = self.signal * self.shape + self.background[0] * FIRST + self.background[1] * SECOND
            return jnp.sum(mu - counts * jnp.log(mu))

    background = mx.Parameter(jnp.array([3.0, 3.0]), lower=0.01, fixed=[False, True])
    m = mx.Minuit(Model.nll, Model(background, mx.Parameter(4.0), jnp.asarray(SIGNAL)), COUNTS)
    assert m.parameters == ("background[0]", "background[1]", "signal")
    assert m.fixed == [False, True, False]
    m.migrad()
    assert m.values["background[1]"] == 3.0
    assert m.result.names == ("background[0]", "signal")
    assert np.all(m.covariance[1] == 0)
    np.testing.assert_allclose(m.covariance[[0, 2]], m.result.covariance.matrix)
    tree = m.params_tree
    assert isinstance(tree, Model)
    assert tree.name == "search"
    assert tree.background.fixed == (False, True)
    np.testing.assert_array_equal(mx.resolve(tree).signal, m.values["signal"])
    m.fixto("signal", 4.0)
    m.fixed["background"] = False
    m.migrad()
    assert m.result.names == ("background[0]", "background[1]")
    bare = mx.Minuit(lambda p, x: jnp.sum((p - x) ** 2), jnp.zeros(2), jnp.array([1.0, 2.0]), up=1.0).migrad()
    assert bare.parameters == ("x[0]", "x[1]")
    np.testing.assert_allclose(bare.values, [1, 2])
    np.testing.assert_allclose(bare.errors, [1, 1])


def test_covariance_by_names(fitted):
    cov = fitted.covariance
    plain = np.asarray(fitted.result.covariance.matrix)
    np.testing.assert_array_equal(cov, plain)
    assert cov["b[1]", "s"] == cov[1, 2] == plain[1, 2]
    np.testing.assert_array_equal(cov["s"], plain[2])
    np.testing.assert_array_equal(cov["b", "b"], plain[:2, :2])
    np.testing.assert_array_equal(cov["b", "s"], plain[:2, 2])
    block = cov[["s", "b[0]"]]
    assert block.names == ("s", "b[0]")
    assert block["b[0]", "s"] == plain[0, 2]
    np.testing.assert_array_equal(block, plain[np.ix_([2, 0], [2, 0])])
    assert cov[:2].names == ("b[0]", "b[1]")
    assert cov["b[1]":].names == ("b[1]", "s")
    assert (2 * cov)["s", "s"] == 2 * plain[2, 2]
    assert not hasattr(cov[np.ix_([2, 0, 1], [2, 0, 1])], "names")  # they would be wrong
    np.testing.assert_allclose(cov.correlation(), plain / np.outer(fitted.errors, fitted.errors))
    assert cov.to_dict()["b[0]", "s"] == plain[0, 2]
    assert len(cov.to_dict()) == 6
    assert pickle.loads(pickle.dumps(cov))["s", "s"] == plain[2, 2]
    with pytest.raises(ValueError, match="there is no parameter 'S'; did you mean 's'"):
        cov["S", "s"]
    changed = cov.copy()
    changed[0, 0] = 7.0
    assert fitted.covariance[0, 0] == plain[0, 0]


# --- without a minimum at hand


def test_hesse_anywhere(fitted):
    m = new()
    m.hesse()
    expected_covariance = mx.hesse(counts_nll, m.params_tree, COUNTS)
    np.testing.assert_allclose(m.covariance, expected_covariance.matrix)
    np.testing.assert_allclose(m.errors, expected_covariance.errors)
    assert m.values == [3, 3, 4]
    assert m.accurate
    assert not m.valid
    assert m.fval == pytest.approx(float(counts_nll({"b": jnp.array([3.0, 3.0]), "s": 4.0}, COUNTS)))
    below = m.fval - fitted.fval
    assert 0.5 * below < m.fmin.edm < 2 * below
    assert "call migrad()" in m.fmin.message
    with pytest.raises(RuntimeError, match=r"minos needs a valid minimum.*call migrad\(\)"):
        m.minos()
    with pytest.raises(RuntimeError, match="mncontour needs a valid minimum"):
        m.mncontour("s", "b[0]")
    external = new()  # a minimum that something else has found
    external.values = fitted.values
    external.minos("s")
    assert external.valid
    np.testing.assert_allclose(external.merrors["s"].upper, fitted.merrors["s"].upper, rtol=1e-5)
    np.testing.assert_allclose(external.values, fitted.values, rtol=1e-6)
    done = copy.copy(fitted)
    assert done.hesse() is done
    assert done.nhessian == fitted.nhessian  # there was nothing left to do
    assert done.merrors == fitted.merrors


def test_minos_after_a_change(fitted):
    m = copy.copy(fitted)
    m.fixed["b[0]"] = True  # the others are at their minimum still
    m.minos()
    assert list(m.merrors) == ["b[1]", "s"]
    assert m.merrors["s"].upper < 0.999 * fitted.merrors["s"].upper
    reference = theirs(values=fitted.values)
    reference.fixed["b0"] = True
    reference.migrad().minos("s")
    np.testing.assert_allclose(m.merrors["s"].upper, reference.merrors["s"].upper, rtol=2e-3)
    with pytest.warns(UserWarning, match=r"minos leaves out b\[0\]"):
        m.minos("b[0]", "s")
    m.values["s"] = 1.0
    assert list(m.migrad().merrors) == []  # those of another fit
    m.values["s"] = 1.0
    assert "Parameters were changed since" in repr(m)
    with pytest.raises(RuntimeError, match="the values are not at one"):
        m.minos()


def test_minos_at_a_limit():
    m = mx.Minuit(lambda p, n: p["s"] + 9.0 - n * jnp.log(p["s"] + 9.0), {"s": mx.Parameter(1.0, lower=0.0)}, 10.0)
    m.migrad().minos()
    assert m.merrors["s"].at_lower_limit
    assert m.merrors["s"].lower_valid
    assert not m.merrors["s"].at_upper_limit
    assert m.merrors["s"].lower == pytest.approx(-1.0)
    m.data = 5.0
    m.migrad()
    assert m.values["s"] == 0
    assert m.valid
    assert m.fmin.has_parameters_at_limit
    assert m.params["s"].is_at_limit
    assert m.errors["s"] == 0
    m.values["s"] = 0.0  # looked at anew, where the slope is not zero
    assert m.hesse().valid
    assert m.errors["s"] == 0
    x, _ = m.profile("s", bound=(0, 3))
    assert x[-1] == 3
    with pytest.raises(ValueError, match="give bound"):
        m.profile("s")


def test_a_deeper_minimum_is_adopted():
    def dip(p, _):  # a shallow minimum near 0, a deep one near 3
        return 0.5 * p["x"] ** 2 - 8.0 * jnp.exp(-0.5 * ((p["x"] - 3.0) / 0.5) ** 2)

    m = mx.Minuit(dip, {"x": 0.0}).migrad()
    assert abs(m.values["x"]) < 0.1
    with pytest.warns(UserWarning, match="lower minimum"):
        m.minos(cl=2)
    assert m.values["x"] == pytest.approx(2.9, abs=0.1)
    assert m.fval < -3
    assert m.merrors["x"].is_valid


@pytest.mark.slow
def test_looks_without_a_fit(fitted, peer):
    m, reference = new(), theirs()
    grid = [3.0, 5.0, 7.0]
    np.testing.assert_allclose(m.profile("s", grid=grid)[1], reference.profile("s", grid=grid)[1])
    x, y, good = m.mnprofile("s", grid=grid)
    np.testing.assert_allclose(y, reference.mnprofile("s", grid=grid)[1], atol=1e-5)
    np.testing.assert_allclose(y, fitted.mnprofile("s", grid=grid)[1], atol=1e-9)
    assert np.all(good)
    np.testing.assert_array_equal(x, grid)
    assert m.values == [3, 3, 4]
    assert m.fmin is None
    m.fixed["s"] = True  # along a fixed parameter too
    np.testing.assert_allclose(m.mnprofile("s", grid=grid)[1], y)
    np.testing.assert_allclose(m.migrad().mnprofile("s", grid=grid)[1], y, atol=1e-9)
    m.fixed = [True, True, False]
    np.testing.assert_allclose(m.mnprofile("s", grid=grid)[1], m.profile("s", grid=grid)[1])
    with pytest.raises(ValueError, match="'b\\[0\\]' is fixed: give bound"):
        m.profile("b[0]")


def test_profiles_and_values_have_the_same_zero():
    class WithConstant(AbstractLikelihood):
        def __call__(self, params, data):
            return self.varying(params, data) + self.constant(data)

        def varying(self, params, data):
            return 0.5 * jnp.sum((data - params["x"]) ** 2) + params["y"] ** 2

        def constant(self, data):
            return 100.0 * jnp.size(data)

    m = mx.Minuit(WithConstant(), {"x": 0.0, "y": 1.0}, jnp.array([1.0, 3.0])).migrad()
    assert m.fval == pytest.approx(201.0)
    for values in (m.profile("x", grid=[2.0, 3.0])[1], m.mnprofile("x", grid=[2.0, 3.0])[1]):
        np.testing.assert_allclose(values, [201.0, 202.0])
    m.values["y"] = 1.0
    assert m.profile("x", grid=[2.0])[1] == pytest.approx(202.0)
    assert m.hesse().fval == pytest.approx(202.0)
    np.testing.assert_allclose(m.mnprofile("x", grid=[2.0, 3.0])[1], [201.0, 202.0])


def test_failed_points_are_said():
    m = mx.Minuit(lambda p, _: p["x"] ** 2 - p["y"] * jnp.abs(p["x"]), {"x": 1.0, "y": 1.0})
    with pytest.warns(UserWarning, match="mnprofile: 2 of 2 fits along x failed"):
        _, y, good = m.mnprofile("x", grid=[1.0, 2.0])  # falls without limit along y
    assert not np.any(good)
    assert np.all(np.isnan(y))


def test_robust_errors_stay_robust():
    rng = np.random.default_rng(4)
    events = mx.Events(rng.normal(size=200), weight=rng.uniform(0.2, 3.0, 200))
    nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Normal(p["mu"], 1.0))
    m = mx.Minuit(nll, {"mu": 0.1}, events).migrad()
    assert "Sandwich Err" in repr(m)
    error = m.errors["mu"]
    np.testing.assert_allclose(error, m.result.errors[0])
    m.values["mu"] = m.values["mu"] + 0.0
    m.hesse()
    np.testing.assert_allclose(m.errors["mu"], error, rtol=1e-6)
    assert not np.isclose(mx.hesse(nll, m.params_tree, events).errors[0], error, rtol=0.01)


# --- not inside JAX's transformations


def test_not_inside_jit():
    m = new()
    for inside in (
        lambda x: m.migrad().fval,
        lambda x: m.values.__setitem__("s", x) or x,
        lambda x: new(s=mx.Parameter(x)).fval,
        lambda x: setattr(m, "data", x * COUNTS) or x,
        lambda x: m.profile("s", grid=x[None])[1],
    ):
        with pytest.raises(TypeError, match=r"mx.Minuit keeps its numbers outside of JAX.*mx.fit"):
            jax.jit(inside)(4.0)
    with pytest.raises(TypeError, match="keeps its numbers outside"):
        jax.vmap(lambda n: new(s=mx.Parameter(n)).values["s"])(jnp.ones(2))
    with pytest.raises(TypeError, match="keeps its numbers outside"):
        jax.grad(lambda n: mx.Minuit(lambda p, _: (p["x"] - n) ** 2, {"x": 1.0}).migrad().fval)(1.0)
    assert m.values == [3, 3, 4]


# --- pictures


@pytest.fixture
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_draw_profiles(fitted, plt):
    for name, size in (("draw_mnprofile", 30), ("draw_profile", 100)):
        _, ax = plt.subplots()  # the current axes, as in iminuit
        x, y = getattr(fitted, name)("s")
        curve, value = ax.get_lines()
        assert len(x) == size
        np.testing.assert_array_equal(curve.get_xdata(), x)
        np.testing.assert_array_equal(curve.get_ydata(), y)
        assert np.min(y) == 0
        np.testing.assert_allclose(value.get_xdata(), fitted.values["s"])
        (band,) = ax.patches
        errors = fitted.merrors["s"]
        ends = [band.get_x(), band.get_x() + band.get_width()]
        np.testing.assert_allclose(ends, fitted.values["s"] + np.array([errors.lower, errors.upper]))
        assert ax.get_title() == f"s = {fitted.values['s']:.3g} - {-errors.lower:.3g} + {errors.upper:.3g}"
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("s", "FCN")
    given = plt.figure().subplots()
    plt.figure()
    m = copy.copy(fitted)
    m.merrors.clear()
    m.draw_profile("s", ax=given, size=5)
    (band,) = given.patches
    assert band.get_width() == pytest.approx(2 * m.errors["s"])
    other = plt.figure().subplots()
    m.draw_profile("s", ax=other, band=False, text=False, subtract_min=False)
    assert not other.patches
    assert other.get_title() == ""
    assert np.min(other.get_lines()[0].get_ydata()) == pytest.approx(m.fval, abs=0.01)


def test_draw_contours(fitted, plt):
    _, ax = plt.subplots()
    _, _, z = fitted.draw_contour("b[0]", "s", size=(20, 15))
    assert z.shape == (20, 15)
    (drawn,) = ax.collections
    np.testing.assert_allclose(drawn.levels, [0.5, 1.0, 1.5, 2.0])
    vertical, horizontal = ax.get_lines()
    assert vertical.get_xdata()[0] == fitted.values["b[0]"]
    assert horizontal.get_ydata()[0] == fitted.values["s"]
    # on a line of the contour the function has risen by its level: x and y are not mixed up
    point = drawn.get_paths()[0].vertices[7]
    m = copy.copy(fitted)
    m.values["b[0]"], m.values["s"] = point
    rise = m.hesse().fval - fitted.fval
    assert rise == pytest.approx(0.5, abs=0.05)

    ax = plt.figure().subplots()
    plt.figure()
    lines = fitted.draw_mncontour("b[0]", "s", cl=(0.68, 1.5), ax=ax)
    assert [line.get_label() for line in lines] == ["68 %", r"1.5 $\sigma$"]
    assert ax.get_lines()[:] == lines
    for line, cl in zip(lines, (0.68, 1.5), strict=True):
        np.testing.assert_allclose(np.transpose(line.get_data()), fitted.mncontour("b[0]", "s", cl=cl), rtol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("b[0]", "s")
    assert len(ax.get_legend().get_texts()) == 2
    with pytest.raises(ValueError, match="draw_mncontour takes several"):
        fitted.mncontour("b[0]", "s", cl=[0.68, 0.9])
    m = copy.copy(fitted)
    m.fixed["s"] = True
    with pytest.raises(ValueError, match="s is fixed"):
        m.draw_mncontour("s", "b[0]")


def test_draw_mnmatrix(fitted, plt):
    m = copy.copy(fitted)
    fig, axes = m.draw_mnmatrix(cl=[1, 0.9], figsize=(5, 5))
    assert axes.shape == (3, 3)
    assert tuple(fig.get_size_inches()) == (5, 5)
    assert np.array_equal([[ax.get_visible() for ax in row] for row in axes], np.tri(3))
    for k, name in enumerate(m.parameters):
        *levels, curve = axes[k, k].get_lines()
        np.testing.assert_allclose([line.get_ydata()[0] for line in levels], [1.0, 2.705543], rtol=1e-6)
        x, y = curve.get_data()
        np.testing.assert_allclose(y / 2, m.mnprofile(name, grid=x)[1] - m.fval, atol=1e-7)
        assert 2.7 < min(y[0], y[-1]) < max(y[0], y[-1]) < 6
        assert axes[2, k].get_xlabel() == name
        assert axes[2, k].get_xlim() == axes[k, k].get_xlim()
    *regions, cross = axes[2, 1].get_lines()
    for line, cl in zip(regions, (1, 0.9), strict=True):
        np.testing.assert_allclose(np.transpose(line.get_data()), m.mncontour("b[1]", "s", cl=cl), rtol=1e-6)
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (m.values["b[1]"], m.values["s"])
    assert axes[2, 0].get_ylim() == axes[2, 1].get_ylim()
    with pytest.raises(ValueError, match="no level"):
        m.draw_mnmatrix(cl=[])


def test_visualize(line, plt):
    _, ax = plt.subplots()
    assert line.visualize() is ax
    (bars,) = ax.containers
    np.testing.assert_allclose(bars.lines[0].get_xydata(), np.transpose([X, Y]))
    curve = ax.get_lines()[-1]
    np.testing.assert_allclose(curve.get_ydata(), line.values["a"] + line.values["b"] * curve.get_xdata())
    histogram = mx.Minuit(mx.PoissonNLL(lambda p: p["s"] * SIGNAL + 3.0), {"s": 4.0}, COUNTS)
    ax = histogram.visualize(ax=plt.figure().subplots())
    (steps,) = ax.patches
    np.testing.assert_allclose(steps.get_data().values, 4.0 * SIGNAL + 3.0)
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata(), COUNTS)
    with pytest.raises(AttributeError, match="not for function"):
        new().visualize()


# --- tables and documentation


def test_tables(fitted, line):
    text = repr(fitted)
    for part in (repr(fitted.fmin), repr(fitted.params), repr(fitted.merrors)):
        assert part in text
    assert repr(fitted.result) == text.replace(repr(fitted.merrors) + "\n", "")
    assert "χ²/ndof = 0.5" in repr(line)
    html = fitted._repr_html_()
    for part in (fitted.fmin, fitted.params, fitted.merrors, fitted.covariance):
        assert part._repr_html_() in html
    assert repr(new()) == repr(new().params) == repr(new().init_params)
    assert new()._repr_html_().count("<table>") == 1
    assert repr(fitted.covariance.correlation()) in text
    assert repr(fitted.covariance) == repr(fitted.result.covariance)
    m = copy.copy(fitted)
    m.values["s"] = 3.0
    assert "changed since" in m._repr_html_()
    m.fixed["s"] = True
    m.migrad()
    assert "changed since" not in repr(m)
    assert "yes" in repr(m)


@pytest.mark.slow
def test_values_of_iminuits_cost_functions():
    """The table of docs/iminuit.md."""
    from iminuit import cost

    edges = np.linspace(-2.0, 2.0, 5)
    norm = mx.distributions.Normal
    x = np.array([0.3, -1.0, 1.5, 0.5])
    n, a, b = COUNTS, np.array([3.0, 50, 40, 5]), np.array([20.0, 22, 19, 21])
    cdf = lambda xe, mu: np.asarray(norm(mu, 1.0).cdf(xe))  # noqa: E731
    within = lambda xe, mu: (cdf(xe, mu) - cdf(-2.0, mu)) / (cdf(2.0, mu) - cdf(-2.0, mu))  # noqa: E731
    pdf = lambda x, mu: np.exp(np.asarray(norm(mu, 1.0).log_prob(x)))  # noqa: E731
    truncated = lambda p: norm(p["mu"], 1.0).log_bin_integrals(edges)  # noqa: E731
    log_density = lambda p, x: jnp.log(p["s"]) + norm(p["mu"], 1.0).log_prob(x)  # noqa: E731
    curve = lambda x, mu: mu * x  # noqa: E731
    pairs = [
        (cost.LeastSquares(x, n, 0.5, curve), mx.LeastSquares(lambda p, x: p["mu"] * x), mx.Points(x, n, 0.5)),
        (
            cost.LeastSquares(x, n, 0.5, curve, loss="soft_l1"),
            mx.LeastSquares(lambda p, x: p["mu"] * x, loss="soft_l1"),
            mx.Points(x, n, 0.5),
        ),
        (cost.UnbinnedNLL(x, pdf), mx.UnbinnedNLL(lambda p, x: norm(p["mu"], 1.0).log_prob(x)), x),
        (
            cost.ExtendedUnbinnedNLL(x, lambda x, mu, s: (s, s * pdf(x, mu))),
            mx.ExtendedUnbinnedNLL(log_density, lambda p: p["s"]),
            x,
        ),
        (cost.BinnedNLL(n, edges, within), mx.BinnedNLL(log_expected=truncated), n),
        (
            cost.ExtendedBinnedNLL(n, edges, lambda xe, mu, s: s * cdf(xe, mu)),
            mx.PoissonNLL(log_expected=lambda p: jnp.log(p["s"]) + truncated(p)),
            n,
        ),
        (cost.NormalConstraint("mu", 1.0, 0.1), mx.NormalConstraint("mu", 0.1), 1.0),
        (
            cost.NormalConstraint("mu", 1.0, 0.1) + cost.UnbinnedNLL(x, pdf),
            mx.NormalConstraint("mu", 0.1) + mx.UnbinnedNLL(lambda p, x: norm(p["mu"], 1.0).log_prob(x)),
            (1.0, x),
        ),
    ]
    pairs += [
        (
            cost.Template(n, edges, (a, b), name=("s", "mu"), method=method),
            mx.TemplateNLL({"s": a, "mu": b}, method=method),
            n,
        )
        for method in ("da", "jsc", "asy")
    ]
    for peer, ours, data in pairs:
        change = []
        for mu in (0.4, 2.0):
            p = {"mu": jnp.asarray(mu), "s": jnp.asarray(60.0)}
            names = iminuit.describe(peer)
            value = peer(*(float(p[name]) for name in names)) / peer.errordef
            change.append((value, 2 * float(ours(p, jax.tree.map(jnp.asarray, data)))))
        before, after = change
        assert abs(after[0] - before[0]) > 0.1
        np.testing.assert_allclose(after[1] - before[1], after[0] - before[0], rtol=1e-6, err_msg=repr(peer))


def test_the_docstring_and_the_page_run():
    code = re.findall(r"```python\n(.*?)```", mx.Minuit.__doc__, re.DOTALL)
    assert len(code) == 1

    def nll(p, data):
        return 0.5 * jnp.sum(((data - p["mu"]) / p["sigma"]) ** 2 + 2 * jnp.log(p["sigma"]))

    namespace = {"mx": mx, "nll": nll, "data": jnp.array([0.3, -1.0, 2.0, 0.5])}
    exec("\n".join(line.removeprefix("    ") for line in code[0].splitlines()), namespace)
    assert namespace["m"].limits["sigma"] == (0.1, 10.0)
    page = (Path(__file__).parents[1] / "docs" / "iminuit.md").read_text()
    namespace = {}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(block, namespace)
    assert namespace["m"].valid


def test_the_page_names_what_there_is():
    page = (Path(__file__).parents[1] / "docs" / "iminuit.md").read_text()
    for name in re.findall(r"`m\.(\w+)", page):
        assert hasattr(mx.Minuit, name), name
    for name in re.findall(r"mx\.(\w+)", page):
        assert hasattr(mx, name), name
    for name in dir(iminuit.Minuit):
        if not name.startswith("_"):
            assert re.search(rf"\b{name}\b", page), f"the page does not mention {name}"
