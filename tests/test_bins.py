"""`PoissonNLL` and `BinnedNLL` of a distribution: a histogram fitted to densities."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import migrax as mx

D = mx.distributions
EDGES = np.linspace(0.0, 10.0, 51)
COUNTS = np.histogram(
    np.concatenate([np.random.default_rng(1).normal(4.0, 0.8, 500), np.random.default_rng(2).exponential(3.0, 4000)]),
    EDGES,
)[0].astype(float)
PARAMS = {
    "mu": mx.Parameter(4.2), "sigma": mx.Parameter(0.9, lower=0.01), "rate": mx.Parameter(0.3),
    "s": mx.Parameter(400.0), "b": mx.Parameter(4000.0),
}  # fmt: skip
AT = {"mu": 4.1, "sigma": 0.8, "rate": 0.3, "s": 450.0, "b": 3900.0}


def shapes(p):
    return {"s": D.Normal(p["mu"], p["sigma"]), "b": D.Exponential(p["rate"], 0.0, 10.0)}


def model(p):
    return D.Mixture(shapes(p), yields={"s": p["s"], "b": p["b"]})


def by_hand(p):
    z = (EDGES - p["mu"]) / p["sigma"]
    decay = jnp.exp(-p["rate"] * EDGES)
    normal = jnp.diff(jax.scipy.special.ndtr(z))
    return p["s"] * normal + p["b"] * (decay[:-1] - decay[1:]) / (1 - decay[-1])


NLL = mx.PoissonNLL(distribution=model, edges=EDGES)
BY_HAND = mx.PoissonNLL(by_hand)


def test_the_fit_is_that_of_the_formula_and_of_iminuit():
    found, formula = (mx.fit(nll, PARAMS, COUNTS) for nll in (NLL, BY_HAND))
    assert found.valid
    iminuit, cost = pytest.importorskip("iminuit"), pytest.importorskip("iminuit.cost")

    def scaled_cdf(x, mu, sigma, rate, s, b):
        background = -np.expm1(-rate * x) / -np.expm1(-10 * rate)
        return s * stats.norm.cdf(x, mu, sigma) + b * background

    start = {name: p.value for name, p in PARAMS.items()}
    m = iminuit.Minuit(cost.ExtendedBinnedNLL(COUNTS, EDGES, scaled_cdf), **start)
    m.limits["sigma"] = (0.01, None)
    m.strategy = 2
    m.migrad()
    for name in PARAMS:
        value, error = found[name].value, found[name].error
        np.testing.assert_allclose(value, formula[name].value, rtol=1e-8)
        np.testing.assert_allclose(error, formula[name].error, rtol=1e-6)
        assert abs(value - m.values[name]) < 5e-3 * error
        np.testing.assert_allclose(error, m.errors[name], rtol=0.01)
    np.testing.assert_allclose(2 * found.nll, m.fval, atol=1e-4)


def test_values_predictions_and_toys():
    np.testing.assert_allclose(NLL(AT, COUNTS), BY_HAND(AT, COUNTS), rtol=1e-12)
    np.testing.assert_allclose(NLL.prediction(AT), by_hand(AT), rtol=1e-12)
    np.testing.assert_allclose(mx.asimov(NLL, AT), by_hand(AT), rtol=1e-12)
    keys = jax.random.key(3)
    np.testing.assert_array_equal(mx.sample(NLL, AT, keys), mx.sample(BY_HAND, AT, keys))


def test_under_jit_with_the_likelihood_as_an_argument():
    value = eqx.filter_jit(lambda nll, p: jax.value_and_grad(nll)(p, COUNTS))
    got, exact = value(NLL, AT), value(BY_HAND, AT)
    np.testing.assert_allclose(got[0], exact[0], rtol=1e-12)
    for name in AT:
        np.testing.assert_allclose(got[1][name], exact[1][name], rtol=1e-8, atol=1e-9)
    # edges that are parameters of a program
    shifted = jax.jit(lambda e: mx.PoissonNLL(distribution=model, edges=e)(AT, COUNTS))
    np.testing.assert_allclose(shifted(jnp.asarray(EDGES)), exact[0], rtol=1e-12)


def test_part_of_the_range_with_gaps_and_a_total():
    rows = np.stack([EDGES[:-1], EDGES[1:]], axis=1)
    used = (EDGES[:-1] < 3) | (EDGES[:-1] >= 5)
    sidebands = mx.PoissonNLL(distribution=model, edges=rows[used])
    np.testing.assert_allclose(sidebands.prediction(AT), by_hand(AT)[used], rtol=1e-12)
    one = mx.PoissonNLL(distribution=lambda p: shapes(p)["s"], total=lambda p: p["s"], edges=[-np.inf, 4.0, np.inf])
    expected = AT["s"] * stats.norm.cdf(AT["mu"], 4.0, AT["sigma"])
    np.testing.assert_allclose(one.prediction(AT), [AT["s"] - expected, expected], rtol=1e-12)
    # a total of its own takes the place of the yields
    fewer = mx.PoissonNLL(distribution=model, total=lambda p: 10.0, edges=EDGES)
    np.testing.assert_allclose(fewer.prediction(AT), by_hand(AT) * 10 / (AT["s"] + AT["b"]), rtol=1e-12)
    none = mx.PoissonNLL(distribution=model, total=lambda p: 0.0, edges=EDGES)
    assert none(AT, np.zeros(50)) == 0
    assert np.isinf(none(AT, COUNTS))


def test_the_shape_alone():
    fractions = mx.BinnedNLL(distribution=model, edges=EDGES)
    np.testing.assert_allclose(fractions(AT, COUNTS), mx.BinnedNLL(by_hand)(AT, COUNTS), rtol=1e-12)


@pytest.mark.float32
def test_float32():
    p = {name: jnp.float32(value) for name, value in AT.items()}
    nll = mx.PoissonNLL(distribution=model, edges=EDGES.astype(np.float32))
    value, gradient = jax.value_and_grad(nll)(p, COUNTS.astype(np.float32))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, float(BY_HAND(AT, COUNTS)), rtol=1e-4)
    assert all(np.isfinite(g) for g in gradient.values())


class Other:
    """Of another library: a density without probabilities of bins."""

    def log_prob(self, x):
        return -x


WRONG = {
    "no edges": (lambda: mx.PoissonNLL(distribution=model), TypeError, r"needs edges=, those of the bins"),
    "edges alone": (lambda: mx.PoissonNLL(edges=EDGES), TypeError, r"takes edges with distribution=, not alone"),
    "a total alone": (lambda: mx.PoissonNLL(by_hand, total=len), TypeError, r"takes a total with distribution="),
    "both": (lambda: mx.PoissonNLL(by_hand, distribution=model, edges=EDGES), TypeError, r"takes one of expected"),
    "both logs": (
        lambda: mx.PoissonNLL(log_expected=by_hand, distribution=model, edges=EDGES), TypeError, "not both",
    ),
    "falling edges": (lambda: mx.PoissonNLL(distribution=model, edges=EDGES[::-1]), ValueError, "must be increasing"),
    "one edge": (lambda: mx.PoissonNLL(distribution=model, edges=[1.0]), ValueError, "edges of bins must have shape"),
    "a distribution": (lambda: mx.PoissonNLL(distribution=model(AT), edges=EDGES), TypeError, "must be callable as"),
    "no total": (
        lambda: mx.PoissonNLL(distribution=lambda p: shapes(p)["s"], edges=EDGES)(AT, COUNTS), TypeError,
        r"this Normal does not say how many events are expected: give PoissonNLL a total\(params\)",
    ),
    "fractions": (
        lambda: mx.PoissonNLL(distribution=lambda p: D.Mixture(shapes(p), fractions={"s": 0.1}), edges=EDGES)(
            AT, COUNTS
        ), TypeError, "this Mixture does not say how many events",
    ),
    "many totals": (
        lambda: mx.PoissonNLL(distribution=model, total=lambda p: jnp.ones(2), edges=EDGES)(AT, COUNTS), ValueError,
        r"must return one number, got an array of shape \(2,\)",
    ),
    "no integrals": (
        lambda: mx.PoissonNLL(distribution=lambda p: Other(), total=lambda p: 1.0, edges=EDGES)(AT, COUNTS), TypeError,
        "no log_integral",
    ),
    "no number of bins": (lambda: mx.PoissonNLL(distribution=model, edges=EDGES)(AT, COUNTS[1:]), ValueError, "shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case):
    call, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        call()


class Ramp(D.AbstractDistribution):
    """A user's distribution, which may do with its ends what JAX's arrays can."""

    slope: jax.Array

    def log_prob(self, x):
        return jnp.log(2 * jnp.asarray(x) + 0 * self.slope)

    def log_integral(self, low, high):
        first = jnp.asarray(0.0).at[...].set(0.0)
        return jnp.log1p(low.at[0].set(low[0]) * 0 + high**2 - low**2 - 1 + first)

    def sample(self, key, shape=()):
        return jnp.sqrt(jax.random.uniform(key, shape))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["direct", "jit"])
def test_a_users_distribution_gets_arrays_of_jax(wrap):
    bins = wrap(lambda slope: Ramp(slope).log_bin_integrals(np.array([0.0, 0.5, 1.0])))(jnp.asarray(1.0))
    np.testing.assert_allclose(jnp.exp(bins), [0.25, 0.75], rtol=1e-12)
