"""`hosted`: small functions of arrays that NumPy evaluates where the arrays are known, so that nothing is compiled.

The programs of fits are few and large. What stands around them (an offset, a selection, a shape) takes NumPy
microseconds, and JAX, which compiles each operation, some 15 ms the first time.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from .._util.tracing import is_concrete, is_tracing
from .._util.typing import PyTree
from .bound import is_plain
from .plan import Plan
from .trips import TooLong
from .ways import forced
from .xp import in_program, is_on_host

P = ParamSpec("P")
T = TypeVar("T")

_MAX_PLANS = 128  # for each function


class _Hosted:
    """A function traced for inputs of certain shapes, dtypes and static values."""

    def __init__(self, fn: Callable[..., Any], static: tuple[Any, ...], treedef: Any, arrays: list[Any]):
        self._static_outputs: Any = None
        self._treedef: Any = None

        def flat(*arrays: Any) -> list[Any]:
            given = iter(arrays)
            args, kwargs = jax.tree.unflatten(treedef, [next(given) if s is _ARRAY else s for s in static])
            outputs, self._static_outputs = eqx.partition(fn(*args, **kwargs), eqx.is_array)
            leaves, self._treedef = jax.tree.flatten(outputs)
            return leaves

        with in_program():
            closed = jax.make_jaxpr(flat)(*arrays)
        inputs = {var: i for i, var in enumerate(closed.jaxpr.invars)}
        out = closed.jaxpr.outvars
        # An output that is an input is handed on as it is.
        self._same = {i: inputs[var] for i, var in enumerate(out) if not hasattr(var, "val") and var in inputs}
        self._computed = [i for i in range(len(out)) if i not in self._same]
        plan = Plan(closed).only(self._computed)
        self._plan = None if plan.unknown else plan
        self._program = jax.jit(jaxpr_as_fun(closed))

    def __call__(self, arrays: list[Any]) -> Any:
        if is_on_host():
            return self._on_host(arrays)
        by_plan = self._by_plan(lambda plan: plan(*map(np.asarray, arrays)))
        if by_plan is None:
            made = self._program(*arrays)
            made = [made[i] for i in self._computed]
        else:
            # Copies, as JAX may keep the memory that it is given, and the caller may write to that of an input.
            made = jax.device_put([np.array(x) for x in by_plan], _device(arrays))
        leaves = dict(zip(self._computed, made, strict=True))
        leaves |= {i: x if isinstance(x := arrays[k], jax.Array) else jnp.array(x) for i, k in self._same.items()}
        outputs = jax.tree.unflatten(self._treedef, [leaves[i] for i in range(len(leaves))])
        return eqx.combine(outputs, self._static_outputs)

    def _by_plan(self, call: Callable[[Plan], list[Any]]) -> list[Any] | None:
        """What the plan computes; `None` where it has to be a program."""
        if self._plan is None:
            return None
        try:
            return call(self._plan)
        except TooLong:
            self._plan = None
            return None

    def _on_host(self, arrays: list[Any]) -> Any:
        """The outputs as NumPy's arrays and numbers."""
        leaves: dict[int, Any] = {i: arrays[k] for i, k in self._same.items()}
        made = self._by_plan(lambda plan: plan.run(*arrays))
        if made is None:
            made = [np.asarray(x) for x in self._program(*arrays)]
            made = [made[i] for i in self._computed]
        leaves |= {i: np.asarray(x)[()] for i, x in zip(self._computed, made, strict=True)}
        outputs = jax.tree.unflatten(self._treedef, [leaves[i] for i in range(len(leaves))])
        return eqx.combine(outputs, self._static_outputs)


_ARRAY = object()  # stands for an array among static inputs


def hosted(fn: Callable[P, T]) -> Callable[P, T]:
    """`fn`, a pure function of arrays and static values that closes over nothing, evaluated by NumPy.

    Where an array is traced or spread over devices, `fn` is called as it stands; what NumPy has not is compiled. The
    outputs have dtypes of their own, also where JAX would let them take that of others (a weak type).
    """
    plans: OrderedDict[Any, _Hosted] = OrderedDict()

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        leaves, treedef = jax.tree.flatten((args, kwargs))
        is_array = _is_numpy if is_on_host() else eqx.is_array
        arrays = [x for x in leaves if is_array(x)]
        if not all(map(is_local, arrays)):
            return fn(*args, **kwargs)
        static = tuple(_ARRAY if is_array(x) else x for x in leaves)
        kinds = tuple((x.shape, x.dtype, getattr(x, "weak_type", False)) for x in arrays)
        settings = jax.config.jax_enable_x64, jax.config.jax_numpy_dtype_promotion  # pyright: ignore[reportAttributeAccessIssue]
        key = (treedef, static, tuple(map(type, static)), kinds, settings)
        try:
            plan = plans.get(key)
        except TypeError:  # something static that cannot be hashed
            return fn(*args, **kwargs)
        if plan is None:
            plan = plans[key] = _Hosted(fn, static, treedef, arrays)
            if len(plans) > _MAX_PLANS:
                plans.popitem(last=False)
        return plan(arrays)

    return call


def _is_numpy(x: Any) -> bool:
    return isinstance(x, np.ndarray | np.generic)


def _device(arrays: list[Any]) -> Any:
    """The device to which the inputs are bound, and so are the outputs; `None` if they are not."""
    return next((x.device for x in arrays if isinstance(x, jax.Array) and x.committed), None)


def is_local(x: Any) -> bool:
    """Whether the numbers are known, and in one place."""
    if not is_concrete(x):
        return False
    return not isinstance(x, jax.Array) or (x.is_fully_addressable and len(x.sharding.device_set) == 1)


def is_for_host(inputs: PyTree) -> bool:
    """Whether a call from Python with these inputs may run on the host: nothing is traced, all is on one CPU."""
    config: Any = jax.config
    return (
        forced() != "program"
        and all(is_local(leaf) and is_plain(leaf) for leaf in jax.tree.leaves(inputs) if eqx.is_array(leaf))
        and jax.default_backend() == "cpu"
        and not is_tracing()
        and not (config.jax_debug_nans or config.jax_debug_infs or config.jax_disable_jit)
    )
