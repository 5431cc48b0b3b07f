"""Compares pictures with golden files, which MIGRAX_UPDATE_GOLDEN=1 rewrites; runs the examples of docstrings."""

import inspect
import os
import re
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def check_picture(name, draw, folder, size=(4.8, 3.6), dpi=60):
    """`draw()` in matplotlib's own style gives the picture `golden/plot_<name>.png`, and leaves all settings alone.
    The letters of matplotlib before 3.11 are others: there it is drawn, and not compared.

    MIGRAX_LOOK=<folder> saves it there, large enough to look at.
    """
    import matplotlib
    import matplotlib.pyplot as plt
    from matplotlib.testing.compare import compare_images

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.use("Agg")
        matplotlib.rcParams["figure.figsize"] = size
        before = dict(matplotlib.rcParams)
        drawn = draw()
        assert dict(matplotlib.rcParams) == before
        while isinstance(drawn, tuple | list) or hasattr(drawn, "ravel"):
            drawn = drawn[0]
        golden, found = GOLDEN / f"plot_{name}.png", folder / f"{name}.png"
        update = os.environ.get("MIGRAX_UPDATE_GOLDEN") == "1"
        drawn.figure.savefig(golden if update else found, dpi=dpi)
        if "MIGRAX_LOOK" in os.environ:
            drawn.figure.savefig(Path(os.environ["MIGRAX_LOOK"]) / f"{name}.png", dpi=130)
        plt.close("all")
    assert golden.exists(), f"{golden} is missing: run with MIGRAX_UPDATE_GOLDEN=1"
    if not update and tuple(int(n) for n in matplotlib.__version__.split(".")[:2]) >= (3, 11):
        assert compare_images(str(golden), str(found), tol=10) is None


def check_mplhep(name, draw, experiment="CMS"):
    """In mplhep's style, whose letters are large, `draw()` keeps the style, and no two labels of an axis overlap."""
    import matplotlib
    import matplotlib.pyplot as plt

    hep = pytest.importorskip("mplhep")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.use("Agg")
        hep.style.use(experiment)
        before = dict(matplotlib.rcParams)
        drawn = draw()
        assert dict(matplotlib.rcParams) == before
        while isinstance(drawn, tuple | list) or hasattr(drawn, "ravel"):
            drawn = drawn[0]
        figure = drawn.figure
        figure.canvas.draw()
        if "MIGRAX_LOOK" in os.environ:
            figure.savefig(Path(os.environ["MIGRAX_LOOK"]) / f"{name}_{experiment}.png", dpi=60)
        for ax in figure.axes:
            assert ax.xaxis.label.get_fontname() == matplotlib.text.Text().get_fontname()
            for axis in (ax.xaxis, ax.yaxis):
                texts = [label for label in axis.get_ticklabels() if label.get_text() and _drawn(ax, axis, label)]
                boxes = [label.get_window_extent() for label in texts if label.get_rotation() % 90 == 0]
                overlap = [
                    (a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.shrunk(0.9, 0.9).overlaps(b)
                ]
                assert not overlap, f"{name}: labels {[t.get_text() for t in texts]} overlap"
        plt.close("all")


def _drawn(ax, axis, label):
    """Whether a tick's label is one that is drawn: of a tick within the limits of its axis."""
    if not (ax.axison and axis.get_visible() and label.get_visible()):
        return False
    low, high = sorted(ax.get_xlim() if axis is ax.xaxis else ax.get_ylim())
    return low <= label.get_position()[0 if axis is ax.xaxis else 1] <= high


def new_axes():
    """Of a figure that pyplot does not know."""
    from matplotlib.figure import Figure

    return Figure().subplots()


def labelled(ax):
    """What the legend of `ax` shows, by label."""
    handles, labels = ax.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def run_example(function, names):
    """The example of its docstring, in which these names are known."""
    (code,) = re.findall(r"```python\n(.*?)```", inspect.cleandoc(function.__doc__), re.DOTALL)
    exec(compile(code, function.__name__, "exec"), dict(names))
