"""`evaluated`: functions of likelihoods that a direct call needs once, by NumPy where that takes it less than XLA takes
to compile."""

import functools
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import numpy as np

from .._util.arrays import to_jax
from .._util.background import Repeats
from .._util.jit import jit, kept
from .._util.tracing import is_concrete
from .hosted import is_for_host
from .plan import Plan
from .trips import TooLong
from .ways import forced

P = ParamSpec("P")
T = TypeVar("T")

_LONGEST = 0.1  # seconds


class _Traced:
    """A function traced for inputs of certain shapes."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]):
        dynamic, static = eqx.partition(args, eqx.is_array)
        leaves, treedef = jax.tree.flatten(dynamic)
        self._treedef: Any = None
        self._static: Any = None

        def flat(*leaves: Any) -> list[Any]:
            out, self._static = eqx.partition(
                fn(*eqx.combine(jax.tree.unflatten(treedef, leaves), static)), eqx.is_array
            )
            arrays, self._treedef = jax.tree.flatten(out)
            return arrays

        closed = jax.make_jaxpr(flat)(*leaves)
        self._plan = Plan(closed) if is_concrete(*closed.consts) else None
        self.repeats = Repeats()

    @property
    def is_usable(self) -> bool:
        plan = self._plan
        if plan is None or plan.unknown or plan.has_effects:
            return False
        return plan.cost < _LONGEST if forced() is None else forced() == "numpy"

    def __call__(self, leaves: list[Any]) -> Any:
        assert self._plan is not None
        arrays = jax.tree.unflatten(self._treedef, self._plan(*map(np.asarray, leaves)))
        return eqx.combine(to_jax(arrays, leaves), self._static)


def evaluated(fn: Callable[P, T]) -> Callable[P, T]:
    """As `jit`, but direct calls are evaluated by NumPy at first."""
    program: Callable[..., T] = jit(fn)
    traced = kept(lambda *args: _Traced(fn, args))

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if kwargs or not is_for_host(args):
            return program(*args, **kwargs)
        jaxpr = traced(*args)
        if not jaxpr.is_usable or jaxpr.repeats.is_ready(()):
            return program(*args)
        start_time = time.perf_counter()
        try:
            out = jaxpr([leaf for leaf in jax.tree.leaves(args) if eqx.is_array(leaf)])
        except TooLong:
            return program(*args)
        jaxpr.repeats.add((), time.perf_counter() - start_time, lambda: program(*args))
        return out

    return call
