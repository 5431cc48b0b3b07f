"""`Covariance`: the covariance matrix of a fit."""

from typing import TYPE_CHECKING

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._display.html import matrix_html
from .._display.latex import matrix_latex
from .._display.text import matrix_text
from .._host.hosted import hosted
from .._parameters.names import unknown_name
from .._util.frames import data_frame
from .._util.result import AbstractResult, refuse_many, refuse_traced
from .._util.tracing import is_concrete_tree

if TYPE_CHECKING:
    from pandas import DataFrame


class Covariance(AbstractResult):
    """The covariance matrix of the free parameters, in the user's units.

    **Attributes**; for vmapped fits, arrays have the batch axes in front:

    - `matrix`: shape `(n_free, n_free)`, in the order of `names`.
    - `valid`: whether it can be used; for `"hesse"`, whether the second derivatives are positive definite.
    - `kind`: `"hesse"` for the inverse of the second derivatives, `"sandwich"` for the robust covariance, or `"scaled"`
        for the inverse of the second derivatives times chi2/ndof (see `mx.LeastSquares`).
    - `accuracy`: `None` for the inverse of all exact second derivatives. If they are differences of exact gradients
        (`mx.External`, and functions that JAX can differentiate only once), or the errors of some parameters were found
        by conjugate gradients (`mx.fit(errors=)`), an estimate of the relative error of the standard errors, one number
        for each fit; NaN where it is not estimated (toys).
    """

    matrix: Float[Array, "*batch n n"]
    valid: Bool[Array, "*batch"]
    names: tuple[str, ...] = eqx.field(static=True)
    kind: str = eqx.field(static=True, default="hesse")
    accuracy: Float[Array, "*batch"] | None = None

    @property
    def errors(self) -> Float[Array, "*batch n"]:
        """The square roots of the variances, shape `(..., n)`."""
        return _errors_of(self.matrix)

    @property
    def correlation(self) -> Float[Array, "*batch n n"]:
        """The correlation matrix, shape `(..., n, n)`: 1 on the diagonal, 0 with a parameter whose variance is 0."""
        return _correlation_of(self.matrix)

    def __getitem__(self, pair: tuple[str, str]) -> Float[Array, "*batch"]:
        """`covariance["mu", "sigma"]`: one entry, or a block for vector parameters, shape `(..., size, size)`."""
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
            raise TypeError(f"give two names, covariance['a', 'b'], or index .matrix; got {pair!r}")
        i, j = (_positions(name, self.names) for name in pair)
        block = self.matrix[..., i[:, None], j[None, :]]
        drop = [axis for axis, name in ((-2, pair[0]), (-1, pair[1])) if name in self.names]
        return jnp.squeeze(block, tuple(drop))

    def to_pandas(self) -> "DataFrame":
        """The matrix as a `pandas.DataFrame` with the names of the parameters for rows and columns. For many fits, each
        fit has its own rows, and the first level of the index, `lane`, is the number of the fit.

        **Raises:** `ImportError` without pandas; `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_pandas")
        columns = {name: self.matrix[..., i] for i, name in enumerate(self.names)}
        return data_frame(columns, self.names, "name", np.shape(self.valid))

    def to_latex(self) -> str:
        """The matrix as a LaTeX `tabular`, which needs no package.

        **Raises:** `ValueError` for many fits, `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_latex")
        refuse_many(self, np.shape(self.valid), "to_latex")
        return matrix_latex(self.names, np.asarray(self.matrix))

    def _ipython_key_completions_(self) -> list[tuple[str, str]]:
        return [(a, b) for a in self.names for b in self.names]

    def __repr__(self) -> str:
        if not is_concrete_tree(self) or np.ndim(self.valid):
            return f"Covariance(shape={np.shape(self.matrix)}, names={self.names})"
        if not bool(self.valid):
            return "Covariance: not valid, the second derivatives are not positive definite or not finite"
        return matrix_text(self.names, np.asarray(self.matrix))

    def _repr_html_(self) -> str:
        if not is_concrete_tree(self) or np.ndim(self.valid) or not bool(self.valid):
            return f"<pre>{self!r}</pre>"
        return matrix_html(self.names, np.asarray(self.matrix))


@hosted
def _errors_of(matrix: Float[Array, "*batch n n"]) -> Float[Array, "*batch n"]:
    return _safe_sqrt(jnp.diagonal(matrix, axis1=-2, axis2=-1))


@hosted
def _correlation_of(matrix: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    errors = _safe_sqrt(jnp.diagonal(matrix, axis1=-2, axis2=-1))
    inverse = jnp.where(errors > 0, 1 / jnp.where(errors > 0, errors, 1.0), 0.0)
    product = matrix * inverse[..., :, None] * inverse[..., None, :]
    is_known = jnp.eye(errors.shape[-1], dtype=bool) & jnp.isfinite(errors)[..., None, :]
    return jnp.where(is_known, 1.0, jnp.where(jnp.isfinite(matrix), product, jnp.nan))


def _safe_sqrt(x: Array) -> Array:
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), jnp.where(x == 0, 0.0, jnp.nan))


def _positions(name: str, names: tuple[str, ...]) -> np.ndarray:
    positions = [i for i, n in enumerate(names) if n == name or n.startswith((f"{name}[", f"{name}."))]
    if not positions:
        raise ValueError(unknown_name(name, names))
    return np.asarray(positions)
