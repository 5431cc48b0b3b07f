"""Problems whose answer is known in closed form: the table of MINUIT's own tests, and functions without a minimum."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import migrax as mx

P = mx.Parameter
BLOCK = np.array([[4.0, 1.0, 2.0], [1.0, 5.0, 3.0], [2.0, 3.0, 6.0]])


@dataclasses.dataclass(frozen=True)
class Known:
    """A function of named parameters, its minimum, and the covariance (with UP = `up`) where it has one."""

    fn: Callable[[Any], Any]
    start: dict[str, Any]
    values: list[float]
    minimum: float
    covariance: Any = None
    up: float = 1.0
    at_limit: tuple[str, ...] = ()


def _exponential(p):
    return (p["x"] - 2) ** 2 / 4 + jnp.exp((p["y"] - 5) ** 2) + 10


def _rosenbrock(p):
    return 100 * (p["y"] - p["x"] ** 2) ** 2 + (1 - p["x"]) ** 2


def _beale(p):
    x, y = p["x"], p["y"]
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _matyas(p):
    return 0.26 * (p["x"] ** 2 + p["y"] ** 2) - 0.48 * p["x"] * p["y"]


def _three(p):
    return 0.2 * (p["x"] - 2) ** 2 + 0.1 * (p["y"] - 5) ** 2 + 0.25 * (p["z"] - 7) ** 2 + 10


def _correlated(p):
    x = jnp.stack([p["x"], p["y"]])
    return x @ jnp.linalg.solve(jnp.array([[4.0, 1.0], [1.0, 1.0]]), x)


def _poisson(k):
    return lambda p: p["l"] - k * jnp.log(p["l"])


def _quad8(p):
    block = jnp.linalg.inv(jnp.asarray(BLOCK))
    return p["a"] @ block @ p["a"] + jnp.sum(p["b"] ** 2)


def _tilted(p):
    x, y = p["x"] + 1, p["y"] - 2
    return x**2 + y**2 + 0.5 * x * y


KNOWN = {
    "exponential": Known(_exponential, {"x": 0.0, "y": 0.0}, [2, 5], 11, np.diag([4.0, 1.0])),
    "exponential, x <= 1": Known(
        _exponential, {"x": P(0.0, upper=1.0), "y": P(0.0)}, [1, 5], 11.25, np.diag([0.0, 1.0]), at_limit=("x",)
    ),
    "exponential, x >= 3 from 4": Known(
        _exponential, {"x": P(4.0, lower=3.0), "y": P(0.0)}, [3, 5], 11.25, np.diag([0.0, 1.0]), at_limit=("x",)
    ),
    "exponential, x >= 3 from the bound": Known(
        _exponential, {"x": P(3.0, lower=3.0), "y": P(0.0)}, [3, 5], 11.25, np.diag([0.0, 1.0]), at_limit=("x",)
    ),
    "exponential, x <= 4 from the bound": Known(
        _exponential, {"x": P(4.0, upper=4.0), "y": P(0.0)}, [2, 5], 11, np.diag([4.0, 1.0])
    ),
    "three": Known(_three, {"x": 0.0, "y": 0.0, "z": 0.0}, [2, 5, 7], 10, np.diag([5.0, 10.0, 4.0])),
    "correlated": Known(_correlated, {"x": 1.0, "y": 1.0}, [0, 0], 0, np.array([[4.0, 1.0], [1.0, 1.0]])),
    "poisson 10": Known(_poisson(10.0), {"l": 1.0}, [10], 10 - 10 * np.log(10), np.array([[10.0]]), up=0.5),
    "poisson 1000": Known(_poisson(1e3), {"l": 1.0}, [1e3], 1e3 - 1e3 * np.log(1e3), np.array([[1e3]]), up=0.5),
    "poisson 10, l >= 0": Known(
        _poisson(10.0), {"l": P(1.0, lower=0.0)}, [10], 10 - 10 * np.log(10), np.array([[10.0]]), up=0.5
    ),
    "rosenbrock": Known(_rosenbrock, {"x": 0.0, "y": 0.0}, [1, 1], 0, np.array([[1.0, 2.0], [2.0, 4.01]])),
    "rosenbrock -1": Known(_rosenbrock, {"x": -1.0, "y": 1.2}, [1, 1], 0, np.array([[1.0, 2.0], [2.0, 4.01]])),
    "beale": Known(_beale, {"x": 0.5, "y": 0.25}, [3, 0.5], 0),
    "matyas": Known(_matyas, {"x": 0.5, "y": 0.5}, [0, 0], 0, np.array([[26.0, 24.0], [24.0, 26.0]])),
    "matyas, x >= 1": Known(
        _matyas, {"x": P(2.5, lower=1.0), "y": P(0.5)}, [1, 12 / 13], 1 / 26, np.diag([0, 1 / 0.26]), at_limit=("x",)
    ),
    "at the upper bound": Known(
        lambda p: (p["x"] - 1.2) ** 2, {"x": P(0.5, -1.0, 1.0)}, [1], 0.04, np.array([[0.0]]), at_limit=("x",)
    ),
    "at the lower bound": Known(
        lambda p: (p["x"] + 1.2) ** 2, {"x": P(0.5, -1.0, 1.0)}, [-1], 0.04, np.array([[0.0]]), at_limit=("x",)
    ),
    "linear at a bound": Known(lambda p: p["x"], {"x": P(0.5, 0.0, 1.0)}, [0], 0, np.array([[0.0]]), at_limit=("x",)),
    "minimum on the bound": Known(lambda p: p["x"] ** 2, {"x": P(0.5, lower=0.0)}, [0], 0, at_limit=("x",)),
    "tilted, x >= 0": Known(
        _tilted, {"x": P(1.0, lower=0.0), "y": P(0.0)}, [0, 1.75], 0.9375, np.diag([0.0, 1.0]), at_limit=("x",)
    ),
    "quad8": Known(_quad8, {"a": jnp.ones(3), "b": jnp.ones(5)}, [0] * 8, 0, None),
    "far apart scales": Known(
        lambda p: 0.5 * ((p["x"] / 1e6 - 3) ** 2 + (p["y"] / 1e-6 + 2) ** 2 + p["x"] * p["y"]),
        {"x": 1.0, "y": 1.0},
        [10 / 3 * 1e6 * 1.6, 0],  # replaced below: a 2x2 linear system
        0,
        up=0.5,
    ),
}
_H = np.array([[1e-12, 0.5], [0.5, 1e12]])
_X = np.linalg.solve(_H, [3e-6, -2e6])
KNOWN["far apart scales"] = dataclasses.replace(
    KNOWN["far apart scales"], values=list(_X), minimum=6.5 - 0.5 * _X @ _H @ _X, covariance=np.linalg.inv(_H)
)


@pytest.mark.grid
@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("solver", [None, mx.Newton()], ids=["default", "Newton"])
def test_the_answer(name, solver):
    known = KNOWN[name]
    result = mx.fit(lambda p, _: known.fn(p), known.start, up=known.up, solver=solver)
    assert bool(result.valid), result.message
    limited = {n for n, flag in zip(result.names, np.asarray(result.at_limit), strict=True) if flag}
    assert limited == set(known.at_limit)
    values = np.asarray(result.values)
    if known.covariance is None:
        np.testing.assert_allclose(values, known.values, atol=1e-7)
    else:
        errors = np.sqrt(np.diagonal(known.covariance))
        np.testing.assert_allclose(values, known.values, atol=1e-12, rtol=0) if not np.any(errors) else None
        assert np.all(np.abs(values - known.values) <= 1e-6 * errors + 1e-12 * np.abs(known.values) + 1e-300)
        np.testing.assert_allclose(
            result.covariance.matrix, known.covariance, rtol=1e-5, atol=1e-9 * np.max(errors) ** 2
        )
        np.testing.assert_allclose(result.errors, errors, rtol=1e-6)
    np.testing.assert_allclose(result.nll, known.minimum, rtol=1e-10, atol=1e-10)


def test_the_covariance_of_quad8_is_the_block():
    result = mx.fit(lambda p, _: _quad8(p), KNOWN["quad8"].start, up=1.0)
    np.testing.assert_allclose(result.covariance.matrix[:3, :3], BLOCK, rtol=1e-9)
    np.testing.assert_allclose(result.covariance.matrix[3:, 3:], np.eye(5), atol=1e-9)


@pytest.mark.parametrize(("x", "error"), [(0.0, 0.5**0.5), (1.0, 14**-0.5)])
def test_hesse_away_from_the_minimum(x, error):
    covariance = mx.hesse(lambda p, _: p["x"] ** 2 + p["x"] ** 4, {"x": x})
    assert bool(covariance.valid)
    np.testing.assert_allclose(covariance.errors, [error], rtol=1e-12)


def _two_equal_gaussians(p):
    x = jnp.linspace(-3.0, 3.0, 41)
    data = jnp.exp(-0.5 * (x - 1) ** 2) + jnp.exp(-0.5 * (x + 1) ** 2)
    model = jnp.exp(-0.5 * (x - p["a"]) ** 2) + jnp.exp(-0.5 * (x - p["b"]) ** 2)
    return 50 * jnp.sum((data - model) ** 2)


S = mx.Status
# A function without a (regular) minimum, and the statuses that say so.
NEVER = {
    "constant": (lambda p: 0.0 * p["a"] + 3.0, {"a": 1.0}, {S.FLAT_DIRECTION}),
    "linear": (lambda p: p["a"], {"a": 1.0}, {S.FALLS_WITHOUT_LIMIT, S.MAX_STEPS}),
    "minus a": (lambda p: -p["a"], {"a": 1.0}, {S.FALLS_WITHOUT_LIMIT, S.MAX_STEPS}),
    "minus a squared": (lambda p: -(p["a"] ** 2), {"a": 1.0}, {S.FALLS_WITHOUT_LIMIT}),
    "minus a squared from 0": (lambda p: -(p["a"] ** 2), {"a": 0.0}, {S.FALLS_WITHOUT_LIMIT}),
    "nan": (lambda p: p["a"] * jnp.nan, {"a": 1.0}, {S.NOT_FINITE_AT_START}),
    "inf": (lambda p: p["a"] + jnp.inf, {"a": 1.0}, {S.NOT_FINITE_AT_START}),
    "nan gradient": (lambda p: jnp.sqrt(p["a"]), {"a": 0.0}, {S.NOT_FINITE_AT_START}),
    "undetermined sum": (lambda p: (p["a"] - p["b"]) ** 2, {"a": 1.0, "b": 2.0}, {S.FLAT_DIRECTION}),
    "x^4": (lambda p: p["a"] ** 4, {"a": 1.0}, {S.FLAT_DIRECTION}),
    "|x|^10 + 1e6": (lambda p: jnp.abs(p["a"]) ** 10 + 1e6, {"a": 2.0}, {S.FLAT_DIRECTION}),
    "powell": (
        lambda p: (
            (p["x"][0] + 10 * p["x"][1]) ** 2
            + 5 * (p["x"][2] - p["x"][3]) ** 2
            + (p["x"][1] - 2 * p["x"][2]) ** 4
            + 10 * (p["x"][0] - p["x"][3]) ** 4
        ),
        {"x": jnp.array([-3.0, -1.0, 0.0, 1.0])},
        {S.FLAT_DIRECTION},
    ),
    "monkey saddle": (
        lambda p: p["x"] ** 3 - 3 * p["x"] * p["y"] ** 2,
        {"x": 0.0, "y": 0.0},
        {S.FLAT_DIRECTION, S.NOT_POSITIVE_DEFINITE},
    ),
    "saddle": (
        lambda p: p["x"] ** 2 - p["y"] ** 2,
        {"x": 1.0, "y": 0.0},
        {S.FALLS_WITHOUT_LIMIT},
    ),
    "kink that is not seen": (
        lambda p: jnp.abs(jnp.sin(p["a"] - 0.3)),
        {"a": 1.0},
        {S.NOT_CONVERGED, S.NOT_POSITIVE_DEFINITE},
    ),
    "unused parameter, bounded": (lambda p: p["a"] ** 2, {"a": P(1.0), "b": P(1.0, 0.0, 2.0)}, {S.FLAT_DIRECTION}),
    "unused parameter, bounded below": (lambda p: p["a"] ** 2, {"a": P(1.0), "b": P(1.0, 0.0)}, {S.FLAT_DIRECTION}),
    "constant, bounded": (lambda p: 0.0 * p["a"] + 3.0, {"a": P(1.0, 0.0, 2.0)}, {S.FLAT_DIRECTION}),
    "maximum without bounds": (lambda p: -0.5 * (p["a"] - 3) ** 2, {"a": 1.0}, {S.FALLS_WITHOUT_LIMIT}),
    "unused parameter": (lambda p: p["a"] ** 2, {"a": 1.0, "b": 1.0}, {S.FLAT_DIRECTION}),
}


@pytest.mark.grid
@pytest.mark.parametrize("name", NEVER)
@pytest.mark.parametrize(
    "solver",
    [None, mx.Newton(), mx.Simplex(), optx.BFGS(rtol=1e-6, atol=1e-6)],
    ids=["default", "Newton", "Simplex", "BFGS"],
)
def test_never_valid(name, solver):
    fn, start, statuses = NEVER[name]
    result = mx.fit(lambda p, _: fn(p), start, solver=solver)
    assert not bool(result.valid)
    status = mx.Status(int(result.status))
    assert status in statuses or solver is not None, status
    assert status is not mx.Status.VALID


def test_a_bump_hunt_from_zero_strength():
    """With no signal its mass is flat: said and named, although a bound holds the strength."""
    x = jnp.asarray(np.random.default_rng(2).uniform(0, 10, 400))

    def nll(p, x):
        signal = jnp.exp(mx.distributions.Normal(p["m"], 0.5).log_prob(x))
        return -jnp.sum(jnp.log(p["f"] * signal + (1 - p["f"]) / 10))

    start = {"f": P(0.0, 0.0, 1.0), "m": P(4.0, 0.0, 10.0)}
    result = mx.fit(nll, start, x)
    if bool(result.valid):  # the nudge off the bound found the way, to one of the bumps
        none = float(nll({"f": 0.0, "m": 4.0}, x))
        assert float(result.nll) < none
        slope = jax.grad(lambda v: nll({"f": v[0], "m": v[1]}, x))(result.values)
        np.testing.assert_allclose(slope, 0, atol=1e-4)
    else:
        assert "m" in result.message
    elsewhere = mx.fit(nll, {**start, "f": P(0.1, 0.0, 1.0), "m": P(2.0, 0.0, 10.0)}, x)
    assert bool(elsewhere.valid)
    np.testing.assert_allclose(elsewhere["m"].value, 2.32, atol=0.02)


def test_a_saddle_is_left():
    """Two equal Gaussians started on top of each other: a saddle lies between them, the minimum is elsewhere."""
    result = mx.fit(lambda p, _: _two_equal_gaussians(p), {"a": 0.1, "b": 0.1})
    assert bool(result.valid)
    np.testing.assert_allclose(np.sort(result.values), [-1, 1], atol=1e-6)
    # at the saddle itself HESSE must not call it a minimum
    assert not bool(mx.hesse(lambda p, _: _two_equal_gaussians(p), {"a": 0.0, "b": 0.0}).valid)


def test_the_flat_direction_is_named():
    result = mx.fit(lambda p, _: (p["a"] - p["b"]) ** 2 + p["c"] ** 2, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert "a, b" in result.message or "b, a" in result.message
    np.testing.assert_allclose(np.abs(result.direction), [0.5**0.5, 0.5**0.5, 0], atol=1e-6)


def test_step_limit():
    def nll(p, _):
        return _rosenbrock(p)

    start = {"x": -1.0, "y": 1.2}
    result = mx.fit(nll, start, max_steps=3)
    assert mx.Status(int(result.status)) is mx.Status.MAX_STEPS
    assert not bool(result.valid)
    assert int(result.stats["num_steps"]) == 3
    go_on = mx.fit(nll, result.params)
    assert bool(go_on.valid)


@pytest.mark.parametrize("offset", [1e6, 1e8, -1e8])
def test_an_offset_does_not_matter(offset):
    """MINUIT's fit is spoilt by 1e8 (minuit.md, point 6)."""
    for name in ("exponential", "rosenbrock -1", "poisson 10"):
        known = KNOWN[name]
        plain = mx.fit(lambda p, _: known.fn(p), known.start, up=known.up)  # noqa: B023
        moved = mx.fit(lambda p, _: known.fn(p) + offset, known.start, up=known.up)  # noqa: B023
        assert bool(moved.valid), (name, moved.message)
        assert np.all(np.abs(moved.values - plain.values) < 1e-6 * plain.errors)
        np.testing.assert_allclose(moved.covariance.matrix, plain.covariance.matrix, rtol=1e-6)


def test_hessian_not_finite_at_the_start():
    """A Hessian that is not finite at the start does not stop a fit whose gradient is."""

    def nll(p, _):  # the second derivative of |x|^1.5 is infinite at 0
        return (
            (p["x"] - 3) ** 2
            + jnp.where(p["x"] == 0, 0.0, jnp.abs(jnp.where(p["x"] == 0, 1.0, p["x"])) ** 1.5)
            + (_infinite_curvature(p["x"]))
        )

    result = mx.fit(nll, {"x": 0.0})
    assert not np.isfinite(jax.hessian(lambda x: nll({"x": x}, None))(0.0))
    assert bool(result.valid), result.message
    x = float(result.values[0])
    assert abs(2 * (x - 3) + 1.5 * np.sqrt(x)) < 1e-6


@jax.custom_jvp
def _infinite_curvature(x):
    return 0.0 * x


@_infinite_curvature.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return 0.0 * x, t * _slope(x)


@jax.custom_jvp
def _slope(x):
    return 0.0 * x


@_slope.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return 0.0 * x, t * jnp.where(x == 0, jnp.inf, 0.0)
