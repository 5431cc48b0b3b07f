"""A jaxpr as a list of calls of NumPy, for functions that are evaluated a few times: XLA would compile for a second.

What does not depend on the inputs is computed once, what no output needs is left out, and arrays are let go after their
last use. Numbers, dtypes and NaN are those of XLA; sums differ in the last digit, as they are taken in another order.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._util.jaxprs import called
from . import control_flow, elementwise, indexing, linear_algebra, reductions, scalars, shapes, special_functions
from .bound import bound, is_plain
from .cost import TRIPS, UNKNOWN, seconds
from .trips import TooLong

_RULES: dict[str, Callable[[Any], Callable[..., Any] | None]] = {
    **elementwise.RULES,
    **indexing.RULES,
    **linear_algebra.RULES,
    **reductions.RULES,
    **shapes.RULES,
    **special_functions.RULES,
}


# What is computed once: all that takes less than the first (in a branch or a loop, which may never run, only that), of
# the rest so many seconds in all, in arrays of so many numbers.
_CHEAP, _FOLD_SECONDS, _FOLD_NUMBERS = 1e-4, 1.0, 5_000_000


@dataclasses.dataclass(slots=True)
class _Node:
    """An equation, with the slots of its inputs and outputs."""

    equation: Any
    ins: tuple[int, ...]
    outs: tuple[int, ...]


@dataclasses.dataclass(slots=True, frozen=True)
class _Step:
    """A call: `run` of the values in the slots `ins`."""

    run: Callable[..., Any]
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    is_single: bool  # one value, not a sequence of them
    is_pure: bool
    cost: float
    unknown: frozenset[str]
    size: int  # this call and all that it holds
    is_number: bool
    is_control_flow: bool
    largest: int  # numbers in the largest output


class Skeleton:
    """A jaxpr flattened, with a rule for each equation: what its plans at different inputs share."""

    def __init__(self, closed: Any, known: Mapping[int, Any] | None = None):
        flat = _Flattened()
        jaxpr = closed.jaxpr
        inputs = [flat.slot() for _ in jaxpr.invars]
        names = dict(zip(jaxpr.invars, inputs, strict=True))
        flat.known = {inputs[i]: _as_numpy(value, jaxpr.invars[i].aval) for i, value in (known or {}).items()}
        flat.inputs = frozenset(inputs)
        flat.add(jaxpr, closed.consts, names)
        self.inputs, self.avals = inputs, [var.aval for var in jaxpr.invars]
        self.outputs = tuple(flat.read(atom, names) for atom in jaxpr.outvars)
        self.constants, self.num_slots = flat.constants, flat.num_slots
        self.has_branches_by_input = flat.has_branches_by_input
        self.steps = [_step(node) for node in flat.nodes]


class Plan:
    """A jaxpr that is evaluated by NumPy.

    - `cost`: seconds that one evaluation takes, roughly.
    - `unknown`: the names of primitives without a rule, which JAX evaluates one by one.
    - `has_effects`: whether it calls back, prints, or the like.

    What is computed once is what NumPy does without harm: nothing that calls back, no loop that may not end, and only
    so much of what takes time or memory; the rest is computed at each evaluation, as the cost says.
    """

    def __init__(
        self,
        closed: Any,
        known: Mapping[int, Any] | None = None,
        *,
        skeleton: Skeleton | None = None,
        is_inner: bool = False,
    ):
        """**Arguments:**

        - `closed`: a `ClosedJaxpr`, as `jax.make_jaxpr` returns.
        - `known`: values of inputs, by position, that are the same in each evaluation. They are left out of the
            arguments of calls.
        - `skeleton`: that of `closed`, if it is known.
        - `is_inner`: whether it is a branch or the body of a loop, which may never run.
        """
        known = {} if known is None else known
        shared = Skeleton(closed) if skeleton is None else skeleton
        if shared.has_branches_by_input and known:
            shared = Skeleton(closed, known)
        constants = dict(shared.constants)
        for i, value in known.items():
            constants[shared.inputs[i]] = _as_numpy(value, shared.avals[i])
        self._inputs = tuple(slot for i, slot in enumerate(shared.inputs) if i not in known)
        self._outputs, self._num_slots = shared.outputs, shared.num_slots
        with np.errstate(all="ignore"):
            steps, self._constants = _folded(_needed(shared.steps, self._outputs), constants, self._outputs, is_inner)
        self._finish(steps)

    def only(self, outputs: Sequence[int]) -> "Plan":
        """The plan of some of the outputs, which shares what was computed once."""
        new = object.__new__(Plan)
        new._inputs, new._num_slots, new._constants = self._inputs, self._num_slots, self._constants
        new._outputs = tuple(self._outputs[i] for i in outputs)
        new._finish(_needed(self._steps, new._outputs))
        return new

    @property
    def nbytes(self) -> int:
        """The bytes of the constants that it holds, those of the inputs among them."""
        return sum(getattr(value, "nbytes", 0) for value in self._constants.values())

    @property
    def num_steps(self) -> int:
        return sum(step.size for step in self._steps)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def _finish(self, steps: list[_Step]) -> None:
        self._steps = steps
        self._calls: list[Any] | None = None
        used = {slot for step in steps for slot in step.ins} | set(self._outputs)
        self._constants = {slot: value for slot, value in self._constants.items() if slot in used}
        self.cost = sum(step.cost for step in steps)
        self.unknown: frozenset[str] = frozenset().union(*(step.unknown for step in steps if step.unknown))
        self.has_effects = not all(step.is_pure for step in steps)

    def _ready(self) -> list[Any]:
        """The calls, which are made when they are needed first."""
        frees = _frees(self._steps, {*self._outputs, *self._constants})
        blank: list[Any] = [None] * self._num_slots
        for slot, value in self._constants.items():
            blank[slot] = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
        self._blank = blank
        self._calls = calls = [_call(step, free) for step, free in zip(self._steps, frees, strict=True)]
        return calls

    def __call__(self, *inputs: Any) -> list[Any]:
        """The outputs, which may be views of each other and of inputs, and are not to be written to."""
        with np.errstate(all="ignore"):
            return [np.asarray(x) if isinstance(x, np.generic) else x for x in self.run(*inputs)]

    def run(self, *inputs: Any) -> list[Any]:
        """As a call; numbers may be NumPy's scalars, and NumPy may warn of what is not finite."""
        calls = self._ready() if self._calls is None else self._calls
        values = self._blank.copy()
        for slot, x in zip(self._inputs, inputs, strict=True):
            values[slot] = x
        for operands, run, ins, outs, free in calls:
            if operands == 2:  # each in its own line: most calls are short
                i, j = ins
                values[outs] = run(values[i], values[j])
            elif operands == 1:
                values[outs] = run(values[ins[0]])
            elif operands == 3:
                i, j, k = ins
                values[outs] = run(values[i], values[j], values[k])
            else:
                out = run(*[values[i] for i in ins])
                for slot, x in zip(outs, out, strict=True):
                    values[slot] = x
            if free:
                for slot in free:
                    values[slot] = None
        return [values[slot] for slot in self._outputs]


def evaluate_once(equation: Any, operands: Sequence[Any]) -> Sequence[Any]:
    """The outputs of one equation at values of its inputs, by NumPy where it has a rule for it.

    **Raises:** `TooLong` for a loop or a branch that should be a program.
    """
    step = _step(_Node(equation, (), ()))
    with np.errstate(all="ignore"):
        out = step.run(*(_as_numpy(x, v.aval) for x, v in zip(operands, equation.invars, strict=True)))
    return [out] if step.is_single else out


class _Flattened:
    """The equations of a jaxpr and of those that it calls, in one list."""

    def __init__(self):
        self.nodes: list[_Node] = []
        self.constants: dict[int, Any] = {}
        self.known: dict[int, Any] = {}  # inputs whose values decide which branch is taken
        self.inputs: frozenset[int] = frozenset()
        self.has_branches_by_input = False
        self.num_slots = 0

    def slot(self) -> int:
        self.num_slots += 1
        return self.num_slots - 1

    def constant(self, value: Any) -> int:
        slot = self.slot()
        self.constants[slot] = value
        return slot

    def read(self, atom: Any, names: dict[Any, int]) -> int:
        if hasattr(atom, "val"):  # a literal
            return self.constant(_as_numpy(atom.val, atom.aval))
        return names[atom]

    def add(self, jaxpr: Any, consts: Sequence[Any], names: dict[Any, int]) -> None:
        """Appends the equations of `jaxpr`; `names` holds the slots of its inputs and, after, those of all."""
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            names[var] = self.constant(_as_numpy(value, var.aval))
        for equation in jaxpr.eqns:
            ins = tuple(self.read(atom, names) for atom in equation.invars)
            inner, positions = self._called(equation, ins)
            if inner is not None:
                names_inside = dict(zip(_jaxpr(inner).invars, (ins[i] for i in positions), strict=True))
                self.add(_jaxpr(inner), getattr(inner, "consts", ()), names_inside)
                outs = [self.read(atom, names_inside) for atom in _jaxpr(inner).outvars]
            elif equation.primitive.name == "platform_index":
                outs = [self.constant(np.int32(_platform_index(equation.params["platforms"])))]
            else:
                outs = [self.slot() for _ in equation.outvars]
                self.nodes.append(_Node(equation, ins, tuple(outs)))
            names.update(zip(equation.outvars, outs, strict=True))

    def _called(self, equation: Any, ins: tuple[int, ...]) -> tuple[Any, Sequence[int]]:
        """The jaxpr that an equation only calls, and which of its inputs are the inputs of that; else `None`."""
        name, params = equation.primitive.name, equation.params
        if (inner := called(equation)) is not None:
            return inner, range(len(ins))
        if name == "custom_linear_solve":
            lengths, solve = params["const_lengths"], params["jaxprs"].solve
            before = lengths.matvec + lengths.vecmat
            return solve, [*range(before, before + lengths.solve), *range(sum(lengths), len(ins))]
        if name == "cond":
            self.has_branches_by_input |= ins[0] in self.inputs
            if (which := self.constants.get(ins[0], self.known.get(ins[0]))) is not None:
                branches = params["branches"]
                return branches[min(max(int(which), 0), len(branches) - 1)], range(1, len(ins))
        return None, ()


def _jaxpr(closed: Any) -> Any:
    return getattr(closed, "jaxpr", closed)


def _as_numpy(value: Any, aval: Any) -> Any:
    return np.asarray(value, aval.dtype) if is_plain(aval) else value


def _platform_index(platforms: Sequence[Any]) -> int:
    """Which of the branches by platform is that of the CPU, or of any."""
    for i, names in enumerate(platforms):
        if names is None or "cpu" in (names if isinstance(names, tuple | list) else (names,)):
            return i
    raise NotImplementedError(f"a function of other platforms than the CPU: {platforms}")


def _needed(nodes: Sequence[Any], outputs: Sequence[int]) -> list[Any]:
    """Those whose results are used, or that have effects."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not node.is_pure or not wanted.isdisjoint(node.outs):
            wanted.update(node.ins)
            kept.append(node)
    return kept[::-1]


def _folded(
    steps: Sequence[_Step], constants: dict[int, Any], outputs: Sequence[int], is_inner: bool
) -> tuple[list[_Step], dict[int, Any]]:
    """Steps, and the values in slots, with what depends on constants alone computed, and let go when no step is left
    that reads it."""
    kept: list[_Step] = []
    readers = Counter(slot for step in steps for slot in set(step.ins))
    readers.update(outputs)
    seconds_left = 0.0 if is_inner else _FOLD_SECONDS
    for step in steps:
        if all(slot in constants for slot in step.ins) and _may_fold(step, seconds_left):
            try:
                out = step.run(*(constants[slot] for slot in step.ins))
            except TooLong:
                kept.append(step)
                continue
            seconds_left -= step.cost if step.cost > _CHEAP else 0.0
            constants.update(zip(step.outs, [out] if step.is_single else out, strict=True))
            for slot in set(step.ins):
                readers[slot] -= 1
                if readers[slot] == 0:
                    del constants[slot]
            continue
        if isinstance(step.run, indexing.Indexed) and step.ins[1] in constants:
            step = dataclasses.replace(step, run=step.run.at(constants[step.ins[1]]))
        kept.append(step)
    return kept, constants


def _may_fold(step: _Step, seconds_left: float) -> bool:
    if not step.is_pure or (step.unknown and (seconds_left == 0 or any("call" in name for name in step.unknown))):
        return False  # it may call back
    if step.cost <= _CHEAP and not step.is_control_flow:
        return True
    return step.cost <= seconds_left and step.largest <= _FOLD_NUMBERS


def _step(node: _Node) -> _Step:
    equation = node.equation
    name = equation.primitive.name
    unknown, cost, size, is_number = frozenset[str](), seconds(equation), 1, False
    run, is_single = None, not equation.primitive.multiple_results
    if all(is_plain(v.aval) for v in (*equation.invars, *equation.outvars)):
        if name in control_flow.RULES:
            inner: list[Plan] = []

            def make(closed: Any) -> Callable[..., Sequence[Any]]:
                inner.append(Plan(closed, is_inner=True))
                return inner[-1].run

            run = control_flow.RULES[name](equation, make)
            costs, size = [plan.cost for plan in inner], 1 + sum(plan.num_steps for plan in inner)
            if name == "cond":
                run = control_flow.without_long_branches(run, costs)
                cost += min(costs)
            else:
                cost += (equation.params["length"] if name == "scan" else TRIPS) * sum(costs)
            unknown = unknown.union(*(plan.unknown for plan in inner))
        elif (run := scalars.rule(equation)) is not None:
            is_number = True
        elif name in _RULES:
            run = _RULES[name](equation)
            run = None if run is None else scalars.as_number(equation, run)
    if run is None:
        run, unknown, cost, is_single = bound(equation), frozenset({name}), cost + UNKNOWN, False
    largest = max((math.prod(v.aval.shape) for v in equation.outvars), default=0)
    is_pure, is_control_flow = not equation.effects, name in control_flow.RULES
    return _Step(run, node.ins, node.outs, is_single, is_pure, cost, unknown, size, is_number, is_control_flow, largest)


def _call(step: _Step, free: tuple[int, ...]) -> tuple[int, Callable[..., Any], tuple[int, ...], Any, tuple[int, ...]]:
    """The number of operands, 0 for a function that takes or returns several values; what is called; the slots."""
    operands = len(step.ins)
    if step.is_single and operands in (1, 2, 3):
        return operands, step.run, step.ins, step.outs[0], free
    run = (lambda *args: (step.run(*args),)) if step.is_single else step.run
    return 0, run, step.ins, step.outs, free


def _frees(steps: Sequence[_Step], kept: set[int]) -> list[tuple[int, ...]]:
    """For each step the slots that no later one reads, but for those of numbers, which need no memory."""
    last: dict[int, int] = {}
    for i, step in enumerate(steps):
        last.update(dict.fromkeys((*step.ins, *step.outs), i))
    kept = kept | {slot for step in steps if step.is_number for slot in step.outs}
    free: list[list[int]] = [[] for _ in steps]
    for slot, i in last.items():
        if slot not in kept:
            free[i].append(slot)
    return [tuple(slots) for slots in free]
