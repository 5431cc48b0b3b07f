"""Whether each row of what a function returns depends on its own row of the data alone, and not on their number, as its
jaxprs for two numbers of rows show.

Such a function may be called with some of the rows at a time. Of an operation that is not known here the answer is no.
"""

import enum
from collections.abc import Callable, Sequence, Set
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .jaxprs import called, numbers_of_scan
from .typing import PyTree

_BY_ENTRY = {
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e",
    "bessel_i1e", "bitcast_convert_type", "cbrt", "ceil", "clamp", "complex", "conj", "convert_element_type", "copy",
    "copy_p", "cos", "cosh", "digamma", "div", "eq", "eq_to", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1",
    "floor", "ge", "gt", "igamma", "igamma_grad_a", "igammac", "imag", "integer_pow", "is_finite", "le", "le_to",
    "lgamma", "log", "log1p", "logistic", "lt", "lt_to", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or",
    "polygamma", "pow", "real", "regularized_incomplete_beta", "rem", "round", "rsqrt", "select_n", "shift_left",
    "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub",
    "tan", "tanh", "xor", "zeta",
}  # fmt: skip
_REDUCTIONS = frozenset(
    f"{how}{kind}"
    for how, kinds in (("reduce_", ("sum", "max", "min", "prod", "and", "or")), ("arg", ("max", "min")))
    for kind in kinds
)
_SHAPES = {"shape", "new_sizes", "limit_indices"}  # parameters of operations that may hold the number of rows
_CUMULATIVE = frozenset(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"))


class _Kind(enum.Enum):
    FREE = 0  # of no rows
    SAME = 1  # one row for each of the data, all alike
    ROWS = 2  # one row for each of the data, of its numbers


class _Unknown(Exception):
    """An operation mixes rows, depends on their number, or is not known."""


class _Pair(NamedTuple):
    """The number of all rows, and that of some."""

    n: int
    m: int


def is_rowwise(fn: Callable[[PyTree, PyTree], Any], params: PyTree, rows: PyTree, fewer: int) -> bool:
    """Whether row i of `fn(params, rows)`, of shape `(n,)`, depends on row i of the arrays `rows` alone, of all rows or
    of `fewer`."""
    dynamic, static = eqx.partition((params, rows), eqx.is_array)
    leaves, treedef = jax.tree.flatten(dynamic)
    num_of_rows = len(jax.tree.leaves(rows))
    num_free = len(leaves) - num_of_rows

    def flat(*leaves: Any) -> Any:
        return fn(*eqx.combine(jax.tree.unflatten(treedef, leaves), static))

    kinds = [_Kind.FREE] * num_free + [_Kind.ROWS] * num_of_rows
    sizes = _Pair(leaves[-1].shape[0], fewer)
    some = [jax.ShapeDtypeStruct((fewer, *a.shape[1:]), a.dtype) for a in leaves[num_free:]]
    try:
        of_all: Any = jax.make_jaxpr(flat)(*leaves)
        of_some = jax.make_jaxpr(flat)(*leaves[:num_free], *some)
        if of_all.effects or [v.aval.shape for v in of_all.jaxpr.outvars] != [(sizes.n,)]:
            return False
        return _Kind.FREE not in _outputs(of_all, of_some, kinds, sizes)
    except Exception:  # a function may fail for fewer rows, as if it holds an array of all of them
        return False


def _outputs(a: Any, b: Any, kinds: Sequence[_Kind], sizes: _Pair) -> list[_Kind]:
    """The kinds of the outputs of a jaxpr, given those of its inputs. `a`: for all rows; `b`: for some."""
    constants = (getattr(a, "consts", ()), getattr(b, "consts", ()))
    if not all(x is y or np.array_equal(x, y) for x, y in zip(*constants, strict=True)):
        raise _Unknown
    a, b = getattr(a, "jaxpr", a), getattr(b, "jaxpr", b)
    known = dict(zip(a.invars, kinds, strict=True))
    twins = dict(zip((*a.constvars, *a.invars), (*b.constvars, *b.invars), strict=True))

    def read(atom: Any) -> _Kind:
        return _Kind.FREE if hasattr(atom, "val") else known.get(atom, _Kind.FREE)  # a constant has no rows

    for equation, other in zip(a.eqns, b.eqns, strict=True):
        name = equation.primitive.name
        if name != other.primitive.name or not _same_operands(equation.invars, other.invars, twins):
            raise _Unknown
        twins.update(zip(equation.outvars, other.outvars, strict=True))
        ins = [read(atom) for atom in equation.invars]
        if (inner := called(equation)) is not None:
            out = _outputs(inner, called(other), ins, sizes)
        elif name in _CONTROL_FLOW:
            out = _CONTROL_FLOW[name](equation.params, other.params, ins, sizes)
        else:
            out = [_output(equation, other, ins, sizes)] * len(equation.outvars)
        known.update(zip(equation.outvars, out, strict=True))
    if not _same_operands(a.outvars, b.outvars, twins):
        raise _Unknown
    return [read(atom) for atom in a.outvars]


def _same_operands(a: Sequence[Any], b: Sequence[Any], twins: dict[Any, Any]) -> bool:
    """Whether operands are the same numbers, or variables that are each other's twins."""
    for x, y in zip(a, b, strict=True):
        if hasattr(x, "val") and hasattr(y, "val"):
            if np.asarray(x.val).tobytes() != np.asarray(y.val).tobytes():
                return False
        elif hasattr(x, "val") or hasattr(y, "val") or twins[x] is not y:
            return False
    return True


def _same_parameters(a: Any, b: Any, sizes: _Pair, names_of_shapes: Set[str] = frozenset()) -> bool:
    """Whether parameters of an operation are the same; those of shapes may hold the numbers of rows instead."""
    for name, value in a.items():
        if (hasattr(value, "eqns") or hasattr(value, "jaxpr")) and str(value) != str(b[name]):
            return False
        if isinstance(value, int | float | str | tuple) and value != b[name]:
            if name not in names_of_shapes or not isinstance(value, tuple) or value[:1] != (sizes.n,):
                return False
            if (sizes.m, *value[1:]) != b[name]:
                return False
    return True


def _of_scan(a: Any, b: Any, ins: Sequence[_Kind], sizes: _Pair) -> list[_Kind]:
    if a["length"] != b["length"]:
        raise _Unknown
    num_consts, num_carry = numbers_of_scan(a)
    constant, steps = list(ins[:num_consts]), list(ins[num_consts + num_carry :])
    if any(kind is not _Kind.FREE for kind in steps):
        raise _Unknown  # the rows are the steps
    body = lambda carry: _outputs(a["jaxpr"], b["jaxpr"], [*constant, *carry, *steps], sizes)  # noqa: E731
    carry = _after_any_steps(lambda carry: body(carry)[:num_carry], ins[num_consts : num_consts + num_carry])
    stacked = body(carry)[num_carry:]
    if any(kind is not _Kind.FREE for kind in stacked):
        raise _Unknown
    return [*carry, *stacked]


def _of_while(a: Any, b: Any, ins: Sequence[_Kind], sizes: _Pair) -> list[_Kind]:
    of_condition, of_body = a["cond_nconsts"], a["body_nconsts"]
    condition, body = list(ins[:of_condition]), list(ins[of_condition : of_condition + of_body])
    step = lambda carry: _outputs(a["body_jaxpr"], b["body_jaxpr"], [*body, *carry], sizes)  # noqa: E731
    carry = _after_any_steps(step, ins[of_condition + of_body :])
    if _outputs(a["cond_jaxpr"], b["cond_jaxpr"], [*condition, *carry], sizes) != [_Kind.FREE]:
        raise _Unknown  # the number of steps depends on the rows
    return carry


def _after_any_steps(step: Callable[[list[_Kind]], list[_Kind]], carry: Sequence[_Kind]) -> list[_Kind]:
    carry = list(carry)
    while True:
        after = [_joined(kinds) for kinds in zip(carry, step(carry), strict=True)]
        if after == carry:
            return carry
        carry = after


def _of_cond(a: Any, b: Any, ins: Sequence[_Kind], sizes: _Pair) -> list[_Kind]:
    if ins[0] is not _Kind.FREE:
        raise _Unknown
    branches = [_outputs(x, y, ins[1:], sizes) for x, y in zip(a["branches"], b["branches"], strict=True)]
    return [_joined(kinds) for kinds in zip(*branches, strict=True)]


def _joined(kinds: Sequence[_Kind]) -> _Kind:
    if len(set(kinds)) > 1 and _Kind.FREE in kinds:
        raise _Unknown
    return max(kinds, key=lambda kind: kind.value)


_CONTROL_FLOW = {"scan": _of_scan, "while": _of_while, "cond": _of_cond}


def _output(equation: Any, other: Any, ins: Sequence[_Kind], sizes: _Pair) -> _Kind:
    name, params, n = equation.primitive.name, equation.params, sizes.n
    shapes = [v.aval.shape for v in equation.invars]
    shape = equation.outvars[0].aval.shape
    if all(kind is _Kind.FREE for kind in ins):
        is_alike = name == "broadcast_in_dim" and shape[:1] == (n,) and n not in shape[1:]
        if is_alike and (params["broadcast_dimensions"][:1] != (0,) or shapes[0][:1] == (1,)):
            if _same_parameters(params, other.params, sizes, _SHAPES):
                return _Kind.SAME
        elif _same_parameters(params, other.params, sizes) and all(
            x.aval.shape == y.aval.shape for x, y in zip(equation.outvars, other.outvars, strict=True)
        ):
            return _Kind.FREE
        raise _Unknown  # of no rows, but of their number
    if name in _BY_ENTRY:
        if any(kind is _Kind.FREE and s[:1] not in ((), (1,)) for kind, s in zip(ins, shapes, strict=True)):
            raise _Unknown  # an array that is not of the data, but as long
    elif not _keeps_rows(name, params, ins, shapes, shape, n):
        raise _Unknown
    if n in shape[1:] or not _same_parameters(params, other.params, sizes, _SHAPES):
        raise _Unknown
    return max(ins, key=lambda kind: kind.value)


def _keeps_rows(
    name: str, params: Any, ins: Sequence[_Kind], shapes: Sequence[Any], shape: tuple[int, ...], n: int
) -> bool:
    """Whether an operation on whole rows leaves them in their places along the first axis."""
    if shape[:1] != (n,):
        return False
    if name in _REDUCTIONS:
        return 0 not in params["axes"]
    if name in _CUMULATIVE:
        return params["axis"] != 0
    if name == "broadcast_in_dim":
        return params["broadcast_dimensions"][:1] == (0,)
    if name == "reshape":
        return shapes[0][:1] == (n,) and params.get("dimensions") is None
    if name == "squeeze":
        return 0 not in params["dimensions"]
    if name == "transpose":
        return params["permutation"][0] == 0
    if name == "split":
        return params["axis"] != 0
    if name == "slice":
        strides = params["strides"]
        return params["start_indices"][0] == 0 and params["limit_indices"][0] == n and (not strides or strides[0] == 1)
    if name == "concatenate":
        return params["dimension"] != 0 and _Kind.FREE not in ins
    if name == "dot_general":
        contracted, batch = params["dimension_numbers"]
        return ins[1] is _Kind.FREE and 0 not in contracted[0] and not batch[0]
    if name == "gather":  # from a table, at places that depend on the rows
        dims = params["dimension_numbers"]
        return ins[0] is _Kind.FREE and 0 not in dims.offset_dims and not dims.operand_batching_dims
    return False
