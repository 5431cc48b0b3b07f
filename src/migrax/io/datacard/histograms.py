"""The histograms that a datacard names, from ROOT files or from the caller."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .card import Card

DATA = "data_obs"
_HS3 = "write the workspace as HS3 (RooJSONFactoryWSTool) and read that by mx.io.from_hs3"


class Histogram(NamedTuple):
    """The contents of the bins, and their errors."""

    values: Float[np.ndarray, " n"]
    errors: Float[np.ndarray, " n"]

    @property
    def total(self) -> float:
        return float(np.sum(self.values))


class Histograms:
    """Looks up the histograms of a card. Each is read once."""

    def __init__(self, card: Card, given: Mapping[str, Any], mass: str, keywords: Mapping[str, Any]):
        """`given`: instead of files, by their names in the card, a mapping from names to histograms each. `mass`,
        `keywords`: what stands for $MASS and for other words."""
        self.card: Card = card
        self.given: Mapping[str, Any] = given
        self.words: dict[str, str] = {"MASS": mass, **{name: str(value) for name, value in keywords.items()}}
        self._files: dict[str, Any] = {}
        self._read: dict[tuple[str, str], Histogram | None] = {}

    def place(self, channel: str, process: str) -> tuple[tuple[str, ...], int]:
        """The file and the names of a process in a channel, and the line that says so."""
        for of_channel in (self.card.shapes.get(channel), self.card.shapes.get("*")):
            for name in (process, "*"):
                if of_channel is not None and name in of_channel:
                    return of_channel[name]
        raise self.card.error(None, f"no line 'shapes' is of {process} in {channel}")

    def is_counting(self, channel: str, process: str) -> bool:
        """Whether there is no histogram: the channel is one bin."""
        return not self.card.shapes or self.place(channel, process)[0][0] == "FAKE"

    def nominal(self, channel: str, process: str) -> Histogram:
        """**Raises:** `ValueError` for a file or a histogram that is not there."""
        names, line = self.place(channel, process)
        found = self._histogram(names[0], names[1], channel, process, "", line)
        if found is None:
            raise self.card.error(line, f"{self._name(names[1], channel, process, '')!r} is not in {names[0]}")
        return found

    def has(self, channel: str, process: str, systematic: str) -> bool:
        """Whether there are histograms of a variation."""
        names, line = self.place(channel, process)
        return (
            len(names) > 2
            and self._histogram(names[0], names[2], channel, process, f"{systematic}Up", line) is not None
        )

    def variations(self, channel: str, process: str, systematic: str, number: int) -> tuple[Histogram, Histogram]:
        """Those down and up. **Raises:** `ValueError` where one is not there; `number`: the line of the systematic."""
        names, line = self.place(channel, process)
        if len(names) < 3:
            raise self.card.error(
                number, f"{systematic} moves the shape of {process} in {channel}, but line {line} names no $SYSTEMATIC"
            )
        both = []
        for end in ("Down", "Up"):
            found = self._histogram(names[0], names[2], channel, process, systematic + end, line)
            if found is None:
                name = self._name(names[2], channel, process, systematic + end)
                raise self.card.error(number, f"{name!r} is not in {self._name(names[0], channel, process, '')}")
            both.append(found)
        return both[0], both[1]

    def _name(self, pattern: str, channel: str, process: str, systematic: str) -> str:
        words = {"PROCESS": process, "CHANNEL": channel, "SYSTEMATIC": systematic, **self.words}
        for word, value in words.items():
            pattern = pattern.replace(f"${word}", value)
        return pattern

    def _histogram(
        self, file: str, pattern: str, channel: str, process: str, systematic: str, line: int
    ) -> Histogram | None:
        path, name = (self._name(text, channel, process, systematic) for text in (file, pattern))
        if "$" in name or "$" in path:
            word = (name if "$" in name else path).split("$", 1)[1].split("/")[0]
            raise self.card.error(line, f"nothing stands for ${word}: from_datacard(..., keywords={{...}})")
        if ":" in name:
            raise self.card.error(
                line, f"{process} in {channel} is {name!r}, in a RooWorkspace, which is not read: {_HS3}"
            )
        key = path, name
        if key not in self._read:
            self._read[key] = self._convert(self._object(path, name, line), path, name, line)
        return self._read[key]

    def _object(self, path: str, name: str, line: int) -> Any:
        if path in self.given:
            return self.given[path].get(name)
        if path not in self._files:
            self._files[path] = self._open(path, line)
        file = self._files[path]
        try:
            return file[name]
        except KeyError:
            return None

    def _open(self, path: str, line: int) -> Any:
        folder = Path() if self.card.path is None else self.card.path.parent
        places = [folder / path, Path(path)]
        place = next((place for place in places if os.path.isfile(place)), None)  # False for names that are too long
        if place is None:
            raise self.card.error(line, f"there is no file {os.fspath(places[0])}")
        try:
            import uproot  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError(
                "histograms in ROOT files need uproot: pip install 'migrax[root]'; or give them, "
                "from_datacard(..., histograms={file: {name: histogram}})"
            ) from error
        try:
            return uproot.open(place)
        except Exception as error:  # a damaged file raises whatever is met first
            raise self.card.error(line, f"{place} cannot be read as a ROOT file: {error}") from error

    def _convert(self, found: Any, path: str, name: str, line: int) -> Histogram | None:
        if found is None:
            return None
        kind = str(getattr(found, "classname", ""))
        if kind.startswith(("RooWorkspace", "Roo")):
            raise self.card.error(line, f"{name!r} in {path} is a {kind}, which is not read: {_HS3}")
        if kind and not kind.startswith("TH1"):
            raise self.card.error(line, f"{name!r} in {path} is a {kind}; histograms of one axis, TH1, are read")
        try:
            values, errors = _arrays(found)
        except Exception as error:
            raise self.card.error(line, f"{name!r} in {path} is no histogram: {error}") from error
        if values.ndim != 1 or values.size == 0 or errors.shape != values.shape:
            raise self.card.error(line, f"{name!r} in {path} has the shape {values.shape}; one axis is read")
        if not (np.all(np.isfinite(values)) and np.all(np.isfinite(errors))):
            raise self.card.error(line, f"{name!r} in {path} has bins that are no numbers")
        return Histogram(values, errors)


def _arrays(found: Any) -> tuple[np.ndarray, np.ndarray]:
    """Contents and errors of a histogram of uproot or hist, of an array, or of a pair of arrays."""
    if hasattr(found, "errors") and callable(found.errors):  # uproot
        return np.asarray(found.values(), float), np.asarray(found.errors(), float)
    if callable(getattr(found, "values", None)):
        values, variances = np.asarray(found.values(), float), found.variances()
        return values, np.sqrt(np.abs(values) if variances is None else np.asarray(variances, float))
    if isinstance(found, tuple):
        values, errors = (np.asarray(array, float) for array in found)
        return values, errors
    values = np.asarray(found, float)
    return values, np.sqrt(np.abs(values))
