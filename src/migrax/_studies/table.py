"""The base class of studies, which print as a table and become one of pandas."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._util.frames import data_frame
from .._util.result import AbstractTabled

if TYPE_CHECKING:
    from pandas import DataFrame


class AbstractStudy(AbstractTabled):
    """Summary numbers over toys, with their standard errors."""

    @property
    def failed(self) -> int:
        """An older name of `num_failed`."""
        return vars(self)["num_failed"]

    def to_pandas(self) -> "DataFrame":
        """The summary numbers as a `pandas.DataFrame`, one row per parameter.

        **Raises:** `ImportError` without pandas.
        """
        columns = {
            before + name: array
            for before, part in self._parts().items()
            for name, array in vars(part).items()
            if isinstance(array, np.ndarray) and array.ndim == 1
        }
        return data_frame(columns, vars(self)["names"], "name")

    def _parts(self) -> dict[str, Any]:
        """What holds the figures, arrays with an entry a parameter, by what comes before their names."""
        return {"": self}

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()
