"""Fixing and releasing parameters between fits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

DATA = jnp.array([1.0, 2.0, 4.0])


class Model(eqx.Module):
    mu: mx.Parameter
    v: mx.Parameter
    scale: jax.Array

    def nll(self, data):
        rest = self.v - jnp.array([0.5 * self.mu, 1.0])
        return 0.5 * jnp.sum((data - self.mu) ** 2) + 0.5 * self.scale * rest @ rest


MODEL = Model(mx.Parameter(0.0), mx.Parameter(jnp.zeros(2), lower=-5.0), jnp.array(2.0))


def test_fix_and_release_between_fits():
    full = mx.fit(Model.nll, MODEL, DATA)
    held = mx.fit(Model.nll, mx.fix(full.params, "mu", 1.0), DATA)
    assert held.names == ("v[0]", "v[1]")
    np.testing.assert_allclose(held.values, [0.5, 1.0], atol=1e-9)
    np.testing.assert_allclose(held.nll - full.nll, 0.5 * 3 * (7 / 3 - 1) ** 2, rtol=1e-9)
    again = mx.fit(Model.nll, mx.release(held.params, "mu"), DATA)
    assert again.names == full.names
    np.testing.assert_allclose(again.values, full.values, atol=1e-8)
    assert MODEL.mu.fixed is False


PICKS = {
    "name": ("v", ("mu",)),
    "node": (lambda p: p.v, ("mu",)),
    "several": (["mu", lambda p: p.v], ()),
}


@pytest.mark.parametrize("case", PICKS)
def test_what_is_fixed(case):
    where, left = PICKS[case]
    assert mx.names(mx.fix(MODEL, where)) == left


def test_values_and_bounds_stay():
    fixed = mx.fix(MODEL, "v", [3.0, 4.0])
    np.testing.assert_array_equal(fixed.v.value, [3.0, 4.0])
    np.testing.assert_array_equal(mx.fix(MODEL, "v", 3.0).v.value, [3.0, 3.0])
    assert fixed.v.fixed
    assert float(fixed.v.lower) == -5.0
    released = mx.release(fixed, "v")
    assert not released.v.fixed
    np.testing.assert_array_equal(released.v.value, [3.0, 4.0])


def test_a_tree_of_plain_numbers():
    fixed = mx.fix({"a": 1.0, "b": 2.0}, "a")
    assert mx.names(fixed) == ("b",)


def test_the_value_may_be_traced():
    def profiled(mu):
        return mx.fit(Model.nll, mx.fix(MODEL, "mu", mu), DATA).nll

    values = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(jax.vmap(profiled)(values), [0.5 * jnp.sum((DATA - v) ** 2) for v in values], rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.grad(profiled))(1.0), -4.0, rtol=1e-9)


BAD = {
    "unknown": (lambda: mx.fix(MODEL, "muu"), "did you mean 'mu'"),
    "entry": (lambda: mx.fix(MODEL, "v[1]"), r"'v\[1\]' is one entry: 'v' is fixed or free as a whole"),
    "constant": (lambda: mx.fix(MODEL, "scale"), "'scale' is a constant"),
    "shape": (lambda: mx.fix(MODEL, "v", jnp.ones(3)), r"'v' has shape \(2,\); a value of shape \(3,\)"),
    "nothing": (lambda: mx.fix(MODEL, lambda p: ()), "picked none"),
    "outside": (lambda: mx.fix(MODEL, "v", -6.0), r"'v' cannot be fixed at -6\.0: its bounds are -5"),
    "unknown release": (lambda: mx.release(MODEL, "w"), "no parameter 'w'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_result_is_no_tree():
    with pytest.raises(TypeError, match=r"give result\.params"):
        mx.fix(mx.fit(Model.nll, MODEL, DATA), "mu")
