"""Lazy imports: the names of a package are imported on first access, so that importing the package is fast."""

import ast
import importlib
import importlib.metadata
import importlib.resources
import sys
from collections.abc import Callable
from typing import Any


def from_stub(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Returns `__getattr__`, `__dir__` and `__all__` of a package (PEP 562), from the imports in its `__init__.pyi`.

    Type checkers and editors read the same stub, so that the names are listed in one place.
    """
    source = importlib.resources.files(package).joinpath("__init__.pyi").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    origins = {alias.asname or alias.name: (node.module, alias.name) for node in imports for alias in node.names}

    def __getattr__(name: str) -> Any:
        if name == "__version__" and package == "migrax":
            return importlib.metadata.version(package)
        if name not in origins:
            from .._hints.other_packages import of_module

            # without `obj`, because Python would otherwise append its own suggestion
            raise AttributeError(of_module(package, name, origins), name=name)
        module, attribute = origins[name]
        if module is None:
            value = importlib.import_module(f".{attribute}", package)
        else:
            value = getattr(importlib.import_module(f".{module}", package), attribute)
        setattr(sys.modules[package], name, value)  # caches it
        return value

    return __getattr__, lambda: sorted(origins), sorted(origins)
