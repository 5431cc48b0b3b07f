"""The profile likelihood ratio: how much worse the data are described with the parameter of interest held."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .._fit.fit import fit
from .._fit.result import FitResult
from .._fit.status import Status
from .._parameters.space import update
from .._profile.fitted import Fitted, warn_if_rounded
from .._profile.profile import evaluate
from .._profile.retry import retry
from .._util.jit import jit
from .._util.tracing import is_concrete
from .._util.typing import PyTree

# A conditional fit that is lower than the free one by more than this (-2 log of the ratio) shows another minimum.
LOWER = 1e-3


class Ratio(eqx.Module):
    """-2 log of the ratio of the likelihoods of conditional fits and of the free one.

    **Attributes**, of `m` values of the parameters of interest:

    - `rise`: shape `(m,)`, NaN where the conditional fit failed; infinite where the data are impossible (counts where
        none are expected) and there is no other parameter that could change this.
    - `points`: shape `(m, n_free)`, all free parameters there.
    - `status`: shape `(m,)`, of the conditional fits.
    - `free`: the free fit.
    """

    rise: Float[Array, " m"]
    points: Float[Array, "m n"]
    status: Int[Array, " m"]
    free: FitResult

    def params_at(self, i: int) -> PyTree:
        """The tree of parameters at the i-th value."""
        return update(self.free.params, self.points[i])


def check_value(result: FitResult, index: tuple[int, ...], value: ArrayLike, what: str) -> Float[Array, " k"]:
    """One number for each parameter of interest.

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
    """The conditional fits at `values`, all at once. Where one of them is lower than the free fit, this is done again
    from there (outside of `jax.jit`; inside, its status says so)."""
    free.nll.needs_scale(free.data, "a test or a limit")
    warn_if_rounded(free, "a test or a limit")
    found = _conditional(free, index, values)
    for _ in range(3):
        better = _better(free, found)
        if better is None:
            break
        free = free._replace(result=better)
        found = _conditional(free, index, values)
    return found


def _conditional(free: Fitted, index: tuple[int, ...], values: Array) -> Ratio:
    positions, result = jnp.asarray(index), free.result
    what = "profile" if len(index) < len(result.names) else "value"
    tangent = jnp.full((values.shape[0], result.values.size), jnp.nan, result.values.dtype)
    _, rise, points, status, _ = retry(
        lambda fitted, lanes, skip, robust: evaluate(fitted, positions, lanes, skip, robust, what),
        free,
        (values, tangent),
        lambda found: np.asarray(found.status) != int(Status.VALID),
    )
    rise, status = _checked(rise, status, result.valid, result.status)
    return Ratio(rise, points, status, result)


@jit
def _checked(rise: Array, status: Array, valid: Array, why: Array) -> tuple[Array, Array]:
    """No ratio to a free fit that is not the minimum."""
    lower = rise < -LOWER
    status = jnp.where(lower, int(Status.NOT_CONVERGED), status)
    return jnp.where(lower | ~valid, jnp.nan, jnp.maximum(rise, 0.0)), jnp.where(valid, status, why)


def _better(fitted: Fitted, found: Ratio) -> FitResult | None:
    nll, free, data = fitted
    if not is_concrete(found.status, free.valid, found.points):
        return None
    points, good = np.asarray(found.points), np.asarray(found.status) == int(Status.NOT_CONVERGED)
    usable = np.flatnonzero(good & np.all(np.isfinite(points), axis=1))
    if not bool(free.valid) or usable.size == 0:
        return None
    again = fit(nll, update(free.params, jnp.asarray(points[usable[0]])), data)
    return again if bool(again.valid) and float(again.nll) < float(free.nll) - 1e-6 else None
