"""The minimisers on problems whose answer is known, called as somebody would who uses nothing else of migrax.

All problems of one dimension are one function, `lax.switch` on `args`, so that each solver is compiled once for them.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from jax import lax

import migrax as mx
from nist import PROBLEMS as NIST

GOAL = 1e-4  # of the solvers as they come: 0.002 * 0.1 * 0.5
# stopped by the EDM alone, as in mx.fit
SOLVERS = {solver.__name__: solver(atol=np.inf) for solver in (mx.Migrad, mx.Newton, mx.Simplex)}
EVERY = tuple(SOLVERS)
BLOCK = np.linalg.inv([[4.0, 1.0, 2.0], [1.0, 5.0, 3.0], [2.0, 3.0, 6.0]])
EIGHT = np.eye(10)  # Quad8F's block, and more ones
EIGHT[:3, :3] = BLOCK
SCALES = np.array([[1e-12, 0.25], [0.25, 1e12]])


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function, a start, the answers (any of them), and how many evaluations each solver may take: about a quarter
    more than it does, as a regression of the line search or of the trust region shows there first."""

    fn: Callable
    start: list[float]
    answers: list[list[float]]
    evaluations: dict[str, int]


def _rosenbrock(y):
    return jnp.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2)


def _beale(y):
    return jnp.sum((jnp.array([1.5, 2.25, 2.625]) - y[0] + y[0] * y[1] ** jnp.arange(1, 4)) ** 2)


def _matyas(y):
    return 0.26 * jnp.sum(y**2) - 0.48 * y[0] * y[1]


def _exponential(y):
    return (y[0] - 2) ** 2 / 4 + jnp.exp((y[1] - 5) ** 2) + 10


def _scaled(y):
    return 0.5 * y @ jnp.asarray(SCALES) @ y - 3e-6 * y[0] + 2e6 * y[1]


def _barrier(y):  # NaN for y[0] < 0
    return y[0] - 0.1 * jnp.log(y[0]) + (y[1] - y[0]) ** 2


def _double_well(y):
    return (y[0] ** 2 - 1) ** 2 + y[1] ** 2


def _eight(y):
    return y @ jnp.asarray(EIGHT) @ y


def _powell(y):
    quartic = (y[1] - 2 * y[2]) ** 4 + 10 * (y[0] - y[3]) ** 4
    return (y[0] + 10 * y[1]) ** 2 + 5 * (y[2] - y[3]) ** 2 + quartic + jnp.sum(y[4:] ** 2)


WELLS = [[1.0, 0.0], [-1.0, 0.0]]
PROBLEMS = {
    "rosenbrock 0": Problem(_rosenbrock, [0, 0], [[1, 1]], {"Migrad": 30, "Newton": 19, "Simplex": 140}),
    "rosenbrock -1": Problem(_rosenbrock, [-1, 1.2], [[1, 1]], {"Migrad": 48, "Newton": 29, "Simplex": 185}),
    "offset 1e8": Problem(
        lambda y: _rosenbrock(y) + 1e8, [-1, 1.2], [[1, 1]], {"Migrad": 48, "Newton": 29, "Simplex": 185}
    ),
    "beale": Problem(_beale, [0.5, 0.25], [[3, 0.5]], {"Migrad": 15, "Newton": 10, "Simplex": 110}),
    "matyas": Problem(_matyas, [0.5, 0.5], [[0, 0]], {"Migrad": 2, "Newton": 2, "Simplex": 80}),
    "exponential": Problem(_exponential, [0, 0], [[2, 5]], {"Migrad": 55, "Newton": 56, "Simplex": 112}),
    "scales 1e6 and 1e-6": Problem(
        _scaled, [1, 1], [list(np.linalg.solve(SCALES, [3e-6, -2e6]))], {"Migrad": 2, "Newton": 23, "Simplex": 320}
    ),
    "barrier": Problem(_barrier, [3, 1], [[0.1, 0.1]], {"Migrad": 39, "Newton": 15, "Simplex": 87}),
    "on a saddle": Problem(_double_well, [0, 0], WELLS, {"Migrad": 8, "Newton": 8, "Simplex": 82}),
    "towards a saddle": Problem(_double_well, [0, 0.4], WELLS, {"Migrad": 12, "Newton": 7, "Simplex": 85}),
    "beside a saddle": Problem(_double_well, [1e-3, 0.01], WELLS, {"Migrad": 17, "Newton": 8, "Simplex": 152}),
    "poisson, n = 1": Problem(
        lambda y: y[0] - 10 * jnp.log(y[0]), [1], [[10]], {"Migrad": 12, "Newton": 9, "Simplex": 40}
    ),
    "x^4": Problem(lambda y: y[0] ** 4, [1], [[0]], {"Migrad": 22, "Newton": 18, "Simplex": 33}),
    "rosenbrock 10": Problem(_rosenbrock, [0.0] * 10, [[1] * 10], {"Migrad": 130, "Newton": 40, "Simplex": 4600}),
    "block": Problem(_eight, [1.0] * 10, [[0] * 10], {"Migrad": 2, "Newton": 2, "Simplex": 1700}),
    "powell": Problem(_powell, [-3, -1, 0, 1] + [0.0] * 6, [[0] * 10], {"Migrad": 31, "Newton": 27, "Simplex": 2200}),
}

# Functions without a minimum, or whose minimum is no regular one: whether a solver may call that a success.
NEVER = {
    "constant": (lambda y: 0 * y[0] + 3, [1], ()),
    "linear": (lambda y: -y[0], [1], ()),
    "-x^2": (lambda y: -(y[0] ** 2), [1], ()),
    "-x^2 from 0": (lambda y: -(y[0] ** 2), [0], ()),
    "nan": (lambda y: y[0] * jnp.nan, [1], ()),
    "inf": (lambda y: y[0] + jnp.inf, [1], ()),
    "kink": (lambda y: jnp.abs(y[0] - 0.3), [1], ("Simplex",)),
    "monkey saddle": (lambda y: y[0] ** 3 - 3 * y[0] * y[1] ** 2, [0, 0], ()),
    "saddle": (lambda y: y[0] ** 2 - y[1] ** 2, [1, 0], ()),
}


@functools.cache
def _functions(n):
    starts = {name: (p.fn, p.start) for name, p in PROBLEMS.items()} | {name: p[:2] for name, p in NEVER.items()}
    names = [name for name, (_, start) in starts.items() if len(start) == n]
    branches = [starts[name][0] for name in names]
    return {name: jnp.array(i) for i, name in enumerate(names)}, lambda y, i: lax.switch(i, branches, y)


def _minimise(name, start, solver, **options):
    index, fn = _functions(len(start))
    start = jnp.array(start, float)
    return optx.minimise(fn, SOLVERS[solver], start, index[name], options, max_steps=4000, throw=False)


def _success(solution):
    return bool(solution.result == optx.RESULTS.successful)


@pytest.mark.grid
@pytest.mark.parametrize("solver", EVERY)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_answer(name, solver):
    problem = PROBLEMS[name]
    solution = _minimise(name, problem.start, solver)
    assert _success(solution), solution.result
    answers = np.array(problem.answers, float)
    answer = answers[np.argmin(np.sum((answers - solution.value) ** 2, axis=1))]
    if solver == "Simplex" or name in ("powell", "x^4"):  # no errors at a singular minimum: look at the function
        assert problem.fn(solution.value) - problem.fn(answer) < 10 * GOAL
    else:  # the distance in errors, by the exact Hessian at the answer
        hessian = jax.hessian(problem.fn)(answer)
        step = solution.value - answer
        assert np.sqrt(step @ hessian @ step) < np.sqrt(2 * GOAL)
        assert 0 <= solution.stats["edm"] <= GOAL
    evaluations = int(solution.stats["num_values"] + solution.stats["num_gradients"])
    assert evaluations == int(solution.stats["num_steps"]) <= problem.evaluations[solver]


@pytest.mark.grid
@pytest.mark.parametrize("solver", EVERY)
@pytest.mark.parametrize("name", NEVER)
def test_no_regular_minimum(name, solver):
    _, start, successes = NEVER[name]
    assert _success(_minimise(name, start, solver)) == (solver in successes)


@pytest.mark.slow
@pytest.mark.parametrize("solver", EVERY)
def test_an_offset_does_not_matter(solver):
    """The same answer to 1e-4 of an error, and on nearly the same way (x is one error long, y two)."""
    plain, moved = (_minimise(name, [-1, 1.2], solver, goal=1e-10) for name in ("rosenbrock -1", "offset 1e8"))
    assert _success(plain)
    if solver == "Simplex":  # which has values alone, with eight digits less
        moved = _minimise("offset 1e8", [-1, 1.2], solver)
        assert _success(moved)
        np.testing.assert_allclose(moved.value, plain.value, atol=2e-3)
    else:
        assert _success(moved)
        np.testing.assert_allclose(moved.value, plain.value, atol=1e-4)
        assert abs(int(moved.stats["num_steps"]) - int(plain.stats["num_steps"])) <= 2


@pytest.mark.grid
@pytest.mark.parametrize("solver", ["Migrad", "Newton"])
def test_the_metric_is_the_inverse_hessian(solver):
    solution = _minimise("block", [1.0] * 10, solver)
    np.testing.assert_allclose(solution.stats["metric"], np.linalg.inv(2 * EIGHT), atol=1e-12)


def _valley(y, steepness):
    """A floor that falls gently to (10, sin 10), between walls so steep that a first step in the units of y is lost."""
    return steepness * (y[1] - jnp.sin(y[0])) ** 2 + 1e-2 * (y[0] - 10) ** 2


@pytest.mark.grid
@pytest.mark.parametrize("solver", ["Migrad", "Newton"])
@pytest.mark.parametrize("steepness", [1e2, 1e4, 1e6, 1e8, 1e10])
def test_never_content_with_a_small_step(steepness, solver):
    """At the minimum within the goal, or no success. (Optimistix's BFGS calls the start a success from 1e6 on.)"""
    start = jnp.zeros(2)
    solution = optx.minimise(_valley, SOLVERS[solver], start, jnp.array(steepness), max_steps=10000, throw=False)
    at_minimum = bool(_valley(solution.value, steepness) < GOAL)
    assert _success(solution) == at_minimum
    if steepness <= (1e8 if solver == "Newton" else 1e2):
        assert at_minimum


@pytest.mark.grid
@pytest.mark.parametrize("mode", ["fwd", "bwd"])
@pytest.mark.parametrize("name", ["Misra1a", "BoxBOD", "MGH09", "Rat43", "Eckerle4"])
def test_levenberg_marquardt_on_nist(name, mode):
    problem = NIST[name]
    sigma = np.sqrt(problem.rss / problem.dof)

    def residuals(b, data):
        x, y = data
        return (y - problem.model(b, x)) / sigma

    data = (jnp.asarray(problem.x), jnp.asarray(problem.y))
    for start in (problem.start1, problem.start2):
        solution = optx.least_squares(
            residuals, mx.LevenbergMarquardt(atol=np.inf), jnp.asarray(start), data, {"autodiff_mode": mode}
        )
        assert np.all(np.abs(solution.value - problem.certified) < np.sqrt(2 * GOAL) * problem.stderr)
        np.testing.assert_allclose(np.sqrt(np.diag(solution.stats["metric"])), problem.stderr, rtol=0.05)
        assert int(solution.stats["num_gradients"]) == int(solution.stats["num_steps"]) <= 130
