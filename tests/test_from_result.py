"""Tests of hypotheses that start from the result of a fit, with solvers and starts of their own; what a user's own
object may bring to a likelihood."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._hypotest import test as door

SHAPE = jnp.array([1.0, 6.0, 2.0])
COUNTS = jnp.array([8.0, 14.0, 9.0])
NLL = mx.Joint(
    {"counts": mx.PoissonNLL(lambda p: p["s"] * SHAPE + p["b"]), "b": mx.NormalConstraint("b", 0.5)},
)
PARAMS = {"s": mx.Parameter(1.0, lower=0.0, upper=20.0), "b": mx.Parameter(5.0, lower=0.1)}
DATA = {"counts": COUNTS, "b": 5.0}

CALLS = {
    "hypotest": lambda start, **options: mx.hypotest(NLL, start, DATA, "s", 1.0, **options),
    "discovery": lambda start, **options: mx.discovery(NLL, start, DATA, "s", **options),
    "upper_limit": lambda start, **options: mx.upper_limit(NLL, start, DATA, "s", **options),
    "interval": lambda start, **options: mx.interval(NLL, start, DATA, "s", **options),
}


@pytest.fixture(scope="module")
def result():
    return mx.fit(NLL, PARAMS, DATA)


def numbers(found):
    return [np.asarray(a) for a in jax.tree.leaves(found) if eqx.is_inexact_array(a)]


def free_fit(found):
    return found.fits.free if hasattr(found, "fits") else found.free


@pytest.mark.parametrize("name", CALLS)
def test_a_result_is_taken_as_it_is(name, result, monkeypatch):
    from_start = CALLS[name](PARAMS)
    monkeypatch.setattr(door, "fit", lambda *_, **__: pytest.fail("fitted freely again"))
    from_result = CALLS[name](result)
    assert bool(from_result.valid)
    for a, b in zip(numbers(from_result), numbers(from_start), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CALLS)
def test_the_solver_is_handed_on(name):
    found = CALLS[name](PARAMS, solver=mx.Newton())
    assert free_fit(found).algorithm == "Newton"
    assert bool(found.valid)


def test_the_covariance_is_handed_on(result):
    found = CALLS["hypotest"](result.params, covariance=result.covariance)
    assert int(found.fits.free.stats["num_hessians"]) < int(result.stats["num_hessians"])
    np.testing.assert_allclose(found.cls, CALLS["hypotest"](PARAMS).cls, rtol=1e-8)


@pytest.mark.parametrize("name", CALLS)
def test_results_that_cannot_be_started_from(name, result):
    with pytest.raises(ValueError, match=f"{name} needs the covariance"):
        CALLS[name](mx.fit(NLL, PARAMS, DATA, hesse=False))
    many = jax.tree.map(lambda a: jnp.stack([a, a]), result)
    with pytest.raises(ValueError, match=rf"{name} takes one fit, got \(2,\) of them: jax.vmap"):
        CALLS[name](many)


def test_an_invalid_result_says_so(result):
    broken = eqx.tree_at(lambda r: (r.valid, r.status), result, (jnp.array(False), jnp.array(int(mx.Status.MAX_STEPS))))
    found = CALLS["hypotest"](broken)
    assert not bool(found.valid)
    assert np.isnan(found.cls)
    assert "Step limit" in repr(found).replace("step limit", "Step limit")


def test_robust_errors_are_of_another_fit(result):
    """The statistic is a ratio of likelihoods: it starts from the inverse Hessian, not from the sandwich."""
    robust = mx.fit(NLL, PARAMS, DATA, hesse="sandwich")
    found = CALLS["hypotest"](robust)
    assert found.fits.free.covariance.kind == "hesse"
    np.testing.assert_allclose(found.cls, CALLS["hypotest"](result).cls, rtol=1e-8)


@pytest.mark.slow
def test_a_result_under_vmap_and_jit(result):
    values = jnp.array([0.5, 1.0, 2.5])
    test = lambda value: mx.hypotest(NLL, result, DATA, "s", value).cls  # noqa: E731
    one_by_one = [float(test(value)) for value in values]
    np.testing.assert_allclose(jax.jit(jax.vmap(test))(values), one_by_one, rtol=1e-7)


def test_levels_as_standard_deviations(result):
    """The probability of a normal variable within two standard deviations, to both sides."""
    two = CALLS["upper_limit"](result, cl=2)
    np.testing.assert_allclose(two.cl, 0.9544997361036416, rtol=1e-14)
    np.testing.assert_allclose(two.observed, CALLS["upper_limit"](result, cl=0.9544997361036416).observed, rtol=1e-9)
    errors = mx.minos(NLL, result, DATA, "s", cl=2)
    found = CALLS["interval"](result, cl=2)
    np.testing.assert_allclose(found.upper - found.best, errors.upper[0], rtol=1e-7)


@pytest.mark.parametrize("cl", [0, -1.0, 25, float("nan"), True, "0.9", [0.9]])
@pytest.mark.parametrize("name", ["upper_limit", "interval"])
def test_levels_that_are_none(name, cl, result):
    with pytest.raises(ValueError, match="cl must be"):
        CALLS[name](result, cl=cl)


@pytest.mark.parametrize("name", CALLS)
def test_html_says_what_the_text_says(name, result):
    found = CALLS[name](result)
    text = repr(found)
    cells = {cell.strip() for line in text.splitlines() if line.startswith("│") for cell in line.split("│")} - {""}
    html = found._repr_html_()
    assert all(f">{cell}<" in html for cell in cells)
    assert html.count("<table>") == html.count("</table>") == 1


class Own(eqx.Module):
    """A likelihood of the user's, with the methods that it may have."""

    shape: jax.Array

    def mean(self, params):
        return params["s"] * self.shape + 5.0

    def __call__(self, params, data):
        mu = self.mean(params)
        return jnp.sum(mu - data * jnp.log(mu))

    def sample(self, params, key):
        return jax.random.poisson(key, self.mean(params)).astype(float)

    def expected_data(self, params):
        return self.mean(params)


OWN = Own(SHAPE)
START = {"s": mx.Parameter(1.0, lower=0.0, upper=20.0)}


def test_the_methods_of_an_object_are_used():
    key = jax.random.key(3)
    np.testing.assert_array_equal(mx.sample(OWN, {"s": 2.0}, key), OWN.sample({"s": 2.0}, key))
    np.testing.assert_array_equal(mx.asimov(OWN, {"s": 2.0}), OWN.mean({"s": 2.0}))
    fits = mx.fit_toys(OWN, {"s": mx.Parameter(2.0, lower=0.0, upper=20.0)}, mx.Toys(20, key))
    assert bool(jnp.all(fits.valid))
    reference = mx.PoissonNLL(lambda p: p["s"] * SHAPE + 5.0)
    own, known = (mx.hypotest(nll, START, COUNTS, "s", 2.0).cls for nll in (OWN, reference))
    np.testing.assert_allclose(own, known, rtol=1e-8)


def test_an_object_in_a_joint():
    joint = mx.Joint({"own": OWN, "function": lambda p, d: 0.5 * (p["s"] - d) ** 2})
    data = {"own": COUNTS, "function": 1.0}
    whole = lambda p, d: OWN(p, d["own"]) + 0.5 * (p["s"] - d["function"]) ** 2  # noqa: E731
    np.testing.assert_allclose(mx.fit(joint, START, data).values, mx.fit(whole, START, data).values, rtol=1e-9)
    with pytest.raises(TypeError, match=r"the part 'function' \(<lambda>\) has no sample"):
        mx.sample(joint, {"s": 1.0}, jax.random.key(0))


class Named(eqx.Module):
    """A model with fields that have the names of methods."""

    sample: jax.Array
    residuals: float

    def __call__(self, params, data):
        return jnp.sum((params["s"] * self.sample - data) ** 2) + self.residuals


def test_fields_are_no_methods():
    named = Named(SHAPE, 0.0)
    result = mx.fit(named, {"s": 1.0}, COUNTS)
    assert bool(result.valid)
    np.testing.assert_allclose(result.values, [float(SHAPE @ COUNTS / (SHAPE @ SHAPE))], rtol=1e-9)
    with pytest.raises(TypeError, match="Named has no sample"):
        mx.sample(named, {"s": 1.0}, jax.random.key(0))


def test_functions_are_told_by_their_names():
    def counts_nll(params, data):
        return jnp.sum((params["s"] - data) ** 2)

    with pytest.raises(TypeError, match=r"counts_nll has no sample: a plain function gets one by mx\.Likelihood"):
        mx.sample(counts_nll, {"s": 1.0}, jax.random.key(0))
    with pytest.raises(TypeError, match="counts_nll has no expected_data"):
        mx.asimov(counts_nll, {"s": 1.0})


def test_what_is_kept_of_batches():
    toys = mx.Toys(30, jax.random.key(1))
    kept = mx.reduce_toys(lambda fits: fits.values[:, 0], OWN, START, toys, batch_size=10, hesse=False)
    assert [part.shape for part in kept] == [(10,)] * 3
    np.testing.assert_array_equal(np.concatenate(kept), mx.fit_toys(OWN, START, toys, hesse=False).values[:, 0])
    with pytest.raises(TypeError, match="reduce_toys has no argument 'batchsize'; it takes hesse, minos, batch_size"):
        mx.reduce_toys(lambda fits: fits, OWN, START, toys, batchsize=10)


OTHER = {"counts": jnp.array([9.0, 25.0, 8.0]), "b": 5.0}
ON_OTHER = {
    "hypotest": lambda start: mx.hypotest(NLL, start, OTHER, "s", 1.0),
    "discovery": lambda start: mx.discovery(NLL, start, OTHER, "s"),
    "upper_limit": lambda start: mx.upper_limit(NLL, start, OTHER, "s"),
    "interval": lambda start: mx.interval(NLL, start, OTHER, "s"),
    "impacts": lambda start: mx.impacts(NLL, _fitted(start), OTHER, "s"),
    "goodness_of_fit": lambda start: mx.goodness_of_fit(NLL, _fitted(start), OTHER),
}


def _fitted(start):
    return start if isinstance(start, mx.FitResult) else mx.fit(NLL, start, OTHER)


@pytest.mark.parametrize("name", ON_OTHER)
def test_a_result_of_other_data_is_fitted_again(name, result):
    expected = ON_OTHER[name](PARAMS)
    with pytest.warns(UserWarning, match=f"{name}: the result belongs to another likelihood or other data") as warned:
        found = ON_OTHER[name](result)
    assert warned[0].filename == __file__
    for a, b in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


def test_a_result_of_another_likelihood_is_fitted_again(result):
    other = mx.Joint({"counts": mx.PoissonNLL(lambda p: p["s"] * SHAPE + p["b"]), "b": mx.NormalConstraint("b", 0.3)})
    with pytest.warns(UserWarning, match="discovery: the result belongs to another likelihood"):
        found = mx.discovery(other, result, DATA, "s")
    np.testing.assert_allclose(found.significance, mx.discovery(other, PARAMS, DATA, "s").significance, rtol=1e-6)


def test_a_result_of_nearly_the_same_data_is_told(result):
    """One event more, in one bin."""
    data = DATA | {"counts": COUNTS.at[0].add(1.0)}
    with pytest.warns(UserWarning, match="belongs to another likelihood or other data"):
        mx.discovery(NLL, result, data, "s")
