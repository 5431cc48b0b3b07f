"""The picture of the architecture says what the code does."""

import ast
import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "migrax"


def drawn():
    spec = importlib.util.spec_from_file_location("dataflow", ROOT / "docs" / "dataflow.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DRAWN = drawn()
ARROWS = [arrow for arrow in DRAWN.ARROWS if arrow[0] not in DRAWN.GIVEN]


def imported_by(file):
    """The modules and names of migrax that a file imports, as paths below the package."""
    package = file.relative_to(SOURCE).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - (node.level - 1)], *(node.module.split(".") if node.module else ()))
            yield from ("/".join((*base, alias.name)) for alias in node.names)


@pytest.mark.parametrize(("start", "end"), ARROWS)
def test_an_arrow_is_an_import(start, end):
    box = SOURCE / end
    found = [path for file in (box.rglob("*.py") if box.is_dir() else [box]) for path in imported_by(file)]
    name = start.removesuffix("/").removesuffix(".py")
    assert any(path.startswith(f"{name}/") for path in found)


def test_each_box_is_there():
    for name in set(DRAWN.BOXES) - set(DRAWN.GIVEN):
        assert (SOURCE / name).exists(), name
    assert {name for arrow in DRAWN.ARROWS for name in arrow} == set(DRAWN.BOXES)


def test_the_picture_is_that_of_the_script():
    picture = (ROOT / "docs" / "pictures" / "dataflow.svg").read_text()
    for name, (_, _, what) in DRAWN.BOXES.items():
        assert name in picture
        assert what in picture
