"""The three ways of a direct call (NumPy; NumPy around programs of the likelihood; one program) give the same answers:
values to 1e-9 of an error, the same statuses, counts, messages and warnings."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._fit import evaluated
from migrax._fit.objective import prepare_params
from migrax._fit.traced import inputs_of, traced
from migrax._host.ways import forced_to
from problems import COUNTS, EVENTS, JOINT, MIXTURE, PROBLEMS, expected, mixture

SOLVED = ("mixture", "joint", "at a bound", "least squares", "banana", "period", "kink", "vectors")
WAYS = ("numpy", "kernels")


def answers(call, way):
    """What a call returns, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught, forced_to(way):
        warnings.simplefilter("always")
        return call(), [str(w.message) for w in caught]


def fitted(name, way="program", **options):
    nll, params, data = PROBLEMS[name]
    return answers(lambda: mx.fit(nll, params, data, **options), way)


RESULTS = {}


def result_of(name):
    if name not in RESULTS:
        RESULTS[name] = fitted(name)[0]
    return RESULTS[name]


def assert_same(found, reference, tolerance=1e-9):
    """Whole numbers and booleans are equal, others agree to `tolerance` of their size."""
    assert jax.tree.structure(found) == jax.tree.structure(reference)
    for (path, a), b in zip(jax.tree_util.tree_flatten_with_path(found)[0], jax.tree.leaves(reference), strict=True):
        where = jax.tree_util.keystr(path)
        assert a.dtype == b.dtype, where
        assert a.shape == b.shape, where
        a, b = np.asarray(a), np.asarray(b)
        if b.dtype.kind != "f":
            np.testing.assert_array_equal(a, b, err_msg=where)
        elif ".direction" in where:  # an eigenvector, of either sign
            np.testing.assert_allclose(np.abs(a), np.abs(b), rtol=1e-6, atol=1e-6)
        elif ".edm" in where:  # far below the goal it is rounding
            assert np.all(np.abs(a - b) <= 1e-8 + 1e-6 * np.abs(b)), where
        else:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=where)


def assert_same_dtypes(found, reference):
    for (path, a), b in zip(jax.tree_util.tree_flatten_with_path(found)[0], jax.tree.leaves(reference), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), jax.tree_util.keystr(path)


@pytest.mark.grid
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_fit(name, way):
    reference, told_reference = fitted(name)
    found, told = fitted(name, way)
    tolerance = 2e-3 if name == "float32" else 1e-9
    if name in ("not finite", "flat", "falls"):
        assert found.status == reference.status
        assert found.message == reference.message
        assert not bool(found.valid)
    elif name == "float32":
        assert_same_dtypes(found, reference)
        assert bool(found.valid)
        np.testing.assert_allclose(found.values, reference.values, atol=tolerance * float(np.max(reference.errors)))
        np.testing.assert_allclose(found.errors, reference.errors, rtol=tolerance)
    else:
        assert_same(found, reference)
        assert repr(found).splitlines()[3:] == repr(reference).splitlines()[3:] or "EDM" in repr(found)
    assert told == told_reference


CALLS = {
    "hesse": lambda nll, r, d: mx.hesse(nll, r.params, d),
    "minos": lambda nll, r, d: mx.minos(nll, r, d),
    "profile": lambda nll, r, d: mx.profile(nll, r, d, r.names[0], 7),
    "scan": lambda nll, r, d: mx.scan(nll, r, d, r.names[0], 7),
    "impacts": lambda nll, r, d: mx.impacts(nll, r, d, r.names[0]),
}


@pytest.mark.grid
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", SOLVED)
def test_calls_from_a_fit(name, call):
    nll, _, data = PROBLEMS[name]
    result = result_of(name)
    run = lambda: CALLS[call](nll, result, data)  # noqa: E731
    reference, told_reference = answers(run, "program")
    for way in WAYS:
        found, told = answers(run, way)
        assert_same(found, reference, tolerance=1e-8)
        assert told == told_reference


@pytest.mark.grid
@pytest.mark.parametrize("call", [*CALLS, "contour", "upper limit", "hypotest"])
def test_float32(call):
    """The dtypes are those of the program, and the numbers have its digits."""
    nll, params, data = PROBLEMS["float32"]
    result = answers(lambda: mx.fit(nll, params, data), "numpy")[0]
    runs = {
        "contour": lambda: mx.contour(nll, result, data, ("mu", "f"), size=12),
        "upper limit": lambda: mx.upper_limit(nll, result, data, "f"),
        "hypotest": lambda: mx.hypotest(nll, result, data, "f", 0.5),
    }
    run = runs.get(call, lambda: CALLS[call](nll, result, data))
    if call in ("upper limit", "hypotest"):  # a function has no Asimov data
        nll = mx.Likelihood(mixture, expected_data=lambda p: EVENTS.astype(jnp.float32))
    (found, told), (reference, told_reference) = (answers(run, way) for way in ("numpy", "program"))
    assert_same_dtypes(found, reference)
    assert told == told_reference
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(reference), strict=True):
        if b.dtype == jnp.float32 and call not in ("upper limit", "hypotest"):
            np.testing.assert_allclose(a, b, rtol=0.02, atol=0.02)


TESTS = {
    "contour": lambda r, d: mx.contour(JOINT, r, d, ("mu", "b"), size=24),
    "upper limit": lambda r, d: mx.upper_limit(JOINT, r, d, "mu"),
    "upper limit of p": lambda r, d: mx.upper_limit(JOINT, r, d, "mu", cls=False),
    "hypotest": lambda r, d: mx.hypotest(JOINT, r, d, "mu", 1.0),
    "discovery": lambda r, d: mx.discovery(JOINT, r, d, "mu"),
    "interval": lambda r, d: mx.interval(JOINT, r, d, "mu"),
    "goodness of fit": lambda r, d: mx.goodness_of_fit(JOINT, r, d),
    "propagate": lambda r, d: mx.propagate(expected, r),
}


@pytest.mark.slow
@pytest.mark.parametrize("call", TESTS)
@pytest.mark.parametrize("name", ["joint", "at a bound"])
def test_tests_and_limits(name, call):
    result, data = result_of(name), PROBLEMS[name][2]
    if name == "at a bound" and call == "contour":
        return
    run = lambda: TESTS[call](result, data)  # noqa: E731
    reference, told_reference = answers(run, "program")
    for way in WAYS:
        found, told = answers(run, way)
        assert_same(found, reference, tolerance=1e-8)
        assert told == told_reference


@pytest.mark.grid
@pytest.mark.parametrize("solver", [mx.Newton(), mx.Simplex(), mx.Migrad(max_refused=3)])
def test_solvers(solver):
    reference, _ = fitted("mixture", solver=solver)
    for way in WAYS:
        assert_same(fitted("mixture", way, solver=solver)[0], reference, tolerance=1e-7)


@pytest.mark.grid
@pytest.mark.parametrize("options", [{"hesse": False}, {"max_steps": 2}, {"up": 2.0}, {"hesse": "sandwich"}])
def test_options(options):
    nll, params = (
        mx.UnbinnedNLL(lambda p, x: -0.5 * ((x - p["m"]) / p["s"]) ** 2 - jnp.log(p["s"])),
        {
            "m": mx.Parameter(0.0),
            "s": mx.Parameter(1.0, lower=0.0),
        },
    )
    run = lambda: mx.fit(nll, params, EVENTS, **options)  # noqa: E731
    reference, told_reference = answers(run, "program")
    for way in WAYS:
        found, told = answers(run, way)
        assert_same(found, reference)
        assert told == told_reference


def test_a_covariance_that_is_given():
    covariance = result_of("mixture").covariance
    reference, _ = fitted("mixture", covariance=covariance)
    for way in WAYS:
        assert_same(fitted("mixture", way, covariance=covariance)[0], reference)


def test_strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        nll = lambda p, d: 0.5 * jnp.sum((d - p["mu"]) ** 2)  # noqa: E731
        found, reference = (
            answers(lambda: mx.fit(nll, {"mu": jnp.asarray(0.0)}, EVENTS), way)[0] for way in ("numpy", "program")
        )
    assert_same(found, reference)


@pytest.mark.parametrize("way", WAYS)
def test_new_data_of_the_same_shape(way):
    """The jaxpr is kept, what was folded at the old data is not."""
    nll, params, _ = PROBLEMS["joint"]
    for shift in (0.0, 3.0, 7.0, 0.0):
        data = COUNTS | {"main": COUNTS["main"] + shift}
        found, reference = (answers(lambda data=data: mx.fit(nll, params, data), w)[0] for w in (way, "program"))
        assert_same(found, reference)


def test_the_function_is_traced_once():
    traces = []

    def nll(p, d):
        traces.append(1)
        return 0.5 * jnp.sum((d - p["mu"]) ** 2 / p["s"] ** 2) + d.size * jnp.log(p["s"])

    params = {"mu": mx.Parameter(0.0), "s": mx.Parameter(1.0, lower=0.1)}
    with forced_to("numpy"):
        result = mx.fit(nll, params, EVENTS)
        mx.fit(nll, params, EVENTS + 1.0)
        mx.minos(nll, result, EVENTS)
        mx.contour(nll, result, EVENTS, ("mu", "s"), size=8)
        mx.hesse(nll, result.params, EVENTS)
    assert len(traces) == 1


def test_values_that_a_function_captures():
    """As in a program: a function whose captured values change is traced again."""
    scale = [1.0]
    nll = lambda p, d: 0.5 * jnp.sum((d - scale[0] * p["mu"]) ** 2)  # noqa: E731
    with forced_to("numpy"):
        first = mx.fit(nll, {"mu": 0.0}, EVENTS)
        scale[0] = 2.0
        second = mx.fit(nll, {"mu": 0.0}, EVENTS)
    np.testing.assert_allclose(first.values, 2 * second.values)


@pytest.mark.slow
def test_what_has_to_be_a_program():
    """A function that is traced, differentiated or vmapped from outside, or calls back."""
    with forced_to("numpy"):
        by_jit = jax.jit(lambda d: mx.fit(mixture, MIXTURE, d).values)(EVENTS)
        np.testing.assert_allclose(by_jit, result_of("mixture").values, atol=1e-9)
        nll = lambda p, d: 0.5 * jnp.sum((d - p["mu"]) ** 2)  # noqa: E731
        assert float(jax.grad(lambda d: mx.fit(nll, {"mu": 0.0}, d).values[0])(EVENTS)[0]) == pytest.approx(
            1 / EVENTS.size
        )
        of_closure = jax.vmap(lambda s: mx.fit(lambda p, d: nll(p, d * s), {"mu": 0.0}, EVENTS).values[0])
        np.testing.assert_allclose(of_closure(jnp.array([1.0, 2.0])), EVENTS.mean() * jnp.array([1.0, 2.0]))

        def calls_back(p, d):
            return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((), d.dtype), jnp.sum(d)) + p["mu"] ** 2

        assert float(mx.fit(calls_back, {"mu": 1.0}, EVENTS).values[0]) == pytest.approx(0.0, abs=1e-9)


def test_an_exception_has_the_users_line():
    def nll(p, d):
        return jnp.sum(d) * p["not there"]

    with forced_to("numpy"), pytest.raises(KeyError, match="not there") as raised:
        mx.fit(nll, {"mu": 0.0}, EVENTS)
    assert any(entry.name == "nll" for entry in raised.traceback)


def test_the_results_are_of_jax():
    with forced_to("numpy"):
        result = mx.fit(*PROBLEMS["mixture"])
        errors = mx.minos(mixture, result, EVENTS, "mu")
    for leaf in jax.tree.leaves((result, errors)):
        assert isinstance(leaf, jax.Array)
    assert eqx.tree_equal(result, jax.tree.map(lambda a: a, result))


def test_plans_of_many_likelihoods_fit_into_memory(monkeypatch):
    """A script may define a new likelihood in a loop; what was computed of old ones is forgotten, and made again."""
    monkeypatch.setattr(evaluated._Plans, "_BYTES", 3_000_000)
    data = jnp.linspace(0.0, 1.0, 50_000)
    nlls = [lambda p, d, k=k: 0.5 * jnp.sum(jnp.log(1 + d) * (p["m"] - d - k) ** 2) for k in range(12)]
    with forced_to("numpy"):
        first = [float(mx.fit(nll, {"m": 0.0}, data).values[0]) for nll in nlls]
        assert evaluated._PLANS._total <= 3_000_000
        assert len(evaluated._PLANS._plans) < 12
        assert [float(mx.fit(nll, {"m": 0.0}, data).values[0]) for nll in nlls] == first


class TestWhatAProgramNeverRuns:
    """Branches that are not taken, errors that do not happen, loops that only a program ends in time."""

    def test_an_error_of_a_condition(self):
        def nll(p, d):
            return 0.5 * jnp.sum((d - eqx.error_if(p["m"], p["m"] > 1e9, "m is too large")) ** 2)

        with forced_to("numpy"):
            result = mx.fit(nll, {"m": 0.0}, EVENTS)
            np.testing.assert_allclose(result.values[0], EVENTS.mean())
            of_data = lambda p, d: 0.5 * jnp.sum((eqx.error_if(d, jnp.any(d > 1e9), "no") - p["m"]) ** 2)  # noqa: E731
            np.testing.assert_allclose(mx.fit(of_data, {"m": 0.0}, EVENTS).values[0], EVENTS.mean())
            mx.propagate(lambda p: eqx.error_if(p["m"], p["m"] > 1e9, "no"), result)
            with pytest.raises(eqx.EquinoxRuntimeError, match="no"):
                mx.fit(of_data, {"m": 0.0}, EVENTS.at[0].set(1e10))

    def test_a_loop_without_end_in_a_branch(self):
        def nll(p, d):
            endless = lambda: jax.lax.while_loop(lambda s: s > 0.0, lambda s: s + 1.0, 1.0)  # noqa: E731
            return jnp.sum((p["m"] - d) ** 2) + 0.0 * jax.lax.cond(p["m"] > 1e6, endless, lambda: 0.0)

        with forced_to("numpy"):
            np.testing.assert_allclose(mx.fit(nll, {"m": 0.0}, EVENTS).values[0], EVENTS.mean())

    def test_long_loops(self):
        def nll(p, d):
            s = jax.lax.while_loop(lambda s: s[0] < 100_000, lambda s: (s[0] + 1, 0.5 * s[1] + d[0]), (0, 0.0))[1]
            return 0.5 * jnp.sum((p["m"] - d - s) ** 2)

        assert float(mx.fit(nll, {"m": 0.0}, EVENTS).values[0]) == pytest.approx(float(EVENTS.mean() + 2 * EVENTS[0]))

    def test_a_recurrence_over_long_data(self):
        """It is not computed in Python for each set of data."""

        def nll(p, d):
            _, y = jax.lax.scan(lambda c, x: (0.9 * c + 0.1 * x,) * 2, 0.0, d)
            return 0.5 * jnp.sum((y - p["f"]) ** 2)

        data = jnp.asarray(np.random.default_rng(1).normal(0, 1, 300_000))
        plan = traced(*(inputs := _prepared(nll, {"f": 0.5}, data)), False)
        kept = plan.at(inputs_of(*inputs))
        assert kept is not None
        assert plan._kept[0].expansion.cost > 0.5
        assert plan._way(plan._kept[0], 40) == "kernels"

    def test_pairs_of_data(self):
        """What is computed of data and not needed any more is let go."""

        def nll(p, d):
            z = d[:, None] - d[None, :]
            return (p["m"] - jnp.mean(jnp.exp(-0.5 * z**2) * jnp.cos(z) / (1 + jnp.abs(z)))) ** 2

        plan = traced(*(inputs := _prepared(nll, {"m": 0.0}, EVENTS)), False)
        assert plan.at(inputs_of(*inputs)) is not None
        assert plan._kept[0].expansion.nbytes < 10 * EVENTS.nbytes


def _prepared(nll, params, data):
    return mx.Likelihood(nll), prepare_params(params), data, jnp.asarray(0.5)


@pytest.mark.slow
def test_keys_of_random_numbers_as_data():
    nll = lambda p, k: 0.5 * jnp.sum((jax.random.normal(k, (20,)) - p["m"]) ** 2)  # noqa: E731
    key = jax.random.key(0)
    with forced_to("numpy"):
        np.testing.assert_allclose(mx.fit(nll, {"m": 0.0}, key).values[0], jax.random.normal(key, (20,)).mean())


def test_zeros_of_either_sign_are_other_data():
    nll = lambda p, d: 0.5 * (p["m"] - jnp.sum(jnp.copysign(1.0, d))) ** 2  # noqa: E731
    with forced_to("numpy"):
        for sign in (1.0, -1.0, 1.0):
            np.testing.assert_allclose(mx.fit(nll, {"m": 0.5}, jnp.array([sign * 0.0])).values, [sign])


def test_data_that_are_gone():
    nll = lambda p, d: 0.5 * jnp.sum((d - p["m"]) ** 2)  # noqa: E731
    with forced_to("numpy"):
        for size in (5, 5000):
            data = jnp.arange(float(size))
            mx.fit(nll, {"m": 0.0}, data)
            data.delete()
            np.testing.assert_allclose(mx.fit(nll, {"m": 0.0}, jnp.arange(float(size)) + 1).values, [0.5 * (size + 1)])


def test_parameters_are_bound_to_the_device_of_the_data():
    data = jax.device_put(EVENTS, jax.devices()[0])
    nll = lambda p, d: 0.5 * jnp.sum((d - p["m"]) ** 2)  # noqa: E731
    for way in ("numpy", "program"):
        with forced_to(way):
            result = mx.fit(nll, {"m": 0.0}, data)
        assert result.values.committed
        assert result.params["m"].committed
