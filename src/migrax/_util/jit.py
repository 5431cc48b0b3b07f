"""`jit`: as `eqx.filter_jit`, but each call uses the values that its functions capture now, and calls at the top level
compile in half the time on the CPU."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxlib.version

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

# XLA's newer emitters take about 10 ms for each of the hundreds of small fusions of a fit, the older ones a third of
# that, and the programs of one fit are equally fast (benchmarks/first_call.py, warm_fit.py). A program of many fits is
# not: where a loop writes into the array that it reads, the older emitters' has no vector instructions. JAX 0.11.1 has
# the newer ones alone.
QUICK = {"xla_cpu_use_fusion_emitters": False}
_WITHOUT_QUICK = (0, 11, 1)

# Limits for each jitted function, which keeps the programs used last: on their number, and on the bytes of captured
# data that they hold, which may be large.
_PROGRAMS = 512
_BYTES = 2**28


def jit(fn: Callable[P, T]) -> Callable[P, T]:
    """As `eqx.filter_jit`, for functions of likelihoods. Arrays whose sharding is part of their type are allowed; the
    results are then replicated.

    All inputs that are no arrays are static, and so are the values that functions among them capture (`Captured`): if
    these have changed since the last call, the function is traced again.
    """
    return _jitted(fn, _Programs(fn))


def jit_long(fn: Callable[P, T]) -> Callable[P, T]:
    """`jit` for programs of many fits, whose time to run counts more than that to compile."""
    return _jitted(fn, _Programs(fn, functools.partial(_Program, may_be_quick=False)))


def _jitted(fn: Callable[P, T], programs: "_Programs") -> Callable[P, T]:
    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        mesh = explicit_mesh(_arrays((args, kwargs)))
        try:
            if mesh is None:
                return programs.call(args, kwargs)
            return where_xla_decides(lambda inputs: programs.call(*inputs), mesh, (args, kwargs))
        except ValueError as error:
            if mesh is None and "Closure-converted function called with different" in str(error):
                raise ValueError(_CLOSED_OVER) from error
            if "should match the aval mesh" not in str(error):
                raise
        return programs.call(args, kwargs)  # it closes over an array of the mesh that is set, and so runs on this mesh

    # bytes of the compiled program's arguments, results and intermediate arrays; `None` if XLA does not report them
    call.memory = lambda *args, **kwargs: programs.memory(args, kwargs)  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
    return call


class _Static(eqx.Module):
    """The static part of the output of a program."""

    value: Any = eqx.field(static=True)


class _Program:
    """One function with its static inputs. JAX drops the compiled program with the last reference to this object."""

    def __init__(self, fn: Callable, static: tuple[Any, ...], treedef: Any, may_be_quick: bool = True):
        self.nbytes = 0  # bytes of the data that functions among `static` capture
        self._may_be_quick = may_be_quick
        self._traces = traces = [0]  # a list, so that `run` needs no reference to `self`, which would be a cycle

        def run(dynamic: tuple[Any, ...]) -> tuple[Any, Any, _Static]:
            traces[0] += 1
            leaves = [s if d is None else d for d, s in zip(dynamic, static, strict=True)]
            args, kwargs = jax.tree.unflatten(treedef, leaves)
            arrays, static_outputs = eqx.partition(fn(*args, **kwargs), eqx.is_array)
            return jnp.array(0), arrays, _Static(static_outputs)

        run.__name__, run.__qualname__ = fn.__name__, fn.__qualname__
        self.plain = jax.jit(run)
        self.quick = jax.jit(run, compiler_options=QUICK)

    @property
    def traces(self) -> int:
        """The number of times it was traced."""
        return self._traces[0]

    def __call__(self, dynamic: tuple[Any, ...]) -> Any:
        try:
            marker, arrays, static_outputs = self._called(dynamic)
            if is_concrete(marker):
                marker.block_until_ready()  # raises errors of this call here
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            _, separator, message = str(error).partition("_EquinoxRuntimeError: ")
            if not separator:
                raise
            # from `eqx.error_if` in a likelihood
            raise eqx.EquinoxRuntimeError(message.partition("\n\n\n")[0]) from None
        return eqx.combine(arrays, static_outputs.value)

    def lowered(self, dynamic: tuple[Any, ...]) -> Any:
        return (self.quick if self._may_be_quick and quick_is_there() else self.plain).lower(dynamic)

    def _called(self, dynamic: tuple[Any, ...]) -> Any:
        if self._may_be_quick and _at_top_level(_arrays(dynamic)) and quick_is_there():
            try:
                return self.quick(dynamic)
            except ValueError as error:
                # JAX accepts compiler options at the top level only. This call is not there: the likelihood closes over
                # a tracer of an eager `vmap` or `grad`.
                if "compiler_options" not in str(error):
                    raise
        return self.plain(dynamic)


class _Kept:
    """What a function returns for its static inputs and the shapes of the others."""

    def __init__(self, fn: Callable, static: tuple[Any, ...], treedef: Any):
        self.nbytes, self.traces = 0, 0
        self._fn, self._static, self._treedef = fn, static, treedef
        self._kept: dict[Any, Any] = {}

    def __call__(self, dynamic: tuple[Any, ...]) -> Any:
        settings = jax.config.jax_enable_x64, jax.config.jax_numpy_dtype_promotion  # pyright: ignore[reportAttributeAccessIssue]
        key = settings, tuple(None if x is None else jax.typeof(x) for x in dynamic)
        if key not in self._kept:
            self.traces += 1
            leaves = [s if d is None else d for d, s in zip(dynamic, self._static, strict=True)]
            args, kwargs = jax.tree.unflatten(self._treedef, leaves)
            self._kept[key] = self._fn(*args, **kwargs)
        return self._kept[key]


def kept(fn: Callable[P, T]) -> Callable[P, T]:
    """What `fn` returns for inputs with these static values, captured values, shapes and dtypes, as `jit` would see
    them. It is called at the first of them alone, and so must return nothing that depends on the numbers in arrays."""
    programs = _Programs(fn, _Kept)

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return programs.call(args, kwargs)

    return call


class _StaticInputs:
    """The static inputs of calls, and the values that their functions capture."""

    def __init__(self, tree: Any, static: tuple[Any, ...]):
        self.functions = [x for x in roots_of(tree) if can_change(x)]
        self.changes = bool(self.functions) or any(map(can_change, static))
        self.ignored: frozenset[Any] = frozenset()  # places that the functions write themselves when they are traced

    def capture(self, static: tuple[Any, ...]) -> Captured | None:
        return Captured([*self.functions, *filter(may_see, static)]) if self.changes else None

    def key(self, captured: Captured | None) -> tuple[Any, ...]:
        return () if captured is None else captured.without(self.ignored)


class _Programs:
    """The programs of one function, ordered by their last use."""

    def __init__(self, fn: Callable, kind: Callable[..., Any] = _Program):
        self.fn, self._kind, self._lock = fn, kind, threading.Lock()
        self._static_inputs: dict[Any, _StaticInputs] = {}
        self._programs: OrderedDict[tuple[Any, tuple[Any, ...]], Any] = OrderedDict()

    def call(self, args: Any, kwargs: Any) -> Any:
        return self._with(args, kwargs, lambda program, dynamic: program(dynamic))

    def memory(self, args: Any, kwargs: Any) -> int | None:
        analysis = self._with(
            args, kwargs, lambda program, dynamic: program.lowered(dynamic).compile().memory_analysis()
        )
        if analysis is None:
            return None
        return int(analysis.argument_size_in_bytes + analysis.output_size_in_bytes + analysis.temp_size_in_bytes)

    def _with(self, args: Any, kwargs: Any, use: Callable[[Any, tuple[Any, ...]], T]) -> T:
        args, kwargs = unlabelled((args, kwargs))
        leaves, treedef = jax.tree.flatten((args, kwargs))
        dynamic = tuple(x if eqx.is_array(x) else None for x in leaves)
        static = tuple(None if eqx.is_array(x) else x for x in leaves)
        key = (static, tuple(map(type, static)), treedef)
        try:
            static_inputs = self._static_inputs.get(key)
        except TypeError:
            refuse_unhashable(self.fn, args, kwargs)
            raise
        if static_inputs is None:
            static_inputs = self._static_inputs[key] = _StaticInputs((args, kwargs), static)
        captured = static_inputs.capture(static)
        program = self._find(key, static_inputs, captured, lambda: self._kind(self.fn, static, treedef))
        before = program.traces
        out = use(program, dynamic)
        if captured is not None and program.traces > before:
            self._rename(key, static_inputs, captured, static_inputs.capture(static), program)
        return out

    def _find(self, key: Any, static_inputs: _StaticInputs, captured: Captured | None, make: Callable[[], Any]) -> Any:
        with self._lock:
            program_key = (key, static_inputs.key(captured))
            program = self._programs.get(program_key)
            if program is None:
                program = make()
                if captured is not None:
                    program.nbytes = captured.nbytes
                    captured.prepare()
                self._programs[program_key] = program
                self._static_inputs.setdefault(key, static_inputs)
                self._drop()
            self._programs.move_to_end(program_key)
        return program

    def _rename(
        self, key: Any, static_inputs: _StaticInputs, before: Captured, after: Captured | None, program: Any
    ) -> None:
        """Files the program under the values captured after tracing, which may itself have changed them: a counter or
        cache that the function writes does not cause a new trace, and the program holds what was read in."""
        assert after is not None
        with self._lock:
            program_key = (key, static_inputs.key(before))
            static_inputs.ignored |= after.written_since(before)
            if program_key != (key, static_inputs.key(after)) and self._programs.get(program_key) is program:
                del self._programs[program_key]
                self._programs[key, static_inputs.key(after)] = program

    def _drop(self) -> None:
        total = sum(program.nbytes for program in self._programs.values())
        while len(self._programs) > _PROGRAMS or (total > _BYTES and len(self._programs) > 1):
            (key, _), program = self._programs.popitem(last=False)
            total -= program.nbytes
            if not any(other == key for other, _ in self._programs):
                self._static_inputs.pop(key, None)


def jit_quick(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit`, for calls at the top level, which compile in half the time on the CPU."""
    return jax.jit(fn, compiler_options=QUICK) if quick_is_there() else jax.jit(fn)


def _arrays(inputs: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(inputs) if eqx.is_array(leaf)]


def _at_top_level(leaves: list[Any]) -> bool:
    return is_concrete(jnp.asarray(0.0), *leaves)  # a constant is a tracer while something is traced


def quick_is_there() -> bool:
    """Returns whether the backend is XLA for the CPU, in a version that knows the option."""
    return jaxlib.version.__version_info__[:3] < _WITHOUT_QUICK and jax.default_backend() == "cpu"
