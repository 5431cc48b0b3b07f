"""The histosys of a block where most of them touch few bins: what they add to the yields, without the zeros."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._likelihoods.sparse_effects import SparseEffects
from ..._util.table import Table
from .interpolation import shares

_WORTH = 8  # times as many numbers in arrays with zeros, as sums over segments take longer for each
_FEWEST = 100_000  # numbers in such arrays


class SparseShifts(eqx.Module):
    """The sum of all histosys of a block, as differences from the nominal yields.

    - `effects`: (hi - nominal) of all parameters, then (nominal - lo).
    - `at`: the positions of the parameters.
    - `code`: the interpolation.
    """

    effects: SparseEffects
    at: Table = eqx.field(static=True)
    code: int = eqx.field(static=True)

    def __call__(self, numbers: Float[Array, " k"]) -> Float[Array, "c s n"]:
        return self.effects(jnp.concatenate(shares(numbers[self.at.array], self.code)))


def sparse(
    variations: Float[np.ndarray, "2 c s h n"], nominal: Float[np.ndarray, "c s n"], positions: np.ndarray, code: int
) -> SparseShifts | None:
    """The histosys without their zeros, or `None` where that is not worth it.

    `variations`: the lower and upper templates; `positions`: of their parameters, of shape `(c, s, h)` or `(c, 1, h)`.
    """
    if variations.size < _FEWEST:
        return None
    lower, upper = nominal[:, :, None] - variations[0], variations[1] - nominal[:, :, None]
    if _WORTH * (np.count_nonzero(lower) + np.count_nonzero(upper)) > variations.size:
        return None
    positions = np.broadcast_to(positions, variations.shape[1:4])
    at = np.unique(positions[np.any((lower != 0) | (upper != 0), axis=-1)])
    which, where, values = [], [], []
    for half, shift in enumerate((upper, lower)):
        c, s, h, n = np.nonzero(shift)
        which.append(np.searchsorted(at, positions[c, s, h]) + half * at.size)
        where.append((c, s, n))
        values.append(shift[c, s, h, n])
    bins = tuple(np.concatenate(axes) for axes in zip(*where, strict=True))
    effects = SparseEffects(
        np.concatenate(which), bins, np.concatenate(values), size=max(2 * at.size, 1), shape=nominal.shape
    )
    return SparseShifts(effects, Table(at), code)
