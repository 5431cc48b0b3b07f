"""The robust covariance against closed forms and toys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

P = mx.Parameter
X = jnp.asarray(np.random.default_rng(3).normal(1.0, 2.0, size=400))
WEIGHTS = jnp.asarray(np.random.default_rng(4).uniform(0.2, 3.0, size=400))
START = {"mu": P(0.0), "sigma": P(1.0, lower=0.01)}


def normal(p, x):
    return jnp.sum(0.5 * ((x - p["mu"]) / p["sigma"]) ** 2 + jnp.log(p["sigma"]))


def weighted(p, data):
    x, w = data
    return jnp.sum(w * (0.5 * ((x - p["mu"]) / p["sigma"]) ** 2 + jnp.log(p["sigma"])))


def by_hand(result, weights):
    """H⁻¹JH⁻¹ of a normal density from the events' scores, written out."""
    mu, sigma = result.values
    z = np.asarray((X - mu) / sigma)
    w = np.asarray(weights)
    scores = np.stack([-w * z, w * (1 - z**2)], axis=1) / float(sigma)
    hessian = (
        np.array([[w.sum(), 2 * (w * z).sum()], [2 * (w * z).sum(), (w * (3 * z**2 - 1)).sum()]]) / float(sigma) ** 2
    )
    inverse = np.linalg.inv(hessian)
    return inverse @ scores.T @ scores @ inverse


def test_events_without_weights():
    result = mx.fit(normal, START, X, hesse="sandwich")
    assert result.covariance.kind == "sandwich"
    np.testing.assert_allclose(result.covariance.matrix, by_hand(result, jnp.ones(400)), rtol=1e-6)
    np.testing.assert_allclose(result.errors, result.covariance.errors)
    # the density is right: robust and Hessian errors are nearly the same
    np.testing.assert_allclose(result.errors, mx.fit(normal, START, X).errors, rtol=0.1)


def test_weighted_events():
    data = (X, WEIGHTS)
    result = mx.fit(weighted, START, data, hesse="sandwich")
    np.testing.assert_allclose(result.covariance.matrix, by_hand(result, WEIGHTS), rtol=1e-6)
    np.testing.assert_allclose(
        mx.hesse(weighted, result.params, data, kind="sandwich").matrix, result.covariance.matrix, rtol=1e-7
    )
    # the scale of the weights does not matter, nor the units of the function
    scaled = mx.fit(weighted, START, (X, 7 * WEIGHTS), hesse="sandwich")
    np.testing.assert_allclose(scaled.errors, result.errors, rtol=1e-8)
    doubled = mx.fit(lambda p, d: 2 * weighted(p, d), START, data, hesse="sandwich", up=1.0)
    np.testing.assert_allclose(doubled.errors, result.errors, rtol=1e-8)


@pytest.mark.slow
def test_covers_where_the_hessian_does_not():
    """Weights that are 0.2 or 5: the pulls of 2000 weighted samples have unit width with the sandwich alone."""
    rng = np.random.default_rng(8)
    x = jnp.asarray(rng.normal(size=(2000, 300)))
    w = jnp.asarray(rng.choice([0.2, 5.0], size=(2000, 300)))
    start = {"mu": P(0.0), "sigma": P(1.0, lower=0.01)}

    def pull(kind):
        results = jax.jit(jax.vmap(lambda x, w: mx.fit(weighted, start, (x, w), hesse=kind)))(x, w)
        return np.asarray(results.values[:, 0] / results.errors[:, 0])

    robust, plain = np.std(pull("sandwich")), np.std(pull("hesse"))
    # 1.6 % is one standard deviation of a width from 2000; a few hundred weighted events are not quite infinite
    assert abs(robust - 1) < 0.05
    assert plain > 1.25


def test_counts_and_points_know_their_errors():
    counts = mx.PoissonNLL(lambda p: p["s"] * jnp.array([1.0, 2.0, 3.0]))
    n = jnp.array([3.0, 3.0, 9.0])
    result = mx.fit(counts, {"s": 1.0}, n, hesse="sandwich")
    np.testing.assert_allclose(result.errors[0], np.sqrt(15) / 6, rtol=1e-9)  # of a sum of 15 counts over 6
    x = jnp.linspace(0.0, 1.0, 30)
    y = 1 + 2 * x + 0.3 * jnp.sin(40 * x)
    design = np.stack([np.ones(30), x], axis=1)
    bread = np.linalg.inv(design.T @ design)
    line = mx.LeastSquares(lambda p, x: p["a"] + p["b"] * x)
    known = mx.fit(line, {"a": 0.0, "b": 0.0}, mx.Points(x, y, 1.0), hesse="sandwich")
    np.testing.assert_allclose(known.covariance.matrix, bread, rtol=1e-8)

    def by_hand(p, rows):
        x, y = rows
        return 0.5 * jnp.sum((y - p["a"] - p["b"] * x) ** 2)

    # of a function nobody knows that: White's formula for a straight line
    robust = mx.fit(by_hand, {"a": 0.0, "b": 0.0}, (x, y), hesse="sandwich")
    residuals = np.asarray(y) - design @ np.asarray(robust.values)
    np.testing.assert_allclose(robust.covariance.matrix, bread @ (design.T * residuals**2) @ design @ bread, rtol=1e-8)


@pytest.mark.slow
def test_bounds_derivatives_and_the_table():
    def mean_error(shift):
        return mx.fit(normal, START, X + shift * jnp.arange(400) / 400, hesse="sandwich").errors[0]

    h = 1e-4
    numeric = (mean_error(h) - mean_error(-h)) / (2 * h)
    np.testing.assert_allclose(jax.jit(jax.grad(mean_error))(0.0), numeric, rtol=1e-5)
    result = mx.fit(normal, {"mu": P(2.0, lower=1.5), "sigma": P(1.0)}, X, hesse="sandwich")
    assert float(result["mu"].error) == 0
    assert np.all(np.isfinite(result.errors))
    assert "Sandwich Err" in repr(result)
    assert "Sandwich Error" in result._repr_html_()
    with pytest.warns(UserWarning, match="minos uses the shape of the likelihood"):
        minos = mx.minos(normal, mx.fit(normal, START, X, hesse="sandwich"), X)
    np.testing.assert_allclose(minos.upper, mx.minos(normal, mx.fit(normal, START, X), X).upper, rtol=1e-9)


def shifted(p, x):
    """With a shift that is constrained to 0."""
    return normal(p, x - p["t"]) + 50 * p["t"] ** 2


BAD = {
    "name": (
        lambda: mx.fit(normal, START, X, hesse="robust"),
        "hesse must be one of 'hesse', 'sandwich', got 'robust'",
    ),
    "kind": (lambda: mx.hesse(normal, START, X, kind="J"), "kind must be one of"),
    "constraint": (
        lambda: mx.fit(lambda p, x: normal(p, x) + p["mu"] ** 2, START, X, hesse="sandwich"),
        r"not the sum over the rows .* terms\(params, data\)",
    ),
    "constraint at 0": (
        lambda: mx.fit(
            lambda p, x: normal(p, x - p["t"]) + 50 * p["t"] ** 2, START | {"t": P(0.0)}, X, hesse="sandwich"
        ),
        "not the sum over the rows",
    ),
    "mean": (
        lambda: mx.fit(lambda p, x: (jnp.mean(x) - p["a"]) ** 2, {"a": 0.0}, X, hesse="sandwich"),
        "not the sum over the rows",
    ),
    "no rows": (
        lambda: mx.fit(lambda p, d: normal(p, d["x"]), START, {"x": X, "n": 1.0}, hesse="sandwich"),
        "one row an event, got shapes",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_terms_are_nan_under_jit():
    nll = lambda p, x: normal(p, x) + (p["mu"] - 1) ** 2  # noqa: E731
    covariance = jax.jit(lambda x: mx.hesse(nll, START, x, kind="sandwich"))(X)
    assert not bool(covariance.valid)
    assert np.all(np.isnan(covariance.matrix))
