"""The expected yields of all channels that have the same number of bins, in a few array operations."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._util.table import Table
from .interpolation import factor, shares
from .response import Stage
from .shifts import SparseShifts


class Block(eqx.Module):
    """`c` channels of `n` bins, of up to `s` samples each. Samples that a channel lacks have no events.

    - `nominal`: the templates.
    - `norm_lo`, `norm_hi`: the factors of up to `m` normsys of each sample; 1 where it has fewer.
    - `shape_lo`, `shape_hi`: the templates of up to `h` histosys of each sample; the nominal ones where it has fewer.
    - `factors`, `norms`, `shapes`, `gammas`: the positions of the parameters of normfactor and lumi, normsys, histosys
        and the modifiers bin by bin, of shape `(c, s, ...)`; where there is none, the last entry of a vector of
        parameters, which is 1. Those of normsys and histosys are of shape `(c, 1, ...)` if most samples of a channel
        share them: then less is gathered, whose transpose is slow.
    - `channels`, `samples`: their names.
    - `shifts`: all histosys, if most of them touch few bins; the arrays above then contain none of them.
    - `codes`: the interpolations of normsys and histosys. `norm_stages`, `shape_stages`: all normsys, or histosys, if
        one code is not enough; the arrays above then contain none of them.
    """

    nominal: Float[Array, "c s n"]
    norm_lo: Float[Array, "c s m"]
    norm_hi: Float[Array, "c s m"]
    shape_lo: Float[Array, "c s h n"]
    shape_hi: Float[Array, "c s h n"]
    factors: Table = eqx.field(static=True)
    norms: Table = eqx.field(static=True)
    shapes: Table = eqx.field(static=True)
    gammas: Table = eqx.field(static=True)
    channels: tuple[str, ...] = eqx.field(static=True)
    samples: tuple[tuple[str, ...], ...] = eqx.field(static=True)
    codes: tuple[int, int] = eqx.field(static=True)
    norm_stages: tuple[Stage, ...] = ()
    shape_stages: tuple[Stage, ...] = ()
    shifts: SparseShifts | None = None

    def unlabelled(self) -> "Block":
        """The same, with numbers in place of the names of its samples."""
        names = tuple(tuple(map(str, range(len(samples)))) for samples in self.samples)
        return dataclasses.replace(self, samples=names)

    def expected(self, numbers: Float[Array, " k"], vectors: Float[Array, "v n"]) -> Float[Array, "c s n"]:
        """The yields of each sample. `numbers`: the scalar parameters, and 1; `vectors`: those with an entry for each
        bin, and ones."""
        nominal = self.nominal.astype(numbers.dtype)
        factors = product(numbers[self.factors.array]) * product_of_many(self._norms(numbers))
        yields = nominal + self._shifts(numbers, nominal)
        for stage in self.shape_stages:
            yields = stage(yields, numbers)
        yields = yields * factors[..., None]
        if self.norm_stages:
            yields = yields * functools.reduce(
                lambda total, stage: stage(total, numbers), self.norm_stages, jnp.ones_like(nominal[..., :1])
            )
        if self.gammas.array.shape[-1] == 0:
            return yields
        return yields * product(jnp.moveaxis(vectors[self.gammas.array], 2, -1))

    def _norms(self, numbers: Array) -> Float[Array, "c s m"]:
        lo, hi = (x.astype(numbers.dtype) for x in (self.norm_lo, self.norm_hi))
        return factor(numbers[self.norms.array], lo, hi, self.codes[0])

    def _shifts(self, numbers: Array, nominal: Array) -> Float[Array, "c s n"] | float:
        if self.shifts is not None:
            return self.shifts(numbers)
        positions = self.shapes.array
        if positions.shape[-1] == 0:
            return 0.0
        # the last number is not a parameter and moves nothing
        up, down = (x.at[-1].set(0.0)[positions] for x in shares(numbers, self.codes[1]))
        lo, hi = (x.astype(numbers.dtype) for x in (self.shape_lo, self.shape_hi))
        templates = jnp.concatenate([hi - nominal[:, :, None], nominal[:, :, None] - lo], axis=2)
        weights = jnp.concatenate([up, down], axis=-1)
        if positions.shape[1] == 1:
            return jnp.einsum("ch,cshn->csn", weights[:, 0], templates)
        return jnp.einsum("csh,cshn->csn", weights, templates)


def product(x: Float[Array, "*batch m"]) -> Float[Array, "*batch"]:
    """The product over the last axis, of a few factors that may be zero."""
    return functools.reduce(jnp.multiply, [x[..., i] for i in range(x.shape[-1])], jnp.ones(x.shape[:-1], x.dtype))


@jax.custom_jvp
def product_of_many(x: Float[Array, "*batch m"]) -> Float[Array, "*batch"]:
    """The product over the last axis, of nonzero factors: its derivatives are quotients, as cheap as itself."""
    return jnp.prod(x, axis=-1)


@product_of_many.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    value = product_of_many(x)
    return value, jnp.sum(value[..., None] / x * dx, axis=-1)
