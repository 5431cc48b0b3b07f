"""What users stumbled over: one test a find."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import migrax as mx

X = jnp.linspace(0.0, 1.0, 15)
Y = 2.0 * X + 1.0 + 0.2 * jnp.asarray(np.random.default_rng(2).normal(size=15))


@pytest.mark.parametrize("fixed", [[True, False], "no", 0.5, None])
def test_fixed_is_a_bool(fixed):
    with pytest.raises(TypeError, match="fixed must be True or False"):
        mx.Parameter(jnp.zeros(2), fixed=fixed)


@pytest.mark.parametrize("scale", [1e8, 1e12])
def test_correlated_parameters_of_very_different_size(scale):
    """A diagonal entry of the Hessian was taken for zero beside its row, which has other units."""

    def nll(p, y):
        return 0.5 * jnp.sum(((y - p["a"] * scale * X - p["b"] / scale) / 0.2) ** 2)

    result = mx.fit(nll, {"a": 0.0, "b": 0.0}, Y)
    assert bool(result.valid), result.message
    slope, offset = np.polyfit(X, Y, 1)
    np.testing.assert_allclose(result.values * jnp.array([scale, 1 / scale]), [slope, offset], rtol=1e-8)
    assert bool(mx.hesse(nll, result.params, Y).valid)
    assert abs(float(result.covariance.correlation[0, 1]) + 0.85) < 0.1


@pytest.mark.parametrize("lower", [None, 0.0])
def test_a_cross_section_of_1e_minus_38(lower):
    """MINUIT's transform of a lower bound has the unit 1, in which such a start lies on the bound."""
    template, background = 1e40 * jnp.exp(-0.5 * ((X - 0.5) / 0.1) ** 2), 40.0

    def expected(p):
        return p["xsec"] * template + p["b"] * background

    counts = jnp.round(1.1e-38 * template + background)
    start = {"xsec": mx.Parameter(2e-38, lower), "b": mx.Parameter(1.0, lower)}
    result = mx.fit(mx.PoissonNLL(expected), start, counts)
    assert bool(result.valid), result.message
    np.testing.assert_allclose(result["xsec"].value, 1.1e-38, rtol=0.05)
    unscaled = mx.fit(
        mx.PoissonNLL(lambda p: expected({"xsec": 1e-38 * p["xsec"], "b": p["b"]})),
        {"xsec": mx.Parameter(2.0, lower), "b": mx.Parameter(1.0, lower)},
        counts,
    )
    np.testing.assert_allclose(1e38 * result["xsec"].error, unscaled["xsec"].error, rtol=1e-6)


KINKS = {
    "|a|": lambda p, _: jnp.abs(p["a"]),
    "100 |a - 0.3|": lambda p, _: 100 * jnp.abs(p["a"] - 0.3),
    "a^2 + |a|": lambda p, _: p["a"] ** 2 + jnp.abs(p["a"]),
}


@pytest.mark.parametrize("solver", [mx.Migrad(), mx.Simplex()], ids=["Migrad", "Simplex"])
@pytest.mark.parametrize("name", KINKS)
def test_a_kink_is_called_one(name, solver):
    result = mx.fit(KINKS[name], {"a": 1.0}, solver=solver)
    assert int(result.status) == mx.Status.NOT_CONVERGED, result.message
    assert "kink" in result.message


@pytest.mark.parametrize("nll", [lambda p, _: -p["a"], lambda p, _: -(p["a"] ** 2)], ids=["-a", "-a^2"])
def test_falling_for_ever_asks_for_the_sign(nll):
    result = mx.fit(nll, {"a": 1.0})
    assert int(result.status) == mx.Status.FALLS_WITHOUT_LIMIT
    assert "minus log L, with that sign" in result.message


def test_an_invalid_fit_does_not_boast_of_its_covariance():
    def nll(p, y):
        return jnp.sum((y - p["a"] * jnp.exp(p["b"] * X)) ** 2) / 0.08

    result = mx.fit(nll, {"a": 5.0, "b": 3.0}, Y, max_steps=1)
    assert not bool(result.valid)
    assert "Covariance accurate" not in str(result)


def test_a_solver_without_gradients_counts_values():
    stats = mx.fit(lambda p, _: (p["a"] - 1) ** 2, {"a": 0.0}, solver=optx.NelderMead(1e-6, 1e-6)).stats
    assert int(stats["num_values"]) == int(stats["num_steps"]) > 0
    assert int(stats["num_gradients"]) == 0


def test_the_class_in_place_of_the_likelihood():
    with pytest.raises(TypeError, match=r"is the class LeastSquares: make one of it"):
        mx.fit(mx.LeastSquares, {"a": 1.0}, mx.Points(X, Y, 0.2))


def test_params_and_data_swapped():
    with pytest.raises(TypeError, match=r"the order is \(nll, params, data\)"):
        mx.fit(mx.PoissonNLL(lambda p: p["a"] * X), jnp.arange(15), {"a": mx.Parameter(1.0)})


def test_zero_counts_with_a_bound_at_zero():
    """n log(mu) has no derivative at mu = 0 for n = 0; a hair beside the bound it has."""

    def nll(p, n):
        return p["mu"] - n * jnp.log(p["mu"])

    result = mx.fit(nll, {"mu": mx.Parameter(0.5, lower=0.0)}, 0.0)
    assert bool(result.valid), result.message
    assert bool(result.at_limit[0])
    assert 0 <= float(result.values[0]) < 1e-10
    lanes = jax.vmap(lambda n: mx.fit(nll, {"mu": mx.Parameter(0.5, lower=0.0)}, n))(jnp.array([0.0, 3.0]))
    assert np.all(lanes.valid)
    np.testing.assert_allclose(lanes.values[:, 0], [0.0, 3.0], atol=1e-10)
