"""Jaxprs evaluated by NumPy, against XLA."""

import functools
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import lax
from jax.scipy import special

from migrax._host import control_flow
from migrax._host.plan import Plan
from migrax._host.trips import TooLong
from migrax.distributions._bins_by_nodes import _of_all_lanes

REAL = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, 2.5, -3.0, 0.1, 7.25, 1e-3, 80.0, -80.0, np.inf, -np.inf, np.nan]
WHOLE = [0, 1, 2, 3, 5, 7, 31, 40, 100]


def check(fn, *args, rtol=1e-13, atol=1e-14, known=None):
    """The plan of `fn`, whose outputs are those of XLA, with their shapes and dtypes."""
    closed = jax.make_jaxpr(fn)(*args)
    leaves = [np.asarray(x) for x in jax.tree.leaves(args)]
    plan = Plan(closed, known)
    found = plan(*(x for i, x in enumerate(leaves) if not known or i not in known))
    expected = jax.tree.leaves(jax.jit(fn)(*args))
    assert len(found) == len(expected)
    for i, (a, b) in enumerate(zip(found, map(np.asarray, expected), strict=True)):
        assert (np.shape(a), a.dtype) == (b.shape, b.dtype), f"output {i}"
    differ = [
        f"output {i}: {a} is not {b}"
        for i, (a, b) in enumerate(zip(found, map(np.asarray, expected), strict=True))
        if not np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
    ]
    assert not differ, "\n".join(differ)
    return plan


def known(plan):
    """The plan, all of whose primitives have rules."""
    assert plan.unknown == frozenset()
    assert not plan.has_effects
    return plan


def digamma(x):
    """Away from its pole."""
    return lax.digamma(jnp.where(x == 0, 1.0, x).astype(x.dtype))


UNARY = [
    lax.abs, lax.acos, lax.acosh, lax.asin, lax.asinh, lax.atan, lax.atanh, lax.bessel_i0e, lax.bessel_i1e, lax.cbrt,
    lax.ceil, lax.cos, lax.cosh, digamma, lax.erf, lax.erfc, lax.erf_inv, lax.exp, lax.exp2, lax.expm1, lax.floor,
    lax.is_finite, lax.lgamma, lax.log, lax.log1p, lax.logistic, lax.neg, lax.rsqrt, lax.sign, lax.sin, lax.sinh,
    lax.sqrt, lax.square, lax.tan, lax.tanh,
    lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
    lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
    *(functools.partial(lax.integer_pow, y=y) for y in (-3, -2, -1, 0, 1, 2, 3, 4, 7)),
    *(functools.partial(lax.convert_element_type, new_dtype=d) for d in ("int32", "uint8", "int64", "bool", "float32")),
]  # fmt: skip
# of the newest JAX alone
UNARY += [f for f in (getattr(lax, name, None) for name in ("log2", "one_minus_square")) if f is not None]
BINARY = [
    lax.add, lax.sub, lax.mul, lax.div, lax.rem, lax.max, lax.min, lax.pow, lax.atan2, lax.nextafter, lax.eq, lax.ne,
    lax.lt, lax.le, lax.gt, lax.ge,
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 4e-13), ("float32", 3e-6)])
def test_functions_of_one_number(dtype, rtol):
    known(check(lambda x: [f(x) for f in UNARY], jnp.asarray(REAL, dtype), rtol=rtol, atol=rtol / 4))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_error_functions_without_scipy(monkeypatch, dtype):
    """Python's, of numbers and of arrays, up to some size."""
    monkeypatch.delitem(sys.modules, "scipy.special")
    x = np.array(REAL, dtype)
    for fn in (lax.erf, lax.erfc):
        for size in (1, 5001):
            many = np.resize(x, size * x.size)
            known(check(fn, many, rtol=1e-13 if dtype == "float64" else 3e-7))
        known(check(fn, np.dtype(dtype).type(0.5), rtol=1e-13 if dtype == "float64" else 3e-7))


def test_digamma_at_its_pole():
    """Before JAX 0.12, XLA gives NaN."""
    plan = Plan(jax.make_jaxpr(lax.digamma)(0.0))
    np.testing.assert_array_equal([plan(np.asarray(x))[0] for x in (0.0, -0.0)], [-np.inf, -np.inf])


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 1e-6)])
def test_functions_of_two_numbers(dtype, rtol):
    x, y = (jnp.ravel(z) for z in jnp.meshgrid(jnp.asarray(REAL, dtype), jnp.asarray(REAL, dtype)))
    known(check(lambda x, y: [f(x, y) for f in BINARY], x, y, rtol=rtol))
    known(check(lambda x, y: [lax.clamp(x[3], x, y), lax.clamp(x, y, y)], x, y))
    known(check(lambda x: [lax.pow(x, jnp.full(x.shape, n)) for n in (-2, 0, 3)], x, rtol=rtol))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint8"])
def test_whole_numbers(dtype):
    values = np.array([*WHOLE, *([-1, -2, -7, -100] if dtype.startswith("int") else [])], dtype)
    values = np.append(values, [np.iinfo(dtype).min, np.iinfo(dtype).max]).astype(dtype)
    x, y = (jnp.ravel(z) for z in jnp.meshgrid(values, values))
    ops = [lax.add, lax.sub, lax.mul, lax.div, lax.rem, lax.max, lax.min, lax.lt, lax.bitwise_and, lax.bitwise_or]
    ops += [lax.bitwise_xor, lax.shift_left, lax.shift_right_logical, lax.shift_right_arithmetic]
    known(check(lambda x, y: [f(x, y) for f in ops], x, y))
    known(check(lambda x: [lax.bitwise_not(x), lax.sign(x), jnp.abs(x), x.astype(float), x.astype("int16"), x > 2], x))
    known(check(lambda x: [jnp.sum(x), jnp.prod(x[:3]), jnp.max(x), jnp.cumsum(x), jnp.argmax(x), jnp.sort(x)], x))


def test_searches_in_sorted_numbers():
    """They compare in the total order."""
    line = jnp.asarray([-jnp.inf, -2.0, -0.0, 0.0, 1.0, 1.0, jnp.inf, jnp.nan])
    x = jnp.asarray([-5.0, -2.0, -0.0, 0.0, 1.0, 7.0, jnp.nan])

    def fn(x, line):
        sides = [jnp.searchsorted(line, x, side=side) for side in ("left", "right")]
        return [*sides, jnp.interp(x, line[1:5], line[1:5] ** 2), jnp.searchsorted(jnp.arange(5), jnp.arange(3))]

    for dtype in ("float64", "float32"):
        known(check(fn, x.astype(dtype), line.astype(dtype)))


@pytest.mark.skipif(not hasattr(lax, "polynomial"), reason="a primitive of JAX 0.12")
def test_polynomials():
    known(check(lambda x, c: lax.polynomial(x, [c, 2 * c, 3 * c]), jnp.asarray(REAL[:13]), jnp.full(13, 0.7)))


def test_special_functions_of_several_numbers():
    a, x = jnp.meshgrid(jnp.asarray([0.3, 1.0, 2.5, 40.0]), jnp.asarray([0.01, 0.4, 0.9, 3.0, 60.0]))
    known(check(lambda a, x: [lax.igamma(a, x), lax.igammac(a, x), lax.zeta(a + 1, x)], a, x, rtol=1e-11))
    known(check(lambda a, x: lax.betainc(a, x, x / (1 + x)), a, x, rtol=1e-10))
    known(check(lambda x: [special.polygamma(n, x) for n in (0, 1, 2)], x, rtol=1e-11))


def test_complex_numbers():
    def fn(x, y):
        z = lax.complex(x, y)
        return [
            jnp.abs(z),
            (z * z).real,
            jnp.exp(z).imag,
            jnp.conj(z),
            z @ z,
            jnp.sum(z),
            jnp.sqrt(z),
            jnp.log(z),
            z**3,
        ]

    check(fn, jnp.linspace(-1.0, 2.0, 7), jnp.linspace(0.3, 1.0, 7))


def test_shapes():
    x, y = jnp.arange(24.0).reshape(2, 3, 4), jnp.arange(6)

    def fn(x, y):
        return [
            x.T, x.reshape(4, 6), x[:, None, ..., 0], jnp.flip(x, (0, 2)), jnp.concatenate([x, x + 1], 1),
            jnp.pad(x, ((1, 2), (0, 0), (3, 0)), constant_values=7.0), jnp.tile(y, (2, 2)), jnp.broadcast_to(y, (3, 6)),
            lax.pad(x, 0.5, ((-1, 3, 0), (0, -2, 1), (1, -1, 2))), lax.pad(y, 9, ((-6, 3, 0),)),
            *jnp.split(y, [2, 3]), jnp.stack([y, y], 1), *jnp.unstack(x, axis=1),
            lax.stop_gradient(x), lax.iota(int, 4), jnp.eye(3), x[::-1, 1:3, ::2], x.squeeze(),
            jnp.where(x > 3, x, -x), jnp.where(jnp.any(x > 3), x, -x), lax.select_n(y % 3, y, 10 * y, 100 * y),
            lax.bitcast_convert_type(x, "int64"), x.astype("float32"),
        ]  # fmt: skip

    known(check(fn, x, y))


def test_reductions():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 5))).at[1, 2, 3].set(jnp.nan)

    def fn(x):
        b = x > 0
        return [
            jnp.sum(x), jnp.sum(x, (0, 2)), jnp.max(x, 1), jnp.min(x, 0), jnp.prod(x, 2), jnp.any(b, 1), jnp.all(b),
            jnp.argmax(x, 1), jnp.argmin(x, 2), jnp.cumsum(x, 1), jnp.cumprod(x, 2), lax.cummax(x, 1, reverse=True),
            lax.cummin(x, 0), lax.cumlogsumexp(x, 2), jnp.sort(x, 1), jnp.argsort(x, 2), lax.sort((x, x + 1), 1),
            lax.sort((jnp.floor(x), x, b), 2, num_keys=2), lax.reduce_xor(b, (0,)), jnp.median(x[0]), jnp.sum(b),
        ]  # fmt: skip

    known(check(fn, x))


def test_empty_arrays():
    check(lambda x: [jnp.sum(x), jnp.prod(x), jnp.sort(x), jnp.max(x, initial=-3.0), x @ x], jnp.zeros(0))


def test_products():
    rng = np.random.default_rng(2)
    a, b, v = (jnp.asarray(rng.normal(size=shape)) for shape in ((4, 3, 5), (4, 5, 2), (5,)))

    def fn(a, b, v):
        return [
            a @ b, a @ v, v @ b[0], v @ v, jnp.einsum("kij,kjl->li", a, b), jnp.einsum("kij,kij->ki", a, a),
            jnp.tensordot(a, b, ((0, 2), (0, 1))), jnp.outer(v, v), a[0].T @ a[1],
            lax.dot_general(a[0].astype("float32"), v.astype("float32"), (((1,), (0,)), ((), ())),
                            preferred_element_type="float64").astype("float32"),
            jnp.arange(3) @ jnp.arange(3),
        ]  # fmt: skip

    known(check(fn, a, b, v, atol=1e-6, rtol=1e-6))


@pytest.mark.parametrize("mode", ["fill", "clip", "promise_in_bounds"])
def test_gathers(mode):
    x, k = jnp.arange(20.0).reshape(4, 5), jnp.array([[0, 3], [2, 1]])
    far = k if mode == "promise_in_bounds" else jnp.array([[0, -9], [2, 40]])

    def fn(x, k):
        take = functools.partial(jnp.take, mode="wrap" if mode == "promise_in_bounds" else mode)
        return [
            take(x, k, axis=0), take(x, k, axis=1), x.at[k, 1].get(mode=mode), x.at[1, k].get(mode=mode),
            x.at[k, k].get(mode=mode), jax.vmap(lambda row, i: row.at[i].get(mode=mode))(x[:2], k),
            (x > 3).at[k].get(mode=mode), x.astype(int).at[k].get(mode=mode), x.astype("uint8").at[k].get(mode=mode),
            x.at[k].get(mode=mode, fill_value=-1.0), jnp.take_along_axis(x[:2], k, 1, mode=None),
        ]  # fmt: skip

    known(check(fn, x, far))


@pytest.mark.parametrize("mode", ["drop", "clip"])
def test_scatters(mode):
    x, k = jnp.arange(20.0).reshape(4, 5), jnp.array([0, 3, 3, 50])
    one = jnp.array([0, 3, 2, 50])
    new = jnp.arange(20.0).reshape(4, 5) ** 2

    def fn(x, k, one, new):
        at = x.at[k]
        return [
            x.at[one].set(new, mode=mode), at.add(new, mode=mode), at.max(new, mode=mode), at.min(new, mode=mode),
            at.multiply(new, mode=mode), x.at[one, one].set(7.0, mode=mode), x.at[:, 2].set(1.0), x.at[1:3, 1].add(2.0),
            jax.vmap(lambda row, i: row.at[i].add(1.0, mode=mode))(x, k), x.at[k, 1].subtract(3.0, mode=mode),
        ]  # fmt: skip

    known(check(fn, x, k, one if mode == "drop" else jnp.array([0, 1, 2, 50]), new))


def test_slices_at_places_that_are_computed():
    x = jnp.arange(20.0).reshape(4, 5)

    def fn(x, i):
        return [
            lax.dynamic_slice(x, (i, i - 1), (2, 3)), lax.dynamic_update_slice(x, -x[:2, :2], (i, -i)), x[i], x[-1, i],
        ]  # fmt: skip

    for i in (-7, 0, 2, 9):
        known(check(fn, x, jnp.asarray(i)))


def test_linear_algebra():
    rng = np.random.default_rng(3)
    a = jnp.asarray(rng.normal(size=(2, 4, 4)))
    b = jnp.asarray(rng.normal(size=(2, 4, 3)))

    def fn(a, b):
        positive = a @ a.swapaxes(1, 2) + jnp.eye(4)
        root, lower = jnp.linalg.cholesky(positive), jnp.tril(a) + 3 * jnp.eye(4)
        solve = lax.linalg.triangular_solve
        return [
            root, jnp.linalg.eigvalsh(positive), jnp.abs(jnp.linalg.eigh(positive[0])[1]), jnp.linalg.solve(a, b),
            jnp.linalg.inv(a[0]), jnp.linalg.slogdet(a), jnp.linalg.det(a),
            jax.scipy.linalg.solve_triangular(lower[0], b[0], lower=True),
            jax.scipy.linalg.cho_solve((root[0], True), b[0]),
            *(solve(lower, x, left_side=left, lower=True, transpose_a=t, unit_diagonal=u)
              for left, x in ((True, b), (False, b.swapaxes(1, 2))) for t in (False, True) for u in (False, True)),
        ]  # fmt: skip

    known(check(fn, a, b, rtol=1e-9, atol=1e-10))


def test_linear_algebra_that_fails():
    bad = jnp.asarray([[1.0, 2.0], [2.0, 1.0]])

    def fn(a):
        singular = jnp.zeros((2, 2))
        return [
            jnp.linalg.cholesky(a), jnp.linalg.eigvalsh(a * jnp.nan), jnp.linalg.solve(singular, a),
            lax.linalg.triangular_solve(singular, a, left_side=True),
        ]  # fmt: skip

    known(check(fn, bad))


def test_control_flow():
    def power(x, n):
        return lax.fori_loop(0, n, lambda i, c: c * x + i, x)

    def newton(x):
        return lax.while_loop(
            lambda c: jnp.any(c[0] ** 2 - x > 1e-9), lambda c: (0.5 * (c[0] + x / c[0]), c[1] + 1), (x, 0)
        )

    def fn(x, n):
        carry, rows = lax.scan(lambda c, r: (c + r, (c * r, r > 0)), x[0], x)
        back = lax.scan(lambda c, r: (c * r, c), 1.0, x, reverse=True)
        by_branch = lax.cond(x[0] > 0, lambda v: jnp.sin(v), lambda v: v**2, x)
        switched = lax.switch(n, [lambda v: v, lambda v: -v, lambda v: 2 * v], x)
        return [
            carry,
            rows,
            back,
            by_branch,
            switched,
            power(x, n),
            power(x, 3),
            newton(jnp.abs(x)),
            lax.map(jnp.cos, x),
        ]

    for n in (-2, 1, 7):
        known(check(fn, jnp.asarray([1.3, 2.0, 0.4, 5.0]), jnp.asarray(n)))
        known(check(jax.vmap(fn, (0, None)), jnp.asarray([[1.3, 2.0], [-0.4, 5.0]]), jnp.asarray(n), atol=1e-12))


def test_branches_of_different_length(monkeypatch):
    """A branch counts as its cheapest alternative; one that is far too long is for a program."""

    def fn(x):
        def long(y):
            for _ in range(50):
                y = jnp.tanh(y) + 1.0
            return y

        return lax.cond(x[0] > 0, lambda y: y, long, x)

    x = np.full(1000, 0.3)
    plan = known(check(fn, x))
    check(fn, -x)
    assert plan.cost < 1e-5
    assert plan.num_steps > 100  # all of which XLA would compile
    monkeypatch.setattr(control_flow, "LONGEST_BRANCH", 1e-5)
    plan = check(fn, x)
    with pytest.raises(TooLong):
        plan(-x)


def test_one_answer_for_all_lanes():
    """A function with a rule of its own for `vmap` is evaluated."""
    for lanes in (np.array([True, True]), np.array([True, False])):
        known(check(jax.vmap(lambda good: lax.cond(_of_all_lanes(good), lambda: 1.0, lambda: 2.0)), lanes))
    known(check(_of_all_lanes, np.array(True)))


def test_functions_with_derivatives_of_their_own():
    @jax.custom_jvp
    def f(x):
        return jnp.log(x)

    f.defjvp(lambda p, t: (f(*p), 3 * t[0] / p[0]))

    @jax.custom_vjp
    def g(x):
        return jnp.exp(x)

    g.defvjp(lambda x: (g(x), x), lambda x, t: (5 * t * x,))

    def fn(x):
        return jnp.sum(f(x) + g(x) + jax.checkpoint(jnp.sin)(x) + jax.jit(jnp.cos)(x) + eqx.filter_jit(jnp.tan)(x))

    x = jnp.asarray([0.2, 0.9])
    for derivative in (fn, jax.grad(fn), jax.value_and_grad(fn)):
        known(check(derivative, x))

    # Equinox's loop, with its own derivatives
    def loop(x):
        return eqx.internal.while_loop(
            lambda c: c[1] < 3, lambda c: (c[0] * x, c[1] + 1), (x, 0), kind="checkpointed", max_steps=9
        )[0]

    check(jax.grad(lambda x: jnp.sum(loop(x))), x)


def test_primitives_without_a_rule():
    """JAX evaluates them; effects are kept, in their order."""
    seen = []

    def fn(x, key):
        jax.debug.callback(lambda v: seen.append(float(v)), x[0], ordered=True)
        jax.debug.callback(lambda v: seen.append(float(v)), x[1], ordered=True)
        drawn = jax.random.normal(jax.random.split(key)[1], (3,))
        called = jax.pure_callback(lambda v: np.asarray(v) * 2, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
        return drawn, called, jnp.fft.rfft(x), lax.population_count(x.astype(int)), lax.reduce_precision(x, 5, 10)

    x, key = jnp.asarray([1.0, 2.0]), jax.random.key(3)
    plan = Plan(jax.make_jaxpr(fn)(x, key))
    found, expected = plan(np.asarray(x), key), jax.jit(fn)(x, key)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert seen == [1.0, 2.0, 1.0, 2.0]
    assert plan.has_effects
    assert {"pure_callback", "fft", "population_count"} <= plan.unknown


def test_short_floats_are_those_of_jax():
    x = jnp.asarray([0.1, 2.7], "bfloat16")
    plan = Plan(jax.make_jaxpr(lambda x: (x * 3).astype("float32"))(x))
    np.testing.assert_array_equal(plan(x)[0], (x * 3).astype("float32"))
    assert "mul" in plan.unknown


def test_what_is_known_is_computed_once():
    calls = []

    def count(x):
        calls.append(1)
        return np.sin(x)

    def fn(p, x):
        far = jax.pure_callback(count, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
        return jnp.sum(p * far), jnp.sum(jnp.exp(x)) + p, jnp.sum(x)

    x = jnp.linspace(0.0, 1.0, 5)
    closed = jax.make_jaxpr(fn)(2.0, x)
    plan = Plan(closed, {1: x})
    for p in (2.0, 3.0):
        np.testing.assert_allclose(plan(np.asarray(p)), fn(p, x), rtol=1e-14)
    assert len(calls) == 4  # what calls back does so each time, as in a program
    last = plan.only([2, 1])
    np.testing.assert_allclose(last(np.asarray(2.0)), fn(2.0, x)[:0:-1], rtol=1e-14)
    assert last.cost < plan.cost
    calls.clear()
    plan.only([1])(np.asarray(1.0))
    assert calls == []
    np.testing.assert_allclose(Plan(closed, {0: 2.0, 1: x})(), fn(2.0, x), rtol=1e-14)


def test_inputs_are_left_as_they_are():
    x = np.arange(4.0)
    plan = Plan(jax.make_jaxpr(lambda x: (x.at[1].set(9.0), x, lax.dynamic_update_slice(x, x[:1], (2,))))(x))
    x.setflags(write=False)
    np.testing.assert_array_equal(plan(x)[1], np.arange(4.0))


def test_wrong_numbers_of_inputs_are_refused():
    with pytest.raises(ValueError, match="zip"):
        Plan(jax.make_jaxpr(lambda x, y: x + y)(1.0, 2.0))(np.asarray(1.0))


# Steps of random programs: each takes numbers made before, all of shape (3, 4), and keeps their size in hand.
STEPS = [
    lambda a, b: a + b, lambda a, b: a * jnp.tanh(b), lambda a, b: jnp.where(a > b, a, b),
    lambda a, b: jnp.maximum(a, -b),
    lambda a, b: jnp.exp(-(a**2)) + b, lambda a, b: jnp.log1p(a**2), lambda a, b: a / (1 + b**2), lambda a, b: a[::-1],
    lambda a, b: jnp.sqrt(1 + a**2), lambda a, b: jnp.sum(a, 0) + b, lambda a, b: jnp.cumsum(a, 1) / 4,
    lambda a, b: jnp.sin(a) * jnp.cos(b), lambda a, b: jax.scipy.special.erf(a), lambda a, b: a.at[1, 2].set(b[0, 0]),
    lambda a, b: a @ (b.T @ a) / 9, lambda a, b: jnp.abs(a) ** 1.5, lambda a, b: jax.nn.softplus(a) - b,
    lambda a, b: jnp.concatenate([a[1:], b[:1]]), lambda a, b: jnp.take(a, jnp.array([2, 0, 0]), axis=0),
    lambda a, b: jax.scipy.special.gammaln(1 + a**2), lambda a, b: jnp.mean(a) * b,
    lambda a, b: jax.nn.logsumexp(a) - b,
    lambda a, b: lax.fori_loop(0, 3, lambda i, c: 0.5 * (c + b), a), lambda a, b: jnp.clip(a, -0.5, 0.7),
    lambda a, b: jnp.where(a > 0, jnp.log(jnp.where(a > 0, a, 1.0)), b), lambda a, b: jnp.arctan2(a, 1 + b**2),
    lambda a, b: lax.scan(lambda c, r: (0.5 * c + r, c), b[0], a)[1], lambda a, b: jnp.floor(a) - jnp.sign(b),
    lambda a, b: lax.cond(a[0, 0] > 0, lambda v: -v, jnp.square, b), lambda a, b: jnp.sort(a, 1),
    lambda a, b: jnp.linalg.solve(jnp.eye(3) + a @ a.T, b), lambda a, b: (a.astype(int) % 3).astype(a.dtype) + b,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=14))
def test_random_programs(dtype, steps):
    def program(x):
        made = [x, 0.5 - x[::-1]]
        for step, i, j in steps:
            made.append(step(made[-1 - i % len(made)], made[-1 - j % len(made)]).astype(dtype))
        return jnp.sum(made[-1] * made[-2]), made[-1]

    x = jnp.asarray(np.random.default_rng(len(steps)).normal(size=(3, 4)), dtype)
    rtol, atol = (1e-9, 1e-9) if dtype == "float64" else (5e-3, 5e-3)
    known(check(jax.value_and_grad(program, has_aux=True), x, rtol=rtol, atol=atol))


def test_primitives_with_several_results_of_one_operand():
    plan = known(check(lambda x: lax.optimization_barrier(x) + 1, jnp.arange(3.0)))
    np.testing.assert_array_equal(plan(np.arange(3.0))[0], [1.0, 2.0, 3.0])
    known(check(lambda x, y: lax.optimization_barrier((x, y)), jnp.arange(3.0), jnp.asarray(2.0)))
