"""The operations of a likelihood, as JAX traced them."""

import warnings
from collections.abc import Iterator
from typing import Any

import jax.tree_util as jtu

# A likelihood with more operations on single numbers is taken for an unrolled loop: some 200 iterations, for which XLA
# takes about a minute to compile a fit.
_MAX_SCALAR_OPERATIONS = 1000
# Operations that only move numbers: the likelihood of a workspace has one for each of its hundreds of parameters.
_MOVES = (
    "slice", "dynamic_slice", "squeeze", "reshape", "convert_element_type", "broadcast_in_dim", "concatenate", "gather",
    "copy", "split", "select_n", "stop_gradient", "pjit", "jit",
)  # fmt: skip


# Functions with derivatives of their own count as one operation: the closed forms of densities are series of many.
_CLOSED = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


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


def warn_of_loops(jaxpr: Any) -> None:
    """**Warns** of a likelihood that looks like a Python loop over data, before it is compiled."""
    equations = all_equations(jaxpr, except_in=_CLOSED)
    scalar = [e for e in equations if e.primitive.name not in _MOVES and all(v.aval.shape == () for v in e.outvars)]
    if len(scalar) > _MAX_SCALAR_OPERATIONS:
        warnings.warn(
            f"the likelihood does {len(scalar)} operations on single numbers, which XLA compiles one by one, for "
            "minutes. Is it a Python loop over events or bins? Write it with whole arrays, as in "
            "jnp.sum(jnp.log(f(p, x))); a function of one event becomes one of all by jax.vmap, a recurrence by "
            "jax.lax.scan",
            stacklevel=2,
        )
