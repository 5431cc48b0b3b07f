"""Data in float32, as files have them, with parameters in float64: all sums are those of float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

EVENTS = np.random.default_rng(0).normal(2.0, 1.0, 200).astype(np.float32)
START = {"m": mx.Parameter(1.5), "s": mx.Parameter(1.2, lower=0.1)}
T = np.linspace(0.0, 4.0, 40, dtype=np.float32)
Y = (2 * np.exp(-0.7 * T) + np.random.default_rng(1).normal(0, 0.1, 40)).astype(np.float32)
FALL = {"a": mx.Parameter(1.0), "k": mx.Parameter(1.0)}


def normal(p):
    return mx.distributions.Normal(p["m"], p["s"])


CURVE = mx.LeastSquares(lambda p, x: p["a"] * jnp.exp(-p["k"] * x))
UNBINNED = mx.UnbinnedNLL(distribution=normal)
CASES = {
    "events": (UNBINNED, START, EVENTS),
    "weighted events": (UNBINNED, START, mx.Events(EVENTS, weight=np.linspace(0.5, 1.5, 200, dtype=np.float32))),
    "masked events": (UNBINNED, START, mx.Events(EVENTS, mask=np.arange(200) < 190)),
    "in chunks": (mx.UnbinnedNLL(distribution=normal, chunk_size=64), START, EVENTS),
    "extended": (
        mx.ExtendedUnbinnedNLL(lambda p, x: jnp.log(200 * p["n"]) + normal(p).log_prob(x), lambda p: 200 * p["n"]),
        START | {"n": mx.Parameter(0.9)}, EVENTS,
    ),
    "curve": (CURVE, FALL, mx.Points(T, Y, np.float32(0.1))),
    "curve, errors of x": (CURVE, FALL, mx.Points(T, Y, np.float32(0.1), xerr=np.float32(0.03))),
    "curve, covariance": (CURVE, FALL, mx.Points(T, Y, covariance=0.01 * np.eye(40, dtype=np.float32))),
}  # fmt: skip


def _exact(data):
    """The same numbers in float64."""
    return jax.tree.map(lambda a: a.astype(float) if jnp.issubdtype(a.dtype, jnp.floating) else a, data)


@pytest.mark.grid
@pytest.mark.parametrize("name", CASES)
def test_as_in_float64(name):
    nll, params, data = CASES[name]
    data = jax.tree.map(jnp.asarray, data)
    mixed, double = (mx.fit(nll, params, d, hesse="hesse") for d in (data, _exact(data)))
    assert mixed.valid
    assert nll(mixed.params, data).dtype == jnp.float64
    np.testing.assert_allclose(mixed.nll, double.nll, rtol=1e-7)
    np.testing.assert_allclose(mixed.values, double.values, rtol=1e-6)
    np.testing.assert_allclose(mixed.errors, double.errors, rtol=1e-6)


def test_minos_and_contours_find_all_points():
    """They were lost, as differences of the likelihood had the digits of float32."""
    result = mx.fit(UNBINNED, START, EVENTS)
    double = mx.fit(UNBINNED, START, EVENTS.astype(float))
    found, exact = (mx.minos(UNBINNED, r, r_data) for r, r_data in ((result, EVENTS), (double, EVENTS.astype(float))))
    for name in START:
        np.testing.assert_allclose(found[name].lower, exact[name].lower, rtol=1e-6)
        np.testing.assert_allclose(found[name].upper, exact[name].upper, rtol=1e-6)
    assert np.all(mx.contour(UNBINNED, result, EVENTS, ("m", "s"), size=16).valid)


@pytest.mark.float32
def test_float32_throughout_stays():
    p = {"m": jnp.float32(1.5), "s": jnp.float32(1.2)}
    assert UNBINNED(p, EVENTS).dtype == jnp.float32
    assert CURVE({"a": jnp.float32(1.0), "k": jnp.float32(1.0)}, CASES["curve"][2]).dtype == jnp.float32
