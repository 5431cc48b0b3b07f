"""Copies of a frozen object with other fields."""

from typing import Any, TypeVar

T = TypeVar("T")


def with_fields(node: T, **new: Any) -> T:
    """A copy of an `eqx.Module` or a dataclass with other fields, in a microsecond and without checks, where
    `eqx.tree_at` takes hundreds."""
    copy = object.__new__(type(node))
    copy.__dict__.update(node.__dict__, **new)
    return copy
