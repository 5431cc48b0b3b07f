"""Goodness of fit: the deviance from the saturated model and its p-value, by the chi2 distribution or by toys."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammaincc
from jaxtyping import Array, Bool, Float, Int

from .._fit.fit import fit
from .._fit.objective import prepare_data
from .._fit.result import FitResult
from .._host.evaluated import evaluated
from .._host.hosted import hosted
from .._likelihoods.base import as_likelihood
from .._parameters.static import only_arrays, with_all_leaves
from .._profile.fitted import is_of
from .._util.jit import jit
from .._util.result import AbstractResult
from .._util.tracing import is_concrete, is_concrete_tree
from .._util.typing import PyTree
from .fit_toys import fit_toys
from .sample import sample

_BATCH = 256  # toys fitted at a time


class GoodnessOfFit(AbstractResult):
    """How well a fitted model describes the data.

    **Attributes:**

    - `chi2`: the deviance, twice the difference of the NLL to that of the saturated model (which describes each number
        of the data exactly); for `mx.LeastSquares`, chi2.
    - `ndof`: the number of data minus the number of free parameters (those on a bound do not count).
    - `p_value`: the probability of a worse fit if the model is right: from the chi2 distribution with `ndof` degrees of
        freedom, or the fraction of `toys` with a deviance at least as large.
    - `p_value_error`: its standard error due to the finite number of toys; 0 without toys.
    - `toys`: `None`, or shape `(n,)`, the deviance of each toy; NaN if its fit is not valid: such a toy does not count.
    """

    chi2: Float[Array, "*batch"]
    ndof: Int[Array, "*batch"]
    p_value: Float[Array, "*batch"]
    p_value_error: Float[Array, "*batch"]
    toys: Float[Array, " n"] | None

    @property
    def num_failed(self) -> Int[Array, ""]:
        """The number of toys whose fit is not valid."""
        return jnp.array(0) if self.toys is None else jnp.sum(jnp.isnan(self.toys))

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), "num_failed": self.num_failed}

    def __repr__(self) -> str:
        if not is_concrete_tree(self) or np.ndim(self.chi2) != 0:
            return f"GoodnessOfFit(shape={np.shape(self.chi2)})"
        chi2, ndof, p = float(self.chi2), int(self.ndof), float(self.p_value)
        start = f"χ² = {chi2:.5g}, ndof = {ndof}"
        if self.toys is None:
            return f"{start}, p = {p:.4g}"
        failed = int(self.num_failed)
        good = self.toys.size - failed
        from_toys = f"{good} toys" + (f", {failed} more failed" if failed else "")
        if p == 0:  # 95 % of the time at least one of 3/p toys is worse
            return f"{start}, p < {3 / max(good, 1):.2g} (none of {from_toys})"
        return f"{start}, p = {p:.4g} ± {float(self.p_value_error):.2g} ({from_toys})"


def goodness_of_fit(
    nll: Any, result: FitResult, data: PyTree, *, toys: int | None = None, key: Array | None = None
) -> GoodnessOfFit:
    """Returns the deviance of a fit, its degrees of freedom and its p-value (S. Baker and R. D. Cousins, Nucl. Instrum.
    Meth. 221 (1984) 437).

    ```python
    mx.goodness_of_fit(nll, result, counts).p_value
    mx.goodness_of_fit(nll, result, counts, toys=2000, key=jax.random.key(0))  # for small counts
    ```

    Constraints are included: their global observables count as data, which the saturated model also describes exactly.

    **Arguments:**

    - `nll`, `data`: as they were given to `mx.fit`. The likelihood must have a saturated model (unbinned ones have
        none).
    - `result`: the result of `mx.fit`.
    - `toys`: `None` for the chi2 distribution, which is the limit of large counts; or the number of toys, each drawn at
        the fitted parameters and fitted.
    - `key`: a key of `jax.random`, needed with `toys`.

    **Returns:** a `GoodnessOfFit`. Under `jax.vmap` and `jax.jit` its numbers are NaN for a result that is not valid.

    **Raises:** `TypeError` for a likelihood without a saturated model, or toys without a key; `ValueError` for a result
    that is not valid or has no degree of freedom.

    **Warns** if the result belongs to other data or another likelihood: the given ones are then fitted first.
    """
    _check(result)
    nll = as_likelihood(nll)
    if nll.deviance is None or nll.ndata is None:
        raise TypeError(
            f"{nll.name} has no saturated model to compare with: make a histogram of unbinned events; mx.LeastSquares "
            "needs loss='linear'"
        )
    if toys is not None and not nll.draws_all:
        raise TypeError(
            "toys of a template likelihood do not vary the templates, so that the p-value would be too small: leave "
            "toys out, or draw templates and counts by hand"
        )
    if toys is not None and key is None:
        raise TypeError("toys need a key: goodness_of_fit(..., toys=1000, key=jax.random.key(0))")
    data = prepare_data(data)
    if not is_of(result, nll, data, "goodness_of_fit", stacklevel=3):
        result = fit(nll, result.params, data, up=result.up)
        _check(result)
    deviance, ndof = _deviance(nll, result, data)
    if is_concrete(ndof) and int(ndof) < 1:
        raise ValueError(f"there is no degree of freedom left: ndof is {int(ndof)}")
    if toys is None:
        p = _chi2_p_value(deviance, ndof)
        return GoodnessOfFit(deviance, ndof, p, jnp.zeros_like(p), None)
    assert key is not None
    toy_data = sample(nll, result.params, key, toys, data=data)
    toy_deviances = _toys(nll, result, toy_data)
    is_valid = jnp.isfinite(toy_deviances)
    n_valid = jnp.sum(is_valid)
    # a toy whose deviance equals that of the data within rounding counts as worse
    worse = is_valid & (toy_deviances >= deviance * (1 - 1e-9))
    p = jnp.where(result.valid, jnp.sum(worse) / n_valid, jnp.nan)
    return GoodnessOfFit(deviance, ndof, p, jnp.sqrt(p * (1 - p) / n_valid), toy_deviances)


def _check(result: Any) -> None:
    if not isinstance(result, FitResult):
        raise TypeError(f"goodness_of_fit takes the result of mx.fit, got {type(result).__name__}")
    if jnp.ndim(result.nll) != 0:
        raise ValueError(
            f"goodness_of_fit takes one fit, got {jnp.shape(result.nll)} of them: "
            "jax.vmap(lambda result, data: mx.goodness_of_fit(nll, result, data))(results, data)"
        )
    if is_concrete(result.valid) and not bool(result.valid):
        raise ValueError(f"goodness_of_fit needs a valid fit, and this one is not: {result.message}")


@hosted
def _chi2_p_value(deviance: Array, ndof: Array) -> Array:
    return gammaincc(jnp.where(ndof > 0, 0.5 * ndof, jnp.nan), jnp.maximum(0.5 * deviance, 0.0))


@evaluated
def _deviance(nll: Any, result: FitResult, data: PyTree) -> tuple[Array, Array]:
    value = nll.deviance(result.params, data)
    n_free = jnp.sum(~result.on_bound)
    return jnp.where(result.valid, value, jnp.nan), jnp.asarray(nll.ndata(data)) - n_free


def _toys(nll: Any, result: FitResult, toys: PyTree) -> Float[Array, " n"]:
    """Returns the deviance of each toy; NaN where its fit is not valid."""
    if not is_concrete(result.values, *jax.tree.leaves(toys)):
        return _toys_inside(nll, result, toys)
    fits = fit_toys(nll, result.params, toys, covariance=result.covariance, up=result.up, hesse=False)
    return _deviances(nll, fits.params, fits.valid, toys)


@jit
def _deviances(nll: Any, params: PyTree, valid: Bool[Array, " n"], toys: PyTree) -> Float[Array, " n"]:
    def deviance_of(lane: tuple[PyTree, Array, PyTree]) -> Array:
        params, valid, toy = lane
        return jnp.where(valid, nll.deviance(with_all_leaves(params), toy), jnp.nan)

    return lax.map(deviance_of, (only_arrays(params), valid, toys), batch_size=_BATCH)


@jit
def _toys_inside(nll: Any, result: FitResult, toys: PyTree) -> Float[Array, " n"]:
    """As `_toys`, inside `jax.jit` and `jax.vmap`."""

    def deviance_of(toy: PyTree) -> Array:
        refit = fit(nll, result.params, toy, hesse=False)
        return jnp.where(refit.valid, nll.deviance(refit.params, toy), jnp.nan)

    return lax.map(deviance_of, toys, batch_size=_BATCH)
