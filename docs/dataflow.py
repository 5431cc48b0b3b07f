"""Draws `pictures/dataflow.svg`, what flows from where to where in a fit: `python docs/dataflow.py`.

A test holds it against the code: each box is there, and where an arrow goes, the code imports where it comes from.
"""

from pathlib import Path

import matplotlib.pyplot as plt

# what the user gives, or a file or folder of src/migrax: column, row, what it is
GIVEN = ("nll(params, data)", "params", "data")
BOXES = {
    "nll(params, data)": (0.0, 0, "a function, or a likelihood"),
    "params": (1.0, 0, "a tree of Parameters"),
    "data": (2.0, 0, "a tree of arrays"),
    "_likelihoods/": (0.0, 1, "and distributions, io"),
    "_parameters/space.py": (1.0, 1, "tree to vector, bounds"),
    "_derivatives/expansion.py": (2.0, 1, "exact; the adjoint"),
    "_solvers/": (3.0, 1, "Migrad, Newton, Simplex"),
    "_fit/objective.py": (1.0, 2, "F(x, θ) = nll / (2 UP)"),
    "_fit/convergence.py": (2.0, 2, "a minimum in the bounds?"),
    "_fit/minimiser.py": (3.0, 2, "one run, whitened"),
    "_fit/loop.py": (2.5, 3, "look, step or run; status"),
    "_fit/fit.py": (1.5, 4, "mx.fit → FitResult"),
    "_toys/scheduler.py": (0.0, 4, "lanes of a batch in step"),
    "_profile/minimum.py": (3.0, 5, "where errors start from"),
    "_toys/fit_toys.py": (0.0, 5, "mx.fit_toys"),
    "_hypotest/": (1.0, 6, "tests, limits, discovery"),
    "_studies/": (0.0, 6, "pulls, coverage, bias"),
    "_profile/minos.py": (2.0, 6, "crossings"),
    "_profile/profile.py": (3.0, 6, "profiles, scans"),
}
ARROWS = (
    ("nll(params, data)", "_likelihoods/"),
    ("params", "_parameters/space.py"),
    ("data", "_fit/objective.py"),
    ("_likelihoods/", "_fit/objective.py"),
    ("_parameters/space.py", "_fit/objective.py"),
    ("_solvers/", "_fit/minimiser.py"),
    ("_derivatives/expansion.py", "_fit/minimiser.py"),
    ("_derivatives/expansion.py", "_fit/convergence.py"),
    ("_fit/convergence.py", "_fit/loop.py"),
    ("_fit/minimiser.py", "_fit/loop.py"),
    ("_fit/objective.py", "_fit/fit.py"),
    ("_fit/loop.py", "_fit/fit.py"),
    ("_fit/fit.py", "_toys/fit_toys.py"),
    ("_toys/scheduler.py", "_toys/fit_toys.py"),
    ("_fit/fit.py", "_hypotest/"),
    ("_fit/fit.py", "_profile/minimum.py"),
    ("_toys/fit_toys.py", "_studies/"),
    ("_toys/fit_toys.py", "_hypotest/"),
    ("_profile/minimum.py", "_profile/minos.py"),
    ("_profile/minimum.py", "_profile/profile.py"),
)
_WIDTH, _HEIGHT, _ACROSS, _DOWN = 2.4, 0.6, 3.0, 1.05


def _place(name: str) -> tuple[float, float]:
    column, row, _ = BOXES[name]
    return _ACROSS * column, -_DOWN * row


def draw(path: Path) -> None:
    """Writes the picture."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "dataflow", "font.size": 9})
    figure, ax = plt.subplots(figsize=(11.2, 6.4))
    for name, (_, _, what) in BOXES.items():
        x, y = _place(name)
        colour = "#fee8c8" if name in GIVEN else "#deebf7"
        ax.add_patch(plt.Rectangle((x - _WIDTH / 2, y - _HEIGHT / 2), _WIDTH, _HEIGHT, fc=colour, ec="#555555", lw=0.8))
        ax.text(x, y + 0.13, name, ha="center", va="center", family="monospace")
        ax.text(x, y - 0.14, what, ha="center", va="center", fontsize=8)
    for start, end in ARROWS:
        (x0, y0), (x1, y1) = _place(start), _place(end)
        shift = max(-0.3, min(0.3, (x1 - x0) / 10)) * _WIDTH
        ends = (x0 + shift, y0 - _HEIGHT / 2), (x1 - shift, y1 + _HEIGHT / 2)
        ax.annotate("", ends[1], ends[0], arrowprops={"arrowstyle": "-|>", "color": "#333333", "lw": 0.9})
    ax.set(xlim=(-1.3, 10.3), ylim=(-6.8, 0.5))
    ax.axis("off")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(__file__).parent / "pictures" / "dataflow.svg")
