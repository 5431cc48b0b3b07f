"""Tests of hypotheses by toys: exact p-values of counting experiments, asymptotic ones, importance sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import histfactory
import migrax as mx
from migrax._hypotest import ensemble, noisy_root
from migrax._hypotest.formulas import fraction_error
from migrax._hypotest.limit_status import LimitStatus
from migrax._hypotest.toy_limit import heights
from migrax._hypotest.toys import ToyStatistics

KEY = jax.random.key(7)
# n events on a background that is known
COUNTING = mx.PoissonNLL(lambda p: 2.0 * p["mu"] * jnp.ones(1) + 4.0)
MU = {"mu": mx.Parameter(1.0, lower=0.0)}


def within(value, error, exact, sigmas=4.5):
    assert float(error) > 0
    assert abs(float(value) - exact) < sigmas * float(error), (float(value), float(error), exact)


@pytest.fixture(scope="module")
def hello():
    return histfactory.hello_world()


class TestPValues:
    @pytest.mark.grid
    @pytest.mark.parametrize("n", [0, 2, 5, 9])
    def test_counting(self, n):
        """Integers: q̃ is a function of n that falls up to 4 + 2 mu, so that p(s+b) = P(k <= n)."""
        test = mx.hypotest(COUNTING, MU, jnp.array([float(n)]), "mu", 2.0, calculator=mx.Toys(20_000, KEY))
        assert bool(test.valid)
        assert int(test.toys.tested.num_failed) == 0
        exact = (
            {True: stats.poisson.cdf(n, 8.0), False: 1.0}[n < 8],
            {True: stats.poisson.cdf(n, 4.0), False: 1.0}[n < 8],
        )
        within(test.p_sb, test.p_sb_error, exact[0])
        within(test.p_b, test.p_b_error, exact[1])
        within(test.cls, test.cls_error, exact[0] / exact[1])
        # the band: of the counts at the quantiles of a Poisson number of 4
        k = stats.poisson.ppf(stats.norm.cdf([-2.0, -1.0, 0.0, 1.0, 2.0]), 4.0)
        p_sb, p_b = (np.where(k < 8, stats.poisson.cdf(k, m), 1.0) for m in (8.0, 4.0))
        np.testing.assert_allclose(test.expected_p_sb, p_sb, rtol=0.1, atol=5e-3)
        np.testing.assert_allclose(test.expected_cls, p_sb / p_b, rtol=0.1, atol=5e-3)

    @pytest.mark.grid
    @pytest.mark.parametrize("importance", [False, True])
    def test_discovery(self, importance):
        toys = mx.Toys(20_000, KEY, importance=importance, alternative=3.0)
        found = mx.discovery(COUNTING, MU, jnp.array([9.0]), "mu", calculator=toys)
        exact = stats.poisson.sf(8, 4.0)
        within(found.p_value, found.p_value_error, exact)
        np.testing.assert_allclose(found.significance, stats.norm.isf(found.p_value), rtol=1e-6)
        np.testing.assert_allclose(found.expected_p_value[2], stats.poisson.sf(9, 4.0), rtol=0.1)

    @pytest.mark.slow
    @pytest.mark.parametrize("n", [25.0, 40.0])
    def test_tiny_p_values(self, n):
        """6.6 and 11 standard deviations, by 4000 toys a point, to a few percent."""
        toys = mx.Toys(4000, KEY, importance=True)
        found = mx.discovery(COUNTING, MU, jnp.array([n]), "mu", calculator=toys)
        exact = stats.poisson.sf(n - 1, 4.0)
        within(found.p_value, found.p_value_error, exact)
        assert float(found.p_value_error) < 0.1 * exact
        plain = mx.discovery(COUNTING, MU, jnp.array([n]), "mu", calculator=mx.Toys(4000, KEY))
        assert float(plain.p_value) == 0
        assert float(plain.p_value_error) > 0
        assert np.isnan(plain.significance)
        assert "No toy is as extreme" in str(plain)

    @pytest.mark.slow
    def test_asymptotics_where_they_hold(self):
        """Many events, one nuisance parameter: p-values, band, and importance sampling agree."""
        nll = mx.Joint(
            {
                "n": mx.PoissonNLL(lambda p: 100.0 * p["mu"] + 2000.0 * p["b"] * jnp.ones(2)),
                "b": mx.NormalConstraint("b", 0.02),
            }
        )
        params = {"mu": mx.Parameter(0.5, lower=-5.0), "b": mx.Parameter(1.0)}
        data = {"n": jnp.array([2070.0, 2040.0]), "b": jnp.array(1.0)}
        for statistic in (mx.QTilde(), mx.QMu(), mx.TMu(), mx.TMuTilde()):
            plain = mx.hypotest(nll, params, data, "mu", 1.3, statistic=statistic)
            toys = mx.hypotest(nll, params, data, "mu", 1.3, statistic=statistic, calculator=mx.Toys(4000, KEY))
            np.testing.assert_allclose(toys.statistic, plain.statistic, rtol=1e-8)
            within(toys.p_sb, toys.p_sb_error, float(plain.p_sb))
            within(toys.p_b, toys.p_b_error, float(plain.p_b))
            if not isinstance(statistic, mx.TMu | mx.TMuTilde):
                for k in range(5):
                    if plain.expected_p_sb[k] < 0.5:  # above, all toys have q = 0
                        within(toys.expected_p_sb[k], toys.expected_p_sb_error[k], float(plain.expected_p_sb[k]))
        heavy = mx.hypotest(nll, params, data, "mu", 3.0, calculator=mx.Toys(4000, KEY, importance=True))
        exact = mx.hypotest(nll, params, data, "mu", 3.0)
        np.testing.assert_allclose(np.log(heavy.p_sb), np.log(exact.p_sb), rtol=0.03)
        within(heavy.p_b, heavy.p_b_error, float(exact.p_b))

    @pytest.mark.slow
    def test_no_excess(self):
        """All toys are beyond: 1, and never above it, with weights that fluctuate."""
        nll = mx.PoissonNLL(lambda p: p["s"] + 3.0 * jnp.ones(1))
        for seed in range(4):
            toys = mx.Toys(1000, jax.random.key(seed), importance=True)
            found = mx.discovery(nll, {"s": mx.Parameter(1.0, lower=0.0)}, jnp.ones(1), "s", calculator=toys)
            assert float(found.p_value) == 1
            assert float(found.p_value_error) > 0
            assert float(found.significance) == -np.inf
            test = mx.hypotest(nll, {"s": mx.Parameter(1.0, lower=0.0)}, jnp.array([9.0]), "s", 2.0, calculator=toys)
            assert max(float(test.p_sb), float(test.p_b)) <= 1

    @pytest.mark.slow
    def test_several_parameters(self):
        nll = mx.PoissonNLL(lambda p: p["x"])
        params = {"x": mx.Parameter(jnp.array([100.0, 200.0, 300.0]), lower=0.1)}
        data, at = jnp.array([112.0, 190.0, 303.0]), jnp.array([100.0, 200.0])
        test = mx.hypotest(
            nll,
            params,
            data,
            ["x[0]", "x[1]"],
            at,
            statistic=mx.TMu(),
            calculator=mx.Toys(4000, KEY, alternative=100.0),
        )
        within(test.p_sb, test.p_sb_error, stats.chi2.sf(float(test.statistic), 2))

    @pytest.mark.slow
    def test_global_observables_fluctuate(self, hello, monkeypatch):
        """Each toy has its own, drawn around the conditional nuisance parameters of its hypothesis."""
        nll, params, data = hello
        seen = []
        run = ensemble.run_planned
        keep = lambda planned, fitted, inputs, *rest: seen.append(inputs) or run(planned, fitted, inputs, *rest)  # noqa: E731
        monkeypatch.setattr(ensemble, "run_planned", keep)
        mx.hypotest(nll, params, data, "mu", 1.0, calculator=mx.Toys(50, KEY))
        assert len(seen) == 4  # two hypotheses, free and held
        for (likelihood, _, drawn, _), mu in ((seen[0], 1.0), (seen[2], 0.0)):
            held = mx.fit(nll, mx.fix(params, "mu", mu), data)
            np.testing.assert_allclose(drawn.params["mu"].value, mu)
            np.testing.assert_allclose(drawn.params["b"].value, held.params["b"].value, rtol=1e-6)
            toys = mx.sample(likelihood, drawn.params, drawn.key, 2000)
            expected = held.params["b"].value * histfactory.TAU
            assert np.all(np.abs(toys["b"].mean(axis=0) - expected) < 5 * np.sqrt(expected / 2000))


class TestFailures:
    @pytest.mark.slow
    def test_failed_toys_do_not_count(self, hello, monkeypatch):
        """One in ten cannot be fitted: the others are the same, and p-values are theirs."""
        nll, params, data = hello

        def broken(params, key, d=None):
            toy = nll.sample(params, key, d)
            bad = jax.random.uniform(jax.random.fold_in(key, 1)) < 0.1
            return toy | {"n": jnp.where(bad, jnp.nan, toy["n"])}

        some = mx.Likelihood(nll, sample=broken, expected_data=nll.expected_data)
        good = mx.hypotest(nll, params, data, "mu", 1.0, calculator=mx.Toys(500, KEY))
        test = mx.hypotest(some, params, data, "mu", 1.0, calculator=mx.Toys(500, KEY))
        for mine, all_ in ((test.toys.tested, good.toys.tested), (test.toys.alternative, good.toys.alternative)):
            failed = np.asarray(mine.status) != 0
            assert 20 < failed.sum() < 90
            np.testing.assert_array_equal(np.isnan(mine.values), failed)
            np.testing.assert_allclose(mine.values[~failed], all_.values[~failed], rtol=1e-6, atol=1e-7)
            assert "failed and left out" in mine.told()
        used = np.asarray(test.toys.tested.status) == 0
        kept = np.asarray(good.toys.tested.values)[used]
        np.testing.assert_allclose(test.p_sb, np.mean(kept >= float(test.statistic) - 1e-6), rtol=1e-12)
        assert f"{int(test.toys.tested.num_failed)} failed and left out" in str(test)

    def test_bad_data(self, hello):
        nll, params, data = hello
        test = mx.hypotest(
            nll, params, data | {"n": jnp.array([jnp.nan, 48.0])}, "mu", 1.0, calculator=mx.Toys(50, KEY)
        )
        assert not bool(test.valid)
        assert all(np.all(np.isnan(x)) for x in (test.p_sb, test.p_b, test.cls, test.expected_cls, test.cls_error))

    @pytest.mark.slow
    def test_another_minimum(self):
        """A toy whose conditional fit is lower than its free one is fitted again from there: q is never negative."""
        nll = mx.Likelihood(
            lambda p, d: 0.5 * (p["x"] - d) ** 2 + 2 * (1 - jnp.cos(4 * (p["x"] - d))),
            sample=lambda p, key, d=None: p["x"] + jax.random.normal(key),
            expected_data=lambda p, d=None: p["x"],
        )
        params = {"x": mx.Parameter(0.0)}
        test = mx.hypotest(
            nll, params, jnp.array(0.1), "x", 0.0, statistic=mx.TMu(), calculator=mx.Toys(400, KEY, alternative=1.0)
        )
        good = np.asarray(test.toys.tested.status) == 0
        assert good.mean() > 0.9
        assert np.all(np.asarray(test.toys.tested.values)[good] >= 0)

    @pytest.mark.slow
    def test_not_a_density(self, hello):
        """Importance sampling sees that what is drawn is not what the likelihood describes."""
        nll, params, data = hello
        wrong = mx.Likelihood(lambda p, d: 2 * nll(p, d), sample=nll.sample, expected_data=nll.expected_data)
        with pytest.raises(ValueError, match="mean weight"):
            mx.hypotest(wrong, params, data, "mu", 1.0, calculator=mx.Toys(2000, KEY, importance=True))


class TestJax:
    @pytest.mark.slow
    def test_jit_and_vmap(self):
        """The same toys inside of a compiled function, one value a lane."""
        toys = mx.Toys(100, KEY, importance=True)
        call = lambda mu: mx.hypotest(COUNTING, MU, jnp.array([5.0]), "mu", mu, calculator=toys)  # noqa: E731
        found = jax.jit(jax.vmap(call))(jnp.array([1.0, 3.0]))
        for k, mu in enumerate((1.0, 3.0)):
            one = call(mu)
            np.testing.assert_allclose([found.p_sb[k], found.p_b[k]], [one.p_sb, one.p_b], rtol=1e-6)
            np.testing.assert_allclose(found.toys.tested.values[k], one.toys.tested.values, rtol=1e-6, atol=1e-7)

    @pytest.mark.slow
    def test_derivatives_are_refused(self, hello):
        nll, params, data = hello
        with pytest.raises(TypeError, match="p-values by toys are step functions"):
            jax.grad(lambda mu: mx.hypotest(nll, params, data, "mu", mu, calculator=mx.Toys(20, KEY)).p_sb)(1.0)
        with pytest.raises(TypeError, match=r"cannot be inside jax\.jit"):
            jax.jit(lambda d: mx.upper_limit(nll, params, d, "mu", calculator=mx.Toys(200, KEY)).observed)(data)


class TestLimit:
    @pytest.mark.slow
    def test_hello_world(self, hello):
        nll, params, data = hello
        plain = mx.upper_limit(nll, params, data, "mu")
        found = mx.upper_limit(nll, params, data, "mu", calculator=mx.Toys(3000, KEY))
        assert bool(found.valid)
        within(found.observed, found.observed_error, float(plain.observed))
        for k in range(1, 5):
            assert abs(found.expected[k] - plain.expected[k]) < 4.5 * found.expected_error[k] + 0.05
        assert "±" in str(found)

    def test_counting(self):
        """No event where 4 are expected: CLs = exp(-2 mu), so that the limit is log(20) / 2."""
        found = mx.upper_limit(COUNTING, MU, jnp.zeros(1), "mu", calculator=mx.Toys(20_000, KEY))
        within(found.observed, found.observed_error, np.log(20) / 2)

    @pytest.mark.slow
    def test_beyond_the_bound(self):
        params = {"mu": mx.Parameter(0.5, lower=0.0, upper=1.0)}
        found = mx.upper_limit(COUNTING, params, jnp.array([6.0]), "mu", calculator=mx.Toys(500, KEY))
        assert int(found.status) == int(LimitStatus.BEYOND_BOUND)
        assert np.isnan(found.observed)

    def test_invalid_fit(self):
        found = mx.upper_limit(COUNTING, MU, jnp.array([jnp.nan]), "mu", calculator=mx.Toys(200, KEY))
        assert int(found.status) == int(LimitStatus.FIT_FAILED)
        assert not bool(found.valid)


class TestNoisyRoot:
    def look(self, curves, noise=0.0, seed=0):
        rng = np.random.default_rng(seed)
        return lambda d: noisy_root.Heights(
            np.array([c(d) for c in curves]) + noise * rng.normal(size=len(curves)),
            np.full(len(curves), max(noise, 1e-4)),
        )

    def test_smooth(self):
        curves = [lambda d: 3 - d, lambda d: 3 - d**2, lambda d: 3 * np.exp(-d) - 1]
        for root, exact in zip(
            noisy_root.find_roots(self.look(curves), [0.5], np.inf, 3.0, 3), (3.0, 3**0.5, np.log(3)), strict=True
        ):
            assert root.status == LimitStatus.FOUND
            assert abs(root.distance - exact) < 2e-3

    def test_error(self):
        """The spread of roots over many noises is what is told."""
        pulls = []
        for seed in range(200):
            (root,) = noisy_root.find_roots(self.look([lambda d: 3 - 2 * d], 0.1, seed), [1.0, 2.0], np.inf, 3.0, 1)
            pulls.append((root.distance - 1.5) / root.error)
        assert 0.5 < np.std(pulls) < 1.3
        assert abs(np.mean(pulls)) < 0.3

    @pytest.mark.parametrize("p_b", [0.16, 0.023])
    def test_error_of_few_toys(self, p_b):
        """Expected limits one and two standard deviations low: of 1,000 toys 8 and 1 are left at the root, and none at
        many values that are tried. The spread of roots is what is told."""
        roots = []
        for seed in range(200):
            toys = np.sort(np.random.default_rng(seed).uniform(size=1000))

            def look(distance, toys=toys):
                n = np.searchsorted(toys, p_b * 0.05 ** (distance**1.5))
                error = fraction_error(np.array(n / 1000), 1000)
                valid = ToyStatistics(jnp.zeros((1, 1000)), jnp.ones((1, 1000)), jnp.zeros((1, 1000), int))
                return heights(np.array([n / 1000 / p_b]), np.array([error / p_b]), valid, np.log(0.05), p_b)

            roots += noisy_root.find_roots(look, [0.5, 1.0, 1.5, 2.5, 3.0], np.inf, np.log(20), 1)
        assert all(root.status == LimitStatus.FOUND for root in roots)
        distances, errors = np.array([(root.distance, root.error) for root in roots]).T
        assert abs(np.median(distances) - 1) < 0.15
        assert 0.5 < np.median(errors) / np.std(distances) < 2.0
        assert np.quantile(np.abs(distances - 1) / errors, 0.68) < 1.5
        assert np.quantile(errors, 0.9) < 0.6

    @pytest.mark.parametrize("at", [0.31, 1.234, 2.9, 7.7])
    @pytest.mark.parametrize(
        ("above", "below"), [(1.0, -1.0), (3.0, -0.2), (0.2, -3.0), (3.0, -0.05), (3.0, -0.005), (0.01, -3.0)]
    )
    def test_steps(self, at, above, below):
        """Counts are discrete, and so are the p-values: no secant ends there, and no line fits."""
        looks = []

        def look(distance):
            looks.append(distance)
            return noisy_root.Heights(np.array([above if distance < at else below]), np.array([0.02]))

        (root,) = noisy_root.find_roots(look, [1.0, 2.0], np.inf, 3.0, 1)
        assert root.status == LimitStatus.FOUND
        assert abs(root.distance - at) < 2e-3
        assert root.error > 0.5e-3
        assert root.error < (0.03 if min(above, -below) > 0.02 else 5.0)  # a stair within its error of zero: all of it
        assert len(looks) < 20

    def test_a_fit_that_fails_on_the_way(self):
        curve = lambda d: np.nan if 1.2 < d < 1.9 else 3 - 2 * d  # noqa: E731
        assert noisy_root.find_roots(self.look([curve]), [1.0, 2.0], 9.0, 3.0, 1)[0].status == LimitStatus.FIT_FAILED
        rises = lambda d: np.nan if d > 2.5 else 1.0  # noqa: E731
        assert noisy_root.find_roots(self.look([rises]), [1.0, 2.0], 9.0, 3.0, 1)[0].status == LimitStatus.FIT_FAILED

    def test_statuses(self):
        nan, up = (lambda d: np.nan), (lambda d: 1.0)
        assert noisy_root.find_roots(self.look([nan]), [1.0], 5.0, 3.0, 1)[0].status == LimitStatus.FIT_FAILED
        assert noisy_root.find_roots(self.look([up]), [1.0], 5.0, 3.0, 1)[0].status == LimitStatus.BEYOND_BOUND
        assert noisy_root.find_roots(self.look([up]), [1.0], np.inf, 3.0, 1)[0].status == LimitStatus.NO_EFFECT
        assert noisy_root.find_roots(self.look([up]), [1.0], 0.0, 3.0, 1)[0].status == LimitStatus.BEYOND_BOUND
        down = lambda d: -1.0 - d  # noqa: E731
        assert noisy_root.find_roots(self.look([down]), [1.0], 0.0, 3.0, 1)[0].status == LimitStatus.NONE_ALLOWED
        assert noisy_root.find_roots(self.look([down]), [0.0, 1.0], 5.0, 3.0, 1)[0].status == LimitStatus.NONE_ALLOWED


class TestInterval:
    # G. J. Feldman and R. D. Cousins, Phys. Rev. D 57 (1998) 3873, table X: a normal measurement x0 of mu >= 0, 90 %
    @pytest.mark.grid
    @pytest.mark.parametrize(
        ("x0", "lower", "upper"), [(-1.0, 0.0, 0.81), (0.0, 0.0, 1.64), (1.0, 0.0, 2.64), (3.0, 1.37, 4.64)]
    )
    def test_feldman_cousins(self, x0, lower, upper):
        nll, params = mx.NormalConstraint("mu", 1.0), {"mu": mx.Parameter(1.0, lower=0.0)}
        found = mx.interval(
            nll, params, jnp.array(x0), "mu", cl=0.9, kind="feldman-cousins", calculator=mx.Toys(10_000, KEY)
        )
        assert bool(found.valid)
        within(found.upper, found.upper_error, upper)
        if lower:
            within(found.lower, found.lower_error, lower)
        else:
            assert float(found.lower) == 0
            assert int(found.lower_status) == int(LimitStatus.AT_BOUND)
        assert "Feldman-Cousins interval of mu at 90 %" in str(found)

    @pytest.mark.slow
    def test_central(self, hello):
        nll, params, data = hello
        data = data | {"n": jnp.array([65.0, 70.0])}
        plain = mx.interval(nll, params, data, "mu")
        result = mx.fit(nll, params, data)
        sides = mx.minos(nll, result, data, "mu")
        np.testing.assert_allclose(
            [plain.lower, plain.upper], result["mu"].value + np.array([sides.lower[0], sides.upper[0]])
        )
        toys = mx.interval(nll, params, data, "mu", calculator=mx.Toys(3000, KEY))
        within(toys.lower, toys.lower_error, float(plain.lower))
        within(toys.upper, toys.upper_error, float(plain.upper))

    @pytest.mark.slow
    def test_at_the_bound(self, hello):
        nll, params, data = hello
        found = mx.interval(nll, params, data | {"n": jnp.array([40.0, 41.0])}, "mu")
        assert float(found.lower) == 0
        assert int(found.lower_status) == int(LimitStatus.AT_BOUND)
        assert bool(found.valid)
        inside = jax.jit(jax.vmap(lambda n: mx.interval(nll, params, data | {"n": n}, "mu").upper))
        both = inside(jnp.array([[40.0, 41.0], [65.0, 70.0]]))
        np.testing.assert_allclose(both[0], found.upper, rtol=1e-7)

    @pytest.mark.slow
    def test_nothing_allowed(self):
        """Few events on a large background: the central interval is empty, and says so at both ends."""
        nll = mx.PoissonNLL(lambda p: p["s"] + 3.0 * jnp.ones(1))
        found = mx.interval(nll, {"s": mx.Parameter(1.0, lower=0.0)}, jnp.zeros(1), "s", calculator=mx.Toys(1000, KEY))
        assert np.isnan(found.lower)
        assert np.isnan(found.upper)
        assert not bool(found.valid)
        assert "none allowed" in str(found)


class TestLookElsewhere:
    CENTRES = np.linspace(0.125, 9.875, 40)

    def model(self):
        c = self.CENTRES
        nll = mx.PoissonNLL(lambda p: p["b"] * jnp.ones(40) + p["s"] * jnp.exp(-0.5 * ((c - p["m"]) / 0.4) ** 2))
        params = {"b": mx.Parameter(30.0, lower=1.0), "s": mx.Parameter(1.0), "m": mx.Parameter(5.0, 0.0, 10.0)}
        return nll, params

    @pytest.mark.slow
    def test_agree(self):
        """Gross and Vitells, and toys, on the same excess of two and a half standard deviations."""
        nll, params = self.model()
        data = mx.asimov(nll, {"b": 30.0, "s": 13.0, "m": 6.0})
        found = mx.look_elsewhere(nll, params, data, "s", "m", np.linspace(0.5, 9.5, 19), mx.Toys(2000, KEY))
        assert found.at == 6.0
        assert found.num_failed == 0
        np.testing.assert_allclose(
            found.local_significance, mx.Q0()(nll, mx.fix(params, "m", 6.0), data, "s", 0.0).value ** 0.5
        )
        assert found.local_p_value < found.toy_p_value < 0.5
        assert abs(found.p_value - found.toy_p_value) < 4.5 * np.hypot(found.p_value_error, found.toy_p_value_error)
        assert 1 < found.crossings < 6
        assert "up-crossings" in str(found)

    @pytest.mark.slow
    def test_a_coarse_grid_is_warned_of(self):
        nll, params = self.model()
        with pytest.warns(
            UserWarning, match=r"grid .* too coarse: every second point .* the global p-value is too small"
        ):
            mx.look_elsewhere(nll, params, jnp.full(40, 30.0), "s", "m", np.linspace(0.5, 9.5, 6), mx.Toys(300, KEY))

    def test_bad_input(self):
        nll, params = self.model()
        data = jnp.full(40, 30.0)
        grid = np.linspace(1.0, 9.0, 5)
        toys = mx.Toys(10, KEY)
        for where, calculator, options, error, message in (
            (grid[::-1], toys, {}, ValueError, "ascending"),
            (np.linspace(5.0, 11.0, 4), toys, {}, ValueError, "bounds"),
            (grid, mx.Asymptotic(), {}, TypeError, "counts up-crossings"),
            (grid, toys, {"level": 0.0}, ValueError, "level must be positive"),
        ):
            with pytest.raises(error, match=message):
                mx.look_elsewhere(nll, params, data, "s", "m", where, calculator, **options)
        with pytest.raises(ValueError, match=r"of one signal, got \['b', 's'\]"):
            mx.look_elsewhere(nll, params, data, ["b", "s"], "m", grid, toys)
        with pytest.raises(ValueError, match=r"scans one parameter, got \['b', 'm'\]"):
            mx.look_elsewhere(nll, params, data, "s", ["b", "m"], grid, toys)
        with pytest.raises(TypeError, match=r"cannot be inside jax.jit"):
            jax.jit(lambda n: mx.look_elsewhere(nll, params, n, "s", "m", grid, toys))(data)


TOYS = mx.Toys(20, KEY)
BAD = {
    "params": (lambda m: mx.hypotest(*m, "mu", 1.0, calculator=mx.Toys(20, KEY, m[1])), ValueError, "without params"),
    "a class": (lambda m: mx.hypotest(*m, "mu", 1.0, calculator=mx.Toys), TypeError, r"write mx\.Toys\(n, jax"),
    "importance": (
        lambda m: mx.upper_limit(*m, "mu", calculator=mx.Toys(20, KEY, importance=True)),
        ValueError,
        "without importance",
    ),
    "alternative": (
        lambda m: mx.hypotest(*m, "mu", 1.0, calculator=mx.Toys(20, KEY, alternative=-1.0)),
        ValueError,
        "alternative hypothesis",
    ),
    "asymptotic alternative": (
        lambda m: mx.hypotest(*m, "mu", 1.0, calculator=mx.Asymptotic(alternative=11.0)),
        ValueError,
        "alternative hypothesis",
    ),
    "fit_toys": (lambda m: mx.fit_toys(m[0], m[1], mx.Toys(20, KEY, importance=True)), ValueError, "for tests"),
    "few toys": (lambda m: mx.upper_limit(*m, "mu", calculator=mx.Toys(20, KEY)), ValueError, "take 100 or more"),
    "few toys for an interval": (
        lambda m: mx.interval(*m, "mu", cl=0.9, calculator=mx.Toys(20, KEY)),
        ValueError,
        "take 100 or more",
    ),
    "a number of toys with a point": (lambda m: mx.Toys(1e4, KEY), ValueError, "write 10000"),
    "calculator": (lambda m: mx.hypotest(*m, "mu", 1.0, calculator="toys"), TypeError, r"mx\.Toys\(1000, key\)"),
    "kind": (lambda m: mx.interval(*m, "mu", kind="fc"), ValueError, "feldman-cousins"),
    "feldman-cousins": (lambda m: mx.interval(*m, "mu", kind="feldman-cousins"), ValueError, "needs toys"),
    "cl": (lambda m: mx.interval(*m, "mu", cl=90), ValueError, "between 0 and 1"),
    "a vector": (lambda m: mx.interval(*m, "b"), ValueError, "of one parameter"),
    "cannot be drawn": (
        lambda m: mx.hypotest(
            lambda p, d: (p["mu"] - d) ** 2, {"mu": mx.Parameter(0.1)}, 1.0, "mu", 1.0, calculator=TOYS
        ),
        TypeError,
        "sample",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, hello):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call(hello)
