"""The objective of a direct call, evaluated by NumPy, or by programs of its own where that takes NumPy too long."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .._host.plan import Plan, Skeleton
from .._host.trips import TooLong
from .._host.ways import Way, forced
from .._solvers.flat import MANY, Differentiated, WithJacobian
from .._util.background import Repeats
from .._util.jaxprs import used_inputs
from .._util.packing import Packing
from .._util.typing import PyTree
from .kernels import Kernels

# A fit evaluates an expansion a few times and the gradient some tens of times. NumPy does it if that takes less than
# half a second, or than XLA takes to compile: for each step of NumPy some time.
_EXPANSIONS, _GRADIENTS, _LONGEST, _COMPILES = 3, 40, 0.5, 4e-4
_PROGRAM = 1e-3  # seconds to compile a whole program, for each equation of the expansion
# Many lanes one after the other are a program if they take longer than this: each step some time, more for each entry
# of a matrix, and the gradient by XLA, which is so much quicker than NumPy.
_PATIENCE, _STEP, _ENTRY, _QUICKER = 5.0, 3e-4, 1e-8, 3.0
_LONG = 3e-3  # seconds of a gradient: ten times a step of Python
# Arrays up to this size are compared number by number, to see whether they are those of the last call.
_SMALL = 1000

_KEPT = 3  # sets of data: a limit goes between those of the fit and the Asimov data
_TOO_LARGE = 3_000_000  # numbers: longer data are for programs
_NUMBERS = 2  # value and gradient; the Hessian and what depends on the data alone come after them
_MOST_BY_NUMPY = 1000  # parameters: NumPy makes the Hessian of all of them at once


class Objective(Differentiated):
    """The objective at certain data, and what depends on the data alone: `constant`, which it leaves out, and the
    number of data, `ndata`; `None` where the likelihood has none."""

    constant: Any
    ndata: Any
    is_long: bool  # beside a gradient by XLA all else takes little time: one program for the whole call gains nothing

    def __init__(
        self,
        value: Any,
        gradient: Any,
        expansion: Any,
        product_at: Any,
        constant: Any,
        ndata: Any,
        *,
        is_long: bool = False,
    ):
        self._value, self._gradient, self._expansion = value, gradient, expansion
        self._product_at = product_at
        self.constant, self.ndata, self.is_long = constant, ndata, is_long

    def __call__(self, x: Any, args: Any = None) -> Any:
        return np.asarray(self._value(x)[0])[()]

    def value_and_gradient(self, x: Any) -> tuple[Any, Any]:
        value, gradient = self._gradient(x)
        return np.asarray(value)[()], np.asarray(gradient)

    def expansion(self, x: Any) -> tuple[Any, Any, Any]:
        value, gradient, hessian = (np.asarray(out) for out in self._expansion(x)[:3])
        return value[()], gradient, hessian

    def product_at(self, x: Any) -> Callable[[Any], Any]:
        product = self._product_at(x)
        return lambda v: np.asarray(product(v))


class Residuals(WithJacobian):
    """The residuals at certain data."""

    def __init__(self, run: Callable[[Any], Any]):
        self._run = run

    def values_and_jacobian(self, x: Any) -> tuple[Any, Any]:
        values, jacobian = self._run(x)
        return np.asarray(values), np.asarray(jacobian)


class Traced:
    """The jaxprs of a likelihood, with derivatives, for inputs of certain shapes."""

    def __init__(
        self,
        objective: Any = None,
        gradient: Any = None,
        residuals: Any = None,
        has_constant: bool = False,
        is_twice_differentiable: bool = False,
        packing: Packing | None = None,
    ):
        self._closed, self._gradient, self._residuals = objective, gradient, residuals
        self._has_constant, self.is_twice_differentiable = has_constant, is_twice_differentiable
        self._packing = packing
        self._used = (
            []
            if objective is None
            else used_inputs([closed for closed in (objective, residuals) if closed is not None])
        )
        self._lock = threading.Lock()
        self._kept: list[_AtData] = []  # at the data of the last calls, the newest first
        self._kernels: Kernels | None = None
        self._skeleton: Skeleton | None = None
        self._gave_up = False
        self.repeats = Repeats(0.0 if objective is None else _PROGRAM * len(objective.jaxpr.eqns))

    @property
    def is_usable(self) -> bool:
        return self._closed is not None and not self._gave_up

    def give_up(self) -> None:
        """It has to be a program after all: a loop in it is too long for Python."""
        self._gave_up = True

    def at(self, inputs: PyTree, gradients: int = _GRADIENTS) -> tuple[Objective, Residuals | None] | None:
        """Returns the functions at the values of the inputs, for about so many gradients; `None` where they have to be
        part of a program, or where so many of them take the host longer than a program takes to compile."""
        arrays = [leaf for leaf in jax.tree.leaves(inputs) if eqx.is_array(leaf)]
        leaves = arrays if self._packing is None else self._packing(arrays)
        size = sum(leaves[i].size for i in self._used)
        n = self._closed.jaxpr.invars[0].aval.size
        if n > _MOST_BY_NUMPY or (size > _TOO_LARGE and n >= MANY):
            return self._by_kernels_alone(leaves)
        if size > _TOO_LARGE:
            return None
        with self._lock:
            kept = self._kept
        found = next((old for old in kept if all(old.has(i, leaves[i]) for i in self._used)), None)
        found = self._planned(leaves) if found is None else found
        with self._lock:
            others = [old for old in self._kept if old is not found]
            self._kept = [found, *others][:_KEPT]
        _PLANS.add(self, found)
        if not found.is_usable:
            return None
        way = forced() or self._way(found, gradients)
        if way != "kernels":
            return None if way == "program" else found.by_numpy
        return self._by_programs(found.of_data, leaves, is_long=found.gradient_cost / _QUICKER > _LONG)

    def _by_kernels_alone(self, leaves: list[Any]) -> tuple[Objective, Residuals | None] | None:
        """The functions by programs, and what depends on the data alone, too: NumPy plans nothing."""
        if self._closed.effects or forced() == "program":
            return None
        x = self._closed.in_avals[0]
        of_data = iter(self._made_kernels().of_data(np.zeros(x.shape, x.dtype), *leaves))
        about_data = next(of_data) if self._has_constant else None, next(of_data, None)
        return self._by_programs(about_data, leaves, is_long=True)

    def forget(self, plan: "_AtData") -> None:
        with self._lock:
            self._kept = [kept for kept in self._kept if kept is not plan]

    def _way(self, at: "_AtData", gradients: int) -> Way:
        longest = max(_LONGEST, _COMPILES * at.expansion.num_steps)
        if _EXPANSIONS * at.expansion.cost + gradients * at.gradient_cost < longest:
            return "numpy"
        n = self._closed.jaxpr.invars[0].aval.size
        if gradients <= _GRADIENTS:
            return "kernels"
        seconds = gradients * (_STEP + _ENTRY * n**2 + at.gradient_cost / _QUICKER)
        return "kernels" if seconds < _PATIENCE else "program"

    def _planned(self, leaves: list[Any]) -> "_AtData":
        known = {i + 1: np.asarray(leaf) for i, leaf in enumerate(leaves)}
        is_made = [False] * len(leaves) if self._packing is None else self._packing.is_made
        is_small = [leaf.size <= _SMALL or made for leaf, made in zip(leaves, is_made, strict=True)]
        if self._skeleton is None:
            self._skeleton = Skeleton(self._closed)
        plan = Plan(self._closed, known, skeleton=self._skeleton)
        jacobian = None if self._residuals is None else Plan(self._residuals, known)
        # No input is left for what depends on the data alone.
        rest = plan.only(range(_NUMBERS + 1, plan.num_outputs))
        is_usable = rest.cost < _LONGEST and not any(
            p.has_effects or p.unknown for p in (plan, jacobian) if p is not None
        )
        try:
            of_data = iter(rest(None) if is_usable else ())
        except TooLong:
            of_data, is_usable = iter(()), False
        constant = next(of_data)[()] if self._has_constant and is_usable else None
        ndata = next(of_data, None)
        about_data = constant, None if ndata is None else ndata[()]
        gradient = plan.only(range(_NUMBERS))
        product_at = lambda x: self._made_kernels().product_at(x, *leaves)  # noqa: E731
        objective = Objective(plan.only([0]).run, gradient.run, plan.run, product_at, *about_data)
        return _AtData(
            leaves=[None if small else leaf for leaf, small in zip(leaves, is_small, strict=True)],
            contents=[np.asarray(a).tobytes() if small else None for a, small in zip(leaves, is_small, strict=True)],
            is_usable=is_usable,
            expansion=plan,
            gradient_cost=(gradient if jacobian is None else jacobian).cost,
            by_numpy=(objective, None if jacobian is None else Residuals(jacobian.run)),
            of_data=about_data,
        )

    def _made_kernels(self) -> Kernels:
        if self._kernels is None:
            self._kernels = Kernels(self._closed, self._gradient, self._residuals)
        return self._kernels

    def _by_programs(
        self, of_data: tuple[Any, Any], leaves: list[Any], *, is_long: bool
    ) -> tuple[Objective, Residuals | None]:
        made = self._made_kernels()
        objective = Objective(
            lambda x: made.value(x, *leaves),
            lambda x: made.value_and_gradient(x, *leaves),
            lambda x: made.expansion(x, *leaves),
            lambda x: made.product_at(x, *leaves),
            *of_data,
            is_long=is_long,
        )
        jacobian = made.jacobian
        return objective, None if jacobian is None else Residuals(lambda x: jacobian(x, *leaves))


class _AtData(NamedTuple):
    """What is known of the functions at certain data."""

    leaves: list[Any]  # long ones; those that are packed anew at each call are not among them
    contents: list[bytes | None]  # of the others
    is_usable: bool
    expansion: Plan
    gradient_cost: float  # seconds, by NumPy
    by_numpy: tuple[Objective, Residuals | None]
    of_data: tuple[Any, Any]

    def has(self, i: int, leaf: Any) -> bool:
        """Whether input `i` is this one: long ones are the same object, others the same to the last bit."""
        if self.contents[i] is None:
            return self.leaves[i] is leaf
        return self.contents[i] == np.asarray(leaf).tobytes()


class _Plans:
    """The plans of all likelihoods by their last use. A plan holds what it has computed of its data; together they may
    hold so many bytes, as a script may define a new likelihood in a loop."""

    _BYTES, _STEP_BYTES = 2**28, 500

    def __init__(self):
        self._lock, self._total = threading.Lock(), 0
        self._plans: OrderedDict[int, tuple[weakref.ref[Traced], _AtData, int]] = OrderedDict()

    def add(self, owner: Traced, plan: _AtData) -> None:
        """The plan was used now."""
        with self._lock:
            if id(plan) in self._plans:
                self._plans.move_to_end(id(plan))
                return
            size = plan.expansion.nbytes + self._STEP_BYTES * plan.expansion.num_steps
            self._plans[id(plan)] = weakref.ref(owner), plan, size
            self._total += size
            while self._total > self._BYTES and len(self._plans) > 1:
                _, (old_owner, old, size) = self._plans.popitem(last=False)
                self._total -= size
                if (traced := old_owner()) is not None:
                    traced.forget(old)


_PLANS = _Plans()
