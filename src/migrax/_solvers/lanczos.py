"""The ends of the spectrum of a symmetric operator from its products with vectors (C. Lanczos, J. Res. Natl. Bur.
Stand. 45 (1950) 255; B. N. Parlett, The Symmetric Eigenvalue Problem (1980), chapter 13)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Scalar

from .._host import flow, xp


class Spectrum(NamedTuple):
    """The lowest and the highest Ritz value, which are within the spectrum, and the sizes of their residuals: there is
    an eigenvalue that near to each."""

    lowest: Scalar
    highest: Scalar
    below: Scalar
    above: Scalar

    @property
    def norm(self) -> Scalar:
        """An estimate of the norm, on the safe side."""
        return xp.maximum(xp.abs(self.lowest) + self.below, xp.abs(self.highest) + self.above)


def spectrum(product: Callable[[Float[Array, " n"]], Float[Array, " n"]], x: Float[Array, " n"], most: int) -> Spectrum:
    """The ends of the spectrum, from the Krylov space of a random vector.

    **Arguments:**

    - `product`: the operator, for vectors like `x`.
    - `most`: the number of products.
    """
    m = min(most, x.size)
    start = xp.asarray(np.random.default_rng(0).normal(size=x.size), x.dtype)
    rows = xp.set_at(xp.zeros((m + 1, x.size), x.dtype), 0, start / xp.sqrt(start @ start))
    zeros = xp.zeros(m, x.dtype)

    def body(i: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        rows, alpha, beta = carry
        w = product(rows[i])
        alpha = xp.set_at(alpha, i, rows[i] @ w)
        for _ in range(2):  # against all that came before, twice, as rounding spoils the recurrence
            w = w - rows.T @ (rows @ w)
        length = xp.sqrt(w @ w)
        # A space that is exhausted has a residual of zero; zero rows have no part in what follows.
        is_new = length > 1e3 * xp.finfo(x.dtype).eps * xp.max(xp.abs(alpha))
        row = xp.where(is_new, w / xp.where(is_new, length, 1.0), 0.0)
        return xp.set_at(rows, i + 1, row), alpha, xp.set_at(beta, i, xp.where(is_new, length, 0.0))

    rows, alpha, beta = flow.fori_loop(0, m, body, (rows, zeros, zeros))
    # Those after the end of an exhausted space are not of it.
    inside = xp.sum(rows[:m] ** 2, axis=1) > 0.5
    alpha = xp.where(inside, alpha, alpha[0])
    off = xp.diag(beta[: m - 1], 1)
    values, vectors = xp.eigh(xp.diag(alpha) + off + off.T)
    residuals = xp.abs(beta[m - 1] * vectors[m - 1])
    return Spectrum(values[0], values[-1], residuals[0], residuals[-1])
