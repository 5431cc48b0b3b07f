"""The processes of a card with their histograms, checked against its rates and observations."""

from typing import NamedTuple

import numpy as np

from .card import Card, Process
from .histograms import DATA, Histogram, Histograms
from .physics import Physics


class Column(NamedTuple):
    """A process: its histogram (`None` for one bin of a counting experiment), and the variations of its shape."""

    process: Process
    histogram: Histogram | None
    morphs: list[tuple[str, float, Histogram, Histogram, str]]


class Columns:
    """The processes of each channel that have events."""

    def __init__(self, card: Card, histograms: Histograms, physics: Physics):
        """**Raises:** `ValueError` for histograms that are not there, or that contradict the card."""
        self.card: Card = card
        self.histograms: Histograms = histograms
        self.physics: Physics = physics
        self.of: dict[str, list[Column]] = {
            channel: [c for p in card.of_channel(channel) if (c := self._column(p)) is not None]
            for channel in card.channels
        }
        self._check_channels()

    def _column(self, process: Process) -> Column | None:
        """`None` for a process without events, which Combine leaves out."""
        if self.card.rates[process.at] == 0 or self.physics.scales[process.at] == "":
            return None
        if self.histograms.is_counting(*process.at):
            if self.card.rates[process.at] == -1:
                raise self.card.error(
                    None, f"the rate of {process.name} in {process.channel} is -1 without a histogram"
                )
            return Column(process, None, [])
        nominal = self.histograms.nominal(*process.at)
        self._check_rate(process, nominal)
        morphs = []
        for systematic in self.card.systematics:
            if not systematic.is_shape or not systematic.moves(process.at):
                continue
            name = systematic.shapes.get(process.at, systematic.name)
            kind = systematic.kind.replace("?", "")
            if kind != systematic.kind and not self.histograms.has(*process.at, name):
                continue
            effect = systematic.effects[process.at]
            if isinstance(effect, tuple):
                raise self.card.error(
                    systematic.line, f"{systematic.name} has histograms for {process.name}, and takes one number"
                )
            down, up = self.histograms.variations(*process.at, name, systematic.line)
            for side, histogram in (("Down", down), ("Up", up)):
                if histogram.values.size != nominal.values.size:
                    raise self.card.error(
                        systematic.line,
                        f"{name}{side} of {process.name} in {process.channel} has {histogram.values.size} bins, the "
                        f"nominal histogram {nominal.values.size}",
                    )
                if not histogram.total > 0:
                    raise self.card.error(
                        systematic.line, f"{name}{side} of {process.name} in {process.channel} has no events"
                    )
            morphs.append((systematic.name, effect, down, up, kind.removesuffix("U")))
        if len(kinds := {morph[-1] for morph in morphs}) > 1:
            raise self.card.error(
                None, f"{process.name} in {process.channel} has shapes of several kinds: {sorted(kinds)}"
            )
        return Column(process, nominal, morphs)

    def _check_rate(self, process: Process, nominal: Histogram) -> None:
        rate, total = self.card.rates[process.at], nominal.total
        if total == 0:
            line = self.histograms.place(*process.at)[1]
            raise self.card.error(line, f"the histogram of {process.name} in {process.channel} has no events")
        if rate == -1:
            self.card.rates[process.at] = total
        elif rate > 0 and abs(total - rate) > 0.01 * max(1, rate):
            raise self.card.error(
                None,
                f"the rate of {process.name} in {process.channel} is {rate:g}, and its histogram has {total:g} events",
            )

    def _check_channels(self) -> None:
        for channel, columns in self.of.items():
            sizes = {c.process.name: 1 if c.histogram is None else c.histogram.values.size for c in columns}
            if not sizes:
                raise self.card.error(None, f"no process of {channel} has events")
            if len(set(sizes.values())) > 1:
                told = ", ".join(f"{name}: {size}" for name, size in sizes.items())
                raise self.card.error(None, f"the histograms of {channel} have different numbers of bins ({told})")

    def observed(self) -> dict[str, np.ndarray]:
        """The counts. **Raises:** `ValueError` where they contradict the card."""
        out = {}
        for channel, columns in self.of.items():
            rate = self.card.observed[channel]
            if columns[0].histogram is None:
                if rate == -1:
                    raise self.card.error(None, f"the observation of {channel} is -1 without a histogram")
                out[channel] = np.array([rate])
                continue
            counts = self.histograms.nominal(channel, DATA)
            if counts.values.size != columns[0].histogram.values.size:
                raise self.card.error(
                    None, f"the data of {channel} have {counts.values.size} bins, its processes "
                    f"{columns[0].histogram.values.size}"
                )  # fmt: skip
            if np.any(counts.values < 0):
                raise self.card.error(None, f"the data of {channel} have a negative count")
            is_other = counts.total > 0.01 if rate == 0 else abs(counts.total / rate - 1) > 0.005
            if rate != -1 and is_other:
                raise self.card.error(
                    None, f"the observation of {channel} is {rate:g}, and its histogram has {counts.total:g} events"
                )
            out[channel] = counts.values
        return out

    @property
    def all(self) -> list[Column]:
        """Those of all channels, one after the other."""
        return [column for columns in self.of.values() for column in columns]
