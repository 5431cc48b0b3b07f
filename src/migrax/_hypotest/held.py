"""A likelihood with some of its parameters held, which ones and where being arrays: one program fits with any held."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Scalar

from .._fit.objective import kinks_of
from .._host import xp
from .._likelihoods.base import AbstractLikelihood
from .._parameters.parameter import Parameter
from .._parameters.space import Space, ravel, resolve_at
from .._util.typing import PyTree


class Held(AbstractLikelihood):
    """The likelihood `nll` as a function of `{"x": vector of the free parameters}`. Those of `which` are held at `at`:
    a parabola in each of them, with the standard deviation `scale`, has its minimum there, and is zero at it."""

    nll: Any
    params: PyTree
    which: Bool[Array, " n"]
    at: Float[Array, " n"]
    scale: Float[Array, " n"]

    def __call__(self, params: PyTree, data: PyTree) -> Scalar:
        return self.nll(self._tree(params), data) + self._parabola(params)

    @property
    def varying(self) -> Any:
        """That of `nll`, with the parabola."""
        if self.nll.varying is None:
            return None
        return lambda params, data: self.nll.varying(self._tree(params), data) + self._parabola(params)

    @property
    def constant(self) -> Any:
        """That of `nll`."""
        return self.nll.constant

    @property
    def kinks(self) -> dict[str, Any] | None:
        """Those of the parameters that are not held, one column for each."""
        if not self.nll.kinks:
            return None
        columns = kinks_of(self.nll, self.params, ravel(self.params)[1])
        return None if columns is None else {"x": xp.where(self.which, xp.nan, columns)}

    def _tree(self, params: PyTree) -> PyTree:
        return resolve_at(self.params, jnp.where(self.which, self.at, params["x"]))

    def _parabola(self, params: PyTree) -> Scalar:
        return 0.5 * jnp.sum(jnp.where(self.which, (params["x"] - self.at) / self.scale, 0.0) ** 2)

    def start(self, x: Float[np.ndarray, " n"], space: Space) -> PyTree:
        """Returns the parameters of a fit that starts at `x`: those held have no bounds."""
        if not space.has_bounds:
            return {"x": Parameter(x)}
        lower, upper = np.where(self.which, -np.inf, space.lower), np.where(self.which, np.inf, space.upper)
        return {"x": Parameter(x, lower, upper)}
