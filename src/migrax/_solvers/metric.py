"""The inverse Hessian as a metric: forced positive definite, scaled to unit diagonal first as MINUIT does."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Metric(NamedTuple):
    """Eigen-decomposition of a Hessian scaled to unit diagonal: `H = D (Q diag(eigenvalues) Q^T) D`."""

    scale: Float[Array, " n"]  # the diagonal of D, 1/units of the parameters
    vectors: Float[Array, "n n"]
    eigenvalues: Float[Array, " n"]  # dimensionless, ascending
    finite: Bool[Array, ""]

    @property
    def floor(self) -> Float[Array, ""]:
        """Eigenvalues below this are zero within rounding (a scaled Hessian's largest is between 1 and n)."""
        n = self.eigenvalues.shape[0]
        return 8 * n * jnp.finfo(self.eigenvalues.dtype).eps * jnp.maximum(jnp.max(jnp.abs(self.eigenvalues)), 1)

    @property
    def positive_definite(self) -> Bool[Array, ""]:
        return self.finite & (self.eigenvalues[0] > self.floor)

    def root(self) -> Float[Array, "n n"]:
        """`L` with `L L^T` = the inverse of the Hessian with its eigenvalues made positive (their absolute values)."""
        positive = jnp.maximum(jnp.abs(self.eigenvalues), self.floor)
        return (self.vectors / self.scale[:, None]) / jnp.sqrt(positive)[None, :]

    def inverse(self) -> Float[Array, "n n"]:
        """The inverse of the Hessian, of its positive-definite part where it is not positive definite."""
        root = self.root()
        return root @ root.T


def decompose(hessian: Float[Array, "n n"], gradient: Float[Array, " n"]) -> Metric:
    """Scales to unit diagonal and decomposes. Where the Hessian is not finite its place is taken by the gradient's
    length, so that the first step of a solver that uses it has length one."""
    finite = jnp.all(jnp.isfinite(hessian))
    length = jnp.sqrt(jnp.sum(gradient**2))
    spare = jnp.where(jnp.isfinite(length) & (length > 0), length, 1.0)
    usable = jnp.where(finite, hessian, spare * jnp.eye(hessian.shape[0], dtype=hessian.dtype))
    diagonal = jnp.abs(jnp.diagonal(usable))
    # A zero on the diagonal (a flat or purely mixed direction) takes the size of its row.
    row = jnp.max(jnp.abs(usable), axis=1)
    size = jnp.where(diagonal > jnp.finfo(hessian.dtype).eps * row, diagonal, row)
    scale = jnp.sqrt(jnp.where(size > 0, size, 1.0))
    eigenvalues, vectors = jnp.linalg.eigh(usable / (scale[:, None] * scale[None, :]))
    return Metric(scale, vectors, eigenvalues, finite)
