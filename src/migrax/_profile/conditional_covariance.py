"""Conditional covariances, and the first-order shift of all parameters if some are moved."""

from collections.abc import Callable

from jaxtyping import Array, Float

from .._host import xp

_OFF = 3e-4  # standard deviations


def conditional(covariance: Float[Array, "n n"], rows: Float[Array, "k n"]) -> Float[Array, "n n"]:
    """The covariance conditional on `rows @ x`, with zero variance along these rows."""
    for row in rows:
        v = covariance @ row
        variance = row @ v
        has_variance = variance > 0
        covariance = covariance - xp.where(has_variance, xp.outer(v, v) / xp.where(has_variance, variance, 1.0), 0.0)
    return covariance


def conditional_shift(v: Float[Array, "n n"], rows: Float[Array, "k n"], by: Float[Array, " n"]) -> Float[Array, " n"]:
    """The shift of all parameters, to first order, if the parameters of `rows` are moved by their entries of `by`."""
    inner = rows @ v @ rows.T
    known = xp.diagonal(inner) > 0
    inner = xp.where(known[:, None] & known[None, :], inner, xp.eye(inner.shape[0], dtype=v.dtype))
    return v @ rows.T @ xp.solve(inner, xp.where(known, rows @ by, 0.0))


def off_symmetry(
    variance: Float[Array, " n"], product: Callable[[Float[Array, " n"]], Float[Array, " n"]]
) -> Float[Array, " n"]:
    """A tiny step in an arbitrary direction, of a few ten-thousandths of a standard deviation of the covariance that
    has this diagonal and this product with vectors.

    Where a likelihood is symmetric in a nuisance parameter, a search that starts on the axis of symmetry stays on it,
    even if it is a ridge. From beside the axis, each descent step leads away from a ridge.
    """
    # multiples of the golden angle, so that no two parameters are treated alike
    weights = xp.cos(2.399963229728653 * (1 + xp.arange(variance.size, dtype=variance.dtype)))
    weights = xp.where(variance > 0, weights / xp.sqrt(xp.where(variance > 0, variance, 1.0)), 0.0)
    step = product(weights)
    length = weights @ step
    return xp.where(length > 0, _OFF * step / xp.sqrt(xp.where(length > 0, length, 1.0)), 0.0)
