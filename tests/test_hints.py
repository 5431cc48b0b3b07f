"""Likelihoods that cannot be called, or fail: the error says what was most likely meant."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

DATA = jnp.array([1.0, 2.0, 4.0])


class Model(eqx.Module):
    mu: mx.Parameter

    def nll(self, data):
        return 0.5 * jnp.sum((data - self.mu) ** 2)

    def with_value(self, data):
        return 0.5 * jnp.sum((data - self.mu.value) ** 2)

    def with_numpy(self, data):
        return jnp.sum(data - np.log(self.mu))

    def with_if(self, data):
        return jnp.sum(data) if self.mu > 0 else self.mu

    def without_data(self, data):
        return jnp.sum(data[0] - self.mu)


MODEL = Model(mx.Parameter(1.0))


def test_the_unbound_method():
    np.testing.assert_allclose(mx.fit(Model.nll, MODEL, DATA).values, [7 / 3], rtol=1e-9)


SIGNATURES = {
    "bound": (MODEL.nll, r"but nll takes \(data\)\. It is bound to its object: give the unbound method, mx\.fit\(Mod"),
    "no data": (lambda p: p["mu"] ** 2, r"takes \(p\)\. Without data, write nll\(params, data\) all the same"),
    "more": (lambda p, x, y: p["mu"] ** 2, r"takes \(p, x, y\)\. Other arguments belong into params"),
    "number": (3.0, "callable as nll.params, data., got float"),
}


@pytest.mark.parametrize("call", [mx.fit, mx.hesse])
@pytest.mark.parametrize("case", SIGNATURES)
def test_signature(case, call):
    nll, message = SIGNATURES[case]
    with pytest.raises(TypeError, match=message):
        call(nll, {"mu": 1.0}, DATA)


@pytest.mark.parametrize("nll", [lambda p, d=None: jnp.sum((p["mu"] - DATA) ** 2), lambda *a: jnp.sum(a[0]["mu"] ** 2)])
def test_signatures_that_serve(nll):
    assert bool(mx.fit(nll, {"mu": 1.0}).valid)


NOTES = {
    "value": (Model.with_value, DATA, AttributeError, "write self.mu, never self.mu.value"),
    "numpy": (Model.with_numpy, DATA, Exception, "use jax.numpy"),
    "if": (Model.with_if, DATA, Exception, "use jnp.where"),
    "no data": (Model.without_data, None, TypeError, "called with data=None"),
}


@pytest.mark.parametrize("case", NOTES)
def test_notes(case):
    nll, data, kind, note = NOTES[case]
    with pytest.raises(kind) as info:
        mx.fit(nll, MODEL, data)
    assert sum(note in n for n in info.value.__notes__) == 1


def test_likelihoods_take_the_parameters_as_they_are():
    """`nll(start, data)` by hand, before a fit, to look at a value."""
    poisson = mx.PoissonNLL(lambda p: p["mu"] * jnp.ones(3))
    start, plain = {"mu": mx.Parameter(2.0)}, {"mu": 2.0}
    assert float(poisson(start, DATA)) == float(poisson(plain, DATA))
    np.testing.assert_array_equal(poisson.expected_data(start), [2.0, 2.0, 2.0])
    line = mx.LeastSquares(lambda p, x: p["mu"] * x)
    points = mx.Points(DATA, DATA, 0.5)
    assert float(line(start, points)) == float(line(plain, points)) > 0
