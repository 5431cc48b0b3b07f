"""Long sums are taken in blocks where each term is of its own row alone, and whole where it is not, or may not be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._util import chunks
from migrax._util.rowwise import is_rowwise

N = 40_003  # in blocks the last one is not full
X = jnp.asarray(np.random.default_rng(0).uniform(0.1, 5.0, N))
XY = jnp.stack([X, X[::-1]], axis=1)
WIDTHS = jnp.linspace(0.5, 1.5, N)
TABLE = jnp.linspace(0.0, 1.0, 11) ** 2
P = {"m": jnp.array(2.0), "s": jnp.array(1.5), "v": jnp.array([0.3, 0.7])}

dists = mx.distributions

ROWWISE = {
    "formula": (lambda p, x: -0.5 * ((x - p["m"]) / p["s"]) ** 2, X),
    "a choice": (lambda p, x: jnp.where(x > p["m"], x * p["s"], -x), X),
    "a mixture": (
        lambda p, x: dists.Mixture(
            [dists.TruncatedNormal(p["m"], p["s"], 0.0, 5.0), dists.Exponential(p["s"], 0.0, 5.0)], fractions=[0.3]
        ).log_prob(x),
        X,
    ),
    "columns": (lambda p, x: p["m"] * x[:, 0] + jnp.sin(x[:, 1]), XY),
    "a matrix product": (lambda p, x: x @ p["v"], XY),
    "a reduction of a row": (lambda p, x: jax.nn.logsumexp(x * p["v"], axis=1), XY),
    "grid": (lambda p, x: jnp.sum(jnp.exp(-((x[:, None] - p["v"]) ** 2)), axis=1), X),
    "interpolation": (lambda p, x: jnp.interp(x, jnp.linspace(0.0, 5.0, 11), p["m"] * TABLE), X),
    "a table": (lambda p, x: TABLE[x.astype(int)] * p["m"], X),
    "vmap": (lambda p, x: jax.vmap(lambda z: jnp.log(z * p["m"]))(x), X),
    "a product of densities": (
        lambda p, x: dists.Product([dists.Normal(p["m"], 1.0), dists.Normal(0.0, p["s"])]).log_prob(x),
        XY,
    ),
    "steps": (lambda p, x: jax.lax.fori_loop(0, 3, lambda i, y: y * p["m"], x), X),
    "as many steps as a parameter says": (
        lambda p, x: jax.lax.while_loop(lambda c: c[0] < p["s"], lambda c: (c[0] + 1.0, jnp.sin(c[1])), (0.0, x))[1],
        X,
    ),
    "a branch": (lambda p, x: jax.lax.cond(p["m"] > 1.0, lambda: x * p["m"], lambda: -x), X),
    "constant": (lambda p, x: jnp.broadcast_to(p["m"], x.shape), X),
}
MIXED = {
    "mean of the data": (lambda p, x: x - jnp.mean(x) * p["m"], X),
    "arrays as long as the data": (lambda p, x: ((x - p["m"]) / WIDTHS) ** 2, X),
    "the place of a row": (lambda p, x: x * jnp.arange(x.shape[0]) * p["m"], X),
    "order": (lambda p, x: jnp.sort(x) * p["m"], X),
    "sum so far": (lambda p, x: jnp.cumsum(x) * p["m"], X),
    "neighbours": (lambda p, x: jnp.roll(x, 1) * p["m"], X),
    "reversed": (lambda p, x: x[::-1] * p["m"], X),
    "rows of an array as long": (lambda p, x: WIDTHS[jnp.arange(x.shape[0])] * x, X),
    "until all rows are done": (lambda p, x: jax.lax.while_loop(lambda y: jnp.any(y > 1), lambda y: y / 2, x), X),
    "a scan over rows": (lambda p, x: jax.lax.scan(lambda c, y: (c + y, c * p["m"]), 0.0, x)[1], X),
    "the number of rows": (lambda p, x: x * p["m"] + p["s"] / x.shape[0], X),
    "the number of rows in a loop": (lambda p, x: x * jax.lax.fori_loop(0, 2, lambda i, c: c / len(x), p["m"]), X),
    "as many steps as rows": (lambda p, x: x * jax.lax.fori_loop(0, len(x), lambda i, c: c + 1e-6, p["m"]), X),
    "the largest place": (lambda p, x: x * p["m"] + jnp.max(jnp.arange(x.shape[0])), X),
    "random numbers": (lambda p, x: x * p["m"] + jax.random.normal(jax.random.key(0), x.shape), X),
    "a grid as long": (
        lambda p, x: jnp.interp(x, jnp.linspace(0.0, 5.0, len(x)), p["m"] * jnp.linspace(0.0, 1.0, len(x))),
        X,
    ),
    "a choice by their number": (lambda p, x: x * p["m"] if len(x) == N else x * p["s"], X),
    "zeros as long as the data": (lambda p, x: x * p["m"] + jnp.zeros(N), X),
    "a print": (lambda p, x: (jax.debug.callback(lambda m: None, p["m"]), x * p["m"])[1], X),
    "a choice by the data": (
        lambda p, x: jax.lax.cond(x[0] > 1.0, lambda: x * p["m"], lambda: x * p["s"]),
        X,
    ),
}


@pytest.mark.parametrize("name", ROWWISE)
def test_what_is_of_its_own_row(name):
    fn, rows = ROWWISE[name]
    assert is_rowwise(fn, P, rows, chunks._BLOCK)


@pytest.mark.parametrize("name", MIXED)
def test_what_is_not(name):
    fn, rows = MIXED[name]
    assert not is_rowwise(fn, P, rows, chunks._BLOCK)


@pytest.mark.grid
@pytest.mark.parametrize("name", [*ROWWISE, *MIXED])
def test_sums_are_the_same(name):
    fn, rows = (ROWWISE | MIXED)[name]
    total = lambda p: mx.chunked_sum(fn, p, rows, chunk_size=None)  # noqa: E731
    whole = lambda p: jnp.sum(fn(p, rows))  # noqa: E731
    blocks = f"length={-(-N // chunks._BLOCK)}\n" in str(jax.make_jaxpr(total)(P))
    assert blocks == (name in ROWWISE)
    reverse = name not in ("until all rows are done", "as many steps as a parameter says")  # JAX has no reverse mode
    for derive in (lambda f: f, jax.grad, jax.hessian) if reverse else (lambda f: f,):
        mine, theirs = (jax.tree.leaves(jax.jit(derive(f))(P)) for f in (total, whole))
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-9 * N)


def test_few_rows_are_taken_at_once():
    total = lambda p: mx.chunked_sum(ROWWISE["formula"][0], p, X[: chunks._MANY - 1], chunk_size=None)  # noqa: E731
    assert "scan" not in str(jax.make_jaxpr(total)(P))
    assert "scan" in str(jax.make_jaxpr(lambda p: mx.chunked_sum(ROWWISE["formula"][0], p, X, chunk_size=None))(P))


def test_what_is_infinite_or_nan_is_not_finite():
    """NaN for what is infinite in a row that two blocks hold."""
    fn = lambda p, x: p["m"] * jnp.log(x)  # noqa: E731
    total = jax.jit(lambda x: mx.chunked_sum(fn, P, x, chunk_size=None))
    for place in (0, N - 1, N // 2):
        assert total(X.at[place].set(0.0)) == -jnp.inf
        assert jnp.isnan(total(X.at[place].set(-1.0)))
    assert not jnp.isfinite(total(X.at[N - chunks._BLOCK + 1].set(0.0)))
    assert jnp.isnan(total(X.at[N - chunks._BLOCK + 1].set(-1.0)))


def test_a_fit_of_many_events():
    """Beside that of all events at once, weighted and masked, too."""
    rng = np.random.default_rng(1)
    x, weight, mask = rng.normal(2.0, 1.0, N), rng.uniform(0.5, 1.5, N), rng.uniform(size=N) < 0.9
    params = {"m": mx.Parameter(1.5), "s": mx.Parameter(1.5, lower=0.1)}
    nll = mx.UnbinnedNLL(lambda p, x: dists.Normal(p["m"], p["s"]).log_prob(x))
    for data in (x, mx.Events(x, weight), mx.Events(x, mask=mask)):
        result = mx.fit(nll, params, data)
        w = np.ones(N) if data is x else weight if data.weight is not None else mask.astype(float)
        mean = np.sum(w * x) / np.sum(w)
        sigma = np.sqrt(np.sum(w * (x - mean) ** 2) / np.sum(w))
        assert result.valid
        np.testing.assert_allclose(result.values, [mean, sigma], rtol=1e-9)
