"""Derivatives of a fit: against finite differences of refits and against -H⁻¹ ∂²F, at bounds, nested, under vmap."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import migrax as mx
from tutorial import coarse, peak

COUNTS, EDGES = coarse(bins=12, size=600)
DATA = jnp.asarray(COUNTS)
P = mx.Parameter


def nll(p, n):
    mu = peak(p["amp"], p["mu"], p["sigma"] * p["width"], EDGES)
    return jnp.sum(mu - n * jnp.log(mu))


def fit(n, width=1.0, upper=10.0, mu_upper=5.0):
    start = {
        "amp": P(500.0, lower=0.0),
        "mu": P(0.0, upper=mu_upper),
        "sigma": P(1.0, 0.1, upper),
        "width": jnp.asarray(width),
    }
    return mx.fit(nll, start, n)


def outputs(n, width=1.0):
    """Values, errors, minimum, and a covariance entry, as one vector."""
    r = fit(n, width)
    return jnp.concatenate([r.values, r.errors, r.nll[None], r.covariance["amp", "sigma"][None]])


JITTED = jax.jit(outputs)
FORWARD = jax.jit(jax.jacfwd(outputs, argnums=(0, 1)))
REVERSE = jax.jit(jax.jacrev(outputs, argnums=(0, 1)))


def central(f, x, step):
    columns = []
    for i in range(np.size(x)):
        e = np.zeros_like(x)
        e.flat[i] = step
        columns.append((np.asarray(f(x + e)) - np.asarray(f(x - e))) / (2 * step))
    return np.stack(columns, axis=-1)


def test_forward_and_reverse_agree_with_refits():
    forward, reverse = FORWARD(DATA, 1.0), REVERSE(DATA, 1.0)
    by_refits = central(lambda n: JITTED(jnp.asarray(n)), COUNTS, 1e-2)
    scale = np.abs(by_refits).max(axis=1, keepdims=True)
    np.testing.assert_allclose(forward[0] / scale, by_refits / scale, atol=2e-5)
    np.testing.assert_allclose(reverse[0], forward[0], rtol=1e-8, atol=1e-10 * np.abs(forward[0]).max())
    # a constant in the model: sigma * width is what the data fix
    by_width = central(lambda w: JITTED(DATA, jnp.asarray(w)[0]), np.array([1.0]), 1e-5)[:, 0]
    # (most do not depend on it: the refits give these zeros to the rounding of the outputs)
    assert np.all(np.abs(forward[1] - by_width) < 1e-5 * np.abs(by_width) + 1e-6 * np.abs(JITTED(DATA, 1.0)))
    np.testing.assert_allclose(reverse[1], forward[1], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(forward[1][2], -fit(DATA)["sigma"].value, rtol=1e-8)


@pytest.mark.slow
def test_values_are_the_implicit_function():
    result = fit(DATA)

    def objective(v, n):
        return nll({"amp": v[0], "mu": v[1], "sigma": v[2], "width": jnp.asarray(1.0)}, n)

    hessian = jax.hessian(objective)(result.values, DATA)
    mixed = jax.jacfwd(jax.grad(objective), argnums=1)(result.values, DATA)
    expected = -np.linalg.solve(hessian, mixed)
    np.testing.assert_allclose(FORWARD(DATA, 1.0)[0][:3], expected, rtol=1e-7, atol=1e-10)
    # the minimum moves with its explicit derivative alone
    explicit = jax.grad(objective, argnums=1)(result.values, DATA)
    np.testing.assert_allclose(FORWARD(DATA, 1.0)[0][6], explicit, rtol=1e-6)


@pytest.mark.slow
def test_once_more_through_the_gradient():
    def sigma(scale):
        return fit(DATA * scale + jnp.arange(12.0) * (scale - 1))["sigma"].value

    first = jax.jit(jax.grad(sigma))
    by_difference = (first(1.001) - first(0.999)) / 0.002
    for second in (jax.grad(jax.grad(sigma)), jax.jacfwd(jax.grad(sigma))):
        np.testing.assert_allclose(jax.jit(second)(1.0), by_difference, rtol=1e-4)


@pytest.mark.slow
def test_gradient_of_an_error_once_more():
    def error(scale):
        return fit(DATA * scale).errors[2]

    first = jax.jit(jax.grad(error))
    np.testing.assert_allclose(first(1.0), -0.5 * error(1.0), rtol=1e-6)  # errors go as 1/sqrt(n)
    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(error)))(1.0), 0.75 * error(1.0), rtol=1e-6)


@pytest.mark.slow
def test_at_a_bound():
    """A parameter at its bound does not move with the data, and moves one to one with the bound."""

    def values(n, bound):
        return fit(n, mu_upper=bound).values

    bound = 0.1
    assert bool(fit(DATA, mu_upper=bound).valid)
    assert bool(fit(DATA, mu_upper=bound).at_limit[1])
    by_data, by_bound = jax.jit(jax.jacrev(values, argnums=(0, 1)))(DATA, bound)
    np.testing.assert_array_equal(by_data[1], np.zeros(12))
    np.testing.assert_allclose(by_bound[1], 1.0, rtol=1e-10)
    jitted = jax.jit(values)
    np.testing.assert_allclose(by_data, central(lambda n: jitted(n, bound), COUNTS, 1e-2), rtol=1e-4, atol=1e-6)
    difference = central(lambda b: jitted(DATA, b[0]), np.array([bound]), 1e-4)[:, 0]
    np.testing.assert_allclose(by_bound, difference, rtol=1e-4, atol=1e-5)
    # a bound that is not reached does nothing
    np.testing.assert_allclose(jax.grad(lambda u: fit(DATA, upper=u).values[0])(9.0), 0.0, atol=1e-12)


@pytest.mark.slow
def test_under_vmap():
    toys = jnp.stack([DATA, DATA + 1, DATA * 1.5])
    many = jax.jit(jax.vmap(jax.jacrev(outputs)))(toys)
    one = jax.jit(jax.jacrev(outputs))
    for i in range(3):
        np.testing.assert_allclose(many[i], one(toys[i]), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_a_failed_lane_has_a_zero_derivative_and_touches_no_other():
    toys = jnp.stack([DATA, DATA.at[0].set(jnp.nan), DATA + 2])
    good = jax.jit(jax.vmap(jax.jacfwd(lambda n: fit(n).values)))(jnp.stack([DATA, DATA + 1, DATA + 2]))
    bad = jax.jit(jax.vmap(jax.jacfwd(lambda n: fit(n).values)))(toys)
    np.testing.assert_array_equal(bad[0], good[0])
    np.testing.assert_array_equal(bad[2], good[2])

    def loss(n):
        r = fit(n)
        return jnp.sum(jnp.where(r.valid, r.values, 0.0))

    masked = jax.jit(jax.vmap(jax.grad(loss)))(toys)
    assert np.all(np.isfinite(masked[np.array([0, 2])]))


@pytest.mark.slow
def test_templates_and_closures_are_differentiable():
    """Constants inside an eqx.Module likelihood, and arrays that a likelihood closes over."""

    class Likelihood(eqx.Module):
        template: jax.Array

        def __call__(self, p, n):
            mu = p["s"] * self.template + 10.0
            return jnp.sum(mu - n * jnp.log(mu))

    template, n = jnp.array([1.0, 3.0, 2.0]), jnp.array([12.0, 17.0, 15.0])

    def as_module(t):
        return mx.fit(Likelihood(t), {"s": P(1.0)}, n).values[0]

    def as_closure(t):
        return mx.fit(lambda p, d: Likelihood(t)(p, d), {"s": P(1.0)}, n).values[0]

    expected = central(lambda t: as_module(jnp.asarray(t)), np.asarray(template), 1e-5)
    np.testing.assert_allclose(jax.grad(as_module)(template), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(as_closure)(template), expected, rtol=1e-6)


@pytest.mark.slow
def test_checkpointed_adjoint():
    def mean(d, adjoint):
        return mx.fit(
            lambda p, d: jnp.sum((p["a"] - d) ** 4 + (p["a"] - d) ** 2), {"a": 0.0}, d, adjoint=adjoint
        ).values[0]

    d = jnp.array([0.1, 0.5, 2.0])
    implicit = jax.grad(mean)(d, optx.ImplicitAdjoint())
    unrolled = jax.grad(mean)(d, optx.RecursiveCheckpointAdjoint())
    np.testing.assert_allclose(unrolled, implicit, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.float32
def test_float32_gradient():
    n = jnp.asarray(COUNTS, jnp.float32)
    to32 = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), tree)  # noqa: E731
    start = to32({"amp": P(500.0, lower=0.0), "mu": P(0.0), "sigma": P(1.0, 0.1, 10.0), "width": jnp.asarray(1.0)})
    gradient = jax.grad(lambda n: mx.fit(nll, start, n)["mu"].value)(n)
    assert gradient.dtype == jnp.float32
    total = float(jnp.sum(n))
    centres = 0.5 * (EDGES[1:] + EDGES[:-1])
    expected = (centres - np.sum(centres * COUNTS) / total) / total  # unbinned: the mean's derivative
    np.testing.assert_allclose(gradient, expected, atol=0.05 * np.abs(expected).max())


X = jnp.arange(6.0)
TEMPLATE = jnp.array([5.0, 9.0, 4.0, 12.0, 8.0, 3.0])
YIELDS = {"s": mx.Parameter(10.0, lower=0.1), "t": mx.Parameter(8.0, lower=0.1)}
SAMPLES = {"s": TEMPLATE, "t": TEMPLATE[::-1] + 2}


def curve(p):
    return p["a"] * (1 + 0.3 * X) * jnp.exp(p["b"] * X)


EMPTY = {
    "expected": (mx.PoissonNLL(curve), {"a": mx.Parameter(2.0, lower=0.0), "b": mx.Parameter(0.1)}),
    "log_expected": (mx.PoissonNLL(log_expected=lambda p: jnp.log(curve(p))), {"a": 2.0, "b": 0.1}),
    "shape": (mx.BinnedNLL(lambda p: curve({"a": 1.0, **p})), {"b": 0.1}),
    **{method: (mx.TemplateNLL(SAMPLES, method=method), YIELDS) for method in ("da", "jsc", "bb")},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EMPTY)
def test_by_the_counts_of_empty_bins(name):
    """A count above none moves a fit: refits with a little more in one bin."""
    nll, params = EMPTY[name]
    params = {key: value if isinstance(value, mx.Parameter) else mx.Parameter(value) for key, value in params.items()}
    counts, step = jnp.array([0.0, 3.0, 0.0, 7.0, 2.0, 0.0]), 1e-6
    fitted = eqx.filter_jit(lambda n: mx.fit(nll, params, n).values)
    more = jnp.stack([(fitted(counts + step * e) - fitted(counts)) / step for e in jnp.eye(6)], axis=1)
    assert bool(jnp.all(jnp.any(jnp.abs(more) > 1e-3, axis=0)))
    np.testing.assert_allclose(jax.jacrev(fitted)(counts), more, atol=2e-6)
    np.testing.assert_allclose(jax.jacfwd(fitted)(counts), more, atol=2e-6)


@pytest.mark.slow
def test_tiny_expectations_of_empty_bins_have_derivatives():
    """Whose logs' derivatives would overflow."""
    scale = jnp.array([1e-300, 1e-160, 1e-80, 1.0])
    nll = mx.PoissonNLL(lambda p: p["a"] * scale)
    counts = jnp.array([0.0, 0.0, 0.0, 4.0])
    for order in (jax.jacrev, jax.jacfwd):
        slope = order(lambda n: mx.fit(nll, {"a": 3.0}, n)["a"].value)(counts)
        np.testing.assert_allclose(slope[3], 1.0, rtol=1e-9)
        assert bool(jnp.all(jnp.isfinite(slope)))
    assert bool(jnp.all(jnp.isfinite(jax.hessian(nll, argnums=1)({"a": 3.0}, counts))))
