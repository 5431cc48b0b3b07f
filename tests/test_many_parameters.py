"""Fits of many parameters: Newton's method by conjugate gradients, Hessians in blocks, errors of some parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import migrax as mx
from migrax._fit import kernels
from migrax._host.ways import forced_to
from migrax._host.xp import on_host
from migrax._profile import crossing
from migrax._solvers.conjugate_gradients import steps_within
from migrax._solvers.equilibrate import equilibrated
from migrax._solvers.lanczos import spectrum
from migrax._solvers.metric import decompose
from migrax._toys import calls

BINS = 80
RNG = np.random.default_rng(0)


def of_size(n):
    """A signal strength and `n` constrained parameters that move all bins."""
    slopes = jnp.asarray(RNG.normal(size=(BINS, n)) * 0.05)

    def nll(p, d):
        log_mean = jnp.log(p["mu"]) + slopes @ p["t"]
        return jnp.sum(200 * jnp.exp(log_mean) - d["n"] * log_mean) + 0.5 * jnp.sum((p["t"] - d["a"]) ** 2)

    pull = np.asarray(slopes @ jnp.asarray(RNG.normal(size=n) * 0.5))
    data = {"n": jnp.asarray(RNG.poisson(200 * np.exp(pull)) * 1.0), "a": jnp.asarray(RNG.normal(size=n) * 0.5)}
    return nll, data


FEW, MANY = 20, 300
LIKELIHOODS = {n: of_size(n) for n in (FEW, MANY)}
BOUNDED = {False: {}, True: {"lower": -0.8, "upper": 3.0}}


def params_of(n, bounded=False, dtype=float):
    mu = mx.Parameter(jnp.asarray(1.0, dtype), lower=0.0) if bounded else mx.Parameter(jnp.asarray(1.0, dtype))
    return {"mu": mu, "t": mx.Parameter(jnp.zeros(n, dtype), **BOUNDED[bounded])}


def assert_same(found, right, errors_of=None):
    assert bool(found.valid)
    assert bool(right.valid)
    unit = np.where(right.errors > 0, right.errors, 1.0)
    assert np.max(np.abs(found.values - right.values) / unit) < 1e-6
    which = np.arange(right.values.size) if errors_of is None else np.asarray(errors_of)
    np.testing.assert_allclose(found.errors[which], right.errors[which], rtol=1e-6, atol=0)
    assert np.all(np.isnan(np.delete(np.asarray(found.errors), which)))
    np.testing.assert_array_equal(found.on_bound, right.on_bound)


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("n", [FEW, MANY])
def test_the_same_as_migrad(n, bounded):
    nll, data = LIKELIHOODS[n]
    params = params_of(n, bounded)
    right = mx.fit(nll, params, data, solver=mx.Migrad())
    assert int(np.sum(right.on_bound)) == {(FEW, True): 1, (MANY, True): 23}.get((n, bounded), 0)
    assert_same(mx.fit(nll, params, data, solver=mx.NewtonCG()), right)
    some = mx.fit(nll, params, data, errors=["mu", "t[3]"])
    assert_same(some, right, [0, 4])
    assert some.covariance.names == ("mu", "t[3]")
    assert some.covariance.kind == "hesse"
    np.testing.assert_allclose(some.covariance.matrix, right.covariance.matrix[np.ix_([0, 4], [0, 4])], rtol=1e-4)
    assert 0 <= float(some.covariance.accuracy) < 1e-6


@pytest.mark.slow  # two programs of 300 parameters
@pytest.mark.parametrize("options", [{}, {"errors": "mu"}], ids=["all", "one"])
def test_inside_of_jit(options):
    nll, data = LIKELIHOODS[MANY]
    direct = mx.fit(nll, params_of(MANY, True), data, **options)
    inside = jax.jit(lambda d: mx.fit(nll, params_of(MANY, True), d, **options))(data)
    assert inside.algorithm == direct.algorithm == "NewtonCG"
    np.testing.assert_allclose(inside.values, direct.values, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(inside.errors, direct.errors, rtol=1e-7)


@pytest.mark.slow  # two programs of vmapped fits
def test_lanes_and_derivatives():
    nll, data = LIKELIHOODS[FEW]
    lanes = jax.tree.map(lambda a: jnp.stack([a, 1.01 * a]), data)
    one = lambda d, **options: mx.fit(nll, params_of(FEW), d, **options)  # noqa: E731
    found = jax.vmap(lambda d: one(d, errors="mu"))(lanes)
    right = jax.vmap(one)(lanes)
    np.testing.assert_allclose(found.values, right.values, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found["mu"].error, right["mu"].error, rtol=1e-7)
    for what in (lambda r: r["mu"].value, lambda r: r["mu"].error):
        slope, known = (jax.grad(lambda d, o=o, w=what: w(one(d, **o)))(data)["n"] for o in ({"errors": "mu"}, {}))
        np.testing.assert_allclose(slope, known, rtol=1e-5, atol=1e-6 * np.max(np.abs(known)))


def test_fixed_parameters():
    nll, data = LIKELIHOODS[FEW]
    params = mx.fix(params_of(FEW), "mu")
    right, some = mx.fit(nll, params, data), mx.fit(nll, params, data, errors=["t[0]", "t[19]"])
    assert_same(some, right, [0, 19])
    with pytest.raises(ValueError, match="picks a fixed parameter"):
        mx.fit(nll, params, data, errors="mu")


def test_float32():
    nll, data = LIKELIHOODS[FEW]
    data = jax.tree.map(lambda a: a.astype(jnp.float32), data)
    right = mx.fit(nll, params_of(FEW), jax.tree.map(lambda a: a.astype(float), data))
    found = mx.fit(nll, params_of(FEW, dtype=jnp.float32), data, errors="mu")
    assert bool(found.valid)
    assert found.values.dtype == jnp.float32
    assert abs(float(found["mu"].value - right["mu"].value)) < 0.01 * float(right["mu"].error)
    assert abs(float(found["mu"].error / right["mu"].error) - 1) < 1e-3


def test_what_is_no_minimum():
    """At the start, a saddle, all gradients vanish."""
    saddle = lambda p, _: 0.5 * jnp.sum(p["x"] ** 2) - p["y"] ** 2 + p["y"] ** 4  # noqa: E731
    params = {"x": mx.Parameter(jnp.zeros(3)), "y": mx.Parameter(0.0)}
    found = mx.fit(saddle, params, errors="y")
    assert bool(found.valid)
    assert abs(abs(float(found["y"].value)) - 0.5**0.5) < 1e-6
    np.testing.assert_allclose(float(found["y"].error), 0.5, rtol=1e-5)
    flat = mx.fit(lambda p, _: 0.5 * jnp.sum(p["x"] ** 2) + 0.0 * p["y"], params, errors="y")
    assert not bool(flat.valid)
    assert np.isnan(float(flat["y"].error))
    quartic = lambda p, _: 0.5 * jnp.sum((p["x"] - 1) ** 2) + (p["y"] - 1) ** 4  # noqa: E731
    for options in ({"errors": "y"}, {"solver": mx.NewtonCG()}, {}):
        for start in (0.0, 1.01, 1.001, 1.0001):
            for x in (0.0, 1.0):
                near = {"x": mx.Parameter(jnp.full(3, x)), "y": mx.Parameter(start)}
                assert not bool(mx.fit(quartic, near, **options).valid)
        again = mx.fit(quartic, mx.fit(quartic, params, **options).params, **options)
        assert not bool(again.valid)


@pytest.mark.parametrize("start", [0.0, 1.001])
def test_a_singular_minimum_among_many(start):
    """Where the second derivative of one parameter vanishes, the message names it."""
    nll = lambda p, d: 0.5 * jnp.sum((p["t"] - d) ** 2) + (p["z"] - 1) ** 4  # noqa: E731
    params = {"t": mx.Parameter(jnp.zeros(MANY)), "z": mx.Parameter(start)}
    found = mx.fit(nll, params, jnp.ones(MANY))
    for _ in range(2):
        assert not bool(found.valid)
        assert "Along z" in found.message
        found = mx.fit(nll, found.params, jnp.ones(MANY))


def test_kinks_that_are_not_declared():
    """A fit with the errors of some parameters does not look for them: it is not valid."""

    def nll(p, _):
        smooth = 0.5 * (p["x"] - 0.3 * p["y"]) ** 2 + 0.5 * p["y"] ** 2 + 0.1 * p["x"]
        return smooth + 5 * jnp.abs(p["x"] - 0.7)

    params = {"x": mx.Parameter(0.2), "y": mx.Parameter(0.5)}
    assert not bool(mx.fit(nll, params, errors="x").valid)


@jax.custom_vjp
def only_forward_again(x):
    return jnp.exp(x)


def _backward(x, g):
    # the exponential again, by a loop that has no reverse mode
    series = jax.lax.while_loop(
        lambda c: c[0] < 30, lambda c: (c[0] + 1, 1 + c[1] * x / (30 - c[0])), (0, jnp.ones_like(x))
    )
    return (g * series[1],)


only_forward_again.defvjp(lambda x: (jnp.exp(x), x), _backward)


def test_a_gradient_without_reverse_mode():
    nll = lambda p, d: jnp.sum(only_forward_again(p["x"]) - d * p["x"])  # noqa: E731
    params = {"x": mx.Parameter(jnp.zeros(3))}
    some = mx.fit(nll, params, jnp.array([1.0, 2.0, 4.0]), errors="x[2]")
    assert bool(some.valid)
    np.testing.assert_allclose(float(some["x[2]"].error), 0.5, rtol=1e-6)


def test_the_default_for_many():
    """Where products of the Hessian with vectors are not exact or not cheap, and in float32, it is MIGRAD."""
    n = MANY
    square = lambda p, d: 0.5 * jnp.sum((p["t"] - d) ** 2)  # noqa: E731
    fit = lambda nll, dtype: mx.fit(nll, {"t": mx.Parameter(jnp.zeros(n, dtype))}, jnp.ones(n, dtype)).algorithm  # noqa: E731
    assert fit(square, jnp.float64) == "NewtonCG"
    assert fit(square, jnp.float32) == "Migrad"
    outside = mx.External(lambda p, _: (0.5 * np.sum((p["t"] - 1) ** 2), {"t": p["t"] - 1}))
    few = mx.fit(outside, {"t": mx.Parameter(jnp.zeros(n))}, solver=None)
    assert few.algorithm == "Migrad"


def test_what_errors_refuses():
    nll, data = LIKELIHOODS[FEW]
    params = params_of(FEW)
    with pytest.raises(ValueError, match=r"of some alone.*hesse=False"):
        mx.fit(nll, params, data, errors="mu", hesse=False)
    with pytest.raises(ValueError, match=r"of some alone.*hesse='sandwich'"):
        mx.fit(nll, params, data, errors="mu", hesse="sandwich")
    with pytest.raises(TypeError, match=r"takes mx.NewtonCG\(\), the default with it, not Migrad"):
        mx.fit(nll, params, data, errors="mu", solver=mx.Migrad())
    with pytest.raises(ValueError, match="kinks"):
        mx.fit(mx.Likelihood(nll, kinks={"mu": 1.0}), params, data, errors="mu")
    with pytest.raises(ValueError, match="names no parameter"):
        mx.fit(nll, params, data, errors=[])
    with pytest.raises(ValueError, match="nu"):
        mx.fit(nll, params, data, errors="nu")


def test_what_needs_all_errors_says_so():
    nll, data = LIKELIHOODS[FEW]
    some = mx.fit(nll, params_of(FEW), data, errors="mu")
    for call in (
        lambda: mx.minos(nll, some, data, "mu"),
        lambda: mx.propagate(lambda p: p["mu"], some),
        lambda: some.sample(jax.random.key(0)),
    ):
        with pytest.raises(ValueError, match="of all parameters: fit without errors="):
            call()
    shown = repr(some)
    assert "mu" in shown
    assert mx.fit(nll, params_of(FEW), data, errors=["mu", "t[0]"]).to_dict()["covariance"]["names"] == ["mu", "t[0]"]


def test_a_hessian_in_blocks(monkeypatch):
    """Each block is as large as the memory allows; the numbers are the same."""
    nll, data = LIKELIHOODS[MANY]
    right = jax.hessian(lambda x: nll({"mu": x[0], "t": x[1:]}, data))(jnp.r_[1.0, jnp.zeros(MANY)])
    sizes, made = [], kernels.Kernels._in_blocks

    def spy(self, x, leaves):
        hessian = made(self, x, leaves)
        sizes.append(self._block[0])
        return hessian

    monkeypatch.setattr(kernels.Kernels, "_in_blocks", spy)
    for budget in (2**30, 2**19):
        monkeypatch.setattr(kernels, "BUDGET", budget)
        monkeypatch.setattr("migrax._solvers.tangents.BUDGET", budget)
        with forced_to("kernels"):  # a new likelihood: its blocks are others
            covariance = mx.hesse(lambda p, d: nll(p, d), params_of(MANY), data)
        np.testing.assert_allclose(covariance.matrix @ right, np.eye(MANY + 1), atol=1e-9)
    assert sizes[0] == MANY + 1
    assert 1 <= sizes[1] < MANY / 2


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_more_parameters_than_numpy_takes(dtype):
    n = 1100
    nll = mx.Joint({"a": mx.NormalConstraint("t", np.full(n, 2.0)), "b": mx.NormalConstraint("t", np.full(n, 2.0))})
    data = {"a": jnp.ones(n, dtype), "b": 3 * jnp.ones(n, dtype)}
    found = mx.fit(nll, {"t": mx.Parameter(jnp.zeros(n, dtype))}, data, solver=mx.NewtonCG())
    assert bool(found.valid)
    np.testing.assert_allclose(found.values, 2.0, rtol=1e-5)
    np.testing.assert_allclose(found.errors, 2**0.5, rtol=1e-5)
    np.testing.assert_allclose(found.nll, 0.25 * n, rtol=1e-5)


class TestSolver:
    @pytest.mark.parametrize("n", [2, 20])
    def test_rosenbrock(self, n):
        fn = lambda y, _: jnp.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2)  # noqa: E731
        found = optx.minimise(fn, mx.NewtonCG(rtol=1e-9, atol=1e-9), jnp.full(n, -1.2), max_steps=1000)
        np.testing.assert_allclose(found.value, 1.0, atol=1e-6)
        assert int(found.stats["num_hessians"]) == 0
        assert int(found.stats["num_gradients"]) > 2 * int(found.stats["num_products"]) > 0

    def test_units(self):
        """The solver finds the scale of each number by itself."""
        units = jnp.array([1e-6, 1.0, 1e5, 1e9])
        pull = lambda y: jnp.r_[y["a"], y["b"]] / units - 1  # noqa: E731
        fn = lambda y, _: jnp.sum(pull(y) ** 2) + jnp.sum(pull(y)) ** 2  # noqa: E731
        found = optx.minimise(fn, mx.NewtonCG(), {"a": jnp.zeros(2), "b": jnp.zeros(2)})
        np.testing.assert_allclose(pull(found.value), 0.0, atol=1e-5)

    @pytest.mark.parametrize("metric", [jnp.eye(2), jnp.ones(2)], ids=["matrix", "diagonal"])
    def test_a_metric(self, metric):
        fn = lambda y, _: jnp.sum((y - 1) ** 2)  # noqa: E731
        found = optx.minimise(fn, mx.NewtonCG(), jnp.zeros(2), options={"metric": metric})
        np.testing.assert_allclose(found.value, 1.0, rtol=1e-6)

    def test_bad_input(self):
        fn = lambda y, _: jnp.sum(y**2)  # noqa: E731
        with pytest.raises(ValueError, match="must have shape"):
            optx.minimise(fn, mx.NewtonCG(), jnp.zeros(2), options={"metric": jnp.ones(3)})
        with pytest.raises(ValueError, match=r"NewtonCG\(radius=...\) must be positive"):
            mx.NewtonCG(radius=0.0)
        with pytest.raises(ValueError, match="max_products"):
            mx.NewtonCG(max_products=0)
        sol = optx.minimise(lambda y, _: jnp.sum(jnp.log(y)), mx.NewtonCG(), -jnp.ones(2), throw=False)
        assert sol.result != optx.RESULTS.successful


def positive(n, condition):
    vectors, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(n, n)))
    return (vectors * np.geomspace(1.0, condition, n)) @ vectors.T


@pytest.mark.parametrize("host", [False, True])
def test_conjugate_gradients(host):
    matrix, b = positive(30, 100.0), np.random.default_rng(2).normal(size=30)

    def both():
        far, small = (np.asarray(a)[()] for a in (np.inf, 1e-10))
        whole = steps_within(lambda v: matrix @ v, -b, lambda v: v, far, small, 100)
        short = steps_within(lambda v: matrix @ v, -b, lambda v: v, np.asarray(0.1)[()], small, 100)
        falling = steps_within(lambda v: -(matrix @ v), -b, lambda v: v, np.asarray(0.1)[()], small, 100)
        return whole, short, falling

    if host:
        with on_host():
            whole, short, falling = both()
    else:
        matrix, b = jnp.asarray(matrix), jnp.asarray(b)
        whole, short, falling = both()
    np.testing.assert_allclose(whole.step, np.linalg.solve(matrix, b), rtol=1e-8)
    assert bool(whole.inside)
    np.testing.assert_allclose(whole.predicted, 0.5 * b @ np.linalg.solve(matrix, b), rtol=1e-9)
    for ended in (short, falling):
        assert not bool(ended.inside)
        np.testing.assert_allclose(np.linalg.norm(ended.step), 0.1, rtol=1e-9)
        np.testing.assert_allclose(ended.length, 0.1, rtol=1e-9)
        assert ended.predicted > 0


@pytest.mark.parametrize("host", [False, True])
def test_lanczos(host):
    for matrix in (positive(60, 10.0), positive(60, 10.0) - 2 * np.eye(60), np.eye(60)):
        lowest, *_, highest = np.linalg.eigvalsh(matrix)
        if host:
            with on_host():
                found = spectrum(lambda v, m=matrix: m @ v, np.zeros(60), 40)
        else:
            array = jnp.asarray(matrix)
            found = spectrum(lambda v, m=array: m @ v, jnp.zeros(60), 40)
        assert lowest - 1e-12 <= float(found.lowest) <= lowest + float(found.below) + 1e-12
        assert highest - float(found.above) - 1e-12 <= float(found.highest) <= highest + 1e-12
        assert max(float(found.below), float(found.above)) < 1e-2
        assert float(found.norm) >= max(abs(lowest), highest) - 1e-12


def test_equilibrated():
    units = np.geomspace(1e-5, 1e5, 12)
    matrix = jnp.asarray(positive(12, 10.0) / units[:, None] / units[None, :])
    scale = equilibrated(lambda v: matrix @ v, jnp.zeros(12))
    assert np.linalg.cond(matrix / scale[:, None] / scale[None, :]) < 100


def test_cholesky_is_for_what_is_positive_definite():
    """The metric of a large matrix on the host is the same by either way; near a singular one it is of eigenvalues."""
    rng = np.random.default_rng(0)
    n = 300
    gradient = rng.normal(size=n)
    good = positive(n, 1e4)
    singular = good - np.linalg.eigvalsh(good)[0] * np.eye(n)
    with on_host():
        by_root, small = decompose(good, gradient), decompose(singular, gradient)
        np.testing.assert_allclose(by_root.inverse(), np.linalg.inv(good), rtol=1e-8, atol=1e-10)
        assert np.all(by_root.eigenvalues == 1)
        np.testing.assert_allclose(by_root.edm(gradient), 0.5 * gradient @ np.linalg.solve(good, gradient), rtol=1e-8)
        assert not np.all(small.eigenvalues == 1)
        assert not bool(small.positive_definite)
        assert not bool(decompose(-good, gradient).positive_definite)


class TestSparseEffects:
    TABLE = np.where(RNG.uniform(size=(40, 3, 7)) < 0.1, RNG.normal(size=(40, 3, 7)), 0.0)

    def test_the_same_as_a_dense_table(self):
        effects, theta = mx.SparseEffects.from_dense(self.TABLE), jnp.asarray(RNG.normal(size=40))
        dense = lambda t: jnp.tensordot(t, self.TABLE, 1)  # noqa: E731
        assert effects.values.size == np.count_nonzero(self.TABLE)
        np.testing.assert_allclose(effects(theta), dense(theta), rtol=1e-12, atol=1e-14)
        wave = lambda f: lambda t: jnp.sum(jnp.exp(f(t)))  # noqa: E731
        for derivative in (jax.grad, jax.hessian):
            found, right = (derivative(wave(f))(theta) for f in (effects, dense))
            np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-12)
        lanes = jnp.stack([theta, 2 * theta])
        np.testing.assert_allclose(jax.jit(jax.vmap(effects))(lanes), jax.vmap(dense)(lanes), rtol=1e-12, atol=1e-14)
        assert effects(theta.astype(jnp.float32)).dtype == jnp.float32

    def test_repeated_entries_are_added(self):
        effects = mx.SparseEffects([0, 0, 1], [2, 2, 0], [1.0, 2.0, 4.0], size=2, shape=np.int64(4))
        np.testing.assert_array_equal(effects(np.array([1, 10])), [40.0, 0.0, 3.0, 0.0])
        np.testing.assert_array_equal(effects(jnp.array([1.0, 10.0])), [40.0, 0.0, 3.0, 0.0])

    def test_bad_input(self):
        given = {"parameters": [0], "bins": [0], "values": [1.0], "size": 2, "shape": 3}

        def make(**changed):
            return mx.SparseEffects(**(given | changed))

        for options, said in (
            ({"parameters": [2]}, "from 0 to 1, got 2 to 2"),
            ({"bins": [-1]}, "from 0 to 2, got -1"),
            ({"bins": [0.5]}, "whole numbers"),
            ({"values": [np.nan]}, "parameter 0 on bin 0 is no number"),
            ({"values": [1.0, 2.0]}, "one shape"),
            ({"size": 0}, "must be positive"),
            ({"bins": ([0], [0])}, "bins has 2 axes"),
        ):
            with pytest.raises(ValueError, match=said):
                make(**options)
        with pytest.raises(ValueError, match="takes a table"):
            mx.SparseEffects.from_dense(np.zeros(3))
        with pytest.raises(ValueError, match="2 parameters got an array of shape"):
            make()(jnp.zeros(3))
        with pytest.raises(TypeError, match="must be known, not traced"):
            jax.jit(lambda i: make(parameters=i)(jnp.zeros(2)))(jnp.array([0]))


# parameters that data constrain a hundredfold, in a likelihood that is far from quadratic
STIFF_SLOPES = jnp.asarray(0.1 * np.random.default_rng(1).normal(size=(BINS, MANY)))
STIFF_BINS = mx.PoissonNLL(lambda p: 2e4 * p["mu"] * jnp.exp(STIFF_SLOPES @ p["t"]))
STIFF = mx.Joint({"main": STIFF_BINS, "prior": mx.NormalConstraint("t", jnp.ones(MANY))})
STIFF_DATA = mx.sample(
    STIFF, params_of(MANY), jax.random.key(2), data={"main": np.zeros(BINS), "prior": np.zeros(MANY)}
)


def test_toys_that_need_many_steps(monkeypatch):
    """A lane of many parameters stores as many steps as it needs, and is not left to the full fit."""
    refitted, refit = [], calls.refit_failed

    def counted(job, toys, result, trusted, alone):
        refitted.append(int(np.sum(~trusted)))
        return refit(job, toys, result, trusted, alone)

    monkeypatch.setattr(calls, "refit_failed", counted)
    nll, params, data = STIFF, params_of(MANY), STIFF_DATA
    fits = mx.fit_toys(nll, params, mx.Toys(4, jax.random.key(3)), data=data)
    assert bool(jnp.all(fits.valid))
    assert refitted == [0]
    assert float(jnp.min(fits.stats["num_gradients"])) > 24  # as many as a lane of few parameters stores
    toys = mx.sample(nll, params, jax.random.key(3), 4, data=data)
    one = mx.fit(nll, params, jax.tree.map(lambda a: a[1], toys))
    np.testing.assert_allclose(fits.values[1], one.values, atol=1e-6)
    # the Hessian of a toy is that a thousandth of an error away, where the search ended
    np.testing.assert_allclose(fits.errors[1], one.errors, rtol=3e-3)


def test_minos_that_needs_many_steps(monkeypatch):
    """With one gradient a step, without the sure way of conditional fits."""
    monkeypatch.setattr(crossing, "bracket", None)
    result = mx.fit(STIFF, params_of(MANY), STIFF_DATA)
    errors = mx.minos(STIFF, result, STIFF_DATA, ["mu", "t[7]"])
    assert bool(jnp.all(errors.valid))
    for i, name in enumerate(errors.names):
        for side in (errors.lower[i], errors.upper[i]):
            held = mx.fix(result.params, name, result[name].value + side)
            at_end = mx.fit(STIFF, held, STIFF_DATA)
            np.testing.assert_allclose(2 * (at_end.nll - result.nll), 1.0, rtol=1e-6)
    points = mx.profile(STIFF, result, STIFF_DATA, "mu", [float(result["mu"].value + errors.upper[0])])
    np.testing.assert_allclose(points.rise, 1.0, rtol=1e-6)
