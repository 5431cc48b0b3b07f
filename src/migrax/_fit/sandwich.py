"""The sandwich: the covariance of a fit whose likelihood is only approximate (weighted events, a wrong shape).

With H the Hessian of the NLL at its minimum and J the covariance of its slope there,

    C = H^-1 J H^-1

(P. J. Huber, Proc. Fifth Berkeley Symp. Math. Statist. Prob. 1 (1967) 221; H. White, Econometrica 50 (1982) 1). Each
likelihood declares its own J (`score_covariance`), and those of a joint one add up. Events: J = sum_i s_i s_i^T, where
s_i is the slope of the i-th event's term, so that J has the squares of the weights (C. Langenbruch, Eur. Phys. J. C 82
(2022) 393, equation 18). Counts, points and constraints: their known errors propagated to the slope; see `spread.py`.
"""

import warnings
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._host.evaluated import evaluated
from .._host.hosted import hosted
from .._likelihoods.base import AbstractJoint, AbstractLikelihood
from .._likelihoods.spread import FINE, NOT_A_SUM, spread_of, treatment
from .._parameters.space import resolve_at
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .covariance import Covariance

Kind = Literal["hesse", "sandwich"]
KINDS = ("hesse", "sandwich")

_ASIDE = 0.1  # in standard deviations: the offset at which the sum of the rows is compared to the likelihood


def check_kind(kind: Any, name: str) -> None:
    """**Raises:** `ValueError` unless `kind` is one of `KINDS`."""
    if kind not in KINDS:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")


def sandwich(
    nll: AbstractLikelihood,
    params: PyTree,
    values: Float[Array, " n"],
    data: PyTree,
    inverse: Covariance,
    up: Array,
    stacklevel: int = 3,
) -> Covariance:
    """The sandwich covariance at the free parameters `values`, where `inverse` = 2 UP H⁻¹.

    **Raises:** `ValueError` for a part that does not declare its J and is not the sum over the rows of its data.

    **Warns** of a function of few or no rows, whose second derivative is taken for J.
    """
    parts = _parts(nll, data, "")
    for name, part, part_data in parts:
        _, complaint = treatment(part, part_data, name)
        if complaint is not None:
            warnings.warn(complaint, stacklevel=stacklevel)
    matrix, faults, positive = _sandwich(nll, params, values, data, inverse.matrix, up)
    if is_concrete(faults):
        for (name, _, _), fault in zip(parts, np.asarray(faults), strict=True):
            if fault != FINE:
                raise ValueError(_refusal(name, int(fault)))
    if is_concrete(positive, inverse.valid) and bool(inverse.valid) and not bool(positive):
        warnings.warn(
            "the robust covariance cannot be computed: the second derivatives in place of the covariance of the slopes "
            "are not positive (do parts of the likelihood disagree strongly?). hesse=True gives the inverse Hessian",
            stacklevel=stacklevel,
        )
    return Covariance(*_if_usable(matrix, inverse.valid, faults, positive), inverse.names, "sandwich", inverse.accuracy)


@hosted
def _if_usable(matrix: Array, valid: Array, faults: Array, positive: Array) -> tuple[Array, Array]:
    is_usable = jnp.all(faults == FINE) & positive
    return jnp.where(is_usable, matrix, jnp.nan), valid & is_usable


def _refusal(name: str, fault: int) -> str:
    subject = f"the part {name!r}" if name else "the likelihood"
    if fault == NOT_A_SUM:
        return (
            f"{subject} is not the sum over the rows of its data (a constraint, a normalisation?): give it a method "
            "terms(params, data) that returns one number an event, whose gradients are the scores; add constraints by "
            "mx.Joint"
        )
    return (
        f"a parameter is decided by very few of the rows of {subject}, whose spread says nothing then: dress it as "
        "mx.Likelihood(nll, events=False) where these are measurements whose errors it knows, or counts; as "
        "mx.Likelihood(nll, events=True) where they are events all the same"
    )


@evaluated
def _sandwich(
    nll: AbstractLikelihood, params: PyTree, values: Array, data: PyTree, inverse: Array, up: Array
) -> tuple[Float[Array, "n n"], Int[Array, " parts"], Bool[Array, ""]]:
    """The matrix, the fault of each part, and whether all variances are non-negative."""
    bread = inverse / (2 * up)
    variance = jnp.diagonal(inverse)
    aside = values + _ASIDE * jnp.sqrt(jnp.where(variance > 0, variance, 0.0))
    at = lambda x: resolve_at(params, x)  # noqa: E731
    # Likelihoods of migrax are minus log L; for a user's function `up` sets the units.
    is_migrax = not nll.is_plain
    units = 2 * up
    meat, faults = jnp.zeros_like(bread), []
    for name, part, part_data in _parts(nll, data, ""):
        method, _ = treatment(part, part_data, name)
        spread, fault = spread_of(part, method, at, values, aside, part_data)
        meat = meat + (spread * units if method == "information" and not is_migrax else spread)
        faults.append(fault)
    robust = bread @ meat @ bread
    positive = ~jnp.any(jnp.diagonal(robust) < 0)
    return robust * units if is_migrax else robust, jnp.stack(faults), positive


def _parts(nll: Any, data: PyTree, name: str) -> list[tuple[str, Any, PyTree]]:
    """The terms of a joint likelihood, with their names and data; for any other, the likelihood itself."""
    if not isinstance(nll, AbstractJoint):
        return [(name, nll, data)]
    prefix = f"{name}." if name else ""
    return [entry for key, part, part_data in nll.items(data) for entry in _parts(part, part_data, f"{prefix}{key}")]
