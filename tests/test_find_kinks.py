"""Kinks that nobody declared: which are read from a function, and fits that need them.

Each function is another likelihood, so each test compiles its own. The minima are closed forms.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._derivatives.find_kinks import kinks_in
from migrax._fit.objective import objective, prepare_data, prepare_params
from migrax._likelihoods.base import as_likelihood

DATA = jnp.array([3.0, -1.0, 0.5])
INDICES = jnp.array([1, -1, 0])
ANCHORS = np.array([-1.0, 1.0])


def found(nll, params, data=DATA):
    """Of each parameter, the sorted places."""
    params, data = prepare_params(params), prepare_data(data)
    fn, theta, x, space = objective(as_likelihood(nll), params, data, jnp.array(0.5))
    places = kinks_in(fn, x, theta, space)
    if places is None:
        return {}
    columns = zip(space.names, places.T, strict=True)
    return {name: sorted(column[~np.isnan(column)]) for name, column in columns if not np.all(np.isnan(column))}


@pytest.mark.parametrize(
    ("nll", "places"),
    [
        (lambda p, x: jnp.abs(p["a"]) + p["b"] ** 2, {"a": [0]}),
        (lambda p, x: jnp.abs(2 * p["a"] - 3) + p["b"] ** 2, {"a": [1.5]}),
        (lambda p, x: jnp.abs((1 - p["a"]) / 4) + p["b"] ** 2, {"a": [1]}),
        (lambda p, x: jnp.sum(jnp.abs(x - p["a"])) + p["b"] ** 2, {"a": [-1, 0.5, 3]}),
        (lambda p, x: jnp.maximum(p["a"], 0.5) + jnp.minimum(p["b"], x[0]), {"a": [0.5], "b": [3]}),
        (lambda p, x: jnp.clip(p["a"], -1, 2) ** 2 + p["b"] ** 2, {"a": [-1, 2]}),
        (lambda p, x: jax.lax.clamp(-1.0, p["a"], 2.0) + p["b"] ** 2, {"a": [-1, 2]}),
        (lambda p, x: jax.nn.relu(p["a"] - 2) + p["b"] ** 2, {"a": [2]}),
        (lambda p, x: jnp.where(p["a"] >= 0, 1.2 ** p["a"], 0.9 ** -p["a"]) + p["b"] ** 2, {"a": [0]}),
        (lambda p, x: jnp.sum(jnp.where(p["a"] > ANCHORS, 1.0, 2.0)) * p["a"] + p["b"] ** 2, {"a": [-1, 1]}),
        (lambda p, x: jax.lax.cond(p["b"] > 0, lambda a: jnp.abs(a - 1), lambda a: a, p["a"]), {"a": [1], "b": [0]}),
        (lambda p, x: jax.lax.fori_loop(0, 3, lambda i, c: c + jnp.abs(p["a"] - 1), 0.0), {"a": [1]}),
        (jax.checkpoint(lambda p, x: jnp.abs(p["a"] + 1) + p["b"] ** 2), {"a": [-1]}),
        (lambda p, x: jnp.abs(jnp.stack([p["b"], p["a"]])[1]) + p["b"] ** 2, {"a": [0]}),
        (lambda p, x: jnp.sum(jnp.abs(jnp.stack([p["b"], p["a"]])[INDICES] - x)), {"a": [-1, 3], "b": [0.5]}),
        # smooth, and what is not seen: on a diagonal, and beyond a function
        (lambda p, x: p["a"] ** 2 + jnp.log1p(p["b"] ** 2), {}),
        (lambda p, x: jnp.abs(p["a"] - p["b"]), {}),
        (lambda p, x: jnp.abs(jnp.exp(p["a"]) - 2) + p["b"] ** 2, {}),
    ],
)
def test_which_are_seen(nll, places):
    assert found(nll, {"a": 0.3, "b": 0.7}) == places


def test_vectors_bounds_and_fixed_entries():
    def nll(p, x):
        return jnp.sum(jnp.abs(p["v"] - x)) + jnp.sum(jnp.abs(p["v"][::-1])) + jnp.abs(p["s"])

    v = mx.Parameter(jnp.array([1.0, 2.0, 1.5]), lower=0.0, fixed=jnp.array([False, True, False]))
    # -1 is the fixed one's; 0 is a bound
    assert found(nll, {"v": v, "s": mx.Parameter(1.0, lower=-1.0)}) == {"v[0]": [3], "v[2]": [0.5], "s": [0]}


def test_a_penalty_of_absolute_values():
    """Least squares with a penalty by the sum of absolute values: the soft threshold, parameter by parameter."""
    y, weight = jnp.array([3.0, -0.4, 0.2, -2.0]), 0.7

    def nll(p, y):
        return 0.5 * jnp.sum((y - p["a"]) ** 2) + weight * jnp.sum(jnp.abs(p["a"]))

    with pytest.warns(UserWarning, match=r"the slope of the likelihood jumps.*mx.Likelihood\(nll, kinks=\{'a': 0\}\)"):
        result = mx.fit(nll, {"a": jnp.full(4, 0.1)}, y)
    assert bool(result.valid)
    right = np.sign(y) * np.maximum(np.abs(y) - weight, 0.0)
    np.testing.assert_allclose(result.values, right, atol=1e-12)
    assert np.array_equal(result.on_kink, right == 0)
    # the same as of the function that says so, without a warning
    declared = mx.fit(mx.Likelihood(nll, kinks={"a": 0.0}), {"a": jnp.full(4, 0.1)}, y)
    np.testing.assert_allclose(result.errors, declared.errors, rtol=1e-12)
    # MINOS was not told: it says that it has not found what it does not know
    assert not np.any(mx.minos(nll, result, y).valid)


def test_a_likelihood_of_migrax():
    """A density whose mean is max(a, 1/2), beside a penalty that is least at 0.4, where the density is level."""
    x = jnp.linspace(-1.5, 2.5, 41)

    def log_density(p, x):
        mean = jnp.maximum(p["a"], 0.5)
        return -0.5 * (x - mean) ** 2 - 0.5 * jnp.log(2 * jnp.pi)

    nll = mx.UnbinnedNLL(log_density) + mx.Likelihood(lambda p, _: 3.0 * jnp.abs(p["a"] - 0.4))
    with pytest.warns(UserWarning, match=r"kinks=\{'a': \[0.4, 0.5\]\}"):
        result = mx.fit(nll, {"a": 1.0}, (x, None))
    assert bool(result.valid)
    assert float(result["a"].value) == 0.4


def test_the_places_are_told_in_full():
    """What the warning says to write makes a valid fit: six digits of the place would not."""
    at = 0.1234567890123

    def nll(p, _):
        return 3 * jnp.abs(p["a"] - at) + (p["a"] - 1) ** 2

    with pytest.warns(UserWarning, match=rf"kinks=\{{'a': {at}\}}"):
        result = mx.fit(nll, {"a": 2.0})
    assert float(result["a"].value) == at


def test_no_second_fit_where_none_helps():
    """A failure that has nothing to do with kinks stays as it is, and says nothing of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saddle = mx.fit(lambda p, _: jnp.abs(p["a"]) - p["b"] ** 2 + p["a"] ** 2, {"a": 0.5, "b": 0.0})
        diagonal = mx.fit(lambda p, _: 3 * jnp.abs(p["a"] - p["b"]) + (p["a"] - 1) ** 2, {"a": 0.3, "b": 0.0})
    assert not bool(saddle.valid)
    assert not bool(diagonal.valid)


def test_inside_jit_and_vmap_nothing_is_looked_for():
    def nll(p, y):
        return 0.5 * (y - p["a"]) ** 2 + jnp.abs(p["a"])

    results = jax.jit(jax.vmap(lambda y: mx.fit(nll, {"a": 0.3}, y)))(jnp.array([0.2, 3.0]))
    assert results.valid.tolist() == [False, True]


@pytest.mark.grid
@pytest.mark.parametrize("kinks", [None, {"a": 0.0}], ids=["seen", "declared"])
@pytest.mark.parametrize(
    "nll",
    [
        # the value jumps: upwards, downwards, and to what it is nowhere beside
        lambda p, _: jnp.where(p["a"] <= 0, (p["a"] - 1) ** 2, (p["a"] + 1) ** 2 + 5),
        lambda p, _: jnp.where(p["a"] >= 0, (p["a"] + 1) ** 2 + 5, (p["a"] - 1) ** 2),
        lambda p, _: jnp.where(p["a"] > 0, (p["a"] + 1) ** 2, (p["a"] - 1) ** 2 + 100),
    ],
)
def test_a_step_is_no_kink(nll, kinks):
    """There is no minimum with a slope on both sides: nothing is valid, and no value is the mean of two."""
    likelihood = nll if kinks is None else mx.Likelihood(nll, kinks=kinks)
    for start in (-1.0, 1.0):
        result = mx.fit(likelihood, {"a": start})
        assert not bool(result.valid)


def test_a_side_that_falls_where_only_the_curvature_jumps():
    """The slope is 0 on both sides of 0, and the right side falls to -1/16 at 1/2."""
    nll = lambda p, _: jnp.where(p["a"] > 0, -0.5 * p["a"] ** 2, 1.5 * p["a"] ** 2) + p["a"] ** 4  # noqa: E731
    result = mx.fit(mx.Likelihood(nll, kinks={"a": 0.0}), {"a": -1.0})
    assert bool(result.valid)
    assert float(result["a"].value) == pytest.approx(0.5, abs=1e-6)
