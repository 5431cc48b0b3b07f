"""Impacts and pulls against closed forms; cabinetry's ranking is in test_cabinetry.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

P = mx.Parameter
COVARIANCE = np.array([[4.0, 1.2, 0.5], [1.2, 1.0, -0.2], [0.5, -0.2, 2.0]])
INVERSE = jnp.linalg.inv(COVARIANCE)
AT = jnp.array([1.0, -2.0, 0.3])


def quadratic(p, at):
    d = jnp.concatenate([p["mu"][None], p["nu"]]) - at
    return 0.5 * d @ INVERSE @ d


@functools.cache
def fitted():
    return mx.fit(quadratic, {"mu": 0.0, "nu": jnp.zeros(2)}, AT)


def test_quadratic():
    impacts = mx.impacts(quadratic, fitted(), AT, "mu", prefit={"nu": (jnp.array([-1.5, 0.0]), jnp.array([2.0, 3.0]))})
    slope = COVARIANCE[0, 1:] / np.diag(COVARIANCE)[1:]
    sigma = np.sqrt(np.diag(COVARIANCE))[1:]
    assert impacts.names == ("nu[0]", "nu[1]")
    assert impacts.poi == "mu"
    assert np.all(impacts.valid)
    np.testing.assert_allclose(impacts.postfit_up, slope * sigma, rtol=1e-8)
    np.testing.assert_allclose(impacts.postfit_down, -slope * sigma, rtol=1e-8)
    np.testing.assert_allclose(impacts.linear, slope * sigma, rtol=1e-8)
    np.testing.assert_allclose(impacts.prefit_up, slope * np.array([2.0, 3.0]), rtol=1e-8)
    np.testing.assert_allclose(impacts.prefit_down, -impacts.prefit_up, rtol=1e-8)
    np.testing.assert_allclose(impacts.pulls, [-0.25, 0.1], rtol=1e-7)
    np.testing.assert_allclose(impacts.constraints, sigma / [2.0, 3.0], rtol=1e-8)


def test_without_errors_before_the_fit():
    impacts = mx.impacts(quadratic, fitted(), AT, "mu", "nu[1]")
    assert impacts.names == ("nu[1]",)
    assert np.all(impacts.valid)
    for numbers in (impacts.prefit_up, impacts.prefit_down, impacts.pulls, impacts.constraints):
        assert np.all(np.isnan(numbers))


def test_linear_without_refits():
    prefit = {"nu": (jnp.array([-1.5, 0.0]), jnp.array([2.0, 3.0]))}
    refitted = mx.impacts(quadratic, fitted(), AT, "mu", prefit=prefit)
    linear = mx.impacts(quadratic, fitted(), AT, "mu", prefit=prefit, linear=True)
    for name in ("postfit_down", "postfit_up", "prefit_down", "prefit_up", "linear", "pulls", "constraints"):
        np.testing.assert_allclose(getattr(linear, name), getattr(refitted, name), rtol=1e-8)
    assert np.all(linear.valid)
    assert str(linear) == str(refitted)
    alone = mx.impacts(quadratic, fitted(), AT, "mu", "nu[1]", linear=True)
    assert np.isnan(alone.prefit_up[0])
    with pytest.raises(ValueError, match=r"linear=True takes errors='hesse'"):
        mx.impacts(quadratic, fitted(), AT, "mu", linear=True, errors="minos")
    slope = jax.jit(
        lambda at: mx.impacts(quadratic, mx.fit(quadratic, {"mu": 0.0, "nu": jnp.zeros(2)}, at), at, "mu", linear=True)
    )
    np.testing.assert_allclose(slope(AT).postfit_up, linear.postfit_up, rtol=1e-8, equal_nan=True)


def skewed(p, n):
    """mu + nu is a Poisson mean, nu a Poisson mean of its own."""
    both = p["mu"] + p["nu"]
    return both - n[0] * jnp.log(both) + p["nu"] - n[1] * jnp.log(p["nu"]) + 0.5 * jnp.sum(p["rest"] ** 2)


N = jnp.array([30.0, 10.0])
START = {"mu": P(15.0), "nu": P(9.0, lower=0.1), "rest": P(jnp.ones(2))}


def test_minos_errors():
    """mu follows nu exactly: n[0] - nu."""
    result = mx.fit(skewed, START, N)
    impacts = mx.impacts(skewed, result, N, "mu", "nu", errors="minos")
    minos = mx.minos(skewed, result, N, "nu")
    np.testing.assert_allclose(impacts.postfit_down, -minos.lower, rtol=1e-8)
    np.testing.assert_allclose(impacts.postfit_up, -minos.upper, rtol=1e-8)


def test_a_step_over_a_bound_fails_alone():
    result = mx.fit(skewed, START, N)
    impacts = mx.impacts(skewed, result, N, "mu", prefit={"nu": (10.0, 9.95), "rest": (0.0, 1.0)})
    over = impacts.names.index("nu")
    np.testing.assert_array_equal(impacts.status[over], [0, 0, int(mx.Status.OUTSIDE_BOUNDS), 0])
    assert np.isnan(impacts.prefit_down[over])
    np.testing.assert_allclose(impacts.prefit_up[over], -9.95, rtol=1e-8)
    np.testing.assert_array_equal(impacts.valid, [name != "nu" for name in impacts.names])
    within = mx.impacts(skewed, result, N, "mu", prefit={"nu": (10.0, 2.0), "rest": (0.0, 1.0)})
    others = np.arange(3) != over
    np.testing.assert_array_equal(impacts.prefit_up[others], within.prefit_up[others])
    assert "nu (failed)" in repr(impacts)


def test_printing():
    impacts = mx.impacts(quadratic, fitted(), AT, "mu", prefit={"nu[0]": (-1.5, 2.0)})
    assert repr(impacts).splitlines() == [
        "Impacts on mu",
        "┌───────┬──────────┬────────────┬──────────┬──────────┬──────────┬──────────┬──────────┐",
        "│ Name  │   Pull   │ Constraint │ Postfit- │ Postfit+ │ Prefit-  │ Prefit+  │  Linear  │",
        "├───────┼──────────┼────────────┼──────────┼──────────┼──────────┼──────────┼──────────┤",
        "│ nu[0] │  -0.25   │    0.50    │  -1.20   │   1.20   │  -2.40   │   2.40   │   1.20   │",
        "│ nu[1] │          │            │  -0.35   │   0.35   │          │          │   0.35   │",
        "└───────┴──────────┴────────────┴──────────┴──────────┴──────────┴──────────┴──────────┘",
    ]
    assert "<td>1.20</td>" in impacts._repr_html_()


@pytest.mark.slow
def test_vmap():
    def one(n):
        return mx.impacts(skewed, mx.fit(skewed, START, n), n, "mu", "nu")

    data = jnp.stack([N, 1.5 * N, jnp.array([jnp.nan, 1.0])])
    impacts = jax.vmap(one)(data)
    np.testing.assert_allclose(impacts.postfit_up[1], one(data[1]).postfit_up, rtol=1e-8)
    np.testing.assert_array_equal(impacts.valid[:, 0], [True, True, False])
    assert repr(impacts) == "Impacts(on mu, shape=(3, 1), valid=2 of 3 (66.7 %))"


@pytest.mark.slow
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_derivatives(mode):
    """Of the whole procedure, the errors of the fit too, against the closed form -sqrt(nu) and finite differences."""

    def moved(n):
        impacts = mx.impacts(skewed, mx.fit(skewed, START, n), n, "mu", "nu", prefit={"nu": (9.0, 2.0)})
        return jnp.concatenate([impacts.postfit_up, impacts.postfit_down, impacts.prefit_up, impacts.linear])

    jacobian, again = jax.jit(jax.vmap(mode(moved)))(jnp.stack([N, N]))
    np.testing.assert_array_equal(again, jacobian)
    np.testing.assert_allclose(moved(N), [-np.sqrt(10), np.sqrt(10), -2.0, -np.sqrt(10)], rtol=1e-7)
    d = 0.5 / np.sqrt(10)
    np.testing.assert_allclose(jacobian, [[0, -d], [0, d], [0, 0], [0, -d]], atol=1e-6)


def test_no_retrace():
    traces = []

    def nll(p, d):
        traces.append(1)
        return quadratic(p, d)

    start = {"mu": 0.0, "nu": jnp.zeros(2)}
    mx.impacts(nll, mx.fit(nll, start, AT), AT, "mu")
    count = len(traces)
    mx.impacts(nll, mx.fit(nll, start, AT + 1), AT + 1, "mu", prefit={"nu": (0.0, 1.0)})
    mx.impacts(nll, mx.fit(nll, start, AT), AT, "nu[0]")
    assert len(traces) == count


BAD = {
    "poi a vector": ({"poi": "nu"}, r"poi must be one parameter, got \['nu\[0\]', 'nu\[1\]'\]"),
    "poi unknown": ({"poi": "mue"}, "did you mean 'mu'"),
    "poi among them": ({"where": ["mu", "nu"]}, "'mu' is among the nuisance parameters"),
    "prefit": ({"prefit": {"nu": 1.0}}, "must be a pair"),
    "prefit shape": ({"prefit": {"nu": (0.0, jnp.ones(3))}}, "3 numbers for 2 parameters"),
    "prefit error": ({"prefit": {"nu": (0.0, 0.0)}}, "the error must be positive"),
    "prefit unknown": ({"prefit": {"alpha": (0.0, 1.0)}}, "no parameter 'alpha'"),
    "prefit of the poi": ({"prefit": {"mu": (0.0, 1.0)}}, r"prefit\['mu'\] is of the parameter of interest"),
    "errors": ({"errors": "minimos"}, "'hesse' or 'minos', got 'minimos'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        mx.impacts(quadratic, fitted(), AT, **({"poi": "mu"} | change))


def test_prefit_is_a_dict():
    with pytest.raises(TypeError, match=r"prefit must be a dict of name: \(value, error\), got list"):
        mx.impacts(quadratic, fitted(), AT, "mu", prefit=[(0.0, 1.0)])


def two_valleys(p, depth):
    """A deeper minimum behind a hill lower than the rise that is looked for, so that minos meets it."""
    t = p["t"]
    return 2 * t**2 - depth * jnp.exp(-8 * (t - 1.2) ** 2) + 0.5 * (p["mu"] - t) ** 2


def test_a_new_minimum_of_minos_is_that_of_the_impacts():
    result = mx.fit(two_valleys, {"mu": 0.1, "t": 0.1}, 10.0)
    with pytest.warns(UserWarning, match="minos met a lower minimum"):
        minos = mx.minos(two_valleys, result, 10.0, "t")
    with pytest.warns(UserWarning, match="minos met a lower minimum"):
        impacts = mx.impacts(two_valleys, result, 10.0, "mu", errors="minos")
    again = mx.impacts(two_valleys, minos.result, 10.0, "mu", errors="minos")
    np.testing.assert_allclose(impacts.postfit_up, again.postfit_up, rtol=1e-6)


def test_a_single_parameter_has_no_nuisance():
    nll = lambda p, d: 0.5 * (p["mu"] - d) ** 2  # noqa: E731
    with pytest.raises(ValueError, match="no nuisance parameter"):
        mx.impacts(nll, mx.fit(nll, {"mu": 0.0}, 1.0), 1.0, "mu")
