"""To iminuit and back."""

import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
import workspaces

iminuit = pytest.importorskip("iminuit")

DATA = jnp.array([12.0, 30.0, 17.0])


def nll(p, counts):
    mu = p["s"] * jnp.array([0.2, 0.6, 0.2]) + p["b"]
    return jnp.sum(mu - counts * jnp.log(mu)) + 0.5 * jnp.sum(((p["b"] - 10.0) / 2.0) ** 2)


PARAMS = {"s": mx.Parameter(20.0, lower=0.0), "b": mx.Parameter(jnp.array([9.0, 10.0, 11.0]), 0.1, 100.0)}


@pytest.mark.grid
@pytest.mark.parametrize("hessian", [True, False])
def test_the_same_fit(hessian):
    m = mx.io.to_iminuit(nll, PARAMS, DATA, hessian=hessian)
    assert m.parameters == ("b[0]", "b[1]", "b[2]", "s")
    assert m.limits["s"] == (0.0, np.inf)
    assert m.limits["b[1]"] == (0.1, 100.0)
    assert m.errordef == 0.5
    m.strategy, m.tol = 2, 1e-4
    m.migrad()
    ours = mx.fit(nll, PARAMS, DATA)
    assert m.valid
    assert np.max(np.abs(np.array(m.values) - ours.values) / ours.errors) < 1e-3
    np.testing.assert_allclose(np.array(m.errors), ours.errors, rtol=5e-3)
    assert m.ngrad > 0
    assert (m.nhessian > 0) == hessian


def test_fixed_ones_and_entries():
    params = mx.fix(mx.fix(PARAMS, "b[1]", 8.0), "s")
    m = mx.io.to_iminuit(nll, params, DATA)
    assert list(m.fixed) == [False, True, False, True]
    m.migrad()
    ours = mx.fit(nll, params, DATA)
    assert m.values["b[1]"] == 8.0
    assert np.max(np.abs(np.array([m.values["b[0]"], m.values["b[2]"]]) - ours.values) / ours.errors) < 0.01


def test_and_back():
    m = mx.io.to_iminuit(nll, PARAMS, DATA)
    with pytest.raises(ValueError, match=r"call its migrad\(\) first"):
        mx.io.from_iminuit(m, PARAMS)
    m.strategy, m.tol = 2, 1e-5
    m.migrad()
    m.hesse()
    result, ours = mx.io.from_iminuit(m, PARAMS), mx.fit(nll, PARAMS, DATA)
    assert result.names == ours.names
    assert bool(result.valid)
    assert np.max(np.abs(result.values - ours.values) / ours.errors) < 1e-4
    np.testing.assert_allclose(result.covariance.matrix, ours.covariance.matrix, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(result.nll, ours.nll, rtol=1e-10)
    np.testing.assert_allclose(result.params["b"].value, m.values[:3])
    assert "iminuit" in str(result)
    np.testing.assert_allclose(mx.minos(nll, result, DATA, "s").upper, mx.minos(nll, ours, DATA, "s").upper, rtol=1e-4)
    m.fixed["s"] = True
    m.migrad()
    assert mx.io.from_iminuit(m, PARAMS).names == ("b[0]", "b[1]", "b[2]")
    with pytest.raises(ValueError, match="the Minuit has the parameters"):
        mx.io.from_iminuit(m, {"s": mx.Parameter(1.0)})


def test_a_fit_that_failed_is_not_valid():
    m = mx.io.to_iminuit(lambda p, d: -(p["x"] ** 2), {"x": mx.Parameter(1.0)}, None)
    m.migrad(ncall=50)
    assert not bool(mx.io.from_iminuit(m, {"x": mx.Parameter(1.0)}).valid)


def test_a_workspace():
    likelihood, params, data = mx.io.from_pyhf(workspaces.SMALL["channels of different lengths"][0])
    m = mx.io.to_iminuit(likelihood, params, data)
    assert m.fixed["fake_rate[3]"]
    m.strategy, m.tol = 2, 1e-4
    m.migrad()
    assert m.valid
    np.testing.assert_allclose(m.fval, mx.fit(likelihood, params, data).nll, atol=1e-6)


def test_bad_input():
    with pytest.raises(ValueError, match="outside its bounds"):
        mx.io.to_iminuit(nll, PARAMS | {"s": mx.Parameter(-1.0, lower=0.0)}, DATA)
    with pytest.raises(TypeError, match="must return one real number"):
        mx.io.to_iminuit(lambda p, d: None, {"x": mx.Parameter(1.0)}, None).migrad()
