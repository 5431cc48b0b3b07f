"""The part of `Minuit` that shows and sets parameters, and shows the results."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..._fit.objective import check_up, prepare_data
from ..._fit.result import FitResult
from ..._util.typing import PyTree
from .matrix import Matrix
from .memory import Memory, Numbers, refuse_traced
from .tables import FMin, MErrors, Param, Params
from .views import NO_STEPS, View, errors_view, fixed_view, limits_view, values_view


class AbstractParameters:
    """The parameters and results of a `Minuit`."""

    __slots__ = ()
    _memory: Memory

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of all numbers, including fixed ones: paths in the tree, as everywhere in migrax."""
        return self._memory.names

    @property
    def pos2var(self) -> tuple[str, ...]:
        """The same as `parameters`."""
        return self._memory.names

    @property
    def var2pos(self) -> dict[str, int]:
        """The positions of the names in `parameters`."""
        return {name: i for i, name in enumerate(self._memory.names)}

    @property
    def npar(self) -> int:
        """The number of parameters."""
        return len(self._memory.names)

    @property
    def nfit(self) -> int:
        """The number of parameters that are not fixed."""
        return self.npar - int(np.sum(self._memory.now.fixed))

    @property
    def ndof(self) -> float:
        """The number of data less that of the parameters that are not fixed; NaN if the likelihood does not know it."""
        ndata = self._memory.likelihood.ndata
        return math.nan if ndata is None else float(ndata(self._memory.data)) - self.nfit

    @property
    def values(self) -> View:
        """The current values, the start of the next fit. Setting one outside of its limits is refused."""
        return values_view(self._memory)

    @values.setter
    def values(self, values: Any) -> None:
        self.values[:] = values

    @property
    def errors(self) -> View:
        """The errors of the last `migrad`, `simplex` or `hesse`: NaN if there is none yet, 0 for a fixed parameter.

        They cannot be set: in iminuit they are also step sizes of numerical derivatives, but migrax's derivatives are
        exact.
        """
        return errors_view(self._memory)

    @errors.setter
    def errors(self, errors: Any) -> None:
        raise AttributeError(NO_STEPS)

    @property
    def limits(self) -> View:
        """The limits as pairs, infinite where there is none. `None` removes them, `(0, None)` is a lower one; a value
        outside of new limits is moved to the nearer one."""
        return limits_view(self._memory)

    @limits.setter
    def limits(self, limits: Any) -> None:
        self.limits[:] = limits

    @property
    def fixed(self) -> View:
        """Whether parameters are fixed; `~m.fixed` are those that float."""
        return fixed_view(self._memory)

    @fixed.setter
    def fixed(self, fixed: Any) -> None:
        self.fixed[:] = fixed

    def fixto(self, key: Any, value: float | Iterable[float]) -> Any:
        """Fix parameters at a value.

        **Arguments:**

        - `key`: a name, a position, a slice, a list of these or a mask.
        - `value`: one number for all of them, or one each.

        **Returns:** the same object.

        **Raises:** as setting `values`.
        """
        self.values[key] = value
        self.fixed[key] = True
        return self

    @property
    def params(self) -> Params:
        """The current parameters, as a table."""
        return self._params_of(self._memory.now, now=True)

    @property
    def init_params(self) -> Params:
        """The parameters before the first fit, as a table; `reset` restores them."""
        return self._params_of(self._memory.start, now=False)

    def _params_of(self, numbers: Numbers, *, now: bool) -> Params:
        rows = []
        for i, name in enumerate(self._memory.names):
            low, high = (float(x) if np.isfinite(x) else None for x in (numbers.lower[i], numbers.upper[i]))
            merror = self._memory.merrors.get(name) if now else None
            rows.append(
                Param(
                    number=i,
                    name=name,
                    value=float(numbers.values[i]),
                    error=self._memory.error(i) if now else math.nan,
                    merror=None if merror is None else (merror.lower, merror.upper),
                    is_fixed=bool(numbers.fixed[i]),
                    lower_limit=low,
                    upper_limit=high,
                    is_at_limit=now and self._memory.at_limit(i),
                )
            )
        return Params(rows)

    @property
    def params_tree(self) -> PyTree:
        """The tree that was given, with the current numbers, in which all that floats is an `mx.Parameter`: for
        `mx.fit` and all other functions of migrax."""
        return self._memory.tree()

    @property
    def nll(self) -> Any:
        """The function that is minimised."""
        return self._memory.nll

    @property
    def data(self) -> PyTree:
        """The data. New ones of the same shapes do not compile again; results are forgotten, the values stay."""
        return self._memory.data

    @data.setter
    def data(self, data: PyTree) -> None:
        refuse_traced(data)
        new = prepare_data(data)
        self._memory.data = new
        self._memory.forget()

    @property
    def errordef(self) -> float:
        """The rise of the function over one error: 0.5 for minus log L (and all likelihoods of migrax), 1 for a chi2.
        Setting it scales existing errors, and forgets those of MINOS, which do not scale: `minos()` finds them again.
        (iminuit keeps the old ones.)"""
        return self._memory.up

    @errordef.setter
    def errordef(self, errordef: float) -> None:
        refuse_traced(errordef)
        memory, new = self._memory, float(check_up(errordef))
        ratio = new / memory.up
        memory.up, memory.errors, memory.merrors = new, memory.errors * math.sqrt(ratio), MErrors()
        if memory.covariance is not None:
            memory.covariance = memory.covariance * ratio
        memory.touch()

    @property
    def result(self) -> FitResult | None:
        """The last result of `mx.fit`, or `None`: for all other functions of migrax."""
        return self._memory.result

    @property
    def fmin(self) -> FMin | None:
        """The outcome of the last minimisation, or `None`."""
        return self._memory.fmin

    @property
    def fval(self) -> float | None:
        """The function at its minimum, or `None`."""
        return None if self.fmin is None else self.fmin.fval

    @property
    def valid(self) -> bool:
        """Whether the last minimisation ended in a valid minimum; if not, `fmin.message` gives the reason."""
        return self.fmin is not None and self.fmin.is_valid

    @property
    def accurate(self) -> bool:
        """Whether there is a covariance, which is always one of exact second derivatives."""
        return self.fmin is not None and self.fmin.has_accurate_covar

    @property
    def covariance(self) -> Matrix | None:
        """The covariance of all parameters, indexed by names too, with zeros for fixed ones. `None` if there is none:
        nothing was minimised yet, or the second derivatives are not positive definite."""
        return None if self._memory.covariance is None else Matrix(self._memory.covariance, self._memory.names)

    @property
    def merrors(self) -> MErrors:
        """The errors of `minos` by name."""
        return self._memory.merrors

    @property
    def nfcn(self) -> int:
        """The number of evaluations of the function without derivatives since the start or `reset`."""
        return self._memory.counts["nfcn"]

    @property
    def ngrad(self) -> int:
        """The number of gradients, each with its value. (`mnprofile` and `mncontour` do not count theirs.)"""
        return self._memory.counts["ngrad"]

    @property
    def nhessian(self) -> int:
        """The number of exact Hessians, each with value and gradient."""
        return self._memory.counts["nhessian"]

    nhess = nhessian
