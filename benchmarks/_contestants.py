"""The ways to do a fit that are compared, and the check that every time has to pass: did it find the minimum?"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from iminuit import Minuit
from jaxtyping import Array, Float, PyTree, Scalar

import migrax as mx

SAME = 1e-4
"""How far from the minimum a fit may end, in errors."""

MINUIT_SAME = 0.05
"""The same for MINUIT at its own tolerance: what it calls valid may have an EDM of 1e-3, 0.045 errors off."""

TIGHT = 1e-6
"""The `tol` with which MINUIT's goal for the EDM is SAME**2 / 10."""

Vector = Float[np.ndarray, " n"]
NLL = Callable[[Float[Array, " n"], Any], Scalar]
"""Minus log L of a vector of parameters and data."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a fit ended, with its numbers of values, gradients (each with its value) and Hessians (with both)."""

    values: Vector
    nll: float
    valid: bool
    evaluations: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Minimum:
    """The right answer: found from near by, by plain Newton steps that know nothing of the contestants."""

    values: Vector
    errors: Vector
    nll: float

    def distance(self, values: Vector) -> float:
        """How far `values` are from the minimum, in errors."""
        return float(np.max(np.abs(values - self.values) / self.errors))

    def complaint(self, fit: Fit, within: float) -> str | None:
        """What is wrong with a fit; None if it may be timed."""
        distance = self.distance(fit.values)
        if not distance < within:
            return f"{distance:.2g} errors off" + (", called valid" if fit.valid else "")
        return None if fit.valid else "not valid"


def newton(nll: NLL, near: Vector, data: PyTree, steps: int = 30) -> Minimum:
    """**Raises:** `RuntimeError` if the steps do not end at a minimum."""
    derivatives = jax.jit(lambda x, d: (nll(x, d), jax.grad(nll)(x, d), jax.hessian(nll)(x, d)))
    x = np.array(near, float)
    for _ in range(steps):
        _, gradient, hessian = (np.asarray(a) for a in derivatives(x, data))
        x = x - np.linalg.solve(hessian, gradient)
    value, gradient, hessian = (np.asarray(a) for a in derivatives(x, data))
    edm = float(0.5 * gradient @ np.linalg.solve(hessian, gradient))
    if not (edm < 1e-16 * max(1.0, abs(float(value))) and np.all(np.linalg.eigvalsh(hessian) > 0)):
        raise RuntimeError(f"no minimum near {near}: EDM {edm}")
    return Minimum(x, np.sqrt(np.diag(np.linalg.inv(hessian))), float(value))


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A way to do a fit: `run(start, data)` is what is timed, `read` looks at what it returned."""

    name: str
    run: Callable[[Vector, Any], Any]
    read: Callable[[Any], Fit]
    within: float = SAME

    def fit(self, start: Vector, data: Any) -> Fit:
        return self.read(self.run(start, data))


def read_migrax(result: mx.FitResult) -> Fit:
    counts = {key.removeprefix("num_"): int(n) for key, n in result.stats.items() if key != "num_steps"}
    return Fit(np.asarray(result.values), float(result.nll), bool(result.valid), counts)


def migrax(
    nll: Callable[[Any, Any], Any],
    params: Callable[[Any], PyTree],
    solver: Any = None,
    *,
    jit: bool = False,
    name: str = "migrax",
) -> Contestant:
    """`mx.fit(nll, params(start), data)`, called from Python, or inside a `jax.jit` of the user's own."""

    def run(start: Vector, data: Any) -> mx.FitResult:
        return mx.fit(nll, params(start), data, solver=solver)

    return Contestant(name, jax.jit(run) if jit else run, read_migrax)


def read_minuit(minuit: Minuit) -> Fit:
    counts = {"values": minuit.nfcn, "gradients": minuit.ngrad, "hessians": 0}
    return Fit(np.array(minuit.values), float(minuit.fval or np.nan), bool(minuit.valid), counts)


def iminuit(
    nll: NLL,
    limits: Sequence[tuple[float | None, float | None]] | None = None,
    *,
    hesse: bool = True,
    tol: float | None = None,
    name: str = "iminuit",
) -> Contestant:
    """`migrad()`, then `hesse()`, with the jitted value and the jitted gradient; the data are an argument of both."""
    value, gradient = jax.jit(nll), jax.jit(jax.grad(nll))

    def run(start: Vector, data: Any) -> Minuit:
        fcn: Any = lambda x: value(x, data)  # noqa: E731
        grad: Any = lambda x: gradient(x, data)  # noqa: E731
        minuit = Minuit(fcn, start, grad=grad)
        minuit.errordef = Minuit.LIKELIHOOD
        if limits is not None:
            minuit.limits = limits
        if tol is not None:
            minuit.tol = tol
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of wild steps; how it ended is looked at
            minuit.migrad()
            if hesse:
                minuit.hesse()
        return minuit

    return Contestant(name, run, read_minuit, MINUIT_SAME if tol is None else SAME)


def optimistix(nll: NLL, max_steps: int = 5000) -> Contestant:
    """`optx.minimise` with `optx.BFGS(rtol=1e-8, atol=1e-8)`: no limits, no errors."""
    solver = optx.BFGS(rtol=1e-8, atol=1e-8)

    @jax.jit
    def run(start: Vector, data: Any) -> tuple[Array, Array, Array, Array]:
        solution = optx.minimise(nll, solver, jnp.asarray(start), args=data, max_steps=max_steps, throw=False)
        ok = solution.result == optx.RESULTS.successful
        return solution.value, nll(solution.value, data), ok, solution.stats["num_steps"]

    def read(returned: tuple[Array, Array, Array, Array]) -> Fit:
        values, value, ok, steps = returned
        return Fit(np.asarray(values), float(value), bool(ok), {"steps": int(steps)})

    return Contestant("optx.BFGS", run, read)
