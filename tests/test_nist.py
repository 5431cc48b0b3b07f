"""The 27 nonlinear regression problems of the NIST StRD, from both of their starts, with the default solver.

NIST's standard errors are those of the expected information, s² (JᵀJ)⁻¹: the Hessian on points moved onto the curve.
(The observed Hessian, which `fit` gives, differs from it by up to 30 % on these problems; both are right.)
"""

import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from nist import PROBLEMS

# Eckerle4's curve is the same with the signs of its first two parameters flipped; every start below finds NIST's signs.


@pytest.mark.grid
@pytest.mark.parametrize("name", PROBLEMS)
def test_certified(name):
    """Parameters to 6 digits and standard errors to 5, with the errors of the points known and with unit errors."""
    problem = PROBLEMS[name]
    s = np.sqrt(problem.rss / problem.dof)
    nll = mx.LeastSquares(problem.model)
    for yerr, unit in ((s, 1.0), (1.0, s)):
        data = mx.Points(problem.x, problem.y, yerr)
        for start in (problem.start1, problem.start2):
            result = mx.fit(nll, jnp.asarray(start), data)
            assert bool(result.valid), result.message
            np.testing.assert_allclose(result.values, problem.certified, rtol=5e-7)
            expected = mx.hesse(nll, result.params, nll.expected_data(result.params, data))
            assert bool(expected.valid)
            np.testing.assert_allclose(expected.errors * unit, problem.stderr, rtol=5e-6)
            if name != "Lanczos1":  # its residuals are rounding
                np.testing.assert_allclose(float(result.chi2) * yerr**2, problem.rss, rtol=1e-6)


@pytest.mark.grid
@pytest.mark.parametrize("solver", [mx.Migrad(), mx.Newton()], ids=["Migrad", "Newton"])
def test_other_solvers_are_never_wrong(solver):
    """What MIGRAD or Newton calls valid on the easy half is a certified minimum (Eckerle4's mirror image excepted)."""
    solved = 0
    for name in ("Misra1a", "Chwirut2", "DanWood", "Gauss1", "Rat42", "Rat43", "BoxBOD", "MGH09"):
        problem = PROBLEMS[name]
        data = mx.Points(problem.x, problem.y, np.sqrt(problem.rss / problem.dof))
        for start in (problem.start1, problem.start2):
            result = mx.fit(mx.LeastSquares(problem.model), jnp.asarray(start), data, solver=solver)
            if bool(result.valid):
                solved += 1
                np.testing.assert_allclose(result.values, problem.certified, rtol=5e-7)
    assert solved >= 15
