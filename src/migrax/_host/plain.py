"""Equinox modules as plain objects of Python, for loops on the host."""

import functools
from typing import Any

import equinox as eqx


def plain(module: eqx.Module) -> Any:
    """An object with the fields and methods of `module`, which is no module: Equinox makes a module of each bound
    method, and looks at each field that is read, which took almost half of the time of a loop in Python."""
    copy = object.__new__(_plain_class(type(module)))
    copy.__dict__.update(module.__dict__)
    return copy


@functools.cache
def _plain_class(module_class: type[eqx.Module]) -> type:
    names = [name for name in dir(module_class) if not name.startswith("__")]
    return type(module_class.__name__, (), {name: getattr(module_class, name) for name in names})
