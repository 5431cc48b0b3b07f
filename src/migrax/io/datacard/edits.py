"""Edits of systematics: `nuisance edit add | drop | rename | merge | split | changepdf | freeze | flip`."""

import math
import re
from collections.abc import Callable, Iterator

from .card import At, Card, Effect, Systematic

_LOG = ("lnN", "lnU")
_LINEAR = ("trG", "unif")


class _Edit:
    """One line."""

    def __init__(self, card: Card, number: int, words: list[str]):
        self.card, self.number, self.words = card, number, words

    def error(self, message: str) -> ValueError:
        return self.card.error(self.number, f"nuisance edit {' '.join(self.words)}: {message}")

    def take(self, args: list[str], n: int, form: str) -> list[str]:
        if len(args) < n:
            raise self.error(f"is written: {form}")
        return args

    def matches(self, pattern: str, name: str) -> bool:
        if pattern == "*":
            return True
        try:
            return re.fullmatch(pattern, name) is not None
        except re.error as error:
            raise self.error(f"{pattern!r} is no regular expression: {error}") from None

    def at(self, process: str, channel: str) -> list[At]:
        """The columns that match."""
        channel = channel.replace("+", r"\+") if channel != "*" else channel
        return [p.at for p in self.card.processes if self.matches(process, p.name) and self.matches(channel, p.channel)]

    def named(self, pattern: str) -> Iterator[Systematic]:
        return (s for s in self.card.systematics if self.matches(pattern, s.name))

    def not_found(self, found: bool, options: list[str]) -> None:
        if not found and "ifexists" not in options:
            raise self.error("finds nothing (the option ifexists allows that)")

    def add(self, args: list[str]) -> None:
        process, channel, name, kind, value, *options = self.take(
            args, 5, "add process channel name pdf value [options]"
        )
        try:
            parts = [float(part) for part in value.split("/")]
        except ValueError:
            raise self.error(f"{value!r} is no number") from None
        effect: Effect = parts[0] if len(parts) == 1 else (parts[0], parts[1])
        columns = self.at(process, channel)
        self.not_found(bool(columns), options)
        self.put(name, kind, dict.fromkeys(columns, effect), options)

    def put(self, name: str, kind: str, effects: dict[At, Effect], options: list[str]) -> None:
        known = [s for s in self.card.systematics if s.name == name and s.kind != "param"]
        if any(s.kind != kind for s in known):
            raise self.error(f"{name} is {known[0].kind} already")
        if not known:
            known = [Systematic(name, kind, (), {}, self.number)]
            self.card.systematics.extend(known)
        for at, effect in effects.items():
            old = known[0].effects.get(at, 0.0)
            if effect in (0.0, 1.0) and kind in _LOG:
                continue
            if old in (0.0, 1.0) or "overwrite" in options:
                known[0].effects[at] = effect
            elif "addq" in options:
                known[0].effects[at] = self.in_quadrature(kind, old, effect)
            else:
                raise self.error(f"{at[1]} in {at[0]} has an effect already: say addq or overwrite")

    def in_quadrature(self, kind: str, a: Effect, b: Effect) -> Effect:
        if kind not in _LOG:
            raise self.error(f"effects of {kind} cannot be added in quadrature")
        if isinstance(a, tuple) or isinstance(b, tuple):
            down_a, up_a = a if isinstance(a, tuple) else (1 / a, a)
            down_b, up_b = b if isinstance(b, tuple) else (1 / b, b)
            return self.log_sum(down_a, down_b), self.log_sum(up_a, up_b)
        return self.log_sum(a, b)

    def log_sum(self, a: float, b: float) -> float:
        if math.log(a) * math.log(b) < 0:
            raise self.error(f"{a:g} and {b:g} go in different directions, and have no sum in quadrature")
        total = math.exp(math.hypot(math.log(a), math.log(b)))
        return total if a > 1 else 1 / total

    def drop(self, args: list[str]) -> None:
        process, channel, name, *options = self.take(args, 3, "drop process channel name [options]")
        columns, found = self.at(process, channel), False
        for systematic in self.named(name):
            for at in columns:
                found = True
                systematic.effects.pop(at, None)
        self.not_found(found or channel == "*", options)

    def rename(self, args: list[str]) -> None:
        if len(args) == 2:
            (old, new), columns, options = args, [p.at for p in self.card.processes], []
        else:
            process, channel, old, new, *options = self.take(
                args, 4, "rename process channel old new, or rename old new"
            )
            columns = self.at(process, channel)
        matching = [s for s in self.card.systematics if s.name == old]
        if not matching:
            raise self.error(f"there is no {old}")
        self.not_found(bool(columns), options)
        for systematic in matching:
            if systematic.kind in ("gmN", "trG"):
                raise self.error(f"{old} is {systematic.kind}, which cannot be renamed")
            if len(args) == 2:
                systematic.name = new
                moved = systematic
            elif systematic.kind == "param":
                continue
            else:
                moved = self.moved(systematic, new, columns)
            if systematic.is_shape:
                moved.shapes |= {at: systematic.shapes.get(at, old) for at in moved.effects if at in columns}

    def moved(self, systematic: Systematic, new: str, columns: list[At]) -> Systematic:
        """Moves the effects on some processes to another systematic of the same kind."""
        known = [s for s in self.card.systematics if s.name == new and s.kind == systematic.kind]
        target = known[0] if known else Systematic(new, systematic.kind, systematic.args, {}, self.number)
        if not known:
            self.card.systematics.append(target)
        for at in columns:
            if at in systematic.effects:
                target.effects[at] = systematic.effects.pop(at)
        return target

    def changepdf(self, args: list[str]) -> None:
        name, kind, *options = self.take(args, 2, "changepdf name newpdf")
        found = False
        for systematic in self.named(name):
            found = True
            if systematic.kind == kind:
                continue
            both = (systematic.kind, kind)
            if both[0] in _LOG and kind in _LINEAR:
                self.convert(systematic, math.log)
            elif both[0] in _LINEAR and kind in _LOG:
                self.convert(systematic, math.exp)
            elif not (all(k in _LOG for k in both) or all(k.startswith("shape") for k in both)):
                raise self.error(f"{systematic.name} is {systematic.kind}, which cannot become {kind}")
            systematic.kind = kind
            if kind == "unif" and not systematic.args:
                systematic.args = ("-1", "1")
        self.not_found(found, options)

    def convert(self, systematic: Systematic, function: Callable[[float], float]) -> None:
        if any(isinstance(effect, tuple) for effect in systematic.effects.values()):
            raise self.error(f"{systematic.name} has effects down/up, which cannot be converted")
        systematic.effects = {at: function(effect) for at, effect in systematic.effects.items() if effect != 1.0}  # pyright: ignore[reportArgumentType]

    def merge(self, args: list[str]) -> None:
        process, channel, one, other, *options = self.take(args, 4, "merge process channel name1 name2 [options]")
        columns, found = self.at(process, channel), False
        for systematic in list(self.named(other)):
            for at in columns:
                found = True
                if at in systematic.effects:
                    self.put(one, systematic.kind, {at: systematic.effects.pop(at)}, ["addq"])
        self.not_found(found or channel == "*", options)

    def split(self, args: list[str]) -> None:
        form = "split process channel name new1 new2 value1 value2"
        process, channel, name, *rest = self.take(args, 7, form)
        columns, found = self.at(process, channel), False
        for systematic in list(self.named(name)):
            for at in columns:
                found = True
                if systematic.effects.pop(at, 1.0) not in (0.0, 1.0):
                    for new, value in zip(rest[:2], rest[2:4], strict=True):
                        self.add([re.escape(at[1]), re.escape(at[0]), new, systematic.kind, value, "overwrite"])
        self.not_found(found or channel == "*", rest[4:])

    def freeze(self, args: list[str]) -> None:
        name, *options = self.take(args, 1, "freeze name [ifexists]")
        known = [*self.card.flat, *self.card.scalars, *(s.name for s in self.card.systematics)]
        found = [other for other in known if self.matches(name, other)]
        self.card.frozen |= set(found)
        self.not_found(bool(found), options)

    def flip(self, args: list[str]) -> None:
        process, channel, name, *options = self.take(args, 3, "flip process channel name p2n|n2p")
        if not {"p2n", "n2p"} & set(options):
            raise self.error("say p2n (only positive to negative), n2p, or both")
        columns, found = self.at(process, channel), False
        for systematic in self.named(name):
            if systematic.kind != "lnN":
                raise self.error(f"{systematic.name} is {systematic.kind}; lnN can be flipped")
            for at in columns:
                found = True
                effect = systematic.effects.get(at, 1.0)
                is_up = effect[0] < 1 if isinstance(effect, tuple) else effect > 1
                if effect not in (0.0, 1.0) and ("p2n" if is_up else "n2p") in options:
                    inverse = (1 / effect[0], 1 / effect[1]) if isinstance(effect, tuple) else 1 / effect
                    systematic.effects[at] = inverse
        self.not_found(found or channel == "*", options)


_COMMANDS = ("add", "drop", "rename", "changepdf", "merge", "split", "freeze", "flip")


def edit(card: Card, words: list[str], number: int) -> None:
    """**Raises:** `ValueError` for an edit that is not understood, or that finds nothing."""
    if not words or words[0] not in _COMMANDS:
        raise card.error(number, f"nuisance edit knows {', '.join(_COMMANDS)}; got {' '.join(words[:1])!r}")
    getattr(_Edit(card, number, words), words[0])(words[1:])
