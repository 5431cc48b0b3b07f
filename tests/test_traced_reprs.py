"""What results show inside of `jax.jit`, and of many lanes: never an error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

SHAPE = jnp.array([1.0, 4.0, 3.0])
NLL = mx.Joint({"n": mx.PoissonNLL(lambda p: p["mu"] * SHAPE * (1 + 0.1 * p["k"])), "k": mx.NormalConstraint("k", 1.0)})
PARAMS = {"mu": mx.Parameter(5.0, lower=0.0), "k": mx.Parameter(0.0)}
DATA = {"n": jnp.array([6.0, 22.0, 16.0]), "k": jnp.array(0.0)}


@pytest.fixture(scope="module")
def result():
    return mx.fit(NLL, PARAMS, DATA)


TRACED = {
    "minos": (lambda r, d: mx.minos(NLL, r, d), "Minos(traced, names=('k', 'mu'))"),
    "profile": (lambda r, d: mx.profile(NLL, r, d, "mu", 3), "Profile(traced, along mu, shape=(3,))"),
    "contour": (lambda r, d: mx.contour(NLL, r, d, ("mu", "k"), size=8), "Contour(traced, of mu and k, shape=(8,))"),
    "impacts": (lambda r, d: mx.impacts(NLL, r, d, "mu"), "Impacts(traced, on mu, of 1 parameters)"),
    "goodness": (lambda r, d: mx.goodness_of_fit(NLL, r, d), "GoodnessOfFit(shape=())"),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", TRACED)
def test_traced(result, case):
    call, shown = TRACED[case]
    texts = []

    def inside(r, d):
        found = call(r, d)
        texts.append(repr(found))
        if hasattr(found, "_repr_html_"):
            texts.append(found._repr_html_())
        return 0

    jax.eval_shape(inside, result, DATA)
    assert texts[0] == shown
    assert shown in texts[-1]


@pytest.mark.slow
def test_many_lanes(result):
    lanes = jax.tree.map(lambda x: jnp.stack([x, x + 1.0]), DATA)
    with_one = jax.vmap(lambda d: mx.minos(NLL, mx.fit(NLL, PARAMS, d), d))(lanes)
    assert repr(with_one) == "Minos(names=('k', 'mu'), shape=(2, 2), valid=4 of 4 (100 %))"
    assert repr(with_one) in with_one._repr_html_()


def test_a_direction_of_many_parameters():
    names = [f"x{i}" for i in range(8)]
    flat = mx.fit(lambda p, _: sum(p[n] for n in names) ** 2, dict.fromkeys(names, 1.0))
    assert not bool(flat.valid)
    assert "a direction made of x" in flat.message
    assert "and 2 more" in flat.message


@pytest.mark.slow
def test_no_toy_is_worse():
    nll = mx.PoissonNLL(lambda p: p["mu"] * SHAPE)
    bad = jnp.array([90.0, 4.0, 50.0])
    result = mx.fit(nll, {"mu": 5.0}, bad)
    found = mx.goodness_of_fit(nll, result, bad, toys=50, key=jax.random.key(0))
    assert "p < 0.06 (none of 50 toys)" in repr(found)


SIGNAL = mx.PoissonNLL(lambda p: p["s"] * jnp.array([0.0, 5.0]) + jnp.array([9.0, 9.0]))
LANES = jnp.array([[9.0, 12.0], [8.0, 17.0]])
START = {"s": mx.Parameter(1.0)}


@pytest.mark.slow
def test_discoveries_and_intervals_of_many_lanes():
    found = jax.vmap(lambda d: mx.discovery(SIGNAL, START, d, "s"))(LANES)
    lines = str(found).splitlines()
    assert lines[0] == "Discovery of s: 2 tests"
    for row, z in zip(lines[4:6], found.significance, strict=True):
        assert f"{float(z):.6g}" in row
    each = jax.vmap(lambda d: mx.interval(SIGNAL, START, d, "s"))(LANES)
    assert str(each).splitlines()[0].startswith("Intervals of s at 68.27 %: 2 intervals")
    assert all(name in str(each) for name in ("Fitted", "Lower end", "Upper end"))
    one = mx.interval(SIGNAL, START, LANES[1], "s")
    np.testing.assert_allclose(each.upper[1], one.upper, rtol=1e-8)
