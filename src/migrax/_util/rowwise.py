"""Whether each row of what a function returns depends on its own row of the data alone, as its jaxpr shows.

Such a function may be called with some of the rows at a time. Of an operation that is not known here the answer is no.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax

from .jaxprs import called
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
_CUMULATIVE = frozenset(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"))


class _Kind(enum.Enum):
    FREE = 0  # of no rows
    SAME = 1  # one row for each of the data, all alike
    ROWS = 2  # one row for each of the data, of its numbers


class _Unknown(Exception):
    """An operation mixes rows, or is not known."""


def is_rowwise(fn: Callable[[PyTree, PyTree], Any], params: PyTree, rows: PyTree) -> bool:
    """Whether row i of `fn(params, rows)` depends on row i of the arrays `rows` alone, of all rows."""
    dynamic, static = eqx.partition((params, rows), eqx.is_array)
    leaves, treedef = jax.tree.flatten(dynamic)
    num_of_rows = len(jax.tree.leaves(rows))

    def flat(*leaves: Any) -> Any:
        return fn(*eqx.combine(jax.tree.unflatten(treedef, leaves), static))

    closed = jax.make_jaxpr(flat)(*leaves)
    kinds = [_Kind.FREE] * (len(leaves) - num_of_rows) + [_Kind.ROWS] * num_of_rows
    n = jax.tree.leaves(rows)[0].shape[0]
    try:
        return all(kind is not _Kind.FREE for kind in _outputs(closed.jaxpr, kinds, n))
    except _Unknown:
        return False


def _outputs(jaxpr: Any, kinds: Sequence[_Kind], n: int) -> list[_Kind]:
    known = dict(zip(jaxpr.invars, kinds, strict=True))

    def read(atom: Any) -> _Kind:
        return _Kind.FREE if hasattr(atom, "val") else known.get(atom, _Kind.FREE)  # a constant has no rows

    for equation in jaxpr.eqns:
        ins = [read(atom) for atom in equation.invars]
        inner = called(equation)
        if inner is not None:
            out = _outputs(_open(inner), ins, n)
        elif equation.primitive.name in _CONTROL_FLOW and any(kind is not _Kind.FREE for kind in ins):
            out = _CONTROL_FLOW[equation.primitive.name](equation.params, ins, n)
        else:
            out = [_output(equation, ins, n)] * len(equation.outvars)
        known.update(zip(equation.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _open(closed: Any) -> Any:
    return getattr(closed, "jaxpr", closed)


def _of_scan(params: Any, ins: Sequence[_Kind], n: int) -> list[_Kind]:
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    constant, steps = list(ins[:num_consts]), list(ins[num_consts + num_carry :])
    if any(kind is not _Kind.FREE for kind in steps):
        raise _Unknown  # the rows are the steps
    body = lambda carry: _outputs(_open(params["jaxpr"]), [*constant, *carry, *steps], n)  # noqa: E731
    carry = _after_any_steps(lambda carry: body(carry)[:num_carry], ins[num_consts : num_consts + num_carry])
    stacked = body(carry)[num_carry:]
    if any(kind is not _Kind.FREE for kind in stacked):
        raise _Unknown
    return [*carry, *stacked]


def _of_while(params: Any, ins: Sequence[_Kind], n: int) -> list[_Kind]:
    of_condition, of_body = params["cond_nconsts"], params["body_nconsts"]
    condition, body = list(ins[:of_condition]), list(ins[of_condition : of_condition + of_body])
    step = lambda carry: _outputs(_open(params["body_jaxpr"]), [*body, *carry], n)  # noqa: E731
    carry = _after_any_steps(step, ins[of_condition + of_body :])
    if _outputs(_open(params["cond_jaxpr"]), [*condition, *carry], n) != [_Kind.FREE]:
        raise _Unknown  # the number of steps depends on the rows
    return carry


def _after_any_steps(step: Callable[[list[_Kind]], list[_Kind]], carry: Sequence[_Kind]) -> list[_Kind]:
    carry = list(carry)
    while True:
        after = [_joined(kinds) for kinds in zip(carry, step(carry), strict=True)]
        if after == carry:
            return carry
        carry = after


def _of_cond(params: Any, ins: Sequence[_Kind], n: int) -> list[_Kind]:
    if ins[0] is not _Kind.FREE:
        raise _Unknown
    branches = [_outputs(_open(branch), ins[1:], n) for branch in params["branches"]]
    return [_joined(kinds) for kinds in zip(*branches, strict=True)]


def _joined(kinds: Sequence[_Kind]) -> _Kind:
    if len(set(kinds)) > 1 and _Kind.FREE in kinds:
        raise _Unknown
    return max(kinds, key=lambda kind: kind.value)


_CONTROL_FLOW = {"scan": _of_scan, "while": _of_while, "cond": _of_cond}


def _output(equation: Any, ins: Sequence[_Kind], n: int) -> _Kind:
    name, params = equation.primitive.name, equation.params
    shapes = [v.aval.shape for v in equation.invars]
    first, shape = ins[0] if ins else _Kind.FREE, equation.outvars[0].aval.shape
    if name == "broadcast_in_dim" and first is _Kind.FREE:
        along_rows = params["broadcast_dimensions"][:1] != (0,) or shapes[0][:1] == (1,)
        return _Kind.SAME if shape[:1] == (n,) and along_rows else _Kind.FREE
    if all(kind is _Kind.FREE for kind in ins):
        return _Kind.FREE
    if name in _BY_ENTRY:
        if any(kind is _Kind.FREE and s[:1] not in ((), (1,)) for kind, s in zip(ins, shapes, strict=True)):
            raise _Unknown  # an array that is not of the data, but as long
        return max(ins, key=lambda kind: kind.value)
    if not _keeps_rows(name, params, ins, shapes, shape, n):
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
