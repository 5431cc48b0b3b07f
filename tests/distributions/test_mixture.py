"""Weighted sums of distributions: against mpmath, with weights that are 0 or negative, and with strangers."""

import checks
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import Case
from scipy import stats
from strangers import TFP, Numpyro

import migrax as mx
from migrax.distributions import Exponential, Mixture, Normal, Product

INF = float("inf")


def normal(x, mu, sigma):
    return mpmath.exp(-((x - mu) ** 2) / (2 * sigma**2)) / (sigma * mpmath.sqrt(2 * mpmath.pi))


def two(x, f, mu, sigma):
    return mpmath.log(f * normal(x, mu, sigma) + (1 - f) * normal(x, 1, 2))


def three(x, a, b, c, mu):
    total = a * normal(x, mu, 1) + b * normal(x, 3, mpmath.mpf(1) / 2) + c * (mpmath.exp(-x) if x > 0 else 0)
    return mpmath.log(total / (a + b + c))


def make_three(a, b, c, mu):
    return Mixture(
        {"a": Normal(mu, 1.0), "b": Normal(3.0, 0.5), "c": Exponential(1.0)}, yields={"c": c, "a": a, "b": b}
    )


INTERVALS = [(-INF, INF), (0.5, 1.0), (60.0, 70.0), (-90.0, -80.0), (1.0, 1.0001), (-INF, -3.0)]
X = [-80.0, -1.0, 0.3, 1.1, 4.0, 90.0]
CASES = {
    "fractions": Case(
        lambda f, mu, sigma: Mixture([Normal(mu, sigma), Normal(1.0, 2.0)], [f]), (0.3, 0.2, 0.5), two, X, INTERVALS,
        (-mpmath.inf, -1, 0, 0.5, 1, 4, 60, mpmath.inf),
    ),
    "fraction of 0": Case(
        lambda f, mu, sigma: Mixture([Normal(mu, sigma), Normal(1.0, 2.0)], [f]), (0.0, 0.2, 0.5), two, X, INTERVALS,
        (-mpmath.inf, -1, 0, 0.5, 1, 4, 60, mpmath.inf),
    ),
    "negative": Case(
        lambda f, mu, sigma: Mixture([Normal(mu, sigma), Normal(1.0, 2.0)], [f]), (-0.1, 0.2, 0.5), two, X, INTERVALS,
        (-mpmath.inf, -1, 0, 0.5, 1, 4, 60, mpmath.inf), to=[0, 1],
    ),
    "yields": Case(
        make_three, (20.0, 3.0, 0.5, -1.0), three, [-30.0, -0.5, 0.5, 3.0, 60.0],
        [(-9.0, -3.0), (0.5, 4.0), (-INF, INF)], (-mpmath.inf, -9, -1, 0, 3, 5, mpmath.inf),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestMixture:
    @pytest.mark.grid
    def test_log_prob(self, case):
        checks.check_log_prob(case)

    @pytest.mark.grid
    def test_log_integral(self, case):
        checks.check_log_integral(case)

    @pytest.mark.slow
    def test_derivatives(self, case):
        checks.check_derivatives(case)

    @pytest.mark.grid
    def test_bins(self, case):
        checks.check_bins(case, [-INF, -2.0, -1.0, 0.1, 4.0, INF])


@pytest.mark.slow
def test_samples():
    checks.check_samples(CASES["fractions"])


@pytest.mark.slow
def test_finite():
    checks.check_finite(CASES["fraction of 0"], [-3e4, -50.0, -1.0, 0.2, 0.5, 7.0, 1e4])


@pytest.mark.parametrize("weight", [0.0, 1e-30, 5.0])
def test_derivative_in_a_weight_is_a_ratio(weight):
    # d log(sum) / d w = p_1 / sum, however large or small
    x = jnp.array([-5.0, 0.0, 5.0, 20.0])
    at = lambda w: Mixture([Normal(0.0, 1.0), Normal(0.0, 0.7)], yields=[w, 3.0]).log_density(x)  # noqa: E731
    first, second = stats.norm(0, 1).logpdf(x), stats.norm(0, 0.7).logpdf(x) + np.log(3.0)
    whole = np.logaddexp(second, first + np.log(weight)) if weight else second
    np.testing.assert_allclose(jax.jit(jax.jacfwd(at))(weight), np.exp(first - whole), rtol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.hessian(at))(weight), -np.exp(2 * (first - whole)), rtol=1e-12)


@pytest.mark.slow
def test_derivatives_stay_finite_where_the_ratio_is_not():
    # a component of weight 0 that would be e^5000 times the sum
    at = lambda w, x: Mixture([Normal(0.0, 10.0), Normal(0.0, 0.1)], yields=[w, 1.0]).log_density(x)  # noqa: E731
    for dtype in (jnp.float32, jnp.float64):
        w, x = jnp.asarray(0.0, dtype), jnp.asarray(10.0, dtype)
        np.testing.assert_allclose(at(w, x), stats.norm(0, 0.1).logpdf(10.0), rtol=1e-6)
        assert 1e14 < jax.jit(jax.grad(at))(w, x) < jnp.inf
        assert np.isfinite(jax.jit(jax.hessian(at))(w, x))


@pytest.mark.slow
def test_negative_sum_is_nan_and_no_density_is_minus_infinity():
    d = Mixture([Normal(0.0, 1.0), Exponential(1.0)], yields=[-1.0, 3.0])
    np.testing.assert_array_equal(np.isnan(d.log_prob(np.array([-1.0, 0.1, 2.0]))), [True, False, False])
    d = Mixture([Exponential(1.0), Exponential(2.0, 1.0)], [0.5])
    value, gradient = jax.value_and_grad(
        lambda f: Mixture([Exponential(1.0), Exponential(2.0, 1.0)], [f]).log_prob(-1.0)
    )(0.5)
    assert (value, gradient) == (-np.inf, 0.0)
    assert np.isnan(Mixture([Normal(0.0, 1.0)], yields=[-1.0]).log_prob(0.0))
    assert np.isneginf(Mixture([Normal(0.0, 1.0)], yields=[0.0]).log_density(0.0))
    assert np.all(np.isnan(Mixture([Normal(0.0, 1.0), Normal(0.0, 2.0)], [-0.1]).sample(jax.random.key(0), (3,))))


def test_yields():
    peak, slope, edges = Normal(3.0, 0.2), Exponential(0.5), np.array([0.0, 1.0, 2.0, 4.0])
    d = Mixture({"peak": peak, "slope": slope}, yields={"slope": 900.0, "peak": 120.0})
    assert d.extended
    assert d.total == 1020.0
    expected = 120 * peak.bin_integrals(edges) + 900 * slope.bin_integrals(edges)
    np.testing.assert_allclose(d.expected(edges), expected, rtol=1e-14)
    np.testing.assert_allclose(jnp.exp(d.log_expected(edges)), expected, rtol=1e-14)
    np.testing.assert_allclose(d.log_density(2.9), d.log_prob(2.9) + np.log(1020), rtol=1e-14)
    np.testing.assert_allclose(
        Mixture([peak, slope], yields=jnp.array([-120.0, 10.0])).expected(edges)[2], -119.9, atol=5
    )
    d = Mixture([peak, slope], [0.2])
    assert not d.extended
    for ask in (lambda: d.total, lambda: d.log_density(0.0), lambda: d.log_expected(edges), lambda: d.expected(edges)):
        with pytest.raises(ValueError, match="give it yields"):
            ask()


def test_forms_of_fractions():
    a, b = Normal(0.0, 1.0), Normal(1.0, 2.0)
    value = Mixture([a, b], [0.25]).log_prob(0.3)
    for fractions in ([0.25, 0.75], (0.25,), jnp.array([0.25]), np.array([0.25, 0.75]), 0.25):
        np.testing.assert_allclose(Mixture((a, b), fractions).log_prob(0.3), value, rtol=1e-15)
    for fractions in ({"b": 0.75, "a": 0.25}, {"b": 0.75}, {"a": 0.25}, [0.25]):
        np.testing.assert_allclose(Mixture({"a": a, "b": b}, fractions).log_prob(0.3), value, rtol=1e-15)
    nested = Mixture([Mixture([a, b], [0.5]), b], [0.5])
    np.testing.assert_allclose(nested.log_prob(0.3), value, rtol=1e-15)
    # lanes of fractions
    lanes = Mixture([a, b], jnp.array([[0.25, 0.5]]).reshape(1, 2))
    np.testing.assert_allclose(lanes.log_prob(0.3)[0], value, rtol=1e-15)


@pytest.mark.parametrize(
    ("kind", "message", "make"),
    [
        (TypeError, "either fractions or yields", lambda a: Mixture([a, a])),
        (TypeError, "either fractions or yields", lambda a: Mixture([a, a], [0.5], [1.0, 2.0])),
        (ValueError, "add up to 1, got 0.9", lambda a: Mixture([a, a], [0.5, 0.4])),
        (ValueError, "3 components take 3 or 2 fractions, got 1", lambda a: Mixture([a, a, a], [0.5])),
        (ValueError, "2 components take 2 yields, got 1", lambda a: Mixture([a, a], yields=[0.5])),
        (ValueError, r"no yields for \['b'\] and yields for \['c'\], which",
         lambda a: Mixture({"a": a, "b": a}, yields={"a": 1.0, "c": 2.0})),
        (ValueError, r"no fractions for \['a', 'b'\]", lambda a: Mixture({"a": a, "b": a}, {})),
        (ValueError, "need components by name", lambda a: Mixture([a, a], {"a": 1.0})),
        (TypeError, "component 'b' of the mixture .* got float", lambda a: Mixture({"a": a, "b": 1.0}, [0.5])),
        (TypeError, "component 1 .* is the class Normal", lambda a: Mixture([a, Normal], [0.5])),
        (TypeError, "sequence or a dict, got Normal", lambda a: Mixture(a, [0.5])),
        (ValueError, "at least one", lambda a: Mixture([], [])),
    ],
)  # fmt: skip
def test_nonsense(kind, message, make):
    with pytest.raises(kind, match=message):
        make(Normal(0.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("stranger", [Numpyro, TFP])
def test_of_other_libraries(stranger):
    d, ours = (
        Mixture([stranger(0.0, 1.0), Normal(3.0, 0.5)], [0.4]),
        Mixture([Normal(0.0, 1.0), Normal(3.0, 0.5)], [0.4]),
    )
    x = jnp.linspace(-3.0, 5.0, 7)
    np.testing.assert_allclose(d.log_prob(x), ours.log_prob(x), rtol=1e-13)
    assert (
        stats.kstest(np.asarray(d.sample(jax.random.key(3), (5_000,))), lambda x: np.asarray(ours.cdf(x))).pvalue > 1e-3
    )
    lanes = Mixture([stranger(jnp.zeros((3, 1)), 1.0), Normal(3.0, jnp.ones(2))], [0.4])
    draws = lanes.sample(jax.random.key(0), (4,))
    assert draws.shape == (4, 3, 2)
    assert np.unique(np.asarray(draws)).size == 24  # all independent
    with pytest.raises(TypeError, match=f"component 0 of the mixture is a {stranger.__name__} .* no log_integral"):
        d.log_integral(0.0, 1.0)
    with pytest.raises(TypeError, match="Function has no sample"):
        Mixture([Function()], [1.0]).sample(jax.random.key(0))


class Function:
    def log_prob(self, x):
        return -x


def test_of_several_observables():
    flat = Product([Normal(0.0, 1.0), Exponential(1.0)])
    d = Mixture([flat, Product([Normal(5.0, 1.0), Exponential(3.0)])], [0.3])
    x = jnp.array([[0.3, 1.0], [5.0, 0.1]])
    exact = np.log(
        0.3 * stats.norm.pdf(x[:, 0]) * np.exp(-x[:, 1]) + 0.7 * stats.norm.pdf(x[:, 0] - 5) * 3 * np.exp(-3 * x[:, 1])
    )
    np.testing.assert_allclose(d.log_prob(x), exact, rtol=1e-13)
    draws = np.asarray(d.sample(jax.random.key(0), (8_000,)))
    assert draws.shape == (8_000, 2)
    np.testing.assert_allclose(np.mean(draws, axis=0), [3.5, 0.3 + 0.7 / 3], atol=0.1)
    np.testing.assert_allclose(np.mean(draws[draws[:, 0] < 2, 1]), 1.0, atol=0.1)  # a component draws whole events


@pytest.mark.slow
def test_in_fits():
    truth = {"peak": 300.0, "slope": 700.0, "mu": 3.0}

    def model(p):
        yields = {name: p[name] for name in ("peak", "slope")}
        return Mixture({"peak": Normal(p["mu"], 0.2), "slope": Exponential(0.5)}, yields=yields)

    x = model(truth).sample(jax.random.key(1), (1000,))
    unbinned = mx.fit(mx.ExtendedUnbinnedNLL(lambda p, x: model(p).log_density(x), lambda p: model(p).total), truth, x)
    edges = np.append(np.linspace(0.0, 6.0, 61), np.inf)
    counts = jnp.asarray(np.histogram(x, edges)[0], float)
    binned = mx.fit(mx.PoissonNLL(log_expected=lambda p: model(p).log_expected(edges)), truth, counts)
    for result in (unbinned, binned):
        assert result.valid
        np.testing.assert_allclose(result.params["peak"] + result.params["slope"], 1000.0, rtol=1e-5)
        np.testing.assert_allclose(result.params["mu"], 3.0, atol=0.05)
