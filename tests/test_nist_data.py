"""The NIST problems themselves: formulae, data and certified answers belong together. No fit is made here."""

import functools
import math
import re

import jax
import numpy as np
import pytest

from nist import DATA, PROBLEMS, Problem, header

EACH = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())


@functools.cache
def compiled(problem: Problem):
    def residuals_and_jacobian(b, x, y):
        return y - problem.model(b, x), jax.jacfwd(problem.model)(b, x)

    return jax.jit(residuals_and_jacobian)


def residuals_and_jacobian(problem: Problem, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In float64, whatever the tests run in."""
    with jax.enable_x64(True):
        residuals, jacobian = compiled(problem)(b, problem.x, problem.y)
    assert residuals.dtype == jacobian.dtype == np.float64
    return np.asarray(residuals), np.asarray(jacobian)


def test_there_are_27_problems():
    assert len(PROBLEMS) == 27
    assert {path.stem for path in DATA.glob("*.dat")} == set(PROBLEMS)


@EACH
def test_numbers_are_those_of_the_header(problem):
    number = r"([-+.\dE]+)"
    rows = re.findall(rf"^\s*b\d\s*=\s*{number}\s+{number}\s+{number}\s+{number}\s*$", header(problem.name), re.M)
    start1, start2, certified, stderr = np.array(rows, dtype=np.float64).T
    np.testing.assert_array_equal(problem.start1, start1)
    np.testing.assert_array_equal(problem.start2, start2)
    np.testing.assert_array_equal(problem.certified, certified)
    np.testing.assert_array_equal(problem.stderr, stderr)

    def after(label: str, form: str = number) -> float:
        found = re.search(rf"{label}\s*{form}", header(problem.name))
        assert found is not None, label
        return float(found.group(1))

    assert problem.rss == after("Residual Sum of Squares:")
    assert problem.y.size == after(r"Number of Observations:")
    assert problem.y.size == after("", r"(\d+)\s+Observations")
    assert problem.dof == (11 if problem.name == "Rat43" else after("Degrees of Freedom:"))
    assert problem.x.shape == ((128, 2) if problem.name == "Nelson" else problem.y.shape)


@pytest.mark.grid
@EACH
def test_residual_sum_of_squares_is_the_certified_one(problem):
    residuals, _ = residuals_and_jacobian(problem, problem.certified)
    rss = residuals @ residuals
    half_a_digit = 0.5 * 10.0 ** (math.floor(math.log10(problem.rss)) - 10)  # 11 are printed
    float64 = 2 * np.finfo(np.float64).eps * np.abs(residuals) @ np.abs(problem.y)
    # Lanczos1's parameters are printed to 1e-11, which gives residuals far above its own, of 1e-13.
    parameters = 1e-20 if problem.name == "Lanczos1" else 0.0
    assert abs(rss - problem.rss) <= half_a_digit + float64 + parameters


def test_lanczos1_has_the_certified_residuals_after_a_linear_step():
    problem = PROBLEMS["Lanczos1"]
    residuals, jacobian = residuals_and_jacobian(problem, problem.certified)
    basis = np.linalg.qr(jacobian / np.linalg.norm(jacobian, axis=0)).Q
    residuals = residuals - basis @ (basis.T @ residuals)
    assert residuals @ residuals == pytest.approx(problem.rss, rel=2e-3, abs=0)


# Lanczos1's residuals at the printed parameters are the rounding of these: they lie along the Jacobian.
@pytest.mark.parametrize("name", sorted(set(PROBLEMS) - {"Lanczos1"}))
def test_certified_parameters_are_stationary(name):
    residuals, jacobian = residuals_and_jacobian(PROBLEMS[name], PROBLEMS[name].certified)
    # The cosine between the residuals and each column of the Jacobian; the rounding of the parameters is what is left.
    lengths = np.linalg.norm(jacobian, axis=0) * np.linalg.norm(residuals)
    gradient = np.max(np.abs(jacobian.T @ residuals) / lengths)
    print(f"{name}: largest relative gradient at the certified parameters {gradient:.1e}")
    assert gradient < 2e-5


@EACH
def test_standard_errors_follow_from_the_jacobian(problem):
    _, jacobian = residuals_and_jacobian(problem, problem.certified)
    scale = np.linalg.norm(jacobian, axis=0)
    inverse = np.linalg.inv(np.linalg.qr(jacobian / scale).R)
    stderr = np.linalg.norm(inverse, axis=1) / scale * math.sqrt(problem.rss / problem.dof)
    np.testing.assert_allclose(stderr, problem.stderr, rtol=5e-9)


@EACH
@pytest.mark.parametrize("start", ["start1", "start2"])
def test_model_and_derivatives_are_finite_at_the_starts(problem, start):
    residuals, jacobian = residuals_and_jacobian(problem, getattr(problem, start))
    assert np.all(np.isfinite(residuals))
    assert np.all(np.isfinite(jacobian))
