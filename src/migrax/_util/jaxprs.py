"""The equations of a jaxpr, what one of them calls, and with which operands."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.tree_util as jtu

_CALLS = (
    "jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call",
    "custom_vjp_call_jaxpr", "custom_vmap_call", "eval_jaxpr",
)  # fmt: skip
_CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")  # the parameters that may hold what is called


def all_equations(jaxpr: Any, except_in: tuple[str, ...] = ()) -> Iterator[Any]:
    """The equations of a jaxpr and of all jaxprs inside it, except in those of the operations `except_in`."""
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name in except_in:
            continue
        for inner in jtu.tree_leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from all_equations(getattr(inner, "jaxpr", inner), except_in)


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(getattr(x, "jaxpr", None), "eqns")


def called(equation: Any) -> Any:
    """The jaxpr, closed or not, that an equation only calls with its inputs; `None` if it does something itself."""
    if equation.primitive.name == "call_hi_primitive":
        return _expanded(equation.params["_prim"])
    if equation.primitive.name not in _CALLS:
        return None
    return next((equation.params[key] for key in _CALLED if key in equation.params), None)


def used_inputs(jaxprs: Sequence[Any]) -> list[int]:
    """Which inputs after the first anything in these closed jaxprs depends on: the starts of parameters that float are
    not among them."""
    used: set[int] = set()
    for closed in jaxprs:
        jaxpr = closed.jaxpr
        read = {id(v) for e in jaxpr.eqns for v in e.invars} | {id(v) for v in jaxpr.outvars}
        used.update(i for i, v in enumerate(jaxpr.invars[1:]) if id(v) in read)
    return sorted(used)


def evaluate(equation: Any, operands: Sequence[Any]) -> Sequence[Any]:
    """The outputs of one equation of a jaxpr at values of its inputs."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, options = bound if isinstance(bound, tuple) else ((), bound)  # depends on the version of JAX
    with equation.ctx.manager:
        outputs = equation.primitive.bind(*functions, *operands, **options)
    return outputs if equation.primitive.multiple_results else [outputs]


def numbers_of_scan(params: Any) -> tuple[int, int]:
    """How many inputs of a scan are constant, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # as of JAX 0.12
    return len(consts), len(carry)


def _expanded(high: Any) -> Any:
    """What a high-level primitive stands for (as of JAX 0.12, a search in sorted numbers is one)."""

    def flat(*leaves: Any) -> list[Any]:
        return jax.tree.leaves(high.expand(*jax.tree.unflatten(high.in_tree, leaves)))

    return jax.make_jaxpr(flat)(*(jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in high.in_avals_flat))
