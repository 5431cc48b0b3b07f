"""What Optimistix, JAX and Equinox expect of a solver, for each of the four, without anything else of migrax."""

import functools
import operator

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest
from jax import lax

import migrax as mx

TIGHT = 1e-9  # tol, for answers to about 1e-6 of an error
SOLVERS = {
    "Migrad": mx.Migrad(tol=TIGHT),
    "Newton": mx.Newton(tol=TIGHT),
    "Simplex": mx.Simplex(tol=TIGHT),
    "LevenbergMarquardt": mx.LevenbergMarquardt(tol=TIGHT),
}
WITH_GRADIENTS = ("Migrad", "Newton", "LevenbergMarquardt")
each = pytest.mark.parametrize("name", SOLVERS)


def solve(name, residuals, y0, args=None, options=None, *, solver=None, **kwargs):
    """`optx.least_squares` for the solver of that kind, `optx.minimise` of half the sum of squares for the others."""
    solver = SOLVERS[name] if solver is None else solver
    if name == "LevenbergMarquardt":
        return optx.least_squares(residuals, solver, y0, args, options, **kwargs)
    return optx.minimise(_half_squares(residuals, kwargs.get("has_aux", False)), solver, y0, args, options, **kwargs)


_CACHE = {}


def _half_squares(residuals, has_aux):
    """The same object each time, or Optimistix would compile again."""
    if residuals not in _CACHE:

        def fn(y, args):
            out, aux = residuals(y, args) if has_aux else (residuals(y, args), None)
            value = functools.reduce(operator.add, [0.5 * jnp.sum(r**2) for r in jax.tree.leaves(out)])
            return (value, aux) if has_aux else value

        _CACHE[residuals] = fn
    return _CACHE[residuals]


def success(solution):
    return solution.result == optx.RESULTS.successful


# Any pytree


def _distance(y, target):
    """Residuals that are not linear and couple the leaves, zero at the target alone; the point itself is the aux."""
    plain = jax.tree.map(lambda a, t: a - t, y, target)
    total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(plain))
    return (jax.tree.map(lambda r: r + 0.1 * r**3, plain), total), {"y": y, "seven": 7}


TREES = {
    "dict": {"scalar": jnp.array(1.0), "vector": jnp.array([2.0, -1.0]), "matrix": jnp.array([[0.5, 1.5]])},
    "scalar": jnp.array(0.3),
    "tuple": (jnp.array([0.5]), {"a": jnp.array(-0.5)}),
}


@pytest.mark.grid
@each
@pytest.mark.parametrize("tree", TREES)
def test_any_pytree(name, tree):
    target = TREES[tree]
    solution = solve(name, _distance, jax.tree.map(jnp.zeros_like, target), target, has_aux=True, max_steps=2000)
    assert jax.tree.structure(solution.value) == jax.tree.structure(target)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), solution.value, target)
    jax.tree.map(np.testing.assert_array_equal, solution.aux["y"], solution.value)
    assert int(solution.aux["seven"]) == 7
    keys = {"num_steps", "max_steps", "num_values", "num_gradients", "num_hessians"}
    assert set(solution.stats) == keys | ({"edm", "metric"} if name != "Simplex" else set())


def test_python_numbers_for_y():
    solution = optx.minimise(lambda y, _: (y["a"] - 2) ** 2 + (y["b"] - 0.5) ** 2, mx.Migrad(), {"a": 1, "b": 0.0})
    np.testing.assert_allclose([solution.value["a"], solution.value["b"]], [2, 0.5], atol=0.02)


@each
@pytest.mark.parametrize("y", [{}, jnp.zeros((0,)), {"a": None}], ids=["empty dict", "empty array", "None"])
def test_nothing_to_minimise(name, y):
    with pytest.raises(ValueError, match="at least one number"):
        solve(name, _no_numbers, y)


def _no_numbers(y, args):
    return jnp.array([1.0])


# A narrow curved valley, on whose way each solver refuses steps

START = jnp.array([-1.2, 1.0])


def _banana(y, args):
    a = 1.0 if args is None else args
    return 10 * (y[1] - y[0] ** 2), a - y[0]


def _banana_aux(y, args):
    return _banana(y, args), y


@pytest.mark.grid
@each
@pytest.mark.parametrize("max_steps", [1, 2, 3, 7])
def test_max_steps_and_aux_of_the_returned_point(name, max_steps):
    """Where it is stopped, the last evaluated point was no good in some of these: its aux must not be returned."""
    solution = solve(name, _banana_aux, START, has_aux=True, max_steps=max_steps, throw=False)
    assert solution.result == optx.RESULTS.nonlinear_max_steps_reached
    assert int(solution.stats["num_steps"]) == max_steps
    np.testing.assert_array_equal(solution.aux, solution.value)
    half = _half_squares(_banana, False)
    assert half(solution.value, None) <= half(START, None)


@pytest.mark.grid
@each
def test_throw(name):
    with pytest.raises(RuntimeError, match="maximum number of"):
        solve(name, _banana, START, max_steps=7, throw=True)


@pytest.mark.grid
@each
def test_best_so_far(name):
    """It keeps the best point of those evaluated: the very answer, not the point before it."""
    wrapper = optx.BestSoFarLeastSquares if name == "LevenbergMarquardt" else optx.BestSoFarMinimiser
    plain = solve(name, _banana_aux, START, has_aux=True, max_steps=2000)
    best = solve(name, _banana_aux, START, has_aux=True, max_steps=2000, solver=wrapper(SOLVERS[name]))
    np.testing.assert_allclose(best.value, plain.value, atol=1e-12)
    np.testing.assert_array_equal(best.aux, best.value)
    assert int(best.stats["num_steps"]) == int(plain.stats["num_steps"])


@pytest.mark.slow
def test_stepping_by_hand():
    """As in Optimistix's documentation: init, then step until terminate says so, then postprocess."""

    def fn(y, args):
        return _half_squares(_banana, False)(y, args), y

    solver, y, args, options = mx.Migrad(), START, None, {}
    float_struct = jax.ShapeDtypeStruct((), y.dtype)
    aux_struct = jax.ShapeDtypeStruct(y.shape, y.dtype)
    state = solver.init(fn, y, args, options, float_struct, aux_struct, frozenset())
    step = eqx.filter_jit(lambda y, state: solver.step(fn, y, args, options, state, frozenset()))
    count = 0
    while True:
        done, result = solver.terminate(fn, y, args, options, state, frozenset())
        if done:
            break
        evaluated = y
        y, state, aux = step(y, state)
        count += 1
        np.testing.assert_array_equal(aux, evaluated)  # the aux of the y that the step was called with
    value, aux, stats = solver.postprocess(fn, y, aux, args, options, state, frozenset(), result)
    np.testing.assert_array_equal(aux, value)
    assert int(stats["num_gradients"]) == count
    expected = optx.minimise(fn, solver, START, has_aux=True)
    # compiled in another way: the rounding, and with it the end of a curved valley, differs
    np.testing.assert_allclose(value, expected.value, rtol=1e-6)


# Precision and strictness


@pytest.mark.slow
@pytest.mark.float32
@each
def test_float32_stays_float32(name):
    """With x64 on, and with JAX's strict promotion of dtypes and ranks, also under vmap and grad."""
    matrix = jnp.array([[2.0, 0.5], [0.5, 1.0]], jnp.float32)

    def residuals(y, target):
        return matrix @ (y["a"] - target), 0.5 * (y["b"] - 1) ** 2 + y["b"] - 1

    y0 = {"a": jnp.zeros(2, jnp.float32), "b": jnp.full((), 0.5, jnp.float32)}
    target = jnp.array([[1.0, 2.0], [0.0, -1.0]], jnp.float32)
    defaults = type(SOLVERS[name])()

    def run(target, options=None):
        return solve(name, residuals, y0, target, options, solver=defaults, max_steps=500)

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        solution = jax.vmap(run)(target)
        derivative = jax.jacrev(lambda t: run(t).value["a"])(target[0])
    assert {str(leaf.dtype) for leaf in jax.tree.leaves((solution.value, derivative))} == {"float32"}
    for key in ("edm", "metric"):
        assert solution.stats.get(key, derivative).dtype == jnp.float32
    np.testing.assert_allclose(solution.value["a"], target, atol=0.02)
    np.testing.assert_allclose(derivative, np.eye(2), atol=2e-3)


@pytest.mark.float32
@each
def test_options_in_another_precision(name):
    """Options are brought to the precision of y."""
    options = {"goal": np.float64(1e-5), "noise": np.float64(1e-6), "step": np.array([0.5, 0.5])}
    if name == "Migrad":
        options["metric"] = np.eye(2)
    y0 = jnp.array([0.3, -0.2], jnp.float32)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        solution = solve(name, _plain, y0, None, options, max_steps=500)
    assert solution.value.dtype == jnp.float32
    np.testing.assert_allclose(solution.value, [1, 1], atol=0.02)


def _plain(y, args):
    return y - 1


# Options


@pytest.mark.parametrize("name", WITH_GRADIENTS)
@pytest.mark.parametrize("mode", ["forward", None, 1])
def test_unknown_autodiff_mode(name, mode):
    with pytest.raises(ValueError, match=f"must be 'fwd' or 'bwd', got {mode!r}"):
        solve(name, _plain, START, None, {"autodiff_mode": mode})


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_forward_mode_needs_no_reverse_mode(name):
    """A loop whose length is data has no reverse mode."""

    def residuals(y, count):
        return lax.while_loop(lambda c: c[0] < count, lambda c: (c[0] + 1, 0.5 * c[1] + y), (0, y))[1] - 2

    with pytest.raises((ValueError, TypeError)):  # jax 0.8 has a TypeError for it, of its own insides
        solve(name, residuals, START, 3, {"autodiff_mode": "bwd"})
    solution = solve(name, residuals, START, 3, {"autodiff_mode": "fwd"})
    np.testing.assert_allclose(solution.value, 2 / (1 + 0.5 + 0.25 + 0.125), rtol=1e-6)


@pytest.mark.parametrize("name", ["Migrad", "LevenbergMarquardt"])
def test_reverse_mode_needs_no_forward_mode(name):
    """A function with a derivative of its own (`jax.custom_vjp`) has none."""

    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, t: (2 * x * t,))
    options = {"autodiff_mode": "bwd"} | ({"metric": jnp.eye(2)} if name == "Migrad" else {})
    solution = solve(name, lambda y, _: square(y) - 4, jnp.array([1.0, 3.0]), None, options)
    np.testing.assert_allclose(jnp.abs(solution.value), [2, 2], rtol=1e-6)


COVARIANCE = jnp.array([[2.0, 0.5], [0.5, 1.0]])
METRICS = {
    "matrix": COVARIANCE,
    "operator": lx.MatrixLinearOperator(COVARIANCE, lx.positive_semidefinite_tag),
    "diagonal operator": lx.DiagonalLinearOperator(jnp.array([2.0, 1.0])),
    "none": None,
    "indefinite": jnp.array([[1.0, 2.0], [2.0, 1.0]]),
    "nan": jnp.full((2, 2), jnp.nan),
    "zero": jnp.zeros((2, 2)),
}


def _gaussian(y, args):
    return 0.5 * y @ jnp.linalg.solve(COVARIANCE, y)


@pytest.mark.grid
@pytest.mark.parametrize("metric", METRICS)
def test_metric(metric):
    solution = optx.minimise(
        _gaussian, mx.Migrad(), jnp.array([3.0, -2.0]), options={"metric": METRICS[metric]}, throw=False
    )
    assert success(solution)
    np.testing.assert_allclose(solution.value, [0, 0], atol=0.02)
    steps = {"matrix": 2, "operator": 2, "none": 2}.get(metric, 15)
    assert int(solution.stats["num_steps"]) <= steps
    assert int(solution.stats["num_hessians"]) == (2 if metric == "none" else 0)
    if steps == 2:
        np.testing.assert_allclose(solution.stats["metric"], COVARIANCE, rtol=1e-9)


BAD_OPTIONS = {
    "metric shape": (mx.Migrad(), {"metric": jnp.eye(3)}, r"must have shape \(2, 2\), got \(3, 3\)"),
    "metric vector": (mx.Migrad(), {"metric": jnp.ones(2)}, r"must have shape \(2, 2\), got \(2,\)"),
    "goal": (mx.Newton(), {"goal": jnp.ones(1)}, r"options\['goal'\] must be one number, got shape \(1,\)"),
    "noise": (mx.Newton(), {"noise": jnp.ones(1)}, r"options\['noise'\] must be one number, got shape \(1,\)"),
    "step": (mx.Simplex(), {"step": jnp.ones(3)}, r"or have shape \(2,\), got \(3,\)"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options(case):
    solver, options, message = BAD_OPTIONS[case]
    with pytest.raises(ValueError, match=message):
        optx.minimise(_gaussian, solver, START, options=options)


@pytest.mark.parametrize("field", ["tol", "up", "max_refused", "radius", "factor"])
def test_bad_fields(field):
    for solver in SOLVERS.values():
        if hasattr(solver, field):
            with pytest.raises(ValueError, match=rf"{type(solver).__name__}\({field}=...\) must be positive, got 0"):
                type(solver)(**{field: 0})


@pytest.mark.grid
@each
def test_goal_and_idle_may_be_traced(name):
    @jax.jit
    def run(goal, idle):
        return solve(name, _banana, START, None, {"goal": goal, "idle": idle}, max_steps=2000)

    loose, tight = run(1e-2, False), run(1e-13, False)
    assert int(loose.stats["num_steps"]) < int(tight.stats["num_steps"])
    np.testing.assert_allclose(tight.value, [1, 1], atol=1e-3)
    idle = run(1e-2, True)
    assert int(idle.stats["num_steps"]) == 0
    np.testing.assert_array_equal(idle.value, START)


# Transformations


def _shifted(y, args):
    """Half the squares have their minimum at (a, a^2), with a Hessian that depends on a."""
    a = args["a"]
    return (1 + a**2) * (y["u"] - a), y["v"] - y["u"] ** 2


def _answer(args):
    return args["a"] ** 2


@pytest.mark.grid
@each
@pytest.mark.parametrize(
    "transform", [jax.grad, jax.jacfwd, lambda f: jax.jit(jax.grad(f))], ids=["grad", "fwd", "jit"]
)
def test_derivative_of_the_answer(name, transform):
    y0, args = {"u": jnp.array(0.0), "v": jnp.array(0.0)}, {"a": jnp.array(1.3)}

    def fitted(args):
        return solve(name, _shifted, y0, args, adjoint=optx.ImplicitAdjoint(), max_steps=2000).value["v"]

    np.testing.assert_allclose(fitted(args), _answer(args), atol=1e-4)
    np.testing.assert_allclose(transform(fitted)(args)["a"], jax.grad(_answer)(args)["a"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("metric", [None, jnp.eye(2)], ids=["Hessian", "metric"])
def test_derivative_through_the_iterates_of_migrad(metric):
    """`optx.RecursiveCheckpointAdjoint`: with a metric the derivative of what was computed, by finite differences. The
    Hessian that a search without one looks at in the end is not differentiated. Both go to that of the answer."""
    y0 = {"u": jnp.array(0.9), "v": jnp.array(0.7)}

    def fitted(a, tol):
        kwargs = {"solver": mx.Migrad(tol=tol, atol=np.inf), "adjoint": optx.RecursiveCheckpointAdjoint()}
        return solve("Migrad", _shifted, y0, {"a": a}, {"metric": metric}, **kwargs).value["v"]

    if metric is not None:
        loose, h = jax.jit(lambda a: fitted(a, 1.0)), 1e-5
        by_differences = (loose(1.3 + h) - loose(1.3 - h)) / (2 * h)
        np.testing.assert_allclose(jax.grad(loose)(1.3), by_differences, rtol=1e-5)
        assert abs(by_differences - 2.6) > 1e-5  # it is not the answer's
    np.testing.assert_allclose(jax.grad(lambda a: fitted(a, 1e-14))(1.3), 2.6, rtol=1e-5)


def _lane(y, data):
    return 10 * (y[1] - y[0] ** 2), data["a"] - y[0], 0.1 * (y[0] * y[1] - data["b"])


@pytest.mark.grid
@each
def test_a_bad_lane_leaves_the_others_alone(name):
    """Bit for bit the same, though the bad lane is refused steps until it gives up."""
    good = {"a": jnp.linspace(0.5, 2.0, 6), "b": jnp.linspace(-1.0, 1.0, 6)}
    run = jax.jit(jax.vmap(lambda d: solve(name, _lane, START, d, max_steps=1000, throw=False)))
    reference = run(good)
    assert np.all(success(reference))
    for value in (jnp.nan, jnp.inf):
        solution = run({"a": good["a"].at[2].set(value), "b": good["b"]})
        assert list(np.asarray(success(solution))) == [True, True, False, True, True, True]
        others = np.array([0, 1, 3, 4, 5])
        stats = [key for key in solution.stats if key != "max_steps"]
        pairs = [(solution.value, reference.value), *((solution.stats[k], reference.stats[k]) for k in stats)]
        for a, b in pairs:
            np.testing.assert_array_equal(a[others], b[others])
        np.testing.assert_array_equal(solution.value[2], START)


@pytest.mark.grid
@each
def test_vmap_is_one_after_the_other(name):
    data = {"a": jnp.linspace(0.5, 2.0, 3), "b": jnp.linspace(-1.0, 1.0, 3)}
    run = eqx.filter_jit(lambda d: solve(name, _lane, START, d, max_steps=1000))
    batch = jax.vmap(run)(data)
    for i in range(3):
        single = run(jax.tree.map(lambda a: a[i], data))  # noqa: B023
        np.testing.assert_allclose(batch.value[i], single.value, atol=1e-4)


def test_one_look_serves_all_lanes():
    """Under vmap the Hessian is computed where some lane wants it, not in each step of each lane."""
    calls = []

    def fn(y, a):
        jax.debug.callback(lambda _: calls.append(1), y[0])
        return _half_squares(_banana, False)(y, a)

    run = eqx.filter_jit(lambda start: optx.minimise(fn, mx.Migrad(), start, 1.0))
    solution = run(START)
    jax.effects_barrier()
    single = len(calls)
    assert single == int(solution.stats["num_gradients"] + solution.stats["num_hessians"])
    calls.clear()
    jax.vmap(run)(jnp.stack([START] * 3))
    jax.effects_barrier()
    assert len(calls) == 3 * single


# Equinox


@each
def test_module(name):
    solver = SOLVERS[name]
    cls = type(solver)
    assert solver == cls(tol=TIGHT)
    assert hash(solver) == hash(cls(tol=TIGHT))
    assert solver != cls(tol=2 * TIGHT)
    assert repr(cls(tol=0.5)) == eqx.tree_pformat(cls(tol=0.5)) == f"{name}(tol=0.5)"
    assert solver.goal == pytest.approx(0.002 * TIGHT * 0.5)
    assert (solver.rtol, solver.atol, solver.norm) == (1e-6, 1e-6, optx.max_norm)
    assert all(isinstance(leaf, float | int) for leaf in jax.tree.leaves(solver))
    assert "**Arguments:**" in cls.__init__.__doc__
    for field in cls.__dataclass_fields__:
        assert f"- `{field}`: " in cls.__init__.__doc__


@each
def test_inside_jit_and_as_its_argument(name):
    """Its numbers may be traced: `jax.jit` traces an `eqx.Module` of floats that it is given."""

    @jax.jit
    def run(solver, a):
        return solve(name, _banana, START, a, solver=solver, max_steps=2000).value

    np.testing.assert_allclose(run(SOLVERS[name], 1.0), [1, 1], atol=1e-3)


@pytest.mark.grid
@each
def test_the_function_is_traced_once(name):
    count = 0

    def residuals(y, args):
        nonlocal count
        count += 1
        return _banana(y, args)

    for a, start in ((1.0, START), (1.1, START), (1.1, START + 0.1)):
        solve(name, residuals, start, jnp.array(a), max_steps=2000)
    assert count == 1
    jax.vmap(lambda a: solve(name, residuals, START, a, max_steps=2000).value)(jnp.array([1.0, 1.1]))
    assert count == 2


COPIES = {"Migrad": 3, "Migrad with a metric": 1, "Newton": 1, "Simplex": 1, "LevenbergMarquardt": 1}


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_the_function_in_the_program(name):
    """Compiling a likelihood is most of a first fit: pins how often it stands in the program."""

    def residuals(y, args):
        return y, jax.scipy.special.gammaln(y[0] + 3)  # whose derivative is another function

    solver = name.removesuffix(" with a metric")
    options = {"metric": jnp.eye(2)} if solver != name else {}
    jaxpr = jax.make_jaxpr(lambda y: solve(solver, residuals, y, None, options, throw=False).value)(START)
    assert str(jaxpr).count("= lgamma ") == COPIES[name]


class TestUnits:
    """Without a fit nobody knows the function's units: an EDM of 1e-4 may be much."""

    @staticmethod
    def residual(y, _):
        """As of an ODE whose parameter is 0.5 where the residuals vanish; small numbers."""
        return 1e-2 * (jnp.exp(-y * jnp.linspace(0.0, 1.0, 5)) - jnp.exp(-0.5 * jnp.linspace(0.0, 1.0, 5)))

    @pytest.mark.parametrize("name", ["Migrad", "Newton", "Simplex"])
    def test_of_a_small_function(self, name):
        found = optx.minimise(lambda y, _: jnp.sum(self.residual(y, _) ** 2), getattr(mx, name)(), 0.2, max_steps=500)
        np.testing.assert_allclose(found.value, 0.5, rtol=1e-4)

    @pytest.mark.parametrize("name", ["Migrad", "Newton"])
    def test_without_reverse_mode(self, name):
        def fn(y, _):
            return jnp.sum(lax.fori_loop(0, jnp.array(1), lambda _, r: r, self.residual(y, None)) ** 2)

        found = optx.minimise(fn, getattr(mx, name)(), 0.2, options={"autodiff_mode": "fwd"}, max_steps=500)
        np.testing.assert_allclose(found.value, 0.5, rtol=1e-5)

    def test_least_squares(self):
        found = optx.least_squares(self.residual, mx.LevenbergMarquardt(), 0.2)
        np.testing.assert_allclose(found.value, 0.5, rtol=1e-5)

    def test_as_asked(self):
        """Fewer steps for less; with a `goal` the EDM alone decides, as in a fit."""

        def fn(y, _):
            return jnp.sum(self.residual(y, _) ** 2)

        def steps(options=None, **kwargs):
            return int(optx.minimise(fn, mx.Newton(**kwargs), 0.2, options=options).stats["num_steps"])

        assert steps(rtol=1e-12, atol=1e-12) >= steps() > steps(rtol=1.0, atol=1.0)
        assert steps(options={"goal": 1e-4}) == steps(rtol=1.0, atol=1.0)
        with pytest.raises(ValueError, match="rtol"):
            mx.Newton(rtol=-1.0)
