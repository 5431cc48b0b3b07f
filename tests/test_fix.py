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


class TestEntries:
    def test_fixed(self):
        full = mx.fit(Model.nll, MODEL, DATA)
        some = mx.fix(MODEL, "v[0]", 2.0)
        assert some.v.fixed == (True, False)
        assert "fixed=(True, False)" in repr(some.v)
        held = mx.fit(Model.nll, some, DATA)
        assert held.names == ("mu", "v[1]")
        exact = mx.fit(
            lambda p, d: Model.nll(Model(p["mu"], jnp.stack([jnp.array(2.0), p["v"]]), jnp.array(2.0)), d),
            {"mu": mx.Parameter(0.0), "v": mx.Parameter(0.0, lower=-5.0)},
            DATA,
        )
        np.testing.assert_allclose(held.values, exact.values, rtol=1e-9)
        np.testing.assert_allclose(held.errors, exact.errors, rtol=1e-9)
        np.testing.assert_array_equal(held.params.v.value, [2.0, held.values[1]])
        np.testing.assert_array_equal(held["v"].value, held.params.v.value)
        np.testing.assert_array_equal(held["v"].error, [0.0, held.errors[1]])
        assert float(held["v[0]"].error) == 0
        assert float(held["v[0]"].lower) == -5
        assert float(held["v[1]"].error) == float(held.errors[1])
        row = next(line for line in str(held).splitlines() if "v[0]" in line)
        assert "yes" in row
        assert "yes" not in next(line for line in str(held).splitlines() if "v[1]" in line)
        assert mx.names(mx.release(held.params, "v[0]")) == full.names
        assert mx.names(mx.release(held.params, "v")) == full.names
        assert mx.names(mx.fix(some, lambda p: p.v[1:])) == ("mu",)
        assert mx.minos(Model.nll, held, DATA, "v").names == ("v[1]",)

    @pytest.mark.slow
    def test_vmap_and_grad(self):
        some = mx.fix(MODEL, "v[0]", 2.0)
        shifts = jnp.arange(3.0)
        fits = jax.vmap(lambda s: mx.fit(Model.nll, some, DATA + s))(shifts)
        for i, s in enumerate(shifts):
            one = mx.fit(Model.nll, some, DATA + s)
            np.testing.assert_allclose(fits.values[i], one.values, rtol=1e-9)
            np.testing.assert_allclose(fits["v"].value[i], one["v"].value, rtol=1e-9)
        assert fits["v"].error.shape == (3, 2)
        np.testing.assert_array_equal(fits["v[0]"].error, jnp.zeros(3))
        values = lambda v: mx.fit(Model.nll, mx.fix(MODEL, "v[0]", v), DATA).values[0]  # noqa: E731
        # the minimum of 3 (mu - mean)^2 / 2 + (v - mu / 2)^2, times 2 / 2
        np.testing.assert_allclose(jax.jit(jax.grad(values))(2.0), 1 / 3.5, rtol=1e-9)

    def test_toys(self):
        nll = mx.Joint({"n": mx.PoissonNLL(lambda p: p["b"]), "b": mx.NormalConstraint("b", 5.0)})
        params = {"b": mx.Parameter(jnp.array([20.0, 30.0, 40.0]), fixed=[False, True, False])}
        toys = mx.fit_toys(nll, params, mx.Toys(50, jax.random.key(0)))
        assert toys.names == ("b[0]", "b[2]")
        assert bool(jnp.all(toys.valid))
        np.testing.assert_array_equal(toys.params["b"].value[:, 1], 30.0)

    def test_whole_vectors_stay_simple(self):
        assert mx.Parameter(jnp.ones(2), fixed=[True, True]).fixed is True
        assert mx.Parameter(jnp.ones(2), fixed=np.zeros(2, bool)).fixed is False
        assert mx.Parameter(jnp.ones((2, 2)), fixed=[[True, False], [False, False]]).fixed == (True, *[False] * 3)
        with pytest.raises(ValueError, match="fixed has shape"):
            mx.Parameter(jnp.ones(2), fixed=[True, False, True])
        with pytest.raises(TypeError, match="array of them"):
            mx.Parameter(jnp.ones(2), fixed="yes")


PICKS = {
    "name": ("v", ("mu",)),
    "entry": ("v[1]", ("mu", "v[0]")),
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


@pytest.mark.slow
def test_the_value_may_be_traced():
    def profiled(mu):
        return mx.fit(Model.nll, mx.fix(MODEL, "mu", mu), DATA).nll

    values = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(jax.vmap(profiled)(values), [0.5 * jnp.sum((DATA - v) ** 2) for v in values], rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.grad(profiled))(1.0), -4.0, rtol=1e-9)


BAD = {
    "unknown": (lambda: mx.fix(MODEL, "muu"), "did you mean 'mu'"),
    "entries": (lambda: mx.fix(MODEL, lambda p: p.v[:1], jnp.ones(3)), "1 entries of 'v' are picked; 3 values"),
    "entry outside": (lambda: mx.fix(MODEL, "v[1]", -7.0), r"'v' cannot be fixed at -7\.0"),
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
