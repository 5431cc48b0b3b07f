"""The part of `Minuit` that minimises and finds errors."""

import math
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..._display import records
from ..._fit.covariance import Covariance
from ..._fit.fit import fit
from ..._fit.result import FitResult
from ..._profile.crossing import Side
from ..._profile.minos import Minos, minos
from ..._solvers import Simplex
from .keys import positions
from .memory import Memory, numbers_of, refuse_traced
from .pure import deviance, look, values_at
from .tables import FMin, MError, MErrors

_MOST_POINTS = 10**6


class AbstractFits:
    """What a `Minuit` does to its parameters. Each method returns the same object, which prints its tables."""

    __slots__ = ()
    _memory: Memory

    def migrad(self, ncall: int | None = None) -> Any:
        """Minimises from the values of now: `mx.fit` with its default solver, which for likelihoods with residuals
        (`mx.LeastSquares`) is Levenberg's and Marquardt's, else MIGRAD. The covariance comes with it.

        **Arguments:**

        - `ncall`: limit on the solver's steps, default 200 + 100 n + 5 n². Another number compiles anew.

        **Returns:** the same object. `valid` says whether there is a minimum.

        **Raises:** `ValueError`, `TypeError` as `mx.fit`.
        """
        return self._minimise(None, ncall, "migrad")

    def simplex(self, ncall: int | None = None) -> Any:
        """Minimises from the values of now by the downhill simplex method: `mx.fit(..., solver=mx.Simplex())`. Unlike
        iminuit's it goes all the way to the minimum, and finds the covariance.

        **Arguments:**

        - `ncall`: limit on the solver's steps, default 200 + 100 n + 5 n². Another number compiles anew.

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
        """Finds the covariance at the values of now by exact second derivatives, as `mx.hesse`, and whether there is a
        minimum there. After `migrad` and `simplex` there is nothing left to do: their covariance is that.

        **Returns:** the same object.

        **Raises:** `ValueError` if all parameters are fixed.
        """
        refuse_traced()
        if not self._memory.fmin_is_of_now:
            examine(self._memory, "Hesse")
        return self

    def minos(self, *parameters: int | str, cl: float | None = None) -> Any:
        """Finds asymmetric errors, by `mx.minos`. Where it meets a deeper minimum it goes there, with a warning.

        If parameters were changed since the last fit, the values of now must be at a minimum all the same; it then is
        fitted again from there.

        **Arguments:**

        - `parameters`: names or positions; none for all that are not fixed.
        - `cl`: the confidence level, a probability or, from 1 on, a number of standard deviations; default 1.

        **Returns:** the same object; `merrors` has the errors.

        **Raises:** `RuntimeError` unless the values are at a valid minimum, `ValueError` for unknown names.

        **Warns** of fixed parameters, which are left out.
        """
        memory = self._memory
        found = positions(list(parameters) if parameters else ~memory.now.fixed, memory.names, memory.template)
        assert isinstance(found, list)
        fixed = [memory.names[i] for i in found if memory.now.fixed[i]]
        if fixed:
            warnings.warn(f"minos leaves out {', '.join(fixed)}: fixed", stacklevel=2)
        names = [memory.names[i] for i in found if not memory.now.fixed[i]]
        result = minimum(memory, "minos")
        if names:
            errors = minos(memory.nll, result, memory.data, names, cl=1.0 if cl is None else cl)
            replace(memory, errors.result)
            memory.merrors.update(_merrors(memory, errors))
            memory.count(ngrad=np.sum(errors.stats["num_gradients"]))
        return self

    def scan(self, ncall: int | None = None) -> Any:
        """Goes to the best point of a grid over all parameters that are not fixed: within their limits, or one error
        to both sides where there is none. Where none is better than the point of now it stays there, while iminuit's
        goes uphill. A last resort, and no minimum: call `migrad` then.

        **Arguments:**

        - `ncall`: about how many points, at least two for each parameter; default 200 + 100 n + 5 n².

        **Returns:** the same object.

        **Raises:** `ValueError` for a parameter with neither limits nor an error, or where a grid would be too large;
        `RuntimeError` if all parameters are fixed, or the function is nowhere finite.
        """
        refuse_traced()
        _check_ncall(ncall, "scan")
        memory = self._memory
        free = np.flatnonzero(~memory.now.fixed)
        n = free.size
        if n == 0:
            raise RuntimeError("scan: all parameters are fixed")
        total = 200 + 100 * n + 5 * n**2 if ncall is None else ncall
        side = max(2, int(total ** (1 / n) + 1e-9))
        if side**n > _MOST_POINTS:
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
    """Goes where a fit has ended. **Raises:** `TypeError` for a traced one: the likelihood closes over a tracer."""
    refuse_traced(result)
    memory.detach()
    found = numbers_of(result.params).values
    if np.all(np.isfinite(found)):  # else there is nothing to go on from
        memory.now.values = found
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
    """Takes the result of a function that may have met a deeper minimum, and so have fitted again."""
    assert memory.result is not None
    if np.array_equal(result.values, memory.result.values):
        memory.result = result
    else:
        adopt(memory, result)


def minimum(memory: Memory, what: str) -> FitResult:
    """The fit at the values of now. **Raises:** `RuntimeError` unless there is a valid minimum."""
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
    """Looks at the values of now, without a step."""
    seen = look(memory.likelihood, memory.tree(), memory.data, memory.up)
    refuse_traced(seen)
    memory.detach()
    _keep(memory, np.asarray(seen.covariance.errors), seen.covariance)
    memory.count(nhessian=1)
    valid, finite, usable = bool(seen.valid), bool(seen.finite), bool(seen.covariance.valid)
    if valid:
        words = ("Valid minimum", "The minimum is valid.")
    elif not finite:
        words = ("Not finite", "The function or its derivatives are NaN or infinite at these values.")
    elif usable:
        words = ("Not at a minimum", "The function falls from these values: call migrad().")
    else:
        words = ("Not at a minimum", "The second derivatives are not positive definite: call migrad().")
    is_chi2 = memory.likelihood.is_chi2
    ndof, value = _ndof(memory), float(seen.value)
    reduced = _deviance_per_ndof(memory) if not is_chi2 else 2 * value / ndof if ndof > 0 else None
    record = records.Minimum(
        algorithm=algorithm,
        nll=value,
        chi2_ndof=reduced,
        edm=float(seen.edm),
        edm_goal=float(seen.goal),
        valid=valid,
        status=words[0],
        message=words[1],
        at_limit=any(memory.at_limit(i) for i in range(len(memory.names))),
        at_call_limit=False,
        edm_above=not float(seen.edm) <= float(seen.goal),
        num_values=0,
        num_gradients=0,
        num_hessians=1,
        covariance="exact" if valid else "elsewhere" if usable else "not positive definite",
        chi2=2 * value if is_chi2 else None,
    )
    memory.fmin, memory.merrors = FMin(record, memory.up), MErrors()
    memory.result_is_of_now, memory.fmin_is_of_now = False, True


def _ndof(memory: Memory) -> int:
    """0 where the likelihood does not tell the number of its data."""
    ndata = memory.likelihood.ndata
    return 0 if ndata is None else int(ndata(memory.data)) - int(np.sum(~memory.now.fixed))


def _deviance_per_ndof(memory: Memory) -> float | None:
    """At the values of now; `None` for a likelihood without a saturated model."""
    ndof = _ndof(memory)
    if ndof < 1 or memory.likelihood.deviance is None:
        return None
    try:
        found = float(deviance(memory.likelihood, memory.tree(), memory.data))
    except TypeError:  # of a sum of likelihoods, one of which has none
        return None
    return found / ndof if math.isfinite(found) else None


def _keep(memory: Memory, errors: np.ndarray, covariance: Covariance) -> None:
    """Errors and covariance of the free parameters, among all."""
    n, free = len(memory.names), np.flatnonzero(~memory.now.fixed)
    memory.errors = np.full(n, np.nan)
    memory.errors[free] = errors
    memory.covariance, memory.kind = None, covariance.kind
    if bool(covariance.valid):
        memory.covariance = np.zeros((n, n))
        memory.covariance[np.ix_(free, free)] = np.asarray(covariance.matrix)


def _merrors(memory: Memory, found: Minos) -> dict[str, MError]:
    columns = (found.lower, found.upper, found.lower_status, found.upper_status)
    errors = {}
    for k, name in enumerate(found.names):
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
