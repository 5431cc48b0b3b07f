"""What all studies share: they print as a table."""

import abc

import equinox as eqx

from .._display.table import Table


class AbstractStudy(eqx.Module):
    """Figures over toys, with errors of their own."""

    @abc.abstractmethod
    def _table(self) -> tuple[str, list[str], list[list[str]]]:
        """Title, head and rows."""

    def __repr__(self) -> str:
        return Table(*self._table()).text()

    def _repr_html_(self) -> str:
        return Table(*self._table()).html()
