"""`HistFactory`: binned channels, their templates, and the constraints of their parameters."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Scalar

from ..._hints.calls import given
from ..._likelihoods import AbstractLikelihood, Joint
from ..._likelihoods.spread import At
from ..._parameters.resolve import resolve
from ..._util.jit import jit
from ..._util.typing import PyTree
from .auxiliary import Auxiliary
from .main import Histograms


class SignalPoints(NamedTuple):
    """The signals of a stack (`mx.io.from_pyhf(..., patchset=)`).

    **Attributes:** `names`: the name of each signal; `values`: for each signal a tuple of numbers such as masses;
    `labels`: the names of these numbers. `np.array(likelihood.points.values)` has a row for each signal.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]


class HistFactory(AbstractLikelihood):
    """A HistFactory model (K. Cranmer et al., CERN-OPEN-2012-016), as `mx.io.from_pyhf` returns it.

    The parameters are a dictionary by name: numbers, and vectors with an entry for each bin. The data are
    `{"main": {channel: counts}, "aux": {parameter: its measured value}}`. The value of the likelihood is minus the log
    of the product of all probabilities and densities, including their constants, as in pyhf.

    **Attributes:**

    - `main`: the `Histograms`; `aux`: the `Auxiliary` measurements.
    - `poi`: the name of the parameter of interest, or `None`.
    - `measurement`: the name of the measurement.
    - `points`: for a stack of signals (`mx.io.from_pyhf(..., patchset=)`), an `mx.io.SignalPoints` of their names and
        values; all arrays then have a leading axis of signals, for `jax.vmap`. Else `None`.
    """

    main: Histograms
    aux: Auxiliary
    poi: str | None = eqx.field(static=True)
    measurement: str = eqx.field(static=True)
    points: SignalPoints | None = eqx.field(static=True, default=None)

    def unlabelled(self) -> "HistFactory":
        """The same, without the names of samples, points and the measurement, which affect no value."""
        blocks = tuple(block.unlabelled() for block in self.main.blocks)
        main = dataclasses.replace(self.main, blocks=blocks)
        return HistFactory(main, self.aux, None, "")

    @property
    def _joint(self) -> Joint:
        return Joint({"main": self.main, "aux": self.aux})

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """Minus the log of the likelihood."""
        return self.varying(params, data) + self.constant(data)

    def varying(self, params: PyTree, data: Any) -> Scalar:
        """The part of the value that depends on the parameters, relative to the saturated model: a fit minimises it."""
        self._check_one()
        check_data(data)
        main, aux = data["main"], data["aux"]
        x = self.main.layout.vector(resolve(params))
        return self.main.at(x, main) + self.aux.at(x, aux)

    def constant(self, data: Any) -> Scalar:
        """The part of the value that depends on the data alone."""
        self._check_one()
        check_data(data)
        return self.main.constant(data["main"]) + self.aux.constant(data["aux"])

    def _check_one(self) -> None:
        """**Raises:** `ValueError` for a stack of points."""
        if (shape := self.main.blocks[0].nominal.shape)[3:]:
            raise ValueError(
                f"the likelihood holds {shape[0]} points: call a function of one by jax.vmap(lambda nll, params, data: "
                "...)(likelihood, params, data), or take one, jax.tree.map(lambda x: x[0], (likelihood, params, data))"
            )

    @property
    def kinks(self) -> dict[str, float] | None:
        """The kinks: see `AbstractLikelihood`."""
        return self.main.kinks

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels; `likelihood.samples` has the names of their samples."""
        return tuple(channel for block in self.main.blocks for channel in block.channels)

    @property
    def samples(self) -> dict[str, tuple[str, ...]]:
        """The names of the samples of each channel."""
        return {
            channel: samples
            for block in self.main.blocks
            for channel, samples in zip(block.channels, block.samples, strict=True)
        }

    def expected(self, params: PyTree) -> dict[str, dict[str, Float[Array, " bins"]]]:
        """The expected counts of each sample in each channel; `prediction(params)["main"]` are their sums."""
        self._check_one()
        channels = zip(self.samples.items(), _by_sample(self.main, resolve(params)), strict=True)
        return {channel: dict(zip(samples, yields, strict=True)) for (channel, samples), yields in channels}

    def template(self, channel: str, sample: str) -> Float[Array, " bins"]:
        """The nominal yields of a sample.

        **Raises:** `ValueError` for an unknown channel or sample.
        """
        b, c, s = self._at(channel, sample)
        return self.main.blocks[b].nominal[..., c, s, :]

    def with_template(self, channel: str, sample: str, yields: ArrayLike) -> "HistFactory":
        """The model with other nominal yields of a sample. Its variations (histosys), if any, are kept as differences
        from the nominal yields. `yields` may be traced: limits are differentiable with respect to them.

        **Raises:** `ValueError` for an unknown channel or sample, or another number of bins.
        """
        self._check_one()
        b, c, s = self._at(channel, sample)
        old, new = self.main.blocks[b].nominal[c, s], jnp.asarray(yields)
        if new.shape != old.shape:
            raise ValueError(f"the channel {channel!r} has {old.size} bins, the yields have shape {new.shape}")

        def shifted(block: Any) -> tuple[Array, Array, Array]:
            lo, hi = (x.at[c, s].add(new - old) for x in (block.shape_lo, block.shape_hi))
            return block.nominal.at[c, s].set(new), lo, hi

        arrays = lambda m: tuple(getattr(m.main.blocks[b], n) for n in ("nominal", "shape_lo", "shape_hi"))  # noqa: E731
        return eqx.tree_at(arrays, self, shifted(self.main.blocks[b]))

    def _at(self, channel: str, sample: str) -> tuple[int, int, int]:
        for b, block in enumerate(self.main.blocks):
            if channel in block.channels:
                c = block.channels.index(channel)
                if sample in block.samples[c]:
                    return b, c, block.samples[c].index(sample)
                raise ValueError(
                    f"{channel!r} has the samples {', '.join(map(repr, block.samples[c]))}; not {sample!r}"
                )
        raise ValueError(f"the channels are {', '.join(map(repr, self.channels))}; not {channel!r}")

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Any:
        """Data of one toy: counts and global observables."""
        return self._joint.sample(params, key)

    def expected_data(self, params: PyTree, data: Any = None) -> Any:
        """The Asimov data."""
        return self._joint.expected_data(params)

    def prediction(self, params: PyTree, data: Any = None) -> Any:
        """The expectations of the counts and of the measurements of parameters."""
        return self._joint.prediction(params)

    def pulls(self, params: PyTree, data: Any) -> Any:
        """The pulls of the counts and of the measurements of parameters."""
        return self._joint.pulls(params, data)

    def deviance(self, params: PyTree, data: Any) -> Scalar:
        """Twice the likelihood relative to the saturated model."""
        return self._joint.deviance(params, data)

    def ndata(self, data: Any) -> int:
        """The number of bins and of measurements of parameters."""
        return sum(part.ndata(d) for _, part, d in self._joint.items(data))

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich: the variances of counts and measurements."""
        return self._joint.score_covariance(at, x, data)

    def faults(self, params: PyTree, data: Any) -> PyTree:
        """`Fault` codes, for messages."""
        return self._joint.faults(params, data)

    def prefit(self, params: PyTree, data: Any) -> list[tuple[str, Array, Array]]:
        """Names, values and errors of the constrained parameters before the fit."""
        return self._joint.prefit(params, data)

    def __repr__(self) -> str:
        blocks = self.main.blocks
        bins = sum(len(block.channels) * block.nominal.shape[-1] for block in blocks)
        samples = sum(len(names) for block in blocks for names in block.samples)
        return (
            f"HistFactory({self.measurement!r}: {len(self.channels)} channels, {samples} samples, {bins} bins, "
            f"poi={self.poi!r}{'' if self.points is None else f', {len(self.points.names)} points'})"
        )


@jit
def _by_sample(main: Histograms, params: PyTree) -> list[list[Float[Array, " bins"]]]:
    return main.by_sample(params)


def check_data(data: Any) -> None:
    """**Raises:** `TypeError` or `ValueError` unless they are as `mx.io.from_pyhf` returns them."""
    wanted = '{"main": {channel: counts}, "aux": {parameter: what was measured of it}}, as from_pyhf returns them'
    if not isinstance(data, Mapping):
        flat = isinstance(data, list | tuple) or hasattr(data, "shape")
        got = "one list of numbers, as pyhf's are" if flat else given(data)
        raise TypeError(f"the data of a HistFactory model are {wanted}; got {got}")
    missing, unknown = [k for k in ("main", "aux") if k not in data], [k for k in data if k not in ("main", "aux")]
    if missing or unknown:
        problem = f"these lack {missing[0]!r}" if missing else f"these have {unknown[0]!r} too"
        raise ValueError(f"the data of a HistFactory model are {wanted}; {problem}")
