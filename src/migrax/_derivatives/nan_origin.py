"""Locates the operation of a model, and its line, that makes a value or a derivative not finite."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from .._host.plan import evaluate_once
from .._host.trips import TooLong
from .._parameters.space import ravel, resolve_at
from .._util.chunks import whole_sums
from .._util.jaxprs import called, evaluate
from .._util.typing import PyTree

_PACKAGE = str(Path(__file__).parents[1])

# jnp.where passes a 0 to the derivative of the branch that is not taken, and 0 times infinity is NaN.
_OF_DERIVATIVES = (
    ", although the likelihood is finite there. A root, a power or a logarithm of 0? Guard what goes in, not what "
    "comes out: jnp.where(x > 0, f(jnp.where(x > 0, x, 1.0)), limit)"
)


class _Made(NamedTuple):
    """A value, with the equation that computed it and the inputs of that equation."""

    value: Any
    equation: Any  # `None` for an input of the model
    inputs: tuple["_Made", ...]


def describe(nll: Any, params: PyTree, data: PyTree) -> str:
    """A sentence that says whether the value, the gradient or the second derivatives are not finite at `params`, and
    which operation of the model is the cause; empty if all are finite or the operation is not found."""
    x, space = ravel(params)

    def value(x: Array) -> Any:
        return nll(resolve_at(params, x), data)

    for order, fn in (("value", value), ("gradient", jax.grad(value)), ("second derivative", jax.hessian(value))):
        result = _evaluate(fn, x)
        bad = ~np.isfinite(np.asarray(result.value))
        if not np.any(bad):
            continue
        parameters = "" if bad.ndim == 0 else f" by {_names_text(bad, space.names)}"
        operation = _operation_text(_origin(result))
        if not operation:
            return ""
        hint = "" if order == "value" else _OF_DERIVATIVES
        return f"The {order}{parameters} is not finite because of {operation}{hint}."
    return ""


def _names_text(bad: np.ndarray, names: tuple[str, ...]) -> str:
    bad_names = [names[int(i)] for i in np.flatnonzero(bad if bad.ndim == 1 else np.any(bad, axis=0))]
    return ", ".join(bad_names[:5]) + (f" and {len(bad_names) - 5} more" if len(bad_names) > 5 else "")


def _evaluate(fn: Any, x: Array) -> _Made:
    with whole_sums():  # operations in a loop are not looked at
        closed = jax.make_jaxpr(fn)(x)
    inputs = [_Made(x, None, ())]
    return _evaluate_jaxpr(closed.jaxpr, [_Made(c, None, ()) for c in closed.consts], inputs)[0]


def _evaluate_jaxpr(jaxpr: Any, consts: list[_Made], inputs: list[_Made]) -> list[_Made]:
    """Evaluates a jaxpr one operation at a time, and records how each value was computed."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))

    def read(atom: Any) -> _Made:
        return _Made(atom.val, None, ()) if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        inner = called(equation)
        if inner is not None:
            consts = [_Made(c, None, ()) for c in getattr(inner, "consts", ())]
            out = _evaluate_jaxpr(getattr(inner, "jaxpr", inner), consts, operands)
        else:
            at = [o.value for o in operands]
            try:
                outputs = evaluate_once(equation, at)
            except TooLong:
                outputs = evaluate(equation, at)
            out = [_Made(value, equation, tuple(operands)) for value in outputs]
        values.update(zip(equation.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _origin(made: _Made) -> _Made:
    """The operation that a non-finite value originates from: its inputs are finite and its output is not."""
    while True:
        bad = [o for o in made.inputs if not _is_finite(o.value)]
        if not bad or made.equation is None:
            return made
        with_nan = [o for o in bad if np.any(np.isnan(np.asarray(o.value)))]
        made = (with_nan or bad)[0]


def _is_finite(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind not in "fc" or bool(np.all(np.isfinite(array)))


def _operation_text(made: _Made) -> str:
    """The operation as text, with the user's line in which it stands; that of the call of a fit says nothing."""
    if made.equation is None:
        return ""
    name, trace = made.equation.primitive.name, made.equation.source_info.traceback
    of_model = itertools.takewhile(lambda f: f.file_name != __file__, [] if trace is None else trace.frames)
    frames = [f for f in of_model if not _is_installed(f.file_name)]
    line = next((f"{Path(f.file_name).name}:{_line_number(f)}" for f in frames), "")
    return f"the operation {name!r} in {line}" if line else f"the operation {name!r}"


def _line_number(frame: Any) -> int:
    return getattr(frame, "line_num", None) or frame.start_line


def _is_installed(path: str) -> bool:
    return path.startswith(_PACKAGE) or "site-packages" in path or "dist-packages" in path
