"""What all results can do: become plain numbers and words, and tables."""

import abc
import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .._display.table import Table
from .tracing import is_concrete_tree


class AbstractResult(eqx.Module):
    """The base of all classes of results, with the methods that all of them have; `mx.save` writes any of them."""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain dictionaries, lists, strings and numbers, which `json` takes as they are:

        ```python
        json.dumps(result.to_dict(), allow_nan=False)
        ```

        JSON has no NaN and no infinity: NaN becomes `None`, an infinity the string `"inf"` or `"-inf"`. A status is
        written by its name, an array as nested lists. To read a result back exactly, use `mx.save` and `mx.load`.

        **Returns:** a dictionary whose entry `"type"` is the name of the class.

        **Raises:** `TypeError` inside `jax.jit`, `jax.vmap` and `jax.grad`.
        """
        refuse_traced(self, "to_dict")
        return {"type": type(self).__name__, **plain(self._content())}

    def _content(self) -> dict[str, Any]:
        """What `to_dict` tells: all public fields."""
        names = (field.name for field in dataclasses.fields(self) if not field.name.startswith("_"))
        return {name: getattr(self, name) for name in names}


class AbstractTabled(AbstractResult):
    """A result that is shown as one table."""

    @abc.abstractmethod
    def _table(self) -> Table:
        """The table of numbers that are no tracers."""

    def to_latex(self) -> str:
        """The table as a LaTeX `tabular`, which needs no package. Its title is a comment above it.

        **Raises:** `TypeError` inside `jax.jit`, `jax.vmap` and `jax.grad`.
        """
        refuse_traced(self, "to_latex")
        return self._table().latex()


def refuse_traced(result: Any, what: str) -> None:
    """**Raises:** `TypeError` for a result whose numbers cannot be looked at."""
    if not is_concrete_tree(result):
        raise TypeError(
            f"{what} needs numbers, and this {type(result).__name__} is traced: return it from jax.jit, jax.vmap or "
            "jax.grad, and keep it then"
        )


def refuse_many(result: Any, lanes: tuple[int, ...], what: str) -> None:
    """**Raises:** `ValueError` for a result of many lanes."""
    if lanes:
        raise ValueError(
            f"{what} is of one {type(result).__name__}, and these are {lanes}; take a lane first: "
            "jax.tree.map(lambda x: x[0], results)"
        )


def names_of(kind: type[enum.IntEnum], status: ArrayLike) -> np.ndarray:
    """The names of statuses, an array of their shape."""
    known = {int(one): one.name for one in kind}
    numbers = np.asarray(status)
    words = [known.get(int(number), str(number)) for number in np.ravel(numbers)]
    return np.array(words, dtype=object).reshape(numbers.shape)


def plain(x: Any) -> Any:
    """What `json` takes with `allow_nan=False`.

    **Raises:** `TypeError` for what is neither number nor word nor a collection of them.
    """
    if x is None or isinstance(x, str | bool):
        return x
    if isinstance(x, enum.Enum):
        return x.name
    if isinstance(x, int):
        return int(x)
    if isinstance(x, float):
        return _number(float(x))
    if isinstance(x, Mapping):
        return {str(key): plain(value) for key, value in x.items()}
    if isinstance(x, AbstractResult):
        return x.to_dict()
    if isinstance(x, tuple) and hasattr(x, "_asdict"):
        return plain(x._asdict())  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(x, list | tuple):
        return [plain(value) for value in x]
    if eqx.is_array(x) or isinstance(x, np.generic):
        return _array(np.asarray(x))
    raise TypeError(f"a {type(x).__name__} has no place in JSON")


def _array(array: np.ndarray) -> Any:
    kind = array.dtype
    if jnp.issubdtype(kind, jnp.floating):
        array = array.astype(float)
        return array.tolist() if np.all(np.isfinite(array)) else _each(array.tolist(), _number)
    if array.dtype.kind in "biu":
        return array.tolist()
    if array.dtype.kind == "O":
        return _each(array.tolist(), plain)
    raise TypeError(f"an array of {kind} has no place in JSON")


def _each(nested: Any, change: Any) -> Any:
    return [_each(one, change) for one in nested] if isinstance(nested, list) else change(nested)


def _number(x: float) -> float | str | None:
    if math.isnan(x):
        return None
    return x if math.isfinite(x) else "inf" if x > 0 else "-inf"
