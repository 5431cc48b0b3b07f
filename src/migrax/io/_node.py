"""Reading JSON that may be wrong anywhere: each value knows its place, and error messages name it."""

import difflib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

_MAX_SHOWN = 60  # characters of a value in a message


def load(source: Any, what: str) -> Any:
    """A document: a path to a JSON file, or what was read from one.

    **Raises:** `FileNotFoundError`; `ValueError` for a file that is not JSON; `TypeError` for anything else.
    """
    if isinstance(source, Mapping | list):
        return source
    if not isinstance(source, str | os.PathLike):
        hint = ": of a pyhf.Model, give the pyhf.Workspace that it is made from" if hasattr(source, "spec") else ""
        raise TypeError(f"{what} must be a path or what was read from JSON, got {type(source).__name__}{hint}")
    path = Path(source)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path}: the JSON is nested too deep") from None
    except OSError as error:
        text = os.fspath(source)
        if isinstance(text, str) and text.lstrip().startswith(("{", "[")):
            raise TypeError(f"{what} must be a path or what was read from JSON: json.loads(text)") from None
        raise error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError too
        raise ValueError(f"{path} is no JSON: {error}") from None


class Node(NamedTuple):
    """A value and its place. **Raises:** `ValueError`, from all methods, with the place and the reason."""

    value: Any
    where: str

    def error(self, reason: str) -> ValueError:
        return ValueError(f"{self.where or 'the document'}: {reason}")

    def _type_error(self, wanted: str) -> ValueError:
        return self.error(f"must be {wanted}, got {shown(self.value)}")

    @property
    def missing(self) -> bool:
        """Whether the value is absent, or null."""
        return self.value is None

    def __getitem__(self, key: str) -> "Node":  # type: ignore[override]
        """The value of this key of an object, which must not be missing."""
        node = self.get(key)
        if node.missing:
            near = difflib.get_close_matches(key, [k for k in self.value if isinstance(k, str)], 1)
            hint = f" (is {near[0]!r} meant for it?)" if near else ""
            raise self.error(f"has no {key!r}{hint}")
        return node

    def get(self, key: str) -> "Node":
        """The value of this key of an object, missing or not."""
        if not isinstance(self.value, Mapping):
            raise self._type_error("an object")
        return Node(self.value.get(key), f"{self.where}.{key}" if self.where else key)

    def keys(self) -> list[str]:
        if not isinstance(self.value, Mapping):
            raise self._type_error("an object")
        return [str(key) for key in self.value]

    def only(self, keys: tuple[str, ...], also: tuple[str, ...] = ()) -> None:
        """Refuse all other keys of an object; `also`: allowed ones that the message does not list."""
        for key in self.keys():
            if key not in keys and key not in also:
                near = difflib.get_close_matches(key, (*keys, *also), 1)
                hint = f" (is {near[0]!r} meant?)" if near else ""
                raise self.error(f"{shown(key)} means nothing here{hint}; there may be {', '.join(keys)}")

    def only_near(self, keys: tuple[str, ...]) -> None:
        """Refuse a key of an object that is probably a misspelling of one of these."""
        for key in self.keys():
            near = difflib.get_close_matches(key, keys, 1, 0.8)
            if key not in keys and near and near[0] not in self.value:
                raise self.error(f"{shown(key)} means nothing here (is {near[0]!r} meant?)")

    def items(self) -> "Iterator[Node]":
        """The entries of an array."""
        if isinstance(self.value, str | bytes) or not isinstance(self.value, Sequence):
            raise self._type_error("an array")
        return (Node(x, f"{self.where}[{i}]") for i, x in enumerate(self.value))

    def some(self) -> "list[Node]":
        """The entries of an array that is not empty."""
        entries = list(self.items())
        if not entries:
            raise self.error("is empty")
        return entries

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value:
            raise self._type_error("a name")
        return self.value

    def label(self) -> str:
        """The name of an object that is not a parameter: it may be empty, as in pyhf."""
        if not isinstance(self.value, str):
            raise self._type_error("a name")
        return self.value

    def number(self) -> float:
        """A finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float | np.number):
            raise self._type_error("a number")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._type_error("a finite number")
        return number

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self._type_error("true or false")
        return self.value

    def numbers(self, size: int | None = None, of: str = "") -> Float[np.ndarray, " n"]:
        """Finite numbers, `size` of them."""
        value = self.value.tolist() if isinstance(self.value, np.ndarray) else self.value
        if isinstance(value, list) and value and all(type(x) is float for x in value):  # fast for long arrays
            numbers = np.array(value)
        else:
            numbers = np.array([x.number() for x in Node(value, self.where).some()])
        if not np.all(np.isfinite(numbers)):
            first = int(np.argmin(np.isfinite(numbers)))
            Node(value[first], f"{self.where}[{first}]").number()  # raises
        if size is not None and numbers.size != size:
            raise self.error(f"has {numbers.size} entries, {of or 'it needs'} {size}")
        return numbers

    def unique(self, names: "list[Node]") -> None:
        """Refuse duplicate names."""
        seen: dict[str, str] = {}
        for name in names:
            if name.label() in seen:
                raise name.error(f"{shown(name.value)} is the name at {seen[name.value]} already")
            seen[name.value] = name.where


def shown(value: Any) -> str:
    """A short description of any value."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "an array"
    if value is None:
        return "nothing"
    text = repr(value[:_MAX_SHOWN]) if isinstance(value, str) else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
