"""MINOS on ten models of 2 to 50 parameters beside iminuit: within its tolerance, and nearer to the root."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from iminuit import Minuit

import migrax as mx

RNG = np.random.default_rng(11)
T = jnp.linspace(0.0, 1.0, 60)


def _bumps(p, d):
    """Many yields over templates, Poisson counts."""
    centers = jnp.linspace(0.0, 1.0, p["y"].size)
    templates = jnp.exp(-0.5 * ((T[:, None] - centers) / (0.5 / p["y"].size)) ** 2)
    mu = templates @ p["y"] + 2.0
    return jnp.sum(mu - d * jnp.log(mu))


def _systematics(p, d):
    """A signal strength, and nuisance parameters that bend a background."""
    k = jnp.arange(p["nu"].size)
    shapes = 0.05 * jnp.sin((k[:, None] + 1) * jnp.pi * T / 7 + k[:, None])
    mu = p["mu"] * 20 * jnp.exp(-0.5 * ((T - 0.5) / 0.08) ** 2) + 60 * jnp.exp(p["nu"] @ shapes - T)
    return jnp.sum(mu - d * jnp.log(mu)) + 0.5 * jnp.sum(p["nu"] ** 2)


def _exponential(p, x):
    return jnp.sum(x / p["tau"] + jnp.log(p["tau"])) + p["n"] - x.size * jnp.log(p["n"])


def _normal(p, x):
    return jnp.sum(0.5 * ((x - p["mu"]) / p["s"]) ** 2 + jnp.log(p["s"]))


def _gamma(p, x):
    k, r = p["k"], p["r"]
    return jnp.sum(jax.lax.lgamma(k) - k * jnp.log(r) - (k - 1) * jnp.log(x) + r * x)


def _logistic(p, d):
    z = p["c"] + d["x"] @ p["w"]
    return jnp.sum(jnp.logaddexp(0.0, z) - d["y"] * z)


def _decay(p, d):
    f = p["a"] * jnp.exp(-p["b"] * T) + p["c"]
    return 0.5 * jnp.sum(((d - f) / 0.1) ** 2)


def _peak(p, d):
    mu = p["s"] * jnp.exp(-0.5 * ((T - p["m"]) / p["w"]) ** 2) + p["b"]
    return jnp.sum(mu - d * jnp.log(mu))


def _poisson(mu):
    return jnp.asarray(RNG.poisson(np.asarray(mu)), float)


_X = jnp.asarray(RNG.normal(size=(80, 4)))
MODELS = {
    "exponential": (_exponential, {"n": 20.0, "tau": 1.5}, jnp.asarray(RNG.exponential(2.0, size=25))),
    "normal": (_normal, {"mu": 0.0, "s": 2.0}, jnp.asarray(RNG.normal(size=12))),
    "gamma": (_gamma, {"k": 2.0, "r": 1.0}, jnp.asarray(RNG.gamma(3.0, 0.5, size=40))),
    "decay": (
        _decay,
        {"a": 2.0, "b": 3.0, "c": 0.5},
        2 * jnp.exp(-3 * T) + 0.5 + 0.1 * jnp.asarray(RNG.normal(size=60)),
    ),
    "peak": (
        _peak,
        {"s": 20.0, "m": 0.5, "w": 0.1, "b": 3.0},
        _poisson(20 * np.exp(-0.5 * ((np.asarray(T) - 0.4) / 0.08) ** 2) + 3),
    ),
    "logistic": (_logistic, {"c": 0.0, "w": jnp.zeros(4)}, {"x": _X, "y": jnp.asarray(RNG.integers(0, 2, 80), float)}),
    "10 yields": (_bumps, {"y": jnp.full(10, 8.0)}, _poisson(np.full(60, 12.0))),
    "10 systematics": (_systematics, {"mu": 1.0, "nu": jnp.zeros(10)}, _poisson(60 * np.exp(-np.asarray(T)))),
    "25 yields": (_bumps, {"y": jnp.full(25, 20.0)}, _poisson(np.full(60, 30.0))),
    "50 parameters": (_systematics, {"mu": 1.0, "nu": jnp.zeros(49)}, _poisson(70 * np.exp(-np.asarray(T)))),
}


@functools.cache
def fitted(name):
    nll, start, data = MODELS[name]
    result = mx.fit(nll, start, data)
    return result, mx.minos(nll, result, data)


@pytest.mark.grid
@pytest.mark.parametrize("name", MODELS)
def test_beside_iminuit(name):
    nll, start, data = MODELS[name]
    result, minos = fitted(name)
    assert bool(result.valid)
    assert np.all(minos.valid)
    flat, unravel = jax.flatten_util.ravel_pytree(start)
    value = jax.jit(lambda x: nll(unravel(x), data))
    # from the minimum: iminuit's own way there ends elsewhere for some of these
    m = Minuit(value, np.asarray(result.values), grad=jax.jit(jax.grad(value)))
    m.errordef, m.strategy, m.tol = 0.5, 2, 1e-3
    m.migrad()
    which = range(min(flat.size, 4))
    m.minos(*(m.parameters[i] for i in which))
    theirs = np.array([[m.merrors[i].lower, m.merrors[i].upper] for i in which])
    ours = np.stack([minos.lower, minos.upper], axis=1)[: len(which)]
    np.testing.assert_allclose(ours, theirs, rtol=3e-3)

    least = float(value(result.values))
    points = jnp.concatenate([minos.lower_points, minos.upper_points])
    off = np.abs(np.asarray(jax.vmap(value)(points)) - least - 0.5)
    slope = np.abs(np.asarray(jax.vmap(jax.grad(value))(points)) * np.asarray(result.errors))
    # off the crossing, and off the minimum of the other parameters
    assert off.max() < 1e-9 + 1e-13 * abs(least)
    assert np.sort(slope, axis=1)[:, :-1].max() < 1e-4
    their_off = [_off(value, m, i, side, float(m.fval), len(flat)) for i in which for side in (0, 1)]
    assert off.max() < max(their_off) + 1e-9


def _off(value, m, i, side, least, n):
    """How far iminuit's crossing is from a rise by UP, the other parameters minimised once more at its value."""
    held = m.values[i] + (m.merrors[i].lower, m.merrors[i].upper)[side]
    again = Minuit(value, np.asarray(m.values), grad=jax.jit(jax.grad(value)))
    again.errordef, again.tol = 0.5, 1e-4
    again.values[i], again.fixed[i] = held, True
    again.migrad()
    return abs(again.fval - least - 0.5)


def decays(edges):
    width = np.diff(edges)

    def expected(p):
        decayed = -jnp.exp(-edges[:-1] / p["lifetime"]) * jnp.expm1(-width / p["lifetime"])
        return p["decays"] * decayed + p["background"] * width / 10.0

    return expected


@pytest.mark.slow
def test_a_likelihood_that_levels_off_has_no_crossing_far_out():
    """The longer the lifetime, the more decays outside the range, and the likelihood rises no further than that of a
    flat line, 14.845 above the minimum. Its slopes there are tiny, and are no sign of a minimum of the others."""
    expected = decays(np.linspace(0.0, 10.0, 26))
    truth = {"decays": 25.0, "lifetime": 1.5, "background": 20.0}
    counts = np.random.default_rng(12).poisson(expected(truth)).astype(float)
    nll = mx.PoissonNLL(expected)
    start = {name: mx.Parameter(value, lower=0.1 * (name == "lifetime")) for name, value in truth.items()}
    result = mx.fit(nll, start, counts)
    ceiling = 2 * (nll({"decays": 0.0, "lifetime": 1.0, "background": counts.sum()}, counts) - result.nll)
    assert 9 < ceiling < 16
    assert mx.minos(nll, result, counts, "decays", cl=4.0)["decays"].upper_status == mx.Side.FAILED
    far = mx.profile(nll, result, counts, "decays", np.array([1e5, 1e7, 5e7]))
    assert bool(jnp.all(far.valid))
    np.testing.assert_allclose(far.rise, ceiling, rtol=1e-3)
    assert bool(jnp.all(jnp.diff(far.rise) > 0))
    assert bool(jnp.all(far.rise < ceiling))
