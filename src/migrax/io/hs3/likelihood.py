"""`HS3`: the likelihood of an HS3 document, and its parts."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Scalar

from ..._likelihoods import AbstractLikelihood, BinnedNLL, PoissonNLL
from ..._likelihoods.base import AbstractJoint
from ..._likelihoods.counts import as_counts
from ..._likelihoods.spread import At, of_log_means
from ..._parameters.resolve import resolve
from ..._util.typing import PyTree
from .densities import Density, Ranges, make, total
from .graph import Graph, Operand

Range = tuple[tuple[str, float, float], ...]


class HS3(AbstractJoint):
    """The likelihood of an HS3 document, as `mx.io.from_hs3` returns it: a sum of parts, as `mx.Joint`.

    **Attributes:**

    - `parts`: by name, the likelihoods of `mx`: one for each pair of a distribution and data, all HistFactory channels
        together as `"channels"` (an object with `.model`, an `mx.io.HistFactory`), and one for each constraint.
    - `parameters_of_interest`: their names. `poi`: the first, or `None`.
    - `analysis`: the name of the analysis, or of the likelihood.
    """

    parts: dict[str, Callable[[Any, Any], ArrayLike]]
    parameters_of_interest: tuple[str, ...] = eqx.field(static=True)
    analysis: str = eqx.field(static=True)

    @property
    def poi(self) -> str | None:
        return self.parameters_of_interest[0] if self.parameters_of_interest else None

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}: {type(part).__name__}" for name, part in self.parts.items())
        return f"HS3({self.analysis!r}: {parts}; poi={self.poi!r})"


class Model(eqx.Module):
    """A distribution of the document as a function of its parameters. All that it holds is static.

    `order`: the observables, in the order of the columns of the data.
    """

    density: Density = eqx.field(static=True)
    graph: Graph = eqx.field(static=True)
    ranges: Range = eqx.field(static=True)
    order: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, params: PyTree, instead: Mapping[str, Array] | None = None) -> Any:
        """The distribution of `mx.distributions`; `instead`: other values of some of its parameters."""
        return make(self.density, self.graph.values(resolve(params)), self._ranges, self.order, instead)

    @property
    def _ranges(self) -> Ranges:
        return {name: (low, high) for name, low, high in self.ranges}

    def total(self, params: PyTree) -> Scalar:
        """The expected number of events of an extended distribution."""
        return total(self.density, self.graph.values(resolve(params)), self._ranges)


class Counts(eqx.Module):
    """The expected counts in bins of an extended distribution, or the probabilities of any other."""

    model: Model
    edges: Array

    def __call__(self, params: PyTree) -> Array:
        bins = self.model(params).bin_integrals(self.edges)
        return self.model.total(params) * bins if self.model.density.extended else bins


class AtCentres(AbstractLikelihood):
    """Counts in bins whose probabilities are approximated by the density at their centres, as RooFit does by default.

    Its value is minus the sum of count * log(density at the centre), where the density is normalised to 1 on the whole
    range, not over the centres; for an extended distribution, the density is that of the expected number of events, and
    this number is added.
    """

    model: Model
    edges: Array

    @property
    def _centres(self) -> Array:
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def __call__(self, params: PyTree, data: ArrayLike) -> Scalar:
        """Minus the log of the likelihood."""
        counts = jnp.asarray(data)
        logs = self.model(params).log_prob(self._centres)
        value = -jnp.sum(jnp.where(counts > 0, counts * logs, 0.0))
        if not self.model.density.extended:
            return value
        expected = self.model.total(params)
        return value + expected - jnp.sum(counts) * jnp.log(expected)

    def score_covariance(self, at: At, x: Array, data: Any) -> Array:
        """J of the sandwich: the variances of the counts."""

        def logs(p: PyTree) -> Array:
            density = self.model(p).log_prob(self._centres)
            return density + jnp.log(self.model.total(p)) if self.model.density.extended else density

        return of_log_means(logs, at, x, as_counts(jnp.asarray(data), "AtCentres"))

    def _expected(self, params: PyTree) -> Array:
        """The expected counts: the density at the centres, scaled to the total."""
        masses = jnp.exp(self.model(params).log_prob(self._centres)) * jnp.diff(self.edges)
        total = self.model.total(params) if self.model.density.extended else 1.0
        return total * masses / jnp.sum(masses)

    @property
    def _counted(self) -> PoissonNLL | BinnedNLL:
        return (PoissonNLL if self.model.density.extended else BinnedNLL)(self._expected)

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Array:
        """The counts of one toy; for a distribution that is not extended, with the total of `data`."""
        return self._counted.sample(params, key, data)

    def expected_data(self, params: PyTree, data: Any = None) -> Any:
        """The Asimov data."""
        return self._counted.expected_data(params, data)

    def prediction(self, params: PyTree, data: Any = None) -> Any:
        """The expected counts."""
        return self.expected_data(params, data)

    def ndata(self, data: Any) -> Any:
        """The number of bins."""
        return self._counted.ndata(data)


class Measurement(AbstractLikelihood):
    """Minus the log of a distribution of one global observable, which is the data: a constraint.

    **Attributes:** `model`: the distribution. `centre`: the key of the parameter that is its centre. `parameter`: the
    name of the measured parameter, if it is a single one, and `width` its standard deviation.
    """

    model: Model
    centre: str = eqx.field(static=True)
    parameter: str | None = eqx.field(static=True)
    width: Operand | None = eqx.field(static=True)
    is_constraint = True

    def __call__(self, params: PyTree, data: ArrayLike) -> Scalar:
        """Minus the log of the density, or probability, of the measurement."""
        return -self.model(params).log_prob(jnp.asarray(data))

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Scalar:
        """The global observable of one toy."""
        return self.model(params).sample(key)

    def prediction(self, params: PyTree, data: Any = None) -> Scalar:
        """The centre: the mean, or of a log-normal distribution the median."""
        centre = self.model.graph.values(resolve(params))(dict(self.model.density.operands)[self.centre])  # type: ignore
        return jnp.exp(centre) if self.model.density.kind == "lognormal_dist" else centre

    def expected_data(self, params: PyTree, data: Any = None) -> Scalar:
        """The centre."""
        return self.prediction(params)

    def deviance(self, params: PyTree, data: ArrayLike) -> Scalar:
        """Twice the value relative to that with the centre at the data."""
        observed = jnp.asarray(data)
        at_data = jnp.log(observed) if self.model.density.kind == "lognormal_dist" else observed
        return 2 * (self(params, data) + self.model(params, {self.centre: at_data}).log_prob(observed))

    def ndata(self, data: Any) -> int:
        """One measurement."""
        return 1

    def prefit(self, params: PyTree, data: ArrayLike) -> list[tuple[str, Array, Array]]:
        """The parameter before the fit."""
        if self.parameter is None or self.width is None:
            return []
        return [(self.parameter, jnp.asarray(data), self.model.graph.values(resolve(params))(self.width))]


class Penalty(AbstractLikelihood):
    """Minus the log of a distribution whose variable is a parameter: a term of the likelihood without a measurement
    that toys could draw. Its data are an empty tuple."""

    model: Model
    of: str = eqx.field(static=True)  # the variable

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        values = self.model.graph.values(resolve(params))
        return -jnp.sum(self.model(params).log_prob(values(self.of)))

    def sample(self, params: PyTree, key: Array, data: Any = None) -> tuple[()]:
        """Empty, as nothing is measured."""
        return ()

    def expected_data(self, params: PyTree, data: Any = None) -> tuple[()]:
        """Empty, as nothing is measured."""
        return ()

    def ndata(self, data: Any) -> int:
        """Zero, as nothing is measured."""
        return 0
