"""Limits as crossings: found with one gradient a step, and the same as by Newton's method and as pyhf's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

import migrax as mx
from migrax._host import blocks
from migrax._host.ways import forced_to
from migrax._host.xp import is_on_host
from migrax._hypotest import limit, limit_root

SIGNAL, BACKGROUND = np.array([5.0, 3.0, 1.0]), np.array([20.0, 40.0, 60.0])
NOMINAL = {"mu": mx.Parameter(1.0, lower=0.0, upper=20.0), "b": mx.Parameter(np.ones(3), lower=0.0)}


def expected(p):
    dtype = p["mu"].dtype
    return p["mu"] * SIGNAL.astype(dtype) + p["b"] * BACKGROUND.astype(dtype)


def joint():
    return mx.Joint({"counts": mx.PoissonNLL(expected), "b": mx.NormalConstraint("b", 0.1)})


NLL = joint()  # one object: its programs are shared by the tests
COUNTS = {
    "excess": [29.0, 47.0, 66.0],
    "none": [20.0, 40.0, 60.0],
    "deficit": [13.0, 33.0, 52.0],  # the fit is at the signal's bound
}
DATA = {name: {"counts": jnp.array(counts), "b": jnp.ones(3)} for name, counts in COUNTS.items()}


@pytest.fixture
def missed(monkeypatch):
    """Whether the crossings were all, or Newton's method was needed, call by call: on the host, or in programs."""
    calls = []
    roots, on_host = limit_root.roots, limit_root._roots

    def counted(curve, crossed):
        if is_on_host():
            calls.append(crossed)
        return on_host(curve, crossed)

    monkeypatch.setattr(limit_root, "roots", lambda *args: calls.append(args[1]) or roots(*args))
    monkeypatch.setattr(limit_root, "_roots", counted)
    return calls


def by_newton(monkeypatch, way):
    name = "crossings" if way == "program" else "_crossings"
    crossings = getattr(limit_root, name)
    monkeypatch.setattr(limit_root, name, lambda *a: crossings(*a)._replace(status=np.full(6, -1)))


def all_of(found):
    return np.append(found.observed, found.expected)


@pytest.mark.grid
@pytest.mark.parametrize("way", ["numpy", "program"])
@pytest.mark.parametrize("data", DATA)
def test_the_same_as_by_newton(data, way, missed, monkeypatch):
    with forced_to(way):
        found = mx.upper_limit(NLL, NOMINAL, DATA[data], "mu")
        assert found.valid
        assert not missed
        by_newton(monkeypatch, way)
        slow = mx.upper_limit(NLL, NOMINAL, DATA[data], "mu")
    assert len(missed) == 1
    np.testing.assert_allclose(all_of(found), all_of(slow), rtol=1e-9)
    # and CLs there is what it should be
    np.testing.assert_allclose(mx.hypotest(NLL, NOMINAL, DATA[data], "mu", found.observed).cls, 0.05, rtol=1e-8)
    for i in range(5):
        bands = mx.hypotest(NLL, NOMINAL, DATA[data], "mu", found.expected[i]).expected_cls
        np.testing.assert_allclose(np.sort(bands)[i], 0.05, rtol=1e-8)


def test_distances():
    """Of the alternative from the limits that are expected: roots of CCGV's eqs. 88 and 89, by SciPy."""
    for cl in (0.9, 0.95):
        for cls in (True, False):
            for band, r in zip((-2, -1, 0, 1, 2), limit.distances(cl, cls), strict=True):

                def excess(r, cl=cl, cls=cls, band=band):
                    return norm.sf(r - band) / (norm.cdf(band) if cls else 1) - (1 - cl)

                np.testing.assert_allclose(r, brentq(excess, -5, 10, xtol=1e-13), atol=1e-11)


def test_beyond_the_bound(missed):
    """Said without a fit by Newton's method, and of each limit alone."""
    low = NOMINAL | {"mu": mx.Parameter(1.0, lower=0.0, upper=2.0)}
    wide = mx.upper_limit(NLL, NOMINAL, DATA["none"], "mu")
    found = mx.upper_limit(NLL, low, DATA["none"], "mu")
    assert not missed
    beyond = all_of(wide) > 2.0
    assert 0 < beyond.sum() < 6
    status = np.append(found.status, found.expected_status)
    np.testing.assert_array_equal(status == int(mx.LimitStatus.BEYOND_BOUND), beyond)
    np.testing.assert_allclose(all_of(found), np.where(beyond, np.nan, all_of(wide)), rtol=1e-8)


def test_p_value_alone(missed):
    found = mx.upper_limit(NLL, NOMINAL, DATA["excess"], "mu", cls=False)
    assert not missed
    assert found.expected_status[0] == int(mx.LimitStatus.NONE_ALLOWED)
    np.testing.assert_allclose(mx.hypotest(NLL, NOMINAL, DATA["excess"], "mu", found.observed).p_sb, 0.05, rtol=1e-8)


@pytest.mark.slow
def test_inside_jit_and_grad():
    """The derivative by a count, against differences of the limit."""

    def both(t):
        data = DATA["excess"] | {"counts": DATA["excess"]["counts"] + t * jnp.array([1.0, 0.0, 0.0])}
        found = mx.upper_limit(NLL, NOMINAL, data, "mu")
        return jnp.append(found.observed, found.expected)

    step = 1e-3
    slopes = jax.jit(jax.jacfwd(both))(0.0)
    differences = (both(step) - both(-step)) / (2 * step)
    np.testing.assert_allclose(slopes, differences, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:migrax is made for float64:UserWarning")
def test_float32():
    with jax.enable_x64(False):
        as32 = functools.partial(jax.tree.map, lambda a: np.asarray(a, np.float32))
        # one of its own: the constraint's error is a number of float64 in the other
        found = mx.upper_limit(joint(), as32(NOMINAL), as32(DATA["excess"]), "mu")
    exact = mx.upper_limit(NLL, NOMINAL, DATA["excess"], "mu")
    assert found.valid
    np.testing.assert_allclose(all_of(found), all_of(exact), rtol=1e-3)


@pytest.mark.grid
@pytest.mark.parametrize("what", ["minos", "impacts", "profile", "contour"])
def test_blocks_are_the_same(what, monkeypatch):
    """Of lanes of a program that do not fit into the memory together."""
    result = mx.fit(NLL, NOMINAL, DATA["excess"])
    run = {
        "minos": lambda: mx.minos(NLL, result, DATA["excess"]).lower,
        "impacts": lambda: mx.impacts(NLL, result, DATA["excess"], "mu").postfit_up,
        "profile": lambda: mx.profile(NLL, result, DATA["excess"], "mu", 7).nll,
        "contour": lambda: mx.contour(NLL, result, DATA["excess"], ("mu", "b[0]"), size=12).points,
    }[what]
    with forced_to("program"):
        at_once = run()
    monkeypatch.setitem(blocks._BYTES, "cpu", 3 * blocks._COPIES * 16 * 8)  # three lanes
    mapped, lax_map = [], jax.lax.map
    monkeypatch.setattr(jax.lax, "map", lambda *args, **kwargs: mapped.append(args) or lax_map(*args, **kwargs))
    jax.clear_caches()  # the size of a block is no part of a program's key
    with forced_to("program"):
        in_blocks = run()
    jax.clear_caches()
    assert any(jax.tree.leaves(lanes)[0].shape[1] <= 3 for _, lanes in mapped)
    assert np.all(np.isfinite(at_once))
    np.testing.assert_allclose(in_blocks, at_once, rtol=1e-9)
