"""`jit`: `eqx.filter_jit`, compiled in half the time where a call is at the top level and on the CPU."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ._labels import unlabelled
from ._parameter import is_concrete

P = ParamSpec("P")
T = TypeVar("T")

# XLA's newer emitters take some 10 ms for each of the hundreds of small fusions of a fit, the older ones a third of
# that, and the programs are as fast (benchmarks/first_call.py, warm_fit.py).
QUICK = {"xla_cpu_use_fusion_emitters": False}


def jit(fn: Callable[P, T]) -> Callable[P, T]:
    """As `eqx.filter_jit`, without the names of likelihoods that no program depends on."""
    plain = eqx.filter_jit(fn)
    quick: Callable[P, T] = eqx.filter_jit(fn, compiler_options=QUICK)  # pyright: ignore[reportCallIssue]

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        args, kwargs = unlabelled((args, kwargs))
        if _at_top_level((args, kwargs)) and quick_is_there():
            try:
                return quick(*args, **kwargs)
            except ValueError as error:
                # JAX takes options at the top level only, and this was not it: the likelihood closes over a tracer, of
                # an eager `vmap` or `grad`.
                if "compiler_options" not in str(error):
                    raise
        return plain(*args, **kwargs)

    def memory(*args: P.args, **kwargs: P.kwargs) -> int | None:
        args, kwargs = unlabelled((args, kwargs))
        stage: Any = quick if quick_is_there() else plain
        told = stage.lower(*args, **kwargs).compile().compiled.memory_analysis()
        if told is None:
            return None
        return int(told.argument_size_in_bytes + told.output_size_in_bytes + told.temp_size_in_bytes)

    # bytes of the compiled program's arguments, results and intermediate arrays, where XLA tells
    call.memory = memory  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
    return call


def _at_top_level(inputs: Any) -> bool:
    leaves = [leaf for leaf in jax.tree.leaves(inputs) if eqx.is_array(leaf)]
    return is_concrete(jnp.asarray(0.0), *leaves)  # a number is traced while something else is


@functools.cache
def quick_is_there() -> bool:
    """Whether this is XLA for the CPU, in a version that knows the option."""
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options=QUICK)()
    except jax.errors.JaxRuntimeError:
        return False
    return True
