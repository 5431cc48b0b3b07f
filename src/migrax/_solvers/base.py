"""The base class of the solvers: their state, their stopping rule, and how they read their options."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import equinox as eqx
import jax
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Scalar

from .._host import xp
from .._util.typing import PyTree
from .flat import flatten

Y = TypeVar("Y")
Out = TypeVar("Out")
Aux = TypeVar("Aux")

# An EDM below TINY times the goal needs no confirmation. Any other is confirmed by a Newton step that leaves at most
# CONFIRMS of it: beside the floor of a narrow curved valley the EDM is small as well, but shrinks slowly.
TINY, CONFIRMS = 1e-6, 0.05

SUCCEEDED, DIVERGED, NOT_FINITE, UNFINISHED = 0, 1, 2, 3  # how a solve ended


class AbstractState(eqx.Module, Generic[Aux]):
    """The state common to all solvers: the best accepted point with its aux, and whether the solve is finished."""

    x: eqx.AbstractVar[Float[Array, " n"]]
    aux: eqx.AbstractVar[Aux]
    terminate: eqx.AbstractVar[Bool[Array, ""]]
    ending: eqx.AbstractVar[Int[Array, ""]]  # SUCCEEDED, DIVERGED, NOT_FINITE or UNFINISHED


State = TypeVar("State", bound=AbstractState)


class AbstractEDMSolver(optx.AbstractIterativeSolver[Y, Out, Aux, State]):
    """A solver that stops when the estimated distance to the minimum (EDM) is small, never because a step was small.

    The goal for the EDM is in units of the function, which `up` sets. Outside of `mx.fit`, which knows these units, the
    remaining step must be small as well: see `settled`.

    In Optimistix's loop the `y` of these solvers is the trial point that is evaluated next, which may be rejected; the
    point that they return is `state.x`. Each step returns the aux of the `y` that it was called with, as Optimistix
    requires (`optx.BestSoFarMinimiser` relies on it), and the last evaluation is not lost.
    """

    tol: eqx.AbstractVar[float]
    up: eqx.AbstractVar[float]

    def __check_init__(self) -> None:
        for name in ("tol", "up"):
            check_positive(self, name)
        for name in ("rtol", "atol"):
            value = getattr(self, name)
            if isinstance(value, int | float) and not value >= 0:  # anything else may be traced
                raise ValueError(f"{type(self).__name__}({name}=...) must not be negative, got {value!r}")

    @property
    def goal(self) -> float:
        """The EDM at which to stop, in units of the function (MINUIT's 0.002 tol UP)."""
        return 0.002 * self.tol * self.up

    # Optimistix requires a norm of every solver. It is not used here: each parameter has its own tolerance.
    if TYPE_CHECKING:
        # For type checkers: it is not an argument of `__init__`.
        norm: Callable[[PyTree], Scalar] = eqx.field(init=False)
    else:

        @property
        def norm(self) -> Callable[[PyTree], Scalar]:
            return optx.max_norm

    def settled(
        self, options: dict[str, Any], x: Float[Array, " n"], f: Scalar, step: Float[Array, " n"], edm: Scalar
    ) -> Bool[Array, ""]:
        """Whether the remaining step is small: within `rtol` and `atol` of each parameter and, measured by the EDM, of
        the function, or below the rounding noise. With the option `goal` the EDM alone decides, as in `mx.fit`."""
        if options.get("goal") is not None:
            return xp.array(True)
        rtol = xp.maximum(self.rtol, 8 * xp.finfo(x.dtype).eps)
        is_small = xp.all(xp.abs(step) <= self.atol + rtol * xp.abs(x)) & (edm <= self.atol + rtol * xp.abs(f))
        return is_small | (edm <= noise_of(options, f))

    @abc.abstractmethod
    def stats(self, state: State) -> dict[str, Any]:
        """The solver's entries of the solution's `stats`."""

    def terminate(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: State,
        tags: frozenset[object],
    ) -> tuple[Bool[Array, ""], optx.RESULTS]:
        failed = optx.RESULTS.where(state.ending == DIVERGED, optx.RESULTS.nonlinear_divergence, optx.RESULTS.nonfinite)
        failed = optx.RESULTS.where(state.ending == UNFINISHED, optx.RESULTS.nonlinear_max_steps_reached, failed)
        return state.terminate, optx.RESULTS.where(state.ending == SUCCEEDED, optx.RESULTS.successful, failed)

    def postprocess(
        self,
        fn: Callable,
        y: Y,
        aux: Aux,
        args: PyTree,
        options: dict[str, Any],
        state: State,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[Y, Aux, dict[str, Any]]:
        _, unravel = flatten(y)
        return unravel(state.x), state.aux, self.stats(state)


def check_positive(solver: eqx.Module, name: str) -> None:
    value = getattr(solver, name)
    if isinstance(value, int | float) and not value > 0:  # anything else may be traced
        raise ValueError(f"{type(solver).__name__}({name}=...) must be positive, got {value!r}")


def zeros_like_struct(struct: PyTree) -> PyTree:
    return jax.tree.map(lambda s: xp.zeros(s.shape, s.dtype), struct)


def scalar_option(options: dict[str, Any], name: str, default: ArrayLike, dtype: Any) -> Scalar:
    """The option `name`, a single number, in the precision of `y`."""
    value = options.get(name)
    value = xp.asarray(default if value is None else value).astype(dtype)
    if value.shape != ():
        raise ValueError(f"options[{name!r}] must be one number, got shape {value.shape}")
    return value


def noise_of(options: dict[str, Any], f: Scalar) -> Scalar:
    """The rounding noise of values near `f`: `options["noise"]`, else a few units in the last place."""
    return scalar_option(options, "noise", 8 * xp.finfo(f.dtype).eps * xp.abs(f), f.dtype)
