"""What the solvers share: their goal, how they end, and how their options are read."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, Float, Scalar

from .._typing import PyTree
from .flat import flatten

Y = TypeVar("Y")
Out = TypeVar("Out")
Aux = TypeVar("Aux")

# An EDM that needs no confirmation, in units of the goal; and what may be left of another after the Newton step that
# should take it away. Beside the floor of a narrow curved valley a small EDM shrinks, too, but slowly.
TINY, CONFIRMS = 1e-6, 0.05


class AbstractState(eqx.Module, Generic[Aux]):
    """What every solver keeps: the best point that it accepted, with its aux, and whether it is done."""

    x: eqx.AbstractVar[Float[Array, " n"]]
    aux: eqx.AbstractVar[Aux]
    terminate: eqx.AbstractVar[Bool[Array, ""]]
    result: eqx.AbstractVar[optx.RESULTS]


State = TypeVar("State", bound=AbstractState)


class AbstractEDMSolver(optx.AbstractIterativeSolver[Y, Out, Aux, State]):
    """A solver that stops when the function is as near to its minimum as asked, never because a step was small.

    In Optimistix's loop the `y` of these solvers is the point that is evaluated next, which may turn out to be a bad
    one; the point that they return is `state.x`. So each step hands on the aux of the very `y` that it was called
    with, as Optimistix asks (`optx.BestSoFarMinimiser` rests on it), and the last evaluation is not lost.
    """

    tol: eqx.AbstractVar[float]
    up: eqx.AbstractVar[float]

    def __check_init__(self) -> None:
        for name in ("tol", "up"):
            check_positive(self, name)

    @property
    def goal(self) -> float:
        """Where to stop: the distance to the minimum in units of the function (MINUIT's 0.002 tol UP)."""
        return 0.002 * self.tol * self.up

    # Optimistix asks every solver for these three. Here the tolerance is on the function alone.
    if TYPE_CHECKING:
        # what a type checker must know: they are not arguments
        rtol: float = eqx.field(init=False)
        atol: float = eqx.field(init=False)
        norm: Callable[[PyTree], Scalar] = eqx.field(init=False)
    else:

        @property
        def rtol(self) -> float:
            return 0.0

        @property
        def atol(self) -> float:
            return self.goal

        @property
        def norm(self) -> Callable[[PyTree], Scalar]:
            return optx.max_norm

    @abc.abstractmethod
    def stats(self, state: State) -> dict[str, Any]:
        """What to add to the `stats` of the solution."""

    def terminate(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: State,
        tags: frozenset[object],
    ) -> tuple[Bool[Array, ""], optx.RESULTS]:
        return state.terminate, state.result

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
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), struct)


def select(which: Bool[Array, ""], yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), yes, no)


def scalar_option(options: dict[str, Any], name: str, default: ArrayLike, dtype: Any) -> Scalar:
    """An option that is one number, in the precision of `y`."""
    value = options.get(name)
    value = jnp.asarray(default if value is None else value).astype(dtype)
    if value.shape != ():
        raise ValueError(f"options[{name!r}] must be one number, got shape {value.shape}")
    return value


def noise_of(options: dict[str, Any], f: Scalar) -> Scalar:
    """The rounding noise of values near `f`: `options["noise"]`, else a few units in the last place."""
    return scalar_option(options, "noise", 8 * jnp.finfo(f.dtype).eps * jnp.abs(f), f.dtype)
