"""Asimov data of unbinned likelihoods: fits give the parameters back, with the errors of that many events."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax import distributions as D

N = 1000


def scale(value):
    return mx.Parameter(value, lower=0.0)


def peak_on_a_slope(p):
    peak = D.TruncatedNormal(p["mu"], p["sigma"], 0.0, 10.0)
    return D.Mixture([peak, D.Truncated(D.Exponential(1 / p["tau"]), 0.0, 10.0)], yields=[p["s"], p["b"]])


def two_observables(p):
    peak = D.Product([D.Normal(p["mu"], 0.1), D.Exponential(p["tau"])])
    return D.Mixture([peak, D.Product([D.Uniform(0.0, 10.0), D.Exponential(1.0)])], yields=[p["s"], 500.0])


PEAK = {"mu": mx.Parameter(4.0), "sigma": scale(0.05), "tau": scale(3.0), "s": mx.Parameter(20.0), "b": scale(2000.0)}
TWO = {"mu": mx.Parameter(4.0), "tau": scale(3.0), "s": scale(100.0)}

# Made at, fitted from, the errors of N events (closed form; None: not known), how near to the truth in errors.
SHAPES = {
    "normal": (
        lambda p: D.Normal(p["a"], p["b"]),
        (5280.0, 3.0),
        (5281.0, 2.5),
        (3 / N**0.5, 3 / (2 * N) ** 0.5),
        1e-9,
    ),
    "exponential": (lambda p: D.Exponential(p["b"]), (1e-6,), (1.2e-6,), (1e-6 / N**0.5,), 1e-9),
    # Fisher information of the Cauchy distribution: 1 / (2 scale²) for both
    "Cauchy": (lambda p: D.Cauchy(p["a"], p["b"]), (-2.0, 0.5), (-2.1, 0.6), (0.5 * (2 / N) ** 0.5,) * 2, 1e-7),
    "infinite at its end": (lambda p: D.Gamma(0.5, p["b"]), (2.0,), (2.2,), (2 / (0.5 * N) ** 0.5,), 1e-6),
    "kinked": (lambda p: D.CrystalBall(p["a"], p["b"], 1.0, 2.0), (0.0, 1.0), (0.1, 1.2), None, 1e-3),
}


def tree(values):
    return {"b": scale(values[0])} if len(values) == 1 else {"a": mx.Parameter(values[0]), "b": scale(values[1])}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_parameters_come_back(name):
    distribution, truth, start, errors, near = SHAPES[name]
    nll = mx.UnbinnedNLL(distribution=distribution)
    asimov = mx.asimov(nll, tree(truth), data=jnp.zeros(N))
    np.testing.assert_allclose(asimov.total, N, rtol=1e-12)
    result = mx.fit(nll, tree(start), asimov)
    assert bool(result.valid)
    assert np.all(np.abs(result.values - np.array(truth)) < near * result.errors)
    if errors is not None:
        np.testing.assert_allclose(result.errors, errors, rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distribution", "params", "near"), [(peak_on_a_slope, PEAK, 1e-7), (two_observables, TWO, 1e-4)]
)
def test_mixtures_with_yields(distribution, params, near):
    """A narrow peak with few events, and two observables; the error of a total is that of a Poisson number."""
    nll = mx.ExtendedUnbinnedNLL(distribution=distribution)
    truth = {name: p.value for name, p in params.items()}
    total = float(distribution(truth).total)
    asimov = mx.asimov(nll, params)
    np.testing.assert_allclose(asimov.total, total, rtol=1e-12)
    result = mx.fit(nll, {name: shifted(p) for name, p in params.items()}, asimov)
    assert bool(result.valid)
    expected = np.array([truth[name] for name in result.names])
    assert np.all(np.abs(result.values - expected) < near * result.errors)
    # what toys fluctuate by: the mean of the squares of the scores, where each event counts once
    sandwich = mx.hesse(nll, result.params, asimov, kind="sandwich")
    if distribution is peak_on_a_slope:  # all yields float
        np.testing.assert_allclose(sandwich.errors, result.errors, rtol=1e-5)
        error = np.sqrt(np.sum(result.covariance.matrix[np.ix_([0, 2], [0, 2])]))
        assert result.names[:3] == ("b", "mu", "s")
        np.testing.assert_allclose(error, total**0.5, rtol=1e-6)


def shifted(p):
    return mx.Parameter(1.02 * p.value, lower=p.lower)


@pytest.mark.slow
def test_under_jit_vmap_and_grad():
    nll = mx.UnbinnedNLL(distribution=lambda p: D.Normal(p["mu"], p["sigma"]))
    like = jnp.zeros(N)

    def fitted(mu):
        asimov = mx.asimov(nll, {"mu": mu, "sigma": 2.0}, data=like)
        return mx.fit(nll, {"mu": mx.Parameter(0.0), "sigma": scale(1.0)}, asimov).values

    mus = jnp.array([-1.0, 0.5])
    values, slopes = jax.jit(jax.vmap(lambda mu: (fitted(mu), jax.jacfwd(fitted)(mu))))(mus)
    np.testing.assert_allclose(values, [[-1.0, 2.0], [0.5, 2.0]], atol=1e-8)
    np.testing.assert_allclose(slopes, [[1.0, 0.0], [1.0, 0.0]], atol=1e-6)


def test_in_a_joint_likelihood():
    nll = mx.Joint({"x": mx.ExtendedUnbinnedNLL(distribution=peak_on_a_slope), "mu": mx.NormalConstraint("mu", 0.01)})
    asimov = mx.asimov(nll, PEAK)
    result = mx.fit(nll, PEAK, asimov)
    assert bool(result.valid)
    assert result.covariance.kind == "hesse"
    assert result["mu"].error < 0.01


BAD = {
    "a log density": (
        mx.UnbinnedNLL(lambda p, x: -x * p["b"]),
        {"data": jnp.zeros(3)},
        TypeError,
        "give it distribution",
    ),
    "no number": (mx.UnbinnedNLL(distribution=lambda p: D.Exponential(p["b"])), {}, TypeError, "data=events"),
    "counts": (
        mx.UnbinnedNLL(distribution=lambda p: D.Poisson(p["b"])),
        {"data": jnp.zeros(3)},
        TypeError,
        "Poisson distribution of counts",
    ),
    "three observables": (
        mx.UnbinnedNLL(distribution=lambda p: D.Product([D.Exponential(p["b"])] * 3)),
        {"data": jnp.zeros((3, 3))},
        TypeError,
        "one or two observables",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    nll, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        mx.asimov(nll, {"b": scale(1.0)}, **options)
