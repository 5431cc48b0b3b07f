"""A package whose names are imported when they are first asked for, so that importing it takes next to no time."""

import ast
import importlib
import importlib.metadata
import importlib.resources
import sys
from collections.abc import Callable
from typing import Any


def from_stub(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package (PEP 562), by the imports that its `__init__.pyi` lists.

    The stub is what type checkers and editors read, so that the names stand at one place.
    """
    source = importlib.resources.files(package).joinpath("__init__.pyi").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    home = {alias.asname or alias.name: (node.module, alias.name) for node in imports for alias in node.names}

    def __getattr__(name: str) -> Any:
        if name == "__version__" and package == "migrax":
            return importlib.metadata.version(package)
        if name not in home:
            from .._hints.other_packages import of_module

            # with a name and without obj: Python would ask a second time whether something else was meant
            raise AttributeError(of_module(package, name, home), name=name)
        module, attribute = home[name]
        if module is None:
            found = importlib.import_module(f".{attribute}", package)
        else:
            found = getattr(importlib.import_module(f".{module}", package), attribute)
        setattr(sys.modules[package], name, found)  # the next time it is there
        return found

    return __getattr__, lambda: sorted(home), sorted(home)
