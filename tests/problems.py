"""A dozen problems, each a likelihood with a start and data, for tests of what every fit has to do.

Tests that take the same likelihood object share what has been traced and compiled for it.
"""

import jax
import jax.numpy as jnp
import numpy as np

import migrax as mx

RNG = np.random.default_rng(5)
EVENTS = jnp.asarray(np.concatenate([RNG.normal(1.0, 0.3, 80), RNG.exponential(2.0, 120)]))
X = np.linspace(0.0, 4.0, 9)
POINTS = mx.Points(X, 2.0 * np.exp(-0.7 * X) + 0.3 + 0.1 * np.cos(5 * X), 0.1)
COUNTS = {"main": jnp.array([21.0, 25.0, 22.0, 14.0]), "b": jnp.asarray(1.0)}


def mixture(p, d):
    signal = jnp.exp(-0.5 * ((d - p["mu"]) / p["sigma"]) ** 2) / p["sigma"] / jnp.sqrt(2 * jnp.pi)
    background = jnp.exp(-d / p["tau"]) / p["tau"]
    return -jnp.sum(jnp.log(p["f"] * signal + (1 - p["f"]) * jnp.where(d > 0, background, 1e-9)))


def expected(p):
    return p["mu"] * jnp.array([1.0, 5.0, 9.0, 2.0]) + p["b"] * jnp.array([20.0, 18.0, 15.0, 11.0])


def line(p, x):
    return p["a"] * jnp.exp(-p["k"] * x) + p["c"]


def banana(p, _):
    return 100 * (p["y"] - p["x"] ** 2) ** 2 + (1 - p["x"]) ** 2


def saddle(p, _):
    return (p["x"] ** 2 - 1) ** 2 + p["y"] ** 2


def wave(p, d):
    return 0.5 * jnp.sum((d - jnp.cos(p["phase"] + jnp.arange(6.0)) * p["amplitude"]) ** 2) / 0.04


def jump(p, d):
    return 0.5 * (p["a"] - d) ** 2 + 1.5 * jnp.abs(p["a"] - 1.0) + 0.5 * (p["b"] - p["a"]) ** 2


def vectors(p, d):
    return 0.5 * jnp.sum((p["v"] - d) ** 2) + 0.1 * jnp.sum(p["v"] ** 4) + 0.5 * (p["s"] - jnp.sum(p["v"])) ** 2


MIXTURE = {
    "mu": mx.Parameter(0.9),
    "sigma": mx.Parameter(0.4, lower=0.01),
    "tau": mx.Parameter(1.5, lower=0.1),
    "f": mx.Parameter(0.5, lower=0.0, upper=1.0),
}
JOINT = mx.Joint({"main": mx.PoissonNLL(expected), "b": mx.NormalConstraint("b", 0.1)})
LINE = mx.LeastSquares(line)
KINKED = mx.Likelihood(jump, kinks={"a": 1.0})
PROBLEMS = {
    "mixture": (mixture, MIXTURE, EVENTS),
    "joint": (JOINT, {"mu": mx.Parameter(1.0, lower=0.0, upper=10.0), "b": mx.Parameter(1.0, lower=0.0)}, COUNTS),
    "at a bound": (
        JOINT,
        {"mu": mx.Parameter(1.0, lower=0.0, upper=10.0), "b": mx.Parameter(1.0, lower=0.0)},
        COUNTS | {"main": jnp.array([21.0, 15.0, 6.0, 10.0])},
    ),
    "least squares": (
        LINE,
        {"a": mx.Parameter(1.0), "k": mx.Parameter(1.0, lower=0.0), "c": mx.Parameter(0.0)},
        POINTS,
    ),
    "banana": (banana, {"x": -1.2, "y": 1.0}, None),
    "saddle": (saddle, {"x": 0.0, "y": 0.3}, None),
    "period": (
        wave,
        {"phase": mx.Parameter(2.5, period=2 * np.pi), "amplitude": mx.Parameter(0.5, lower=0.0)},
        jnp.cos(2.9 + jnp.arange(6.0)) + 0.1,
    ),
    "kink": (KINKED, {"a": 0.3, "b": 0.0}, 1.4),
    "vectors": (
        vectors,
        {"v": mx.Parameter([0.1, 0.2, 0.3], fixed=[False, True, False], lower=-3.0), "s": mx.Parameter(0.0)},
        jnp.array([1.0, 2.0, -1.0]),
    ),
    "not finite": (lambda p, d: jnp.sum(jnp.log(p["a"]) * d), {"a": -1.0}, jnp.ones(3)),
    "flat": (lambda p, _: (p["a"] + p["b"] - 1) ** 2, {"a": 0.0, "b": 0.0}, None),
    "falls": (lambda p, _: -p["a"], {"a": 0.0}, None),
    "float32": (
        mixture,
        jax.tree.map(lambda a: a.astype(jnp.float32), MIXTURE),
        EVENTS.astype(jnp.float32),
    ),
}
