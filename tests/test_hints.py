"""Likelihoods that cannot be called, or fail: the error says what was most likely meant."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

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

    def with_scipy(self, data):
        return -jnp.sum(scipy.stats.norm(self.mu, 1.0).logpdf(data))

    def with_if(self, data):
        return jnp.sum(data) if self.mu > 0 else self.mu

    def without_data(self, data):
        return jnp.sum(data[0] - self.mu)


MODEL = Model(mx.Parameter(1.0))


def test_the_unbound_method():
    np.testing.assert_allclose(mx.fit(Model.nll, MODEL, DATA).values, [7 / 3], rtol=1e-9)


SIGNATURES = {
    "bound": (MODEL.nll, r"but nll takes \(data\)\. It is bound to its object: give the unbound method, Model\.nll,"),
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


def test_a_cost_function_of_iminuit():
    cost = pytest.importorskip("iminuit.cost")
    found = cost.ExtendedBinnedNLL([1, 2], [0, 1, 2], lambda x, a: a * x)
    with pytest.raises(TypeError, match=r"an iminuit.cost.ExtendedBinnedNLL.*: mx.PoissonNLL is its counterpart"):
        mx.fit(found, {"a": 1.0}, DATA)


@pytest.mark.parametrize("nll", [lambda p, d=None: jnp.sum((p["mu"] - DATA) ** 2), lambda *a: jnp.sum(a[0]["mu"] ** 2)])
def test_signatures_that_serve(nll):
    assert bool(mx.fit(nll, {"mu": 1.0}).valid)


NOTES = {
    "value": (Model.with_value, DATA, AttributeError, "write self.mu, never self.mu.value"),
    "numpy": (Model.with_numpy, DATA, Exception, "use jax.numpy"),
    "scipy": (Model.with_scipy, DATA, Exception, "SciPy cannot be traced: take mx.distributions"),
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


class Line(eqx.Module):
    a: mx.Parameter

    def __call__(self, x):
        return self.a * x


LINE = Line(mx.Parameter(1.0))

MODELS = {
    "bound": (lambda: mx.LeastSquares(LINE), r"but Line takes \(x\)\. It is bound .* unbound method, Line\.__call__"),
    "no params": (lambda: mx.LeastSquares(lambda x, a, b: a + b * x), r"model\(params, x\), but <lambda> takes \(x, a"),
    "class": (lambda: mx.LeastSquares(Line), "is the class Line"),
    "data too": (lambda: mx.PoissonNLL(lambda p, d: p), r"expected\(params\), but <lambda> takes \(p, d\)"),
    "log": (lambda: mx.PoissonNLL(log_expected=lambda: 1.0), r"log_expected\(params\), but <lambda> takes \(\)"),
    "number": (lambda: mx.PoissonNLL(3.0), "got float"),
    "limits": (lambda: mx.Parameter(1.0, (0, 2)), "lower bound is .0, 2.: give two numbers"),
    "name": (lambda: mx.Parameter(1.0, "mu"), "no name of its own"),
    "no return": (lambda: mx.fit(lambda p, d: None, {"mu": 1.0}), "got NoneType: is its `return` missing"),
}


@pytest.mark.parametrize("case", MODELS)
def test_models(case):
    call, message = MODELS[case]
    with pytest.raises(TypeError, match=message):
        call()


def test_an_unbound_model_serves():
    x = jnp.array([1.0, 2.0])
    result = mx.fit(mx.LeastSquares(Line.__call__), LINE, mx.Points(x, 2 * x, 1.0))
    np.testing.assert_allclose(result.values, [2.0], rtol=1e-9)


def test_a_wrong_key():
    with pytest.raises(KeyError) as error:
        mx.fit(lambda p, d: (p["nu"] - d[0]) ** 2, {"mu": 1.0, "sigma": 2.0}, DATA)
    assert any("the free parameters are mu, sigma" in note for note in error.value.__notes__)


def test_a_constant_is_no_estimate():
    result = mx.fit(lambda p, d: (p["a"] - p["b"]) ** 2, {"a": mx.Parameter(1.0), "b": 2.0})
    with pytest.raises(ValueError, match=r"'b' is a constant: beside an mx\.Parameter"):
        result["b"]


def test_many_sets_of_points():
    with pytest.raises(ValueError, match=r"for many sets: jax.vmap\(lambda y: "):
        mx.Points(jnp.ones(5), jnp.ones((7, 5)), 1.0)


COUNTS = mx.PoissonNLL(lambda p: p["m"] * jnp.array([1.0, 2.0, 0.0]))
LOG_COUNTS = mx.PoissonNLL(log_expected=lambda p: jnp.log(p["m"]) + jnp.log(jnp.array([1.0, 2.0, 0.0])))
POLE = mx.LeastSquares(lambda p, x: p["m"] / x)
FAULTS = {
    "zero": (COUNTS, 1.0, jnp.array([1.0, 2.0, 3.0]), "data[2] is not 0, but the model expects 0 there."),
    "log zero": (LOG_COUNTS, 1.0, jnp.array([1.0, 2.0, 3.0]), "data[2] is not 0, but the model expects 0 there."),
    "negative": (COUNTS, 1.0, jnp.array([1, -2, 0]), "data[1] is negative, and counts cannot be."),
    "model": (COUNTS, -1.0, jnp.array([1.0, 2.0, 0.0]), "The model expects a negative count for data[0]."),
    "NaN": (COUNTS, 1.0, jnp.array([1.0, jnp.nan, 0.0]), "data[1] is not finite."),
    "curve": (POLE, 1.0, mx.Points(jnp.array([1.0, 0.0]), jnp.ones(2), 1.0), "NaN or infinite for data.y[1]."),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_makes_a_likelihood_infinite(case):
    nll, start, data, sentence = FAULTS[case]
    result = mx.fit(nll, {"m": start}, data)
    assert not bool(result.valid)
    assert sentence in result.message


@pytest.mark.slow
def test_a_python_loop_over_events_is_told_before_it_is_compiled():
    x = np.linspace(0.5, 1.5, 300)

    def loop(p, x):
        return sum(0.5 * ((x[i] - p["mu"]) / p["sigma"]) ** 2 + jnp.log(p["sigma"]) for i in range(x.size))

    with pytest.warns(UserWarning, match="a Python loop over events or bins"):
        jax.eval_shape(lambda x: mx.fit(loop, {"mu": 0.1, "sigma": mx.Parameter(1.0, lower=0.0)}, x).values, x)


def test_yields_of_a_mixture_are_not_for_shapes():
    def model(p):
        parts = [mx.distributions.Uniform(0.0, 2.0), mx.distributions.TruncatedNormal(1.0, 0.2, 0.0, 2.0)]
        return mx.distributions.Mixture(parts, yields=[p["b"], p["s"]])

    x = np.linspace(0.1, 1.9, 50)
    nll = mx.UnbinnedNLL(distribution=model)
    (said,) = nll.complaints({"b": jnp.array(30.0), "s": jnp.array(20.0)}, x)
    assert "mx.ExtendedUnbinnedNLL(distribution=...)" in said
    extended = mx.ExtendedUnbinnedNLL(distribution=model)
    assert extended.complaints({"b": jnp.array(30.0), "s": jnp.array(20.0)}, x) == []


def looks_at_values(p, data):
    return jnp.sum((data - p["mu"]) ** 2) if p["mu"] > 0 else jnp.sum(data**2)


def test_a_python_if_is_of_the_users_function():
    """JAX names the function that is traced: not one of migrax."""
    with pytest.raises(jax.errors.TracerBoolConversionError, match="tracing the function looks_at_values at") as caught:
        mx.fit(looks_at_values, {"mu": 1.0}, jnp.ones(3))
    assert "use jnp.where" in "".join(caught.value.__notes__)
