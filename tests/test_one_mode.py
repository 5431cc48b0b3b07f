"""Likelihoods that JAX differentiates in one mode only, or only once: their fits are those of closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

X = np.random.default_rng(0).normal(1.0, 2.0, 200)
PARAMS = {"mu": mx.Parameter(0.5), "sigma": mx.Parameter(1.5, lower=1e-3)}
# the closed form of the minimum, its errors, and its derivative by a constant shift of the data
MEAN, WIDTH = np.mean(X), np.std(X)
ERRORS = np.array([WIDTH / np.sqrt(X.size), WIDTH / np.sqrt(2 * X.size)])


def terms(mu, sigma, x):
    return 0.5 * ((x - mu) / sigma) ** 2 + jnp.log(sigma)


@jax.custom_vjp
def by_rule(mu, sigma, x):
    return jnp.sum(terms(mu, sigma, x))


def forth(mu, sigma, x):
    return by_rule(mu, sigma, x), (mu, sigma, x)


def back(kept, ct):
    mu, sigma, x = kept
    pull = (x - mu) / sigma
    return -ct * jnp.sum(pull) / sigma, ct * jnp.sum(1 - pull**2) / sigma, ct * pull / sigma


by_rule.defvjp(forth, back)


def with_rule(p, x):
    return by_rule(p["mu"], p["sigma"], x)


def with_loop(p, x):
    def body(carry):
        i, total = carry
        return i + 1, total + terms(p["mu"], p["sigma"], x[i])

    return jax.lax.while_loop(lambda carry: carry[0] < x.size, body, (0, jnp.zeros(())))[1]


@jax.custom_vjp
def by_checkpoints(mu, sigma, x):
    """As a checkpointed loop: its gradient is made by a loop that has no reverse mode, and it has no forward mode."""
    return jnp.sum(terms(mu, sigma, x))


def back_by_a_loop(kept, ct):
    mu, sigma, x = kept

    def body(carry):
        i, by_mu, by_sigma = carry
        pull = (x[i] - mu) / sigma
        return i + 1, by_mu - ct * pull / sigma, by_sigma + ct * (1 - pull**2) / sigma

    _, by_mu, by_sigma = jax.lax.while_loop(lambda carry: carry[0] < x.size, body, (0, 0.0 * mu, 0.0 * mu))
    return by_mu, by_sigma, ct * (x - mu) / sigma**2


by_checkpoints.defvjp(lambda mu, sigma, x: (by_checkpoints(mu, sigma, x), (mu, sigma, x)), back_by_a_loop)


def with_checkpoints(p, x):
    return by_checkpoints(p["mu"], p["sigma"], x)


LIKELIHOODS = {"reverse": with_rule, "forward": with_loop, "once": with_checkpoints}


@pytest.mark.grid
@pytest.mark.parametrize("mode", LIKELIHOODS)
def test_fit_and_errors(mode):
    nll = LIKELIHOODS[mode]
    result = mx.fit(nll, PARAMS, X)
    assert result.valid
    np.testing.assert_allclose(result.values, [MEAN, WIDTH], rtol=1e-7)
    np.testing.assert_allclose(result.errors, ERRORS, rtol=1e-6)
    assert result.covariance is not None
    if mode == "once":
        assert 1e-9 < result.covariance.accuracy < 1e-3
        assert "Hesse by differences" in str(result)
        assert "Errors accurate to" in str(result)
    else:
        assert result.covariance.accuracy is None
        assert "Covariance accurate" in str(result)


@pytest.mark.slow
@pytest.mark.parametrize("mode", LIKELIHOODS)
def test_derivative_of_a_fit(mode):
    """Of the mean and the width by a scale of the data: themselves."""

    def fitted(scale):
        return mx.fit(LIKELIHOODS[mode], PARAMS, scale * X).values

    for derivative in (jax.jacrev, jax.jacfwd):
        np.testing.assert_allclose(derivative(fitted)(1.0), [MEAN, WIDTH], rtol=1e-5)


def test_minos_of_a_gradient_that_is_differentiated_once():
    result = mx.fit(with_checkpoints, PARAMS, X)
    found = mx.minos(with_checkpoints, result, X)
    assert jnp.all(found.valid)
    # the profile of the mean: n/2 log(1 + (mu - mean)²/width²) = 1/2
    up = WIDTH * np.sqrt(np.expm1(1 / X.size))
    np.testing.assert_allclose([found.lower[0], found.upper[0]], [-up, up], rtol=1e-5)


@pytest.mark.slow
def test_many_fits():
    x = np.random.default_rng(1).normal(0.5, 1.5, (4, 200))
    fits = jax.jit(jax.vmap(lambda x: mx.fit(with_checkpoints, PARAMS, x)))(x)
    assert jnp.all(fits.valid)
    np.testing.assert_allclose(fits.values, np.stack([x.mean(1), x.std(1)], axis=1), rtol=1e-7)
    toys = mx.fit_toys(with_checkpoints, PARAMS, x)
    assert jnp.all(toys.valid)
    np.testing.assert_allclose(toys.values, fits.values, rtol=1e-7)
    np.testing.assert_allclose(toys.errors, fits.errors, rtol=1e-5)


def test_least_squares_of_a_model_without_forward_mode():
    """A straight line through a custom_vjp: the closed form."""

    @jax.custom_vjp
    def line(a, b, x):
        return a + b * x

    line.defvjp(lambda a, b, x: (line(a, b, x), x), lambda x, ct: (jnp.sum(ct), jnp.sum(ct * x), jnp.zeros_like(x)))
    x = np.linspace(0.0, 1.0, 20)
    y = 1.0 + 2.0 * x + 0.1 * np.random.default_rng(2).normal(size=20)
    # a test of its own: residuals take another way than likelihoods
    result = mx.fit(mx.LeastSquares(lambda p, x: line(p["a"], p["b"], x)), {"a": 0.0, "b": 0.0}, mx.Points(x, y, 0.1))
    slope, matrix = np.polyfit(x, y, 1, cov="unscaled")
    np.testing.assert_allclose(result.values, slope[::-1], rtol=1e-7)
    np.testing.assert_allclose(result.errors, 0.1 * np.sqrt(np.diag(matrix))[::-1], rtol=1e-6)


def test_robust_errors_without_forward_mode():
    """Half the weight, twice the spread: those of the unweighted events."""
    log_prob = lambda p, x: -jax.vmap(by_rule, (None, None, 0))(p["mu"], p["sigma"], x[:, None])  # noqa: E731
    # a likelihood of its own: events with weights have scores
    with pytest.warns(UserWarning, match="normalised"):
        result = mx.fit(mx.UnbinnedNLL(log_prob), PARAMS, mx.Events(X, np.full(X.size, 0.5)))
    assert result.covariance.kind == "sandwich"
    pull = (X - MEAN) / WIDTH
    robust = [ERRORS[0], WIDTH * np.sqrt(np.sum((pull**2 - 1) ** 2)) / (2 * X.size)]
    np.testing.assert_allclose(result.errors, robust, rtol=1e-6)


def test_iminuit_gets_the_derivatives():
    pytest.importorskip("iminuit")
    minuit = mx.io.to_iminuit(with_rule, PARAMS, X)
    assert minuit.migrad().valid
    np.testing.assert_allclose(minuit.values, [MEAN, WIDTH], rtol=1e-4)
    np.testing.assert_allclose(minuit.errors, ERRORS, rtol=1e-3)


def test_a_function_without_a_gradient_says_what_to_write():
    def nll(p, x):
        shape = jax.ShapeDtypeStruct((), p["mu"].dtype)
        return jax.pure_callback(lambda mu, x: np.sum((x - mu) ** 2), shape, p["mu"], x, vmap_method="sequential")

    with pytest.raises(ValueError, match="do not support JVP") as caught:
        mx.fit(nll, {"mu": 0.0}, X)
    assert any("mx.External(value_and_gradient)" in note for note in caught.value.__notes__)


def test_bounds_are_kept():
    """Differences near a bound are taken on one side: beyond it the likelihood is NaN."""

    @jax.custom_vjp
    def rate(mu, n):
        return mu - n * jnp.log(mu)

    def back(kept, ct):
        mu, n = kept
        slope = jax.lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, 1 - n / mu), (0, 0.0 * mu))[1]
        return ct * slope, -ct * jnp.log(mu)

    rate.defvjp(lambda mu, n: (rate(mu, n), (mu, n)), back)
    # its own likelihood: no other has its minimum on the edge of where it is defined
    nll = lambda p, n: rate(p["mu"], n) + jnp.where(p["mu"] < 2.0, jnp.nan, 0.0)  # noqa: E731
    result = mx.fit(nll, {"mu": mx.Parameter(3.0, lower=2.0)}, 1.0)
    assert result.valid
    assert result.values[0] == 2.0
    result = mx.fit(nll, {"mu": mx.Parameter(3.0, lower=2.0)}, 9.0)
    np.testing.assert_allclose([result.values[0], result.errors[0]], [9.0, 3.0], rtol=1e-6)


def test_an_ordinary_likelihood_is_traced_once():
    """To look for the modes of a function costs ordinary ones nothing."""
    count = [0]

    def nll(p, x):
        count[0] += 1
        return jnp.sum(terms(p["mu"], p["sigma"], x))

    eqx.filter_eval_shape(lambda x: mx.fit(nll, PARAMS, x), X)
    assert count[0] == 1


EDGES = jnp.linspace(0.2, 12.0, 31)
COUNTS = np.histogram(np.random.default_rng(1).gamma(2.0, 1.5, 4000), EDGES)[0].astype(float)
SHAPES = {"a": mx.Parameter(1.5, lower=0.1), "b": mx.Parameter(1.0, lower=0.1)}


def bins_of(cdf):
    def nll(p, n):
        expected = 4000 * jnp.diff(cdf(p["a"], p["b"]))
        return jnp.sum(expected - n * jnp.log(expected))

    return nll


def test_an_incomplete_gamma_function_with_a_free_shape():
    """JAX knows its first derivative by the shape, not the second: beside the density's own bins, which have both."""
    nll = bins_of(lambda a, b: jax.scipy.special.gammainc(a, EDGES / b))
    result = mx.fit(nll, SHAPES, COUNTS)
    own = mx.PoissonNLL(lambda p: 4000 * jnp.exp(mx.distributions.Gamma(p["a"], p["b"]).log_bin_integrals(EDGES)))
    expected = mx.fit(own, SHAPES, COUNTS)
    assert result.valid
    assert expected.valid
    np.testing.assert_allclose(result.values, expected.values, atol=1e-3 * np.min(expected.errors))
    np.testing.assert_allclose(result.errors, expected.errors, rtol=1e-5)


def test_an_incomplete_beta_function_with_free_shapes_is_refused():
    nll = bins_of(lambda a, b: jax.scipy.special.betainc(a, b, EDGES / 20))
    with pytest.raises(ValueError, match="Betainc gradient") as caught:
        mx.fit(nll, SHAPES, COUNTS)
    assert "neither by reverse nor by forward mode" in "".join(caught.value.__notes__)
