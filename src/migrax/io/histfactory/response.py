"""The combination of variations with different interpolations: stage after stage, each of one interpolation."""

from collections.abc import Iterable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._util.table import Table
from .interpolation import factor, shares

LINEAR, EXPONENTIAL, QUADRATIC, POLYNOMIAL, POLYNOMIAL_EXPONENTIAL = 0, 1, 2, 4, 5
_BY_FACTOR = {EXPONENTIAL: 1, POLYNOMIAL_EXPONENTIAL: 4}  # the codes of `factor`


class Response(NamedTuple):
    """The response of the yields to a normsys or histosys.

    - `multiplies`: whether the sample is multiplied by a factor (bin by bin, for histosys), or a difference from the
        nominal yields is added.
    - `code`: that of RooFit's `PiecewiseInterpolation`, except 6, which is 4 as a factor. 0: linear. 1: exponential.
        2: quadratic within one standard deviation, linear beyond. 4: a polynomial of degree 6 within, linear beyond.
        5: a polynomial of degree 6 within, exponential beyond.
    """

    multiplies: bool
    code: int

    @property
    def exponential(self) -> bool:
        """Whether the ratios to the nominal yields must be positive."""
        return self.code in _BY_FACTOR


def usual(kind: str, codes: tuple[int, int]) -> Response:
    """The default response of a normsys or histosys, from the codes of the model."""
    if kind == "normsys":
        return Response(True, {1: EXPONENTIAL, 4: POLYNOMIAL_EXPONENTIAL}[codes[0]])
    return Response(False, codes[1])


def code_of(kind: str, responses: Iterable[Response]) -> int | None:
    """The code of a whole block, if one is enough: all normsys are exponential factors beyond one standard deviation,
    all histosys differences, and of the same code. `None` if stages are needed."""
    distinct = set(responses)
    if len(distinct) != 1:
        return None
    (response,) = distinct
    if kind == "normsys":
        return _BY_FACTOR.get(response.code) if response.multiplies else None
    return None if response.multiplies or response.exponential else response.code


class Stage(eqx.Module):
    """Variations of the samples of a block by modifiers of one response; up to `m` of a sample.

    (RooFit's `PiecewiseInterpolation` and `FlexibleInterpVar` take the modifiers of a sample in their order: a factor
    multiplies the yields after the differences before it, `MathFuncs::flexibleInterpSingle`.)

    - `lo`, `hi`: for a factor the ratios to the nominal yields at -1 and 1, else (nominal - lo) and (hi - nominal);
        neutral ones where a sample has fewer. `n` is 1 for normsys.
    - `at`: the positions of the parameters; the last entry of the vector of numbers, where there is none.
    """

    lo: Float[Array, "c s m n"]
    hi: Float[Array, "c s m n"]
    at: Table = eqx.field(static=True)
    response: Response = eqx.field(static=True)

    def __call__(self, total: Float[Array, "c s n"], numbers: Float[Array, " k"]) -> Float[Array, "c s n"]:
        """Apply the stage to the yields after the stages before it. `numbers`: the scalar parameters, and 1."""
        lo, hi = (x.astype(numbers.dtype) for x in (self.lo, self.hi))
        if self.response.multiplies:
            return total * jnp.prod(self._factors(numbers, lo, hi), axis=2)
        up, down = (x.at[-1].set(0.0)[self.at.array] for x in shares(numbers, self.response.code))
        return total + jnp.einsum("csm,csmn->csn", up, hi) + jnp.einsum("csm,csmn->csn", down, lo)

    def _factors(self, numbers: Array, lo: Array, hi: Array) -> Float[Array, "c s m n"]:
        alpha = numbers[self.at.array][..., None]
        if self.response.exponential:
            return factor(alpha, lo, hi, _BY_FACTOR[self.response.code])
        up, down = shares(alpha, self.response.code)
        return 1 + up * (hi - 1) + down * (1 - lo)


class Variation(NamedTuple):
    """One modifier of a sample: the position of its parameter, and its histograms (of normsys: one number each)."""

    position: int
    response: Response
    lo: Float[np.ndarray, " n"]
    hi: Float[np.ndarray, " n"]


def stages(
    variations: dict[tuple[int, int], list[Variation]], nominal: Float[np.ndarray, "c s n"], nothing: int
) -> tuple[Stage, ...]:
    """The stages of a block, from the modifiers of each sample `(channel, sample)` in their order. `nothing`: the
    position that stands for no parameter."""
    placed: dict[tuple[int, Response], dict[tuple[int, int], list[Variation]]] = {}
    for sample, modifiers in variations.items():
        step = 0  # differences are added in even steps, factors multiplied in odd ones
        for variation in modifiers:
            step += step % 2 != variation.response.multiplies
            placed.setdefault((step, variation.response), {}).setdefault(sample, []).append(variation)
    return tuple(_stage(samples, response, nominal, nothing) for (_, response), samples in sorted(placed.items()))


def _stage(
    samples: dict[tuple[int, int], list[Variation]], response: Response, nominal: np.ndarray, nothing: int
) -> Stage:
    c, s, n = nominal.shape
    largest = max(map(len, samples.values()))
    positions = np.full((c, s, largest), nothing)
    lo, hi = np.full((2, c, s, largest, n), 1.0 if response.multiplies else 0.0)
    for (i, j), modifiers in samples.items():
        for k, variation in enumerate(modifiers):
            positions[i, j, k] = variation.position
            if response.multiplies:
                filled = nominal[i, j] != 0  # an empty bin stays empty
                lo[i, j, k, filled], hi[i, j, k, filled] = (
                    x[filled] / nominal[i, j, filled] for x in (variation.lo, variation.hi)
                )
            else:
                lo[i, j, k], hi[i, j, k] = nominal[i, j] - variation.lo, variation.hi - nominal[i, j]
    return Stage(jnp.asarray(lo), jnp.asarray(hi), Table(positions), response)
