"""What a fit returns, as an object: names and numbers, covariance and correlation, copies, pictures in words."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

P = mx.Parameter
C = np.array([[4.0, 1.2, 0.0], [1.2, 1.0, 0.3], [0.0, 0.3, 9.0]])
H = np.linalg.inv(C)


def nll(p, d):
    x = jnp.concatenate([p["a"], p["b"][None]]) - d
    return 0.5 * x @ jnp.asarray(H) @ x


START = {"a": P(jnp.zeros(2)), "b": P(0.0, lower=-50.0), "c": P(7.0, fixed=True)}
RESULT = mx.fit(nll, START, jnp.array([1.0, 2.0, 3.0]))


def test_numbers():
    assert RESULT.names == ("a[0]", "a[1]", "b")
    np.testing.assert_allclose(RESULT.values, [1, 2, 3], atol=1e-9)
    np.testing.assert_allclose(RESULT.errors, np.sqrt(np.diagonal(C)))
    np.testing.assert_allclose(RESULT.covariance.matrix, C, atol=1e-9)
    outer = np.sqrt(np.outer(np.diagonal(C), np.diagonal(C)))
    np.testing.assert_allclose(RESULT.covariance.correlation, C / outer, atol=1e-9)
    np.testing.assert_allclose(RESULT.covariance["a[0]", "a[1]"], 1.2)
    assert set(RESULT.stats) >= {"num_steps", "num_values", "num_gradients", "num_hessians"}
    b = RESULT["b"]
    np.testing.assert_allclose([b.value, b.error, b.lower, b.upper], [3, 3, -50, np.inf], atol=1e-9)
    assert "value=" in repr(b)


def test_params_is_the_tree_that_was_given():
    assert jax.tree.structure(RESULT.params) == jax.tree.structure(START)
    np.testing.assert_array_equal(RESULT.params["a"].value, RESULT.values[:2])
    assert float(RESULT.params["c"].value) == 7.0
    assert RESULT.params["c"].fixed
    c = RESULT["c"]
    assert [float(x) for x in (c.value, c.error, c.lower, c.upper, c.at_limit)] == [7.0, 0.0, -np.inf, np.inf, 0.0]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))], ids=["deepcopy", "pickle"])
def test_copies(copied):
    again = copied(RESULT)
    np.testing.assert_array_equal(again.values, RESULT.values)
    assert str(again) == str(RESULT)
    assert again.names == RESULT.names


def test_tables_of_a_fit():
    text, html = str(RESULT), RESULT._repr_html_()
    for word in ("Valid Minimum", "a[0]", "a[1]", "Fixed", "yes", "-50"):
        assert word in text
        assert word in html
    assert "0.600" in text  # the correlation of a[0] and a[1]
    assert "<table>" in html
    assert "0.600" in html


def test_tables_of_a_covariance():
    assert "1.2" in str(RESULT.covariance)
    assert "background-color" in RESULT.covariance._repr_html_()
    bad = mx.hesse(lambda p, _: p["x"] ** 3, {"x": 0.0})
    assert "not valid" in str(bad)
    assert "not valid" in bad._repr_html_()
    assert np.all(np.isnan(bad.matrix))


@pytest.mark.slow
def test_tables_of_many_fits():
    data = jnp.array([[1.0, 2.0, 3.0], [jnp.nan, 0.0, 0.0], [3.0, 2.0, 1.0]])
    many = jax.vmap(lambda d: mx.fit(nll, START, d))(data)
    text = str(many)
    assert "3 fits" in text
    assert "2 of 3" in text
    assert mx.Status.NOT_FINITE_AT_START.phrase in text
    assert mx.Status.NOT_FINITE_AT_START.phrase in many._repr_html_()
    assert "traced" not in text
    assert many["a"].value.shape == (3, 2)
    assert "Covariance(shape=(3, 3, 3)" in str(many.covariance)
    np.testing.assert_array_equal(np.bincount(many.status, minlength=3)[:3], [2, 0, 1])


def test_printing_inside_jit_says_so():
    seen = []

    @jax.jit
    def fit(d):
        result = mx.fit(nll, START, d)
        seen.append((repr(result), result._repr_html_(), repr(result.covariance), repr(result["b"])))
        return result.values

    fit(jnp.ones(3))
    assert all("traced" in text or "shape=" in text for text in seen[0])


def test_invalid_fits_say_why():
    text = str(mx.fit(lambda p, _: (p["x"] + p["y"]) ** 2, {"x": 1.0, "y": 1.0}))
    assert "INVALID" in text
    assert "do not determine" in text
    assert "Hesse FAILED" in text


@pytest.mark.parametrize("status", mx.Status)
def test_each_status_has_words(status):
    assert 3 < len(status.phrase) < 40
    assert status.message.endswith(".")
    assert status.message != status.phrase
