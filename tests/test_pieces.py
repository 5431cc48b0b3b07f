"""Many names as labels: what is cut into pieces and joined again is an indexing, and small arrays are packed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun

import migrax as mx
from migrax._fit.objective import check_up, objective
from migrax._fit.traced import traced
from migrax._likelihoods.base import as_likelihood
from migrax._util.jaxprs import all_equations
from migrax._util.packing import Packed, pack, unpack
from migrax._util.pieces import joins_pieces, packed, packing_for, rejoined

N = 70
X = jnp.asarray(np.random.default_rng(0).normal(size=N))


def cut(x):
    return [piece.reshape(()) for piece in lax.split(x, [1] * x.size)]


def in_two(x):
    return [*lax.split(x, [N - 3, 3])]


JOINS = {
    "stack": lambda x: jnp.stack(cut(x)),
    "array": lambda x: jnp.array(cut(x)),
    "concatenate": lambda x: jnp.concatenate([piece[None] for piece in cut(x)]),
    "hstack": lambda x: jnp.hstack(cut(x)),
    "backwards": lambda x: jnp.stack(cut(x)[::-1]),
    "every third": lambda x: jnp.stack(cut(x)[::3] + cut(x)[1::3]),
    "twice": lambda x: jnp.stack(cut(x) + cut(x)[5:10]),
    "beside single ones": lambda x: jnp.stack(cut(x)[2:]) * cut(x)[0] + cut(x)[1],
    "jitted": lambda x: jax.jit(lambda *pieces: jnp.stack(pieces))(*cut(x)),
    "jitted inside": lambda x: jax.jit(lambda x: jnp.stack(cut(x)))(x),
    "jitted twice": lambda x: jnp.stack([jax.jit(lambda a: a.reshape(1))(piece) for piece in cut(x)]),
    "a matrix": lambda x: jnp.stack([jnp.stack(cut(x)[:35]), jnp.stack(cut(x)[35:])]).T,
    "columns": lambda x: jnp.concatenate([piece[None, None] for piece in cut(x)], axis=1),
    "of two lengths": lambda x: jnp.concatenate([*(p[None] for p in cut(in_two(x)[0])), in_two(x)[1]]),
    "of what is computed": lambda x: jnp.stack(cut(jnp.exp(x)) + cut(x)),
    "with a number": lambda x: jnp.stack([*cut(x), jnp.asarray(2.0)]),
    "with numbers": lambda x: jnp.stack([2.0 if i % 2 else piece for i, piece in enumerate(cut(x))]),
    "changed in between": lambda x: jnp.stack([2 * piece for piece in cut(x)]),
    "as float32": lambda x: jnp.stack([piece.astype(jnp.float32) for piece in cut(x)]).astype(float),
    "in a loop": lambda x: lax.fori_loop(0, 3, lambda i, y: jnp.sin(jnp.stack(cut(y))), x),
    "few": lambda x: jnp.stack(cut(x)[:10]),
    "sliced": lambda x: jnp.stack([x[i] for i in range(N)]),
}
CHEAP = set(JOINS) - {"with numbers", "changed in between", "as float32", "few", "sliced", "in a loop"}


@pytest.mark.parametrize("name", JOINS)
def test_the_same_function(name):
    def fn(x, scale):
        return jnp.sum(jnp.sin(JOINS[name](x)) ** 2 * scale["a"])

    scale = {"a": jnp.asarray(1.5)}
    new = rejoined(fn, X, scale)
    for derivative in (lambda f: f, jax.grad, jax.hessian, lambda f: jax.grad(f, argnums=1)):
        expected = jax.tree.leaves(derivative(fn)(X, scale))[0]
        np.testing.assert_allclose(jax.tree.leaves(derivative(new)(X, scale))[0], expected, rtol=1e-14, atol=1e-14)
    lanes = jnp.stack([X, 2 * X])
    np.testing.assert_allclose(
        jax.vmap(new, (0, None))(lanes, scale), jax.vmap(fn, (0, None))(lanes, scale), rtol=1e-14
    )
    if name in CHEAP:
        assert len(list(all_equations(jax.make_jaxpr(new)(X, scale).jaxpr))) < 30


def test_pieces_of_packed_arrays():
    """Inputs that are needed alone, together, and not at all, of two dtypes."""
    arrays = [jnp.asarray(float(i)) for i in range(60)] + [jnp.arange(i, i + 2) for i in range(40)] + [jnp.ones(100)]

    def fn(x, *arrays):
        together = jnp.stack([*arrays[:20], *arrays[30:58]])
        counts = jnp.concatenate(arrays[60:99])
        return [jnp.sum(x) * jnp.sum(together) * jnp.sum(counts) + arrays[25] * arrays[61][1], together, counts]

    x = jnp.arange(3.0)
    closed = jax.make_jaxpr(fn)(x, *arrays)
    packing = packing_for([closed], arrays)
    assert packing is not None
    vectors = packing(arrays)
    assert [v.shape for v in vectors] == [(49,), (78,)]
    for got, expected in zip(jaxpr_as_fun(packed(closed, packing))(x, *vectors), fn(x, *arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-15)


def test_pack_a_tree():
    tree = {"a": [jnp.asarray(float(i)) for i in range(70)], "b": jnp.arange(6).reshape(2, 3), "c": "text", "d": None}
    small = pack(tree)
    assert isinstance(small, Packed)
    assert len(jax.tree.leaves(small)) == 2
    assert jax.tree.structure(unpack(small)) == jax.tree.structure(tree)
    assert unpack(small)["c"] == "text"
    numbers = lambda t: [np.asarray(a) for a in jax.tree.leaves(t) if not isinstance(a, str)]  # noqa: E731
    for a, b in zip(numbers(unpack(small)), numbers(tree), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    with_key = {"key": jax.random.key(1), "a": [jnp.asarray(0.0)] * 40 + [jnp.asarray(True)] * 40}
    assert jnp.all(jax.random.key_data(unpack(pack(with_key))["key"]) == jax.random.key_data(with_key["key"]))
    few = {"a": jnp.ones(3)}
    assert pack(few) is few


BINS = 30
TABLE = jnp.asarray(np.random.default_rng(1).normal(size=(N, BINS)) * 0.1)
NAMES = [f"t{i}" for i in range(N)]  # not in the order of the tree: t10 is before t2
STARTS = np.linspace(-0.1, 0.1, N)
COUNTS = np.random.default_rng(2).poisson(100, BINS)


def by_names(p, d):
    theta = jnp.stack([p[name] for name in NAMES])
    measured = jnp.stack([d["aux"][name] for name in NAMES])
    log_mean = jnp.log(p["mu"]) + theta @ TABLE
    return jnp.sum(100 * jnp.exp(log_mean) - d["n"] * log_mean) + 0.5 * jnp.sum((theta - measured) ** 2)


def by_vector(p, d):
    return by_names(
        {"mu": p["mu"], **dict(zip(NAMES, p["t"], strict=True))},
        {"n": d["n"], "aux": dict(zip(NAMES, d["aux"], strict=True))},
    )


PARAMS = {"mu": mx.Parameter(1.0, lower=0.0), **{k: mx.Parameter(v) for k, v in zip(NAMES, STARTS, strict=True)}}
AUX = np.random.default_rng(3).normal(size=N)
DATA = {"n": COUNTS, "aux": dict(zip(NAMES, AUX, strict=True))}
VECTOR = {"mu": mx.Parameter(1.0, lower=0.0), "t": mx.Parameter(STARTS)}
VECTOR_DATA = {"n": COUNTS, "aux": AUX}


@functools.cache
def fits():
    return mx.fit(by_names, PARAMS, DATA), mx.fit(by_vector, VECTOR, VECTOR_DATA)


def order(result):
    """Positions of mu, t0, t1, ..."""
    return [result.names.index(name) for name in ("mu", *NAMES)]


def test_names_fit_as_a_vector():
    named, whole = fits()
    assert bool(named.valid)
    at = order(named)
    np.testing.assert_allclose(named.values[np.array(at)], whole.values, rtol=0, atol=1e-9)
    np.testing.assert_allclose(named.errors[np.array(at)], whole.errors, rtol=1e-9)
    assert named["t11"].value == named.values[named.names.index("t11")]


def test_other_data_of_the_same_shapes():
    """Nothing is kept of the data of an earlier fit, packed or not."""
    other = {"n": COUNTS + 7, "aux": {k: v + 0.5 for k, v in DATA["aux"].items()}}
    again = mx.fit(by_names, PARAMS, other)
    right = mx.fit(by_vector, VECTOR, {"n": COUNTS + 7, "aux": AUX + 0.5})
    np.testing.assert_allclose(again.values[np.array(order(again))], right.values, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(mx.fit(by_names, PARAMS, DATA).values, fits()[0].values)


def test_fixed_names_and_their_values():
    """The value of a fixed parameter is an input, as data are."""
    for value in (0.3, -0.2):
        fixed = PARAMS | {"t5": mx.Parameter(value, fixed=True)}
        result = mx.fit(by_names, fixed, DATA)
        mask = np.arange(N) == 5
        vector = {"mu": PARAMS["mu"], "t": mx.Parameter(np.where(mask, value, STARTS), fixed=mask)}
        right = mx.fit(by_vector, vector, VECTOR_DATA)
        np.testing.assert_allclose(result["mu"].value, right["mu"].value, rtol=1e-9)
        np.testing.assert_allclose(result["mu"].error, right["mu"].error, rtol=1e-9)


def test_in_programs():
    named, _ = fits()
    run = jax.jit(lambda params, data: mx.fit(by_names, params, data))
    jitted = run(PARAMS, DATA)
    np.testing.assert_allclose(jitted.values, named.values, rtol=0, atol=1e-7)
    np.testing.assert_allclose(jitted.errors, named.errors, rtol=1e-6)

    def value(shift):
        aux = {k: v + shift for k, v in DATA["aux"].items()}
        return mx.fit(by_names, PARAMS, {"n": COUNTS, "aux": aux}).values[named.names.index("mu")]

    def of_vector(shift):
        return mx.fit(by_vector, VECTOR, {"n": COUNTS, "aux": AUX + shift}).values[0]

    np.testing.assert_allclose(jax.grad(value)(0.0), jax.grad(of_vector)(0.0), rtol=1e-7)


def test_toys_are_those_of_a_vector():
    """Data of toys are packed once, in lanes."""
    n = 4
    shifts = np.random.default_rng(4).normal(size=(n, N))
    counts = np.random.default_rng(5).poisson(100, (n, BINS)) * 1.0
    toys = {"n": counts, "aux": {k: shifts[:, i] for i, k in enumerate(NAMES)}}
    named = mx.fit_toys(by_names, PARAMS, toys)
    whole = mx.fit_toys(by_vector, VECTOR, {"n": counts, "aux": shifts})
    assert np.all(named.valid)
    np.testing.assert_allclose(named.values[:, np.array(order(named))], whole.values, rtol=0, atol=1e-6)


def test_searches_from_the_minimum():
    """More than 64 parameters: a list of steps in place of a matrix for each lane."""
    (named, whole), at = fits(), slice(0, 1)
    for errors in (mx.minos(by_names, named, DATA, "mu"), mx.minos(by_vector, whole, VECTOR_DATA, "mu")):
        assert np.all(errors.valid)
        free = lambda mu: mx.fit(by_vector, mx.fix(VECTOR, "mu", mu), VECTOR_DATA).nll  # noqa: E731
        for side in (errors.lower[at], errors.upper[at]):
            rise = free(float(whole["mu"].value + side[0])) - whole.nll
            np.testing.assert_allclose(rise, 0.5, rtol=1e-7)
    profile = mx.profile(by_names, named, DATA, "mu", grid=[0.95, 1.05])
    for mu, nll in zip((0.95, 1.05), profile.nll, strict=True):
        np.testing.assert_allclose(nll, mx.fit(by_vector, mx.fix(VECTOR, "mu", mu), VECTOR_DATA).nll, rtol=1e-12)
    impacts = mx.impacts(by_names, named, DATA, "mu", ["t3", "t20"])
    assert np.all(impacts.valid)
    for name, up in zip(("t3", "t20"), impacts.postfit_up, strict=True):
        held = mx.fix(named.params, name, float(named[name].value + named[name].error))
        refit = mx.fit(by_names, held, DATA)
        np.testing.assert_allclose(up, refit["mu"].value - named["mu"].value, rtol=1e-5, atol=1e-9)


def equations(n):
    """How many operations the programs of a fit of `n` names have."""
    names = [f"t{i}" for i in range(n)]
    table = jnp.ones((n, BINS))

    def nll(p, d):
        theta = jnp.stack([p[name] for name in names])
        return jnp.sum((jnp.exp(p["mu"] + theta @ table) - d["n"]) ** 2) + jnp.sum((theta - jnp.stack(d["aux"])) ** 2)

    params = {"mu": mx.Parameter(1.0), **{name: mx.Parameter(0.0) for name in names}}
    inputs = as_likelihood(nll), params, {"n": jnp.zeros(BINS), "aux": [jnp.zeros(())] * n}, check_up(0.5)
    host = traced(*inputs, False)
    assert host.is_usable
    fn, theta, x, _ = objective(*inputs)
    program = jax.make_jaxpr(jax.grad(fn))(x, theta)
    assert not joins_pieces(program.jaxpr)
    return len(list(all_equations(host._closed.jaxpr))), len(list(all_equations(program.jaxpr)))


def test_programs_do_not_grow_with_the_number_of_names():
    # More than 256 parameters have a Hessian in blocks: other operations, but no more of them.
    assert equations(100) == equations(200)
    assert equations(300) == equations(600)


def test_keys_of_random_numbers_among_the_data():
    def nll(p, d):
        return 0.5 * jnp.sum((jnp.stack([p[name] for name in NAMES]) - jax.random.normal(d["key"], (N,))) ** 2)

    result = mx.fit(nll, dict.fromkeys(NAMES, 0.1), {"key": jax.random.key(0), "other": [1.0, 2.0]})
    assert bool(result.valid)
    at = np.array([result.names.index(name) for name in NAMES])
    np.testing.assert_allclose(result.values[at], jax.random.normal(jax.random.key(0), (N,)), rtol=1e-9)


def test_effects_are_kept():
    """They run, although nothing needs them."""
    seen = []

    def nll(p, d):
        jax.debug.callback(lambda a: seen.append(float(a)), p["t3"])
        return jnp.sum((jnp.stack([p[name] for name in NAMES]) - d) ** 2)

    assert bool(mx.fit(nll, dict.fromkeys(NAMES, 0.1), AUX).valid)
    jax.effects_barrier()
    assert seen


def test_empty_pieces():
    def nll(p, d):
        nothing = jnp.concatenate([jnp.atleast_1d(p[name])[:0] for name in NAMES])
        none = jnp.concatenate([d["none"][str(i)] for i in range(N)])
        rest = jnp.stack([p[name] for name in NAMES]) - d["y"]
        return jnp.sum(rest**2) + jnp.sum(nothing) + jnp.sum(none)

    data = {"y": AUX, "none": {str(i): np.zeros(0) for i in range(N)}}
    for fit in (mx.fit, jax.jit(mx.fit, static_argnums=0)):
        result = fit(nll, dict.fromkeys(NAMES, 0.1), data)
        assert bool(result.valid)
        at = np.array([result.names.index(name) for name in NAMES])
        np.testing.assert_allclose(result.values[at], AUX, rtol=1e-9)
