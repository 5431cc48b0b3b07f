"""The Poisson terms and their closed derivatives, beside the formula that JAX differentiates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from migrax._likelihoods.poisson_terms import from_log, from_mean

COUNTS = np.array([0.0, 0.0, 1.0, 3.0, 3.5, 100.0, 1e6])
MEANS = np.array([0.3, 7.0, 1.0, 2.9, 30.0, 101.0, 1.001e6])
FORMS = {"mean": (from_mean, MEANS), "log": (from_log, np.log(MEANS))}
BOTH = pytest.mark.parametrize("form", FORMS)


def plain(form, x, n):
    mu, log_mu = (x, jnp.log(x)) if form == "mean" else (jnp.exp(x), x)
    return mu - n + jnp.where(n > 0, n * jnp.log(jnp.where(n > 0, n, 1.0)), 0.0) - n * log_mu


@BOTH
def test_value(form):
    term, x = FORMS[form]
    exact = MEANS.astype(np.longdouble) - COUNTS
    exact += np.where(COUNTS > 0, COUNTS * np.log(np.where(COUNTS > 0, COUNTS, 1) / MEANS.astype(np.longdouble)), 0)
    rounding = 1e-16 * MEANS if form == "mean" else 1e-16 * np.sqrt(MEANS)
    np.testing.assert_allclose(term(x, jnp.asarray(COUNTS)), exact.astype(float), rtol=1e-14, atol=4 * rounding.max())


@BOTH
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivatives(form, order):
    term, x = FORMS[form]
    fn, reference = term, lambda x, n: plain(form, x, n)
    for _ in range(order):
        fn, reference = jax.grad(fn), jax.grad(reference)
    np.testing.assert_allclose(jax.vmap(fn)(x, COUNTS), jax.vmap(reference)(x, COUNTS), rtol=1e-11, atol=1e-9)


@BOTH
def test_derivatives_in_the_counts(form):
    """A change of the data moves a fit by the mixed derivatives."""
    term, x = FORMS[form]
    mixed = lambda f: jax.vmap(jax.grad(jax.grad(f, 0), 1))  # noqa: E731
    np.testing.assert_allclose(mixed(term)(x, COUNTS), mixed(lambda x, n: plain(form, x, n))(x, COUNTS), rtol=1e-12)
    third = jax.vmap(jax.grad(jax.grad(jax.grad(term, 0), 0), 1))(x, COUNTS)
    np.testing.assert_allclose(third, 1 / MEANS**2 if form == "mean" else 0.0, rtol=1e-12, atol=1e-12)
    observed = COUNTS > 0
    own = jax.vmap(jax.grad(term, 1))(x, COUNTS)[observed]
    np.testing.assert_allclose(own, np.log(COUNTS[observed] / MEANS[observed]), rtol=1e-9, atol=1e-15)
    twice = jax.vmap(jax.grad(jax.grad(term, 1), 1))(x, COUNTS)[observed]
    np.testing.assert_allclose(twice, 1 / COUNTS[observed], rtol=1e-12)


def test_corners():
    n = jnp.array([0.0, 2.0, -1.0, 0.0, 2.0])
    values = from_log(jnp.array([-jnp.inf, -jnp.inf, 1.0, jnp.nan, -800.0]), n)
    np.testing.assert_allclose(values, [0.0, np.inf, np.nan, np.nan, 2 * (800 + np.log(2) - 1)], rtol=1e-15)
    values = from_mean(jnp.array([0.0, 0.0, 1.0, -1.0, -1.0]), n)
    np.testing.assert_allclose(values, [0.0, np.inf, np.nan, np.nan, np.nan])
    slope = jax.vmap(jax.grad(from_log))(jnp.array([-jnp.inf, -jnp.inf, -800.0]), jnp.array([0.0, 2.0, 2.0]))
    np.testing.assert_allclose(slope, [0.0, -2.0, -2.0])
    for order in range(1, 5):  # nothing overflows in an empty bin
        fn = from_mean
        for _ in range(order):
            fn = jax.grad(fn)
        tiny = jax.vmap(fn)(jnp.array([0.0, 1e-300, 1e-200]), jnp.zeros(3))
        np.testing.assert_allclose(tiny, 1.0 if order == 1 else 0.0)


@pytest.mark.parametrize("form", FORMS)
def test_float32(form):
    term, x = FORMS[form]
    single = [jnp.asarray(a, jnp.float32) for a in (x, COUNTS)]
    value, slope = jax.vmap(jax.value_and_grad(term))(*single)
    assert value.dtype == slope.dtype == jnp.float32
    exact = jax.vmap(jax.grad(term))(*(jnp.asarray(a, float) for a in single))
    np.testing.assert_allclose(slope, exact, rtol=2e-4, atol=1e-4 if form == "mean" else 1e-1)
