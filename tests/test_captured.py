"""What a function sees beside its arguments: a direct call sees it as it is now. Means are the closed forms."""

import functools
import gc
import types
import warnings
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._util import jit
from migrax._util.captured import Captured

A, B = np.array([1.0, 2.0, 6.0]), np.array([7.0, 8.0, 12.0])  # means 3 and 9
START = {"mu": mx.Parameter(0.0)}
x = A


def half_square(mu, data):
    return 0.5 * jnp.sum((data - mu) ** 2)


def of_global(p, _):
    return half_square(p["mu"], x)


def helper(mu):
    return half_square(mu, x)


def by_helper(p, _):
    return helper(p["mu"])


@jax.jit
def jitted(p, _):
    return half_square(p["mu"], x)


class Config:
    data = A


def of_class(p, _):
    return half_square(p["mu"], Config.data)


class Holder:
    def __init__(self):
        self.data = A

    def __call__(self, p, _):
        return half_square(p["mu"], self.data)

    def method(self, p, _):
        return half_square(p["mu"], self.data)


class Slotted:
    __slots__ = ("data",)

    def __init__(self, data):
        self.data = data


def _of_global(function):
    def change(new):
        global x
        x = new

    change(A)
    return function, change


def _of_closure():
    data = A

    def change(new):
        nonlocal data
        data = new

    return (lambda p, _: half_square(p["mu"], data)), change


def _of_holder(take):
    holder = Holder()
    return take(holder), functools.partial(setattr, holder, "data")


def _of_slots():
    holder = Slotted(A)
    return (lambda p, _: half_square(p["mu"], holder.data)), functools.partial(setattr, holder, "data")


def _of_namespace():
    space = types.SimpleNamespace(inner={"data": [A]})
    return (lambda p, _: half_square(p["mu"], space.inner["data"][0])), lambda new: space.inner.update(data=[new])


def _of_class():
    Config.data = A
    return of_class, functools.partial(setattr, Config, "data")


def _in_place():
    data = A.copy()

    def change(new):
        data[:] = new

    return (lambda p, _: half_square(p["mu"], data)), change


def _of_list():
    data = list(A)
    return (lambda p, _: half_square(p["mu"], jnp.asarray(data))), lambda new: data.__setitem__(slice(None), list(new))


def _of_default():
    def nll(p, _, data=A):
        return half_square(p["mu"], data)

    return nll, lambda new: setattr(nll, "__defaults__", (new,))


def _of_decorated():
    nll, change = _of_closure()
    return functools.wraps(nll)(lambda *args: nll(*args)), change


def _in(make):
    """Inside of a likelihood of migrax."""
    holder = Holder()
    return make(lambda: holder.data), functools.partial(setattr, holder, "data")


def _vmapped():
    holder = Holder()
    terms = jax.vmap(lambda i, mu: 0.5 * (jnp.asarray(holder.data)[i] - mu) ** 2, in_axes=(0, None))
    return (lambda p, _: jnp.sum(terms(jnp.arange(3), p["mu"]))), functools.partial(setattr, holder, "data")


KINDS = {
    "global": lambda: _of_global(of_global),
    "helper": lambda: _of_global(by_helper),
    "jitted by the user": lambda: _of_global(jitted),
    "closure": _of_closure,
    "bound method": lambda: _of_holder(lambda h: h.method),
    "callable": lambda: _of_holder(lambda h: h),
    "partial": lambda: _of_holder(lambda h: functools.partial(h.method)),
    "attribute": lambda: _of_holder(lambda h: lambda p, _: half_square(p["mu"], h.data)),
    "slots": _of_slots,
    "namespace": _of_namespace,
    "class": _of_class,
    "in place": _in_place,
    "list": _of_list,
    "default": _of_default,
    "decorated": _of_decorated,
    "vmap": _vmapped,
    "Likelihood": lambda: _in(lambda get: mx.Likelihood(lambda p, _: half_square(p["mu"], get()))),
    "Joint": lambda: _in(lambda get: mx.Joint({"a": mx.Likelihood(lambda p, _: half_square(p["mu"], get()))})),
}


# each kind compiles a likelihood of its own: that is what is tested
@pytest.mark.grid
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_sees_other_data(kind):
    nll, change = KINDS[kind]()
    data = {"a": None} if kind == "Joint" else None
    for new in (A, B, jnp.asarray(A), jnp.asarray(B), B + 1):
        change(new)
        np.testing.assert_allclose(mx.fit(nll, START, data).values, [np.mean(new)], rtol=1e-12)


def test_bin_edges_and_functions_of_likelihoods():
    edges = np.array([-1.0, 0.0, 1.0])
    shape = lambda p: p["n"] * jnp.diff(edges)  # noqa: E731
    nll, start, counts = mx.PoissonNLL(shape), {"n": mx.Parameter(1.0)}, jnp.array([30.0, 50.0])
    np.testing.assert_allclose(mx.fit(nll, start, counts).values, [40.0], rtol=1e-9)
    edges *= 2
    np.testing.assert_allclose(mx.fit(nll, start, counts).values, [20.0], rtol=1e-9)
    width = [1.0]
    density = mx.UnbinnedNLL(lambda p, x: mx.distributions.Normal(p["mu"], width[0]).log_prob(x))
    data = jnp.asarray(A)
    np.testing.assert_allclose(mx.fit(density, START, data).errors, [1 / np.sqrt(3)], rtol=1e-9)
    width[0] = 2.0
    np.testing.assert_allclose(mx.fit(density, START, data).errors, [2 / np.sqrt(3)], rtol=1e-9)


def test_every_door_sees_other_data():
    """The scale of the likelihood is in the closure, so that all these change with it."""
    scale = [1.0]

    def nll(p, _):
        return 0.5 * scale[0] * jnp.sum((p["mu"] - A) ** 2)

    def found():
        result = mx.fit(nll, START)
        minos = mx.minos(nll, result)
        profile = mx.profile(nll, result, None, "mu", jnp.array([4.0]))
        scan = mx.scan(nll, result, None, "mu", jnp.array([4.0]))
        m = mx.Minuit(nll, START)
        m.migrad()
        m.values["mu"] = 4.0
        m.hesse()
        return {
            "fit": result.errors[0],
            "hesse": mx.hesse(nll, START).errors[0],
            "minos": minos.upper[0],
            "profile": 1 / np.sqrt(2 * float(profile.nll[0] - result.nll)),
            "scan": 1 / np.sqrt(2 * float(scan.nll[0] - result.nll)),
            "toys": mx.fit_toys(nll, START, jnp.zeros((3, 1))).errors[2, 0],
            "Minuit": m.errors["mu"],
        }

    for scale[0] in (1.0, 4.0, 1.0):
        for door, error in found().items():
            np.testing.assert_allclose(error, 1 / np.sqrt(3 * scale[0]), rtol=1e-6, err_msg=door)


def test_limits_and_tests_see_other_data():
    background = np.array([50.0])
    likelihood = mx.PoissonNLL(lambda p: p["s"] + background)
    start, data = {"s": mx.Parameter(1.0, lower=0.0)}, jnp.array([60.0])
    for background[0] in (50.0, 60.0, 30.0):
        found = mx.discovery(likelihood, start, data, "s")
        b = background[0]  # q0 = 2 (n log(n/b) - (n - b)), Cowan et al. (2011), eq. 97
        np.testing.assert_allclose(found.significance, np.sqrt(2 * (60 * np.log(60 / b) - 60 + b)), atol=1e-6)


def test_nothing_is_traced_twice_without_a_change():
    other = np.array([1.0])

    @eqx.debug.assert_max_traces(max_traces=1)
    def nll(p, _):
        return half_square(p["mu"], A * other)

    for start in (0.0, 1.0, 2.0):
        np.testing.assert_allclose(mx.fit(nll, {"mu": mx.Parameter(start)}).values, [3.0])
    other[0] = 3.0
    with pytest.raises(RuntimeError, match="traced"):
        mx.fit(nll, START)
    other[0] = 1.0  # the first program is still there
    np.testing.assert_allclose(mx.fit(nll, START).values, [3.0])


def test_what_a_function_writes_itself_is_no_change():
    count, seen, memory = 0, [], {}

    def nll(p, _):
        nonlocal count
        count += 1
        seen.append(p["mu"].shape)
        if "data" not in memory:
            memory["data"] = A
        return half_square(p["mu"], memory["data"])

    for _ in range(3):
        mx.fit(nll, START)
        mx.hesse(nll, START)
    assert count == len(seen) == 1  # fit and hesse share it
    memory["data"] = B
    np.testing.assert_allclose(mx.fit(nll, START).values, [9.0])


def test_programs_of_old_data_are_dropped(monkeypatch):
    monkeypatch.setattr(jit, "_BYTES", 100)
    door = jit.jit(lambda nll, p: nll(p))
    kept = []
    for i in range(4):
        data = np.full(10, float(i))
        nll = lambda p, data=data: jnp.sum(p + data)  # noqa: E731
        assert float(door(nll, jnp.asarray(0.0))) == 10 * i
        kept.append(weakref.ref(nll))
    del nll
    gc.collect()
    assert [r() is None for r in kept] == [True, True, True, False]


def test_inside_of_the_users_own_jit_it_is_the_rule_of_jax():
    data = A

    def nll(p, _):
        return half_square(p["mu"], data)

    inside = jax.jit(lambda start: mx.fit(nll, {"mu": start}).values)
    np.testing.assert_allclose(inside(0.0), [3.0])
    data = B
    np.testing.assert_allclose(inside(0.0), [3.0])
    np.testing.assert_allclose(jax.jit(lambda start: mx.fit(nll, {"mu": start}).values)(0.0), [9.0])


def test_a_store_is_of_one_content(tmp_path):
    data = [A]

    def nll(p, d):
        return half_square(p["mu"], data[0]) + half_square(p["mu"], d)

    toys = jnp.zeros((3, 1))
    first = mx.fit_toys(nll, START, toys, store=tmp_path / "s").values
    np.testing.assert_allclose(mx.fit_toys(nll, START, toys, store=tmp_path / "s").values, first)
    data[0] = B
    with pytest.raises(ValueError, match="another problem"):
        mx.fit_toys(nll, START, toys, store=tmp_path / "s")
    np.testing.assert_allclose(mx.fit_toys(nll, START, toys).values, np.full((3, 1), 27 / 4))


def _seen(*roots):
    return Captured(roots).without(frozenset())


def test_one_element_is_enough_and_equal_content_is_equal():
    data = np.zeros(100_000)
    f = lambda: data  # noqa: E731
    before = _seen(f)
    data[77_777] = 5e-324
    assert _seen(f) != before
    data[77_777] = 0.0
    assert _seen(f) == before
    data = np.zeros(100_000)
    assert _seen(f) == before
    data = jnp.zeros(100_000)
    assert _seen(f) == _seen(f) != before
    for different in ([0.0], [-0.0], [0], [False], (0.0,), {"a": 0.0}, {"b": 0.0}, None, np.nan, np.float32(0), "a"):
        data = different
        assert _seen(f) == _seen(f) != before
        before = _seen(f)


def test_what_cannot_be_seen_is_said():
    class Opaque:
        __slots__ = ()

        def __call__(self, mu):
            return 3.0 * mu

    del Opaque.__slots__  # as a type of an extension: no __dict__, and nothing says what there is
    opaque = Opaque()
    nll = lambda p, _: half_square(opaque(p["mu"]), A)  # noqa: E731
    with pytest.warns(UserWarning, match=r"Opaque, whose contents cannot be checked.*Give what may change as data"):
        mx.fit(nll, START)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mx.fit(nll, START)


def test_what_holds_nothing_else_is_no_mystery():
    """Containers without attributes, and objects of Python's that say by empty slots that they hold nothing."""

    class Marker:
        __slots__ = ()

    table, marker = types.MappingProxyType({"scale": 2.0}), Marker()

    def read():
        return table["scale"], marker

    assert Captured([read]).opaque == set()
