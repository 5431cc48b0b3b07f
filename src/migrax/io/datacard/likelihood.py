"""`Datacard`: the likelihood of a card of CMS Combine."""

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from ..._likelihoods import AbstractLikelihood
from ..._likelihoods.counts import Counts, count_faults, count_pulls, terms_from_mean
from ..._parameters.resolve import resolve
from ..._util.jit import jit
from ..._util.poisson_draw import draw_poisson
from ..._util.table import Table
from ..._util.typing import PyTree
from ..histfactory.auxiliary import Auxiliary
from ..histfactory.likelihood import check_data
from ..histfactory.main import as_given, poisson_constant
from .main import Templates
from .mc_stats import profiled

_PREFIX = "prop_bin"  # of the parameters of autoMCStats, as in Combine


class Datacard(AbstractLikelihood):
    """A model of CMS Combine (A. Hayrapetyan et al., Comput. Softw. Big Sci. 8 (2024) 19), as `mx.io.from_datacard`
    returns it.

    The parameters are a dictionary by name. The data are `{"main": {channel: counts}, "aux": {parameter: its measured
    value}}`. The value is minus the log of the product of all probabilities and densities. (Combine leaves out
    constants; differences are the same.)

    Where the errors of templates (autoMCStats) have one parameter for a bin, it is not a parameter of the fit: the
    likelihood takes its minimum, the root of a quadratic equation. Its measured values, of all bins of a channel, are
    the data `"prop_bin<channel>"`, and `bin_pulls(params, data)` returns its values.

    **Attributes:**

    - `poi`: the name of the first parameter of interest; `pois`: all of them.
    - `groups`: the names of the parameters of each group.
    - `channels`, `samples`: the names of the channels, and of the processes of each.
    """

    templates: Templates
    aux: Auxiliary
    pois: tuple[str, ...] = eqx.field(static=True)
    named_groups: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)
    as_parameters: bool = eqx.field(static=True, default=False)  # those of bins

    @property
    def poi(self) -> str:
        return self.pois[0]

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        return dict(self.named_groups)

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(channel for block in self.templates.blocks for channel in block.channels)

    @property
    def samples(self) -> dict[str, tuple[str, ...]]:
        return {
            channel: names
            for block in self.templates.blocks
            for channel, names in zip(block.channels, block.names, strict=True)
        }

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """Minus the log of the likelihood."""
        return self.varying(params, data) + self.constant(data)

    def varying(self, params: PyTree, data: Any) -> Scalar:
        """The part of the value that depends on the parameters, relative to the saturated model: a fit minimises it."""
        x, aux = self._vector(params), self._aux(data)
        total = self.aux.at(x, aux)
        for block, (mu, pull, measured), counts in self._bins(x, data):
            assert counts is not None
            is_used = block.is_used.array[:, None]
            counts = jnp.where(is_used, counts, 1.0).astype(x.dtype)
            terms = terms_from_mean(jnp.where(is_used, mu, 1.0), Counts(counts), None)
            total = total + jnp.sum(terms)
            if not self.as_parameters:
                total = total + 0.5 * jnp.sum(jnp.where(is_used, pull - measured, 0.0) ** 2)
        return total

    def constant(self, data: Any) -> Scalar:
        """The part of the value that depends on the data alone."""
        total = self.aux.constant(self._aux(data))
        for block, counts in zip(self.templates.blocks, self.templates.counts(data["main"]), strict=True):
            total = total + poisson_constant(jnp.where(block.is_used.array[:, None], counts, 0.0))
        n_bins = 0 if self.as_parameters else sum(map(np.sum, self.templates.with_bin_errors.values()))
        return total + 0.5 * float(n_bins) * jnp.log(2 * jnp.pi)

    def _vector(self, params: PyTree) -> Float[Array, " p"]:
        return self.templates.layout.vector(resolve(params))

    @property
    def _profiled(self) -> dict[str, np.ndarray]:
        """The channels whose bins have a parameter that is not one of the fit."""
        return {} if self.as_parameters else self.templates.with_bin_errors

    def _aux(self, data: Any) -> dict[str, Any]:
        """The measurements of parameters of the fit. **Raises:** `TypeError`, `ValueError` for other data."""
        check_data(data)
        aux = data["aux"]
        own = {f"{_PREFIX}{channel}": bins.size for channel, bins in self._profiled.items()}
        if isinstance(aux, Mapping):
            missing = [name for name in own if name not in aux]
            if missing:
                raise ValueError(f'the "aux" data lack {missing[0]!r}, the measured values of its bins')
            for name, size in own.items():
                if jnp.shape(aux[name]) != (size,):
                    raise ValueError(f"what was measured of {name!r} has shape {jnp.shape(aux[name])}, not ({size},)")
            return {name: value for name, value in aux.items() if name not in own}
        return aux

    def _measured(self, data: Any, dtype: Any) -> list[Float[Array, "c n"]]:
        """What was measured of the parameters of bins; 0 without data."""
        out = []
        for block in self.templates.blocks:
            zeros = jnp.zeros(block.bins, dtype)
            has = lambda channel: data is not None and channel in self._profiled  # noqa: E731
            out.append(
                jnp.stack(
                    [
                        jnp.asarray(data["aux"][f"{_PREFIX}{c}"]).astype(dtype) if has(c) else zeros
                        for c in block.channels
                    ]
                )
            )
        return out

    def _bins(self, x: Float[Array, " p"], data: Any) -> list[tuple[Any, tuple[Array, Array, Array], Array | None]]:
        """For each block its expectations, the parameters of its bins, what was measured of these, and the counts.
        Without data these parameters are 0."""
        expected = self.templates.expected(x)
        counts = [None] * len(expected) if data is None else self.templates.counts(data["main"])
        out = []
        for block, e, n, measured in zip(
            self.templates.blocks, expected, counts, self._measured(data, x.dtype), strict=True
        ):
            if self.as_parameters:
                mu, pull = e.total + e.error * self._bin_parameters(block, x), measured
            elif n is None or not np.any(block.errors.whole.array):
                mu, pull = e.total, measured
            else:
                mu, pull = profiled(e.total, e.error, measured, n.astype(x.dtype))
            out.append((block, (block.errors.cropped(mu), pull, measured), n))
        return out

    def _bin_parameters(self, block: Any, x: Float[Array, " p"]) -> Float[Array, "c n"]:
        with_errors, layout = self.templates.with_bin_errors, self.templates.layout
        zeros = jnp.zeros(block.bins, x.dtype)
        return jnp.stack(
            [x[layout.positions([f"{_PREFIX}{c}"])] if c in with_errors else zeros for c in block.channels]
        )

    def bin_pulls(self, params: PyTree, data: Any) -> dict[str, Float[Array, " bins"]]:
        """The values of the parameters of bins (autoMCStats) by channel, in standard deviations."""
        x = self._vector(params)
        bins = self._bins(x, data)
        if self.as_parameters:
            pulls = [self._bin_parameters(block, x) for block, _, _ in bins]
        else:
            pulls = [pull for _, (_, pull, _), _ in bins]
        by_channel = self.templates.by_channel(pulls)
        return {channel: by_channel[channel] for channel in self.templates.with_bin_errors}

    def expected(self, params: PyTree) -> dict[str, dict[str, Float[Array, " bins"]]]:
        """The expected counts of each process in each channel, with the parameters of bins of autoMCStats at 0."""
        return _by_sample(self, resolve(params))

    def masked(self, *channels: str) -> "Datacard":
        """The likelihood without the counts of some channels, by names or patterns (`"ch1"`, `"*_2017"`). The
        parameters and the data stay as they are.

        **Raises:** `ValueError` for a pattern that matches no channel, or if no channel is left.
        """
        masked = {c for pattern in channels for c in fnmatch.filter(self.channels, pattern)}
        for pattern in channels:
            if not fnmatch.filter(self.channels, pattern):
                raise ValueError(f"{pattern!r} matches no channel; there are {', '.join(map(repr, self.channels))}")
        blocks = [
            dataclasses.replace(b, is_used=Table(b.is_used.array & ~np.isin(b.channels, list(masked))))
            for b in self.templates.blocks
        ]
        if not any(np.any(block.is_used.array) for block in blocks):
            raise ValueError("all channels are masked")
        return dataclasses.replace(self, templates=dataclasses.replace(self.templates, blocks=tuple(blocks)))

    def prediction(self, params: PyTree, data: Any = None) -> dict[str, Any]:
        """The expectations of the counts and of the measurements of parameters; with data, at the minimum of the
        parameters of bins."""
        x = self._vector(params)
        bins = self._bins(x, data)
        main = self.templates.by_channel([mu for _, (mu, _, _), _ in bins])
        pulls = self.templates.by_channel([pull for _, (_, pull, _), _ in bins])
        of_bins = {f"{_PREFIX}{channel}": pulls[channel] for channel in self._profiled}
        return {"main": main, "aux": self.aux.prediction(params) | of_bins}

    def expected_data(self, params: PyTree, data: Any = None) -> dict[str, Any]:
        """The Asimov data."""
        return self.prediction(params, data)

    def sample(self, params: PyTree, key: Array, data: Any = None) -> dict[str, Any]:
        """Data of one toy: counts and global observables. With data, the parameters of bins are at their minimum."""
        keys = jax.random.split(key, 3)
        at = self.prediction(params, data)
        counts = _drawn(at["main"], lambda mean: draw_poisson(keys[0], mean))
        of_bins = {f"{_PREFIX}{channel}": at["aux"][f"{_PREFIX}{channel}"] for channel in self._profiled}
        measured = _drawn(of_bins, lambda mean: mean + jax.random.normal(keys[1], mean.shape, mean.dtype))
        return {"main": counts, "aux": self.aux.sample(resolve(params), keys[2]) | measured}

    def pulls(self, params: PyTree, data: Any) -> dict[str, Any]:
        """The pulls of the counts and of the measurements of parameters."""
        at = self.prediction(params, data)
        counts = self.templates.by_channel(self.templates.counts(data["main"]))
        main = {channel: count_pulls(mu, Counts(counts[channel]), None) for channel, mu in at["main"].items()}
        names = [f"{_PREFIX}{channel}" for channel in self._profiled]
        of_bins = {name: jnp.asarray(data["aux"][name]) - at["aux"][name] for name in names}
        return {"main": main, "aux": self.aux.pulls(params, self._aux(data)) | of_bins}

    def deviance(self, params: PyTree, data: Any) -> Scalar:
        """Twice the likelihood relative to the saturated model."""
        return 2 * self.varying(params, data)

    def ndata(self, data: Any) -> int:
        """The number of bins of channels that are not masked, and of measurements of parameters."""
        bins = sum(block.bins * int(np.sum(block.is_used.array)) for block in self.templates.blocks)
        profiled = sum(int(np.sum(whole)) for whole in self._profiled.values())
        return bins + profiled + self.aux.ndata(self._aux(data))

    def faults(self, params: PyTree, data: Any) -> PyTree:
        """`Fault` codes, for messages."""
        aux = self._aux(data)
        counts = self.templates.by_channel(self.templates.counts(data["main"]))
        main = {
            channel: as_given(data["main"][channel], count_faults(mu, mu == 0, Counts(counts[channel]), None).value)
            for channel, mu in self.prediction(params, data)["main"].items()
        }
        none = {f"{_PREFIX}{c}": jnp.zeros(jnp.shape(data["aux"][f"{_PREFIX}{c}"]), int) for c in self._profiled}
        return {"main": main, "aux": self.aux.faults(params, aux) | none}

    def prefit(self, params: PyTree, data: Any) -> list[tuple[str, Array, Array]]:
        """Names, values and errors of the constrained parameters before the fit."""
        return self.aux.prefit(params, self._aux(data))

    def __repr__(self) -> str:
        blocks = self.templates.blocks
        bins = sum(len(block.channels) * block.bins for block in blocks)
        n = sum(map(len, self.samples.values()))
        return f"Datacard({len(self.channels)} channels, {n} processes, {bins} bins, poi={self.poi!r})"


@jit
def _by_sample(nll: Datacard, params: PyTree) -> dict[str, dict[str, Float[Array, " bins"]]]:
    expected = nll.templates.expected(nll.templates.layout.vector(params))
    return {
        channel: {name: e.samples[i, j] for j, name in enumerate(block.names[i])}
        for block, e in zip(nll.templates.blocks, expected, strict=True)
        for i, channel in enumerate(block.channels)
    }


def _drawn(means: dict[str, Array], draw: Any) -> dict[str, Array]:
    """Draws all arrays of a dictionary at once."""
    if not means:
        return {}
    drawn = draw(jnp.concatenate(list(means.values())))
    ends = np.cumsum([mean.size for mean in means.values()])[:-1]
    return dict(zip(means, jnp.split(drawn, ends), strict=True))
