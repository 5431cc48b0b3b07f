"""The inverse Hessian as a metric: scaled to unit diagonal and forced positive definite, as in MINUIT."""

from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool, Float, Scalar

from .._host import xp
from .._host.xp import is_on_host
from .flat import MANY


class Metric(NamedTuple):
    """Eigen-decomposition of a scaled Hessian: `H = D (Q diag(eigenvalues) Q^T) D`. For a positive-definite one of many
    parameters, `vectors` is a root of the inverse of `D⁻¹ H D⁻¹` instead, and each of the `eigenvalues` is 1, for which
    all that is made of them is the same."""

    scale: Float[Array, " n"]  # the diagonal of D, 1/units of the parameters
    vectors: Float[Array, "n n"]
    eigenvalues: Float[Array, " n"]  # in units of the function, ascending
    finite: Bool[Array, ""]  # whether the Hessian was finite; if not, a multiple of the identity replaces it

    @classmethod
    def unit(cls, x: Float[Array, " n"]) -> "Metric":
        """The identity as a metric, for vectors like `x`."""
        return cls(xp.ones_like(x), xp.eye(x.size, dtype=x.dtype), xp.ones_like(x), xp.array(True))

    @property
    def floor(self) -> Scalar:
        """The size below which an eigenvalue is zero within rounding (with a unit diagonal the largest is between 1
        and n)."""
        n = self.eigenvalues.shape[0]
        return 8 * n * xp.finfo(self.eigenvalues.dtype).eps * xp.maximum(xp.max(xp.abs(self.eigenvalues)), 1)

    @property
    def positive_definite(self) -> Bool[Array, ""]:
        return self.finite & (self.eigenvalues[0] > self.floor)

    @property
    def minimum(self) -> Bool[Array, ""]:
        """Whether the Hessian is positive semidefinite within rounding and not zero: flat directions are allowed."""
        return self.finite & (self.eigenvalues[0] >= -self.floor) & (self.eigenvalues[-1] > self.floor)

    def root(self, flat: Float[Array, " n"] | None = None) -> Float[Array, "n n"]:
        """`L`, where `L L^T` is the inverse of the Hessian with its eigenvalues made positive: each is replaced by its
        absolute value or, where it is zero within rounding, by `flat` (default: `floor`)."""
        size = xp.abs(self.eigenvalues)
        least = self.floor if flat is None else xp.maximum(flat, self.floor)
        positive = xp.where(size > self.floor, size, least)
        return (self.vectors / self.scale[:, None]) / xp.sqrt(positive)[None, :]

    def shifted(self) -> "Metric":
        """The same where it is positive definite; else with a multiple of the identity added that makes it so (S. M.
        Goldfeld, R. E. Quandt and H. F. Trotter, Econometrica 34 (1966) 541). No direction is then much longer than the
        model is valid, as those are whose curvature happens to be near zero among many."""
        lowest = self.eigenvalues[0]
        return self._replace(eigenvalues=self.eigenvalues + xp.where(lowest > self.floor, 0.0, 2 * xp.abs(lowest)))

    def inverse(self) -> Float[Array, "n n"]:
        """The inverse of the Hessian, with its eigenvalues made positive as in `root`."""
        root = self.root()
        return root @ root.T

    def edm(self, gradient: Float[Array, " n"]) -> Scalar:
        """The estimated vertical distance to the minimum, half of g^T H^-1 g."""
        return 0.5 * xp.sum((self.root().T @ gradient) ** 2)


def unit_diagonal(hessian: Float[Array, "n n"]) -> Float[Array, " n"]:
    """The scale D for which the diagonal of D^-1 H D^-1 is one (or minus one)."""
    diagonal = xp.abs(xp.diagonal(hessian))
    # A zero on the diagonal (a flat or purely mixed direction) is replaced by the size of its row. An entry counts as
    # zero if it is negligible beside H_ij^2 / H_jj; in a positive-definite matrix none is, in any units of parameters.
    row = xp.max(xp.abs(hessian), axis=1)
    unit = xp.sqrt(xp.where(diagonal > 0, diagonal, xp.finfo(hessian.dtype).tiny))
    mixed = xp.max(xp.abs(hessian) / unit[None, :], axis=1)
    size = xp.where(unit > xp.finfo(hessian.dtype).eps ** 0.5 * mixed, diagonal, row)
    return xp.sqrt(xp.where(size > 0, size, 1.0))


def decompose(
    hessian: Float[Array, "n n"], gradient: Float[Array, " n"], scale: Float[Array, " n"] | None = None
) -> Metric:
    """The eigen-decomposition of a Hessian, scaled to unit diagonal unless a `scale` is given.

    A Hessian that is not finite is replaced by the identity times the length of the gradient, so that the first step of
    a solver that uses it has length one.
    """
    finite = xp.all(xp.isfinite(hessian))
    length = xp.sqrt(xp.sum(gradient**2))
    fallback = xp.where(xp.isfinite(length) & (length > 0), length, 1.0)
    usable = xp.where(finite, hessian, fallback * xp.eye(hessian.shape[0], dtype=hessian.dtype))
    scale = unit_diagonal(usable) if scale is None else scale
    scaled = usable / (scale[:, None] * scale[None, :])
    root = inverse_root(scaled) if is_on_host() and hessian.shape[0] >= MANY else None
    if root is not None:
        return Metric(scale, root, xp.ones_like(scale), finite)
    eigenvalues, vectors = xp.eigh(scaled)
    return Metric(scale, vectors, eigenvalues, finite)


def inverse_root(matrix: Any) -> Any:
    """On the host, `R` with `R Rᵀ` the inverse of a symmetric matrix, by Cholesky, in a tenth of the time of the
    eigenvalues; `None` unless it shows that the matrix is positive definite beyond rounding: its lowest eigenvalue is
    at least `1 / |R|²` (Frobenius), the highest at most `|matrix|`.

    In programs XLA solves triangular systems under `jax.vmap` by a program of its own, which takes minutes to compile.
    """
    try:
        lower = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return None
    (invert,) = scipy.linalg.get_lapack_funcs(("trtri",), (lower,))
    inverse, info = invert(lower, lower=1)
    lowest, highest = 1 / np.sum(inverse**2), np.sqrt(np.sum(matrix**2))
    is_positive = info == 0 and lowest > 8 * len(matrix) * np.finfo(matrix.dtype).eps * max(highest, 1)
    return inverse.T if is_positive else None


def bfgs(v: Float[Array, "n n"], s: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, "n n"]:
    """The BFGS update of an inverse Hessian after a step `s` that changed the gradient by `y`, skipped where the
    curvature along the step is not positive. Directions in which `v` and `s` are zero stay zero."""
    delta = s @ y
    vy = v @ y
    yvy = y @ vy
    is_usable = is_usable_update(delta, yvy)
    delta, yvy = xp.where(is_usable, delta, 1.0), xp.where(is_usable, yvy, 1.0)
    return xp.where(is_usable, updated_inverse(v, s, vy, delta, yvy), v)


def is_usable_update(sy: Scalar, yvy: Scalar) -> Bool[Array, ""]:
    """Whether the curvature along a step `s` that changed the gradient by `y` is positive; `yvy` = y'v y."""
    return (sy > 1e-8 * xp.abs(yvy)) & (yvy > 0) & xp.isfinite(sy + yvy)


def updated_inverse(
    v: Float[Array, "n n"], s: Float[Array, " n"], vy: Float[Array, " n"], delta: Scalar, yvy: Scalar
) -> Float[Array, "n n"]:
    """The BFGS formula (R. Fletcher, Comput. J. 13 (1970) 317) for the inverse Hessian `v` after a step `s` that
    changed the gradient by `y`; `delta` = s'y, `yvy` = y'v y, both positive."""
    u = s / delta - vy / yvy
    return v + xp.outer(s, s) / delta - xp.outer(vy, vy) / yvy + yvy * xp.outer(u, u)


@jax.custom_jvp
def seed(hessian: Float[Array, "n n"], root: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """`root @ root.T`, for a root of the inverse Hessian that was forced positive definite.

    Its derivative is that of the inverse, which is exact where nothing was forced. Derivatives of eigenvectors would
    divide by differences of eigenvalues, which are zero for the simplest functions.
    """
    return root @ root.T


@seed.defjvp
def _(primals, tangents):
    result = seed(*primals)
    return result, -result @ tangents[0] @ result
