"""Tests with weighted events: the likelihood is scaled to the effective number of events, and it is looked whether that
is right."""

import warnings
from collections.abc import Mapping

import numpy as np
from jaxtyping import Array, Float

from .._fit.hesse import hesse
from .._likelihoods.effective import Factor
from .._profile.fitted import Fitted
from .._util.tracing import is_concrete

Scales = Mapping[str, Float[Array, ""]] | None

_ALIKE = 1e-3  # variance of the weights over their squared mean: all the same, or nearly
_OFF = 0.1  # relative, of errors


def scales_of(factors: Mapping[str, Factor]) -> Scales:
    """For results: the factors by part; `None` without any."""
    return {name: factor.value for name, factor in factors.items()} or None


def warn_if_off(tested: Fitted, index: tuple[int, ...], factors: Mapping[str, Factor], what: str) -> None:
    """**Warns** where the weights go with what the parameters of interest describe: then one factor for all events is
    not right, as the robust errors tell. Equal weights, for which it is exact, are not looked at."""
    nll, free, data = tested
    known = [factor.spread for factor in factors.values()]
    if not known or not is_concrete(free.valid, *known) or not np.all(free.valid):
        return
    if not np.any(np.asarray(known) > _ALIKE):
        return
    try:
        plain, robust = (hesse(nll, free.params, data, kind=kind).errors for kind in ("hesse", "sandwich"))
    except ValueError as error:
        warnings.warn(
            f"{what} scales the likelihood of weighted events to their effective number, which cannot be checked by "
            f"robust errors: {error}",
            stacklevel=3,
        )
        return
    for i in index:
        ratio = float(robust[i] / plain[i])
        if abs(ratio - 1) > _OFF:
            warnings.warn(
                f"{what} scales the likelihood of weighted events to their effective number, and that is not right "
                f"here: the weights go with what {free.names[i]!r} describes, whose robust error is "
                f"{ratio:.2f} times that of the scaled likelihood. Numbers of standard deviations and distances from "
                "the best fit are off by about as much",
                stacklevel=3,
            )
