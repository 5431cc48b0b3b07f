"""`jit`: `eqx.filter_jit`, compiled in half the time where a call is at the top level and on the CPU."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ._explicit import explicit_mesh, where_xla_decides
from ._parameter import is_concrete

P = ParamSpec("P")
T = TypeVar("T")

_CLOSED_OVER = (
    "the likelihood closes over an array whose sharding is part of its type (AxisType.Explicit, as of jax.make_mesh): "
    "give it as data, the third argument of mx.fit, or call with jax.set_mesh"
)

# XLA's newer emitters take some 10 ms for each of the hundreds of small fusions of a fit, the older ones a third of
# that, and the programs are as fast (benchmarks/first_call.py, warm_fit.py).
QUICK = {"xla_cpu_use_fusion_emitters": False}


def jit(fn: Callable[P, T]) -> Callable[P, T]:
    """As `eqx.filter_jit`, also of arrays whose sharding is part of their type: what comes out is then everywhere."""
    plain: Callable[..., T] = eqx.filter_jit(fn)
    quick: Callable[..., T] = eqx.filter_jit(fn, compiler_options=QUICK)  # pyright: ignore[reportCallIssue]

    def run(leaves: list[Any], args: Any, kwargs: Any) -> T:
        if _at_top_level(leaves) and quick_is_there():
            try:
                return quick(*args, **kwargs)
            except ValueError as error:
                # JAX takes options at the top level only, and this was not it: the likelihood closes over a tracer, of
                # an eager `vmap` or `grad`.
                if "compiler_options" not in str(error):
                    raise
        return plain(*args, **kwargs)

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        leaves = _arrays((args, kwargs))
        mesh = explicit_mesh(leaves)
        try:
            if mesh is None:
                return run(leaves, args, kwargs)
            return where_xla_decides(lambda inputs: run(_arrays(inputs), *inputs), mesh, (args, kwargs))
        except ValueError as error:
            if mesh is None and "Closure-converted function called with different" in str(error):
                raise ValueError(_CLOSED_OVER) from error
            if "should match the aval mesh" not in str(error):
                raise
        return run(leaves, args, kwargs)  # it closes over an array of the mesh that is set, and so sees it as it is

    def memory(*args: P.args, **kwargs: P.kwargs) -> int | None:
        stage: Any = quick if quick_is_there() else plain
        told = stage.lower(*args, **kwargs).compile().compiled.memory_analysis()
        if told is None:
            return None
        return int(told.argument_size_in_bytes + told.output_size_in_bytes + told.temp_size_in_bytes)

    # bytes of the compiled program's arguments, results and intermediate arrays, where XLA tells
    call.memory = memory  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
    return call


def _arrays(inputs: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(inputs) if eqx.is_array(leaf)]


def _at_top_level(leaves: list[Any]) -> bool:
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
