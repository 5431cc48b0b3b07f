"""Constraints and joint likelihoods: closed forms, iminuit, pyhf's conventions; toys and Asimov data of the parts."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit, cost
from scipy import stats

import migrax as mx

P = mx.Parameter
COVARIANCE = np.array([[0.2, 0.05], [0.05, 0.1]])
S, B = jnp.array([2.0, 5.0, 3.0]), jnp.array([10.0, 9.0, 8.0])
OBSERVED = jnp.array([13.0, 15.0, 10.0])
START = {"mu": P(1.0), "b": P(1.0, lower=0.0)}


def expected(p):
    return p["mu"] * S + p["b"] * B


JOINT = mx.Joint({"counts": mx.PoissonNLL(expected), "b": mx.NormalConstraint("b", 0.1)})
DATA = {"counts": OBSERVED, "b": 1.05}


@functools.cache
def fitted():
    return mx.fit(JOINT, START, DATA)


class Model(eqx.Module):
    mu: P
    shape: P
    order: int  # a plain number in the tree is no parameter
    scale: jax.Array


def test_a_constraint_by_hand():
    by_hand = lambda p, d: mx.PoissonNLL(expected)(p, d["counts"]) + 0.5 * ((p["b"] - d["b"]) / 0.1) ** 2  # noqa: E731
    reference = mx.fit(by_hand, START, DATA)
    np.testing.assert_allclose(fitted().values, reference.values, rtol=1e-10)
    np.testing.assert_allclose(fitted().errors, reference.errors, rtol=1e-10)
    np.testing.assert_allclose(fitted().nll, reference.nll, rtol=1e-10)
    assert int(fitted().ndof) == 2


def test_as_iminuit():
    line = lambda x, a, b: a + b * x  # noqa: E731
    x = np.linspace(0, 1, 12)
    y = 0.3 + 1.1 * x + 0.1 * np.random.default_rng(5).normal(size=12)
    c = cost.LeastSquares(x, y, 0.1, line) + cost.NormalConstraint(("a", "b"), (0.1, 1.3), COVARIANCE)
    m = Minuit(c, a=0.0, b=1.0)
    m.migrad()
    nll = mx.LeastSquares(lambda p, x: p["a"] + p["b"] * x) + mx.NormalConstraint(["a", "b"], COVARIANCE)
    result = mx.fit(nll, {"a": 0.0, "b": 1.0}, (mx.Points(x, y, 0.1), jnp.array([0.1, 1.3])))
    assert result.algorithm == "LevenbergMarquardt"  # all parts have residuals
    np.testing.assert_allclose(result.chi2, m.fval, rtol=1e-8)
    np.testing.assert_allclose(result.values, m.values, rtol=1e-6)
    np.testing.assert_allclose(result.errors, m.errors, rtol=1e-5)
    assert int(result.ndof) == m.ndof == 12


VECTOR = {"mu": 2.0, "v": jnp.array([1.0, 2.0, 4.0]), "m": jnp.array([[1.0, 2.0], [3.0, 5.0]])}
WHERE = {
    "a number": ("mu", 0.5, 1.5, 0.5),
    "a vector": ("v", 0.5, jnp.array([1.5, 2.0, 3.0]), 0.5 * (1 + 0 + 4)),
    "an entry": ("v[1]", 0.5, 1.0, 2.0),
    "several": (["v[2]", "mu"], jnp.array([1.0, 0.5]), jnp.array([3.0, 1.5]), 0.5 * (1 + 1)),
    "a function": (lambda p: (p["mu"], p["v"]), 1.0, jnp.array([1.0, 1.0, 2.0, 2.0]), 0.5 * (1 + 4)),
    "a matrix": ("m", 1.0, jnp.array([[1.0, 2.0], [3.0, 4.0]]), 0.5),
    "correlated": (
        ["mu", "v[0]"],
        COVARIANCE,
        jnp.array([1.5, 1.2]),
        0.5 * np.array([0.5, -0.2]) @ np.linalg.inv(COVARIANCE) @ np.array([0.5, -0.2]),
    ),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", WHERE)
def test_what_is_constrained(case):
    where, width, data, value = WHERE[case]
    constraint = mx.NormalConstraint(where, width)
    np.testing.assert_allclose(constraint(VECTOR, data), value, rtol=1e-12)
    marked = jax.tree.map(P, VECTOR)
    np.testing.assert_allclose(constraint(marked, data), value, rtol=1e-12)
    # the Asimov data have the shape of the parameter, and no pull
    asimov = mx.asimov(constraint, marked)
    assert jnp.shape(asimov) == jnp.shape(data)
    np.testing.assert_allclose(constraint.pulls(marked, asimov), 0.0)
    assert mx.sample(constraint, marked, jax.random.key(0), 3).shape == (3, *jnp.shape(data))


def test_in_a_model():
    model = Model(P(2.0), P(jnp.array([0.5, -0.5])), 3, jnp.array(2.0))
    nll = mx.Joint({"n": mx.PoissonNLL(lambda m: m.mu * S * m.scale), "shape": mx.NormalConstraint("shape", 1.0)})
    result = mx.fit(nll, model, {"n": 5.0 * S, "shape": jnp.zeros(2)})
    np.testing.assert_allclose(result.values, [2.5, 0.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(result.errors[1:], 1.0, rtol=1e-8)


def test_poisson_constraint():
    """A control region of 40 events, 20 times the parameter."""
    constraint = mx.PoissonConstraint("b", 20.0)
    result = mx.fit(constraint, {"b": P(1.0, lower=0.0)}, 40.0)
    np.testing.assert_allclose(result.values, 2.0, rtol=1e-9)
    np.testing.assert_allclose(result.errors, np.sqrt(40) / 20, rtol=1e-8)
    difference = constraint({"b": 1.7}, 40.0) - constraint({"b": 2.0}, 40.0)
    np.testing.assert_allclose(difference, stats.poisson.logpmf(40, 40) - stats.poisson.logpmf(40, 34), rtol=1e-11)
    (prefit,) = constraint.prefit({"b": 1.0}, 40.0)
    assert prefit[0] == "b"
    np.testing.assert_allclose(prefit[1:], [2.0, np.sqrt(40) / 20], rtol=1e-12)


def test_log_normal_constraint():
    constraint = mx.LogNormalConstraint("k", np.log(1.1))
    result = mx.fit(constraint, {"k": P(1.0, lower=0.0)}, 1.3)
    np.testing.assert_allclose(result.values, 1.3, rtol=1e-9)
    np.testing.assert_allclose(result.errors, 1.3 * np.log(1.1), rtol=1e-7)
    reference = stats.lognorm(np.log(1.1), scale=1.5).logpdf([1.3, 1.2])
    difference = constraint({"k": 1.5}, 1.3) - constraint({"k": 1.5}, 1.2)
    np.testing.assert_allclose(difference, -(reference[0] - reference[1]) - np.log(1.3 / 1.2), rtol=1e-10)
    bad = mx.fit(constraint, {"k": P(1.0, lower=0.0)}, -1.0)
    assert not bool(bad.valid)
    assert "data is not positive" in bad.message


SAMPLED = {
    "normal": (mx.NormalConstraint("mu", 0.5), 2.0, 0.25),
    "poisson": (mx.PoissonConstraint("mu", 3.0), 6.0, 6.0),
    "log-normal": (
        mx.LogNormalConstraint("mu", 0.3),
        2 * np.exp(0.045),
        4 * (np.exp(0.09) - 1) * np.exp(0.09),
    ),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", SAMPLED)
def test_moments_of_toys(case):
    constraint, mean, variance = SAMPLED[case]
    toys = mx.sample(constraint, {"mu": 2.0}, jax.random.key(1), 40_000)
    np.testing.assert_allclose(toys.mean(), mean, atol=5 * np.sqrt(variance / 40_000))
    np.testing.assert_allclose(toys.var(), variance, rtol=0.06)


def test_correlated_toys():
    toys = mx.sample(mx.NormalConstraint(["mu", "v[0]"], COVARIANCE), VECTOR, jax.random.key(1), 40_000)
    np.testing.assert_allclose(toys.mean(axis=0), [2.0, 1.0], atol=0.01)
    np.testing.assert_allclose(np.cov(toys.T), COVARIANCE, atol=0.005)


@pytest.mark.slow
def test_toys_fluctuate_global_observables():
    toys = mx.sample(JOINT, fitted().params, jax.random.key(0), 500)
    assert toys["counts"].shape == (500, 3)
    assert toys["b"].shape == (500,)
    np.testing.assert_allclose(toys["b"].std(), 0.1, rtol=0.15)
    fits = jax.vmap(lambda toy: mx.fit(JOINT, fitted().params, toy))(toys)
    good = np.asarray(fits.valid)
    assert good.all()
    pulls = (fits.values - fitted().values) / fits.errors
    np.testing.assert_allclose(pulls.mean(axis=0), 0.0, atol=0.2)
    np.testing.assert_allclose(pulls.std(axis=0), 1.0, atol=0.15)
    # one toy is that of the same key, however many are drawn
    again = mx.sample(JOINT, fitted().params, jax.random.split(jax.random.key(0), 500)[7])
    np.testing.assert_array_equal(again["counts"], toys["counts"][7])


def test_asimov_data_give_the_parameters_back():
    params = {"mu": P(1.7), "b": P(0.9, lower=0.0)}
    data = mx.asimov(JOINT, params)
    result = mx.fit(JOINT, START, data)
    np.testing.assert_allclose(result.values, [0.9, 1.7], rtol=1e-7)
    np.testing.assert_allclose(result.nll, 0.0, atol=1e-12)


def test_impacts_know_the_constraints():
    known = mx.impacts(JOINT, fitted(), DATA, "mu")
    told = mx.impacts(JOINT, fitted(), DATA, "mu", prefit={"b": (1.05, 0.1)})
    np.testing.assert_array_equal(known.prefit_up, told.prefit_up)
    np.testing.assert_allclose(known.pulls, (fitted()["b"].value - 1.05) / 0.1, rtol=1e-12)
    other = mx.impacts(JOINT, fitted(), DATA, "mu", prefit={"b": (0.0, 0.2)})
    np.testing.assert_allclose(other.constraints, known.constraints / 2, rtol=1e-12)


def test_the_sandwich_with_a_constraint():
    """J of the constraint is its information, not the square of one slope: with unit weights it is about H."""
    x = jnp.asarray(np.random.default_rng(2).normal(1.0, 2.0, size=4000))
    density = mx.UnbinnedNLL(lambda p, x: mx.distributions.Normal(p["mu"], 2.0).log_prob(x))
    nll = mx.Joint({"x": density, "mu": mx.NormalConstraint("mu", 0.02)})
    hesse = mx.fit(nll, {"mu": 0.5}, {"x": x, "mu": 0.9})
    robust = mx.fit(nll, {"mu": 0.5}, {"x": x, "mu": 0.9}, hesse="sandwich")
    np.testing.assert_allclose(robust.errors, hesse.errors, rtol=0.01)
    information, score = 1 / 0.02**2, float(jnp.sum((x - hesse.values[0]) ** 2)) / 16
    expected = np.sqrt(information + score) / (information + 1000)
    np.testing.assert_allclose(robust.errors[0], expected, rtol=1e-8)
    # of weighted events it is what is taken by itself
    weighted = mx.fit(nll, {"mu": 0.5}, {"x": mx.Events(x, jnp.ones(4000)), "mu": 0.9})
    np.testing.assert_allclose(weighted.errors, robust.errors, rtol=1e-10)


def test_plus():
    a, b = mx.PoissonNLL(expected), mx.NormalConstraint("b", 0.1)
    data = (OBSERVED, 1.05)
    for both in (a + b, sum([a, b]), mx.Joint([a, b])):
        np.testing.assert_allclose(both(START, data), JOINT(START, DATA), rtol=1e-14)
    three = a + b + (lambda p, d: d * p["mu"])
    assert len(three.parts) == 3
    np.testing.assert_allclose(three(START, (*data, 2.0)), JOINT(START, DATA) + 2.0, rtol=1e-14)
    four = JOINT + {"extra": lambda p, d: d * p["mu"]}
    np.testing.assert_allclose(four(START, {**DATA, "extra": 2.0}), JOINT(START, DATA) + 2.0, rtol=1e-14)
    assert JOINT.ndata(DATA) == 4
    assert four.ndata is None  # a plain function does not tell
    assert mx.fit(four, START, {**DATA, "extra": 0.01}).ndof is None


def test_a_dressed_function():
    nll = mx.Likelihood(
        lambda p, d: 0.5 * jnp.sum((d - p["mu"]) ** 2),
        sample=lambda p, key: p["mu"] + jax.random.normal(key, (5,)),
        expected_data=lambda p: jnp.full(5, p["mu"]),
    )
    params = {"mu": P(3.0)}
    assert mx.sample(nll, params, jax.random.key(0), 7).shape == (7, 5)
    np.testing.assert_array_equal(mx.asimov(nll, params), 3.0)
    np.testing.assert_allclose(mx.fit(nll, params, jnp.arange(5.0)).values, 2.0, rtol=1e-9)
    joint = nll + mx.NormalConstraint("mu", 1.0)
    assert [jnp.shape(x) for x in mx.sample(joint, params, jax.random.key(0))] == [(5,), ()]
    with pytest.warns(UserWarning, match="Joint is minus log L"):
        mx.fit(joint, params, (jnp.arange(5.0), 1.0), up=1.0)
    mx.fit(nll, params, jnp.arange(5.0), up=1.0)  # whose units are its own


@pytest.mark.slow
def test_global_observables_have_derivatives():
    fit = lambda b: mx.fit(JOINT, START, {"counts": OBSERVED, "b": b}).values  # noqa: E731
    jacobian = jax.jit(jax.jacrev(fit))(1.05)
    np.testing.assert_allclose(jacobian, (fit(1.05 + 1e-5) - fit(1.05 - 1e-5)) / 2e-5, rtol=1e-6)
    width = lambda w: mx.fit(mx.PoissonNLL(expected) + mx.NormalConstraint("b", w), START, (OBSERVED, 1.05)).values  # noqa: E731
    np.testing.assert_allclose(
        jax.jit(jax.jacfwd(width))(0.1), (width(0.1 + 1e-5) - width(0.1 - 1e-5)) / 2e-5, rtol=1e-6
    )
    many = jax.vmap(fit)(jnp.array([1.05, 1.0]))
    np.testing.assert_allclose(many[0], fit(1.05), rtol=1e-9)


BAD = {
    "width": (lambda: mx.NormalConstraint("b", -1.0), ValueError, "must be positive, got -1.0"),
    "shape": (lambda: mx.NormalConstraint("b", np.ones((2, 3))), ValueError, "covariance matrix, got"),
    "not positive definite": (lambda: mx.NormalConstraint("b", [[1.0, 2.0], [2.0, 1.0]]), ValueError, "not positive"),
    "asymmetric": (lambda: mx.NormalConstraint("b", [[1.0, 0.2], [0.3, 1.0]]), ValueError, "must be symmetric"),
    "diagonal": (lambda: mx.NormalConstraint("b", [[1.0, 0.2], [0.2, -1.0]]), ValueError, "positive variances"),
    "where": (lambda: mx.NormalConstraint(3, 1.0), TypeError, "picked by its name"),
    "nothing": (lambda: mx.NormalConstraint([], 1.0), TypeError, "names no parameter"),
    "scale": (lambda: mx.PoissonConstraint("b", 0.0), ValueError, "scale of PoissonConstraint must be positive"),
    "name": (
        lambda: mx.fit(mx.NormalConstraint("bb", 1.0), {"b": 1.0}, 0.0),
        ValueError,
        "no parameter 'bb'; did you mean 'b'",
    ),
    "widths": (
        lambda: mx.fit(mx.NormalConstraint("b", [1.0, 2.0]), {"b": 1.0}, 0.0),
        ValueError,
        "widths for 2 numbers, and picks 1",
    ),
    "observable": (
        lambda: mx.fit(mx.NormalConstraint("b", 1.0), {"b": 1.0}, jnp.ones(2)),
        ValueError,
        r"one of 1 numbers; its data have shape \(2,\)",
    ),
    "no data": (lambda: mx.fit(mx.NormalConstraint("b", 1.0), {"b": 1.0}), TypeError, "what was measured of 'b'"),
    "joint": (lambda: mx.Joint(mx.NormalConstraint("b", 1.0)), TypeError, "a dictionary or a sequence"),
    "no part": (lambda: mx.Joint({}), ValueError, "no likelihoods"),
    "a number": (lambda: mx.Joint({"a": 3.0}), TypeError, "the part 'a' of Joint"),
    "keys": (
        lambda: mx.fit(JOINT, START, {"counts": OBSERVED, "c": 1.0}),
        ValueError,
        "parts 'b', 'counts'; the data lack 'b' and have 'c'",
    ),
    "a tuple": (lambda: mx.fit(JOINT, START, (OBSERVED, 1.0)), TypeError, "a dictionary with the keys 'b', 'counts'"),
    "too few": (
        lambda: mx.fit(mx.Joint([JOINT.parts["counts"]]), START, OBSERVED),
        ValueError,
        "a tuple of 1, one for each part",
    ),
    "same name": (lambda: JOINT + JOINT, ValueError, "both likelihoods have a term 'b'"),
    "no name": (lambda: JOINT + mx.NormalConstraint("b", 1.0), TypeError, "takes named terms"),
    "plain": (lambda: mx.sample(lambda p, d: 0.0, START, jax.random.key(0)), TypeError, r"mx.Likelihood\(nll, sample"),
    "plain part": (
        lambda: mx.sample(JOINT + {"x": lambda p, d: 0.0}, START, jax.random.key(0)),
        TypeError,
        "the part 'x' .* has no sample",
    ),
    "key": (lambda: mx.sample(JOINT, START, 0), TypeError, "takes a key and a number"),
    "n": (lambda: mx.sample(JOINT, START, jax.random.key(0), 2.5), TypeError, "takes a key and a number"),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore:migrax is made for float64")
def test_float32():
    start = jax.tree.map(jnp.float32, START)
    result = mx.fit(JOINT, start, jax.tree.map(jnp.float32, DATA))
    assert bool(result.valid)
    assert result.values.dtype == jnp.float32
    np.testing.assert_allclose(result.values, [1.049945, 0.965719], rtol=1e-4)
