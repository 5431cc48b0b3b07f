"""Rules of the house that no linter knows: `python .ci/house.py`. No file of the package is longer than 450 lines, and
none uses a private name of another package."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "migrax"
LONGEST = 450


def main() -> int:
    faults = [fault for file in sorted(SOURCE.rglob("*.py")) for fault in faults_of(file)]
    for fault in faults:
        print(fault)
    return bool(faults)


def faults_of(file: Path) -> Iterator[str]:
    text = file.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > LONGEST:
        yield f"{file}: {lines} lines, at most {LONGEST}: which two ideas are in it?"
    tree = ast.parse(text)
    others = {name for node in ast.walk(tree) for name in imported(node)}
    for node in ast.walk(tree):
        for name in private_names(node, others):
            yield f"{file}:{node.lineno}: {name} is a private name of another package"  # type: ignore[attr-defined]


def imported(node: ast.AST) -> Iterator[str]:
    """The names that stand for other packages, or for something of theirs."""
    if isinstance(node, ast.Import):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield from (alias.asname or alias.name for alias in node.names)


def private_names(node: ast.AST, others: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if any(map(is_private, alias.name.split("."))))
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        names = (f"{node.module}.{alias.name}" for alias in node.names)
        yield from (name for name in names if any(map(is_private, name.split("."))))
    elif isinstance(node, ast.Attribute) and is_private(node.attr):
        root = node.value
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in others:
            yield ast.unparse(node)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


if __name__ == "__main__":
    sys.exit(main())
