"""The profile likelihood ratio of conditional fits, with the parameter of interest held, to the free fit."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .._fit.fit import fit
from .._fit.result import FitResult
from .._fit.status import Status
from .._host.hosted import hosted
from .._parameters.space import update
from .._profile.fitted import Fitted, warn_if_rounded
from .._profile.profile import evaluate
from .._profile.retry import retry
from .._util.tracing import is_concrete
from .._util.typing import PyTree

# A conditional fit lower than the free one by more than this (-2 log of the ratio) shows another local minimum.
LOWER = 1e-3


class Ratio(eqx.Module):
    """-2 log of the likelihood ratio of conditional fits to the free fit.

    **Attributes**, of `m` values of the parameters of interest:

    - `rise`: shape `(m,)`, NaN where the conditional fit failed; infinite where the data are impossible (counts where
        none are expected) and no other parameter can change this.
    - `points`: shape `(m, n_free)`, all free parameters at the conditional fits.
    - `status`: shape `(m,)`, of the conditional fits.
    - `free`: the free fit.
    """

    rise: Float[Array, " m"]
    points: Float[Array, "m n"]
    status: Int[Array, " m"]
    free: FitResult

    def params_at(self, i: int) -> PyTree:
        """Returns the tree of parameters of the i-th conditional fit."""
        return update(self.free.params, self.points[i])


def check_value(result: FitResult, index: tuple[int, ...], value: ArrayLike, what: str) -> Float[Array, " k"]:
    """Returns `value` as one number for each parameter of interest.

    **Raises:** `ValueError` for another shape, or a value that is not finite or outside the bounds.
    """
    if np.shape(value) not in ((len(index),), () if len(index) == 1 else None):
        given = [result.names[i] for i in index]
        raise ValueError(f"{what} needs one value for each of {given}, got an array of shape {np.shape(value)}")
    dtype = result.values.dtype
    if not is_concrete(value):
        return jnp.atleast_1d(jnp.asarray(value, dtype))
    values = np.atleast_1d(np.asarray(value, dtype))
    if is_concrete(result.lower, result.upper):
        low, high = np.asarray(result.lower), np.asarray(result.upper)
        for v, i in zip(values, index, strict=True):
            if not (np.isfinite(v) and low[i] <= v <= high[i]):
                raise ValueError(f"{what}: {result.names[i]!r} = {v} is not within its bounds [{low[i]}, {high[i]}]")
    return jnp.asarray(values)


def ratio(free: Fitted, index: tuple[int, ...], values: Float[Array, "m k"]) -> Ratio:
    """Runs the conditional fits at `values`, all at once. If one of them is lower than the free fit, the free fit and
    then the conditional ones are repeated from there (outside of `jax.jit`; inside, its status says so)."""
    free.nll.needs_scale(free.data, "a test or a limit")
    warn_if_rounded(free, "a test or a limit")
    conditional = _conditional_fits(free, index, values)
    for _ in range(3):
        lower_fit = _lower_free_fit(free, conditional)
        if lower_fit is None:
            break
        free = free._replace(result=lower_fit)
        conditional = _conditional_fits(free, index, values)
    return conditional


def _conditional_fits(free: Fitted, index: tuple[int, ...], values: Array) -> Ratio:
    positions, result = jnp.asarray(index), free.result
    kind = "profile" if len(index) < len(result.names) else "value"
    tangent = jnp.full((values.shape[0], result.values.size), jnp.nan, result.values.dtype)
    _, rise, points, status, _ = retry(
        lambda fitted, lanes, skip, robust: evaluate(fitted, positions, lanes, skip, robust, kind),
        free,
        (values, tangent),
        lambda found: np.asarray(found.status) != int(Status.VALID),
    )
    rise, status = _checked(rise, status, result.valid, result.status)
    return Ratio(rise, points, status, result)


@hosted
def _checked(rise: Array, status: Array, valid: Array, free_status: Array) -> tuple[Array, Array]:
    """Replaces the ratios to a free fit that is not the minimum by NaN, with a status."""
    is_lower = rise < -LOWER
    status = jnp.where(is_lower, int(Status.NOT_CONVERGED), status)
    return jnp.where(is_lower | ~valid, jnp.nan, jnp.maximum(rise, 0.0)), jnp.where(valid, status, free_status)


def _lower_free_fit(fitted: Fitted, conditional: Ratio) -> FitResult | None:
    nll, free, data = fitted
    if not is_concrete(conditional.status, free.valid, conditional.points):
        return None
    points, not_converged = np.asarray(conditional.points), np.asarray(conditional.status) == int(Status.NOT_CONVERGED)
    candidates = np.flatnonzero(not_converged & np.all(np.isfinite(points), axis=1))
    if not bool(free.valid) or candidates.size == 0:
        return None
    refit = fit(nll, update(free.params, jnp.asarray(points[candidates[0]])), data)
    return refit if bool(refit.valid) and float(refit.nll) < float(free.nll) - 1e-6 else None
