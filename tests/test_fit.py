"""`fit` as a function: solvers, warm starts, statuses under jit and vmap, retracing, precision, derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import migrax as mx
from tutorial import coarse, peak

COUNTS, EDGES = coarse()
DATA = jnp.asarray(COUNTS)
P = mx.Parameter


def nll(p, n):
    """A Gaussian peak with a constant of the model, `width`, that does not float."""
    mu = peak(p["amp"], p["mu"], p["sigma"] * p["width"].reshape(()), EDGES)
    return jnp.sum(mu - n * jnp.log(mu))


def start(amp=1500.0, mu=0.0, sigma=1.0, width=1.0):
    return {"amp": P(amp, lower=0.0), "mu": P(mu), "sigma": P(sigma, 0.1, 10.0), "width": jnp.array([width])}


REFERENCE = mx.fit(nll, start(), DATA)


def same(result, reference=REFERENCE, tolerance=1e-6):
    assert bool(result.valid), result.message
    assert np.all(np.abs(result.values - reference.values) < tolerance * reference.errors)
    np.testing.assert_allclose(result.errors, reference.errors, rtol=1e-5)


class OnTheHessian(optx.AbstractBFGS):
    """A user's mix: BFGS on the Hessian with a classical trust region."""

    rtol: float = 1e-6
    atol: float = 1e-6
    norm: object = optx.max_norm
    use_inverse: bool = False
    descent: optx.AbstractDescent = optx.NewtonDescent(linear_solver=lx.Cholesky())
    search: optx.AbstractSearch = optx.ClassicalTrustRegion()
    verbose: object = staticmethod(lambda **kwargs: None)


SOLVERS = {
    "Migrad": mx.Migrad(),
    "Newton": mx.Newton(),
    "Simplex": mx.Simplex(),
    "BFGS": optx.BFGS(rtol=1e-6, atol=1e-6),
    "LBFGS": optx.LBFGS(rtol=1e-6, atol=1e-6),
    "NonlinearCG": optx.NonlinearCG(rtol=1e-6, atol=1e-6),
    "BestSoFar": optx.BestSoFarMinimiser(optx.BFGS(rtol=1e-6, atol=1e-6)),
    "user's mix": OnTheHessian(),
}


@pytest.mark.grid
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_any_minimiser(solver):
    same(mx.fit(nll, start(), DATA, solver=solver))


def test_a_minimiser_that_stops_short_is_not_believed():
    """Optimistix's NelderMead reports success with its simplex collapsed away from the minimum."""
    result = mx.fit(nll, start(), DATA, solver=optx.NelderMead(rtol=1e-6, atol=1e-6))
    assert not bool(result.valid)
    assert mx.Status(int(result.status)) is mx.Status.NOT_CONVERGED


@pytest.mark.grid
@pytest.mark.parametrize(
    "solver",
    [None, mx.LevenbergMarquardt(), optx.LevenbergMarquardt(1e-8, 1e-8), optx.Dogleg(1e-8, 1e-8), mx.Migrad()],
    ids=["default", "ours", "LevenbergMarquardt", "Dogleg", "Migrad"],
)
def test_least_squares_solvers(solver):
    x = jnp.linspace(0.0, 4.0, 30)
    y = 3 * jnp.exp(-0.7 * x) + 0.1 * jnp.sin(20 * x)
    line = mx.LeastSquares(lambda p, x: p["a"] * jnp.exp(-p["k"] * x))
    result = mx.fit(line, {"a": P(1.0), "k": P(0.1, lower=0.0)}, mx.Points(x, y, 0.1), solver=solver)
    assert bool(result.valid), result.message
    gradient = jax.grad(lambda v: line({"a": v[0], "k": v[1]}, mx.Points(x, y, 0.1)))(result.values)
    assert np.all(np.abs(gradient) * result.errors < 1e-5)
    assert int(result.ndof) == 28


def test_least_squares_solver_needs_residuals():
    with pytest.raises(TypeError, match="residuals"):
        mx.fit(nll, start(), DATA, solver=optx.Dogleg(1e-8, 1e-8))


def test_the_stationary_point_is_exact():
    gradient = jax.grad(lambda v: nll({**start(), "amp": v[0], "mu": v[1], "sigma": v[2]}, DATA))(REFERENCE.values)
    assert np.all(np.abs(gradient) * REFERENCE.errors < 1e-8)


def test_hesse_is_the_same_at_the_minimum():
    covariance = mx.hesse(nll, REFERENCE.params, DATA)
    assert bool(covariance.valid)
    np.testing.assert_allclose(covariance.matrix, REFERENCE.covariance.matrix, rtol=1e-5, atol=1e-9)
    assert covariance.names == REFERENCE.names == ("amp", "mu", "sigma")


@pytest.mark.parametrize("kind", ["result", "matrix", "poor"])
def test_warm_start(kind):
    covariance = {
        "result": REFERENCE.covariance,
        "matrix": np.asarray(REFERENCE.covariance.matrix),
        "poor": np.diag([1.0, 1.0, 1.0]),
    }[kind]
    result = mx.fit(nll, REFERENCE.params, DATA + 1, covariance=covariance)
    cold = mx.fit(nll, start(), DATA + 1)
    same(result, cold)
    assert int(result.stats["num_hessians"]) < int(cold.stats["num_hessians"]) or kind == "poor"


def test_without_hesse():
    result = mx.fit(nll, start(), DATA, hesse=False)
    assert bool(result.valid)
    assert result.covariance is None
    assert np.all(np.isnan(result.errors))
    np.testing.assert_array_equal(result.values, REFERENCE.values)


def test_fixed_parameters():
    fixed = {**start(), "mu": P(0.3, fixed=True)}
    result = mx.fit(nll, fixed, DATA)
    assert bool(result.valid)
    assert result.names == ("amp", "sigma")
    assert float(result.params["mu"].value) == 0.3
    full = mx.hesse(nll, {**result.params, "mu": P(0.3)}, DATA).matrix
    inverse = np.linalg.inv(np.linalg.inv(full)[np.ix_([0, 2], [0, 2])])
    np.testing.assert_allclose(result.covariance.matrix, inverse, rtol=1e-6)


def test_up_scales_errors_only():
    doubled = mx.fit(lambda p, n: 2 * nll(p, n), start(), DATA, up=1.0)
    np.testing.assert_allclose(doubled.values, REFERENCE.values, rtol=1e-9)
    np.testing.assert_allclose(doubled.errors, REFERENCE.errors, rtol=1e-7)
    np.testing.assert_allclose(doubled.nll, 2 * REFERENCE.nll)
    np.testing.assert_allclose(mx.fit(nll, start(), DATA, up=2.0).errors, 2 * REFERENCE.errors, rtol=1e-7)


def test_jit_and_the_next_start():
    fit = jax.jit(lambda p, n: mx.fit(nll, p, n))
    result = fit(start(), DATA)
    same(result)
    again = fit(result.params, DATA)
    same(again)
    assert int(again.stats["num_gradients"]) <= 1


def test_no_retrace_when_start_bounds_or_data_change():
    traces = 0

    def counted(p, n):
        nonlocal traces
        traces += 1
        return nll(p, n)

    mx.fit(counted, start(), DATA)
    assert traces == 1, "the user's code runs once a compiled fit"
    result = mx.fit(counted, start(1000.0, 0.5, 2.0), DATA + 1)
    mx.fit(counted, {**start(), "sigma": P(1.0, 0.2, 5.0)}, DATA)
    mx.fit(counted, {**start(), "sigma": P(jnp.array(1.0), lower=jnp.array(0.2), upper=5)}, np.asarray(DATA))
    mx.fit(counted, result.params, DATA, up=0.7)
    assert traces == 1
    mx.fit(counted, {**start(), "mu": P(0.0, lower=-5.0)}, DATA)  # a new bound is new structure
    assert traces == 2


def test_vmap_over_data_starts_and_bounds():
    rng = np.random.default_rng(5)
    toys = jnp.asarray(rng.poisson(COUNTS, size=(6, COUNTS.size)).astype(float))
    many = jax.vmap(lambda n: mx.fit(nll, start(), n))(toys)
    assert many.values.shape == (6, 3)
    assert many.covariance.matrix.shape == (6, 3, 3)
    assert many.valid.shape == many.status.shape == many.nll.shape == (6,)
    for i in range(3):
        lane = jax.tree.map(lambda a: a[i], many)  # noqa: B023
        same(lane, mx.fit(nll, start(), toys[i]))
    starts = jax.vmap(lambda s: mx.fit(nll, start(s[0], s[1], s[2]), DATA))(
        jnp.array([[1e3, 0.0, 1.0], [3e3, -1.0, 3.0], [500.0, 1.0, 0.5]])
    )
    assert bool(jnp.all(starts.valid))
    assert np.all(np.abs(starts.values - REFERENCE.values) < 1e-6 * REFERENCE.errors)
    upper = jnp.array([0.1, 0.2, 5.0])
    bounded = jax.vmap(lambda b: mx.fit(nll, {**start(), "mu": P(0.0, upper=b)}, DATA))(upper)
    assert bool(jnp.all(bounded.valid))
    np.testing.assert_allclose(bounded["mu"].value, np.minimum(upper, REFERENCE["mu"].value), rtol=1e-7)
    np.testing.assert_array_equal(bounded["mu"].at_limit, [True, True, False])
    assert "3 fits" in str(bounded)


@pytest.mark.slow
def test_one_bad_lane_touches_no_other():
    toys = jnp.stack([DATA, DATA + 1, DATA + 2])
    fit = jax.jit(jax.vmap(lambda n, s: mx.fit(nll, start(mu=s), n)))
    good = fit(toys, jnp.zeros(3))
    for poisoned, s, status in (
        (toys.at[1, 7].set(jnp.nan), jnp.zeros(3), mx.Status.NOT_FINITE_AT_START),
        (toys.at[1, 7].set(jnp.inf), jnp.zeros(3), mx.Status.NOT_FINITE_AT_START),
        (toys, jnp.array([0.0, jnp.nan, 0.0]), mx.Status.OUTSIDE_BOUNDS),
    ):
        bad = fit(poisoned, s)
        assert not bool(bad.valid[1])
        assert mx.Status(int(bad.status[1])) is status
        for a, b in zip(jax.tree.leaves(good), jax.tree.leaves(bad), strict=True):
            if a.ndim:
                np.testing.assert_array_equal(a[np.array([0, 2])], b[np.array([0, 2])])
    assert "1 of 3" in str(bad)


def test_traced_start_outside_its_bounds_is_a_status():
    result = jax.jit(lambda s: mx.fit(nll, {**start(), "mu": P(s, -1.0, 1.0)}, DATA))(2.0)
    assert mx.Status(int(result.status)) is mx.Status.OUTSIDE_BOUNDS
    assert not bool(result.valid)
    assert np.isnan(result.nll)


def test_a_fit_that_was_stopped_is_not_at_a_limit():
    result = mx.fit(nll, {**start(), "mu": P(0.9, -1.0, 1.0)}, DATA, max_steps=1)
    assert not bool(result.valid)
    assert not np.any(result.at_limit)
    assert not np.any(np.asarray(result.errors) == 0)


def test_throw():
    assert bool(mx.fit(nll, start(), DATA, throw=True).valid)
    with pytest.raises(mx.FitError, match="step limit") as caught:
        mx.fit(nll, start(), DATA, max_steps=1, throw=True)
    assert not bool(caught.value.result.valid)
    with pytest.raises(Exception, match="not valid"):
        jax.block_until_ready(jax.jit(lambda n: mx.fit(nll, start(), n, max_steps=1, throw=True).values)(DATA))


def test_strict_promotion_and_rank_promotion():
    def quadratic(p, d):
        return 0.5 * jnp.sum((p["a"] - d) ** 2) + 0.5 * p["b"] ** 2

    params = {"a": P(jnp.zeros(2), lower=jnp.array([-1.0, 0.5])), "b": P(1.0, -2.0, 2.0)}
    params["a"] = P(jnp.array([0.0, 0.6]), lower=jnp.array([-1.0, 0.5]))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for solver in (mx.Migrad(), mx.Newton(), mx.Simplex()):
            result = mx.fit(quadratic, params, jnp.array([0.2, 0.3]), solver=solver)
            assert bool(result.valid)
            jax.vmap(lambda d: mx.fit(quadratic, params, d, solver=solver))(jnp.ones((2, 2)))  # noqa: B023
    np.testing.assert_allclose(result.values, [0.2, 0.5, 0.0], atol=1e-6)


def test_mixed_shapes_and_trees():
    def model(p, d):
        return 0.5 * jnp.sum((p[0] - 1) ** 2) + 0.5 * jnp.sum(
            (p[1]["m"] - d) ** 2 * jnp.array([[1.0, 4.0], [9.0, 16.0]])
        )

    tree = (1.5, {"m": jnp.zeros((2, 2))})
    result = mx.fit(model, tree, jnp.ones((2, 2)))
    assert result.names == ("x[0]", "x[1].m[0,0]", "x[1].m[0,1]", "x[1].m[1,0]", "x[1].m[1,1]")
    np.testing.assert_allclose(result.errors, [1, 1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(result.params[1]["m"], np.ones((2, 2)), atol=1e-10)
    assert result["x[1].m"].value.shape == (4,)


def test_badly_scaled():
    def bad(p, n):
        return nll({"amp": p["amp"] * 1e-3, "mu": p["mu"] * 1e6, "sigma": p["sigma"] * 1e-6, "width": p["width"]}, n)

    params = {"amp": P(1.5e6, lower=0.0), "mu": P(0.0), "sigma": P(1e6, 1e5, 1e7), "width": jnp.ones(1)}
    result = mx.fit(bad, params, DATA)
    assert bool(result.valid)
    factors = np.array([1e3, 1e-6, 1e6])
    assert np.all(np.abs(result.values / factors - REFERENCE.values) < 1e-6 * REFERENCE.errors)
    np.testing.assert_allclose(result.errors / factors, REFERENCE.errors, rtol=1e-6)


@pytest.mark.float32
@pytest.mark.parametrize("solver", [None, mx.Newton()], ids=["default", "Newton"])
def test_float32(solver):
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), start())
    result = mx.fit(nll, params, jnp.asarray(DATA, jnp.float32), solver=solver)
    assert result.values.dtype == result.errors.dtype == result.nll.dtype == jnp.float32
    assert bool(result.valid), result.message
    values, errors = np.array([2000.0, 0.28, 1.2]), np.array([44.7, 0.027, 0.02])
    assert np.all(np.abs(np.asarray(result.values, float) - values) < 3 * errors)
    if REFERENCE.values.dtype == jnp.float64:
        assert np.all(np.abs(np.asarray(result.values, float) - REFERENCE.values) < 0.02 * REFERENCE.errors)
        np.testing.assert_allclose(result.errors, REFERENCE.errors, rtol=2e-3)


@pytest.mark.float32
def test_float32_warns_without_x64():
    with jax.enable_x64(False), pytest.warns(UserWarning, match="jax_enable_x64"):
        mx.fit(lambda p, d: (p["a"] - d) ** 2, {"a": 1.0}, jnp.float32(2.0))


class Own(eqx.Module):
    """A user's likelihood, whose fields have the names of methods of migrax's."""

    constant: jax.Array
    varying: jax.Array

    def __call__(self, p, data):
        return 0.5 * jnp.sum((p["mu"] - data) ** 2) * self.varying + self.constant


def test_fields_of_a_users_module():
    fit = mx.fit(Own(jnp.array(3.0), jnp.array(1.0)), {"mu": 0.0}, jnp.array([1.0, 3.0]))
    np.testing.assert_allclose([fit.values[0], fit.nll], [2.0, 4.0], rtol=1e-9)
