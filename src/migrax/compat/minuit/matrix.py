"""A covariance or correlation matrix indexed by the names of its parameters."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..._display import html, records, text
from .keys import named, positions


class Matrix(np.ndarray):
    """A square array that can also be indexed by names: `covariance["mu", "sigma"]` is a number, `covariance["mu"]` a
    row; the name of a vector parameter stands for all its numbers. A slice or a list alone selects rows and columns,
    `covariance[["mu", "sigma"]]`, and the block has their names.

    Everything else is NumPy's. The results of NumPy's indexing have no names.
    """

    names: tuple[str, ...]

    def __new__(cls, array: ArrayLike, names: tuple[str, ...]) -> "Matrix":
        new = np.array(array, dtype=float).view(cls)
        new.names = tuple(names)
        return new

    def __array_finalize__(self, obj: Any) -> None:
        names = getattr(obj, "names", ())
        self.names = names if self.shape == (len(names),) * 2 else ()

    def __getitem__(self, key: Any) -> Any:
        """**Raises:** `ValueError` for an unknown name."""
        plain = self.view(np.ndarray)
        if self.names and isinstance(key, slice | list):
            chosen = positions(key, self.names, None)
            assert isinstance(chosen, list)
            return Matrix(plain[np.ix_(chosen, chosen)], tuple(self.names[i] for i in chosen))
        if isinstance(key, str):
            return plain[named(key, self.names)]
        if isinstance(key, tuple) and any(isinstance(k, str) for k in key):
            index = [named(k, self.names) if isinstance(k, str) else k for k in key]
            if all(isinstance(i, list) for i in index):
                return plain[np.ix_(*index)]
            return plain[tuple(index)]
        return plain[key]

    def correlation(self) -> "Matrix":
        """The correlation matrix: 1 on the diagonal, 0 for a parameter without a variance, such as a fixed one."""
        return Matrix(records.correlation(self.view(np.ndarray)), self.names)

    def to_dict(self) -> dict[tuple[str, str], float]:
        """The entries by pairs of names, each pair once."""
        n = len(self.names)
        return {(self.names[i], self.names[j]): float(self[i, j]) for i in range(n) for j in range(i, n)}

    def __repr__(self) -> str:
        if not self.names:
            return repr(self.view(np.ndarray))
        as_text = text.correlation_text if np.all(np.diagonal(self) == 1) else text.matrix_text
        return as_text(self.names, self)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return html.matrix_html(self.names, self) if self.names else f"<pre>{self!r}</pre>"

    def __reduce__(self) -> Any:
        return Matrix, (self.view(np.ndarray), self.names)
