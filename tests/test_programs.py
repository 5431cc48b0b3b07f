"""How many programs XLA compiles for the first call of each function."""

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._fit.traced import inputs_of, traced
from migrax._host import trips
from migrax._host.hosted import hosted
from migrax._host.ways import forced_to
from migrax._likelihoods.base import as_likelihood
from problems import PROBLEMS, expected

NLL, PARAMS, DATA = PROBLEMS["joint"]


def ratio(p):
    return p["mu"] / p["b"]


# Made by JAX to copy an array, or to give it another dtype.
COPIES = ("stage", "convert_element_type", "broadcast_in_dim", "ravel", "dynamic_slice", "squeeze")

POINTS = mx.Points(np.linspace(0, 4, 9), 2 * np.exp(-0.7 * np.linspace(0, 4, 9)) + 0.3, 0.1)
LINE = mx.LeastSquares(lambda p, x: p["a"] * jnp.exp(-p["k"] * x))
DENSITY = mx.UnbinnedNLL(lambda p, x: -0.5 * ((x - p["m"]) / p["s"]) ** 2 - jnp.log(p["s"] * np.sqrt(2 * np.pi)))
IN_RANGE = mx.UnbinnedNLL(
    distribution=lambda p: mx.distributions.TruncatedNormal(p["m"], p["s"], -4.0, 4.0), range=(-4.0, 4.0)
)
EVENTS = jnp.asarray(np.random.default_rng(0).normal(0, 1, 100))
SHAPE = {"m": mx.Parameter(0.1), "s": mx.Parameter(1.0, lower=0.1)}

# Direct calls of likelihoods that NumPy evaluates.
CALLS = {
    "fit": lambda r: mx.fit(NLL, PARAMS, DATA),
    "fit of points": lambda r: mx.fit(LINE, {"a": 1.0, "k": 1.0}, POINTS),
    "fit of events": lambda r: mx.fit(DENSITY, SHAPE, EVENTS),
    "fit of events in a range": lambda r: mx.fit(IN_RANGE, SHAPE, EVENTS),
    "sandwich": lambda r: mx.fit(DENSITY, SHAPE, EVENTS, hesse="sandwich"),
    "hesse": lambda r: mx.hesse(NLL, r.params, DATA),
    "minos": lambda r: mx.minos(NLL, r, DATA),
    "profile": lambda r: mx.profile(NLL, r, DATA, "mu"),
    "scan": lambda r: mx.scan(NLL, r, DATA, "mu"),
    "impacts": lambda r: mx.impacts(NLL, r, DATA, "mu"),
    "contour": lambda r: mx.contour(NLL, r, DATA, ["mu", "b"]),
    "goodness of fit": lambda r: mx.goodness_of_fit(NLL, r, DATA),
    "hypotest": lambda r: mx.hypotest(NLL, r, DATA, "mu", 1.0),
    "discovery": lambda r: mx.discovery(NLL, r, DATA, "mu"),
    "interval": lambda r: mx.interval(NLL, r, DATA, "mu"),
    "limit": lambda r: mx.upper_limit(NLL, r, DATA, "mu"),
    "limit from a start": lambda r: mx.upper_limit(NLL, PARAMS, DATA, "mu"),
    "propagate": lambda r: mx.propagate(ratio, r),
    "minuit": lambda r: _minuit(),
    "print": lambda r: (str(r), r._repr_html_(), r.to_dict(), r.to_latex()),
}


def _minuit():
    minuit = mx.Minuit(NLL, PARAMS, DATA)
    minuit.migrad().hesse().minos()
    minuit.mnprofile("mu")
    minuit.mncontour("mu", "b")
    return str(minuit)


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


@pytest.mark.grid
@pytest.mark.parametrize("name", CALLS)
def test_a_direct_call_compiles_nothing(name, result):
    jax.clear_caches()  # so that programs of other tests do not count as made before
    assert compiled_by(lambda: CALLS[name](result)) == []


def test_a_test_by_toys_compiles_two_programs():
    """One draws the toys, one fits them: those of both hypotheses, with the parameter of interest free and held, and
    again those that another minimum was missed for."""
    toys = mx.Toys(50, jax.random.key(0))
    jax.clear_caches()
    programs = compiled_by(lambda: mx.hypotest(NLL, PARAMS, DATA, "mu", 1.0, calculator=toys))
    assert programs == ["_threefry_fold_in", "_draw", "fit_part"]  # the first makes the keys


def test_kernels_of_a_long_likelihood():
    """Value and gradient, and the expansion; all calls share them."""
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, 1000))
    nll = lambda p, x: jnp.sum(0.5 * ((x - p["m"]) / p["s"]) ** 2 + jnp.log(p["s"]))  # noqa: E731
    y = x + 1.0
    jax.clear_caches()
    found = []
    with forced_to("kernels"):
        assert sorted(compiled_by(lambda: found.append(mx.fit(nll, SHAPE, x)))) == ["expansion", "value_and_gradient"]
        assert compiled_by(lambda: mx.minos(nll, found[0], x)) == []
        assert compiled_by(lambda: mx.fit(nll, SHAPE, y)) == []


def test_the_cost_decides():
    """What takes NumPy long is compiled."""
    x = jnp.asarray(np.random.default_rng(0).normal(1.5, 1, 20_000))
    bumps = lambda p, x: jnp.exp(-0.5 * (x[:, None] - p["m"] * jnp.linspace(0.0, 3.0, 60)) ** 2)  # noqa: E731
    long = lambda p, x: -jnp.sum(jnp.log(jnp.mean(bumps(p, x), axis=1)))  # noqa: E731
    jax.clear_caches()
    programs = compiled_by(lambda: mx.fit(long, {"m": 0.8}, x))
    assert sorted(programs) == ["expansion", "value_and_gradient"]


def test_no_program_is_made_of_calls_whose_time_is_the_likelihoods():
    """Of a sum over many events the kernels take all the time; one of few is made a program after some calls."""
    nll, up = as_likelihood(DENSITY), jnp.asarray(0.5)
    for n, is_long in ((2000, False), (500_000, True)):
        x = jnp.asarray(np.random.default_rng(0).normal(0, 1, n))
        with forced_to("kernels"):
            objective, _ = traced(nll, SHAPE, x, up, False).at(inputs_of(nll, SHAPE, x, up))
        assert objective.is_long == is_long


def test_programs_inside_of_jit():
    jax.clear_caches()
    assert compiled_by(lambda: jax.jit(lambda d: mx.fit(NLL, PARAMS, d).values)(DATA)) == ["<lambda>"]


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


@pytest.mark.parametrize("name", ["fit", "minos", "limit"])
def test_what_takes_python_too_long_becomes_a_program(name, monkeypatch):
    """Loops of a direct call have a number of trips; a call that needs more is a program, and so are later ones."""
    own = lambda p: 1.0 * expected(p)  # noqa: E731  # nothing is kept of it, and no other test takes what is kept then
    nll = mx.Joint({"main": mx.PoissonNLL(own), "b": mx.NormalConstraint("b", 0.1)})
    call = {
        "fit": lambda: mx.fit(nll, PARAMS, DATA).values,
        "minos": lambda: mx.minos(nll, result, DATA).upper,
        "limit": lambda: mx.upper_limit(nll, result, DATA, "mu").observed,
    }[name]
    with forced_to("numpy"):
        result = mx.fit(nll, PARAMS, DATA)
        on_host = call()
    monkeypatch.setattr(trips, "MAX_TRIPS", 3)
    answers = []
    assert compiled_by(lambda: answers.append(call()))
    assert compiled_by(lambda: answers.append(call())) == []
    for answer in answers:
        np.testing.assert_allclose(answer, on_host, rtol=1e-9)
