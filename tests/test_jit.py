"""The quick compilation of a fit at the top level: that it is taken there, and never in the way elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._util import jit

TOYS = jnp.arange(6.0).reshape(2, 3)


def nll(params, data):
    return 0.5 * jnp.sum((params["mu"] - data) ** 2)


@pytest.fixture
def no_such_option(monkeypatch):
    """As a version of XLA that has dropped the option, or another that would stop at it."""
    monkeypatch.setattr(jit, "QUICK", {"xla_cpu_no_such_option": False})
    monkeypatch.setattr(jit, "_WITHOUT_QUICK", (0, 0))


def test_top_level():
    assert jit._at_top_level((TOYS, nll, 1.0))
    assert jax.default_backend() == "cpu" or not jit.quick_is_there()
    if jit.quick_is_there():  # the version is one that knows the option
        jax.jit(lambda: 0, compiler_options=jit.QUICK)()
    seen = []
    jax.jit(lambda: seen.append(jit._at_top_level((TOYS,))) or TOYS)()
    jax.vmap(lambda d: seen.append(jit._at_top_level((d,))) or d)(TOYS)
    jax.grad(lambda d: seen.append(jit._at_top_level((d,))) or jnp.sum(d))(TOYS)
    assert seen == [False] * 3


@pytest.mark.slow
def test_data_in_a_closure_under_vmap_and_grad():
    def fitted(data):
        return mx.fit(lambda p, _: nll(p, data), {"mu": 1.0}).values[0]

    np.testing.assert_allclose(jax.vmap(fitted)(TOYS), [1.0, 4.0], atol=1e-9)
    np.testing.assert_allclose(jax.grad(fitted)(TOYS[0]), np.full(3, 1 / 3), rtol=1e-9)
    np.testing.assert_allclose(jax.jit(lambda: fitted(TOYS[0]))(), 1.0, atol=1e-9)


def test_an_error_of_the_user_comes_alone():
    def broken(params, data):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as info:
        mx.fit(broken, {"mu": 1.0}, TOYS)
    assert info.value.__context__ is None


@pytest.mark.usefixtures("no_such_option")
def test_without_the_option():
    assert not jit.quick_is_there()
    np.testing.assert_allclose(mx.fit(nll, {"mu": 1.0}, TOYS[1]).values, [4.0], atol=1e-9)
