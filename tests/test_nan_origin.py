"""A likelihood that is not finite says which operation of the model makes it so, and in which line."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np

import migrax as mx

ON, OFF = jnp.array([3.0, 0.0, 1.0]), jnp.array([2.0, 0.0, 1.0])


def wstat(p, counts):
    """A spectrum with its background profiled away. With no count off the source f is 0, and so is what jnp.where
    hands to the derivative of log(f), which is infinite."""
    on, off = counts
    s = p["s"] * jnp.ones(3)
    b = on + off - 2 * s
    f = 0.25 * (b + jnp.sqrt(b**2 + 8 * off * s))
    return jnp.sum(2 * f + s - on * jnp.log(s + f) - jnp.where(off > 0, off * jnp.log(f), 0.0))


def line_of(fn, text):
    lines, first = inspect.getsourcelines(fn)
    return first + next(i for i, line in enumerate(lines) if text in line)


def test_a_gradient():
    result = mx.fit(wstat, {"s": mx.Parameter(1.0)}, (ON, OFF))
    assert not result.valid
    assert "The gradient by s is not finite because of the operation" in result.message
    assert f"test_nan_origin.py:{line_of(wstat, 'jnp.log(f)')}" in result.message
    assert "although the likelihood is finite there" in result.message


def test_a_second_derivative():
    def nll(p, x):
        return jnp.sum((x - p["a"]) ** 2) + jnp.abs(p["b"]) ** 1.5

    result = mx.fit(nll, {"a": 0.5, "b": 0.0}, ON)
    assert "The second derivative by" in result.message
    assert f"test_nan_origin.py:{line_of(nll, '1.5')}" in result.message


def test_a_value():
    def nll(p, x):
        return jnp.sum(x * jnp.log(p["a"]))

    result = mx.fit(nll, {"a": -1.0}, ON)
    assert "The value is not finite because of the operation 'log'" in result.message
    assert f"test_nan_origin.py:{line_of(nll, 'jnp.log')}" in result.message


def test_results_keep_one_structure():
    """Text is no part of what is compared: results may be stacked."""

    def nll(p, x):
        return jnp.sum((x - p["a"]) ** 2) + jnp.sqrt(p["c"])

    fits = [mx.fit(nll, {"a": mx.Parameter(0.5), "c": jnp.array(c)}, ON) for c in (1.0, -1.0)]
    assert "operation 'sqrt'" in fits[1].message
    both = jax.tree.map(lambda *a: jnp.stack(a), *fits)
    np.testing.assert_array_equal(both.valid, [True, False])


def test_what_is_masked_is_not_to_blame():
    def nll(p, x):
        safe = jnp.where(x > 0, x * jnp.log(jnp.where(x > 0, x, 1.0) / p["a"]), 0.0)  # the other branch is not taken
        return jnp.sum(jnp.where(x > 0, safe, jnp.log(x - 1.0))) + jnp.sqrt(p["a"] - 2.0)

    result = mx.fit(nll, {"a": 1.0}, jnp.array([1.0, 3.0]))
    assert "operation 'sqrt'" in result.message


def test_the_line_is_one_of_the_model():
    """Neither a line of migrax, whose density it is, nor that of the call of the fit."""

    def rate(p):
        return -jnp.sqrt(p["rate"])

    def density(p, x):
        return mx.distributions.Exponential(rate(p)).log_prob(x)

    x = jnp.array([1.0, 3.0])
    result = mx.fit(mx.UnbinnedNLL(density), {"rate": 1.0}, x)
    assert f"operation 'log' in test_nan_origin.py:{line_of(density, 'log_prob')}" in result.message
    result = mx.fit(mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Exponential(rate(p))), {"rate": 1.0}, x)
    assert "because of the operation 'log'. " in result.message


def test_a_sum_in_blocks():
    """Of many events, which a loop sums."""

    def density(p, x):
        return mx.distributions.Normal(p["m"], jnp.sqrt(p["s"])).log_prob(x)

    result = mx.fit(mx.UnbinnedNLL(density), {"m": 1.0, "s": -1.0}, jnp.linspace(0.0, 1.0, 40_000))
    assert f"operation 'sqrt' in test_nan_origin.py:{line_of(density, 'sqrt')}" in result.message
