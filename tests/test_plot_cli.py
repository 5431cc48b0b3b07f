"""The pictures that the command line saves."""

import matplotlib
import pytest

import hs3
from command_line import run

matplotlib.use("Agg")


HIFA = str(hs3.FOLDER / "pairs" / "simplemodel_uncorrelated-background_hifa.json")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    return figures


@pytest.mark.slow
def test_toys(tmp_path, drawn, monkeypatch):
    path = tmp_path / "pulls.png"
    done = run("toys", HIFA, "-n", 50, "--plot", path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert f"Picture: {path}" in done.stderr
    names = ["mu", "uncorr_bkguncrt[0]", "uncorr_bkguncrt[1]"]
    assert [ax.get_xlabel() for ax in drawn[0].axes] == [f"Pull of {name}" for name in names]
    monkeypatch.setattr("migrax._cli.commands._PULLS", 2)
    done = run("toys", HIFA, "-n", 50, "--plot", path)
    assert "The picture shows the first 2 of 3 parameters." in done.stderr
    assert len(drawn[1].axes) == 2


def test_impacts(tmp_path, drawn):
    path = tmp_path / "impacts.pdf"
    run("impacts", HIFA, "--top", 1, "--plot", path)
    assert path.read_bytes().startswith(b"%PDF")
    left, right = drawn[0].axes
    assert right.get_xlabel() == "Impact on mu"
    assert len(left.get_yticklabels()) == 1


@pytest.mark.parametrize("command", ["toys", "impacts"])
def test_where_a_picture_goes_is_checked_before_the_work(command, monkeypatch):
    monkeypatch.setattr("migrax._cli.problem.read", lambda *_, **__: pytest.fail("work was done"))
    assert "'.foo' is no kind of picture" in run(command, HIFA, "--plot", "x.foo", code=2).stderr
