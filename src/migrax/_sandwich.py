"""The sandwich: the covariance of a fit whose likelihood is not the whole truth (weighted events, a wrong shape).

With H the Hessian of the NLL at its minimum and s_i the score, the gradient of the i-th event's term,

    C = H^-1 J H^-1,    J = sum_i s_i s_i^T

(P. J. Huber, Proc. Fifth Berkeley Symp. Math. Statist. Prob. 1 (1967) 221; H. White, Econometrica 50 (1982) 1; for
weighted events C. Langenbruch, Eur. Phys. J. C 82 (2022) 393, equation 18: a term is weight times log density, so that
J has the squares of the weights). For a right likelihood without weights J is H on average, and C the inverse of H. A
constraint is one measurement of known error: its part of J is its own second derivative.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._chunks import sum_over_chunks
from ._jit import jit
from ._one_mode import jacobian
from ._parameter import is_concrete
from ._result import Covariance
from ._space import resolve_at
from ._typing import PyTree

Kind = Literal["hesse", "sandwich"]
KINDS = ("hesse", "sandwich")

_ASIDE = 0.1  # standard deviations: where it is looked whether the rows add up to the likelihood
_TOLERANCE = 1e-6  # relative, of the gradient: that the rows add up to the likelihood


def check_kind(kind: Any, name: str) -> None:
    """**Raises:** `ValueError` unless `kind` is one of `KINDS`."""
    if kind not in KINDS:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")


def sandwich(
    nll: Callable, params: PyTree, values: Float[Array, " n"], data: PyTree, inverse: Covariance, up: Array
) -> Covariance:
    """The sandwich for a covariance `inverse` = 2 UP H⁻¹ at the free parameters `values`.

    **Raises:** `ValueError` if the likelihood does not tell its terms and is not the sum over the rows of the data.
    """
    matrix, same = _sandwich(nll, params, values, data, inverse.matrix, up)
    if is_concrete(same) and not bool(same):
        raise ValueError(
            "the likelihood is not the sum over the rows of its data (a constraint, a normalisation?): give it a "
            "method terms(params, data) that returns one number an event, whose gradients are the scores"
        )
    return Covariance(
        jnp.where(same, matrix, jnp.nan), inverse.valid & same, inverse.names, "sandwich", inverse.accuracy
    )


@jit
def _sandwich(
    nll: Callable, params: PyTree, values: Array, data: PyTree, inverse: Array, up: Array
) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """The matrix, and whether the rows add up to the likelihood (a term that does not depend on them has a slope)."""

    bread = inverse / (2 * up)
    meat, same = jnp.zeros_like(bread), jnp.array(True)
    for part, its in _parts(nll, data):
        spread, adds_up = _spread(part, params, values, its, inverse)
        meat, same = meat + spread, same & adds_up
    return bread @ meat @ bread, same


def _parts(nll: Any, data: PyTree) -> list[tuple[Any, PyTree]]:
    """The likelihoods that a joint one is the sum of, with their data."""
    if not hasattr(nll, "parts"):
        return [(nll, data)]
    return [pair for _, part, its in nll.items(data) for pair in _parts(part, its)]


def _spread(
    nll: Callable, params: PyTree, values: Array, data: PyTree, inverse: Array
) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """J, and whether the rows add up to the likelihood (a term that does not depend on them has a slope)."""
    if getattr(nll, "is_constraint", False):  # one measurement, whose own spread is known
        return jax.hessian(lambda x: nll(resolve_at(params, x), data))(values), jnp.array(True)

    if hasattr(nll, "rows"):
        likelihood: Any = nll
        return _streamed(likelihood, params, values, likelihood.rows(data)), jnp.array(True)

    def terms(x: Array) -> Array:
        at = resolve_at(params, x)
        told = getattr(nll, "terms", None)
        return jnp.ravel(_by_rows(nll, at, data) if told is None else told(at, data))

    scores = jacobian(terms, values)
    same = jnp.array(True)  # a method of the likelihood's own may leave out what does not fluctuate
    if not hasattr(nll, "terms"):
        # away from the minimum, where the slope of a constraint is 0
        variance = jnp.diagonal(inverse)
        aside = values + _ASIDE * jnp.sqrt(jnp.where(variance > 0, variance, 0.0))
        whole = jax.grad(lambda x: nll(resolve_at(params, x), data))(aside)
        there = jacobian(terms, aside)
        off = jnp.abs(jnp.sum(there, axis=0) - whole)
        same = ~jnp.any(off > _TOLERANCE * (jnp.sum(jnp.abs(there), axis=0) + jnp.abs(whole)))
    return scores.T @ scores, same


def _streamed(nll: Any, params: PyTree, values: Array, rows: PyTree) -> Float[Array, "n n"]:
    """J of a sum over rows, as many of them at a time as the likelihood takes."""

    def squares(chunk: PyTree, counted: Array) -> Array:
        scores = jacobian(lambda x: nll.terms(resolve_at(params, x), chunk), values)
        scores = jnp.where(counted[:, None], scores, 0.0)
        return scores.T @ scores

    return sum_over_chunks(squares, rows, nll.chunk_size)


def _by_rows(nll: Callable, params: PyTree, data: PyTree) -> Float[Array, " m"]:
    """The likelihood of each row of the data alone."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(data)]
    if not shapes or any(len(shape) == 0 or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(
            "the sandwich takes data that are arrays with one row an event, got shapes "
            f"{shapes}: give the likelihood a method terms(params, data)"
        )
    return jax.vmap(lambda row: nll(params, jax.tree.map(lambda a: a[None], row)))(data)
