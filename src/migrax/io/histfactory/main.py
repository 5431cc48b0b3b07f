"""The counts in all channels of a HistFactory model."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, xlogy
from jaxtyping import Array, Float, Scalar

from ..._hints.calls import given
from ..._likelihoods import AbstractLikelihood
from ..._likelihoods.counts import Counts, count_faults, count_pulls, floats, terms_from_mean
from ..._likelihoods.spread import At, of_means
from ..._parameters.resolve import resolve
from ..._util.poisson_draw import draw_poisson
from ..._util.table import Table
from ..._util.typing import PyTree
from .block import Block
from .layout import Layout
from .response import EXPONENTIAL, LINEAR


class Histograms(AbstractLikelihood):
    """The Poisson probabilities of the counts in all channels. The data are a dictionary of counts by channel.

    Its value is relative to the saturated model, as that of `mx.PoissonNLL`.

    - `blocks`: the templates.
    - `layout`: the parameters. `numbers`: the positions of the scalar ones, in the order of the blocks; `vectors`: for
        each block, the positions of the entries that act on its bins one by one, shape `(v, n)`.
    """

    blocks: tuple[Block, ...]
    layout: Layout = eqx.field(static=True)
    numbers: Table = eqx.field(static=True)
    vectors: tuple[Table, ...] = eqx.field(static=True)

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """Minus the log of the likelihood relative to the saturated model."""
        return self.at(self.layout.vector(resolve(params)), data)

    def at(self, x: Float[Array, " p"], data: Any) -> Scalar:
        """The same as a function of the vector of parameters."""
        mu = self.expected_at(x)
        return jnp.sum(terms_from_mean(mu, Counts(self._counts(data).astype(mu.dtype)), None))

    def constant(self, data: Any) -> Scalar:
        """The constant to be added for minus the log of the Poisson probabilities."""
        return poisson_constant(self._counts(data))

    def by_sample(self, params: PyTree) -> list[list[Float[Array, " bins"]]]:
        """The expected counts of each sample of each channel, in the order of the blocks."""
        return [
            [yields[c, s] for s in range(len(samples))]
            for block, yields in self._yields(self.layout.vector(resolve(params)))
            for c, samples in enumerate(block.samples)
        ]

    @property
    def kinks(self) -> dict[str, float] | None:
        """The kinks: at 0, for the parameters of a normsys or histosys that is piecewise linear (code 0) or exponential
        (code 1)."""
        names = [name for name, shape in self.layout.entries if shape == ()]
        positions = [np.zeros(0, int)]
        for block in self.blocks:
            norm, shape = block.codes
            positions += [np.ravel(block.norms.array)] * (norm == 1) + [np.ravel(block.shapes.array)] * (shape == 0)
            if block.shifts is not None and shape == 0:
                positions.append(block.shifts.at.array)
            stages = (*block.norm_stages, *block.shape_stages)
            positions += [np.ravel(stage.at.array) for stage in stages if stage.response.code in (LINEAR, EXPONENTIAL)]
        # the last position is not a parameter
        kinked = [int(i) for i in np.unique(np.concatenate(positions)) if i < len(names)]
        return {names[i]: 0.0 for i in kinked} or None

    def _yields(self, x: Float[Array, " p"]) -> list[tuple[Block, Array]]:
        numbers = jnp.concatenate([x[self.numbers.array], jnp.ones(1, x.dtype)])
        out = []
        for block, vectors in zip(self.blocks, self.vectors, strict=True):
            ones = jnp.ones((1, block.nominal.shape[-1]), x.dtype)
            out.append((block, block.expected(numbers, jnp.concatenate([x[vectors.array], ones]))))
        return out

    def expected_at(self, x: Float[Array, " p"]) -> Float[Array, " n"]:
        """The expected counts in all bins, block after block."""
        return jnp.concatenate([jnp.ravel(jnp.sum(y, axis=1)) for _, y in self._yields(x)])

    def _expected(self, params: PyTree) -> Float[Array, " n"]:
        return self.expected_at(self.layout.vector(resolve(params)))

    def _counts(self, data: Any) -> Float[Array, " n"]:
        """**Raises:** `TypeError`, `ValueError` unless there are counts for all channels."""
        if not isinstance(data, Mapping):
            raise TypeError(f'the "main" data are counts by channel, {{"SR": ...}}, got {given(data)}')
        sizes = {channel: block.nominal.shape[-1] for block in self.blocks for channel in block.channels}
        check_keys(data, sizes, 'the "main" data', "channel")
        all_counts = []
        for channel, n in sizes.items():
            counts = floats(jnp.asarray(data[channel]))
            if counts.shape != (n,):
                raise ValueError(f"the channel {channel!r} has {n} bins, its counts shape {counts.shape}")
            all_counts.append(counts)
        return jnp.concatenate(all_counts)

    def _split(self, bins: Array) -> dict[str, Array]:
        """Split a vector of all bins by channel."""
        out, start = {}, 0
        for block in self.blocks:
            n = block.nominal.shape[-1]
            for channel in block.channels:
                out[channel] = bins[start : start + n]
                start += n
        return out

    def prediction(self, params: PyTree, data: Any = None) -> dict[str, Float[Array, " bins"]]:
        """The expected counts by channel."""
        return self._split(self._expected(params))

    def expected_data(self, params: PyTree, data: Any = None) -> dict[str, Float[Array, " bins"]]:
        """The Asimov data: the expected counts."""
        return self.prediction(params)

    def sample(self, params: PyTree, key: Array, data: Any = None) -> dict[str, Float[Array, " bins"]]:
        """The counts of one toy."""
        return self._split(draw_poisson(key, self._expected(params)))

    def deviance(self, params: PyTree, data: Any) -> Scalar:
        """Twice the value, which is relative to the saturated model already."""
        return 2 * self(params, data)

    def pulls(self, params: PyTree, data: Any) -> dict[str, Float[Array, " bins"]]:
        """(count - expectation) / sqrt(expectation) by channel."""
        return self._split(count_pulls(self._expected(params), Counts(self._counts(data)), None))

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich: the variances of the counts."""
        return of_means(self._expected, at, x, Counts(self._counts(data)))

    def ndata(self, data: Any) -> int:
        """The number of bins."""
        return self._counts(data).size

    def faults(self, params: PyTree, data: Any) -> PyTree:
        """`Fault` codes of invalid counts and expectations."""
        mu = self._expected(params)
        codes = count_faults(mu, mu == 0, Counts(self._counts(data)), None).value
        return {channel: as_given(data[channel], f) for channel, f in self._split(codes).items()}


def poisson_constant(counts: Float[Array, "*n"]) -> Scalar:
    """Minus the log of the Poisson probabilities of counts in the saturated model; also between the integers."""
    return jnp.sum(counts - xlogy(counts, counts) + gammaln(counts + 1))


def check_keys(data: Mapping[str, Any], wanted: Iterable[str], what: str, kind: str) -> None:
    """**Raises:** `ValueError` unless the dictionary has these keys and no others."""
    missing, unknown = [k for k in wanted if k not in data], [k for k in data if k not in set(wanted)]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), list(wanted), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{what} have {unknown[0]!r}, which is no {kind} of this model{hint}")
    if missing:
        raise ValueError(f"{what} lack the {kind} {missing[0]!r}")


def as_given(data: Any, array: Array) -> Any:
    """An array in the structure of the data: a list of numbers if the data are one."""
    return type(data)(array[i] for i in range(len(data))) if isinstance(data, list | tuple) else array
