"""Tests with weighted events: the likelihood is scaled to the effective number of events, and the validity of this
scaling is checked."""

import warnings
from collections.abc import Mapping

import numpy as np
from jaxtyping import Array, Float

from .._fit.hesse import hesse
from .._likelihoods.effective import Factor
from .._profile.fitted import Fitted
from .._util.tracing import is_concrete

Scales = Mapping[str, Float[Array, ""]] | None

_ALIKE = 1e-3  # weights with a smaller variance over their squared mean count as equal
_OFF = 0.1  # limit on the relative difference of the errors


def scales_of(factors: Mapping[str, Factor]) -> Scales:
    """Returns the scale factors by part, for results; `None` if there are none."""
    return {name: factor.value for name, factor in factors.items()} or None


def warn_if_off(tested: Fitted, index: tuple[int, ...], factors: Mapping[str, Factor], what: str) -> None:
    """**Warns** if the weights are correlated with what the parameters of interest describe: one factor for all events
    is then wrong, as the robust errors show. Equal weights, for which it is exact, are not checked."""
    nll, free, data = tested
    spreads = [factor.spread for factor in factors.values()]
    if not spreads or not is_concrete(free.valid, *spreads) or not np.all(free.valid):
        return
    if not np.any(np.asarray(spreads) > _ALIKE):
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
                f"here: the weights are correlated with what {free.names[i]!r} describes, whose robust error is "
                f"{ratio:.2f} times that of the scaled likelihood. Significances and limits are wrong by about this "
                "factor",
                stacklevel=3,
            )
