"""Points without errors, or with relative ones: the errors of a fit come from the scatter, as those of curve_fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import migrax as mx

RNG = np.random.default_rng(3)
X = np.linspace(0.0, 5.0, 20)
Y = 2.0 * np.exp(-0.5 * X) + 0.3 + 0.07 * RNG.normal(size=X.size)
SIGMA = RNG.uniform(0.5, 2.0, X.size)
START = {"a": mx.Parameter(1.0), "b": mx.Parameter(1.0, lower=0.0), "c": mx.Parameter(0.0)}


def curve(x, a, b, c):
    return a * np.exp(-b * x) + c


NLL = mx.LeastSquares(lambda p, x: p["a"] * jnp.exp(-p["b"] * x) + p["c"])
SCALED = mx.LeastSquares(NLL.model, scale_covariance=True)
LINE = mx.LeastSquares(lambda p, x: p["a"] + p["b"] * x)
AB = {"a": 0.0, "b": 0.0}
MATRIX = np.diag(SIGMA**2) + 0.1
CASES = {
    "without errors": (NLL, mx.Points(X, Y), None),
    "relative errors": (SCALED, mx.Points(X, Y, SIGMA), SIGMA),
    "a relative covariance": (SCALED, mx.Points(X, Y, covariance=MATRIX), MATRIX),
}


def theirs(sigma, y=Y):
    return optimize.curve_fit(
        curve, X, y, p0=(1.0, 1.0, 0.0), sigma=sigma, absolute_sigma=False, xtol=1e-14, ftol=1e-14
    )


@pytest.mark.parametrize("case", CASES)
def test_as_curve_fit(case):
    nll, data, sigma = CASES[case]
    values, covariance = theirs(sigma)
    result = mx.fit(nll, START, data)
    assert bool(result.valid)
    assert result.covariance is not None
    assert result.covariance.kind == "scaled"
    np.testing.assert_allclose(result.values, values, rtol=1e-6)
    # theirs is of first order in the curve, ours has its second derivatives
    matrix = gauss_newton(result.values, sigma)
    np.testing.assert_allclose(matrix, covariance, rtol=1e-5)
    np.testing.assert_allclose(result.errors, np.sqrt(np.diagonal(covariance)), rtol=0.1)
    hesse = mx.hesse(nll, result.params, data)
    assert hesse.kind == "scaled"
    np.testing.assert_allclose(hesse.matrix, result.covariance.matrix, rtol=1e-6)


def gauss_newton(values, sigma):
    a, b, c = np.asarray(values)
    slopes = np.stack([np.exp(-b * X), -a * X * np.exp(-b * X), np.ones_like(X)], axis=1)
    v = np.eye(X.size) if sigma is None else np.diag(sigma**2) if np.ndim(sigma) == 1 else sigma
    off, inverse = Y - curve(X, a, b, c), np.linalg.inv(v)
    return np.linalg.inv(slopes.T @ inverse @ slopes) * (off @ inverse @ off) / (X.size - 3)


def test_a_line_is_exact():
    """The textbook's line: the errors from the residuals and n - 2, that of MINOS too."""
    data = mx.Points(X, Y)
    design = np.stack([np.ones_like(X), X], axis=1)
    found, (rest,), *_ = np.linalg.lstsq(design, Y, rcond=None)
    covariance = np.linalg.inv(design.T @ design) * rest / (X.size - 2)
    result = mx.fit(LINE, AB, data)
    np.testing.assert_allclose(result.values, found, rtol=1e-9)
    np.testing.assert_allclose(result.covariance.matrix, covariance, rtol=1e-9)
    np.testing.assert_allclose(result.chi2, rest, rtol=1e-9)
    errors = np.sqrt(np.diagonal(covariance))
    minos = mx.minos(LINE, result, data)
    np.testing.assert_allclose(minos.upper, errors, rtol=1e-6)
    np.testing.assert_allclose(minos.lower, -errors, rtol=1e-6)
    scan = mx.profile(LINE, result, data, "b", found[1] + errors[1] * np.array([-2.0, 1.0]))
    np.testing.assert_allclose(scan.rise, [4.0, 1.0], rtol=1e-6)  # in units of an error's
    again = mx.hesse(LINE, result.params, data)
    np.testing.assert_allclose(again.matrix, covariance, rtol=1e-9)


@pytest.mark.slow
def test_jit_vmap_grad_and_masks():
    fit = lambda y: mx.fit(LINE, AB, mx.Points(X, y))  # noqa: E731
    ys = jnp.stack([jnp.asarray(Y), 2 * jnp.asarray(Y)])
    many = jax.jit(jax.vmap(lambda y: fit(y).errors))(ys)
    np.testing.assert_allclose(many[1], 2 * many[0], rtol=1e-9)
    slope = jax.grad(lambda s: fit(s * jnp.asarray(Y)).errors[0])(1.0)  # an error is proportional to the scatter
    np.testing.assert_allclose(slope, many[0][0], rtol=1e-6)
    used = np.arange(X.size) < 12
    masked = mx.fit(LINE, AB, mx.Points(X, np.where(used, Y, np.nan), mask=used))
    _, covariance = np.polyfit(X[used], Y[used], 1, cov=True)
    np.testing.assert_allclose(masked.errors, np.sqrt(np.diagonal(covariance))[::-1], rtol=1e-8)


def test_fixed_parameters_and_no_degree_of_freedom():
    fixed = {"a": mx.Parameter(0.5, fixed=True), "b": mx.Parameter(0.0)}
    result = mx.fit(LINE, fixed, mx.Points(X, Y))
    b = np.sum(X * (Y - 0.5)) / np.sum(X**2)
    error = np.sqrt(np.sum((Y - 0.5 - b * X) ** 2) / (X.size - 1) / np.sum(X**2))
    np.testing.assert_allclose(result.errors, error, rtol=1e-9)
    none = mx.fit(LINE, AB, mx.Points(X[:2], Y[:2]))
    assert np.all(np.isnan(none.errors))
    assert not bool(none.covariance.valid)
    assert "no degree of freedom is left" in repr(none)


def test_it_is_said():
    result = mx.fit(LINE, AB, mx.Points(X, Y))
    text = repr(result)
    assert "Scaled" in text
    assert f"sqrt(χ²/ndof) = {np.sqrt(float(result.chi2) / (X.size - 2)):.4g}" in text
    assert "χ² says nothing about the fit" in text
    assert "χ² = " not in text
    assert "says nothing about the fit" in result._repr_html_()
    with pytest.warns(UserWarning, match="is ignored: the errors"):
        mx.fit(LINE, AB, mx.Points(X, Y), up=2.0)


POINTS = mx.Points(X, Y)
REFUSED = {
    "joint": lambda r: mx.fit(mx.Joint((LINE, mx.NormalConstraint("a", 1.0))), AB, (POINTS, 0.0)),
    "sample": lambda r: mx.sample(LINE, AB, jax.random.key(0), data=POINTS),
    "asimov": lambda r: mx.asimov(LINE, AB, data=POINTS),
    "goodness": lambda r: mx.goodness_of_fit(LINE, r, POINTS),
    "limit": lambda r: mx.upper_limit(LINE, {"a": mx.Parameter(0.0), "b": mx.Parameter(0.1, lower=0.0)}, POINTS, "b"),
    "test": lambda r: mx.hypotest(LINE, AB, POINTS, "b", 0.0),
    "toys": lambda r: mx.fit_toys(LINE, AB, jax.tree.map(lambda a: jnp.stack([a, a]), POINTS)),
    "minuit": lambda r: mx.Minuit(LINE, AB, POINTS).migrad(),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_the_scale_is_refused(case):
    result = mx.fit(LINE, AB, POINTS)
    with pytest.raises(TypeError, match="needs the errors of the points, which are unknown here"):
        REFUSED[case](result)


def test_bad_input():
    with pytest.raises(TypeError, match="xerr needs yerr or covariance"):
        mx.Points(X, Y, xerr=0.1)
    with pytest.raises(ValueError, match="a loss that is not 'linear'"):
        mx.LeastSquares(LINE.model, "huber", scale_covariance=True)
    with pytest.raises(ValueError, match="a loss that is not 'linear'"):
        mx.fit(mx.LeastSquares(LINE.model, "huber"), AB, POINTS)
    with pytest.raises(TypeError, match="scale_covariance is True or False"):
        mx.LeastSquares(LINE.model, scale_covariance=1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="either yerr or covariance"):
        mx.Points(X, Y, 1.0, covariance=MATRIX)


def test_pictures():
    import matplotlib.pyplot as plt

    result = mx.fit(LINE, AB, POINTS)
    mx.plot.data_and_model(LINE, result, POINTS)
    pulls = np.asarray(LINE.pulls(result.params, POINTS))
    np.testing.assert_allclose(np.mean(pulls**2), 1.0, rtol=1e-12)
    plt.close("all")
