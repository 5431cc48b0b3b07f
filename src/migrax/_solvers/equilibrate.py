"""Units of the parameters in which the rows of a Hessian have about the same size, from products with random vectors
(S. Diamond and S. Boyd, J. Optim. Theory Appl. 172 (2017) 436)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float

from .._host import flow, xp

_ROUNDS, _VECTORS = 4, 8


def equilibrated(
    product: Callable[[Float[Array, " n"]], Float[Array, " n"]], x: Float[Array, " n"]
) -> Float[Array, " n"]:
    """The scale D for which the rows of D⁻¹ H D⁻¹ have about the length 1; 1 where a row is zero or not finite."""
    signs = xp.asarray(np.random.default_rng(0).choice([-1.0, 1.0], (_ROUNDS, _VECTORS, x.size)), x.dtype)

    def improved(i: int, scale: Array) -> Array:
        rows = flow.vmap(lambda v: product(v / scale) / scale)(signs[i])
        length = xp.sqrt(xp.mean(rows**2, axis=0))
        usable = xp.isfinite(length) & (length > 0)
        return scale * xp.sqrt(xp.where(usable, length, 1.0))

    scale = xp.ones_like(x)
    for i in range(_ROUNDS):
        scale = improved(i, scale)
    return flow.stop_gradient(scale)
