"""Unbinned likelihoods against published fits, iminuit's cost functions and closed forms."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit, cost
from scipy import stats

import migrax as mx

P = mx.Parameter
FOLDER = Path(__file__).parent / "data" / "unbinned"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
X = jnp.asarray(np.random.default_rng(3).normal(1.0, 2.0, size=300))
WEIGHTS = jnp.asarray(np.random.default_rng(4).uniform(0.2, 3.0, size=300))
START = {"mu": P(0.0), "sigma": P(1.0, lower=0.01)}


def log_normal_density(p, x):
    return mx.distributions.Normal(p["mu"], p["sigma"]).log_prob(x)


NORMAL = mx.UnbinnedNLL(log_normal_density)


def column(file):
    return jnp.asarray(np.loadtxt(FOLDER / file, delimiter=",", skiprows=1, usecols=1))


def test_sea_levels():
    """The generalised extreme value distribution; Coles (2001), section 3.4.1."""

    def log_prob(p, x):
        y = 1 + p["xi"] * (x - p["mu"]) / p["sigma"]
        inside = y > 0
        log_y = jnp.log(jnp.where(inside, y, 1.0))
        return jnp.where(inside, -jnp.log(p["sigma"]) - (1 + 1 / p["xi"]) * log_y - jnp.exp(-log_y / p["xi"]), -jnp.inf)

    x = column("portpirie.csv")
    start = {"mu": P(float(x.mean())), "sigma": P(float(x.std()), lower=1e-3), "xi": P(-0.1)}
    result = mx.fit(mx.UnbinnedNLL(log_prob), start, x)
    expected = EXPECTED["portpirie.csv"]
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, expected["more_digits_seen_with_iminuit"], atol=6e-6)
    np.testing.assert_allclose(-result.nll, expected["log_likelihood"], atol=0.005)


def test_rainfall():
    """The generalised Pareto distribution of the excess over 30 mm; Coles (2001), section 4.4.1."""

    def log_prob(p, x):
        y = 1 + p["xi"] * x / p["sigma"]
        inside = y > 0
        return jnp.where(
            inside, -jnp.log(p["sigma"]) - (1 + 1 / p["xi"]) * jnp.log(jnp.where(inside, y, 1.0)), -jnp.inf
        )

    rain = column("rain.csv")
    result = mx.fit(mx.UnbinnedNLL(log_prob), {"sigma": P(5.0, lower=1e-3), "xi": P(0.1)}, rain[rain > 30] - 30)
    expected = EXPECTED["rain.csv"]
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, expected["estimates"], atol=0.005)
    np.testing.assert_allclose(-result.nll, expected["log_likelihood"], atol=0.05)


def log_gauss_exp(p, x):
    low, high = -10.0, 10.0
    shape = mx.distributions.Normal(p["mu"], p["sigma"])
    signal = shape.log_prob(x) - shape.log_bin_integrals(jnp.array([low, high]))[0]
    rate = p["lam"]
    background = rate * x - jnp.log((jnp.exp(rate * high) - jnp.exp(rate * low)) / rate)
    return jnp.logaddexp(jnp.log(p["ns"]) + signal, jnp.log(p["nb"]) + background)


@pytest.mark.slow
def test_gaussian_and_exponential():
    """zfit's 21200 events; its own stored fit lies 2.8e-4 above the minimum."""
    file = np.load(FOLDER / "zfit_gauss_exp.npz")
    x = jnp.ravel(jnp.asarray(file[file.files[0]]))
    start = {
        "ns": P(1000.0, lower=0.0),
        "nb": P(20000.0, lower=0.0),
        "mu": P(1.0),
        "sigma": P(1.0, lower=0.1),
        "lam": P(-0.05),
    }
    nll = mx.ExtendedUnbinnedNLL(log_gauss_exp, lambda p: p["ns"] + p["nb"])
    result = mx.fit(nll, start, x)
    theirs = EXPECTED["zfit_gauss_exp.npz"]["estimates"]
    assert bool(result.valid)
    for name, value in theirs.items():
        assert abs(float(result[name].value) - value) < 0.03 * float(result[name].error), name
    above = float(nll({k: jnp.asarray(v) for k, v in theirs.items()}, x) - result.nll)
    assert 0 <= above < 4e-4
    chunked = mx.fit(mx.ExtendedUnbinnedNLL(log_gauss_exp, nll.total, chunk_size=5000), start, x)
    np.testing.assert_allclose(chunked.values, result.values, rtol=1e-6)
    np.testing.assert_allclose(chunked.errors, result.errors, rtol=1e-6)


def test_as_iminuit():
    """Their value is twice ours."""
    density = lambda x, mu, sigma: stats.norm.pdf(x, mu, sigma)  # noqa: E731
    m = Minuit(cost.UnbinnedNLL(np.asarray(X), density), mu=0.0, sigma=1.0)
    m.limits["sigma"], m.tol = (0.01, None), 1e-5
    m.migrad()
    m.hesse()
    result = mx.fit(NORMAL, START, X)
    np.testing.assert_allclose(2 * result.nll, m.fval, rtol=1e-7)
    np.testing.assert_allclose(result.values, m.values, atol=2e-3 * float(result.errors[0]))
    np.testing.assert_allclose(result.errors, m.errors, rtol=5e-3)


def test_extended_as_iminuit():
    scaled = lambda x, n, mu: (n, n * stats.norm.pdf(x, mu, 2.0))  # noqa: E731
    m = Minuit(cost.ExtendedUnbinnedNLL(np.asarray(X), scaled), n=250.0, mu=0.0)
    m.migrad()
    log_density = lambda p, x: jnp.log(p["n"]) + mx.distributions.Normal(p["mu"], 2.0).log_prob(x)  # noqa: E731
    result = mx.fit(mx.ExtendedUnbinnedNLL(log_density, lambda p: p["n"]), {"n": 250.0, "mu": 0.0}, X)
    np.testing.assert_allclose(2 * result.nll, m.fval, rtol=1e-8)
    np.testing.assert_allclose(float(result["n"].value), 300.0, rtol=1e-8)
    np.testing.assert_allclose(float(result["n"].error), np.sqrt(300.0), rtol=1e-6)


def test_weighted_events():
    """The error of a weighted mean is sqrt(sum w² (x - mu)²) / sum w."""
    data = mx.Events(X, WEIGHTS)
    result = mx.fit(mx.UnbinnedNLL(lambda p, x: mx.distributions.Normal(p["mu"], 2.0).log_prob(x)), {"mu": 0.0}, data)
    mu = np.average(X, weights=WEIGHTS)
    assert result.covariance.kind == "sandwich"
    np.testing.assert_allclose(result.values[0], mu, rtol=1e-8)
    np.testing.assert_allclose(
        result.errors[0], np.sqrt(np.sum((WEIGHTS * (X - mu)) ** 2)) / np.sum(WEIGHTS), rtol=1e-7
    )
    # and of a weighted yield sqrt(sum w²)
    log_density = lambda p, x: jnp.log(p["n"]) + mx.distributions.Normal(1.0, 2.0).log_prob(x)  # noqa: E731
    extended = mx.fit(mx.ExtendedUnbinnedNLL(log_density, lambda p: p["n"]), {"n": 250.0}, data)
    np.testing.assert_allclose(extended.values[0], np.sum(WEIGHTS), rtol=1e-8)
    np.testing.assert_allclose(extended.errors[0], np.sqrt(np.sum(WEIGHTS**2)), rtol=1e-7)
    np.testing.assert_allclose(data.total, np.sum(WEIGHTS), rtol=1e-12)


def test_equal_weights_and_no_event():
    ones = mx.fit(NORMAL, START, mx.Events(X, jnp.ones(300)))
    np.testing.assert_allclose(ones.values, mx.fit(NORMAL, START, X).values, rtol=1e-7)
    # an event of weight 0 where the density is 0 counts for nothing
    far = mx.Events(jnp.append(X, jnp.inf), jnp.append(jnp.ones(300), 0.0))
    assert np.isfinite(NORMAL(mx.resolve(START), far))


@pytest.mark.slow
def test_toys_of_different_sizes():
    """Padded with NaN, masked and vmapped: each as alone, values and gradients."""
    sizes = (300, 200, 50)
    padded = jnp.stack([jnp.where(jnp.arange(300) < n, X, jnp.nan) for n in sizes])
    mask = jnp.stack([jnp.arange(300) < n for n in sizes])
    together = jax.vmap(lambda x, m: mx.fit(NORMAL, START, mx.Events(x, mask=m)))(padded, mask)
    assert np.all(together.valid)
    for i, n in enumerate(sizes):
        alone = mx.fit(NORMAL, START, X[:n])
        np.testing.assert_allclose(together.values[i], alone.values, rtol=1e-7)
        np.testing.assert_allclose(together.errors[i], alone.errors, rtol=1e-6)
    np.testing.assert_array_equal(jax.vmap(lambda x, m: mx.Events(x, mask=m).total)(padded, mask), sizes)


@pytest.mark.grid
@pytest.mark.parametrize("chunk_size", [None, 20])
def test_unused_rows_never_reach_the_derivatives(chunk_size):
    """NaN in masked rows, in chunks of nothing else too, and an impossible event of weight 0."""
    log_prob = lambda p, x: jnp.log(p["rate"]) - p["rate"] * x + jnp.log(x)  # noqa: E731
    nll = mx.UnbinnedNLL(log_prob, chunk_size=chunk_size)
    x = jnp.abs(X[:30])
    padded = jnp.concatenate([x, jnp.full(70, jnp.nan)])
    events = mx.Events(padded.at[3].set(-jnp.inf), jnp.ones(100).at[3].set(0.0), jnp.arange(100) < 30)
    value, slope = jax.value_and_grad(lambda r: nll({"rate": r}, events))(0.5)
    expected = jax.value_and_grad(lambda r: nll({"rate": r}, jnp.delete(x, 3)))(0.5)
    np.testing.assert_allclose([value, slope], expected, rtol=1e-12)


def test_a_toy_without_events():
    log_density = lambda p, x: jnp.log(p["n"]) + mx.distributions.Normal(1.0, 2.0).log_prob(x)  # noqa: E731
    nll = mx.ExtendedUnbinnedNLL(log_density, lambda p: p["n"])
    empty = mx.Events(jnp.full(5, jnp.nan), mask=jnp.zeros(5, bool))
    result = mx.fit(nll, {"n": P(3.0, lower=0.0)}, empty)
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, [0.0], atol=1e-9)  # of events


def test_up_is_that_of_a_likelihood():
    with pytest.warns(UserWarning, match="UnbinnedNLL is minus log L: with up=1"):
        mx.fit(NORMAL, START, X, up=1.0)


def test_several_observables():
    x = jnp.asarray(np.random.default_rng(5).normal(size=(100, 2)) + jnp.array([1.0, -1.0]))
    nll = mx.UnbinnedNLL(lambda p, x: -0.5 * jnp.sum((x - p["mu"]) ** 2, axis=1) - jnp.log(2 * jnp.pi))
    result = mx.fit(nll, {"mu": jnp.zeros(2)}, x)
    np.testing.assert_allclose(result.values, x.mean(axis=0), rtol=1e-8)
    np.testing.assert_allclose(result.errors, 0.1, rtol=1e-8)


def test_derivatives_with_respect_to_the_events():
    mean = jax.jit(jax.grad(lambda x: mx.fit(NORMAL, START, x)["mu"].value))(X)
    np.testing.assert_allclose(mean, 1 / 300, rtol=1e-6)


def test_an_impossible_event_is_named():
    uniform = mx.UnbinnedNLL(lambda p, x: jnp.where((x >= 0) & (x < p["high"]), -jnp.log(p["high"]), -jnp.inf))
    result = mx.fit(uniform, {"high": 3.0}, jnp.array([1.0, 2.0, 5.0]))
    assert not bool(result.valid)
    assert "data[2] is not 0, but the model expects 0 there" not in result.message
    assert "The density is 0 at data[2]." in result.message


class Stranger:
    """With the interface of numpyro's distributions."""

    def __init__(self, mu):
        self.mu = mu

    def log_prob(self, x):
        return -0.5 * (x - self.mu) ** 2 - 0.9189385332046727

    def sample(self, key, sample_shape=()):
        return self.mu + jax.random.normal(key, sample_shape)


def mixture(p):
    peak = mx.distributions.TruncatedNormal(p["mu"], 0.5, -5.0, 5.0)
    return mx.distributions.Mixture([peak, mx.distributions.Uniform(-5.0, 5.0)], yields=[p["s"], p["b"]])


PEAK = {"mu": P(0.5), "s": P(60.0, lower=0.0), "b": P(100.0, lower=0.0)}


def test_a_distribution_in_place_of_a_density():
    distribution = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Normal(p["mu"], p["sigma"]))
    np.testing.assert_allclose(distribution(START, X), NORMAL(START, X), rtol=1e-13)
    stranger = mx.UnbinnedNLL(distribution=lambda p: Stranger(p["mu"]))
    np.testing.assert_allclose(mx.fit(stranger, {"mu": 0.0}, X).values, np.mean(X), rtol=1e-8)
    toys = mx.sample(stranger, {"mu": 3.0}, jax.random.key(0), 5, data=X)
    assert toys.shape == (5, 300)
    np.testing.assert_allclose(toys.mean(), 3.0, atol=0.15)


@pytest.mark.slow
def test_toys_of_a_distribution_have_unit_pulls():
    nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Normal(p["mu"], p["sigma"]))
    truth = {"mu": 1.0, "sigma": P(2.0, lower=0.1)}
    toys = mx.sample(nll, truth, jax.random.key(1), 500, data=X)
    fits = jax.jit(jax.vmap(lambda x: mx.fit(nll, truth, x)))(toys)
    assert np.all(fits.valid)
    pulls = (fits["sigma"].value - 2.0) / fits["sigma"].error
    np.testing.assert_allclose([pulls.mean(), pulls.std()], [0.0, 1.0], atol=0.2)
    masked = mx.sample(nll, truth, jax.random.key(1), data=mx.Events(X, mask=jnp.arange(300) < 200))
    assert int(masked.total) == 200


@pytest.mark.slow
def test_toys_of_a_mixture_with_yields():
    """The number of events is Poisson, the arrays have one size, the fits are unbiased with pulls of width 1."""
    nll = mx.ExtendedUnbinnedNLL(distribution=mixture)
    truth = {"mu": P(0.5), "s": P(60.0, lower=0.0), "b": P(100.0, lower=0.0)}
    toys = mx.sample(nll, truth, jax.random.key(3), 400)
    totals = jax.vmap(lambda e: e.total)(toys)
    np.testing.assert_allclose([totals.mean(), totals.var()], [160.0, 160.0], rtol=0.25)
    assert toys.x.shape[1] > 160 + 8 * np.sqrt(160)
    fits = jax.lax.map(jax.jit(lambda e: mx.fit(nll, truth, e)), toys, batch_size=100)
    good = np.asarray(fits.valid)
    assert good.sum() > 395
    pulls = ((fits.values - jnp.array([100.0, 0.5, 60.0])) / fits.errors)[good]
    np.testing.assert_allclose(pulls.mean(axis=0), 0.0, atol=0.25)
    np.testing.assert_allclose(pulls.std(axis=0), 1.0, atol=0.15)


@pytest.mark.slow
def test_a_toy_that_does_not_fit_is_no_toy():
    """Too few rows: NaN throughout, and no fit to it is valid."""
    nll = mx.ExtendedUnbinnedNLL(distribution=mixture, max_events=100)
    toy = mx.sample(nll, PEAK, jax.random.key(0))
    assert np.all(np.isnan(toy.x))
    assert not bool(mx.fit(nll, PEAK, toy).valid)
    sampled = jax.jit(lambda k: nll.sample(mx.resolve(PEAK), k))(jax.random.key(0))
    assert sampled.x.shape == (100,)


BAD = {
    "data": (lambda: mx.fit(NORMAL, START, None), TypeError, "takes an array of events as data"),
    "weights": (lambda: mx.Events(X, jnp.ones(3)), ValueError, r"weight must have shape \(300,\), got \(3,\)"),
    "infinite weight": (lambda: mx.Events(X[:2], [1.0, np.inf]), ValueError, r"weight\[1\] is not finite"),
    "mask": (lambda: mx.Events(X, mask=jnp.ones(300)), TypeError, "mask must hold booleans"),
    "shape": (lambda: mx.Events(jnp.ones((2, 2, 2))), ValueError, r"shape \(n,\) or \(n, dim\), got \(2, 2, 2\)"),
    "density": (
        lambda: mx.fit(mx.UnbinnedNLL(lambda p, x: jnp.sum(p["mu"] * x)), {"mu": 1.0}, X),
        ValueError,
        r"one number an event, shape \(300,\), got \(\)",
    ),
    "arguments": (
        lambda: mx.UnbinnedNLL(lambda x, mu, sigma: x),
        TypeError,
        r"log_prob\(params, x\), but <lambda> takes",
    ),
    "total": (
        lambda: mx.fit(mx.ExtendedUnbinnedNLL(log_normal_density, lambda p: jnp.ones(2)), START, X),
        ValueError,
        "one number, got an array",
    ),
    "both": (
        lambda: mx.UnbinnedNLL(log_normal_density, distribution=mixture),
        TypeError,
        r"either log_prob\(params, x\) or distribution\(params\)",
    ),
    "no distribution": (
        lambda: mx.fit(mx.UnbinnedNLL(distribution=lambda p: p["mu"]), START, X),
        TypeError,
        "must be a distribution with a log_prob",
    ),
    "fractions": (
        lambda: mx.fit(
            mx.ExtendedUnbinnedNLL(
                distribution=lambda p: mx.distributions.Mixture([mx.distributions.Normal(p["mu"], 1.0)], [1.0])
            ),
            {"mu": 0.0},
            X,
        ),
        TypeError,
        "this Mixture has no total: give it yields",
    ),
    "sample of a density": (
        lambda: mx.sample(NORMAL, START, jax.random.key(0), data=X),
        TypeError,
        "cannot sample from a log density",
    ),
    "how many": (
        lambda: mx.sample(mx.UnbinnedNLL(distribution=mixture), PEAK, jax.random.key(0)),
        TypeError,
        "needs data, to know how many events",
    ),
    "toys of weights": (
        lambda: mx.sample(mx.UnbinnedNLL(distribution=mixture), PEAK, jax.random.key(0), data=mx.Events(X, WEIGHTS)),
        TypeError,
        "cannot draw toys with weights",
    ),
    "rows in jit": (
        lambda: jax.jit(lambda p: mx.ExtendedUnbinnedNLL(distribution=mixture).sample(p, jax.random.key(0)))(
            mx.resolve(PEAK)
        ),
        TypeError,
        "give ExtendedUnbinnedNLL a max_events",
    ),
    "no total": (lambda: mx.ExtendedUnbinnedNLL(log_normal_density, 5.0), TypeError, "callable as total"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore:migrax is made for float64")
def test_float32():
    start = jax.tree.map(jnp.float32, START)
    result = mx.fit(NORMAL, start, jnp.asarray(X, jnp.float32))
    assert bool(result.valid)
    assert result.values.dtype == jnp.float32
    np.testing.assert_allclose(result.values, [np.mean(X), np.std(X)], rtol=1e-4)
