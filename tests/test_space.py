"""The transforms of bounds, and starts on, near and beyond them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._parameters.space import Space, ravel, resolve_at, update

P = mx.Parameter
INF = jnp.inf
BOUNDS = {"none": (-INF, INF), "lower": (2.0, INF), "upper": (-INF, 2.0), "both": (-1.0, 3.0)}


def space(lower, upper):
    endless = jnp.full(1, jnp.inf)
    return Space(jnp.array([lower]), jnp.array([upper]), jnp.ones(1), ("x",), True, endless, jnp.zeros(1), False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOUNDS)
def test_there_and_back(kind):
    lower, upper = BOUNDS[kind]
    s = space(lower, upper)
    low = lower if np.isfinite(lower) else -50.0
    high = upper if np.isfinite(upper) else 50.0
    for fraction in (1e-9, 1e-4, 0.3, 0.5, 0.9, 1 - 1e-6):
        x = jnp.array([low + fraction * (high - low)])
        q = s.internal(x)
        np.testing.assert_allclose(s.external(q), x, rtol=1e-12, atol=1e-13)
        first, second = s.slopes(q)
        np.testing.assert_allclose(first, jax.jacfwd(s.external)(q)[0], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(second, jax.hessian(lambda v: s.external(v)[0])(q)[0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", ["lower", "upper", "both"])
def test_minuits_formulas(kind):
    lower, upper = BOUNDS[kind]
    s = space(lower, upper)
    q = jnp.linspace(-1.5, 1.5, 13)
    by_formula = {
        "lower": lambda: lower - 1 + np.sqrt(q**2 + 1),
        "upper": lambda: upper + 1 - np.sqrt(q**2 + 1),
        "both": lambda: lower + 0.5 * (upper - lower) * (np.sin(q) + 1),
    }[kind]
    np.testing.assert_allclose(jax.vmap(lambda v: s.external(v[None])[0])(q), by_formula(), rtol=1e-13)


@pytest.mark.parametrize("kind", ["lower", "upper", "both"])
def test_never_outside_and_beyond_is_nan(kind):
    lower, upper = BOUNDS[kind]
    s = space(lower, upper)
    for q in (-1e8, -np.pi / 2, 0.0, 1e-9, np.pi / 2, 1e8):
        x = float(s.external(jnp.array([q]))[0])
        assert lower <= x <= upper
    for x in (lower - 1e-9, upper + 1e-9):
        if np.isfinite(x):
            assert np.isnan(s.internal(jnp.array([x]))[0])


@pytest.mark.parametrize(
    ("x", "lower", "upper"), [(2.0, 2.0, None), (2.0, None, 2.0), (-1.0, -1.0, 3.0), (3.0, -1.0, 3.0)]
)
@pytest.mark.parametrize("target", [0.0, 2.5])
def test_a_start_on_a_bound_can_leave_it(x, lower, upper, target):
    """MINUIT's transforms have no slope at a bound, and iminuit ends there (minuit.md, point 4)."""
    result = mx.fit(lambda p, t: 0.5 * (p["x"] - t) ** 2, {"x": P(x, lower, upper)}, target)
    low, high = -np.inf if lower is None else lower, np.inf if upper is None else upper
    expected = np.clip(target, low, high)
    assert bool(result.valid), result.message
    np.testing.assert_allclose(result.values, [expected], atol=1e-9)
    assert bool(result.at_limit[0]) == (expected != target)


def test_infinite_entries_of_a_bound_are_none():
    start = {
        "x": P(
            jnp.array([1.0, 1.0, 1.0]), lower=jnp.array([0.5, -jnp.inf, 0.5]), upper=jnp.array([jnp.inf, jnp.inf, 2.0])
        )
    }
    result = mx.fit(lambda p, _: 0.5 * jnp.sum((p["x"] - jnp.array([0.0, -9.0, 9.0])) ** 2), start)
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, [0.5, -9.0, 2.0], atol=1e-9)
    np.testing.assert_array_equal(result.at_limit, [True, False, True])


def test_nearer_to_a_bound_than_half_an_error_is_at_limit():
    """MINUIT's rule, for a minimum inside."""
    for distance, flag in ((0.4, True), (0.6, False)):
        result = mx.fit(lambda p, t: 0.5 * (p["x"] - t) ** 2, {"x": P(1.0, lower=0.0)}, distance)
        assert bool(result.valid)
        np.testing.assert_allclose(result.errors, [1.0])
        assert bool(result.at_limit[0]) is flag


def test_ravel_keeps_shapes_order_and_constants():
    tree = {"b": P(jnp.ones((2, 2)), lower=0.0), "a": P(3.0, fixed=True), "c": P(5.0), "const": jnp.arange(3.0)}
    x, s = ravel(tree)
    np.testing.assert_array_equal(x, [1, 1, 1, 1, 5])
    np.testing.assert_array_equal(s.lower, [0, 0, 0, 0, -np.inf])
    assert s.names == ("b[0,0]", "b[0,1]", "b[1,0]", "b[1,1]", "c")
    resolved = resolve_at(tree, x + 1)
    assert resolved["a"] == 3.0
    np.testing.assert_array_equal(resolved["b"], 2 * np.ones((2, 2)))
    np.testing.assert_array_equal(resolved["const"], tree["const"])
    again = update(tree, x + 1)
    assert isinstance(again["b"], P)
    np.testing.assert_array_equal(again["b"].lower, 0.0)
    assert float(again["c"].value) == 6.0
    assert mx.names(tree) == s.names


def test_without_bounds_nothing_is_transformed():
    _, s = ravel({"a": P(1.0), "b": P(2.0)})
    assert not s.has_bounds
    q = jnp.array([3.0, 4.0])
    assert s.external(q) is q
