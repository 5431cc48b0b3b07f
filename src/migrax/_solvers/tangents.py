"""How many derivatives along directions are computed together: as many as there is memory for."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .._util.jaxprs import all_equations

# Of the arrays of a jaxpr, XLA fuses most: about one in so many is in memory at a time.
_FUSED = 4
_FEWEST, _MOST = 8, 1024  # with fewer together, products of matrices take longer; with more they are not faster
BUDGET = 2**30  # bytes; of a machine that has less free, an eighth of it


def bytes_of_one(product: Callable[..., Any], *inputs: Any) -> int:
    """The memory that one product of the Hessian with a vector needs, roughly, in bytes."""
    equations = all_equations(jax.make_jaxpr(product)(*inputs).jaxpr)
    arrays = [v.aval for e in equations for v in e.outvars if hasattr(v.aval, "dtype")]
    return sum(int(np.prod(a.shape)) * a.dtype.itemsize for a in arrays) // _FUSED


def tangents_at_once(n: int, bytes_of_one: int, budget: int) -> int:
    """Of `n` tangents, how many are computed together within so many bytes."""
    fitting = min(budget, BUDGET) // max(bytes_of_one, 1)
    return n if n <= fitting else max(min(_FEWEST, n), min(_MOST, fitting))
