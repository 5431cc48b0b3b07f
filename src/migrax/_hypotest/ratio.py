"""The profile likelihood ratio: how much worse the data are described with the parameter of interest held."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .._fit.fit import covariance_kind, fit
from .._fit.objective import prepare
from .._fit.result import FitResult
from .._fit.status import Status
from .._likelihoods.least_squares import NEEDS_SCALE
from .._parameters.space import update
from .._profile.minimum import warn_if_rounded
from .._profile.profile import evaluate
from .._profile.retry import by_stages
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


def ratio(nll: Callable, free: FitResult, data: PyTree, index: tuple[int, ...], values: Float[Array, "m k"]) -> Ratio:
    """The conditional fits at `values`, all at once. Where one of them is lower than the free fit, this is done again
    from there (outside of `jax.jit`; inside, its status says so)."""
    _, data = prepare(free.params, data)
    if covariance_kind(nll, data, True) == "scaled":
        raise TypeError(f"a test or a limit {NEEDS_SCALE}")
    warn_if_rounded(nll, free, data, "a test or a limit")
    found = _conditional(nll, free, data, index, values)
    for _ in range(3):
        better = _better(nll, free, data, found)
        if better is None:
            break
        found = _conditional(nll, better, data, index, values)
    return found


def _conditional(nll: Callable, free: FitResult, data: PyTree, index: tuple[int, ...], values: Array) -> Ratio:
    positions = jnp.asarray(index)
    what = "profile" if len(index) < len(free.names) else "value"
    tangent = jnp.full((values.shape[0], free.values.size), jnp.nan, free.values.dtype)
    _, rise, points, status, _ = by_stages(
        lambda lanes, skip, robust: evaluate(nll, free, data, positions, lanes, skip, robust, what),
        (values, tangent),
        lambda found: np.asarray(found.status) != int(Status.VALID),
        (nll, free, data),
    )
    rise, status = _checked(rise, status, free.valid, free.status)
    return Ratio(rise, points, status, free)


@jit
def _checked(rise: Array, status: Array, valid: Array, why: Array) -> tuple[Array, Array]:
    """No ratio to a free fit that is not the minimum."""
    lower = rise < -LOWER
    status = jnp.where(lower, int(Status.NOT_CONVERGED), status)
    return jnp.where(lower | ~valid, jnp.nan, jnp.maximum(rise, 0.0)), jnp.where(valid, status, why)


def _better(nll: Callable, free: FitResult, data: PyTree, found: Ratio) -> FitResult | None:
    if not is_concrete(found.status, free.valid, found.points):
        return None
    points, good = np.asarray(found.points), np.asarray(found.status) == int(Status.NOT_CONVERGED)
    usable = np.flatnonzero(good & np.all(np.isfinite(points), axis=1))
    if not bool(free.valid) or usable.size == 0:
        return None
    again = fit(nll, update(free.params, jnp.asarray(points[usable[0]])), data)
    return again if bool(again.valid) and float(again.nll) < float(free.nll) - 1e-6 else None
