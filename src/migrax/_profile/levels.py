"""Confidence levels as rises of the likelihood, and as probabilities."""

import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Array, ArrayLike, Float

from .._host.hosted import hosted
from .._util.tracing import is_concrete

# Probabilities as printed in tables, which stand for one, two and three standard deviations.
_ROUNDED = {0.6827: 1.0, 0.9545: 2.0, 0.9973: 3.0}
_MAX_SIGMAS = 20.0  # standard deviations: a larger number was probably meant in percent


def rise(cl: ArrayLike, dof: int = 1) -> Float[Array, "..."]:
    """The rise of the likelihood at a confidence level, in units of UP: the quantile of chi2 with `dof` (1 or 2).

    A `cl` below 1 is a probability; from 1 on it is a number of standard deviations (of one normal variable). For one
    degree of freedom 0.6827, 0.9545 and 0.9973 are taken as exactly one, two and three standard deviations.

    **Raises:** `ValueError` unless `cl` is positive and finite.
    """
    if isinstance(cl, str) or cl is None:
        raise TypeError(f"cl must be a number: a probability below 1 or standard deviations; got {cl!r}")
    if is_concrete(cl):
        numbers = np.asarray(cl, dtype=float)
        if np.any(numbers > _MAX_SIGMAS):
            raise ValueError(f"cl={cl!r} would be that many standard deviations; give a probability, such as 0.68")
        if np.any(~(numbers > 0)) or np.any(np.isinf(numbers)):
            raise ValueError(
                f"cl must be a probability between 0 and 1 or, from 1 on, a number of standard deviations; got {cl!r}"
            )
        if dof == 1 and numbers.ndim == 0 and float(numbers) in _ROUNDED:
            return jnp.asarray(_ROUNDED[float(numbers)] ** 2)
    return _rise(jnp.asarray(cl, dtype=jnp.result_type(float)), dof)


@hosted
def _rise(cl: Array, dof: int) -> Array:
    is_probability = cl < 1
    p, sigmas = jnp.where(is_probability, cl, 0.5), jnp.where(is_probability, 1.0, cl)
    if dof == 1:
        return jnp.where(is_probability, ndtri(0.5 * (1 - p)) ** 2, sigmas**2)
    # For two normal variables the probability to be outside is exp(-chi2/2).
    return jnp.where(is_probability, -2 * jnp.log1p(-p), -2 * (jnp.log(2.0) + log_ndtr(-sigmas)))


def probability(cl: float) -> float:
    """A confidence level as a probability: from 1 on, `cl` is a number of standard deviations (two-sided).

    **Raises:** `ValueError` unless it is one number, positive and finite.
    """
    if isinstance(cl, bool) or not isinstance(cl, int | float | np.integer | np.floating):
        raise ValueError(f"cl must be one number: a probability below 1 or standard deviations; got {cl!r}")
    number = float(cl)
    if not 0 < number <= _MAX_SIGMAS:
        raise ValueError(
            f"cl must be a probability between 0 and 1 or, from 1 on, a number of standard deviations; got {cl!r}"
        )
    return number if number < 1 else math.erf(number / math.sqrt(2))
