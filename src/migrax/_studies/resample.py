"""Resampling of data: each event counts a Poisson number of mean 1 times (B. Efron, Ann. Statist. 7 (1979) 1; with
Poisson weights A. J. Canty and A. C. Davison, The Statistician 48 (1999) 379)."""

from typing import Any

from jaxtyping import Array

from .._likelihoods.base import AbstractJoint, as_likelihood
from .._util.typing import PyTree


def resample(nll: Any, params: PyTree, key: Array, data: PyTree) -> PyTree:
    """Draws one bootstrap sample of the data of a likelihood, independent of the parameters.

    **Raises:** `TypeError` for a likelihood whose data are neither events, counts, points nor constraints.
    """
    likelihood = as_likelihood(nll)
    _check(likelihood, data)
    return likelihood.resample(key, data)


def _check(likelihood: Any, data: PyTree) -> None:
    if isinstance(likelihood, AbstractJoint):
        for _, part, part_data in likelihood.items(data):
            _check(part, part_data)
    elif likelihood.resample is None:
        raise TypeError(
            f"bootstrap(kind='poisson') does not know what an event is in the data of {likelihood.name}: take "
            "kind='parametric'"
        )
