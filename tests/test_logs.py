"""Logarithms by bits: as those of extended precision, in every corner, and in every transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from migrax._util.logs import log, log1p

RNG = np.random.default_rng(0)
ANY = np.exp(RNG.uniform(-700, 700, 20_000))
LOGS = np.concatenate(
    [ANY, 1 + 1e-3 * RNG.normal(size=20_000), RNG.uniform(0.5, 2, 20_000), 2.0 ** np.arange(-1022, 1024)]
)
SMALL = np.exp(RNG.uniform(-700, -1e-9, 20_000))
LOGS1P = np.concatenate([ANY, -SMALL, np.exp(RNG.uniform(-30, 0, 20_000)) - 1, RNG.uniform(-0.9, 2, 20_000)])
CORNERS = [0.0, -0.0, 1.0, -1.0, -2.0, -0.5, np.inf, -np.inf, np.nan, np.finfo(float).tiny, np.finfo(float).max]
BOTH = pytest.mark.parametrize(("fn", "plain"), [(log, jnp.log), (log1p, jnp.log1p)], ids=["log", "log1p"])


def in_last_places(fn, exact, x):
    reference = exact(x.astype(np.longdouble))
    return np.max(np.abs(np.asarray(fn(jnp.asarray(x))) - reference) / np.spacing(np.abs(reference.astype(float))))


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="long doubles are doubles here")
def test_precision():
    assert in_last_places(jax.jit(log), np.log, LOGS) < 1
    assert in_last_places(jax.jit(log1p), np.log1p, LOGS1P) < 2.5
    assert np.all(np.asarray(jax.jit(log)(2.0 ** np.arange(-5.0, 6.0))) == np.arange(-5, 6) * np.log(2))


@BOTH
def test_corners(fn, plain):
    x = jnp.array(CORNERS)
    for both in ((fn(x), plain(x)), (jax.jit(fn)(x), jax.jit(plain)(x))):
        np.testing.assert_allclose(*both, rtol=1e-15)
    np.testing.assert_allclose(jax.vmap(jax.grad(fn))(x), jax.vmap(jax.grad(plain))(x), rtol=1e-15)


@BOTH
def test_transforms(fn, plain):
    x = jnp.linspace(0.1, 5.0, 12).reshape(3, 4)
    np.testing.assert_allclose(jax.jit(jax.vmap(fn, in_axes=1))(x), plain(x).T, rtol=1e-15)
    at = jnp.asarray(0.7)
    for _ in range(3):
        np.testing.assert_allclose(jax.jit(fn)(at), plain(at), rtol=1e-14)
        fn, plain = jax.grad(fn), jax.grad(plain)
    np.testing.assert_allclose(jax.linearize(fn, at)[1](2.0), jax.linearize(plain, at)[1](2.0), rtol=1e-14)


@BOTH
def test_tools_for_debugging(fn, plain):
    x = jnp.array([0.5, 3.0])
    with jax.disable_jit():
        np.testing.assert_allclose(fn(x), plain(x), rtol=1e-15)
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="encountered in log"):
        jax.jit(fn)(-2 * x - 1)


@BOTH
def test_a_float64_of_before(fn, plain):
    """x64 may be switched off after an array was made."""
    x = jnp.array([0.5, 3.0])
    wanted = plain(x)
    with jax.enable_x64(False):
        np.testing.assert_allclose(fn(x), wanted, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(fn)(x), wanted, rtol=1e-6)


@BOTH
def test_other_dtypes(fn, plain):
    for x in (3, 3.0, np.float32(3.0), jnp.float32(3.0), jnp.arange(1, 4), jnp.array([1 + 1j])):
        assert fn(x).dtype == plain(x).dtype
        np.testing.assert_allclose(fn(x), plain(x), rtol=1e-6)
    assert "log" in str(jax.make_jaxpr(fn)(jnp.ones(3)))  # under the name that whoever reads a jaxpr knows
