"""The part of `Minuit` that minimises and finds errors."""

import math
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..._display import records
from ..._fit.covariance import Covariance
from ..._fit.fit import fit
from ..._fit.minimiser import step_limit
from ..._fit.result import FitResult
from ..._profile.crossing import Side
from ..._profile.minos import Minos, minos
from ..._solvers import Simplex
from ..._util.unavailable import Unavailable
from .keys import positions
from .memory import Memory, numbers_of, refuse_traced
from .pure import deviance, look, values_at
from .tables import FMin, MError, MErrors

_MAX_POINTS = 10**6


class AbstractFits:
    """The fits of a `Minuit`. Each method returns the same object, which prints its tables."""

    __slots__ = ()
    _memory: Memory

    def migrad(self, ncall: int | None = None) -> Any:
        """Minimise from the current values: `mx.fit` with its default solver, which is Levenberg-Marquardt for
        likelihoods with residuals (`mx.LeastSquares`), else MIGRAD. It also computes the covariance.

        **Arguments:**

        - `ncall`: limit on the solver's steps, default 200 + 100 n + 5 n². Another number compiles again.

        **Returns:** the same object. `valid` is whether there is a minimum.

        **Raises:** `ValueError`, `TypeError` as `mx.fit`.
        """
        return self._minimise(None, ncall, "migrad")

    def simplex(self, ncall: int | None = None) -> Any:
        """Minimise from the current values by the downhill simplex method: `mx.fit(..., solver=mx.Simplex())`. Unlike
        iminuit's it converges to the minimum, and computes the covariance.

        **Arguments:**

        - `ncall`: limit on the solver's steps, default 200 + 100 n + 5 n². Another number compiles again.

        **Returns:** the same object.

        **Raises:** as `migrad`.
        """
        return self._minimise(Simplex(), ncall, "simplex")

    def _minimise(self, solver: Any, ncall: int | None, what: str) -> Any:
        memory = self._memory
        refuse_traced()
        _check_ncall(ncall, what)
        adopt(memory, fit(memory.nll, memory.tree(), memory.data, solver=solver, up=memory.up, max_steps=ncall))
        return self

    def hesse(self) -> Any:
        """Compute the covariance at the current values from exact second derivatives, as `mx.hesse`, and whether there
        is a minimum. After `migrad` and `simplex` it does nothing, as they compute the same covariance.

        **Returns:** the same object.

        **Raises:** `ValueError` if all parameters are fixed.
        """
        refuse_traced()
        if not self._memory.fmin_is_of_now:
            examine(self._memory, "Hesse")
        return self

    def minos(self, *parameters: int | str, cl: float | None = None) -> Any:
        """Find asymmetric errors, by `mx.minos`. If it finds a deeper minimum it moves there, with a warning.

        If parameters were changed since the last fit, the current values must still be at a minimum, which is then
        fitted again from there.

        **Arguments:**

        - `parameters`: names or positions; by default all that are not fixed.
        - `cl`: the confidence level, a probability or, from 1 on, a number of standard deviations; default 1.

        **Returns:** the same object; `merrors` has the errors.

        **Raises:** `RuntimeError` unless the values are at a valid minimum, `ValueError` for unknown names.

        **Warns** of fixed parameters, which are left out.
        """
        memory = self._memory
        selected = positions(list(parameters) if parameters else ~memory.now.fixed, memory.names, memory.template)
        assert isinstance(selected, list)
        fixed = [memory.names[i] for i in selected if memory.now.fixed[i]]
        if fixed:
            warnings.warn(f"minos leaves out {', '.join(fixed)}: fixed", stacklevel=2)
        names = [memory.names[i] for i in selected if not memory.now.fixed[i]]
        result = minimum(memory, "minos")
        if names:
            errors = minos(memory.nll, result, memory.data, names, cl=1.0 if cl is None else cl)
            replace(memory, errors.result)
            memory.merrors.update(_merrors(memory, errors))
            memory.count(ngrad=np.sum(np.asarray(errors.stats["num_gradients"])))
        return self

    def scan(self, ncall: int | None = None) -> Any:
        """Move to the best point of a grid over all parameters that are not fixed: within their limits, or one error to
        both sides where there is no limit. If no point is better than the current one, nothing changes (iminuit would
        move uphill). This is a last resort, and does not find a minimum: call `migrad` afterwards.

        **Arguments:**

        - `ncall`: the approximate number of points, at least two per parameter; default 200 + 100 n + 5 n².

        **Returns:** the same object.

        **Raises:** `ValueError` for a parameter with neither limits nor an error, or if the grid would be too large;
        `RuntimeError` if all parameters are fixed, or the function is nowhere finite.
        """
        refuse_traced()
        _check_ncall(ncall, "scan")
        memory = self._memory
        free = np.flatnonzero(~memory.now.fixed)
        n = free.size
        if n == 0:
            raise RuntimeError("scan: all parameters are fixed")
        total = step_limit(n) if ncall is None else ncall
        side = max(2, int(total ** (1 / n) + 1e-9))
        if side**n > _MAX_POINTS:
            raise ValueError(f"scan of {n} parameters takes at least {side**n} points: fix some of them")
        axes = [np.linspace(*_range(memory, int(i)), side) for i in free]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, n)
        points = np.concatenate([memory.now.values[None, free], points])  # the first of equal ones is taken
        tree, index = memory.tree(released=True), jnp.asarray(free)
        values = np.asarray(values_at(memory.likelihood, tree, memory.data, index, jnp.asarray(points)))
        if not np.any(np.isfinite(values)):
            raise RuntimeError("scan: the function is not finite at any point of the grid, nor at the values of now")
        memory.count(nfcn=values.size)
        memory.detach()
        memory.now.values[free] = points[np.argmin(np.where(np.isfinite(values), values, np.inf))]
        examine(memory, "Scan")
        return self


def _check_ncall(ncall: int | None, what: str) -> None:
    if ncall is not None and (isinstance(ncall, bool) or not isinstance(ncall, int | np.integer) or ncall < 1):
        raise ValueError(f"{what} takes a whole number of at least 1 for ncall, or None; got {ncall!r}")


def _range(memory: Memory, i: int) -> tuple[float, float]:
    value, error = memory.now.values[i], memory.errors[i]
    low, high = memory.now.lower[i], memory.now.upper[i]
    if not (np.isfinite(low) and np.isfinite(high)) and not error > 0:
        name = memory.names[i]
        raise ValueError(f"scan needs to know where: give both limits of {name!r}, m.limits[{name!r}] = (low, high)")
    return (low if np.isfinite(low) else value - error), (high if np.isfinite(high) else value + error)


def adopt(memory: Memory, result: FitResult) -> None:
    """Move to the end of a fit. **Raises:** `TypeError` for a traced one: the likelihood closes over a tracer."""
    refuse_traced(result)
    memory.detach()
    values = numbers_of(result.params).values
    if np.all(np.isfinite(values)):  # else the next fit would have no start
        memory.now.values = values
    assert result.covariance is not None
    _keep(memory, np.asarray(result.errors), result.covariance)
    record = result.minimum_record()
    if record.chi2 is None and math.isfinite(record.nll):
        record = record._replace(chi2_ndof=_deviance_per_ndof(memory))
    if record.at_call_limit:  # max_steps is unknown here
        words = "The limit on the steps was reached before the minimum. Call it with a larger ncall."
        record = record._replace(message=words)
    memory.result, memory.fmin = result, FMin(record, memory.up)
    memory.merrors = MErrors()
    memory.result_is_of_now = memory.fmin_is_of_now = True
    stats = result.stats
    memory.count(nfcn=stats["num_values"], ngrad=stats["num_gradients"], nhessian=stats["num_hessians"])


def replace(memory: Memory, result: FitResult) -> None:
    """Take the result of a function that may have met a deeper minimum, and so have fitted again."""
    assert memory.result is not None
    if np.array_equal(result.values, memory.result.values):
        memory.result = result
    else:
        adopt(memory, result)


def minimum(memory: Memory, what: str) -> FitResult:
    """The fit at the current values. **Raises:** `RuntimeError` unless there is a valid minimum."""
    refuse_traced()
    if not memory.result_is_of_now:
        if not memory.fmin_is_of_now:
            examine(memory, "Hesse")
        if memory.fmin is not None and memory.fmin.is_valid:
            adopt(memory, fit(memory.nll, memory.tree(), memory.data, up=memory.up))
    if memory.fmin is None or not memory.fmin.is_valid or memory.result is None:
        reason = "" if memory.fmin is None else f": {memory.fmin.message}"
        raise RuntimeError(f"{what} needs a valid minimum, and the values are not at one{reason}")
    return memory.result


def examine(memory: Memory, algorithm: str) -> None:
    """Examine the current values, without a step."""
    looked = look(memory.likelihood, memory.tree(), memory.data, memory.up)
    refuse_traced(looked)
    memory.detach()
    _keep(memory, np.asarray(looked.covariance.errors), looked.covariance)
    memory.count(nhessian=1)
    valid, finite, has_covariance = bool(looked.valid), bool(looked.finite), bool(looked.covariance.valid)
    if valid:
        words = ("Valid minimum", "The minimum is valid.")
    elif not finite:
        words = ("Not finite", "The function or its derivatives are NaN or infinite at these values.")
    elif has_covariance:
        words = ("Not at a minimum", "The function falls from these values: call migrad().")
    else:
        words = ("Not at a minimum", "The second derivatives are not positive definite: call migrad().")
    is_chi2 = memory.likelihood.is_chi2
    ndof, value = _ndof(memory), float(looked.value)
    reduced = _deviance_per_ndof(memory) if not is_chi2 else 2 * value / ndof if ndof > 0 else None
    record = records.Minimum(
        algorithm=algorithm,
        nll=value,
        chi2_ndof=reduced,
        edm=float(looked.edm),
        edm_goal=float(looked.goal),
        valid=valid,
        status=words[0],
        message=words[1],
        at_limit=any(memory.at_limit(i) for i in range(len(memory.names))),
        at_call_limit=False,
        edm_above=not float(looked.edm) <= float(looked.goal),
        num_values=0,
        num_gradients=0,
        num_hessians=1,
        covariance="exact" if valid else "elsewhere" if has_covariance else "not positive definite",
        chi2=2 * value if is_chi2 else None,
    )
    memory.fmin, memory.merrors = FMin(record, memory.up), MErrors()
    memory.result_is_of_now, memory.fmin_is_of_now = False, True


def _ndof(memory: Memory) -> int:
    """The number of degrees of freedom; 0 if the likelihood does not know the number of its data."""
    ndata = memory.likelihood.ndata
    return 0 if ndata is None else int(ndata(memory.data)) - int(np.sum(~memory.now.fixed))


def _deviance_per_ndof(memory: Memory) -> float | None:
    """The deviance per degree of freedom at the current values; `None` without a saturated model."""
    ndof = _ndof(memory)
    if ndof < 1 or memory.likelihood.deviance is None:
        return None
    try:
        value = float(deviance(memory.likelihood, memory.tree(), memory.data))
    except Unavailable:  # a sum of likelihoods, one of which has none
        return None
    return value / ndof if math.isfinite(value) else None


def _keep(memory: Memory, errors: np.ndarray, covariance: Covariance) -> None:
    """Store the errors and the covariance of the free parameters among those of all."""
    n, free = len(memory.names), np.flatnonzero(~memory.now.fixed)
    memory.errors = np.full(n, np.nan)
    memory.errors[free] = errors
    memory.covariance, memory.kind = None, covariance.kind
    if bool(covariance.valid):
        memory.covariance = np.zeros((n, n))
        memory.covariance[np.ix_(free, free)] = np.asarray(covariance.matrix)


def _merrors(memory: Memory, sides: Minos) -> dict[str, MError]:
    columns = (sides.lower, sides.upper, sides.lower_status, sides.upper_status)
    errors = {}
    for k, name in enumerate(sides.names):
        lower, upper, below, above = (np.asarray(column)[k].item() for column in columns)
        errors[name] = MError(
            number=memory.names.index(name),
            name=name,
            lower=lower,
            upper=upper,
            lower_valid=below <= int(Side.AT_LIMIT),
            upper_valid=above <= int(Side.AT_LIMIT),
            at_lower_limit=below == int(Side.AT_LIMIT),
            at_upper_limit=above == int(Side.AT_LIMIT),
            lower_new_min=below == int(Side.NEW_MINIMUM),
            upper_new_min=above == int(Side.NEW_MINIMUM),
        )
    return errors
