"""What likelihoods can do beside their value: draws, predictions, pulls, deviances and faults, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import migrax as mx
from migrax._likelihoods.fault import Fault

MASK = jnp.array([True, True, False, True])
SHAPE = jnp.array([1.0, 4.0, 3.0, 2.0])


class TestBinned:
    NLL = mx.BinnedNLL(lambda p: SHAPE * p["a"] ** jnp.arange(4.0), mask=MASK)
    P = np.where(MASK, SHAPE * 1.1 ** np.arange(4), 0.0)
    P = P / P.sum()
    COUNTS = jnp.array([13.0, 40.0, 99.0, 27.0])

    def test_toys_have_the_total_of_the_data_in_the_bins_that_count(self):
        drawn = jax.vmap(lambda key: mx.sample(self.NLL, {"a": 1.1}, key, data=self.COUNTS))(
            jax.random.split(jax.random.key(0), 4000)
        )
        np.testing.assert_array_equal(drawn.sum(axis=1), 80.0)
        np.testing.assert_array_equal(drawn[:, 2], 0.0)
        error = np.sqrt(80 * self.P * (1 - self.P) / 4000)
        assert np.all(np.abs(drawn.mean(axis=0) - 80 * self.P) <= 5 * error)
        variance = drawn.var(axis=0, ddof=1)[np.asarray(MASK)]
        np.testing.assert_allclose(variance, (80 * self.P * (1 - self.P))[np.asarray(MASK)], rtol=0.15)

    def test_weighted_counts_are_not_drawn(self):
        weighted = mx.Counts(self.COUNTS, self.COUNTS)
        with pytest.raises(TypeError, match="weight"):
            mx.sample(self.NLL, {"a": 1.1}, jax.random.key(0), data=weighted)
        with pytest.raises(TypeError, match="needs data, whose total it takes"):
            mx.sample(self.NLL, {"a": 1.1}, jax.random.key(0))

    def test_pulls(self):
        expected = 80 * self.P[[0, 1, 3]]
        pulls = np.asarray(self.NLL.pulls({"a": 1.1}, self.COUNTS))
        assert np.isnan(pulls[2])
        observed = np.asarray(self.COUNTS)[[0, 1, 3]]
        np.testing.assert_allclose(pulls[[0, 1, 3]], (observed - expected) / np.sqrt(expected), rtol=1e-12)


class TestPoissonConstraint:
    TERM = mx.PoissonConstraint(["b", "c"], [20.0, 5.0])
    N = jnp.array([30.0, 3.0])

    def test_deviance_and_pulls(self):
        mu, n = np.array([24.0, 4.0]), np.asarray(self.N)
        logp = scipy.stats.poisson.logpmf
        np.testing.assert_allclose(
            self.TERM.deviance({"b": 1.2, "c": 0.8}, self.N), 2 * np.sum(logp(n, n) - logp(n, mu)), rtol=1e-10
        )
        np.testing.assert_allclose(self.TERM.pulls({"b": 1.2, "c": 0.8}, self.N), (n - mu) / np.sqrt(mu), rtol=1e-12)
        np.testing.assert_allclose(self.TERM.prediction({"b": 1.2, "c": 0.8}), mu, rtol=1e-14)

    @pytest.mark.parametrize(
        ("params", "n", "fault"),
        [
            ({"b": 0.0, "c": 1.0}, [1.0, 2.0], Fault.EXPECTED_ZERO),
            ({"b": -1.0, "c": 1.0}, [1.0, 2.0], Fault.EXPECTED_NEGATIVE),
            ({"b": 1.0, "c": 1.0}, [-1.0, 2.0], Fault.NEGATIVE),
        ],
    )
    def test_faults(self, params, n, fault):
        assert self.TERM.faults(params, jnp.array(n)).tolist() == [int(fault), int(Fault.NONE)]

    def test_a_fit_says_so(self):
        result = mx.fit(self.TERM, {"b": 1.2, "c": 0.8}, jnp.array([-1.0, 2.0]))
        assert not bool(result.valid)
        assert "data[0] is negative, and counts cannot be" in result.message

    def test_the_scale_has_one_axis(self):
        with pytest.raises(ValueError, match=r"one number or \(n,\), got \(2, 2\)"):
            mx.PoissonConstraint("b", jnp.ones((2, 2)))


def test_errors_of_several_coordinates():
    """Of each coordinate's error the slope along it takes its part (the effective variance)."""
    rng = np.random.default_rng(4)
    x, xerr = rng.uniform(0.5, 2.0, (6, 2)), rng.uniform(0.01, 0.1, (6, 2))
    y, yerr = rng.uniform(1.0, 5.0, 6), rng.uniform(0.1, 0.3, 6)
    nll = mx.LeastSquares(lambda p, x: p["a"] * x[:, 0] ** 2 + p["b"] * jnp.sin(x[:, 1]))
    points = mx.Points(x, y, yerr, xerr=xerr)
    a, b = 1.3, -0.4
    f = a * x[:, 0] ** 2 + b * np.sin(x[:, 1])
    variance = yerr**2 + (2 * a * x[:, 0] * xerr[:, 0]) ** 2 + (b * np.cos(x[:, 1]) * xerr[:, 1]) ** 2
    at = {"a": a, "b": b}
    np.testing.assert_allclose(nll.pulls(at, points), (y - f) / np.sqrt(variance), rtol=1e-12)
    np.testing.assert_allclose(nll.prediction(at, points), f, rtol=1e-14)
    value = 0.5 * np.sum((y - f) ** 2 / variance)
    np.testing.assert_allclose(nll(at, points), value, rtol=1e-12)
    found = mx.fit(nll, {"a": 1.0, "b": 0.0}, points)
    assert bool(found.valid), found.message


class TestTemplates:
    NLL = mx.TemplateNLL({"s": mx.Counts([4.0, 30.0, 8.0]), "b": lambda p: p["b"] * jnp.array([9.0, 7.0, 5.0])})

    @pytest.mark.slow
    def test_toys(self):
        drawn = jax.vmap(lambda key: mx.sample(self.NLL, {"s": 40.0, "b": 2.0}, key))(
            jax.random.split(jax.random.key(1), 4000)
        )
        mu = np.asarray(self.NLL.prediction({"s": 40.0, "b": 2.0}))
        assert np.all(np.abs(drawn.mean(axis=0) - mu) < 5 * np.sqrt(mu / 4000))
        np.testing.assert_allclose(drawn.var(axis=0), mu, rtol=0.15)

    def test_a_bin_with_a_negative_sum_of_weights(self):
        """It has no Poisson likelihood: chi2 with the variances of data and templates."""
        data = mx.Counts([10.0, -3.0, 9.0], [12.0, 4.0, 10.0])
        terms = self.NLL.terms({"s": 40.0, "b": 2.0}, data)
        mu, error = self.NLL.prediction({"s": 40.0, "b": 2.0}), self.NLL.prediction_error({"s": 40.0, "b": 2.0})
        np.testing.assert_allclose(terms[1], 0.5 * (-3.0 - mu[1]) ** 2 / (4.0 + error[1] ** 2), rtol=1e-12)
        assert bool(jnp.all(jnp.isfinite(jax.grad(lambda p: self.NLL(p, data))({"s": 40.0, "b": 2.0})["s"])))

    def test_its_picture(self):
        pytest.importorskip("matplotlib")
        counts = jnp.array([22.0, 41.0, 19.0])
        result = mx.fit(self.NLL, {"s": 30.0, "b": 1.0}, counts)
        ax, _ = mx.plot.data_and_model(self.NLL, result, counts)
        assert {"s", "b"} <= {text.get_text() for text in ax.get_legend().get_texts()}


@pytest.mark.slow
def test_toys_of_goodness_of_fit_inside_jit():
    nll = mx.PoissonNLL(lambda p: p["mu"] * SHAPE)
    counts, key = jnp.array([9.0, 44.0, 31.0, 18.0]), jax.random.key(2)
    result = mx.fit(nll, {"mu": 10.0}, counts)
    outside = mx.goodness_of_fit(nll, result, counts, toys=200, key=key)
    inside = jax.jit(lambda r, n: mx.goodness_of_fit(nll, r, n, toys=200, key=key))(result, counts)
    np.testing.assert_allclose(np.sort(inside.toys), np.sort(outside.toys), rtol=1e-6)
    np.testing.assert_allclose(inside.p_value, outside.p_value, rtol=1e-12)
    assert 0.0 < float(inside.p_value) < 1.0


PLANE = mx.LeastSquares(lambda p, x: p["a"] * x[:, 0] + x[:, 1])
LINE = mx.LeastSquares(lambda p, x: p["a"] * x)
SQUARE = mx.PoissonNLL(lambda p: p["a"] * jnp.ones((2, 2)))
FLAT = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Product([mx.distributions.Normal(p["a"], 1.0)] * 2))
NOT_DRAWN = {
    "two axes": (SQUARE, jnp.array([[3.0, 4.0], [5.0, 6.0]]), {}, "one axis, got counts of shape"),
    "edges of points": (LINE, mx.Points([1.0, 2.0], [1.0, 2.1], 0.1), {"edges": 3}, "points have no edges"),
    "points in a plane": (PLANE, mx.Points(np.eye(2), [1.0, 2.1], 0.1), {}, "along one coordinate, got x of shape"),
    "two observables": (FLAT, jnp.array([[1.0, 2.0], [0.5, 1.0], [0.0, 0.4]]), {}, "events of one observable"),
}


@pytest.mark.parametrize("case", NOT_DRAWN)
def test_what_is_not_drawn(case):
    pytest.importorskip("matplotlib")
    nll, data, more, message = NOT_DRAWN[case]
    result = mx.fit(nll, {"a": 1.0}, data)
    with pytest.raises(ValueError, match=message):
        mx.plot.data_and_model(nll, result, data, **more)
