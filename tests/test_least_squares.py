"""Curves through points beyond independent errors: covariance matrices, loss functions, masks, toys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit, cost
from scipy import optimize

import migrax as mx

P = mx.Parameter
RNG = np.random.default_rng(8)
X = np.linspace(0.0, 4.0, 15)
ERRORS = np.linspace(0.1, 0.3, 15)
Y = 0.5 + 1.2 * X + ERRORS * RNG.normal(size=15)
OUTLIERS = Y + np.where(np.arange(15) == 6, 4.0, 0.0)
# a common scale error of 5 % beside the points' own
COVARIANCE = np.diag(ERRORS**2) + 0.05**2 * np.outer(Y, Y)
START = {"a": 0.0, "b": 1.0}
DESIGN = np.stack([np.ones(15), X], axis=1)


def line(p, x):
    return p["a"] + p["b"] * x


def test_correlated_errors():
    """The closed form of linear least squares (A. C. Aitken, 1935)."""
    result = mx.fit(mx.LeastSquares(line), START, mx.Points(X, Y, covariance=COVARIANCE))
    weight = np.linalg.inv(COVARIANCE)
    matrix = np.linalg.inv(DESIGN.T @ weight @ DESIGN)
    best = matrix @ DESIGN.T @ weight @ Y
    assert bool(result.valid)
    assert result.algorithm == "LevenbergMarquardt"
    np.testing.assert_allclose(result.values, best, rtol=1e-9)
    np.testing.assert_allclose(result.covariance.matrix, matrix, rtol=1e-8)
    np.testing.assert_allclose(result.chi2, (Y - DESIGN @ best) @ weight @ (Y - DESIGN @ best), rtol=1e-9)
    plain = mx.fit(mx.LeastSquares(line), START, mx.Points(X, Y, ERRORS))
    diagonal = mx.fit(mx.LeastSquares(line), START, mx.Points(X, Y, covariance=np.diag(ERRORS**2)))
    np.testing.assert_allclose(diagonal.covariance.matrix, plain.covariance.matrix, rtol=1e-9)


def test_masked_points_are_left_out():
    mask = np.arange(15) % 3 != 1
    for points, fewer in (
        (mx.Points(X, OUTLIERS, ERRORS, mask=mask), mx.Points(X[mask], OUTLIERS[mask], ERRORS[mask])),
        (
            mx.Points(X, OUTLIERS, covariance=COVARIANCE, mask=mask),
            mx.Points(X[mask], OUTLIERS[mask], covariance=COVARIANCE[np.ix_(mask, mask)]),
        ),
        (mx.Points(X, OUTLIERS, ERRORS, 0.1, mask=mask), mx.Points(X[mask], OUTLIERS[mask], ERRORS[mask], 0.1)),
    ):
        result, reference = (mx.fit(mx.LeastSquares(line), START, d) for d in (points, fewer))
        np.testing.assert_allclose(result.values, reference.values, rtol=1e-9)
        np.testing.assert_allclose(result.errors, reference.errors, rtol=1e-9)
        np.testing.assert_allclose(result.chi2, reference.chi2, rtol=1e-9)
        assert int(result.ndof) == int(reference.ndof) == 8


def test_errors_in_x_beside_a_covariance():
    """For a line the variance of x is that of y times the slope squared."""
    nll = mx.LeastSquares(lambda p, x: p["a"] + 2.0 * x)
    result = mx.fit(nll, {"a": 0.0}, mx.Points(X, Y, covariance=COVARIANCE, xerr=0.1))
    more = mx.fit(nll, {"a": 0.0}, mx.Points(X, Y, covariance=COVARIANCE + 0.04 * np.eye(15)))
    np.testing.assert_allclose(result.values, more.values, rtol=1e-9)
    np.testing.assert_allclose(result.chi2, more.chi2, rtol=1e-9)


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy"])
def test_loss_functions_as_scipy(loss):
    nll = mx.LeastSquares(line, loss)
    result = mx.fit(nll, START, mx.Points(X, OUTLIERS, ERRORS))
    residuals = lambda v: (OUTLIERS - DESIGN @ v) / ERRORS  # noqa: E731
    theirs = optimize.least_squares(residuals, [0.0, 1.0], loss=loss, xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, theirs.x, rtol=1e-6)
    np.testing.assert_allclose(result.nll, theirs.cost, rtol=1e-10)
    assert result.chi2 is None
    plain = mx.fit(mx.LeastSquares(line), START, mx.Points(X, OUTLIERS, ERRORS))
    true = mx.fit(mx.LeastSquares(line), START, mx.Points(X, Y, ERRORS))
    assert np.all(np.abs(result.values - true.values) < np.abs(plain.values - true.values))


def test_soft_l1_as_iminuit():
    m = Minuit(cost.LeastSquares(X, OUTLIERS, ERRORS, lambda x, a, b: a + b * x, loss="soft_l1"), a=0.0, b=1.0)
    m.migrad()
    m.hesse()
    result = mx.fit(mx.LeastSquares(line, "soft_l1"), START, mx.Points(X, OUTLIERS, ERRORS))
    np.testing.assert_allclose(2 * result.nll, m.fval, rtol=1e-6)
    np.testing.assert_allclose(result.errors, m.errors, rtol=1e-3)


def test_a_loss_of_ones_own():
    """Of a quarter of what huber counts, twice as far out, written by hand."""
    own = lambda z: jnp.where(z > 1, 2 * jnp.sqrt(jnp.where(z > 1, z, 1.0)) - 1, z)  # noqa: E731
    points = mx.Points(X, OUTLIERS, ERRORS)
    by_hand = mx.fit(mx.LeastSquares(line, own), START, points)
    np.testing.assert_allclose(by_hand.values, mx.fit(mx.LeastSquares(line, "huber"), START, points).values, rtol=1e-8)


def test_small_residuals_count_as_squares():
    for loss in ("soft_l1", "huber", "cauchy"):
        nll = mx.LeastSquares(lambda p, x: p["a"] + 0 * x, loss)
        points = mx.Points(X[:1], jnp.array([1e-8]), 1.0)
        np.testing.assert_allclose(nll({"a": 0.0}, points), 0.5e-16, rtol=1e-12)
        curvature = jax.hessian(lambda a: nll({"a": a}, points))(1e-8)  # noqa: B023
        np.testing.assert_allclose(curvature, 1.0, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["errors", "covariance", "both axes"])
def test_toys_have_unit_pulls(kind):
    points = {
        "errors": mx.Points(X, Y, ERRORS),
        "covariance": mx.Points(X, Y, covariance=COVARIANCE),
        "both axes": mx.Points(X, Y, ERRORS, xerr=0.15),
    }[kind]
    nll, truth = mx.LeastSquares(line), {"a": 0.5, "b": 1.2}
    toys = mx.sample(nll, truth, jax.random.key(4), 800, data=points)
    fits = jax.jit(jax.vmap(lambda toy: mx.fit(nll, truth, toy)))(toys)
    assert np.all(fits.valid)
    pulls = (fits.values - jnp.array([0.5, 1.2])) / fits.errors
    np.testing.assert_allclose(pulls.mean(axis=0), 0.0, atol=0.15)
    np.testing.assert_allclose(pulls.std(axis=0), 1.0, atol=0.1)
    np.testing.assert_allclose(fits.chi2.mean(), 13.0, atol=0.9)


def test_asimov_data_lie_on_the_curve():
    points = mx.Points(X, Y, ERRORS)
    data = mx.asimov(mx.LeastSquares(line), {"a": 0.5, "b": 1.2}, data=points)
    np.testing.assert_allclose(data.y, 0.5 + 1.2 * X, rtol=1e-14)
    np.testing.assert_array_equal(data.yerr, ERRORS)
    np.testing.assert_allclose(mx.LeastSquares(line).pulls({"a": 0.5, "b": 1.2}, data), 0.0, atol=1e-14)


def test_goodness_of_fit():
    nll, points = mx.LeastSquares(line), mx.Points(X, Y, ERRORS)
    goodness = mx.goodness_of_fit(nll, mx.fit(nll, START, points), points)
    from scipy import stats

    np.testing.assert_allclose(goodness.p_value, stats.chi2(13).sf(float(goodness.chi2)), rtol=1e-10)
    assert int(goodness.ndof) == 13


BAD = {
    "both": (lambda: mx.Points(X, Y, 0.1, covariance=COVARIANCE), TypeError, "either yerr or covariance"),
    "shape": (lambda: mx.Points(X, Y, covariance=np.eye(3)), ValueError, r"must have shape \(15, 15\)"),
    "not positive": (
        lambda: mx.Points(X, Y, covariance=np.ones((15, 15)) - 0.5 * np.eye(15)),
        ValueError,
        "not positive definite",
    ),
    "asymmetric": (
        lambda: mx.Points(X, Y, covariance=COVARIANCE + np.triu(np.full((15, 15), 1e-3), 1)),
        ValueError,
        "must be symmetric",
    ),
    "mask": (lambda: mx.Points(X, Y, 0.1, mask=np.ones(15)), ValueError, "15 booleans"),
    "loss": (lambda: mx.LeastSquares(line, "l1"), ValueError, "loss must be one of 'linear', 'soft_l1'"),
    "loss and covariance": (
        lambda: mx.fit(mx.LeastSquares(line, "huber"), START, mx.Points(X, Y, covariance=COVARIANCE)),
        ValueError,
        "cannot be combined with a covariance",
    ),
    "streamed covariance": (
        lambda: mx.fit(mx.LeastSquares(line, chunk_size=5), START, mx.Points(X, Y, covariance=COVARIANCE)),
        ValueError,
        "cannot be streamed",
    ),
    "goodness of a loss": (
        lambda: mx.goodness_of_fit(
            mx.LeastSquares(line, "huber"),
            mx.fit(mx.LeastSquares(line, "huber"), START, mx.Points(X, Y, ERRORS)),
            mx.Points(X, Y, ERRORS),
        ),
        TypeError,
        "no saturated model",
    ),
    "toys without points": (
        lambda: mx.sample(mx.LeastSquares(line), START, jax.random.key(0)),
        TypeError,
        "needs the points",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
