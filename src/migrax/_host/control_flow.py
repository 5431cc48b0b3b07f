"""Loops and branches of a jaxpr, in Python."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._util.jaxprs import numbers_of_scan
from .trips import LONGEST_BRANCH, MAX_TRIPS, TooLong

Function = Callable[..., Sequence[Any]]
Make = Callable[[Any], Function]


def _cond(equation: Any, make: Make) -> Function:
    branches = [make(branch) for branch in equation.params["branches"]]
    last = len(branches) - 1
    return lambda index, *operands: branches[min(max(int(index), 0), last)](*operands)


def without_long_branches(run: Function, costs: Sequence[float]) -> Function:
    """A branch is counted by its cheapest alternative, as the others may be for what is rare.

    **Raises:** `TooLong` instead of taking one for which a program is better.
    """
    long = [cost > LONGEST_BRANCH for cost in costs]
    if not any(long):
        return run

    def checked(index: Any, *operands: Any) -> Sequence[Any]:
        if long[min(max(int(index), 0), len(long) - 1)]:
            raise TooLong
        return run(index, *operands)

    return checked


def _while(equation: Any, make: Make) -> Function:
    params = equation.params
    condition, body = make(params["cond_jaxpr"]), make(params["body_jaxpr"])
    ends = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]

    def loop(*operands: Any) -> Sequence[Any]:
        of_condition, of_body, state = operands[: ends[0]], operands[ends[0] : ends[1]], operands[ends[1] :]
        trips = 0
        while np.any(go := condition(*of_condition, *state)[0]):
            if (trips := trips + 1) > MAX_TRIPS:
                raise TooLong
            moved = body(*of_body, *state)
            # a loop of a batch, whose members end one by one
            state = moved if np.ndim(go) == 0 else [_where(go, a, b) for a, b in zip(moved, state, strict=True)]
        return state

    return loop


def _where(which: Any, yes: Any, no: Any) -> Any:
    return np.where(np.reshape(which, which.shape + (1,) * (np.ndim(yes) - which.ndim)), yes, no)


def _scan(equation: Any, make: Make) -> Function:
    params = equation.params
    body, length = make(params["jaxpr"]), params["length"]
    num_consts, num_carry = numbers_of_scan(params)
    stacked = [v.aval for v in equation.outvars[num_carry:]]
    order = range(length - 1, -1, -1) if params["reverse"] else range(length)

    def loop(*operands: Any) -> Sequence[Any]:
        consts, carry = operands[:num_consts], operands[num_consts : num_consts + num_carry]
        rows = operands[num_consts + num_carry :]
        out = [np.empty(aval.shape, aval.dtype) for aval in stacked]
        for i in order:
            results = body(*consts, *carry, *(x[i] for x in rows))
            carry = results[:num_carry]
            for array, row in zip(out, results[num_carry:], strict=True):
                array[i] = row
        return [*carry, *out]

    return loop


RULES: dict[str, Callable[[Any, Make], Function]] = {"cond": _cond, "scan": _scan, "while": _while}
