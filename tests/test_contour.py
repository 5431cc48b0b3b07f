"""Contours against closed forms, iminuit, and the errors of MINOS."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit
from scipy.optimize import minimize_scalar

import migrax as mx
from migrax._profile import contour as contour_file
from quadratic import AT, COVARIANCE, fitted, quadratic

P = mx.Parameter
CLS = [0.3934693402873666, 0.68, 0.95]  # the first is a rise by UP


@functools.cache
def ellipses():
    return mx.contour(quadratic, fitted(), AT, ("v[1]", "w"), cl=CLS, size=40)


def gaps(values):
    """The distances of neighbours, in half widths."""
    u = 2 * values / np.ptp(values, axis=0)
    return np.linalg.norm(np.roll(u, -1, axis=0) - u, axis=1)


def test_ellipse():
    contour = ellipses()
    assert contour.names == ("v[1]", "w")
    assert contour.values.shape == (3, 40, 2)
    assert contour.points.shape == (3, 40, 3)
    assert np.all(contour.status == int(mx.Side.FOUND))
    block = COVARIANCE[1:, 1:]
    for i, cl in enumerate(CLS):
        z2 = -2 * np.log1p(-cl)
        d = np.asarray(contour.values[i]) - AT[1:]
        np.testing.assert_allclose(np.einsum("ij,jk,ik->i", d, np.linalg.inv(block), d), z2, rtol=1e-10)
        np.testing.assert_allclose(d.max(axis=0), np.sqrt(z2 * np.diag(block)), rtol=1e-9)
        np.testing.assert_allclose(d.min(axis=0), -np.sqrt(z2 * np.diag(block)), rtol=1e-9)
        spread = gaps(d)
        assert spread.max() < 1.1 * spread.min()
    # the third parameter follows
    shift = (np.asarray(contour.values[1]) - AT[1:]) @ np.linalg.inv(block) @ COVARIANCE[1:, 0]
    np.testing.assert_allclose(contour.points[1, :, 0], 1 + shift, atol=1e-7)


def test_closed_and_counterclockwise():
    contour = ellipses()
    assert contour.x.shape == (3, 41)
    np.testing.assert_array_equal(contour.x[:, -1], contour.x[:, 0])
    np.testing.assert_array_equal(contour.y[:, :-1], contour.values[..., 1])
    x, y = np.asarray(contour.x[0]), np.asarray(contour.y[0])
    area = 0.5 * np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])
    np.testing.assert_allclose(area, np.pi * np.sqrt(np.linalg.det(COVARIANCE[1:, 1:])), rtol=0.01)


def test_a_single_level_and_numbers_of_sigmas():
    one = mx.contour(quadratic, fitted(), AT, (lambda p: p["w"], "v[1]"), cl=1, size=8)
    assert one.values.shape == (8, 2)
    np.testing.assert_allclose(one.rise, -2 * np.log(1 - 0.6826894921370859), rtol=1e-12)
    np.testing.assert_allclose(np.max(one.x) - 0.3, np.sqrt(2 * one.rise), rtol=1e-9)


@pytest.mark.parametrize("correlation", [-0.999, 0.0, 0.9999])
def test_correlations(correlation):
    inverse = jnp.linalg.inv(jnp.array([[1.0, correlation], [correlation, 1.0]]))
    nll = lambda p, s: 0.5 * s * jnp.array([p["a"], p["b"]]) @ inverse @ jnp.array([p["a"], p["b"]])  # noqa: E731
    result = mx.fit(nll, {"a": 1.0, "b": 1.0}, 1.0)
    contour = mx.contour(nll, result, 1.0, ("a", "b"), cl=0.9, size=24)
    d = np.asarray(contour.values - result.values)
    np.testing.assert_allclose(np.einsum("ij,jk,ik->i", d, inverse, d), contour.rise, rtol=1e-8)
    spread = gaps(d)
    assert spread.max() < 2 * np.median(spread)


COUNTS = jnp.array([9.0, 14.0, 25.0, 17.0, 11.0, 6.0])
T = jnp.linspace(0.0, 1.0, 6)


def counts(p, d):
    mu = p["s"] * jnp.exp(-0.5 * ((T - 0.45) / 0.15) ** 2) + p["b"] * jnp.exp(-p["k"] * T)
    return jnp.sum(mu - d * jnp.log(mu)) + 0.5 * (p["k"] - 0.5) ** 2


@functools.cache
def counted():
    return mx.fit(counts, {"b": P(10.0, lower=0.0), "k": P(0.5), "s": P(10.0)}, COUNTS)


def test_agrees_with_iminuit_and_is_nearer():
    contour = mx.contour(counts, counted(), COUNTS, ("s", "b"), cl=0.68, size=20)
    m = Minuit(lambda b, k, s: float(counts({"b": b, "k": k, "s": s}, COUNTS)), b=10.0, k=0.5, s=10.0)
    m.errordef, m.limits["b"] = 0.5, (0, None)
    m.migrad()
    theirs = m.mncontour("s", "b", cl=0.68, size=8)[:-1]
    u = np.asarray(contour.values)
    center = u.mean(axis=0)
    angle = lambda v: np.arctan2(*((v - center) / np.ptp(u, axis=0)).T[::-1])  # noqa: E731
    radius = lambda v: np.linalg.norm((v - center) / np.ptp(u, axis=0), axis=1)  # noqa: E731
    fine = mx.contour(counts, counted(), COUNTS, ("s", "b"), cl=0.68, size=400)
    v = np.asarray(fine.values)
    order = np.argsort(angle(v))
    expected = np.interp(angle(theirs), angle(v)[order], radius(v)[order], period=2 * np.pi)
    np.testing.assert_allclose(radius(theirs), expected, atol=1e-3)
    ours = [float(counts({"b": x[0], "k": x[1], "s": x[2]}, COUNTS)) for x in contour.points]
    np.testing.assert_allclose(np.array(ours) - float(counted().nll), 0.5 * float(contour.rise), rtol=1e-9)


def test_extremes_are_those_of_minos():
    contour = mx.contour(counts, counted(), COUNTS, ("s", "b"), cl=0.9, size=12)
    minos = mx.minos(counts, counted(), COUNTS, ["s", "b"], cl=float(jnp.sqrt(contour.rise)))
    fit = np.array([float(counted()[n].value) for n in ("s", "b")])
    np.testing.assert_allclose(np.max(contour.values, axis=0) - fit, minos.upper, rtol=1e-9)
    np.testing.assert_allclose(np.min(contour.values, axis=0) - fit, minos.lower, rtol=1e-9)


def rosenbrock(p, _):
    """u² + s² = z² with u = 1 - x and s = 10 (y - x²): a banana in x and y."""
    rest = 0.0 if "n" not in p else 0.5 * jnp.sum((p["n"] - jnp.array([0.3, 0.5]) * p["x"] ** 2) ** 2)
    return 0.5 * ((1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2) + rest


@pytest.mark.grid
@pytest.mark.parametrize("nuisances", [False, True])
@pytest.mark.parametrize("cl", [0.3, 0.95])
def test_banana(cl, nuisances):
    start = {"x": 0.0, "y": 0.0} | ({"n": jnp.zeros(2)} if nuisances else {})
    result = mx.fit(rosenbrock, start)
    contour = mx.contour(rosenbrock, result, None, ("x", "y"), cl=cl, size=60)
    assert np.all(contour.valid)
    x, y = np.asarray(contour.values).T
    z2 = -2 * np.log1p(-cl)
    np.testing.assert_allclose((1 - x) ** 2 + 100 * (y - x**2) ** 2, z2, rtol=1e-8)
    np.testing.assert_allclose([x.min(), x.max()], [1 - np.sqrt(z2), 1 + np.sqrt(z2)], rtol=1e-7)
    if nuisances:
        np.testing.assert_allclose(contour.points[:, 0], 0.3 * x**2, atol=1e-5)
    spread = gaps(np.stack([x, y], axis=1))
    # the points with the greatest x and the greatest y are nearly one
    assert spread.max() < 1.3 * np.median(spread)


@pytest.mark.slow
def test_a_banana_is_refused_where_nobody_can_look():
    result = mx.fit(rosenbrock, {"x": 0.0, "y": 0.0})
    contour = jax.jit(lambda r: mx.contour(rosenbrock, r, None, ("x", "y"), cl=0.95, size=8))(result)
    assert np.all(contour.status == int(mx.Side.FAILED))
    assert np.all(np.isnan(contour.values))


def round_(p, at):
    return 0.5 * jnp.sum((jnp.stack([p["a"], p["b"]]) - at) ** 2)


def test_cut_by_a_bound():
    """A circle of radius 1.5096 around (0, 0), and a may not be below -1."""
    result = mx.fit(round_, {"a": P(0.5, lower=-1.0), "b": P(0.5)}, jnp.zeros(2))
    contour = mx.contour(round_, result, jnp.zeros(2), ("a", "b"), size=40)
    a, b = np.asarray(contour.values).T
    at_limit = np.asarray(contour.status) == int(mx.Side.AT_LIMIT)
    assert np.all(contour.valid)
    assert 5 < at_limit.sum() < 20
    np.testing.assert_allclose(a[at_limit], -1.0, rtol=1e-12)
    assert np.all(np.abs(b[at_limit]) <= np.sqrt(float(contour.rise) - 1) + 1e-9)
    np.testing.assert_allclose((a**2 + b**2)[~at_limit], contour.rise, rtol=1e-9)


def test_minimum_at_a_bound():
    """The same circle around (-0.5, 0), and a may not be below 0: its part in a >= 0 and a line."""
    at = jnp.array([-0.5, 0.0])
    result = mx.fit(round_, {"a": P(0.5, lower=0.0), "b": P(0.5)}, at)
    contour = mx.contour(round_, result, at, ("a", "b"), size=40)
    a, b = np.asarray(contour.values).T
    at_limit = np.asarray(contour.status) == int(mx.Side.AT_LIMIT)
    assert np.all(contour.valid)
    assert at_limit.any()
    assert np.all(a >= 0)
    np.testing.assert_allclose(a[at_limit], 0.0, atol=1e-12)
    # above the minimum, which is at (0, 0)
    rise = (a + 0.5) ** 2 + b**2 - 0.25
    np.testing.assert_allclose(rise[~at_limit], contour.rise, rtol=1e-8)
    assert np.all(rise[at_limit] <= contour.rise)
    np.testing.assert_allclose(a.max(), np.sqrt(contour.rise + 0.25) - 0.5, rtol=1e-8)


def with_a_hole(p, hole):
    """The quadratic of a circle, NaN where a and b are both beyond `hole`."""
    value = 0.5 * (p["a"] ** 2 + p["b"] ** 2 + (p["n"] - 0.1 * p["a"]) ** 2)
    return jnp.where((p["a"] > hole) & (p["b"] > hole), jnp.nan, value)


TEMPLATES = np.exp(
    -0.5 * ((np.linspace(0.25, 9.75, 20) - np.array([[4.0], [5.5], [4.8]])) / [[1.0], [1.2], [2.0]]) ** 2
)
TEMPLATES = TEMPLATES / TEMPLATES.sum(axis=1, keepdims=True)
# of 60, 80 and 6 events; the third yield is fitted at its bound, and leaves it on one side of the contour
OF_TEMPLATES = np.random.default_rng(3).poisson(np.array([60, 80, 6]) @ TEMPLATES)


def yields(dtype):
    templates, counts = jnp.asarray(TEMPLATES, dtype), jnp.asarray(OF_TEMPLATES, dtype)
    nll = mx.PoissonNLL(lambda p: jnp.stack([p["a"], p["b"], p["c"]]) @ templates + 0.1)
    params = {name: P(np.asarray(start, dtype), lower=0.0) for name, start in {"a": 50, "b": 70, "c": 10}.items()}
    return nll, params, counts


@functools.cache
def yields_contour():
    nll, params, counts = yields(float)
    result = mx.fit(nll, params, counts)
    return nll, result, counts, mx.contour(nll, result, counts, ("a", "b"), cl=0.68, size=12)


def test_another_parameter_at_its_bound():
    """Each point has risen as far as its level says, minimised over that parameter, by SciPy."""
    nll, result, counts, contour = yields_contour()
    assert float(result["c"].value) == 0.0
    assert contour.valid.all()
    c = contour.points[:, 2]
    assert (c == 0).any()
    assert (c > 1).any()
    for a, b, _ in contour.points:

        def of_c(c, a=a, b=b):
            return float(nll({"a": a, "b": b, "c": c}, counts))

        least = minimize_scalar(of_c, bounds=(0.0, 60.0), method="bounded", options={"xatol": 1e-9})
        rise = 2 * (min(least.fun, of_c(0.0)) - float(result.nll))
        np.testing.assert_allclose(rise, -2 * np.log1p(-0.68), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:migrax is made for float64:UserWarning")
def test_another_parameter_at_its_bound_in_float32():
    with jax.enable_x64(False):
        nll, params, counts = yields(np.float32)
        result = mx.fit(nll, params, counts)
        contour = mx.contour(nll, result, counts, ("a", "b"), cl=0.68, size=12)
        minos = mx.minos(nll, result, counts, ["a", "b"], cl=1.5)
    assert contour.valid.all()
    assert minos.valid.all()
    np.testing.assert_allclose(contour.values, yields_contour()[3].values, rtol=1e-4)


def test_an_extreme_that_fails_fails_alone(monkeypatch):
    nll, result, counts, whole = yields_contour()
    sides = contour_file.sides

    def without_the_top(*args):
        result, found = sides(*args)
        lost = np.arange(4) == 1
        status = jnp.where(lost, int(mx.Side.FAILED), found.status)
        return result, found._replace(x=jnp.where(lost[:, None], jnp.nan, found.x), status=status)

    monkeypatch.setattr(contour_file, "sides", without_the_top)
    contour = mx.contour(nll, result, counts, ("a", "b"), cl=0.68, size=12)
    assert np.sum(contour.status != int(mx.Side.FOUND)) == 1
    assert np.isnan(contour.points[4]).all()
    right = whole.values[jnp.array([0, 6, 10])]  # the other extremes
    for point in right:
        assert np.nanmin(np.abs(contour.values - point).max(axis=1)) < 1e-6


def test_a_point_that_fails_changes_no_other():
    start = {"a": 0.1, "b": 0.2, "n": 0.3}
    whole, cut = (
        mx.contour(with_a_hole, mx.fit(with_a_hole, start, hole), hole, ("a", "b"), size=30) for hole in (9.0, 0.98)
    )
    failed = np.asarray(cut.status) == int(mx.Side.FAILED)
    assert np.all(whole.valid)
    assert 0 < failed.sum() < 8
    assert np.all(np.isnan(cut.values[failed]))
    np.testing.assert_array_equal(np.asarray(cut.values)[~failed], np.asarray(whole.values)[~failed])


def hilly(p, depth):
    """A deeper minimum at a = 3."""
    a = p["a"]
    return 2 * a**2 - depth * jnp.exp(-2 * (a - 3) ** 2) + 0.5 * (p["b"] - a) ** 2


def test_a_new_minimum_is_adopted():
    result = mx.fit(hilly, {"a": 0.1, "b": 0.1}, 30.0)
    assert float(result["a"].value) < 1
    with pytest.warns(UserWarning, match="contour met a lower minimum along"):
        contour = mx.contour(hilly, result, 30.0, ("a", "b"), cl=0.999999, size=12)
    assert float(contour.result["a"].value) > 2
    assert np.all(contour.valid)


def test_printing():
    assert repr(ellipses()) == "Contour(of v[1] and w, shape=(3, 40), valid=120 of 120 (100 %): 120 found)"


@pytest.mark.slow
def test_vmap():
    """Many fits at once; each lane as the contour alone."""
    shifts = jnp.array([1.0, 1.3])

    def one(scale):
        data = scale * COUNTS
        start = {"b": P(10.0, lower=0.0), "k": P(0.5), "s": P(10.0)}
        return mx.contour(counts, mx.fit(counts, start, data), data, ("s", "b"), size=8).values

    together = jax.vmap(one)(shifts)
    np.testing.assert_allclose(together[1], one(shifts[1]), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_derivatives(mode):
    """Of the whole procedure, the fit and the spread of the rays too, against finite differences."""

    def values(data):
        result = mx.fit(counts, {"b": P(10.0, lower=0.0), "k": P(0.5), "s": P(10.0)}, data)
        return mx.contour(counts, result, data, ("s", "b"), size=8).values

    jacobian = jax.jit(mode(lambda t: values(COUNTS + t * jnp.arange(6.0))))(0.0)
    h = 1e-4
    numeric = (values(COUNTS + h * jnp.arange(6.0)) - values(COUNTS - h * jnp.arange(6.0))) / (2 * h)
    np.testing.assert_allclose(jacobian, numeric, rtol=1e-5, atol=1e-6)


def test_no_retrace():
    traces = []

    def nll(p, d):
        traces.append(1)
        return quadratic(p, d)

    result = mx.fit(nll, {"v": jnp.zeros(2), "w": 0.0}, AT)
    mx.contour(nll, result, AT, ("v[0]", "w"), size=8)
    count = len(traces)
    moved = mx.fit(nll, {"v": jnp.zeros(2), "w": 0.0}, AT + 1)
    mx.contour(nll, moved, AT + 1, ("v[0]", "w"), size=8, cl=0.9)
    mx.contour(nll, moved, AT + 1, ("v[0]", "v[1]"), size=8)
    assert len(traces) == count


BAD = {
    "twice": ({"where": ("w", "w")}, r"two different parameters, got \['w', 'w'\]"),
    "one": ({"where": "w"}, r"two different parameters, got \['w'\]"),
    "three": ({"where": ["v", "w"]}, "two different parameters"),
    "unknown": ({"where": ("w", "x")}, "no parameter 'x'"),
    "size": ({"size": 7}, "at least 8 points, got size=7"),
    "half a size": ({"size": 9.5}, "whole number"),
    "cl": ({"cl": 0.0}, "cl must be a probability"),
    "cls": ({"cl": [0.5, -1.0]}, "cl must be a probability"),
    "percent": ({"cl": 68}, "give a probability, such as 0.68"),
    "no cls": ({"cl": []}, "one cl or a sequence"),
    "matrix of cls": ({"cl": jnp.full((2, 2), 0.5)}, "one cl or a sequence"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    change, message = BAD[case]
    arguments = {"where": ("v[1]", "w")} | change
    where = arguments.pop("where")
    with pytest.raises(ValueError, match=message):
        mx.contour(quadratic, fitted(), AT, where, **arguments)


def test_fixed_and_invalid():
    start = {"v": P(jnp.zeros(2)), "w": P(0.0, fixed=True)}
    with pytest.raises(ValueError, match="fixed parameter"):
        mx.contour(quadratic, mx.fit(quadratic, start, AT), AT, ("v[0]", "w"))
    stopped = mx.fit(rosenbrock, {"x": -1.0, "y": 3.0}, max_steps=1)
    with pytest.raises(ValueError, match="needs a valid fit"):
        mx.contour(rosenbrock, stopped, None, ("x", "y"))
