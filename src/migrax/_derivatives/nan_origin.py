"""Where in a model a value or a derivative that is not finite comes from: the operation, and its line."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from .._parameters.space import ravel, resolve_at
from .._util.typing import PyTree

# Primitives that only call what is inside them.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "custom_jvp_call", "custom_vjp_call")
_PACKAGE = str(Path(__file__).parent)

# jnp.where hands a 0 to the derivative of the branch that is not taken, and 0 times infinity is NaN.
_OF_DERIVATIVES = (
    ", although the likelihood is finite there. A root, a power or a logarithm of 0? Guard what goes in, not what "
    "comes out: jnp.where(x > 0, f(jnp.where(x > 0, x, 1.0)), limit)"
)


class _Made(NamedTuple):
    """How a number came about."""

    value: Any
    equation: Any  # None for inputs
    inputs: tuple["_Made", ...]


def describe(nll: Any, params: PyTree, data: PyTree) -> str:
    """A sentence on what is not finite at `params`, the value, the gradient or the second derivatives, and which
    operation of the model makes it so; empty if all is finite or the operation is not found."""
    x, space = ravel(params)

    def value(x: Array) -> Any:
        return nll(resolve_at(params, x), data)

    for what, fn in (("value", value), ("gradient", jax.grad(value)), ("second derivative", jax.hessian(value))):
        made = _followed(fn, x)
        bad = ~np.isfinite(np.asarray(made.value))
        if not np.any(bad):
            continue
        of = "" if bad.ndim == 0 else f" by {_names(bad, space.names)}"
        place = _place(_origin(made))
        if not place:
            return ""
        hint = "" if what == "value" else _OF_DERIVATIVES
        return f"The {what}{of} is not finite because of {place}{hint}."
    return ""


def _names(bad: np.ndarray, names: tuple[str, ...]) -> str:
    where = [names[int(i)] for i in np.flatnonzero(bad if bad.ndim == 1 else np.any(bad, axis=0))]
    return ", ".join(where[:5]) + (f" and {len(where) - 5} more" if len(where) > 5 else "")


def _followed(fn: Any, x: Array) -> _Made:
    closed = jax.make_jaxpr(fn)(x)
    inputs = [_Made(x, None, ())]
    return _run(closed.jaxpr, [_Made(c, None, ()) for c in closed.consts], inputs)[0]


def _run(jaxpr: Any, consts: list[_Made], inputs: list[_Made]) -> list[_Made]:
    """Evaluates a jaxpr, one operation after the other."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))

    def read(atom: Any) -> _Made:
        return _Made(atom.val, None, ()) if hasattr(atom, "val") else known[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if equation.primitive.name in _CALLS and hasattr(inner, "jaxpr"):
            out = _run(inner.jaxpr, [_Made(c, None, ()) for c in inner.consts], operands)
        else:
            bound = equation.primitive.get_bind_params(equation.params)
            functions, options = bound if isinstance(bound, tuple) else ((), bound)  # by the version of JAX
            found = equation.primitive.bind(*functions, *(o.value for o in operands), **options)
            found = found if equation.primitive.multiple_results else [found]
            out = [_Made(value, equation, tuple(operands)) for value in found]
        known.update(zip(equation.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _origin(made: _Made) -> _Made:
    """The first operation on the way to a number that made something that is not finite of what was."""
    while True:
        bad = [o for o in made.inputs if not _is_finite(o.value)]
        if not bad or made.equation is None:
            return made
        with_nan = [o for o in bad if np.any(np.isnan(np.asarray(o.value)))]
        made = (with_nan or bad)[0]


def _is_finite(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind not in "fc" or bool(np.all(np.isfinite(array)))


def _place(made: _Made) -> str:
    """The operation with the user's line that it stands in."""
    if made.equation is None:
        return ""
    name, trace = made.equation.primitive.name, made.equation.source_info.traceback
    frames = [] if trace is None else [f for f in trace.frames if not _is_installed(f.file_name)]
    line = next((f"{Path(f.file_name).name}:{_line(f)}" for f in frames), "")
    return f"the operation {name!r} in {line}" if line else f"the operation {name!r}"


def _line(frame: Any) -> int:
    return getattr(frame, "line_num", None) or frame.start_line


def _is_installed(path: str) -> bool:
    return path.startswith(_PACKAGE) or "site-packages" in path or "dist-packages" in path
