"""The trust-region subproblem: the minimum of a quadratic model within a radius."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Array, Scalar

from .metric import Metric


def trust_region_step(
    metric: Metric, grad: Float[Array, " n"], radius: Scalar
) -> tuple[Float[Array, " n"], Scalar, Scalar]:
    """The minimum of the quadratic model within the radius (scaled coordinates), its length and the reduction.

    The eigenvalues are at hand, so the secular equation |s(shift)| = radius is solved in one dimension by Newton's
    method on 1/|s|, which converges monotonically from the left (Moré and Sorensen 1983; Nocedal and Wright,
    algorithm 4.3). In the "hard case", no gradient along the lowest eigenvector, that vector fills the radius.
    """
    g = metric.vectors.T @ (grad / metric.scale)
    eigenvalues, floor = metric.eigenvalues, metric.floor
    lowest = eigenvalues[0]
    interior_ok = metric.positive_definite
    tiny = jnp.finfo(g.dtype).tiny

    def length_at(shift: Scalar) -> tuple[Scalar, Scalar]:
        denominator = jnp.maximum(eigenvalues + shift, floor)
        s = g / denominator
        length = jnp.sqrt(jnp.sum(s**2))
        return length, jnp.sum(s**2 / denominator)

    start = jnp.maximum(-lowest + floor, 0)
    newton_length, _ = length_at(jnp.where(interior_ok, 0.0, start))

    def improve(_: int, shift: Scalar) -> Scalar:
        length, curvature = length_at(shift)
        change = (length**2 / jnp.maximum(curvature, tiny)) * (length - radius) / jnp.maximum(radius, tiny)
        return jnp.maximum(jnp.where(length > radius, shift + change, shift), shift)

    inside = interior_ok & (newton_length <= radius)
    shift = lax.fori_loop(0, 40, improve, start)
    shift = jnp.where(inside, 0.0, shift)
    s = -g / jnp.maximum(eigenvalues + shift, floor)
    length = jnp.sqrt(jnp.sum(s**2))
    s = s * jnp.minimum(1.0, radius / jnp.maximum(length, tiny))
    length = jnp.minimum(length, radius)
    # Fill the radius along the lowest eigenvector, if it curves down (or the step is short of a negative curvature).
    missing = jnp.sqrt(jnp.maximum(radius**2 - length**2, 0))
    hard = (lowest < -floor) & (missing > 0)
    s = s.at[0].add(jnp.where(hard, jnp.where(s[0] < 0, -missing, missing), 0.0))
    length = jnp.sqrt(jnp.sum(s**2))
    predicted = -(g @ s + 0.5 * jnp.sum(eigenvalues * s**2))
    return (metric.vectors @ s) / metric.scale, length, predicted
