"""The constraints of all parameters of a HistFactory model, in a few array operations, however many there are."""

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from ..._hints.calls import given
from ..._likelihoods import AbstractLikelihood
from ..._likelihoods.counts import Counts, floats, terms_from_mean
from ..._likelihoods.fault import Fault
from ..._likelihoods.spread import At, of_means, of_residuals
from ..._parameters.resolve import resolve
from ..._util.poisson_draw import draw_poisson
from ..._util.typing import PyTree
from .layout import Layout
from .main import as_given, check_keys, poisson_constant


class Auxiliary(AbstractLikelihood):
    """Normal and Poisson measurements of parameters. The data are a dictionary of measured values by parameter, with
    the shapes of the parameters.

    Its value is relative to the saturated model.

    - `widths`: the standard deviations of the normal ones. `scales`: the expected counts for a parameter of 1.
    - `layout`: all parameters of the model. `normal`, `poisson`: the names of those that are measured.
    - `below`: the standard deviations of values below those measured, where `widths` are those above.
    - `idle`: how many of the numbers carry no information: those of bins without an error, with fixed parameters.
    """

    widths: Float[Array, " n"]
    scales: Float[Array, " m"]
    layout: Layout = eqx.field(static=True)
    normal: tuple[str, ...] = eqx.field(static=True)
    poisson: tuple[str, ...] = eqx.field(static=True)
    idle: int = eqx.field(static=True)
    below: Float[Array, " n"] | None = None
    is_constraint = True

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """Half the squares of the pulls, and the Poisson terms relative to the saturated model."""
        return self.at(self.layout.vector(resolve(params)), data)

    def at(self, x: Float[Array, " p"], data: Any) -> Scalar:
        """The same as a function of the vector of parameters."""
        self._check(data)
        total = jnp.zeros((), x.dtype)
        if self.normal:
            difference = _flat(self.normal, data).astype(x.dtype) - x[self.layout.positions(self.normal)]
            total += 0.5 * jnp.sum((difference / self._widths(difference)) ** 2)
        if self.poisson:
            observed = Counts(_flat(self.poisson, data).astype(x.dtype))
            total += jnp.sum(terms_from_mean(self._rates(x), observed, None))
        return total

    def constant(self, data: Any) -> Scalar:
        """The constant to be added for minus the log of the densities and probabilities."""
        self._check(data)
        means = self.widths if self.below is None else 0.5 * (self.widths + self.below)
        normal = jnp.sum(jnp.log(means)) + self.widths.size * 0.5 * math.log(2 * math.pi)
        return normal + (poisson_constant(_flat(self.poisson, data)) if self.poisson else 0.0)

    def _widths(self, difference: Float[Array, " n"]) -> Float[Array, " n"]:
        """The standard deviations, by the sign of (measured - parameter)."""
        above = self.widths.astype(difference.dtype)
        return above if self.below is None else jnp.where(difference > 0, self.below.astype(difference.dtype), above)

    def _rates(self, x: Float[Array, " p"]) -> Float[Array, " m"]:
        return self.scales.astype(x.dtype) * x[self.layout.positions(self.poisson)]

    def _check(self, data: Any) -> None:
        """**Raises:** `TypeError`, `ValueError` unless there is a measurement of each constrained parameter."""
        if not isinstance(data, Mapping):
            raise TypeError(f'the "aux" data are measurements by parameter, {{"lumi": 1.0}}, got {given(data)}')
        shapes = {name: self.layout.shape(name) for name in (*self.normal, *self.poisson)}
        check_keys(data, shapes, 'the "aux" data', "constrained parameter")
        for name, shape in shapes.items():
            got = jnp.asarray(data[name]).shape
            if got != shape:
                raise ValueError(f"what was measured of {name!r} has shape {got}, the parameter {shape}")

    def _by_name(self, normal: Array, poisson: Array) -> dict[str, Array]:
        out = {}
        for entries, names in ((normal, self.normal), (poisson, self.poisson)):
            start = 0
            for name in names:
                shape = self.layout.shape(name)
                size = math.prod(shape)
                out[name] = entries[start : start + size].reshape(shape)
                start += size
        return out

    def prediction(self, params: PyTree, data: Any = None) -> dict[str, Array]:
        """The expectation of each measurement."""
        x = self.layout.vector(resolve(params))
        return self._by_name(x[self.layout.positions(self.normal)], self._rates(x))

    def expected_data(self, params: PyTree, data: Any = None) -> dict[str, Array]:
        """The Asimov data."""
        return self.prediction(params)

    def sample(self, params: PyTree, key: Array, data: Any = None) -> dict[str, Array]:
        """The global observables of one toy."""
        x = self.layout.vector(resolve(params))
        normal_key, poisson_key = jax.random.split(key)
        means = x[self.layout.positions(self.normal)]
        normal = means + self._drawn(normal_key, x.dtype)
        rates = self._rates(x)
        return self._by_name(normal, draw_poisson(poisson_key, rates) if self.poisson else rates)

    def _drawn(self, key: Array, dtype: Any) -> Float[Array, " n"]:
        """Differences of measured values from their parameters."""
        unit = jax.random.normal(key, self.widths.shape, dtype)
        if self.below is None:
            return self.widths.astype(dtype) * unit
        is_lower = jax.random.uniform(jax.random.fold_in(key, 1), unit.shape, dtype) * (self.widths + self.below)
        size = jnp.abs(unit)  # a value below what is measured of it: the difference is positive
        return jnp.where(is_lower < self.below, self.below * size, -self.widths * size).astype(dtype)

    def deviance(self, params: PyTree, data: Any) -> Scalar:
        """Twice the value."""
        return 2 * self(params, data)

    def pulls(self, params: PyTree, data: Any) -> dict[str, Array]:
        """(measured - expected) / standard deviation."""
        x = self.layout.vector(resolve(params))
        expected = self._by_name(x[self.layout.positions(self.normal)], self._rates(x))
        means = x[self.layout.positions(self.normal)] if self.normal else jnp.zeros(0, x.dtype)
        widths = self._widths(_flat(self.normal, data).astype(x.dtype) - means) if self.normal else self.widths
        errors = self._by_name(widths, jnp.sqrt(self._rates(x)))
        return {name: (floats(jnp.asarray(data[name])) - mu) / errors[name] for name, mu in expected.items()}

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich: the widths of the normal measurements, the variances of the counts."""
        self._check(data)
        out = jnp.zeros((x.size, x.size), x.dtype)
        vector = lambda p: self.layout.vector(resolve(p))  # noqa: E731
        if self.normal:
            positions = self.layout.positions(self.normal)
            out += of_residuals(lambda p, _: vector(p)[positions] / self.widths.astype(x.dtype), at, x, None)
        if self.poisson:
            out += of_means(lambda p: self._rates(vector(p)), at, x, Counts(_flat(self.poisson, data)))
        return out

    def ndata(self, data: Any) -> int:
        """The number of measured values that carry information."""
        return self.widths.size + self.scales.size - self.idle

    def faults(self, params: PyTree, data: Any) -> PyTree:
        """`Fault` codes of negative counts."""
        negative = lambda name, x: (floats(jnp.asarray(x)) < 0) & (name in self.poisson)  # noqa: E731
        code = lambda name, x: jnp.where(negative(name, x), int(Fault.NEGATIVE), int(Fault.NONE))  # noqa: E731
        return {name: as_given(x, code(name, x)) for name, x in data.items()}

    def prefit(self, params: PyTree, data: Any) -> list[tuple[str, Array, Array]]:
        """Name, value and error of each constrained number before the fit."""
        constrained = []
        if self.normal:
            values = _flat(self.normal, data)
            constrained += [(name, values[i], self.widths[i]) for i, name in enumerate(self._entries(self.normal))]
        if self.poisson:
            counts = _flat(self.poisson, data)
            value, error = counts / self.scales, jnp.sqrt(counts) / self.scales
            constrained += [(name, value[i], error[i]) for i, name in enumerate(self._entries(self.poisson))]
        return constrained

    def _entries(self, names: tuple[str, ...]) -> list[str]:
        shapes = ((name, self.layout.shape(name)) for name in names)
        return [f"{name}{_entry(index)}" for name, shape in shapes for index in np.ndindex(*shape)]


def _entry(index: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, index))}]" if index else ""


def _flat(names: tuple[str, ...], tree: Any) -> Float[Array, " n"]:
    return jnp.concatenate([jnp.ravel(floats(jnp.asarray(tree[name]))) for name in names])
