"""How many programs XLA compiles for the first call of each function: those of fits, and nothing around them."""

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._host.hosted import hosted

SIGNAL, BACKGROUND = jnp.array([1.0, 5.0, 9.0, 2.0]), jnp.array([20.0, 18.0, 15.0, 11.0])
PARAMS = {"mu": mx.Parameter(1.0, lower=0.0, upper=10.0), "b": mx.Parameter(1.0, lower=0.0)}
DATA = {"main": jnp.array([21.0, 25.0, 22.0, 14.0]), "b": jnp.asarray(1.0)}


def expected(p):
    return p["mu"] * SIGNAL + p["b"] * BACKGROUND


def ratio(p):
    return p["mu"] / p["b"]


NLL = mx.Joint({"main": mx.PoissonNLL(expected), "b": mx.NormalConstraint("b", 0.1)})
# Made by JAX to copy an array, or to give it another dtype.
COPIES = ("stage", "convert_element_type", "broadcast_in_dim", "ravel", "dynamic_slice", "squeeze")

CALLS = {
    "minos": (lambda r: mx.minos(NLL, r, DATA), ["_sides"]),
    "profile": (lambda r: mx.profile(NLL, r, DATA, "mu"), ["evaluate"]),
    "contour": (lambda r: mx.contour(NLL, r, DATA, ["mu", "b"]), ["_sides", "_base_is_inside", "_search_lines"]),
    "goodness of fit": (lambda r: mx.goodness_of_fit(NLL, r, DATA), ["_deviance", "_value"]),
    "hypotest": (lambda r: mx.hypotest(NLL, r, DATA, "mu", 1.0), ["_asimov", "_fit", "_value", "evaluate"]),
    "limit": (
        lambda r: mx.upper_limit(NLL, r, DATA, "mu"),
        ["_asimov", "_fit", "_value", "crossings", "evaluate", "limits_at"],
    ),
    "propagate": (lambda r: mx.propagate(ratio, r), ["_propagate"]),
    "print": (lambda r: (str(r), r._repr_html_(), r.to_dict(), r.to_latex()), []),
}


_COMPILED: list[str] = []  # the names of all programs, also of those that came from the cache on disk


def _listen(event, duration, fun_name="", **_):
    if event == "/jax/core/compile/backend_compile_duration":
        _COMPILED.append(fun_name.removeprefix("jit(").removesuffix(")"))


jax.monitoring.register_event_duration_secs_listener(_listen)


def compiled_by(call):
    _COMPILED.clear()
    call()
    return [name for name in _COMPILED if name not in COPIES]


@pytest.fixture(scope="module")
def result():
    return mx.fit(NLL, PARAMS, DATA)


@pytest.mark.parametrize("name", CALLS)
def test_programs(name, result):
    call, programs = CALLS[name]
    jax.clear_caches()  # so that programs of other tests do not count as made before
    assert sorted(set(compiled_by(lambda: call(result)))) == sorted(programs)
    assert compiled_by(lambda: call(result)) == []


def test_programs_of_a_fit():
    jax.clear_caches()
    fresh = mx.PoissonNLL(lambda p: p["mu"] * SIGNAL + p["b"] * BACKGROUND)
    assert compiled_by(lambda: mx.fit(fresh, PARAMS, DATA["main"])) == ["_fit"]


class TestHosted:
    def test_numbers_of_numpy(self):
        @hosted
        def fn(x, scale, where):
            return {"a": jnp.sum(x * scale), "same": x, "name": "text", "rows": x[jnp.array(where)], "none": None}

        x = jnp.arange(5.0)
        jax.clear_caches()
        assert compiled_by(lambda: fn(x, 2.0, (1, 3))) == []
        found = fn(x, 2.0, (1, 3))
        assert (float(found["a"]), found["name"], found["none"]) == (20.0, "text", None)
        assert found["same"] is x
        assert isinstance(found["a"], jax.Array)
        np.testing.assert_array_equal(found["rows"], [1.0, 3.0])
        np.testing.assert_array_equal(fn(x, 3.0, (0,))["a"], 30.0)  # other static values, another plan

    def test_arrays_of_numpy_may_change_later(self):
        fn, x = hosted(lambda x: (x, x[1:])), np.arange(5.0)
        same, part = fn(x)
        x[:] = -1
        np.testing.assert_array_equal(same, np.arange(5.0))
        np.testing.assert_array_equal(part, np.arange(1.0, 5.0))

    def test_outputs_are_bound_to_the_device_of_the_inputs(self):
        fn, device = hosted(lambda x: x + 1), jax.devices()[0]
        assert not fn(jnp.arange(3.0)).committed
        assert fn(jax.device_put(jnp.arange(3.0), device)).committed

    def test_traced(self):
        @hosted
        def fn(x, n):
            return jnp.sum(jnp.sin(x)) * n

        x = jnp.arange(3.0)
        np.testing.assert_allclose(jax.jit(lambda x: fn(x, 2))(x), 2 * np.sum(np.sin(x)))
        np.testing.assert_allclose(jax.grad(lambda x: fn(x, 2))(x), 2 * np.cos(x))
        np.testing.assert_allclose(jax.vmap(lambda x: fn(x, 2))(x[:, None]), 2 * np.sin(x))
        np.testing.assert_allclose(jax.jit(lambda: fn(x, 2))(), 2 * np.sum(np.sin(x)))

    def test_what_numpy_has_not(self):
        @hosted
        def fn(x, key):
            return jax.random.normal(key, x.shape) + x

        key = jax.random.key(1)
        np.testing.assert_array_equal(fn(jnp.zeros(2), key), jax.random.normal(key, (2,)))

    def test_dtypes(self):
        @hosted
        def fn(x):
            return x * 2, x > 1

        for dtype in ("float32", "int32", "bfloat16"):
            found = fn(jnp.asarray([1, 2], dtype))
            assert found[0].dtype == dtype
            np.testing.assert_array_equal(found[1], [False, True])
        with jax.enable_x64(False):
            assert fn(jnp.asarray([1.0, 2.0]))[0].dtype == np.float32

    def test_static_values_that_cannot_be_hashed(self):
        assert float(hosted(lambda x, a: x * len(a.items))(jnp.asarray(2.0), Unhashable())) == 6.0


class Unhashable:
    items = (1, 2, 3)
    __hash__ = None
