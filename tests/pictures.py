"""Compares pictures with golden files, which MIGRAX_UPDATE_GOLDEN=1 rewrites; runs the examples of docstrings."""

import inspect
import os
import re
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def check_picture(name, draw, folder, size=(4.8, 3.6), dpi=60):
    """`draw()` in matplotlib's own style gives the picture `golden/plot_<name>.png`, and leaves all settings alone.

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
    if not update:
        assert compare_images(str(golden), str(found), tol=10) is None


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
