"""Loss functions of least-squares fits: the contribution of a squared residual.

rho(z) of z = ((y - f) / error)², as in scipy.optimize.least_squares: rho(z) = z near 0, and less for outliers
(B. Triggs et al., Bundle Adjustment, section 4.3, for these three).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .._hints.calls import check_callable


def soft_l1(z: Array) -> Array:
    """2 (sqrt(1 + z) - 1): grows like |residual|, and is smooth."""
    # without the cancellation for small z
    return 2 * z / (1 + jnp.sqrt(1 + z))


def huber(z: Array) -> Array:
    """z for z <= 1, then 2 sqrt(z) - 1: grows like |residual| beyond one standard deviation."""
    far = z > 1
    return jnp.where(far, 2 * jnp.sqrt(jnp.where(far, z, 1.0)) - 1, z)


def cauchy(z: Array) -> Array:
    """log(1 + z): far outliers hardly contribute."""
    return jnp.log1p(z)


LOSSES: dict[str, Callable[[Array], Array]] = {"soft_l1": soft_l1, "huber": huber, "cauchy": cauchy}


def check_loss(loss: Any) -> None:
    """**Raises:** `ValueError` or `TypeError` unless `loss` is a known name, or a function of squared residuals."""
    if isinstance(loss, str):
        if loss not in ("linear", *LOSSES):
            raise ValueError(
                f"loss must be one of 'linear', {', '.join(map(repr, LOSSES))} or a function, got {loss!r}"
            )
    else:
        check_callable(loss, "the loss of LeastSquares", "loss(z)")
