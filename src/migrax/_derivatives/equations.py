"""The operations of a likelihood, as JAX traced them."""

import warnings
from typing import Any

from .._util.jaxprs import all_equations

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
