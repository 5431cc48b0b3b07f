"""Toys and Asimov data of a likelihood."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._fit.objective import prepare_data, prepare_params
from .._likelihoods.base import AbstractLikelihood, as_likelihood
from .._parameters.resolve import resolve
from .._util.explicit_sharding import without_explicit_types
from .._util.typing import PyTree
from .._util.unavailable import Unavailable

_SAMPLE = "sample=lambda params, key: ..."


def sample(likelihood: Any, params: PyTree, key: Array, n: int | None = None, *, data: PyTree = None) -> PyTree:
    """Draws toys at `params`; constraints draw their global observables.

    ```python
    toys = mx.sample(nll, result.params, jax.random.key(0), 1000)
    fits = jax.vmap(lambda toy: mx.fit(nll, result.params, toy))(toys)
    ```

    **Arguments:**

    - `likelihood`: a likelihood of migrax, or anything with a method `sample(params, key)`; add it to a plain function
        by `mx.Likelihood(nll, sample=...)`.
    - `params`: a tree of `mx.Parameter`s or of floats, such as a result's `params`.
    - `key`: a key of `jax.random`.
    - `n`: the number of toys, each array with a leading axis of `n`; `None` for one toy without the axis. The i-th toy
        is drawn with `jax.random.fold_in(key, i)`, whatever `n`.
    - `data`: data that supply what is not drawn: the number of events of `mx.UnbinnedNLL`, the total of
        `mx.BinnedNLL`, the `x` and errors of `mx.LeastSquares`. For an `mx.Joint`, the data of all parts.

    **Returns:** data in the form that the likelihood takes.

    **Raises:** `TypeError` for a likelihood that toys cannot be drawn from, one that needs `data`, or an invalid key.
    """
    likelihood = as_likelihood(likelihood)
    _method(likelihood, "sample", _SAMPLE)
    if isinstance(key, int | float) or (n is not None and (isinstance(n, bool) or int(n) != n or n < 1)):
        raise TypeError(
            f"sample takes a key and a number, as in mx.sample(nll, params, jax.random.key(0), 100); got {key!r}, {n!r}"
        )
    params, data = prepare_params(params), prepare_data(data)
    resolved = resolve(params)
    if n is None:
        return without_explicit_types(draw_one, likelihood, resolved, key, data)

    def draw(resolved: PyTree, key: Array, data: PyTree) -> PyTree:
        return jax.vmap(lambda i: draw_one(likelihood, resolved, jax.random.fold_in(key, i), data))(jnp.arange(n))

    return without_explicit_types(draw, resolved, key, data)


def draw_one(likelihood: AbstractLikelihood, params: PyTree, key: Array, data: PyTree) -> PyTree:
    """Draws one toy at resolved parameters.

    **Raises:** `TypeError` for a likelihood that cannot be drawn from.
    """
    draw = _method(likelihood, "sample", _SAMPLE)
    return draw(params, key, *(() if data is None else (data,)))


def asimov(likelihood: Any, params: PyTree, *, data: PyTree = None) -> PyTree:
    """Returns the Asimov data: the data expected at `params`, for which a fit returns `params`.

    (G. Cowan, K. Cranmer, E. Gross and O. Vitells, Eur. Phys. J. C 71 (2011) 1554, section 3.3.)

    **Arguments:**

    - `likelihood`, `params`, `data`: as for `mx.sample`.

    **Returns:** data in the form that the likelihood takes. For unbinned likelihoods these are `mx.Events` at a few
    thousand points with the expected numbers of events as weights; a fit to them has the errors of that many unweighted
    events, even if `data` have weights. For weighted counts (`data=mx.Counts(...)`) the ratio of variance to content is
    kept.

    **Raises:** `TypeError` for a likelihood without Asimov data: plain functions, unbinned likelihoods of a log density
    (give them `distribution=`) or of more than two observables.
    """
    likelihood = as_likelihood(likelihood)
    expected = _method(likelihood, "expected_data", "expected_data=lambda params: ...")
    params, data = prepare_params(params), prepare_data(data)
    return without_explicit_types(expected, resolve(params), *(() if data is None else (data,)))


def _method(likelihood: AbstractLikelihood, name: str, how: str) -> Any:
    method = getattr(likelihood, name)
    if method is None:
        raise Unavailable(f"{likelihood.name} has no {name}: a plain function gets one by mx.Likelihood(nll, {how})")
    return method
