"""What an equation of a jaxpr calls."""

from typing import Any

_CALLS = (
    "jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call",
    "custom_vjp_call_jaxpr", "custom_vmap_call", "eval_jaxpr",
)  # fmt: skip
_CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")  # the parameters that may hold what is called


def called(equation: Any) -> Any:
    """The jaxpr, closed or not, that an equation only calls with its inputs; `None` if it does something itself."""
    if equation.primitive.name not in _CALLS:
        return None
    return next((equation.params[key] for key in _CALLED if key in equation.params), None)
