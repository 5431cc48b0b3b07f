"""`Minuit`: one object that remembers parameters, data and results, for users of iminuit."""

from collections.abc import Callable
from typing import Any

from jaxtyping import ArrayLike

from ..._display import html, minos, text
from ..._fit.notes import constants_line, wrapped
from ..._util.typing import PyTree
from .calls import as_iminuits
from .draw import AbstractDrawing
from .fits import AbstractFits
from .memory import COUNTS, Memory, begin
from .parameters import AbstractParameters
from .refused import AbstractRefusals

_STALE = "Parameters were changed since."


class Minuit(AbstractParameters, AbstractFits, AbstractDrawing, AbstractRefusals):
    """A fit as an object that keeps its state, with the names of iminuit's `Minuit`.

    Its methods call the functions of migrax with the current values, and store their results in the object.

    ```python
    m = mx.Minuit(nll, {"mu": mx.Parameter(0.0), "sigma": mx.Parameter(1.0, lower=0.0)}, data)
    m.migrad()  # and m.minos(), m.hesse(), m.simplex(), m.scan(): each returns m, which prints its tables
    m.values["mu"], m.errors["mu"], m.covariance["mu", "sigma"], m.valid
    m.fixed["mu"] = True
    m.limits["sigma"] = (0.1, 10.0)
    ```

    It cannot be used inside `jax.jit`, `jax.vmap` or `jax.grad`, unlike `mx.fit` and the other functions. Changes of
    values, limits and data need no new compilation; changes of which parameters are fixed or have limits do.

    **Arguments:**

    - `nll`: the function to minimise, `nll(params, data) -> scalar`, as for `mx.fit`.
    - `params`: the start values, any pytree, as for `mx.fit`: if it contains `mx.Parameter`s, these float; otherwise
        all floating-point numbers do. Names are paths, `signal.mu`, `gamma[3]`; "gamma" stands for all of its numbers.
    - `data`: any pytree, passed to `nll` unchanged.
    - `up`: the rise of `nll` over one error: 0.5 for minus log L (iminuit's default is 1.0), 1.0 for a chi2 of your
        own. migrax's likelihoods are minus log L, `mx.LeastSquares` too (chi2/2). It becomes `errordef`.

    **Raises:** `ValueError`, `TypeError` as `mx.fit`; `TypeError` for traced values, and for calls in the manner of
    iminuit (one argument for each start value, or a cost function of iminuit), with the call to use instead.
    """

    __slots__ = ("_memory",)

    LEAST_SQUARES = 1.0
    LIKELIHOOD = 0.5

    @as_iminuits
    def __init__(self, nll: Callable[[Any, Any], Any], params: PyTree, data: PyTree = None, *, up: ArrayLike = 0.5):
        self._memory: Memory = begin(nll, params, data, up)

    def reset(self) -> "Minuit":
        """Restore the values, limits and fixed parameters from before the first fit, and forget all results. Data and
        `errordef` stay.

        **Returns:** the same object.
        """
        memory = self._memory
        memory.now = memory.start
        memory.forget()
        memory.counts = dict.fromkeys(COUNTS, 0)
        return self

    def __copy__(self) -> "Minuit":
        new = object.__new__(Minuit)
        new._memory = self._memory.copy()
        return new

    def __deepcopy__(self, memo: Any) -> "Minuit":
        # JAX arrays are immutable, and another copy of the likelihood would compile again
        return self.__copy__()

    def __repr__(self) -> str:
        memory, parts = self._memory, []
        if memory.fmin is not None:
            parts.append(repr(memory.fmin))
        if memory.fmin is not None and not memory.fmin_is_of_now:
            parts.append(_STALE)
        parts.append(text.parameters_text([p.row() for p in self.params], memory.kind.capitalize()))
        parts += wrapped(constants_line(memory.template))
        if memory.merrors:
            parts.append(repr(memory.merrors))
        if memory.covariance is not None:
            parts.append(text.correlation_text(*self._free_block()))
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        memory, parts = self._memory, []
        if memory.fmin is not None:
            parts.append(html.minimum_html(memory.fmin.record))
        if memory.fmin is not None and not memory.fmin_is_of_now:
            parts.append(html.paragraph(_STALE))
        parts.append(html.parameters_html([p.row() for p in self.params], memory.kind.capitalize()))
        parts += [html.paragraph(line) for line in [constants_line(memory.template)] if line]
        if memory.merrors:
            parts.append(minos.minos_html([errors.sides() for errors in memory.merrors.values()]))
        if memory.covariance is not None:
            parts.append(html.matrix_html(*self._free_block()))
        return "\n".join(parts)

    def _free_block(self) -> Any:
        """The names and the covariance of the parameters that were free in the last fit."""
        assert self._memory.covariance is not None
        matrix = self._memory.covariance
        free = [i for i in range(self.npar) if matrix[i].any() or not self._memory.now.fixed[i]]
        return [self.parameters[i] for i in free], matrix[free][:, free]
