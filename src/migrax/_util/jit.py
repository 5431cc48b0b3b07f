"""`jit`: as `eqx.filter_jit`, but a call sees what its functions see now; compiled in half the time where a call is at
the top level and on the CPU."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._hints.calls import refuse_unhashable
from .captured import Captured, can_change, may_see, roots_of
from .explicit_sharding import explicit_mesh, where_xla_decides
from .labels import unlabelled
from .tracing import is_concrete

P = ParamSpec("P")
T = TypeVar("T")

_CLOSED_OVER = (
    "the likelihood closes over an array whose sharding is part of its type (AxisType.Explicit, as of jax.make_mesh): "
    "give it as data, the third argument of mx.fit, or call with jax.set_mesh"
)

# XLA's newer emitters take some 10 ms for each of the hundreds of small fusions of a fit, the older ones a third of
# that, and the programs are as fast (benchmarks/first_call.py, warm_fit.py).
QUICK = {"xla_cpu_use_fusion_emitters": False}

# Of each jitted function, the programs that are kept: those used last. Where they hold data of closures, which may be
# large, so many bytes of these.
_PROGRAMS = 512
_BYTES = 2**28


def jit(fn: Callable[P, T]) -> Callable[P, T]:
    """As `eqx.filter_jit`, for functions of likelihoods, also of arrays whose sharding is part of their type: what
    comes out is then everywhere.

    What is no array is static, and so is what the functions among it see beside their arguments (`Captured`): where
    that has changed since the last call they are traced again.
    """
    kept = _Programs(fn)

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        mesh = explicit_mesh(_arrays((args, kwargs)))
        try:
            if mesh is None:
                return kept.call(args, kwargs)
            return where_xla_decides(lambda inputs: kept.call(*inputs), mesh, (args, kwargs))
        except ValueError as error:
            if mesh is None and "Closure-converted function called with different" in str(error):
                raise ValueError(_CLOSED_OVER) from error
            if "should match the aval mesh" not in str(error):
                raise
        return kept.call(args, kwargs)  # it closes over an array of the mesh that is set, and so sees it as it is

    # bytes of the compiled program's arguments, results and intermediate arrays, where XLA tells
    call.memory = lambda *args, **kwargs: kept.memory(args, kwargs)  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
    return call


class _Static(eqx.Module):
    """What a program returns beside its arrays."""

    value: Any = eqx.field(static=True)


class _Program:
    """One function with all that is static. JAX drops what was compiled with the last reference to this."""

    def __init__(self, fn: Callable, static: tuple[Any, ...], treedef: Any):
        self.nbytes = 0  # of the data that functions among `static` see
        self._traces = traces = [0]  # `run` refers to nothing that refers to it: it goes with its last reference

        def run(dynamic: tuple[Any, ...]) -> tuple[Any, Any, _Static]:
            traces[0] += 1
            leaves = [s if d is None else d for d, s in zip(dynamic, static, strict=True)]
            args, kwargs = jax.tree.unflatten(treedef, leaves)
            arrays, others = eqx.partition(fn(*args, **kwargs), eqx.is_array)
            return jnp.array(0), arrays, _Static(others)

        run.__name__, run.__qualname__ = fn.__name__, fn.__qualname__
        self.plain = jax.jit(run)
        self.quick = jax.jit(run, compiler_options=QUICK)

    @property
    def traces(self) -> int:
        """How often it was traced."""
        return self._traces[0]

    def __call__(self, dynamic: tuple[Any, ...]) -> Any:
        try:
            marker, arrays, others = self._called(dynamic)
            if is_concrete(marker):
                marker.block_until_ready()  # errors are of this call
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            _, found, said = str(error).partition("_EquinoxRuntimeError: ")
            if not found:
                raise
            # of `eqx.error_if` in a likelihood
            raise eqx.EquinoxRuntimeError(said.partition("\n\n\n")[0]) from None
        return eqx.combine(arrays, others.value)

    def lowered(self, dynamic: tuple[Any, ...]) -> Any:
        return (self.quick if quick_is_there() else self.plain).lower(dynamic)

    def _called(self, dynamic: tuple[Any, ...]) -> Any:
        if _at_top_level(_arrays(dynamic)) and quick_is_there():
            try:
                return self.quick(dynamic)
            except ValueError as error:
                # JAX takes options at the top level only, and this was not it: the likelihood closes over a tracer, of
                # an eager `vmap` or `grad`.
                if "compiler_options" not in str(error):
                    raise
        return self.plain(dynamic)


class _Problem:
    """What is static in some calls."""

    def __init__(self, tree: Any, static: tuple[Any, ...]):
        self.inside = [x for x in roots_of(tree) if can_change(x)]
        self.changes = bool(self.inside) or any(map(can_change, static))
        self.ignored: frozenset[Any] = frozenset()  # what the functions write themselves when they are traced

    def seen(self, static: tuple[Any, ...]) -> Captured | None:
        return Captured([*self.inside, *filter(may_see, static)]) if self.changes else None

    def key(self, seen: Captured | None) -> tuple[Any, ...]:
        return () if seen is None else seen.without(self.ignored)


class _Programs:
    """The programs of one function, those used last at the end."""

    def __init__(self, fn: Callable):
        self.fn, self._lock = fn, threading.Lock()
        self._problems: dict[Any, _Problem] = {}
        self._programs: OrderedDict[tuple[Any, tuple[Any, ...]], _Program] = OrderedDict()

    def call(self, args: Any, kwargs: Any) -> Any:
        return self._with(args, kwargs, lambda program, dynamic: program(dynamic))

    def memory(self, args: Any, kwargs: Any) -> int | None:
        told = self._with(args, kwargs, lambda program, dynamic: program.lowered(dynamic).compile().memory_analysis())
        if told is None:
            return None
        return int(told.argument_size_in_bytes + told.output_size_in_bytes + told.temp_size_in_bytes)

    def _with(self, args: Any, kwargs: Any, use: Callable[[_Program, tuple[Any, ...]], T]) -> T:
        args, kwargs = unlabelled((args, kwargs))
        leaves, treedef = jax.tree.flatten((args, kwargs))
        dynamic = tuple(x if eqx.is_array(x) else None for x in leaves)
        static = tuple(None if eqx.is_array(x) else x for x in leaves)
        key = (static, tuple(map(type, static)), treedef)
        try:
            problem = self._problems.get(key)
        except TypeError:
            refuse_unhashable(self.fn, args, kwargs)
            raise
        if problem is None:
            problem = self._problems[key] = _Problem((args, kwargs), static)
        seen = problem.seen(static)
        program = self._find(key, problem, seen, lambda: _Program(self.fn, static, treedef))
        before = program.traces
        out = use(program, dynamic)
        if seen is not None and program.traces > before:
            self._rename(key, problem, seen, problem.seen(static), program)
        return out

    def _find(self, key: Any, problem: _Problem, seen: Captured | None, make: Callable[[], _Program]) -> _Program:
        with self._lock:
            place = (key, problem.key(seen))
            program = self._programs.get(place)
            if program is None:
                program = make()
                if seen is not None:
                    program.nbytes = seen.nbytes
                    seen.prepare()
                self._programs[place] = program
                self._problems.setdefault(key, problem)
                self._drop()
            self._programs.move_to_end(place)
        return program

    def _rename(self, key: Any, problem: _Problem, before: Captured, now: Captured | None, program: _Program) -> None:
        """After a trace, which may itself have changed what the functions see: what it counts or remembers is no reason
        to trace again, and what it has read in is what the program holds."""
        assert now is not None
        with self._lock:
            place = (key, problem.key(before))
            problem.ignored |= now.written_since(before)
            if place != (key, problem.key(now)) and self._programs.get(place) is program:
                del self._programs[place]
                self._programs[key, problem.key(now)] = program

    def _drop(self) -> None:
        total = sum(program.nbytes for program in self._programs.values())
        while len(self._programs) > _PROGRAMS or (total > _BYTES and len(self._programs) > 1):
            (key, _), program = self._programs.popitem(last=False)
            total -= program.nbytes
            if not any(other == key for other, _ in self._programs):
                self._problems.pop(key, None)


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
