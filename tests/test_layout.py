"""The picture of the architecture says what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "migrax"


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DRAWN = loaded(ROOT / "docs" / "dataflow.py")
DRAWN_TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")


def test_each_box_is_there():
    packages = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert {name for row in DRAWN.floors() for name in row} == packages
    assert set(DRAWN.IDEAS) == packages


def test_each_import_runs_down():
    """What import-linter holds in `make lint`, seen by the picture's own eyes."""
    floor = {name: i for i, row in enumerate(DRAWN.floors()) for name in row}
    upwards = [(a, b) for a, b in DRAWN.imports() if a != b and floor[b] <= floor[a]]
    assert upwards == []


def test_the_picture_is_that_of_the_script(tmp_path):
    DRAWN.draw(tmp_path / "again.svg")
    again = (tmp_path / "again.svg").read_text()
    assert DRAWN_TEXT.findall(again) == DRAWN_TEXT.findall((ROOT / "docs" / "pictures" / "dataflow.svg").read_text())


def test_only_the_doors_stand_at_the_top():
    assert {path.name for path in SOURCE.iterdir() if path.is_file()} == {
        "__init__.py", "__init__.pyi", "__main__.py", "py.typed",
    }  # fmt: skip


FAULTS = {
    "a private module": "from jax._src import core\n",
    "a private name": "from jax import _src\n",
    "a private attribute": "import optimistix as optx\n\nx = optx._misc.inexact\n",
    "a long file": "x = 1\n" * 451,
}


@pytest.mark.parametrize("case", FAULTS)
def test_the_rules_of_the_house_find(case, tmp_path):
    (tmp_path / "file.py").write_text(FAULTS[case])
    assert len(list(loaded(ROOT / ".ci" / "house.py").faults_of(tmp_path / "file.py"))) == 1


@pytest.mark.parametrize(
    "text", ["import jax\n\nx = jax.__version__\n", "from . import _base\n\n_x = _base._y\n", "x = 1\n" * 450]
)
def test_the_rules_of_the_house_pass(text, tmp_path):
    (tmp_path / "file.py").write_text(text)
    assert list(loaded(ROOT / ".ci" / "house.py").faults_of(tmp_path / "file.py")) == []


@pytest.mark.parametrize("mutation", loaded(ROOT / "tests" / "mutations.py").MUTATIONS, ids=lambda m: m.name)
def test_each_mutation_has_its_place(mutation):
    assert (SOURCE / mutation.file).read_text().count(mutation.old) == 1
