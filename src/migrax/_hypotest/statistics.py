"""The test statistics of G. Cowan, K. Cranmer, E. Gross and O. Vitells, Eur. Phys. J. C 71 (2011) 1554 (CCGV)."""

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
    """Returns the positions of the parameters of interest. **Raises:** `ValueError` for none, unknown or fixed ones."""
    if poi is None:
        raise ValueError(
            f"{what} needs a parameter of interest, and poi is None: name one of {', '.join(free.names[:9])}"
        )
    return positions(free, poi, what)


class StatisticValue(AbstractResult):
    """The value of a test statistic for some data.

    **Attributes:**

    - `value`: the statistic; NaN unless all of its fits are valid.
    - `tested`, `best`: shape `(k,)`, the tested and the fitted values of the `k` parameters of interest.
    - `free`: the `FitResult` with the parameters of interest free.
    - `conditional`: the tree of parameters fitted with the parameters of interest held at the tested values, ready for
        `mx.asimov` and `mx.sample`.
    - `status`: an `mx.Status` number: that of the free fit or, if this is valid, that of the conditional fits.
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
    discovery = False  # whether the tested value is that without a signal

    @abc.abstractmethod
    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        """Returns the statistic from the estimate, the tested value, and -2 log of the likelihood ratios at the tested
        value and at 0."""

    def __call__(
        self, likelihood: Callable[[Any, Any], ArrayLike], params: PyTree, data: PyTree, poi: Where, value: ArrayLike
    ) -> StatisticValue:
        """Returns the statistic of `data` with the parameters of interest `poi` at `value`. Works under `jax.jit` and
        `jax.vmap`, and is differentiable.

        **Raises:** `ValueError` for a parameter that is unknown or fixed, or a value outside its bounds.
        """
        nll, _ = scaled(as_likelihood(likelihood), prepare_data(data))
        return self.from_fit(nll, fit(nll, params, data), data, poi, value)

    def from_fit(
        self, nll: Callable[[Any, Any], ArrayLike], free: FitResult, data: PyTree, poi: Where, value: ArrayLike
    ) -> StatisticValue:
        """Returns the statistic, given the free fit."""
        name = type(self).__name__
        index = poi_positions(free, poi, name)
        fitted = Fitted(as_likelihood(nll), free, prepare_data(data))
        return self.at(fitted, index, self.checked(free, index, value, name))

    def checked(self, free: FitResult, index: tuple[int, ...], value: ArrayLike, what: str) -> Float[Array, " k"]:
        """Returns the tested values.

        **Raises:** `ValueError` for several parameters, if this is a statistic of one, and as `check_value`.
        """
        if len(index) > 1 and not self.several:
            name = type(self).__name__
            raise ValueError(f"{name} is a statistic of one parameter of interest, got {len(index)}: take mx.TMu()")
        return check_value(free, index, value, what)

    def at(self, free: Fitted, index: tuple[int, ...], values: Float[Array, " k"]) -> StatisticValue:
        """Returns the statistic for the parameters at the positions `index`, without checks."""
        conditional = ratio(free, index, self.lanes(values))
        return self.from_ratio(conditional, index, values)

    def lanes(self, values: Float[Array, " k"], *others: Float[Array, " k"]) -> Float[Array, "m k"]:
        """Returns the values of the conditional fits: the tested one, 0 for a tilde statistic, and `others`."""
        return _stack(values, *[np.zeros(values.shape, values.dtype)] * self.tilde, *others)

    def others(self, alternative: Float[Array, " k"]) -> Float[Array, "m k"]:
        """Returns those of `lanes` that do not depend on the tested value."""
        return _stack(*[np.zeros(alternative.shape, alternative.dtype)] * self.tilde, alternative)

    def from_ratio(self, conditional: Ratio, index: tuple[int, ...], values: Float[Array, " k"]) -> StatisticValue:
        """Returns the statistic from the conditional fits at `lanes`."""
        best = conditional.free.values[jnp.asarray(index)]
        q = self.of(best[0], values[0], conditional.rise[0], conditional.rise[1 if self.tilde else 0])
        # the conditional fit at 0 is needed only if the estimate is negative
        status = conditional.status[0]
        if self.tilde:
            status = jnp.where((status == int(Status.VALID)) & (best[0] < 0), conditional.status[1], status)
        q = jnp.where(status == int(Status.VALID), q, jnp.nan)
        return StatisticValue(q, values, best, conditional.free, conditional.params_at(0), status)


class TMu(AbstractStatistic):
    """The two-sided statistic t_mu (CCGV eq. 8), for one or several parameters of interest."""

    several = True

    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        del best, value, at_zero
        return rise


class TMuTilde(AbstractStatistic):
    """The two-sided statistic t̃_mu (CCGV eq. 11), for a parameter that cannot be negative."""

    tilde = True

    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        del value
        return jnp.where(best >= 0, rise, _difference(rise, at_zero, best < 0))


class Q0(AbstractStatistic):
    """The statistic q_0 (CCGV eq. 12) for discovery; it is 0 if the fitted value is below the tested one."""

    discovery = True

    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        del at_zero
        return jnp.where(best > value, rise, 0.0)


class QMu(AbstractStatistic):
    """The statistic q_mu (CCGV eq. 14) for upper limits; it is 0 if the fitted value is above the tested one."""

    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        del at_zero
        return jnp.where(best <= value, rise, 0.0)


class QTilde(AbstractStatistic):
    """The statistic q̃_mu (CCGV eq. 16): as `QMu`, for a parameter that cannot be negative."""

    tilde = True

    def of(self, best: Array, value: Array, rise: Array, at_zero: Array) -> Array:
        tilde = jnp.where(best >= 0, rise, _difference(rise, at_zero, best < 0))
        return jnp.where(best <= value, tilde, 0.0)


def _stack(*values: Any) -> Array:
    """Stacks the values, by NumPy where possible, so that nothing is compiled."""
    return jnp.asarray(np.stack(values)) if is_concrete(*values) else jnp.stack(values)


def _difference(rise: Array, at_zero: Array, is_used: Array) -> Array:
    """Returns the rise above the fit at 0, without making derivatives NaN where it is not used."""
    return jnp.maximum(rise - jnp.where(is_used, at_zero, 0.0), 0.0)
