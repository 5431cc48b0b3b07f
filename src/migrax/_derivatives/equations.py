"""The operations that a likelihood is made of, as JAX traced them."""

import warnings
from collections.abc import Iterator
from typing import Any

import jax.tree_util as jtu

# Operations on single numbers beyond which a likelihood is taken for an unrolled loop: some 200 passes, whose fit XLA
# compiles for about a minute.
_MANY = 1000
# What only moves numbers about: a workspace has one of these for each of hundreds of names.
_MOVES = (
    "slice", "dynamic_slice", "squeeze", "reshape", "convert_element_type", "broadcast_in_dim", "concatenate", "gather",
    "copy", "split", "select_n", "stop_gradient", "pjit", "jit",
)  # fmt: skip


def all_equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of a jaxpr, and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inside in jtu.tree_leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inside):
                yield from all_equations(getattr(inside, "jaxpr", inside))


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(getattr(x, "jaxpr", None), "eqns")


def warn_of_loops(equations: list[Any]) -> None:
    """**Warns** of a likelihood that looks like a Python loop over data, before it is compiled."""
    single = [e for e in equations if e.primitive.name not in _MOVES and all(v.aval.shape == () for v in e.outvars)]
    if len(single) > _MANY:
        warnings.warn(
            f"the likelihood does {len(single)} operations on single numbers, which XLA compiles one by one, for "
            "minutes. Is it a Python loop over events or bins? Write it with whole arrays, as in "
            "jnp.sum(jnp.log(f(p, x))); a function of one event becomes one of all by jax.vmap, a recurrence by "
            "jax.lax.scan",
            stacklevel=2,
        )
