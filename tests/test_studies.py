"""Studies of toys: 10,000 of a Gaussian histogram have pulls of unit width, and intervals that cover; failures do not
count; the bootstrap against closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import migrax as mx
from migrax._studies.fits import moments, wilson

EDGES = jnp.linspace(-5.0, 5.0, 41)
TRUTH = {"mu": mx.Parameter(0.3), "n": mx.Parameter(2000.0, lower=0.0), "sigma": mx.Parameter(1.2, lower=0.01)}
KEY = jax.random.key(4)
NUM = 10_000


def log_expected(p):
    return jnp.log(p["n"]) + mx.distributions.Normal(p["mu"], p["sigma"]).log_bin_integrals(EDGES)


NLL = mx.PoissonNLL(log_expected=log_expected)


@pytest.fixture(scope="module")
def fits():
    return mx.fit_toys(NLL, TRUTH, mx.Toys(NUM, KEY), minos=True)


@pytest.mark.slow
def test_pulls_of_ten_thousand_toys(fits):
    """Unit width and zero mean within errors. (MINOS: the width of 2,000 events in bins is not Gaussian to 1 %.)"""
    minos = mx.pull_study(fits, TRUTH)
    hesse = mx.pull_study(NLL, TRUTH, mx.Toys(NUM, KEY))
    assert (minos.kind, hesse.kind) == ("minos", "hesse")
    for study in (minos, hesse):
        assert study.total == NUM
        assert study.num_failed == 0
        np.testing.assert_array_equal(study.count, NUM)
        np.testing.assert_allclose(study.mean_error, study.width / 100)
        assert np.all(np.abs(study.width - 1) < 4 * study.width_error)
        # to first order in 1/sqrt(N) Hesse's pulls of a width are shifted: its error is larger where it is larger
        assert np.all(np.abs(study.mean[:1]) < 4 * study.mean_error[:1])
        assert np.all(np.abs(study.mean) < 0.06)


@pytest.mark.slow
def test_coverage_of_ten_thousand_toys(fits):
    study = mx.coverage_study(fits, TRUTH)
    for kind in (study.hesse, study.minos):
        assert np.all(np.abs(kind.fraction - study.cl) < 4 * 0.0047)
        np.testing.assert_allclose(kind.fraction + kind.above + kind.below, 1.0)
        np.testing.assert_array_equal(kind.count, NUM)
        assert np.all((kind.low < kind.fraction) & (kind.fraction < kind.high))
    # against intervals by hand
    low, high = fits.values + fits.minos[0], fits.values + fits.minos[1]
    truth = np.array([0.3, 2000.0, 1.2])
    np.testing.assert_allclose(study.minos.fraction, np.mean((low <= truth) & (truth <= high), axis=0), atol=1e-12)


def test_the_fits_are_those_of_single_fits(fits):
    toys = mx.sample(NLL, TRUTH, KEY, 200)
    single = jax.jit(lambda some: jax.lax.map(lambda toy: mx.fit(NLL, TRUTH, toy), some))(toys)
    assert np.max(np.abs(fits.values[:200] - single.values) / single.errors) < 1e-6


def test_bias(fits):
    study = mx.bias(fits, TRUTH)
    values = np.asarray(fits.values)
    np.testing.assert_allclose(study.bias, values.mean(axis=0) - [0.3, 2000.0, 1.2], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(study.spread, values.std(axis=0, ddof=1))
    np.testing.assert_allclose(study.claimed, np.asarray(fits.errors).mean(axis=0))
    np.testing.assert_allclose(study.relative, study.bias / study.spread)
    assert np.all(np.abs(study.bias) < 5 * study.bias_error)
    assert np.all(np.abs(study.spread / study.claimed - 1) < 5 * study.spread_error / study.spread)


@pytest.mark.slow
def test_failed_toys_do_not_count():
    """A tenth of the toys is poisoned: the figures are those of the others, and the number is told."""
    toys = np.array(mx.sample(NLL, TRUTH, KEY, 300))
    good = np.arange(300) % 10 != 0
    poisoned = np.where(good[:, None], toys, np.nan)
    for study in (mx.pull_study, mx.bias, mx.coverage_study):
        found, clean = study(NLL, TRUTH, poisoned), study(NLL, TRUTH, toys[good])
        assert (found.total, found.num_failed) == (300, 30)
        assert (clean.total, clean.num_failed) == (270, 0)
        assert "300 toys, 30 failed and left out (30 Not finite at the start)" in str(found)
        assert "270 toys, all valid" in str(clean)
        assert [line for line in str(found).splitlines()[1:]] == str(clean).splitlines()[1:]
    pulls = mx.pull_study(NLL, TRUTH, poisoned).pulls
    assert np.all(np.isnan(pulls[~good]))
    assert np.all(np.isfinite(pulls[good]))


@pytest.mark.slow
def test_all_failed():
    toys = np.full((5, 40), np.nan)
    for study in (mx.pull_study, mx.bias, mx.coverage_study):
        found = study(NLL, TRUTH, toys)
        assert found.num_failed == 5
        assert "—" in str(found)


def test_errors_of_the_figures():
    """Means and widths of many sets spread as their errors say, for a distribution with long tails too."""
    rng = np.random.default_rng(0)
    for draw in (rng.normal, lambda size: rng.exponential(size=size)):
        _, mean, width, width_error = moments(draw(size=(400, 3000)))
        assert abs(np.std(mean) / np.mean(width / 20) - 1) < 0.06
        assert abs(np.std(width) / np.sqrt(np.mean(width_error**2)) - 1) < 0.1
    n, mean, width, error = moments(np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, 2.0]]))
    np.testing.assert_array_equal(n, [2, 1])
    np.testing.assert_allclose(mean, [2.0, 2.0])
    np.testing.assert_allclose(width, [2**0.5, np.nan])
    assert np.isnan(error[1])


def test_wilson():
    """As scipy has it."""
    counts = np.array([0, 3, 68, 100])
    low, high = wilson(counts, np.full(4, 100))
    for k, a, b in zip(counts.tolist(), low, high, strict=True):
        exact = stats.binomtest(k, 100).proportion_ci(math.erf(0.5**0.5), method="wilson")
        np.testing.assert_allclose([a, b], [exact.low, exact.high], atol=1e-12)


class TestBootstrap:
    X = np.random.default_rng(1).normal(1.0, 3.0, 400)

    @pytest.mark.slow
    def test_mean_of_events(self):
        """The standard error of a mean is that of the data, whatever the model."""
        nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Normal(p["mu"], 2.0))
        params = {"mu": mx.Parameter(2.0)}
        result = mx.fit(nll, params, self.X)
        found = mx.bootstrap(nll, result, self.X, 2000, KEY, kind="poisson")
        exact = self.X.std() / 400**0.5
        assert abs(float(found.error[0]) - exact) < 4 * float(found.error_error[0])
        assert abs(float(found.bias[0])) < 4 * float(found.bias_error[0])
        model = mx.bootstrap(nll, result, self.X, 2000, KEY)
        assert abs(float(model.error[0]) - 2.0 / 400**0.5) < 4 * float(model.error_error[0])
        low, high = found.interval(0.6827)
        assert abs((high - low)[0] / 2 - exact) < 0.15 * exact

    def test_counts(self):
        """One number a bin: the error is the square root of the count."""
        nll = mx.PoissonNLL(lambda p: p["x"])
        data = jnp.array([100.0, 25.0])
        result = mx.fit(nll, {"x": mx.Parameter(jnp.array([90.0, 30.0]))}, data)
        found = mx.bootstrap(nll, result, data, 3000, KEY, kind="poisson")
        assert np.all(np.abs(found.error - [10.0, 5.0]) < 4 * found.error_error)
        assert abs(found.covariance[0, 1]) < 4 * 50 / 3000**0.5

    def test_weighted_counts(self):
        nll = mx.PoissonNLL(lambda p: p["x"] * jnp.ones(1))
        data = mx.Counts(jnp.array([50.0]), jnp.array([150.0]))
        result = mx.fit(nll, {"x": mx.Parameter(40.0)}, data)
        found = mx.bootstrap(nll, result, data, 3000, KEY, kind="poisson")
        assert abs(float(found.error[0]) - 150**0.5) < 4 * float(found.error_error[0])

    def test_points(self):
        """A constant through points that scatter twice as much as their errors say."""
        rng = np.random.default_rng(3)
        data = mx.Points(np.arange(200.0), rng.normal(1.0, 0.2, 200), 0.1)
        nll = mx.LeastSquares(lambda p, x: p["c"] + 0 * x)
        result = mx.fit(nll, {"c": mx.Parameter(0.5)}, data)
        found = mx.bootstrap(nll, result, data, 2000, KEY, kind="poisson")
        assert abs(float(found.error[0]) / (np.std(data.y) / 200**0.5) - 1) < 0.08
        assert float(result.errors[0]) < 0.6 * float(found.error[0])

    def test_constraints_are_measured_again(self):
        """The mean of a Poisson number of 100 and a normal measurement of 10 %, each drawn around what was seen."""
        nll = mx.PoissonNLL(lambda p: 100 * p["x"] * jnp.ones(1)) + mx.NormalConstraint("x", 0.1)
        data = (jnp.array([100.0]), 1.0)
        result = mx.fit(nll, {"x": mx.Parameter(1.1)}, data)
        found = mx.bootstrap(nll, result, data, 3000, KEY, kind="poisson")
        assert abs(float(found.error[0]) - float(result.errors[0])) < 5 * float(found.error_error[0])

    def test_bad_input(self):
        nll = mx.PoissonNLL(lambda p: p["x"])
        data = jnp.array([100.0])
        result = mx.fit(nll, {"x": mx.Parameter(jnp.array([90.0]))}, data)
        with pytest.raises(ValueError, match="'parametric' or 'poisson'"):
            mx.bootstrap(nll, result, data, 10, KEY, kind="blocks")
        with pytest.raises(TypeError, match="the result of one fit"):
            mx.bootstrap(nll, {"x": 1.0}, data, 10, KEY)
        with pytest.raises(TypeError, match="no option 'hesse'"):
            mx.bootstrap(nll, result, data, 10, KEY, hesse=True)
        plain = mx.Likelihood(lambda p, d: 0.5 * (p["x"] - d) ** 2)
        fitted = mx.fit(plain, {"x": mx.Parameter(0.0)}, 1.0)
        with pytest.raises(TypeError, match="what an event is"):
            mx.bootstrap(plain, fitted, 1.0, 10, KEY, kind="poisson")
        points = mx.Points(np.arange(5.0), np.ones(5), covariance=np.eye(5))
        line = mx.LeastSquares(lambda p, x: p["c"] + 0 * x)
        with pytest.raises(TypeError, match="cannot be resampled one by one"):
            mx.bootstrap(line, mx.fit(line, {"c": 0.5}, points), points, 10, KEY, kind="poisson")


BAD = {
    "no toys": (lambda: mx.pull_study(NLL, TRUTH), TypeError, "takes a likelihood, parameters and toys"),
    "one fit": (
        lambda: mx.pull_study(mx.fit(NLL, TRUTH, jnp.ones(40) * 50), TRUTH),
        ValueError,
        "fits of many toys",
    ),
    "an option of fits": (lambda: mx.bias(NLL, TRUTH, mx.Toys(3, KEY), hesse=False), TypeError, "no option 'hesse'"),
    "unknown truth": (
        lambda: mx.bias(NLL, TRUTH, mx.Toys(3, KEY), truth={"mu": 0.3, "n": 1.0}),
        ValueError,
        "the true value of 'sigma' is not known",
    ),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_tables(fits):
    for study in (mx.pull_study(fits, TRUTH), mx.coverage_study(fits, TRUTH), mx.bias(fits, TRUTH)):
        assert "10000 toys, all valid" in repr(study)
        assert "│ sigma │" in repr(study)
        assert study._repr_html_().startswith("<p>")
