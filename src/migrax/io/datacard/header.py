"""The lines of a datacard up to `rate`: channels, observations, processes, shapes."""

import difflib
import re
from collections.abc import Iterator

from .card import Card, Process

_KNOWN = ("imax", "jmax", "kmax", "shapes", "bin", "observation", "process", "rate")

Lines = Iterator[tuple[int, str]]


class _Header:
    """What is known of the columns until `rate`."""

    def __init__(self, card: Card):
        self.card = card
        self.bins: list[str] = []
        self.counts: tuple[list[float], int] | None = None
        self.names: list[str] = []

    def read(self, lines: Lines) -> None:
        for number, text in lines:
            words = text.split()
            if not words or words[0].startswith(("#", "-")):
                continue
            word = words[0].lower() if words[0] == "Observation" else words[0]
            if word not in _KNOWN:
                near = difflib.get_close_matches(word, _KNOWN, 1, 0.8)
                if near:
                    raise self.card.error(number, f"{word!r} means nothing here. Is {near[0]!r} meant?")
                continue  # as in Combine, whatever else stands there
            getattr(self, f"_{word}")(words, number)
            if word == "rate":
                return
        raise self.card.error(None, "there is no line 'rate', after which the systematics begin")

    def _declared(self, words: list[str], number: int) -> None:
        if len(words) < 2:
            raise self.card.error(number, f"{words[0]} has no number")
        if words[1] != "*":
            self.card.declared[words[0]] = whole(self.card, number, words[1], words[0]), number

    _imax = _jmax = _kmax = _declared

    def _shapes(self, words: list[str], number: int) -> None:
        if len(words) < 4 or (len(words) < 5 and words[3] != "FAKE"):
            raise self.card.error(number, "shapes takes a process, a channel, a file and the name of a histogram")
        _, process, channel, *names = words
        of_channel = self.card.shapes.setdefault(channel, {})
        if process in of_channel:
            raise self.card.error(
                number, f"shapes of {process} in {channel} are at line {of_channel[process][1]} already"
            )
        of_channel[process] = tuple(names), number

    def _observation(self, words: list[str], number: int) -> None:
        self.counts = [real(self.card, number, word, "an observation") for word in words[1:]], number
        if any(count < 0 and count != -1 for count in self.counts[0]):
            raise self.card.error(number, "a count cannot be negative (but for -1: that of the histogram)")
        if self.bins:
            self._name_counts(self.bins)
            self.bins = []

    def _bin(self, words: list[str], number: int) -> None:
        if len(words) < 2:
            raise self.card.error(number, "bin names no channel")
        self.bins = words[1:]

    def _process(self, words: list[str], number: int) -> None:
        if not self.names:
            self.names = words[1:]
            if len(self.names) != len(self.bins):
                raise self.card.error(
                    number, f"the line 'process' has {len(self.names)} columns, the line 'bin' {len(self.bins)}"
                )
            return
        ids = words[1:]
        if _is_number(self.names[0]) and not _is_number(ids[0] if ids else ""):
            self.names, ids = ids, self.names
        if len(ids) != len(self.names):
            raise self.card.error(number, f"there are {len(self.names)} names of processes and {len(ids)} numbers")
        kinds: dict[str, bool] = {}
        for channel, name, word in zip(self.bins, self.names, ids, strict=True):
            is_signal = whole(self.card, number, word, "the number of a process") <= 0
            if kinds.setdefault(name, is_signal) != is_signal:
                raise self.card.error(number, f"{name} is a signal in one channel and a background in another")
            if any(process.at == (channel, name) for process in self.card.of_channel(channel)):
                raise self.card.error(number, f"{name} stands twice in the channel {channel}")
            if self.card.observed and channel not in self.card.observed:
                raise self.card.error(number, f"the channel {channel} has no observation")
            self.card.processes.append(Process(channel, name, is_signal))
        if not any(kinds.values()):
            raise self.card.error(number, "no process is a signal: one has a number of 0 or less")
        if not self.card.channels:
            self.card.channels = list(dict.fromkeys(self.bins))
            if self.counts is not None:
                self._name_counts(self.card.channels)
        self._check("imax", len(self.card.channels), "channels")
        self._check("jmax", len(kinds) - 1, "processes (less one)")

    def _name_counts(self, channels: list[str]) -> None:
        assert self.counts is not None
        counts, number = self.counts
        if len(counts) != len(channels):
            raise self.card.error(number, f"there are {len(counts)} observations and {len(channels)} channels")
        if len(set(channels)) != len(channels):
            raise self.card.error(number, "a channel stands twice among those of the observations")
        self.card.channels = list(channels)
        self.card.observed = dict(zip(channels, counts, strict=True))

    def _check(self, word: str, found: int, what: str) -> None:
        wanted, number = self.card.declared.get(word, (found, 0))
        if wanted != found:
            raise self.card.error(number, f"{word} declares {wanted} {what}, and there are {found}")

    def _rate(self, words: list[str], number: int) -> None:
        columns = self.card.processes
        if not columns:
            raise self.card.error(number, "rate stands before the names and numbers of the processes")
        if len(words) - 1 != len(columns):
            raise self.card.error(number, f"there are {len(words) - 1} rates and {len(columns)} processes")
        for process, word in zip(columns, words[1:], strict=True):
            self.card.rates[process.at] = real(self.card, number, word, f"the rate of {process.name}")
        if not self.card.observed:
            raise self.card.error(number, "there is no line 'observation' before the rates")
        for channel in self.card.channels:
            rates = [(p.is_signal, self.card.rates[p.at]) for p in self.card.of_channel(channel)]
            if not any(rate != 0 for is_signal, rate in rates if not is_signal):
                raise self.card.error(number, f"the channel {channel} has no background")


def read_header(card: Card, lines: Lines) -> None:
    """Reads up to the line `rate`. **Raises:** `ValueError` with the line."""
    _Header(card).read(lines)


def real(card: Card, number: int, word: str, what: str) -> float:
    """**Raises:** `ValueError` unless it is a finite number."""
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if value - value != 0:
        raise card.error(number, f"{what} must be a number, got {word[:40]!r}")
    return value


def whole(card: Card, number: int, word: str, what: str) -> int:
    """**Raises:** `ValueError` unless it is a whole number."""
    value = real(card, number, word, what)
    if value != int(value):
        raise card.error(number, f"{what} must be a whole number, got {word!r}")
    return int(value)


def _is_number(word: str) -> bool:
    return re.match(r"-?[0-9]+", word) is not None
