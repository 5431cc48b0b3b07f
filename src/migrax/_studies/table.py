"""What all studies share: they print as a table."""

import abc

import equinox as eqx

from .._display_studies import study_html, study_text


class AbstractStudy(eqx.Module):
    """Figures over toys, with errors of their own."""

    @abc.abstractmethod
    def _table(self) -> tuple[str, list[str], list[list[str]]]:
        """Title, head and rows."""

    def __repr__(self) -> str:
        return study_text(*self._table())

    def _repr_html_(self) -> str:
        return study_html(*self._table())
