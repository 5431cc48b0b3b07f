"""The test statistics of Cowan, Cranmer, Gross and Vitells, Eur. Phys. J. C 71 (2011) 1554 (CCGV): pure functions."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._fit.fit import fit
from .._fit.objective import prepare_data
from .._fit.result import FitResult
from .._fit.status import Status
from .._likelihoods.base import as_likelihood
from .._likelihoods.effective import scaled
from .._parameters.entries import values_by_name
from .._parameters.select import Where
from .._profile.fitted import Fitted, positions
from .._util.result import AbstractResult, names_of
from .._util.tracing import is_concrete, is_concrete_tree
from .._util.typing import PyTree
from .ratio import Ratio, check_value, ratio


def poi_positions(free: FitResult, poi: Where | None, what: str) -> tuple[int, ...]:
    """Where the parameters of interest stand. **Raises:** `ValueError` for none, unknown or fixed ones."""
    if poi is None:
        raise ValueError(
            f"{what} needs a parameter of interest, and poi is None: name one of {', '.join(free.names[:9])}"
        )
    return positions(free, poi, what)


class StatisticValue(AbstractResult):
    """A test statistic of some data.

    **Attributes:**

    - `value`: the statistic; NaN unless all of its fits are valid.
    - `tested`, `best`: the parameter of interest tested and fitted, shape `(k,)` for `k` of them.
    - `free`: the `FitResult` with the parameter free.
    - `conditional`: the parameters of the fit with it held, a tree ready for `mx.asimov` and `mx.sample`.
    - `status`: an `mx.Status`: that of the free fit or, where this is valid, of the conditional ones.
    """

    value: Float[Array, ""]
    tested: Float[Array, " k"]
    best: Float[Array, " k"]
    free: FitResult
    conditional: PyTree
    status: Int[Array, ""]

    @property
    def valid(self) -> Bool[Array, ""]:
        return self.status == int(Status.VALID)

    def __repr__(self) -> str:
        if not is_concrete_tree(self) or np.ndim(self.status) != 0:
            return f"StatisticValue(shape={np.shape(self.status)})"
        tested, best = ([float(f"{x:.6g}") for x in np.asarray(a)] for a in (self.tested, self.best))
        status = Status(int(self.status)).name
        return f"StatisticValue({float(self.value):.6g}, tested={tested}, best={best}, status={status})"

    def _content(self) -> dict[str, Any]:
        return {
            **super()._content(),
            "conditional": values_by_name(self.conditional, np.ndim(self.status)),
            "status": names_of(Status, self.status),
            "valid": self.valid,
        }


class AbstractStatistic(eqx.Module):
    """A test statistic: `statistic(likelihood, params, data, poi, value)` is a `StatisticValue`."""

    several = False  # whether it is defined for several parameters of interest
    tilde = False  # whether an estimate below 0 counts as 0
    discovery = False  # whether the value tested is that without a signal

    @abc.abstractmethod
    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        """From the estimate, the value tested, and -2 log of the likelihood ratios at it and at 0."""

    def __call__(
        self, likelihood: Callable[[Any, Any], ArrayLike], params: PyTree, data: PyTree, poi: Where, value: ArrayLike
    ) -> StatisticValue:
        """Of `data`, with the parameters of interest `poi` at `value`. Under `jax.jit`, `jax.vmap` and differentiation.

        **Raises:** `ValueError` for a parameter that is unknown or fixed, or a value outside its bounds.
        """
        nll, _ = scaled(as_likelihood(likelihood), prepare_data(data))
        return self.from_fit(nll, fit(nll, params, data), data, poi, value)

    def from_fit(
        self, nll: Callable[[Any, Any], ArrayLike], free: FitResult, data: PyTree, poi: Where, value: ArrayLike
    ) -> StatisticValue:
        """The same, where there is the free fit already."""
        name = type(self).__name__
        index = poi_positions(free, poi, name)
        fitted = Fitted(as_likelihood(nll), free, prepare_data(data))
        return self.at(fitted, index, self.checked(free, index, value, name))

    def checked(self, free: FitResult, index: tuple[int, ...], value: ArrayLike, what: str) -> Float[Array, " k"]:
        """The values tested.

        **Raises:** `ValueError` for several parameters, if this is a statistic of one, and as `check_value`.
        """
        if len(index) > 1 and not self.several:
            name = type(self).__name__
            raise ValueError(f"{name} is a statistic of one parameter of interest, got {len(index)}: take mx.TMu()")
        return check_value(free, index, value, what)

    def at(self, free: Fitted, index: tuple[int, ...], values: Float[Array, " k"]) -> StatisticValue:
        """The same of the parameters at these positions, without checks."""
        found = ratio(free, index, self.lanes(values))
        return self.from_ratio(found, index, values)

    def lanes(self, values: Float[Array, " k"], *others: Float[Array, " k"]) -> Float[Array, "m k"]:
        """Where conditional fits are needed: at the value and, if this is a tilde statistic, at 0; then at `others`."""
        return _stack(values, *[np.zeros(values.shape, values.dtype)] * self.tilde, *others)

    def others(self, alternative: Float[Array, " k"]) -> Float[Array, "m k"]:
        """Those of `lanes` that do not depend on the value tested."""
        return _stack(*[np.zeros(alternative.shape, alternative.dtype)] * self.tilde, alternative)

    def from_ratio(self, found: Ratio, index: tuple[int, ...], values: Float[Array, " k"]) -> StatisticValue:
        """From conditional fits at `lanes`."""
        best = found.free.values[jnp.asarray(index)]
        q = self.of(best[0], values[0], found.rise[0], found.rise[1 if self.tilde else 0])
        # a conditional fit at 0 is needed for an estimate below it alone
        status = found.status[0]
        if self.tilde:
            status = jnp.where((status == int(Status.VALID)) & (best[0] < 0), found.status[1], status)
        q = jnp.where(status == int(Status.VALID), q, jnp.nan)
        return StatisticValue(q, values, best, found.free, found.params_at(0), status)


class TMu(AbstractStatistic):
    """t_mu (CCGV eq. 8): two-sided, for one or several parameters of interest."""

    several = True

    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        del best, value, at_zero
        return rise


class TMuTilde(AbstractStatistic):
    """t̃_mu (CCGV eq. 11): two-sided, where the parameter cannot be negative."""

    tilde = True

    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        del value
        return jnp.where(best >= 0, rise, _difference(rise, at_zero, best < 0))


class Q0(AbstractStatistic):
    """q_0 (CCGV eq. 12): for discovery; an estimate below the value tested is no evidence."""

    discovery = True

    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        del at_zero
        return jnp.where(best > value, rise, 0.0)


class QMu(AbstractStatistic):
    """q_mu (CCGV eq. 14): for upper limits; an estimate above the value tested is no evidence against it."""

    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        del at_zero
        return jnp.where(best <= value, rise, 0.0)


class QTilde(AbstractStatistic):
    """q̃_mu (CCGV eq. 16): as `QMu`, where the parameter cannot be negative."""

    tilde = True

    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        tilde = jnp.where(best >= 0, rise, _difference(rise, at_zero, best < 0))
        return jnp.where(best <= value, tilde, 0.0)


def _stack(*values: Any) -> Array:
    """By NumPy where that can be: nothing is compiled."""
    return jnp.asarray(np.stack(values)) if is_concrete(*values) else jnp.stack(values)


def _difference(rise: Array, at_zero: Array, which: Array) -> Array:
    """Above the best fit at 0; where it is not wanted it must not make derivatives NaN."""
    return jnp.maximum(rise - jnp.where(which, at_zero, 0.0), 0.0)
