"""`values`, `errors`, `limits` and `fixed`: array-like views of the memory of a `Minuit`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np

from .keys import positions
from .memory import Memory, refuse_traced

NO_STEPS = (
    "the errors of mx.Minuit cannot be set: iminuit's double as step sizes of numerical derivatives, and those of "
    "migrax are exact"
)

_ATTRIBUTES = {"ValueView": "values", "ErrorView": "errors", "FixedView": "fixed", "LimitView": "limits"}


class View:
    """One property of all numbers of a fit, including fixed ones, in the order of `parameters`.

    It is indexed by a name, a position, a slice of either, a list of them or a mask; the name of a vector parameter
    gives the list of its numbers. A single value that is assigned to several numbers is assigned to each.
    """

    __slots__ = ("_get", "_memory", "_pairs", "_put", "_title")

    def __init__(
        self,
        title: str,
        memory: Memory,
        get: Callable[[int], Any],
        put: Callable[[list[int], list[Any]], None],
        pairs: bool = False,
    ):
        """**Arguments:**

        - `get`: the entry at a position.
        - `put`: sets the entries at some positions, or raises and changes nothing.
        - `pairs`: whether an entry is a pair.
        """
        self._title, self._memory, self._get, self._put, self._pairs = title, memory, get, put, pairs

    def __len__(self) -> int:
        return len(self._memory.names)

    def __iter__(self) -> Iterator[Any]:
        return (self._get(i) for i in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        """**Raises:** `ValueError` for an unknown name, `IndexError` for a position."""
        index = positions(key, self._memory.names, self._memory.template)
        return self._get(index) if isinstance(index, int) else [self._get(i) for i in index]

    def __setitem__(self, key: Any, value: Any) -> None:
        """**Raises:** `ValueError` or `TypeError` for a value that does not fit, without changing anything."""
        position = positions(key, self._memory.names, self._memory.template)
        index = [position] if isinstance(position, int) else position
        refuse_traced(value)
        if isinstance(position, int) or (_is_pair(value) if self._pairs else _is_scalar(value)):
            entries = [value] * len(index)
        else:
            entries = self._entries(value)
            if len(entries) != len(index):
                raise ValueError(f"{len(entries)} entries for {len(index)} parameters: {self._names(index)}")
        self._put(index, entries)

    def __eq__(self, other: object) -> bool:
        """Whether all are equal."""
        try:
            own, theirs = np.broadcast_arrays(np.asarray(self), np.asarray(other))
        except ValueError:
            return False
        return bool(np.all(own == theirs))

    __hash__: ClassVar[None] = None  # pyright: ignore[reportIncompatibleMethodOverride]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # it is always a new array
        return np.array(list(self), dtype)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):  # `copy` asks for these before the object has its attributes
                raise AttributeError(name)
            hint = ""
            if name in self._memory.names:
                hint = f": write m.{_ATTRIBUTES[self._title]}[{name!r}]"
            raise AttributeError(f"a {self._title} has no attribute {name!r}{hint}", name=name, obj=self)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._memory.names)

    def __reduce__(self) -> Any:
        """For pickle and copy: the current numbers without the likelihood, which may be a function without a name."""
        return _VIEWS[self._title], (self._memory.numbers_alone(),)

    def __deepcopy__(self, memo: Any) -> "View":
        return _VIEWS[self._title](self._memory.copy())

    def __invert__(self) -> list[bool]:
        """`~m.fixed`: whether each is free."""
        if self._title != "FixedView":
            raise TypeError(f"~ is for fixed, not for a {self._title}")
        return [not flag for flag in self]

    def __repr__(self) -> str:
        entries = " ".join(f"{name}={entry}" for name, entry in self.to_dict().items())
        return f"<{self._title} {entries}>"

    def to_dict(self) -> dict[str, Any]:
        """All entries by name."""
        return dict(zip(self._memory.names, self, strict=True))

    def _entries(self, value: Any) -> list[Any]:
        """The assigned entries, one by one; of an array in the shape of a vector parameter, row by row."""
        if isinstance(value, np.ndarray | jax.Array):
            return list(np.reshape(value, (-1, 2) if self._pairs else -1))
        return [value] if _is_scalar(value) else list(value)

    def _names(self, index: Sequence[int]) -> str:
        return ", ".join(self._memory.names[i] for i in index[:8]) + (", ..." if len(index) > 8 else "")


def _is_scalar(x: Any) -> bool:
    return not isinstance(x, Iterable) or isinstance(x, str) or getattr(x, "ndim", None) == 0


def values_view(memory: Memory) -> View:
    def put(index: list[int], entries: list[Any]) -> None:
        new = [memory.rounded(i, _number(x, memory.names[i])) for i, x in zip(index, entries, strict=True)]
        for i, x in zip(index, new, strict=True):
            low, high = memory.now.lower[i], memory.now.upper[i]
            if not low <= x <= high:
                raise ValueError(
                    f"{memory.names[i]!r} cannot be {x:g}: its limits are {low:g} and {high:g} (set them first)"
                )
        memory.now.values[index] = new
        memory.touch()

    return View("ValueView", memory, lambda i: float(memory.now.values[i]), put)


def errors_view(memory: Memory) -> View:
    def put(index: list[int], entries: list[Any]) -> None:
        raise TypeError(NO_STEPS)

    return View("ErrorView", memory, memory.error, put)


def fixed_view(memory: Memory) -> View:
    def put(index: list[int], entries: list[Any]) -> None:
        for i, flag in zip(index, entries, strict=True):
            if not isinstance(flag, bool | np.bool_):
                raise TypeError(f"{memory.names[i]!r} is fixed or not: give True or False, got {flag!r}")
        memory.now.fixed[index] = entries
        memory.touch()

    return View("FixedView", memory, lambda i: bool(memory.now.fixed[i]), put)


def limits_view(memory: Memory) -> View:
    def get(i: int) -> tuple[float, float]:
        return float(memory.now.lower[i]), float(memory.now.upper[i])

    def put(index: list[int], entries: list[Any]) -> None:
        new = [_pair(x, memory.names[i]) for i, x in zip(index, entries, strict=True)]
        now = memory.now
        for i, (low, high) in zip(index, new, strict=True):
            now.lower[i], now.upper[i] = memory.rounded(i, low), memory.rounded(i, high)
            now.values[i] = np.clip(now.values[i], now.lower[i], now.upper[i])  # as iminuit does
        memory.touch()

    return View("LimitView", memory, get, put, pairs=True)


_VIEWS = {"ValueView": values_view, "ErrorView": errors_view, "FixedView": fixed_view, "LimitView": limits_view}


def _is_pair(x: Any) -> bool:
    """Whether it is a valid pair of limits: `None`, or two numbers, of which either may be `None`."""
    if x is None:
        return True
    return not _is_scalar(x) and len(ends := list(x)) == 2 and all(_is_scalar(end) for end in ends)


def _pair(x: Any, name: str) -> tuple[float, float]:
    if x is None:
        return -np.inf, np.inf
    if not _is_pair(x):
        raise ValueError(f"the limits of {name!r} are None or two numbers, (0, None) for instance; got {x!r}")
    low, high = (
        default if end is None else _float(end, name) for end, default in zip(x, (-np.inf, np.inf), strict=True)
    )
    if np.isnan(low) or np.isnan(high):
        raise ValueError(f"a limit of {name!r} is NaN; None is for no limit")
    if low >= high:
        hint = f"; to fix it there: m.fixto({name!r}, {low:g})" if low == high else ""
        raise ValueError(f"the lower limit of {name!r} must be below the upper one, got {low:g} and {high:g}{hint}")
    return low, high


def _number(x: Any, name: str) -> float:
    number = _float(x, name)
    if not np.isfinite(number):
        raise ValueError(f"{name!r} must be finite, got {x!r}")
    return number


def _float(x: Any, name: str) -> float:
    if isinstance(x, bool | np.bool_) or not (
        isinstance(x, int | float) or (isinstance(x, np.ndarray | np.generic | jax.Array) and _is_real(x))
    ):
        raise TypeError(f"{name!r} takes a number, got {x!r}")
    return float(x)


def _is_real(x: Any) -> bool:
    return x.ndim == 0 and x.dtype.kind in "iuf"
