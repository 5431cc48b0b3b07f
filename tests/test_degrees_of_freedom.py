"""The number of degrees of freedom is one number, and vectors are found by their name in every result."""

import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

X = np.linspace(0.0, 1.0, 10)
LINE = mx.LeastSquares(lambda p, x: p["t"][0] + p["t"][1] * x)
POINTS = mx.Points(X, 1.0 - 0.5 * X, 0.1)


@pytest.mark.parametrize(("lower", "ndof"), [([-jnp.inf, -jnp.inf], 8), ([-jnp.inf, 0.0], 9)])
def test_a_parameter_on_its_bound_is_free_no_more(lower, ndof):
    params = {"t": mx.Parameter(jnp.array([0.0, 0.1]), lower=jnp.array(lower))}
    result = mx.fit(LINE, params, POINTS)
    assert int(result.ndof) == ndof
    assert int(mx.goodness_of_fit(LINE, result, POINTS).ndof) == ndof


def test_errors_of_a_vector():
    result = mx.fit(LINE, {"t": jnp.array([0.0, 0.1])}, POINTS)
    found = mx.minos(LINE, result, POINTS)
    np.testing.assert_allclose(found["t"].upper, result["t"].error, rtol=1e-6)
    assert found["t"].lower.shape == (2,)
    assert found["t[1]"].lower.shape == ()
    assert mx.minos(LINE, result, POINTS, "t[1]")["t"].lower.shape == (1,)
    with pytest.raises(ValueError, match="'u'"):
        found["u"]
