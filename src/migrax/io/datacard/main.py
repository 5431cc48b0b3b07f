"""The counts in all channels of a datacard."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._hints.calls import given
from ..._likelihoods.counts import floats
from ..._util.table import Table
from ..histfactory.layout import Layout
from ..histfactory.main import check_keys
from .mc_stats import McErrors
from .normalisation import Normalisation
from .scalars import Scalars
from .shapes import Shapes


class Block(eqx.Module):
    """Channels of the same number of bins.

    - `processes`: the position of each process in the list of all, shape `(c, s)`; the last position, a yield of 0,
        where a channel has fewer.
    - `is_used`: false for channels that are masked.
    """

    shapes: Shapes
    errors: McErrors
    is_used: Table = eqx.field(static=True)
    processes: Table = eqx.field(static=True)
    channels: tuple[str, ...] = eqx.field(static=True)
    names: tuple[tuple[str, ...], ...] = eqx.field(static=True)

    @property
    def bins(self) -> int:
        return self.shapes.nominal.shape[-1]


class Expected(eqx.Module):
    """What a block expects: `samples` of each process, without the common parameters of bins; the `total` of each bin,
    and its `error` by autoMCStats."""

    samples: Float[Array, "c s n"]
    total: Float[Array, "c n"]
    error: Float[Array, "c n"]


class Templates(eqx.Module):
    """The expectations of all channels.

    - `layout`: the parameters; `numbers`: the positions of those that are numbers.
    """

    scalars: Scalars
    normalisation: Normalisation
    blocks: tuple[Block, ...]
    layout: Layout = eqx.field(static=True)
    numbers: Table = eqx.field(static=True)

    def expected(self, x: Float[Array, " p"]) -> list[Expected]:
        """For the vector of parameters; the channels in the order of the blocks."""
        numbers = x[self.numbers.array]
        yields = self.normalisation(numbers, self.scalars(numbers))
        yields = jnp.concatenate([yields, jnp.zeros(1, x.dtype)])
        return [_expected(block, yields[block.processes.array], numbers) for block in self.blocks]

    def counts(self, data: Any) -> list[Float[Array, "c n"]]:
        """**Raises:** `TypeError`, `ValueError` unless there are counts for all channels."""
        if not isinstance(data, Mapping):
            raise TypeError(f'the "main" data are counts by channel, {{"ch1": ...}}, got {given(data)}')
        sizes = {channel: block.bins for block in self.blocks for channel in block.channels}
        check_keys(data, sizes, 'the "main" data', "channel")
        for channel, n in sizes.items():
            if (shape := jnp.shape(data[channel])) != (n,):
                raise ValueError(f"the channel {channel!r} has {n} bins, its counts shape {shape}")
        return [jnp.stack([floats(jnp.asarray(data[channel])) for channel in block.channels]) for block in self.blocks]

    def by_channel(self, arrays: list[Float[Array, "c n"]]) -> dict[str, Float[Array, " n"]]:
        """An array for each block as a dictionary by channel."""
        return {
            channel: array[i]
            for block, array in zip(self.blocks, arrays, strict=True)
            for i, channel in enumerate(block.channels)
        }

    @property
    def with_bin_errors(self) -> dict[str, np.ndarray]:
        """The bins with one parameter, of channels that have such bins."""
        return {
            channel: block.errors.whole.array[i]
            for block in self.blocks
            for i, channel in enumerate(block.channels)
            if np.any(block.errors.whole.array[i])
        }


def _expected(block: Block, yields: Float[Array, "c s"], numbers: Float[Array, " k"]) -> Expected:
    shapes = block.errors.moved(block.shapes(numbers), numbers)
    samples = shapes * yields[..., None]
    return Expected(samples, jnp.sum(samples, axis=1), block.errors.spread(yields))
