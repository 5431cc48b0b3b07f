"""The inverse Hessian as a metric: forced positive definite, scaled to unit diagonal first as MINUIT does."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Scalar


class Metric(NamedTuple):
    """Eigen-decomposition of a scaled Hessian: `H = D (Q diag(eigenvalues) Q^T) D`."""

    scale: Float[Array, " n"]  # the diagonal of D, 1/units of the parameters
    vectors: Float[Array, "n n"]
    eigenvalues: Float[Array, " n"]  # in units of the function, ascending
    finite: Bool[Array, ""]  # whether the Hessian was; if not, something else took its place

    @classmethod
    def unit(cls, x: Float[Array, " n"]) -> "Metric":
        """That of the identity, for vectors like `x`."""
        return cls(jnp.ones_like(x), jnp.eye(x.size, dtype=x.dtype), jnp.ones_like(x), jnp.array(True))

    @property
    def floor(self) -> Scalar:
        """Eigenvalues below this are zero within rounding (of a unit diagonal the largest is between 1 and n)."""
        n = self.eigenvalues.shape[0]
        return 8 * n * jnp.finfo(self.eigenvalues.dtype).eps * jnp.maximum(jnp.max(jnp.abs(self.eigenvalues)), 1)

    @property
    def positive_definite(self) -> Bool[Array, ""]:
        return self.finite & (self.eigenvalues[0] > self.floor)

    @property
    def minimum(self) -> Bool[Array, ""]:
        """Whether the function curves up somewhere, and down nowhere: flat directions are allowed."""
        return self.finite & (self.eigenvalues[0] >= -self.floor) & (self.eigenvalues[-1] > self.floor)

    def root(self, flat: Float[Array, " n"] | None = None) -> Float[Array, "n n"]:
        """`L` with `L L^T` = the inverse of the Hessian with its eigenvalues made positive: their absolute values or,
        where they are zero within rounding, `flat` (default: the rounding)."""
        size = jnp.abs(self.eigenvalues)
        least = self.floor if flat is None else jnp.maximum(flat, self.floor)
        positive = jnp.where(size > self.floor, size, least)
        return (self.vectors / self.scale[:, None]) / jnp.sqrt(positive)[None, :]

    def inverse(self) -> Float[Array, "n n"]:
        """The inverse of the Hessian, with its eigenvalues made positive as in `root`."""
        root = self.root()
        return root @ root.T

    def edm(self, gradient: Float[Array, " n"]) -> Scalar:
        """The estimated vertical distance to the minimum, half of g^T H^-1 g."""
        return 0.5 * jnp.sum((self.root().T @ gradient) ** 2)


def unit_diagonal(hessian: Float[Array, "n n"]) -> Float[Array, " n"]:
    """The scale D with which the diagonal of D^-1 H D^-1 is one (or minus one)."""
    diagonal = jnp.abs(jnp.diagonal(hessian))
    # A zero on the diagonal (a flat or purely mixed direction) takes the size of its row. Zero is what is nothing
    # beside H_ij^2 / H_jj, which no entry of a positive-definite matrix is, however the parameters are scaled.
    row = jnp.max(jnp.abs(hessian), axis=1)
    unit = jnp.sqrt(jnp.where(diagonal > 0, diagonal, jnp.finfo(hessian.dtype).tiny))
    mixed = jnp.max(jnp.abs(hessian) / unit[None, :], axis=1)
    size = jnp.where(unit > jnp.finfo(hessian.dtype).eps ** 0.5 * mixed, diagonal, row)
    return jnp.sqrt(jnp.where(size > 0, size, 1.0))


def decompose(
    hessian: Float[Array, "n n"], gradient: Float[Array, " n"], scale: Float[Array, " n"] | None = None
) -> Metric:
    """Scales (to unit diagonal unless a scale is given) and decomposes.

    Where the Hessian is not finite, its place is taken by the gradient's length times the identity, so that the first
    step of a solver that uses it has length one.
    """
    finite = jnp.all(jnp.isfinite(hessian))
    length = jnp.sqrt(jnp.sum(gradient**2))
    spare = jnp.where(jnp.isfinite(length) & (length > 0), length, 1.0)
    usable = jnp.where(finite, hessian, spare * jnp.eye(hessian.shape[0], dtype=hessian.dtype))
    scale = unit_diagonal(usable) if scale is None else scale
    eigenvalues, vectors = jnp.linalg.eigh(usable / (scale[:, None] * scale[None, :]))
    return Metric(scale, vectors, eigenvalues, finite)


def bfgs(v: Float[Array, "n n"], s: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, "n n"]:
    """The BFGS update of an inverse Hessian after a step `s` that changed the gradient by `y`; none, where the function
    curves down along the step. What is zero across some directions stays so."""
    delta = s @ y
    vy = v @ y
    yvy = y @ vy
    good = (delta > 1e-8 * jnp.abs(yvy)) & (yvy > 0) & jnp.isfinite(delta + yvy)
    delta, yvy = jnp.where(good, delta, 1.0), jnp.where(good, yvy, 1.0)
    return jnp.where(good, updated_inverse(v, s, vy, delta, yvy), v)


def updated_inverse(
    v: Float[Array, "n n"], s: Float[Array, " n"], vy: Float[Array, " n"], delta: Scalar, yvy: Scalar
) -> Float[Array, "n n"]:
    """The BFGS formula (R. Fletcher, Comput. J. 13 (1970) 317) for the inverse Hessian `v` after a step `s` that
    changed the gradient by `y`; `delta` = s'y, `yvy` = y'v y, both positive."""
    u = s / delta - vy / yvy
    return v + jnp.outer(s, s) / delta - jnp.outer(vy, vy) / yvy + yvy * jnp.outer(u, u)


@jax.custom_jvp
def seed(hessian: Float[Array, "n n"], root: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """`root @ root.T`, for a root of the Hessian's inverse that was forced positive definite.

    It is differentiated as the inverse that it is where nothing was forced. Through the eigenvectors one would divide
    by the distances of the eigenvalues, which are zero for the simplest functions.
    """
    return root @ root.T


@seed.defjvp
def _(primals, tangents):
    result = seed(*primals)
    return result, -result @ tangents[0] @ result
