"""The base class of studies, which print as a table."""

import abc

import equinox as eqx

from .._display.table import Table


class AbstractStudy(eqx.Module):
    """Summary numbers over toys, with their standard errors."""

    @abc.abstractmethod
    def _table(self) -> tuple[str, list[str], list[list[str]]]:
        """Returns title, head and rows."""

    def __repr__(self) -> str:
        return Table(*self._table()).text()

    def _repr_html_(self) -> str:
        return Table(*self._table()).html()
