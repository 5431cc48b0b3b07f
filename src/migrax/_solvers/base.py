"""What the solvers share: their goal, how they end, and how their options are read."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, Float, Scalar

from .._util.typing import PyTree
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

    What is near is a matter of the function's units, which `up` tells. Without a fit around it that knows them the step
    that is left must be small, too: see `settled`.

    In Optimistix's loop the `y` of these solvers is the point that is evaluated next, which may turn out to be a bad
    one; the point that they return is `state.x`. So each step hands on the aux of the very `y` that it was called
    with, as Optimistix asks (`optx.BestSoFarMinimiser` rests on it), and the last evaluation is not lost.
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
        """Where to stop: the distance to the minimum in units of the function (MINUIT's 0.002 tol UP)."""
        return 0.002 * self.tol * self.up

    # Optimistix asks every solver for a norm. Here each parameter has its own tolerance.
    if TYPE_CHECKING:
        # what a type checker must know: it is no argument
        norm: Callable[[PyTree], Scalar] = eqx.field(init=False)
    else:

        @property
        def norm(self) -> Callable[[PyTree], Scalar]:
            return optx.max_norm

    def settled(
        self, options: dict[str, Any], x: Float[Array, " n"], f: Scalar, step: Float[Array, " n"], edm: Scalar
    ) -> Bool[Array, ""]:
        """Whether the step that is left is small, too: within `rtol` and `atol` of each parameter, and of the function
        as the EDM says, or lost in the noise. With the option `goal` the EDM alone decides, as in `mx.fit`."""
        if options.get("goal") is not None:
            return jnp.array(True)
        rtol = jnp.maximum(self.rtol, 8 * jnp.finfo(x.dtype).eps)
        small = jnp.all(jnp.abs(step) <= self.atol + rtol * jnp.abs(x)) & (edm <= self.atol + rtol * jnp.abs(f))
        return small | (edm <= noise_of(options, f))

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
